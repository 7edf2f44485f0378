//! CRLs, read by our own reader and by OpenSSL.

use super::{DAY, NOW, ca, contents, key, name, new, openssl, root, serial};
use crate::{CaError, CertificateAuthority, CrlOrder, LocalCa, Revocation, Revoked};
use core::time::Duration;
use scep_keys::AwsLc;
use scep_ledger::{CrlEntry, RevocationReason};
use scep_types::{
    CertificateDer, CryptoProvider, KeyAlgorithm, SerialNumber, SignatureScheme, Timestamp,
};
use std::path::Path;
use std::process::Command;

fn number(octets: &[u8]) -> SerialNumber {
    SerialNumber::from_content(octets).unwrap()
}

fn entry(serial: &SerialNumber, reason: RevocationReason) -> CrlEntry {
    CrlEntry { serial: serial.clone(), revoked_at: NOW, reason }
}

fn week(entries: &[CrlEntry]) -> CrlOrder<'_> {
    CrlOrder::new(entries, 7, NOW, DAY * 7)
}

pub(super) fn leaf(ca: &LocalCa, serial: &SerialNumber) -> CertificateDer {
    ca.certify(&contents(key(KeyAlgorithm::P256).public_key()), serial).unwrap()
}

/// Converts to PEM, which `openssl verify` of all versions takes; false: no OpenSSL.
pub(super) fn pem(test: &str, folder: &Path, kind: &str, file: &str, der: &[u8]) -> bool {
    let from = format!("{file}.der");
    std::fs::write(folder.join(&from), der).unwrap();
    let to = format!("{file}.pem");
    match openssl(test, folder, &[kind, "-inform", "DER", "-in", &from, "-out", &to]) {
        Some(result) => {
            result.unwrap();
            true
        }
        None => false,
    }
}

/// What `openssl crl -verify` says; its exit code is the same either way.
fn verdict(folder: &Path) -> String {
    let output = Command::new("openssl")
        .args(["crl", "-in", "crl.pem", "-CAfile", "root.pem", "-verify", "-noout"])
        .current_dir(folder)
        .output()
        .unwrap();
    String::from_utf8(output.stderr).unwrap() + &String::from_utf8(output.stdout).unwrap()
}

#[test]
fn openssl_verifies_the_crl_and_refuses_what_it_lists() {
    let test = "openssl_verifies_the_crl_and_refuses_what_it_lists";
    for algorithm in [KeyAlgorithm::P256, KeyAlgorithm::P384, KeyAlgorithm::Rsa(2048)] {
        let root_key = key(algorithm);
        let root_certificate = root(&*root_key);
        let ca = new(&root_key, &[&root_certificate]).unwrap();
        let (bad, good) = (SerialNumber::from_random([1; 16]), SerialNumber::from_random([2; 16]));
        let entries = [
            entry(&bad, RevocationReason::KeyCompromise),
            entry(&number(&[0x10]), RevocationReason::Unspecified),
        ];
        let crl = ca.sign_crl(&week(&entries)).unwrap();

        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        if !pem(test, folder, "x509", "root", root_certificate.as_der()) {
            return;
        }
        pem(test, folder, "x509", "bad", leaf(&ca, &bad).as_der());
        pem(test, folder, "x509", "good", leaf(&ca, &good).as_der());
        pem(test, folder, "crl", "crl", crl.as_der());
        assert!(verdict(folder).contains("verify OK"));
        let arguments = ["crl", "-in", "crl.pem", "-noout", "-text"];
        let text = openssl(test, folder, &arguments).unwrap().unwrap();
        assert!(text.contains("Version 2"), "{text}");
        assert!(text.contains("X509v3 Authority Key Identifier"), "{text}");
        assert!(text.contains("X509v3 CRL Number: \n                7"), "{text}");
        assert_eq!(text.matches("Serial Number:").count(), 2, "{text}");
        assert_eq!(text.matches("CRL Reason Code").count(), 1, "unspecified is left out: {text}");
        assert!(text.contains("Key Compromise"), "{text}");

        let now = NOW.seconds().to_string();
        let check = |certificate: &str| {
            let arguments = [
                "verify",
                "-attime",
                &now,
                "-crl_check",
                "-CAfile",
                "root.pem",
                "-CRLfile",
                "crl.pem",
                certificate,
            ];
            openssl(test, folder, &arguments).unwrap()
        };
        check("good.pem").unwrap();
        let refused = check("bad.pem").unwrap_err();
        assert!(refused.contains("certificate revoked"), "{refused}");
        // And not by somebody else's CRL.
        let stranger = key(algorithm);
        let forged = new(&stranger, &[&root(&*stranger)]).unwrap().sign_crl(&week(&[])).unwrap();
        pem(test, folder, "crl", "crl", forged.as_der());
        check("bad.pem").unwrap_err();
        assert!(verdict(folder).contains("verify failure"));
    }
}

#[test]
fn entries_are_sorted_as_numbers_and_listed_once() {
    let ca = ca();
    let numbers = [&[0x7f, 1][..], &[0x02], &[0, 0x80], &[0x11; 16], &[0x02]];
    let entries: Vec<_> =
        numbers.iter().map(|octets| entry(&number(octets), RevocationReason::Superseded)).collect();
    let crl = ca.sign_crl(&week(&entries)).unwrap();
    let listed: Vec<&[u8]> = crl.serials().collect();
    assert_eq!(listed, [&[0x02][..], &[0, 0x80], &[0x7f, 1], &[0x11; 16]]);
    assert!(crl.contains(&number(&[0x02])) && !crl.contains(&number(&[0x03])));
}

#[test]
fn the_crl_is_the_cas_and_says_when_it_ends() {
    let ca = ca();
    let crl = ca.sign_crl(&week(&[])).unwrap();
    assert_eq!(crl.issuer_der(), ca.chain()[0].subject_der());
    assert_eq!(crl.number(), Some(7));
    assert_eq!((crl.this_update(), crl.next_update()), (NOW, Some(NOW.plus(DAY * 7))));
    assert_eq!(crl.serials().count(), 0);
    AwsLc
        .verify(ca.chain()[0].spki(), SignatureScheme::EcdsaSha256, crl.tbs_der(), crl.signature())
        .unwrap();
    let never = CrlOrder::new(&[], 8, NOW, Duration::ZERO);
    assert_eq!(ca.sign_crl(&never).unwrap_err(), CaError::EmptyValidity);
}

#[test]
fn a_ca_that_may_not_sign_crls_does_not() {
    use crate::tbs::{Extensions, Parts, Role, certificate};
    use scep_types::KeyUsages;
    let key = key(KeyAlgorithm::P256);
    let dn = name("CN=No CRLs").to_der();
    let mut extensions = Extensions::default();
    extensions.basic_constraints(Role::Root);
    extensions.key_usage(KeyUsages::KEY_CERT_SIGN);
    extensions.subject_key_id(key.public_key());
    let parts = Parts {
        serial: &serial(),
        issuer: &dn,
        not_before: NOW,
        not_after: Timestamp::MAX,
        subject: &dn,
        spki: key.public_key(),
        extensions,
    };
    let root = certificate(parts, &*key, SignatureScheme::EcdsaSha256).unwrap();
    let ca = new(&key, &[&root]).unwrap();
    assert_eq!(ca.sign_crl(&week(&[])).unwrap_err(), CaError::NoCrlSign);
}

#[test]
fn a_hundred_thousand_entries_are_one_crl() {
    let entries: Vec<_> = (0..100_000_u32)
        .map(|n| {
            let mut octets = [0x5a; 16];
            octets[4..8].copy_from_slice(&n.reverse_bits().to_be_bytes());
            entry(&SerialNumber::from_random(octets), RevocationReason::CessationOfOperation)
        })
        .collect();
    let crl = ca().sign_crl(&week(&entries)).unwrap();
    assert_eq!(crl.serials().count(), entries.len());
    assert!(crl.serials().is_sorted());
}

#[tokio::test]
async fn a_revocation_is_the_same_however_often_it_is_asked_for() {
    let ca = ca();
    let what = Revocation { serial: &serial(), reason: RevocationReason::KeyCompromise, now: NOW };
    for _ in 0..2 {
        assert_eq!(ca.revoke(&what).await, Ok(Revoked { at: NOW }));
    }
}
