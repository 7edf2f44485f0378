//! OpenBao and HashiCorp Vault: their PKI engine over HTTP.
//!
//! The server signs the device's own request; what comes back is compared with the approval by the caller. What it is
//! asked besides are the claims' usages and end, so that a role which is honest gives exactly what was approved.

mod answer;
mod health;
mod http;
mod request;
mod rights;
mod session;
mod tls;

pub use rights::Right;
pub use session::{Authentication, SecretId};

use crate::authority::{
    CaHealth, CanRevoke, Capabilities, CertificateAuthority, Found, IssueError, Recover,
    Revocation, Revoked, Wanted,
};
use crate::chain;
use crate::crl::CrlOrder;
use crate::error::CaError;
use answer::NoCertificate;
use async_trait::async_trait;
use core::time::Duration;
use http::{Ask, Failure, Http};
use request::{pem_of, request};
use scep_ledger::IssuePermit;
use scep_types::{
    CertificateDer, CrlDer, CryptoProvider, SerialNumber, SpkiDer, SpkiHash, Timestamp,
};
use serde_json::json;
use session::Session;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Keys that are remembered as asked for: far more than are open at once.
const MAX_ASKED: usize = 10_000;

/// The names of what is done, for trouble with it.
const SIGN: &str = "sign";
const SIGN_RA: &str = "sign for the RA";
const FIND: &str = "list certificates";
const REVOKE: &str = "revoke";
const CRL: &str = "CRL";
const ISSUER: &str = "issuer";
const TOKEN: &str = "token";

/// By which path of the engine certificates are signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignBy {
    /// `sign/:role`. The role says which subject attributes and usages there are; extensions of the claims cannot be
    /// had.
    Role(String),
    /// `sign-verbatim`, or `sign-verbatim/:role` for the role's limits: subject, names and extensions of the request.
    Verbatim(Option<String>),
}

/// Where an engine is and how it is used.
#[derive(Debug)]
pub struct OpenBaoSettings {
    /// `https://HOST:PORT`; `http` for loopback addresses only.
    pub address: String,
    /// The namespace, if there are any.
    pub namespace: Option<String>,
    /// Where the PKI engine is mounted.
    pub mount: String,
    /// Which of the engine's issuers: its name or id, or `default`.
    pub issuer: String,
    /// How certificates are signed.
    pub sign_by: SignBy,
    /// How the adapter logs in.
    pub authentication: Authentication,
    /// The only roots that the server's TLS certificate is accepted from; the platform's where empty.
    pub tls_roots: Vec<CertificateDer>,
    /// The only keys that the server's TLS certificate may have, where there are any: SHA-256 over its
    /// SubjectPublicKeyInfo. With `tls_roots` both must hold; without them the key alone tells who the server is,
    /// whatever its certificate says.
    pub tls_pins: Vec<SpkiHash>,
    /// For one exchange, from connecting to the last octet.
    pub timeout: Duration,
    /// How long a call that has certainly done nothing is begun again: the server was not reached, or has too much to
    /// do.
    pub retry_for: Duration,
    /// How long the server may still work on a call that nobody waits for. Longer than the server's own
    /// `default_max_request_duration`, which is 90 seconds.
    pub grace: Duration,
    /// Longest answer, in octets.
    pub max_answer: usize,
    /// Most certificates that are read to find one again.
    pub max_listed: usize,
}

impl OpenBaoSettings {
    /// Of the engine at `pki`: its default issuer, 30 seconds for an exchange, attempts for 5 seconds, 120 seconds of
    /// grace, 16 MiB, 20,000 certificates.
    #[must_use]
    pub fn new(
        address: impl Into<String>,
        sign_by: SignBy,
        authentication: Authentication,
    ) -> Self {
        Self {
            address: address.into(),
            namespace: None,
            mount: "pki".into(),
            issuer: "default".into(),
            sign_by,
            authentication,
            tls_roots: Vec::new(),
            tls_pins: Vec::new(),
            timeout: Duration::from_secs(30),
            retry_for: Duration::from_secs(5),
            grace: Duration::from_secs(120),
            max_answer: 16 << 20,
            max_listed: 20_000,
        }
    }
}

/// What the adapter remembers between calls.
#[derive(Debug, Default)]
struct Memory {
    /// The issuer's id, once the server was seen to have the expected one: its default may change.
    issuer: Option<String>,
    /// Keys whose certificates may still be in the making, and since when.
    asked: HashMap<SpkiHash, Instant>,
    /// The keys of certificates by serial number: neither changes, so each is read once.
    keys: HashMap<String, SpkiHash>,
}

/// A CA in OpenBao or HashiCorp Vault.
///
/// Makes no connection before it is first asked. The chain is configured and not believed: a server whose issuer is
/// another one is asked for nothing.
#[derive(Debug)]
pub struct OpenBao {
    chain: Vec<CertificateDer>,
    settings: Shape,
    http: Http,
    session: Session,
    memory: Mutex<Memory>,
    provider: Arc<dyn CryptoProvider>,
}

/// The settings that calls need.
#[derive(Debug)]
struct Shape {
    mount: String,
    issuer: String,
    sign_by: SignBy,
    grace: Duration,
    max_listed: usize,
}

/// Parts of paths are names, and go into URLs as they are.
fn plain(what: &'static str, text: &str, slash: bool) -> Result<(), CaError> {
    let ok = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b) || (slash && b == b'/');
    let steps = text.split('/').all(|step| !step.is_empty() && step != "." && step != "..");
    if steps && text.bytes().all(ok) {
        return Ok(());
    }
    let why = format!("{text:?} is none: letters, digits, '-', '_' and '.'");
    Err(CaError::Setting { what, why })
}

impl OpenBao {
    /// `chain`: the issuing CA first, then upwards; the root may be left out.
    ///
    /// # Errors
    /// When the chain does not hold together, or a setting cannot be used.
    pub fn new(
        settings: OpenBaoSettings,
        chain: Vec<CertificateDer>,
        provider: Arc<dyn CryptoProvider>,
    ) -> Result<Self, CaError> {
        if chain.is_empty() {
            return Err(CaError::NotACa { position: 0 });
        }
        chain::check(&chain, &*provider)?;
        Self::unchecked(settings, chain, provider)
    }

    fn unchecked(
        settings: OpenBaoSettings,
        chain: Vec<CertificateDer>,
        provider: Arc<dyn CryptoProvider>,
    ) -> Result<Self, CaError> {
        plain("mount", &settings.mount, true)?;
        plain("issuer", &settings.issuer, false)?;
        if let SignBy::Role(role) | SignBy::Verbatim(Some(role)) = &settings.sign_by {
            plain("role", role, false)?;
        }
        if let Authentication::AppRole { mount, .. } = &settings.authentication {
            plain("mount of the login", mount, true)?;
        }
        let http = Http::new(&settings)?;
        let OpenBaoSettings { mount, issuer, sign_by, authentication, grace, max_listed, .. } =
            settings;
        Ok(Self {
            chain,
            settings: Shape { mount, issuer, sign_by, grace, max_listed },
            http,
            session: Session::new(authentication),
            memory: Mutex::default(),
            provider,
        })
    }

    /// Reads the chain of the settings' issuer, for an operator to confirm and for [`OpenBao::new`]. Needs no rights.
    ///
    /// # Errors
    /// When the server cannot be asked, or its chain does not hold together.
    pub async fn fetch_chain(
        settings: OpenBaoSettings,
        provider: Arc<dyn CryptoProvider>,
    ) -> Result<Vec<CertificateDer>, CaError> {
        let asking = Self::unchecked(settings, Vec::new(), Arc::clone(&provider))?;
        let (_, chain) = asking.ask_issuer(&asking.settings.issuer).await?;
        chain::check(&chain, &*provider)?;
        Ok(chain)
    }

    /// Logs in and sees that the server has the expected issuer. Called again it does the same with the token that there
    /// is, and renews that when it is due: a program that calls it once a minute keeps a token which nobody else uses,
    /// and [`CertificateAuthority::health`] says how the server was a minute ago at the latest.
    ///
    /// # Errors
    /// [`CaError::NotIssuedHere`] when the issuer is another one; otherwise when the server cannot be asked.
    pub async fn connect(&self) -> Result<(), CaError> {
        self.session.token(&self.http, None).await.map_err(Failure::for_later)?;
        if self.session.is_anothers() {
            self.call(TOKEN, "auth/token/lookup-self", Ask::Get)
                .await
                .map_err(Failure::for_later)?;
        }
        let seen = self.see_issuer().await;
        match &seen {
            Ok(_) => self.http.health().good(ISSUER),
            Err(CaError::Unavailable { .. }) => {}
            Err(error) => self.http.health().bad(ISSUER, &error.to_string()),
        }
        seen.map(drop)
    }

    /// Has a certificate of the system itself signed by a role of its own, for a request that this program has made.
    ///
    /// # Errors
    /// When the server does not sign, or signs another key, or as another CA.
    pub async fn issue_infrastructure(
        &self,
        role: &str,
        csr_der: &[u8],
        key: &SpkiDer,
        not_after: Timestamp,
    ) -> Result<CertificateDer, CaError> {
        plain("role", role, false)?;
        let issuer = self.issuer_id().await?;
        let path = format!("{}/issuer/{issuer}/sign/{role}", self.settings.mount);
        let body = json!({
            "csr": pem_of("CERTIFICATE REQUEST", csr_der),
            "not_after": not_after.to_string(),
            "exclude_cn_from_sans": true,
        });
        let answer = self.call(SIGN_RA, &path, Ask::Post(&body)).await;
        let certificate = signed(&answer.map_err(Failure::for_later)?)?;
        self.check_issued(&certificate)?;
        if certificate.spki() == key { Ok(certificate) } else { Err(CaError::KeyMismatch) }
    }

    /// Checks that this CA has issued a certificate: its name and its signature.
    ///
    /// # Errors
    /// [`CaError::NotIssuedHere`].
    pub fn check_issued(&self, certificate: &CertificateDer) -> Result<(), CaError> {
        let ours = self.ca()?;
        if !chain::same_name(certificate.issuer_der(), ours.subject_der()) {
            return Err(CaError::NotIssuedHere);
        }
        chain::signature(certificate, ours, 0, &*self.provider).map_err(|_| CaError::NotIssuedHere)
    }

    fn ca(&self) -> Result<&CertificateDer, CaError> {
        self.chain.first().ok_or(CaError::NotIssuedHere)
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A call with the token. One that the server takes no more is replaced, and the call made again: a refusal for
    /// lack of rights has done nothing.
    ///
    /// `what`: under which name a lack of rights is remembered, until the same call is allowed.
    async fn call(&self, what: &'static str, path: &str, ask: Ask<'_>) -> Result<Vec<u8>, Failure> {
        let outcome = self.call_with_token(path, ask).await;
        match &outcome {
            Err(refused) if refused.is_permission() => {
                self.http.health().bad(what, &refused.to_string());
            }
            Ok(_) | Err(Failure::Refused { .. }) => self.http.health().good(what),
            Err(Failure::NotSent { .. } | Failure::Unclear(_)) => {}
        }
        outcome
    }

    async fn call_with_token(&self, path: &str, ask: Ask<'_>) -> Result<Vec<u8>, Failure> {
        // Whatever goes wrong before the call itself, the call was not made.
        let before = |failure: Failure| match failure {
            Failure::Unclear(why) => Failure::unsendable(format!("login: {why}")),
            other => other,
        };
        let token = self.session.token(&self.http, None).await.map_err(before)?;
        match self.http.exchange(path, ask, Some(&token)).await {
            Err(refused) if refused.is_permission() => {
                let new = self.session.token(&self.http, Some(&token)).await.map_err(before)?;
                if new.expose() == token.expose() {
                    return Err(refused);
                }
                self.http.exchange(path, ask, Some(&new)).await
            }
            other => other,
        }
    }

    async fn ask_issuer(&self, which: &str) -> Result<(String, Vec<CertificateDer>), CaError> {
        let path = format!("{}/issuer/{which}/json", self.settings.mount);
        let body = self.http.exchange(&path, Ask::Get, None).await.map_err(Failure::for_later)?;
        let issuer: answer::Issuer = answer::data(&body).map_err(|why| CaError::Answer { why })?;
        plain("issuer's id", &issuer.issuer_id, false)?;
        let mut chain = vec![certificate(&issuer.certificate)?];
        for text in &issuer.ca_chain {
            let one = certificate(text)?;
            if !chain.contains(&one) {
                chain.push(one);
            }
        }
        Ok((issuer.issuer_id, chain))
    }

    /// The id of the issuer that was configured, which stays the same when the engine gets another default.
    async fn issuer_id(&self) -> Result<String, CaError> {
        let known = self.memory().issuer.clone();
        match known {
            // A server that was away may still be, or be sealed. Asked for the issuer, it says so and has done nothing;
            // asked for a certificate, it would leave open what it has done.
            Some(known) if self.http.health().away_for().is_none() => Ok(known),
            _ => self.see_issuer().await,
        }
    }

    /// The same, as the server has it now.
    async fn see_issuer(&self) -> Result<String, CaError> {
        let known = self.memory().issuer.clone();
        let which = known.as_ref().unwrap_or(&self.settings.issuer);
        let (id, chain) = self.ask_issuer(which).await?;
        if chain.first() != Some(self.ca()?) {
            return Err(CaError::NotIssuedHere);
        }
        self.memory().issuer = Some(id.clone());
        Ok(id)
    }

    /// Keeps in mind that a certificate for this key may be in the making.
    fn asked(&self, key: SpkiHash) {
        let mut memory = self.memory();
        if memory.asked.len() >= MAX_ASKED {
            let grace = self.settings.grace;
            memory.asked.retain(|_, since| since.elapsed() < grace);
        }
        memory.asked.insert(key, Instant::now());
    }

    /// Looks through the certificates that the engine keeps.
    async fn look(&self, key: SpkiHash, since: Timestamp) -> Result<Found, CaError> {
        let path = format!("{}/certs", self.settings.mount);
        let listed = match self.call(FIND, &path, Ask::List).await {
            Ok(body) => {
                answer::data::<answer::Keys>(&body).map_err(|why| CaError::Answer { why })?.keys
            }
            Err(failure) if failure.is_not_found() => Vec::new(),
            Err(failure) => return Err(failure.for_later()),
        };
        if listed.len() > self.settings.max_listed {
            return Ok(Found::Unknown);
        }
        let mut newest: Option<CertificateDer> = None;
        for serial in &listed {
            if !serial.bytes().all(|b| b.is_ascii_hexdigit() || b == b':' || b == b'-') {
                return Err(CaError::Answer { why: "a serial number that is none".into() });
            }
            if self.memory().keys.get(serial).is_some_and(|known| *known != key) {
                continue;
            }
            let path = format!("{}/cert/{serial}", self.settings.mount);
            let body = match self.http.exchange(&path, Ask::Get, None).await {
                Ok(body) => body,
                // Tidied up meanwhile.
                Err(failure) if failure.is_not_found() => continue,
                Err(failure) => return Err(failure.for_later()),
            };
            let found = signed(&body)?;
            self.memory().keys.insert(serial.clone(), found.spki().hash());
            // One that began long before the call is of an earlier one with the same key.
            let may_be = found.spki().hash() == key
                && found.not_before() >= since.minus(scep_policy::BEGIN_TOLERANCE);
            if may_be && newest.as_ref().is_none_or(|n| n.not_before() <= found.not_before()) {
                newest = Some(found);
            }
        }
        let present: HashSet<&String> = listed.iter().collect();
        self.memory().keys.retain(|serial, _| present.contains(serial));
        match newest {
            None => Ok(Found::Nothing),
            Some(found) if self.check_issued(&found).is_ok() => Ok(Found::Certificate(found)),
            // Of another issuer of the engine: it exists, and is not ours to release.
            Some(_) => Ok(Found::Unknown),
        }
    }
}

fn certificate(text: &str) -> Result<CertificateDer, CaError> {
    answer::certificate(text).map_err(|error| match error {
        NoCertificate::Text(why) => CaError::Answer { why },
        NoCertificate::Der(why) => CaError::NotACertificate(why),
    })
}

fn signed(body: &[u8]) -> Result<CertificateDer, CaError> {
    let signed: answer::Signed = answer::data(body).map_err(|why| CaError::Answer { why })?;
    certificate(&signed.certificate)
}

/// As the engine writes it: pairs of hexadecimal digits with colons.
fn serial_text(serial: &SerialNumber) -> String {
    let digits = serial.to_string().to_ascii_lowercase();
    let pairs: Vec<&str> = (0..digits.len())
        .step_by(2)
        .filter_map(|at| digits.get(at..at.saturating_add(2)))
        .collect();
    pairs.join(":")
}

#[async_trait]
impl CertificateAuthority for OpenBao {
    fn is_elsewhere(&self) -> bool {
        true
    }

    fn chain(&self) -> &[CertificateDer] {
        &self.chain
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { revoke: CanRevoke::Yes, recover: Recover::ByKey }
    }

    /// From the calls so far, those of [`OpenBao::connect`] among them.
    fn health(&self) -> CaHealth {
        self.http.health().state()
    }

    /// None: the engine chooses.
    fn choose_serial(&self) -> Result<Option<SerialNumber>, CaError> {
        Ok(None)
    }

    async fn issue(&self, permit: IssuePermit) -> Result<CertificateDer, IssueError> {
        let Shape { mount, sign_by, .. } = &self.settings;
        let nothing = IssueError::NothingIssued;
        let body = request(permit.contents(), permit.csr_der(), sign_by).map_err(nothing)?;
        let issuer = self.issuer_id().await.map_err(nothing)?;
        let path = match sign_by {
            SignBy::Role(role) => format!("{mount}/issuer/{issuer}/sign/{role}"),
            SignBy::Verbatim(None) => format!("{mount}/issuer/{issuer}/sign-verbatim"),
            SignBy::Verbatim(Some(role)) => {
                format!("{mount}/issuer/{issuer}/sign-verbatim/{role}")
            }
        };
        let key = permit.contents().spki.hash();
        // Before the call: should nobody be there any more to hear how it ends, `find` waits all the same.
        self.asked(key);
        let answer = match self.call(SIGN, &path, Ask::Post(&body)).await {
            Ok(answer) => answer,
            Err(Failure::NotSent { why, .. }) => {
                self.memory().asked.remove(&key);
                return Err(IssueError::NothingIssued(CaError::Unavailable { why }));
            }
            Err(refused @ Failure::Refused { .. }) => {
                self.memory().asked.remove(&key);
                let why = refused.to_string();
                return Err(IssueError::NothingIssued(CaError::Refused { why }));
            }
            Err(Failure::Unclear(why)) => {
                return Err(IssueError::Unknown(CaError::Unavailable { why }));
            }
        };
        let certificate = signed(&answer).map_err(IssueError::Unknown)?;
        self.check_issued(&certificate).map_err(IssueError::Unknown)?;
        self.memory().asked.remove(&key);
        Ok(certificate)
    }

    /// By public key, among the certificates that the engine keeps (a role with `no_store` keeps none). An engine with
    /// more than the settings' number is not searched: [`Found::Unknown`].
    ///
    /// That there is none is said only after the grace period, counted from the call or, where this program did not make
    /// it, from the first look; before that the error is [`CaError::Unavailable`], as the call may still be at work.
    async fn find(&self, wanted: &Wanted<'_>) -> Result<Found, CaError> {
        let key = wanted.spki.hash();
        let since = *self.memory().asked.entry(key).or_insert_with(Instant::now);
        // Before looking: a call that ends while the list is read could be missed.
        let over = since.elapsed() >= self.settings.grace;
        let found = self.look(key, wanted.since).await?;
        if found == Found::Nothing && !over {
            let why = "the call that should have issued may still be at work".into();
            return Err(CaError::Unavailable { why });
        }
        self.memory().asked.remove(&key);
        Ok(found)
    }

    async fn revoke(&self, what: &Revocation<'_>) -> Result<Revoked, CaError> {
        let path = format!("{}/revoke", self.settings.mount);
        let body = json!({ "serial_number": serial_text(what.serial) });
        let answer =
            self.call(REVOKE, &path, Ask::Post(&body)).await.map_err(Failure::for_later)?;
        // Revoked it is; what cannot be read is asked for again.
        let revoked: answer::Revocation =
            answer::data(&answer).map_err(|why| CaError::Unavailable { why })?;
        Ok(Revoked { at: Timestamp::from_seconds(revoked.revocation_time) })
    }

    /// The engine's own, verified.
    async fn crl(&self, order: &CrlOrder<'_>) -> Result<CrlDer, CaError> {
        let crl = self.read_crl(order).await;
        match &crl {
            Ok(_) => self.http.health().good(CRL),
            Err(error) => self.http.health().bad(CRL, &error.to_string()),
        }
        crl
    }
}

impl OpenBao {
    async fn read_crl(&self, order: &CrlOrder<'_>) -> Result<CrlDer, CaError> {
        let issuer = self.issuer_id().await?;
        let path = format!("{}/issuer/{issuer}/crl/der", self.settings.mount);
        let body = self.http.exchange(&path, Ask::Get, None).await.map_err(Failure::for_later)?;
        let crl = CrlDer::parse(&body).map_err(CaError::NotACrl)?;
        let ours = self.ca()?;
        if !chain::same_name(crl.issuer_der(), ours.subject_der()) {
            return Err(CaError::NotIssuedHere);
        }
        chain::crl_signature(&crl, ours, &*self.provider)?;
        if crl.next_update().is_some_and(|end| end <= order.this_update) {
            let why = "its CRL has ended; does the engine rebuild it (auto_rebuild)?".into();
            return Err(CaError::Unavailable { why });
        }
        Ok(crl)
    }
}
