//! A proxy of the tests' own, for what tinyproxy does not do.

use crate::gateway::Gateway;
use crate::issuer::{DAY, Issuer, key};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use scep_connector::{ConnectorError, IssuerAddress, Proxy};
use scep_keys::SoftwareKey;
use scep_types::{SpkiHash, Timestamp};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{self, PrivateKeyDer, PrivatePkcs8KeyDer};

/// What the child of the test with TLS is told.
const CHILD: &str = "SCEP_CONNECTOR_TEST_PROXY";

/// Reads a request's head, answers, and tunnels when the answer says so.
async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    answer: &'static str,
    heads: Arc<Mutex<Vec<String>>>,
) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(octet) = stream.read_u8().await else { return };
        head.push(octet);
    }
    let head = String::from_utf8(head).unwrap();
    let target = head.split(' ').nth(1).unwrap().to_owned();
    heads.lock().unwrap().push(head);
    stream.write_all(answer.as_bytes()).await.unwrap();
    if answer.contains(" 200 ") {
        let mut issuer = TcpStream::connect(target).await.unwrap();
        let _ = tokio::io::copy_bidirectional(&mut stream, &mut issuer).await;
    }
}

async fn start(
    answer: &'static str,
    tls: Option<TlsAcceptor>,
) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let heads: Arc<Mutex<Vec<String>>> = Arc::default();
    let seen = Arc::clone(&heads);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (tls, heads) = (tls.clone(), Arc::clone(&seen));
            tokio::spawn(async move {
                match tls {
                    None => serve(stream, answer, heads).await,
                    Some(tls) => {
                        let Ok(stream) = tls.accept(stream).await else { return };
                        serve(stream, answer, heads).await;
                    }
                }
            });
        }
    });
    (address, heads)
}

pub(crate) async fn refuses() {
    let issuer = Issuer::start().await;
    let mut gateway = Gateway::new(&issuer);
    for (answer, status) in [
        ("HTTP/1.1 403 Filtered\r\n\r\n", 403),
        ("HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n", 407),
        ("HTTP/1.1 302 Found\r\nLocation: https://example.org/\r\n\r\n", 302),
        ("HTTP/1.1 100 Continue\r\n\r\n", 100),
    ] {
        let (address, heads) = start(answer, None).await;
        gateway.settings.proxy =
            Some(Proxy::parse(&format!("http://gateway:s3cret@{address}")).unwrap());
        let error = gateway.enrol(&issuer).await.unwrap_err();
        let said = format!("{error} {error:?}");
        match error {
            ConnectorError::ProxyRefused { status: got, .. } => assert_eq!(got, status),
            other => panic!("{other}"),
        }
        let basic = STANDARD.encode("gateway:s3cret");
        assert!(said.contains(&address) && !said.contains("s3cret") && !said.contains(&basic));
        let head = heads.lock().unwrap()[0].clone();
        let to = format!("localhost:{}", issuer.address.port());
        let expected = format!(
            "CONNECT {to} HTTP/1.1\r\nHost: {to}\r\nProxy-Authorization: Basic {basic}\r\n\r\n"
        );
        assert_eq!(head, expected);
    }
    assert_eq!(issuer.book().shaken, 0, "the connector went around the proxy");
}

pub(crate) async fn is_none() {
    let issuer = Issuer::start().await;
    let mut gateway = Gateway::new(&issuer);
    let endless: &'static str =
        Box::leak("HTTP/1.1 200 OK\r\nA: b\r\n".repeat(2_000).into_boxed_str());
    for answer in ["SSH-2.0-OpenSSH_9.2\r\n\r\n", endless] {
        let (address, _) = start(answer, None).await;
        gateway.settings.proxy = Some(Proxy::parse(&format!("http://{address}")).unwrap());
        let error = gateway.enrol(&issuer).await.unwrap_err();
        assert!(matches!(error, ConnectorError::ProxyMalformed { .. }), "{error}");
    }
}

/// The proxy's certificate is judged by the machine's trust, which only a process of its own can have otherwise.
pub(crate) async fn by_tls() {
    let issuer = Issuer::start().await;
    let (ca, leaf) = (key(), key());
    let folder = tempfile::tempdir().unwrap();
    let now = Timestamp::from_seconds(
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs().try_into().unwrap(),
    );
    let root = pki::root(&ca, now);
    let chain = vec![pki::leaf(&leaf, &ca, now)];
    let pem = |der: &[u8]| {
        format!(
            "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
            STANDARD.encode(der)
        )
    };
    let trusted = folder.path().join("trusted.pem");
    std::fs::write(&trusted, pem(&root)).unwrap();
    let other = folder.path().join("other.pem");
    std::fs::write(&other, pem(&pki::root(&key(), now))).unwrap();
    let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(
        leaf.to_pkcs8_der().unwrap().expose().clone(),
    ));
    let config = ServerConfig::builder().with_no_client_auth();
    let config = config
        .with_single_cert(chain.into_iter().map(pki_types::CertificateDer::from).collect(), der)
        .unwrap();
    let tls = TlsAcceptor::from(Arc::new(config));
    let (address, heads) = start("HTTP/1.1 200 OK\r\n\r\n", Some(tls)).await;
    let port = address.rsplit(':').next().unwrap().to_owned();
    let told = format!(
        "https://localhost:{} https://localhost:{port} {}",
        issuer.address.port(),
        issuer.pin
    );
    let run = |roots: std::path::PathBuf| {
        let told = told.clone();
        tokio::task::spawn_blocking(move || {
            let mut command = Command::new(std::env::current_exe().unwrap());
            command.env(CHILD, told).env("SSL_CERT_FILE", roots).env_remove("SSL_CERT_DIR");
            command.output().unwrap()
        })
    };
    let output = run(trusted).await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("enrolled"), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(heads.lock().unwrap().len(), 1);
    let output = run(other).await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains(&format!("refused: TLS with localhost:{port}")), "{said}");
    assert_eq!(
        heads.lock().unwrap().len(),
        1,
        "the connector spoke to a proxy that it does not know"
    );
}

pub(crate) fn is_child() -> bool {
    std::env::var_os(CHILD).is_some()
}

/// Enrols as it is told and says what came of it.
pub(crate) async fn child() {
    let told = std::env::var(CHILD).unwrap();
    let parts: Vec<_> = told.split(' ').collect();
    let unused = Issuer::start().await;
    let mut gateway = Gateway::new(&unused);
    gateway.settings.issuer = IssuerAddress::parse(parts[0]).unwrap();
    gateway.settings.proxy = Some(Proxy::parse(parts[1]).unwrap());
    let pin = SpkiHash::from_hex(parts[2]).unwrap();
    match gateway.enrol_with(gateway.options(pin)).await {
        Ok(_) => println!("enrolled"),
        Err(error) => println!("refused: {error}"),
    }
}

/// Certificates as the machine's trust wants them.
mod pki {
    use super::*;
    use scep_types::tlv::{self, tag};
    use scep_types::{DistinguishedName, ObjectIdentifier, SerialNumber, SignatureScheme};

    fn build(
        of: &SoftwareKey,
        by: &SoftwareKey,
        subject: &str,
        extensions: &[(&str, Vec<u8>)],
        now: Timestamp,
    ) -> Vec<u8> {
        let scheme = SignatureScheme::EcdsaSha256;
        let algorithm = scheme.algorithm_der();
        let name = |text: &str| text.parse::<DistinguishedName>().unwrap().to_der();
        let extensions: Vec<_> = extensions
            .iter()
            .map(|(oid, value)| {
                tlv::sequence(&[
                    &tlv::oid(&ObjectIdentifier::new_unwrap(oid)),
                    &tlv::encode(tag::OCTET_STRING, value),
                ])
            })
            .collect();
        let tbs = tlv::sequence(&[
            &tlv::construct(tag::context_constructed(0), &[&tlv::small_int(2)]),
            &tlv::encode(tag::INTEGER, SerialNumber::from_random([7; 16]).as_content()),
            &algorithm,
            &name("CN=Proxy CA"),
            &tlv::sequence(&[&tlv::time(now.minus(DAY)), &tlv::time(now.plus(DAY))]),
            &name(subject),
            of.public_key().as_der(),
            &tlv::construct(
                tag::context_constructed(3),
                &[&tlv::encode(tag::SEQUENCE, &extensions.concat())],
            ),
        ]);
        let signature = by.signer().sign(scheme, &tbs).unwrap();
        tlv::sequence(&[&tbs, &algorithm, &tlv::whole_bits(&signature)])
    }

    pub(super) fn root(key: &SoftwareKey, now: Timestamp) -> Vec<u8> {
        let ca = tlv::sequence(&[&[tag::BOOLEAN, 1, 0xff]]);
        build(key, key, "CN=Proxy CA", &[("2.5.29.19", ca)], now)
    }

    pub(super) fn leaf(key: &SoftwareKey, ca: &SoftwareKey, now: Timestamp) -> Vec<u8> {
        let names = tlv::sequence(&[&tlv::encode(tag::context(2), b"localhost")]);
        build(key, ca, "CN=localhost", &[("2.5.29.17", names)], now)
    }
}
