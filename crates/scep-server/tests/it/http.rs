//! What old and odd clients do to HTTP.

use crate::support::{Running, base64, device_key};
use scep_message::client::Reply;
use scep_types::CertificateDer;

fn escape(text: &str) -> String {
    text.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D")
}

async fn enrols_by_get(running: &Running, target: impl Fn(&str) -> String) {
    let key = scep_keys::SoftwareKey::generate(scep_types::KeyAlgorithm::Rsa(2048)).unwrap();
    let sent = running.house.enrolment(&key);
    let http = running.get(&target(&base64(&sent.bytes))).await;
    assert_eq!(http.status, 200, "{}", http.head);
    let reply = running.house.read(&sent, &http.body);
    assert!(matches!(reply, Reply::Success(_)), "{reply:?}");
}

#[tokio::test]
async fn quirk_01_02_03_04_base64_in_a_get_arrives_in_every_form() {
    let running = Running::start().await;
    let query = |text: &str| format!("/scep?operation=PKIOperation&message={text}");
    enrols_by_get(&running, |text| query(&escape(text))).await;
    enrols_by_get(&running, query).await;
    enrols_by_get(&running, |text| query(&escape(text).replace('%', "%25"))).await;
    enrols_by_get(&running, |text| {
        let lines: Vec<String> =
            text.as_bytes().chunks(64).map(|l| String::from_utf8(l.to_vec()).unwrap()).collect();
        query(&format!("{}%0A", lines.join("%0A").replace('+', "%2B")))
    })
    .await;
    enrols_by_get(&running, |text| query(&text.replace('+', "-").replace('/', "_"))).await;
}

#[tokio::test]
async fn quirk_05_http_1_0_and_no_host() {
    let running = Running::start().await;
    let caps = running.raw(b"GET /scep?operation=GetCACaps HTTP/1.0\r\n\r\n").await;
    assert_eq!(caps.status, 200);
    let agent = "User-Agent: Mozilla/4.0 (compatible; MSIE 5.0; Cisco PKI)";
    let request =
        format!("GET /scep?operation=GetCACaps HTTP/1.1\r\n{agent}\r\nConnection: close\r\n\r\n");
    assert_eq!(running.raw(request.as_bytes()).await.status, 200);
}

#[tokio::test]
async fn quirk_06_any_path_and_appended_pkiclient_exe() {
    let running = Running::start().await;
    for path in [
        "/",
        "/scep",
        "/certsrv/mscep/mscep.dll",
        "/certsrv/mscep/mscep.dll/pkiclient.exe",
        "/cgi-bin/pkiclient.exe/pkiclient.exe",
    ] {
        let http = running.get(&format!("{path}?operation=GetCACaps")).await;
        assert_eq!(http.status, 200, "{path}");
    }
}

#[tokio::test]
async fn quirk_07_what_is_not_served_is_plain_text_and_never_html() {
    let running = Running::start_with(|parts| {
        parts.endpoints = vec![scep_server::Endpoint::generic("/scep")];
    })
    .await;
    let http = running.get("/elsewhere?operation=GetCACaps").await;
    assert_eq!((http.status, http.header("content-type")), (404, Some("text/plain")));
    assert!(!http.text().contains('<'));
    assert_eq!(running.get("/scepter?operation=GetCACaps").await.status, 404);
    assert_eq!(running.get("/scep/deeper?operation=GetCACaps").await.status, 200);
}

#[tokio::test]
async fn quirk_08_11_message_and_unknown_parameters_are_ignored() {
    let running = Running::start().await;
    for query in [
        "operation=GetCACert",
        "operation=GetCACert&message=",
        "operation=GetCACert&message=default",
        "operation=GetCACert&message=CAIdentifier",
        "operation=GetCACert&message=SCEP%20Authority",
        "operation=GetCACert&message=a=b&mac=00&x",
        "message=0&operation=GetCACert",
    ] {
        assert_eq!(running.get(&format!("/scep?{query}")).await.status, 200, "{query}");
    }
}

#[tokio::test]
async fn quirk_09_10_posts_of_every_kind_are_pki_operations() {
    let running = Running::start().await;
    for (target, headers) in [
        ("/scep?operation=PKIOperation", ""),
        ("/scep", ""),
        ("/scep?operation=", "Content-Type: application/octet-stream\r\n"),
        ("/scep?operation=PKIOperation&message=", "Content-Type: application/x-pki-message\r\n"),
    ] {
        let key = scep_keys::SoftwareKey::generate(scep_types::KeyAlgorithm::Rsa(2048)).unwrap();
        let sent = running.house.enrolment(&key);
        let http = running.post(target, headers, &sent.bytes).await;
        assert_eq!(http.status, 200, "{target}");
        let reply = running.house.read(&sent, &http.body);
        assert!(matches!(reply, Reply::Success(_)), "{target}: {reply:?}");
    }
    let sent = running.house.enrolment(&device_key());
    let mut chunked =
        b"POST /scep?operation=PKIOperation HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
        Transfer-Encoding: chunked\r\n\r\n"
            .to_vec();
    for chunk in sent.bytes.chunks(1000) {
        chunked.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        chunked.extend_from_slice(chunk);
        chunked.extend_from_slice(b"\r\n");
    }
    chunked.extend_from_slice(b"0\r\n\r\n");
    let http = running.raw(&chunked).await;
    assert!(matches!(running.house.read(&sent, &http.body), Reply::Success(_)));
}

#[tokio::test]
async fn quirk_15_capabilities_are_lines_of_exact_keywords() {
    let running = Running::start().await;
    let http = running.get("/scep?operation=GetCACaps").await;
    assert_eq!(http.header("content-type"), Some("text/plain"));
    let text = http.text();
    for keyword in
        ["AES", "POSTPKIOperation", "SHA-256", "SHA-384", "SHA-512", "SCEPStandard", "Renewal"]
    {
        assert!(text.lines().any(|line| line == keyword), "{keyword}");
    }
    for absent in ["SHA-1", "DES3", "DES", "MD5", "GetNextCACert"] {
        assert!(!text.lines().any(|line| line == absent), "{absent}");
    }
    assert!(text.lines().all(|line| line == line.trim() && !line.is_empty()));
}

#[tokio::test]
async fn quirk_16_17_ca_certificates_come_as_a_bundle_or_as_one() {
    let running = Running::start_with(|parts| {
        let mut one = scep_server::Endpoint::generic("/one");
        one.ca_cert = scep_server::CaCertForm::RA_ONLY;
        parts.endpoints = vec![scep_server::Endpoint::generic("/many"), one];
    })
    .await;
    let many = running.get("/many?operation=GetCACert").await;
    assert_eq!(many.header("content-type"), Some("application/x-x509-ca-ra-cert"));
    let one = running.get("/one?operation=GetCACert").await;
    assert_eq!(one.header("content-type"), Some("application/x-x509-ca-cert"));
    let certificate = CertificateDer::parse(&one.body).unwrap();
    assert_eq!(certificate, running.house.ra.recipients[0].certificate);
    let limits = scep_message::Limits::default();
    let all = scep_message::ca_cert::parse(&many.body, &limits).unwrap();
    // quirk_19, quirk_20: what requests are encrypted to comes first.
    assert_eq!(all[0], running.house.ra.recipients[0].certificate);
    assert_eq!(all.len(), 3);
}

#[tokio::test]
async fn attack_50_there_is_no_password_page() {
    let running = Running::start().await;
    for path in ["/certsrv/mscep_admin/", "/CertSrv/MSCEP_Admin", "/scep/mscep_admin?operation=x"] {
        assert_eq!(running.get(path).await.status, 403, "{path}");
    }
}

#[tokio::test]
async fn a_browser_sees_that_it_works() {
    let running = Running::start().await;
    let http = running.get("/scep").await;
    assert_eq!(http.status, 403);
    assert!(http.text().contains("it is working"));
}

#[tokio::test]
async fn attack_59_sizes_are_limited() {
    let running = Running::start().await;
    // quirk_14: a query of nearly 64 KiB is read (and is no message).
    let long = "A".repeat(65_000);
    let http = running.get(&format!("/scep?operation=PKIOperation&message={long}")).await;
    assert_eq!(http.status, 400);
    let longer = "A".repeat(70_000);
    let http = running.get(&format!("/scep?operation=PKIOperation&message={longer}")).await;
    assert_eq!(http.status, 414);
    let http = running.post("/scep?operation=PKIOperation", "", &vec![0; (256 << 10) + 1]).await;
    assert_eq!(http.status, 413);
    let http = running.post("/scep?operation=PKIOperation", "", &vec![0; 256 << 10]).await;
    assert_eq!(http.status, 400);
    let http = running.raw(b"DELETE /scep HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert_eq!((http.status, http.header("allow")), (405, Some("GET, POST")));
}

#[tokio::test]
async fn attack_59_a_full_queue_is_answered_503_at_once() {
    let running = Running::start_with(|parts| {
        parts.limits.threads = 1;
        parts.limits.queue = 0;
        parts.main.ca = std::sync::Arc::new(Stuck::default());
    })
    .await;
    let running = std::sync::Arc::new(running);
    let first = running.house.enrolment(&device_key());
    let holder = running.clone();
    let held =
        tokio::spawn(
            async move { holder.post("/scep?operation=PKIOperation", "", &first.bytes).await },
        );
    // The first is inside once its challenge is spent.
    while running.gateway.ledger().counters().await.unwrap().unsettled == 0 {
        tokio::task::yield_now().await;
    }
    let second = running.house.enrolment(&crate::support::other_key());
    let http = running.post("/scep?operation=PKIOperation", "", &second.bytes).await;
    assert_eq!((http.status, http.header("retry-after")), (503, Some("5")));
    held.abort();
}

/// A CA that never answers.
#[derive(Debug, Default)]
struct Stuck(Vec<CertificateDer>);

#[async_trait::async_trait]
impl scep_ca::CertificateAuthority for Stuck {
    fn chain(&self) -> &[CertificateDer] {
        &self.0
    }

    fn capabilities(&self) -> scep_ca::Capabilities {
        scep_ca::Capabilities { revoke: scep_ca::CanRevoke::No, recover: scep_ca::Recover::None }
    }

    fn choose_serial(&self) -> Result<Option<scep_types::SerialNumber>, scep_ca::CaError> {
        Ok(None)
    }

    async fn issue(
        &self,
        _: scep_ledger::IssuePermit,
    ) -> Result<CertificateDer, scep_ca::IssueError> {
        tokio::time::sleep(std::time::Duration::from_secs(5)).await;
        let why = "too slow".to_owned();
        Err(scep_ca::IssueError::Unknown(scep_ca::CaError::Unavailable { why }))
    }

    async fn find(&self, _: &scep_ca::Wanted<'_>) -> Result<scep_ca::Found, scep_ca::CaError> {
        Ok(scep_ca::Found::Unknown)
    }
}
