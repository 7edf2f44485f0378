//! The checks, each with whom it is for and what to do.

use super::message::{Device, Form, Sent};
use super::wire::{Answer, Died, Wire};
use super::{Finding, Level};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use core::time::Duration;
use scep_keys::AwsLc;
use scep_message::client::Reply;
use scep_message::http::{CA_CERT, CA_RA_CERT, PKI_MESSAGE, pki_operation_query};
use scep_message::{ContentEncryption, Limits, ca_cert, caps};
use scep_types::algorithm::signature_scheme_from_der;
use scep_types::tlv::Reader;
use scep_types::{
    CertificateDer, CrlDer, CryptoProvider as _, KeyAlgorithm, KeyUsages, ObjectIdentifier,
    Timestamp,
};

const KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.15");
const CRL_POINTS: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.31");
/// The longest GET that Windows sends has about this many characters.
const LONG: usize = 31 << 10;
/// By how much clocks may differ before challenges are early or late.
const CLOCKS: i64 = 300;

/// The keywords of RFC 8894, 3.5.2, and what servers say besides.
const KEYWORDS: &[&str] = &[
    "AES",
    "DES3",
    "GetNextCACert",
    "POSTPKIOperation",
    "Renewal",
    "SHA-1",
    "SHA-256",
    "SHA-384",
    "SHA-512",
    "SCEPStandard",
    "Update",
];

/// Name and quirks of a check.
#[derive(Clone, Copy)]
struct Check(&'static str, &'static [&'static str]);

/// What is wrong: whom it breaks, what to do.
#[derive(Clone, Copy)]
struct Trouble(&'static str, &'static str);

pub(crate) struct Doctor {
    wire: Wire,
    now: Timestamp,
    timeout: Duration,
    findings: Vec<Finding>,
    certificates: Vec<CertificateDer>,
    encryption: ContentEncryption,
    posts: bool,
}

impl Doctor {
    pub(crate) const fn new(wire: Wire, now: Timestamp, timeout: Duration) -> Self {
        Self {
            wire,
            now,
            timeout,
            findings: Vec::new(),
            certificates: Vec::new(),
            encryption: ContentEncryption::Aes128Cbc,
            posts: true,
        }
    }

    /// Everything, in the order in which a device would come to it.
    pub(crate) async fn examine(mut self) -> Vec<Finding> {
        let Some(caps) = self.capabilities().await else { return self.findings };
        self.tls();
        self.clock(&caps);
        let certificates = self.certificates().await;
        self.messages_of_queries(&caps, certificates.as_ref()).await;
        self.paths(&caps).await;
        self.old_http(&caps).await;
        self.unknown_path().await;
        self.admin_page().await;
        self.crl().await;
        self.operations().await;
        self.findings
    }

    fn note(&mut self, check: Check, level: Level, found: String, trouble: Option<Trouble>) {
        self.findings.push(Finding {
            check: check.0,
            quirks: check.1,
            level,
            found,
            clients: trouble.map(|trouble| trouble.0),
            advice: trouble.map(|trouble| trouble.1),
        });
    }

    fn ok(&mut self, check: Check, found: impl Into<String>) {
        self.note(check, Level::Ok, found.into(), None);
    }

    fn warn(&mut self, check: Check, found: impl Into<String>, trouble: Trouble) {
        self.note(check, Level::Warn, found.into(), Some(trouble));
    }

    fn fail(&mut self, check: Check, found: impl Into<String>, trouble: Trouble) {
        self.note(check, Level::Fail, found.into(), Some(trouble));
    }

    fn target(&self, query: &str) -> String {
        format!("{}?{query}", self.wire.path())
    }

    async fn capabilities(&mut self) -> Option<Answer> {
        const REACH: Check = Check("reach the server", &[]);
        const CAPS: Check = Check("GetCACaps", &["Q15", "Q16"]);
        const ALGORITHMS: Check = Check("algorithms", &["Q33", "Q34"]);
        const ALL: &str = "all";
        let answer = match self.wire.get(&self.target("operation=GetCACaps")).await {
            Ok(answer) => answer,
            Err(died) => {
                let what = "check name, port, firewall and proxy between here and there";
                self.fail(REACH, died.to_string(), Trouble(ALL, what));
                self.tls();
                return None;
            }
        };
        if answer.status != 200 || answer.is_html() {
            let what =
                "this is no SCEP URL, or whatever answers here does not reach the SCEP server";
            self.fail(CAPS, answer.describe(), Trouble(ALL, what));
            return None;
        }
        self.ok(REACH, answer.describe());
        let body = String::from_utf8_lossy(&answer.body).into_owned();
        let mut wrong = Vec::new();
        if answer.content_type() != caps::CONTENT_TYPE {
            wrong.push(format!("content type {:?} instead of text/plain", answer.content_type()));
        }
        if body.starts_with('\u{feff}') {
            wrong.push("a byte order mark in front".into());
        }
        let lines = body.trim_start_matches('\u{feff}').split('\n');
        for line in lines.map(|line| line.strip_suffix('\r').unwrap_or(line)) {
            let word = line.trim();
            let known = KEYWORDS.iter().find(|known| known.eq_ignore_ascii_case(word));
            if line != word {
                wrong.push(format!("blanks around {word:?}"));
            } else if known.is_some_and(|known| *known != word) {
                wrong.push(format!("{word:?} in another case"));
            }
        }
        if wrong.is_empty() {
            self.ok(CAPS, body.split_ascii_whitespace().collect::<Vec<_>>().join(" "));
        } else {
            let who = "sscep and jscep compare octet by octet";
            let what =
                "one keyword of RFC 8894 on each line, exactly as written there, as text/plain";
            self.warn(CAPS, wrong.join("; "), Trouble(who, what));
        }
        let can = caps::Capabilities::parse(&body);
        self.posts = can.post;
        if !can.aes {
            self.encryption = ContentEncryption::DesEde3Cbc;
        }
        let mut missing = Vec::new();
        for (name, has) in [("AES", can.aes), ("SHA-256", can.sha256), ("POST", can.post)] {
            if !has {
                missing.push(name);
            }
        }
        let words: Vec<&str> = body.split_ascii_whitespace().collect();
        let old = ["SHA-1", "DES3", "DES", "MD5"];
        let offered: Vec<&str> = old
            .into_iter()
            .filter(|old| words.iter().any(|w| w.eq_ignore_ascii_case(old)))
            .collect();
        if !missing.is_empty() {
            let who = "clients that follow RFC 8894: no mandatory algorithm, or a fall-back to DES and MD5";
            let what = "a server of RFC 8894 has AES, SHA-256 and POST";
            self.fail(ALGORITHMS, format!("not there: {}", missing.join(", ")), Trouble(who, what));
        } else if offered.is_empty() {
            self.ok(ALGORITHMS, "AES, SHA-256 and POST; no SHA-1, no DES");
        } else {
            let who = "none breaks, but clients that take the first they know use what is offered";
            let what = "offer SHA-1 and 3DES to old devices only, at an endpoint of their own";
            self.warn(ALGORITHMS, format!("offered: {}", offered.join(", ")), Trouble(who, what));
        }
        Some(answer)
    }

    fn tls(&mut self) {
        const CHAIN: Check = Check("TLS certificate", &[]);
        const CLIENT: Check = Check("TLS client certificate", &["Q13"]);
        if !self.wire.is_tls() {
            return;
        }
        let seen = self.wire.seen();
        match seen.objection {
            None => self.ok(CHAIN, "chain and host name are good"),
            Some(why) => {
                let who = "all that do not have this CA, or come by this name";
                let what =
                    "give the server its whole chain, of a CA that devices trust, for this name";
                self.fail(CHAIN, why, Trouble(who, what));
            }
        }
        if seen.asked {
            let who = "macOS and Windows do not renew where a client certificate is asked for (0x80072f78)";
            let what =
                "switch client certificates off for this host (nginx: ssl_verify_client off)";
            self.fail(CLIENT, "the server asks for a client certificate", Trouble(who, what));
        } else {
            self.ok(CLIENT, "none is asked for");
        }
    }

    fn clock(&mut self, answer: &Answer) {
        const CLOCK: Check = Check("clock", &["Q29", "Q35"]);
        let who = "challenges and certificates seem not valid yet, or no longer";
        let Some(date) = answer.header("date").and_then(http_date) else {
            return self.ok(CLOCK, "the server does not say what time it is");
        };
        let ahead = date.seconds().saturating_sub(self.now.seconds());
        let found = format!("{ahead} s ahead of this machine");
        if ahead.abs() <= CLOCKS {
            self.ok(CLOCK, found);
        } else {
            let what = "set the clocks by NTP, the server's and this machine's";
            self.warn(CLOCK, found, Trouble(who, what));
        }
    }

    async fn certificates(&mut self) -> Option<Answer> {
        const FORM: Check = Check("GetCACert", &["Q16", "Q17"]);
        const USAGE: Check = Check("RA key usage", &["Q18"]);
        const BUNDLE: Check = Check("GetCACert order", &["Q19", "Q20"]);
        const VALID: Check = Check("CA and RA validity", &[]);
        let answer = match self.wire.get(&self.target("operation=GetCACert")).await {
            Ok(answer) if answer.status == 200 && !answer.is_html() => answer,
            Ok(answer) => {
                self.fail(FORM, answer.describe(), Trouble("all", "see the server's log"));
                return None;
            }
            Err(died) => {
                self.fail(FORM, died.to_string(), Trouble("all", "see the server's log"));
                return None;
            }
        };
        let sent = match ca_cert::parse(&answer.body, &Limits::default()) {
            Ok(sent) if !sent.is_empty() => sent,
            Ok(_) => Vec::new(),
            Err(error) => {
                self.fail(FORM, error.to_string(), Trouble("all", "see the server's log"));
                return None;
            }
        };
        // A certificate has a SEQUENCE first in its SEQUENCE; a bundle's first is an OBJECT IDENTIFIER.
        let bare = sent.first().is_some_and(|one| one.as_der() == answer.body);
        let expected = if bare { CA_CERT } else { CA_RA_CERT };
        let form = if bare {
            "one certificate".to_owned()
        } else {
            format!("{} certificates", sent.len())
        };
        if answer.content_type() != expected {
            let who = "sscep compares it exactly; Apple's devices look for RA certificates in a bundle (-67731)";
            let what = "one bare certificate as application/x-x509-ca-cert, a bundle as application/x-x509-ca-ra-cert";
            let found = format!("{form} as {:?}", answer.content_type());
            self.fail(FORM, found, Trouble(who, what));
        } else if !bare && sent.len() == 1 {
            let who = "Apple's devices look for RA certificates in a bundle (-67731)";
            self.warn(FORM, "a bundle of one", Trouble(who, "send one certificate bare"));
        } else {
            self.ok(FORM, form);
        }
        let usage = |certificate: &CertificateDer| {
            certificate
                .extension(&KEY_USAGE)
                .map_or(Some(None), |der| KeyUsages::from_der(der).ok().map(Some))
        };
        let has = |certificate: &CertificateDer, wanted| match usage(certificate) {
            Some(None) => true,
            Some(Some(usages)) => usages.contains(wanted),
            None => false,
        };
        let rsa = |c: &CertificateDer| matches!(c.spki().algorithm(), KeyAlgorithm::Rsa(_));
        let opens = |c: &CertificateDer| rsa(c) && has(c, KeyUsages::KEY_ENCIPHERMENT);
        let signs = |c: &CertificateDer| has(c, KeyUsages::DIGITAL_SIGNATURE);
        let who = "macOS takes the CA's certificate for the RA's; Windows says 0x8010002c";
        let what = "an RA certificate for digitalSignature and keyEncipherment, or one for each";
        match (sent.iter().any(opens), sent.iter().any(signs)) {
            (true, true) => self.ok(USAGE, "there is one to encrypt to and one to verify by"),
            (false, _) => {
                self.fail(USAGE, "no RSA certificate for keyEncipherment", Trouble(who, what));
            }
            (true, false) => {
                self.fail(USAGE, "no certificate for digitalSignature", Trouble(who, what));
            }
        }
        if sent.len() > 1 {
            if !sent.first().is_some_and(opens) {
                let who = "clients that encrypt to the first certificate";
                let what = "put the certificate that requests are encrypted to first";
                self.warn(BUNDLE, "the first cannot be encrypted to", Trouble(who, what));
            } else if sent.len() > 4 {
                let who = "Windows and Intune fail over long bundles";
                let what = "send RA and issuing CA, and no chain above";
                self.warn(BUNDLE, format!("{} certificates", sent.len()), Trouble(who, what));
            } else {
                self.ok(BUNDLE, "the one to encrypt to is first");
            }
        }
        let outside = |c: &&CertificateDer| c.not_after() < self.now || self.now < c.not_before();
        let (out, next) =
            (sent.iter().filter(outside).count(), sent.iter().map(CertificateDer::not_after).min());
        let soon = self.now.plus(Duration::from_secs(30 * 86_400));
        match next {
            _ if out > 0 => {
                let found = format!("{out} of {} expired, or not valid yet", sent.len());
                self.fail(VALID, found, Trouble("all", "renew what has expired"));
            }
            Some(end) if end < soon => {
                let found = format!("the first ends at {end}");
                self.warn(VALID, found, Trouble("all, then", "renew it, and see why nothing did"));
            }
            Some(end) => self.ok(VALID, format!("the first ends at {end}")),
            None => {}
        }
        self.certificates = sent;
        Some(answer)
    }

    /// The same query in the ways of the field must bring the same answer.
    async fn messages_of_queries(&mut self, caps: &Answer, certificates: Option<&Answer>) {
        const MESSAGE: Check = Check("message= of GetCACaps, GetCACert", &["Q8"]);
        const EXTRA: Check = Check("unknown parameters", &["Q11"]);
        let mut wrong = Vec::new();
        for (operation, plain) in [("GetCACaps", Some(caps)), ("GetCACert", certificates)] {
            let Some(plain) = plain else { continue };
            for message in [
                "message=",
                "message=default",
                "message=CAIdentifier",
                "message=Wi%20Fi",
                "message=R+D",
            ] {
                let target = self.target(&format!("operation={operation}&{message}"));
                if let Some(why) = differs(self.wire.get(&target).await, plain) {
                    wrong.push(format!("{operation}&{message}: {why}"));
                }
            }
        }
        if wrong.is_empty() {
            self.ok(MESSAGE, "means nothing");
        } else {
            let who =
                "Windows (default), macOS (empty), sscep (CAIdentifier), Apple's profile names";
            self.fail(
                MESSAGE,
                wrong.join("; "),
                Trouble(who, "ignore it, or give the CA these names"),
            );
        }
        let target = self.target("mac=01%3A02&operation=GetCACaps&x");
        match differs(self.wire.get(&target).await, caps) {
            None => self.ok(EXTRA, "are ignored"),
            Some(why) => {
                let what = "ignore parameters that SCEP does not know";
                self.fail(EXTRA, why, Trouble("sscep -M and others that add their own", what));
            }
        }
    }

    async fn paths(&mut self, caps: &Answer) {
        const CGI: Check = Check("pkiclient.exe appended", &["Q6"]);
        let base = self.wire.path.clone();
        for path in ["/pkiclient.exe", "/pkiclient.exe/pkiclient.exe"] {
            let target = format!("{base}{path}?operation=GetCACaps");
            if let Some(why) = differs(self.wire.get(&target).await, caps) {
                let who = "Cisco IOS, and Windows where the URL has it already";
                let what = "serve the same below this path, in each proxy too";
                return self.fail(CGI, format!("{path}: {why}"), Trouble(who, what));
            }
        }
        self.ok(CGI, "is served");
    }

    async fn old_http(&mut self, caps: &Answer) {
        const OLD: Check = Check("HTTP/1.0, no Host", &["Q5"]);
        let target = self.target("operation=GetCACaps");
        let cases = [
            ("HTTP/1.0 without Host", format!("GET {target} HTTP/1.0\r\n\r\n")),
            (
                "HTTP/1.1 without Host",
                format!("GET {target} HTTP/1.1\r\nConnection: close\r\n\r\n"),
            ),
        ];
        let mut wrong = Vec::new();
        for (name, request) in cases {
            if let Some(why) = differs(self.wire.exchange(request.as_bytes()).await, caps) {
                wrong.push(format!("{name}: {why}"));
            }
        }
        if wrong.is_empty() {
            return self.ok(OLD, "are served");
        }
        let who = "old Cisco IOS (HTTP/1.0), strongSwan (drops Host)";
        let what = "make the SCEP host the proxy's default server; nginx refuses HTTP/1.1 without Host whatever it says";
        self.warn(OLD, wrong.join("; "), Trouble(who, what));
    }

    async fn unknown_path(&mut self) {
        const UNKNOWN: Check = Check("unknown path", &["Q7"]);
        match self.wire.get("/scep-gateway-doctor/nothing-is-here").await {
            Ok(answer) if answer.is_html() => {
                let who = "Windows reports a web page as 0x800700CE, file name too long";
                let what = "answer a plain 404, without a page, in each proxy too";
                self.warn(UNKNOWN, answer.describe(), Trouble(who, what));
            }
            Ok(answer) => self.ok(UNKNOWN, format!("HTTP status {}, no web page", answer.status)),
            Err(died) => {
                let what = "answer a plain 404";
                self.warn(UNKNOWN, died.to_string(), Trouble("none breaks", what));
            }
        }
    }

    async fn admin_page(&mut self) {
        const ADMIN: Check = Check("mscep_admin", &[]);
        match self.wire.get("/certsrv/mscep_admin/").await {
            Ok(answer) if answer.status == 200 => {
                let who = "none breaks: whoever opens this page gets a password for a certificate";
                let what = "close it to everybody but administrators, or have no passwords there";
                self.fail(ADMIN, "the page is open", Trouble(who, what));
            }
            Ok(answer) => self.ok(ADMIN, format!("closed, HTTP status {}", answer.status)),
            Err(_) => self.ok(ADMIN, "closed"),
        }
    }

    async fn crl(&mut self) {
        const CRL: Check = Check("CRL", &[]);
        let who = "servers that check the certificates that are issued here";
        let mut urls: Vec<String> = self
            .certificates
            .iter()
            .filter_map(|c| c.extension(&CRL_POINTS))
            .flat_map(uris)
            .collect();
        urls.sort();
        urls.dedup();
        urls.retain(|url| url.starts_with("http://"));
        let Some(url) = urls.first() else {
            return self.ok(CRL, "the CA's and RA's certificates name none over HTTP");
        };
        let fetched = match Wire::new(url, &[], self.timeout) {
            Ok(wire) => wire.get(wire.path()).await.map_err(|died| died.to_string()),
            Err(why) => Err(why),
        };
        let judged = fetched.and_then(|answer| {
            if answer.status != 200 {
                return Err(answer.describe());
            }
            let crl = CrlDer::parse(&answer.body).map_err(|error| error.to_string())?;
            match crl.next_update() {
                Some(next) if next < self.now => return Err(format!("stale since {next}")),
                _ => {}
            }
            let issuer = self.certificates.iter().find(|c| c.subject_der() == crl.issuer_der());
            let Some(issuer) = issuer else { return Ok(crl) };
            let scheme = signature_scheme_from_der(crl.signature_algorithm_der())
                .map_err(|_| "signed by an algorithm that is not known here".to_owned())?;
            AwsLc
                .verify(issuer.spki(), scheme, crl.tbs_der(), crl.signature())
                .map_err(|_| "its signature is not the CA's".to_owned())?;
            Ok(crl)
        });
        let found = |text: String| format!("{url}: {text}");
        match judged {
            Ok(crl) => {
                let next =
                    crl.next_update().map_or_else(|| "never".to_owned(), |next| next.to_string());
                let text = found(format!("{} revoked, next update {next}", crl.serials().count()));
                self.ok(CRL, text);
            }
            Err(why) => {
                let text = found(why);
                self.fail(CRL, text, Trouble(who, "publish it there, and in time"));
            }
        }
    }

    async fn operations(&mut self) {
        const WAY: Check = Check("PKIOperation", &["Q27", "Q44"]);
        let opens = |c: &&CertificateDer| {
            matches!(c.spki().algorithm(), KeyAlgorithm::Rsa(_))
                && c.extension(&KEY_USAGE).is_none_or(|der| {
                    KeyUsages::from_der(der)
                        .is_ok_and(|usages| usages.contains(KeyUsages::KEY_ENCIPHERMENT))
                })
        };
        let rsa = |c: &&CertificateDer| matches!(c.spki().algorithm(), KeyAlgorithm::Rsa(_));
        let recipient = self.certificates.iter().find(opens);
        let Some(recipient) = recipient.or_else(|| self.certificates.iter().find(rsa)).cloned()
        else {
            let what = "first mend what GetCACert shows";
            return self.fail(WAY, "not tried: nothing to encrypt to", Trouble("all", what));
        };
        let examined = match Device::new(self.now) {
            Ok(device) => self.ask(&device, &recipient).await,
            Err(why) => Err(why),
        };
        if let Err(why) = examined {
            self.fail(WAY, format!("could not be tried: {why}"), Trouble("all", "see above"));
        }
    }

    async fn ask(&mut self, device: &Device, recipient: &CertificateDer) -> Result<(), String> {
        const WAY: Check = Check("PKIOperation", &["Q27", "Q44"]);
        const POST: Check = Check("POST without Content-Type, chunked", &["Q9"]);
        const PLUS: Check = Check("GET, + / = not escaped", &["Q1", "Q3"]);
        const LINES: Check = Check("GET, lines of base64", &["Q2"]);
        const LONG_GET: Check = Check("GET of 31 KiB", &["Q14"]);
        let encryption = self.encryption;
        let make = |padding| device.message(recipient, encryption, padding);

        let sent = make(0)?;
        let answer = if self.posts {
            self.wire.exchange(&post(&self.wire, TYPED, &sent.bytes)).await
        } else {
            self.wire.get(&self.target(&pki_operation_query(&sent.bytes))).await
        };
        let first = match self.judge(device, &sent, answer) {
            Ok((text, body)) => {
                self.ok(WAY, format!("the whole way works: {text}"));
                Some(body)
            }
            Err(why) => {
                let what =
                    "the server's log has the reason; nothing could be issued for this request";
                self.fail(WAY, why, Trouble("all", what));
                None
            }
        };

        let mut wrong = Vec::new();
        for (name, how) in [("without Content-Type", UNTYPED), ("chunked", CHUNKED)] {
            let sent = make(0)?;
            let answer = self.wire.exchange(&post(&self.wire, how, &sent.bytes)).await;
            if let Err(why) = self.judge(device, &sent, answer) {
                wrong.push(format!("{name}: {why}"));
            }
        }
        if wrong.is_empty() {
            self.ok(POST, "are served");
        } else {
            let who = "sscep and strongSwan (no Content-Type), clients that send chunks";
            let what = "take a POST for what its body is, in each proxy too";
            self.fail(POST, wrong.join("; "), Trouble(who, what));
        }

        let sent = make(0)?;
        let raw = format!("operation=PKIOperation&message={}", STANDARD.encode(&sent.bytes));
        let answer = self.wire.get(&self.target(&raw)).await;
        match self.judge(device, &sent, answer) {
            Ok(_) => self.ok(PLUS, "is served"),
            Err(why) => {
                let who = "macOS, iOS 11 and jscep, which do not escape them";
                let what = "decode a blank as +, and let no proxy decode the query";
                self.fail(PLUS, why, Trouble(who, what));
            }
        }

        let sent = make(0)?;
        let base64 = STANDARD.encode(&sent.bytes).replace('+', "%2B");
        let mut broken = String::from("operation=PKIOperation&message=");
        for (n, c) in base64.chars().enumerate() {
            if n > 0 && n % 64 == 0 && !in_escape(&base64, n) {
                broken.push_str("%0A");
            }
            broken.push(c);
        }
        broken.push_str("%0A");
        let answer = self.wire.get(&self.target(&broken)).await;
        match self.judge(device, &sent, answer) {
            Ok(_) => self.ok(LINES, "is served"),
            Err(why) => {
                let what = "ignore white space in the message";
                self.fail(LINES, why, Trouble("Cisco IOS and strongSwan", what));
            }
        }

        let short = pki_operation_query(&make(0)?.bytes).len();
        let sent = make(LONG.saturating_sub(short).saturating_mul(18) / 25)?;
        let query = pki_operation_query(&sent.bytes);
        let length = query.len();
        let answer = self.wire.get(&self.target(&query)).await;
        match self.judge(device, &sent, answer) {
            Ok(_) => self.ok(LONG_GET, format!("is served ({length} characters)")),
            Err(why) => {
                let who = "Windows and others that send a request with a long challenge by GET";
                let what = "give whoever answered longer request lines (nginx: large_client_header_buffers 4 96k)";
                self.fail(LONG_GET, format!("{length} characters: {why}"), Trouble(who, what));
            }
        }
        if let Some(first) = first {
            let again = make(0)?;
            let answer = self.wire.exchange(&post(&self.wire, TYPED, &again.bytes)).await;
            let second = self.judge(device, &again, answer).ok().map(|(_, body)| body);
            self.form(&first, second.as_deref());
        }
        Ok(())
    }

    /// What a server says to a message, verified; the body.
    fn judge(
        &self,
        device: &Device,
        sent: &Sent,
        answer: Result<Answer, Died>,
    ) -> Result<(String, Vec<u8>), String> {
        let answer = answer.map_err(|died| died.to_string())?;
        if answer.status != 200 || answer.is_html() {
            return Err(answer.describe());
        }
        if answer.content_type() != PKI_MESSAGE {
            return Err(format!("content type {:?}, not {PKI_MESSAGE}", answer.content_type()));
        }
        match device.read(sent, &answer.body, &self.certificates)? {
            Reply::Failure { fail_info, text } => {
                let text = text.map(|text| format!(", {text:?}")).unwrap_or_default();
                Ok((format!("refused with {fail_info:?}{text}"), answer.body))
            }
            Reply::Pending => Ok(("PENDING".into(), answer.body)),
            Reply::Success(_) | Reply::Crls(_) => {
                Err("SUCCESS for a request without challenge whose signature is not by its key"
                    .into())
            }
        }
    }

    fn form(&mut self, first: &[u8], second: Option<&[u8]>) {
        const FORM: Check = Check("CertRep form", &["Q42", "Q44", "Q45", "Q46"]);
        let form = match Form::of(first) {
            Ok(form) => form,
            Err(error) => {
                let what = "send CertReps in DER";
                return self.warn(
                    FORM,
                    error.to_string(),
                    Trouble("those that read DER alone", what),
                );
            }
        };
        let mut wrong = Vec::new();
        if !form.content_type || !form.message_digest {
            wrong.push("no contentType or messageDigest (jscep)");
        }
        if !form.content {
            wrong.push("no eContent at all (iOS crashed on it)");
        }
        if !form.printable {
            wrong.push("transactionID is no PrintableString (jscep)");
        }
        if form.old_digest {
            wrong.push("digest SHA-1 or MD5 to a request with SHA-256 (current Apple and Windows)");
        }
        let again = second.and_then(|body| Form::of(body).ok());
        if form.nonce.is_empty() || again.is_some_and(|again| again.nonce == form.nonce) {
            wrong.push("senderNonce is not fresh (jscep)");
        }
        if wrong.is_empty() {
            let parameters = if form.null_parameters { "NULL" } else { "absent" };
            let text =
                format!("contentType, messageDigest, fresh nonce; digest parameters {parameters}");
            return self.ok(FORM, text);
        }
        let what = "write CertReps as RFC 8894, 3.2 and RFC 5652, 11 have them";
        self.warn(FORM, wrong.join("; "), Trouble("those named", what));
    }
}

/// Whether a line would break an escape at this place.
fn in_escape(text: &str, at: usize) -> bool {
    let before = text.get(at.saturating_sub(2)..at).unwrap_or_default();
    before.contains('%')
}

/// Why an answer is not the same as another one.
fn differs(answer: Result<Answer, Died>, plain: &Answer) -> Option<String> {
    match answer {
        Err(died) => Some(died.to_string()),
        Ok(answer) if answer.status != 200 => Some(answer.describe()),
        // The order of a bundle may change; its length does not.
        Ok(answer) if answer.body.len() != plain.body.len() => Some("another answer".into()),
        Ok(_) => None,
    }
}

#[derive(Clone, Copy)]
struct How {
    header: &'static str,
    chunked: bool,
}

const TYPED: How = How { header: "Content-Type: application/x-pki-message\r\n", chunked: false };
const UNTYPED: How = How { header: "", chunked: false };
const CHUNKED: How = How { chunked: true, ..TYPED };

/// A POST PKIOperation, octet by octet.
fn post(wire: &Wire, how: How, message: &[u8]) -> Vec<u8> {
    let mut request = format!(
        "POST {}?operation=PKIOperation HTTP/1.1\r\nHost: {}\r\nUser-Agent: scep-gateway-doctor\r\n\
         Connection: close\r\n{}",
        wire.path(),
        wire.authority,
        how.header
    )
    .into_bytes();
    if how.chunked {
        request.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
        for part in message.chunks(1000) {
            request.extend_from_slice(format!("{:x}\r\n", part.len()).as_bytes());
            request.extend_from_slice(part);
            request.extend_from_slice(b"\r\n");
        }
        request.extend_from_slice(b"0\r\n\r\n");
    } else {
        request.extend_from_slice(format!("Content-Length: {}\r\n\r\n", message.len()).as_bytes());
        request.extend_from_slice(message);
    }
    request
}

/// The URIs in a cRLDistributionPoints extension.
fn uris(der: &[u8]) -> Vec<String> {
    const URI: u8 = 0x86;
    let mut found = Vec::new();
    let mut readers = vec![Reader::new(der)];
    while let Some(mut reader) = readers.pop() {
        while let Ok(part) = reader.any() {
            match part.raw.first() {
                Some(&URI) => found.extend(String::from_utf8(part.value.to_vec())),
                Some(tag) if tag & 0x20 != 0 => readers.push(part.reader()),
                _ => {}
            }
        }
    }
    found
}

/// `Tue, 24 Nov 2026 12:30:30 GMT` (RFC 9110, 5.6.7).
fn http_date(text: &str) -> Option<Timestamp> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let mut words = text.split_once(", ")?.1.split(' ');
    let day = words.next()?.parse().ok()?;
    let month = words.next()?;
    let month = (1..).zip(MONTHS).find(|(_, name)| *name == month)?.0;
    let year = words.next()?.parse().ok()?;
    let mut time = words.next()?.split(':').map(str::parse);
    let (hour, minute, second) = (time.next()?.ok()?, time.next()?.ok()?, time.next()?.ok()?);
    Timestamp::from_civil(year, month, day, hour, minute, second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_http_are_read() {
        let at = http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        assert_eq!(at, Timestamp::from_seconds(784_111_777));
        for bad in ["", "Sun, 06 Nov", "06 Nov 1994 08:49:37 GMT", "Sun, 06 Foo 1994 08:49:37 GMT"]
        {
            assert_eq!(http_date(bad), None, "{bad}");
        }
    }
}
