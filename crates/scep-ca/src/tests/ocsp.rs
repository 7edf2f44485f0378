//! OCSP: requests as OpenSSL writes them, answers as it reads them, and what is refused.

use super::crl::{leaf, pem};
use super::{DAY, NOW, key, name, new, openssl, root};
use crate::tbs::oid;
use crate::{
    CaError, LocalCa, LocalCaSettings, MAX_OCSP_NONCE, MAX_OCSP_REQUEST, MAX_OCSP_REQUESTS,
    OcspFailure, OcspIssuer, OcspRequest, OcspRequestError, OcspSigner, OcspStatement, OcspStatus,
};
use core::time::Duration;
use scep_keys::AwsLc;
use scep_ledger::RevocationReason;
use scep_types::tlv::{self, tag};
use scep_types::{CertificateDer, KeyAlgorithm, ObjectIdentifier, SerialNumber};
use std::path::Path;
use std::sync::Arc;

const HOUR: Duration = Duration::from_secs(3_600);

fn serial(n: u8) -> SerialNumber {
    SerialNumber::from_random([n; 16])
}

fn ca(algorithm: KeyAlgorithm) -> (LocalCa, CertificateDer) {
    let ca_key = key(algorithm);
    let certificate = root(&*ca_key);
    (new(&ca_key, &[&certificate]).unwrap(), certificate)
}

fn signer(ca: &LocalCa) -> OcspSigner {
    ca.ocsp_signer(key(KeyAlgorithm::P256), &name("CN=OCSP"), DAY * 7, NOW).unwrap()
}

/// One with everything that may vary.
fn request(ids: &[Vec<u8>], extensions: &[Vec<u8>]) -> Vec<u8> {
    let list: Vec<u8> = ids.iter().flat_map(|id| tlv::sequence(&[id])).collect();
    let list = tlv::encode(tag::SEQUENCE, &list);
    let extensions = if extensions.is_empty() {
        Vec::new()
    } else {
        let all = tlv::encode(tag::SEQUENCE, &extensions.concat());
        tlv::encode(tag::context_constructed(2), &all)
    };
    tlv::sequence(&[&tlv::sequence(&[&list, &extensions])])
}

fn id(ca: &CertificateDer, serial: &SerialNumber) -> Vec<u8> {
    use sha1::{Digest, Sha1};
    let algorithm = ObjectIdentifier::new_unwrap("1.3.14.3.2.26");
    let key = super::super::ocsp::key_bits(ca.spki()).unwrap();
    tlv::sequence(&[
        &tlv::sequence(&[&tlv::oid(&algorithm)]),
        &tlv::encode(tag::OCTET_STRING, &Sha1::digest(ca.subject_der())),
        &tlv::encode(tag::OCTET_STRING, &Sha1::digest(key)),
        &tlv::encode(tag::INTEGER, serial.as_content()),
    ])
}

fn extension(oid: &str, critical: bool, value: &[u8]) -> Vec<u8> {
    let oid = tlv::oid(&ObjectIdentifier::new_unwrap(oid));
    let flag: &[u8] = if critical { &[tag::BOOLEAN, 1, 0xff] } else { &[] };
    tlv::sequence(&[&oid, flag, &tlv::encode(tag::OCTET_STRING, value)])
}

fn nonce(octets: usize) -> Vec<u8> {
    let value = tlv::encode(tag::OCTET_STRING, &vec![7; octets]);
    extension("1.3.6.1.5.5.7.48.1.2", false, &value)
}

/// Asks with OpenSSL, answers here, and has OpenSSL verify the answer: what it says about the certificate.
fn ask(
    folder: &Path,
    answer: impl FnOnce(OcspRequest) -> Vec<u8>,
    more: &[&str],
) -> Result<String, String> {
    let test = "openssl_verifies_the_answers_of_the_delegated_signer";
    let mut make = vec!["ocsp", "-issuer", "root.pem", "-reqout", "request.der"];
    make.extend_from_slice(more);
    openssl(test, folder, &make).unwrap().unwrap();
    let request = OcspRequest::parse(&std::fs::read(folder.join("request.der")).unwrap()).unwrap();
    std::fs::write(folder.join("answer.der"), answer(request)).unwrap();
    let at = NOW.seconds().to_string();
    let mut verify =
        vec!["ocsp", "-issuer", "root.pem", "-respin", "answer.der", "-CAfile", "root.pem"];
    // It compares thisUpdate with the real time, and lies in the past.
    verify.extend_from_slice(&["-attime", &at, "-validity_period", "3000000000"]);
    verify.extend_from_slice(more);
    // A nonce of its own would be compared with the one of the first request.
    verify.push("-no_nonce");
    openssl(test, folder, &verify).unwrap()
}

#[test]
fn openssl_verifies_the_answers_of_the_delegated_signer() {
    let test = "openssl_verifies_the_answers_of_the_delegated_signer";
    for algorithm in [KeyAlgorithm::P256, KeyAlgorithm::P384, KeyAlgorithm::Rsa(2048)] {
        let (ca, root) = ca(algorithm);
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        if !pem(test, folder, "x509", "root", root.as_der()) {
            return;
        }
        pem(test, folder, "x509", "leaf", leaf(&ca, &serial(1)).as_der());
        let (issuer, signer) = (OcspIssuer::of(&root).unwrap(), signer(&ca));
        let says = |status| {
            let (issuer, signer) = (&issuer, &signer);
            move |request: OcspRequest| {
                let [certificate] = &request.certificates[..] else { panic!("{request:?}") };
                assert!(issuer.is_named_by(certificate));
                assert_eq!(certificate.serial(), Some(serial(1)));
                let statement = OcspStatement { certificate, status };
                signer.sign(&[statement], request.nonce.as_deref(), NOW, HOUR).unwrap()
            }
        };
        for digest in ["-sha1", "-sha256"] {
            let revoked = |reason| OcspStatus::Revoked { at: NOW.minus(DAY), reason };
            for (status, shown) in [
                (OcspStatus::Good, "leaf.pem: good"),
                (OcspStatus::Unknown, "leaf.pem: unknown"),
                (revoked(RevocationReason::Unspecified), "leaf.pem: revoked"),
                (revoked(RevocationReason::KeyCompromise), "Reason: keyCompromise"),
            ] {
                let said = ask(folder, says(status), &[digest, "-cert", "leaf.pem"]).unwrap();
                assert!(said.contains(shown), "{algorithm}: {said}");
                assert!(said.contains("Next Update"), "{said}");
            }
        }
        // An answer that was changed does not verify, nor one that another CA's signer gave.
        let changed = |request: OcspRequest| {
            let mut der = says(OcspStatus::Good)(request);
            let at = der.windows(4).position(|w| w == [0x80, 0, 0x18, 0x0f]).unwrap();
            der[at] = 0x82;
            der
        };
        let refused = ask(folder, changed, &["-cert", "leaf.pem"]).unwrap_err();
        assert!(refused.contains("Response Verify Failure"), "{refused}");
        let (stranger, _) = self::ca(algorithm);
        let stranger = self::signer(&stranger);
        let foreign = |request: OcspRequest| {
            let certificate = &request.certificates[0];
            let good = OcspStatement { certificate, status: OcspStatus::Good };
            stranger.sign(&[good], None, NOW, HOUR).unwrap()
        };
        let refused = ask(folder, foreign, &["-cert", "leaf.pem"]).unwrap_err();
        assert!(refused.contains("Response Verify Failure"), "{refused}");
    }
}

#[test]
fn the_delegated_certificate_signs_answers_and_nothing_else() {
    let (ca, _) = ca(KeyAlgorithm::P256);
    let certificate = signer(&ca).certificate().clone();
    ca.check_issued(&certificate).unwrap();
    assert_eq!(certificate.extension(&oid::OCSP_NO_CHECK), Some(&[5, 0][..]));
    let usage = certificate.extension(&oid::EXTENDED_KEY_USAGE).unwrap();
    let signing = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.9");
    assert_eq!(usage, tlv::sequence(&[&tlv::oid(&signing)]));
    assert_eq!(certificate.extension(&oid::BASIC_CONSTRAINTS), Some(&[0x30, 0][..]));
    assert_eq!(certificate.not_after(), NOW.plus(DAY * 7));

    // An answer never outlives its signer.
    let signer = signer(&ca);
    let request = request(&[id(&ca_certificate(&ca), &serial(1))], &[]);
    let request = OcspRequest::parse(&request).unwrap();
    let good = OcspStatement { certificate: &request.certificates[0], status: OcspStatus::Good };
    let late = NOW.plus(DAY * 7).minus(Duration::from_secs(60));
    let answer = signer.sign(&[good], None, late, HOUR).unwrap();
    let (y, mo, d, h, mi, s) = NOW.plus(DAY * 7).civil();
    let end = format!("{y:04}{mo:02}{d:02}{h:02}{mi:02}{s:02}Z");
    assert!(answer.windows(end.len()).any(|w| w == end.as_bytes()));
    let over = signer.sign(&[good], None, NOW.plus(DAY * 7), HOUR);
    assert_eq!(over, Err(CaError::EmptyValidity));
}

fn ca_certificate(ca: &LocalCa) -> CertificateDer {
    use crate::CertificateAuthority as _;
    ca.chain()[0].clone()
}

#[test]
fn only_certificates_of_devices_name_the_responder() {
    let (ca_key, url) = (key(KeyAlgorithm::P256), "http://pki.example.org/ocsp");
    let settings = LocalCaSettings { ocsp_urls: vec![url.into()], ..LocalCaSettings::default() };
    let ca = LocalCa::new(Arc::clone(&ca_key), root(&*ca_key), vec![], settings, Arc::new(AwsLc));
    let ca = ca.unwrap();
    let names = |certificate: &CertificateDer| {
        certificate.as_der().windows(url.len()).any(|w| w == url.as_bytes())
    };
    assert!(names(&leaf(&ca, &serial(1))));
    assert!(!names(signer(&ca).certificate()));
}

#[test]
fn a_request_is_for_the_ca_whose_name_and_key_it_has() {
    let ((_, ours), (_, other)) = (ca(KeyAlgorithm::P256), ca(KeyAlgorithm::P256));
    let issuer = OcspIssuer::of(&ours).unwrap();
    let named = |id: Vec<u8>| {
        let request = OcspRequest::parse(&request(&[id], &[])).unwrap();
        issuer.is_named_by(&request.certificates[0])
    };
    assert!(named(id(&ours, &serial(1))));
    // The same name, and another key.
    assert!(!named(id(&other, &serial(1))));
    // A digest that is not known names nobody.
    let mut md5 = id(&ours, &serial(1));
    let at = md5.windows(5).position(|w| w == [0x2b, 0x0e, 0x03, 0x02, 0x1a]).unwrap();
    md5[at + 4] = 0x1b;
    assert!(!named(md5));
}

#[test]
fn attack_59_what_is_beyond_a_limit_is_malformed() {
    let (_, ours) = ca(KeyAlgorithm::P256);
    let one = id(&ours, &serial(1));
    let parse = |ids: usize, extensions: &[Vec<u8>]| {
        OcspRequest::parse(&request(&vec![one.clone(); ids], extensions))
    };
    assert_eq!(parse(MAX_OCSP_REQUESTS, &[]).unwrap().certificates.len(), MAX_OCSP_REQUESTS);
    let count = OcspRequestError::Count { max: MAX_OCSP_REQUESTS };
    assert_eq!(parse(0, &[]), Err(count.clone()));
    assert_eq!(parse(MAX_OCSP_REQUESTS + 1, &[]), Err(count));

    for octets in [1, MAX_OCSP_NONCE] {
        assert_eq!(parse(1, &[nonce(octets)]).unwrap().nonce, Some(vec![7; octets]));
    }
    let refused = OcspRequestError::Nonce { max: MAX_OCSP_NONCE };
    for bad in [vec![nonce(0)], vec![nonce(MAX_OCSP_NONCE + 1)], vec![nonce(8), nonce(8)]] {
        assert_eq!(parse(1, &bad), Err(refused.clone()));
    }
    // Without the OCTET STRING around it, it is none.
    let bare = extension("1.3.6.1.5.5.7.48.1.2", false, &[7; 16]);
    assert!(matches!(parse(1, &[bare]), Err(OcspRequestError::Malformed(_))));

    let other = "1.3.6.1.5.5.7.48.1.99";
    assert!(parse(1, &[extension(other, false, b"?")]).is_ok(), "ignored (RFC 6960, 4.4)");
    let oid = ObjectIdentifier::new_unwrap(other);
    assert_eq!(parse(1, &[extension(other, true, b"?")]), Err(OcspRequestError::Critical { oid }));
    let long = parse(1, &[extension(other, false, &[0; MAX_OCSP_REQUEST])]);
    assert!(matches!(long, Err(OcspRequestError::TooLong { .. })));
}

#[test]
fn attack_59_what_is_not_a_request_is_malformed_wherever_it_is_cut() {
    let (_, ours) = ca(KeyAlgorithm::P256);
    let whole = request(&[id(&ours, &serial(1))], &[nonce(16)]);
    OcspRequest::parse(&whole).unwrap();
    for end in 0..whole.len() {
        OcspRequest::parse(&whole[..end]).unwrap_err();
    }
    OcspRequest::parse(&[&whole[..], b"\0"].concat()).unwrap_err();
    let tbs = tlv::sequence(&[&tlv::encode(tag::context_constructed(0), &tlv::small_int(1))]);
    assert_eq!(OcspRequest::parse(&tlv::sequence(&[&tbs])), Err(OcspRequestError::Version));
    for (failure, code) in [
        (OcspFailure::MalformedRequest, 1),
        (OcspFailure::InternalError, 2),
        (OcspFailure::TryLater, 3),
        (OcspFailure::Unauthorized, 6),
    ] {
        assert_eq!(failure.to_der(), [0x30, 3, 0x0a, 1, code]);
    }
}
