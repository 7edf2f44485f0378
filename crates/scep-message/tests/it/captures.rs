//! What real clients send: see captures/README.md.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use scep_cms::{LegacyAlgorithms, Limits, Recipient};
use scep_keys::{AwsLc, Backend, SoftwareKey};
use scep_message::http::{Operation, from_post, from_query};
use scep_message::{FailInfo, MessageError, MessageType, PkiMessage, RaIdentity, Request, salvage};
use scep_types::CertificateDer;
use scep_types::tlv::{Reader, tag};
use std::fs;
use std::path::{Path, PathBuf};

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/captures")
}

fn pem(file: &str) -> Vec<u8> {
    let text = fs::read_to_string(directory().join(file)).unwrap();
    let lines: String = text.lines().filter(|line| !line.starts_with('-')).collect();
    STANDARD.decode(lines).unwrap()
}

fn ra() -> RaIdentity {
    let certificate = CertificateDer::parse(&pem("ra.certificate.pem")).unwrap();
    let key = SoftwareKey::from_pkcs8_der(&pem("ra.key.pem"), Backend::default()).unwrap();
    RaIdentity {
        signing_certificate: certificate.clone(),
        signing_key: key.signer(),
        recipients: vec![Recipient { certificate, key: key.decryption().unwrap() }],
    }
}

struct Capture {
    name: String,
    header: String,
    payload: String,
}

impl Capture {
    fn field(&self, name: &str) -> Option<&str> {
        self.header.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    fn message(&self) -> Vec<u8> {
        let operation = match self.field("sent-by").unwrap() {
            "GET" => from_query(self.payload.trim_end()),
            "POST" => {
                let body = STANDARD.decode(self.payload.replace('\n', "")).unwrap();
                from_post(Some("operation=PKIOperation"), body)
            }
            other => panic!("sent by {other}"),
        };
        let Ok(Operation::PkiOperation(message)) = operation else { panic!("{operation:?}") };
        message
    }
}

fn captures() -> Vec<Capture> {
    let mut all: Vec<Capture> = fs::read_dir(directory())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .map(|path| {
            let text = fs::read_to_string(&path).unwrap();
            let (header, payload) = text.split_once("\n\n").unwrap();
            Capture {
                name: path.file_stem().unwrap().to_string_lossy().into_owned(),
                header: header.to_owned(),
                payload: payload.to_owned(),
            }
        })
        .collect();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all
}

/// The messageType, once its envelope was opened; or the reason and the algorithm.
fn outcome(message: &[u8], legacy: LegacyAlgorithms, ra: &RaIdentity) -> String {
    let refused = |error: MessageError| {
        format!("{} {}", error.reason(), error.algorithm().unwrap_or_default()).trim().to_owned()
    };
    let signed = PkiMessage::parse(message, &Limits::default())
        .and_then(|parsed| parsed.verify(&AwsLc, legacy));
    match signed.map(|signed| signed.decrypt(ra, &AwsLc)) {
        Ok((Ok(Request::Enrol { message_type, csr }), context)) => {
            // A CertificationRequest: three fields, the last of them the signature.
            let mut fields = Reader::new(&csr).only(tag::SEQUENCE).unwrap().reader();
            fields.expect(tag::SEQUENCE).unwrap();
            fields.expect(tag::SEQUENCE).unwrap();
            fields.expect(tag::BIT_STRING).unwrap();
            assert!(context.can_encrypt());
            match message_type {
                MessageType::PkcsReq | MessageType::RenewalReq => message_type.to_string(),
                other => panic!("{other}"),
            }
        }
        Ok((Ok(other), _)) => panic!("{other:?}"),
        Ok((Err(error), _)) | Err(error) => refused(error),
    }
}

#[test]
fn every_capture_has_its_outcome() {
    let ra = ra();
    let all = captures();
    assert_eq!(all.len(), 5, "captures were added or lost: change this number");
    for capture in &all {
        let message = capture.message();
        let expected = capture.field("expect").unwrap();
        let legacy = capture.field("expect-legacy").unwrap_or(expected);
        let got = outcome(&message, LegacyAlgorithms::Refuse, &ra);
        assert_eq!(got, expected, "{}", capture.name);
        let got = outcome(&message, LegacyAlgorithms::Accept, &ra);
        assert_eq!(got, legacy, "{} on a legacy endpoint", capture.name);
    }
}

#[test]
fn every_capture_can_be_answered_even_unverified() {
    let ra = ra();
    for capture in captures() {
        let context = salvage(&capture.message(), &Limits::default()).unwrap();
        assert!(context.signer().is_some(), "{}", capture.name);
        assert!(context.failure(&ra, FailInfo::BadAlg, "des-cbc", &AwsLc).is_ok());
    }
}
