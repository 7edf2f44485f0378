//! Certificates, read by our own reader and by OpenSSL.

mod crl;
mod ocsp;

use crate::tbs::{Criticality, Extensions, Parts, Role, certificate, oid};
use crate::{
    CaError, CanRevoke, CertificateAuthority, Found, InfrastructurePurpose, LocalCa,
    LocalCaSettings, Recover, Wanted,
};
use core::time::Duration;
use scep_challenge::ExtraExtension;
use scep_keys::{AwsLc, SoftwareKey};
use scep_policy::CertificateContents;
use scep_types::tlv::{self, tag};
use scep_types::{
    CertificateDer, CsrInfoHash, DistinguishedName, ExtendedKeyUsages, Fault, GeneralName,
    KeyAlgorithm, KeyError, KeyUsages, ObjectIdentifier, SerialNumber, SignatureScheme, Signer,
    SpkiDer, Timestamp,
};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);
const DAY: Duration = Duration::from_secs(86_400);

fn key(algorithm: KeyAlgorithm) -> Arc<dyn Signer> {
    SoftwareKey::generate(algorithm).unwrap().signer()
}

fn name(text: &str) -> DistinguishedName {
    text.parse().unwrap()
}

fn settings() -> LocalCaSettings {
    LocalCaSettings {
        crl_urls: vec![
            "http://pki.example.org/ca.crl".into(),
            "http://mirror.example.org/ca.crl".into(),
        ],
        issuer_urls: vec!["http://pki.example.org/ca.cer".into()],
        ocsp_urls: vec!["http://ocsp.example.org".into()],
    }
}

fn root(key: &dyn Signer) -> CertificateDer {
    LocalCa::self_signed_root(key, &name("O=Example, CN=Root"), DAY * 3650, NOW, &AwsLc).unwrap()
}

fn new(key: &Arc<dyn Signer>, chain: &[&CertificateDer]) -> Result<LocalCa, CaError> {
    let mut chain = chain.iter().map(|c| (*c).clone());
    let first = chain.next().unwrap();
    LocalCa::new(key.clone(), first, chain.collect(), settings(), Arc::new(AwsLc))
}

fn ca() -> LocalCa {
    let key = key(KeyAlgorithm::P256);
    new(&key, &[&root(&*key)]).unwrap()
}

fn serial() -> SerialNumber {
    SerialNumber::from_random([0x5a; 16])
}

/// SID of a user, as Windows wants it in certificates.
fn sid() -> ExtraExtension {
    ExtraExtension {
        oid: ObjectIdentifier::new_unwrap("1.3.6.1.4.1.311.25.2"),
        critical: false,
        value: tlv::sequence(&[]),
    }
}

fn contents(spki: &SpkiDer) -> CertificateContents {
    let client = ExtendedKeyUsages::purpose("clientAuth").unwrap();
    CertificateContents {
        subject: name(r"C=CH, O=Example\, Inc., CN=device-7"),
        subject_alt_names: vec![
            GeneralName::dns("device-7.example.org").unwrap(),
            GeneralName::upn("device-7@example.org").unwrap(),
        ],
        key_usage: KeyUsages::DIGITAL_SIGNATURE.union(KeyUsages::KEY_ENCIPHERMENT),
        extended_key_usages: ExtendedKeyUsages::new(vec![client]).unwrap(),
        spki: spki.clone(),
        not_before: NOW.minus(Duration::from_secs(300)),
        not_after: NOW.plus(DAY * 365),
        extensions: vec![sid()],
    }
}

/// Runs OpenSSL in a folder; its standard output, or its standard error when it fails. `None`: not installed.
fn openssl(test: &str, folder: &Path, arguments: &[&str]) -> Option<Result<String, String>> {
    match Command::new("openssl").args(arguments).current_dir(folder).output() {
        Ok(output) if output.status.success() => {
            Some(Ok(String::from_utf8_lossy(&output.stdout).into_owned()))
        }
        Ok(output) => Some(Err(String::from_utf8_lossy(&output.stderr).into_owned())),
        Err(error) => {
            assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "openssl: {error}");
            eprintln!("SKIPPED {test}: openssl is missing");
            None
        }
    }
}

#[test]
fn openssl_verifies_leaf_subordinate_and_root() {
    for algorithm in [KeyAlgorithm::P256, KeyAlgorithm::P384, KeyAlgorithm::Rsa(2048)] {
        let root_key = key(algorithm);
        let root_certificate = root(&*root_key);
        let root_ca = new(&root_key, &[&root_certificate]).unwrap();
        let sub_key = key(algorithm);
        let sub_certificate = root_ca
            .issue_subordinate(sub_key.public_key(), &name("O=Example, CN=Sub"), DAY * 1000, NOW)
            .unwrap();
        let sub = new(&sub_key, &[&sub_certificate, &root_certificate]).unwrap();
        let device = key(KeyAlgorithm::P256);
        let leaf = sub.certify(&contents(device.public_key()), &serial()).unwrap();

        let folder = tempfile::tempdir().unwrap();
        for (file, certificate) in
            [("root", &root_certificate), ("sub", &sub_certificate), ("leaf", &leaf)]
        {
            std::fs::write(folder.path().join(format!("{file}.der")), certificate.as_der())
                .unwrap();
        }
        for file in ["root", "sub", "leaf"] {
            let (der, pem) = (format!("{file}.der"), format!("{file}.pem"));
            let arguments = ["x509", "-inform", "DER", "-in", &der, "-out", &pem];
            let Some(result) =
                openssl("openssl_verifies_leaf_subordinate_and_root", folder.path(), &arguments)
            else {
                return;
            };
            result.unwrap();
        }
        let verify = |attime: Timestamp, untrusted: &str| {
            let attime = attime.seconds().to_string();
            let arguments = [
                "verify",
                "-x509_strict",
                "-attime",
                &attime,
                "-CAfile",
                "root.pem",
                "-untrusted",
                untrusted,
                "leaf.pem",
            ];
            openssl("openssl_verifies", folder.path(), &arguments).unwrap()
        };
        assert_eq!(verify(NOW, "sub.pem"), Ok("leaf.pem: OK\n".into()));
        assert!(verify(NOW, "root.pem").unwrap_err().contains("unable to get local issuer"));
        assert!(verify(NOW.plus(DAY * 366), "sub.pem").unwrap_err().contains("expired"));
    }
}

#[test]
fn openssl_prints_what_the_contents_say() {
    let device = key(KeyAlgorithm::P256);
    let leaf = ca().certify(&contents(device.public_key()), &serial()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("leaf.der"), leaf.as_der()).unwrap();
    let arguments =
        ["x509", "-inform", "DER", "-in", "leaf.der", "-noout", "-text", "-nameopt", "RFC2253"];
    let test = "openssl_prints_what_the_contents_say";
    let Some(text) = openssl(test, folder.path(), &arguments) else { return };
    let text = text.unwrap();
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let at = lines.iter().position(|line| *line == "X509v3 extensions:").unwrap();
    let end = lines.iter().position(|line| line.starts_with("Signature Algorithm: ")).unwrap();
    assert_eq!(lines[end], "Signature Algorithm: ecdsa-with-SHA256");
    for line in [
        "Version: 3 (0x2)",
        "5a:5a:5a:5a:5a:5a:5a:5a:5a:5a:5a:5a:5a:5a:5a:5a",
        "Issuer: CN=Root,O=Example",
        r"Subject: CN=device-7,O=Example\, Inc.,C=CH",
        "Not Before: Jan 15 07:55:00 2027 GMT",
        "Not After : Jan 15 08:00:00 2028 GMT",
    ] {
        assert!(lines.contains(&line), "{line} is missing in {text}");
    }
    let extensions = &lines[at + 1..];
    let expected = [
        "X509v3 Basic Constraints: critical",
        "CA:FALSE",
        "X509v3 Key Usage: critical",
        "Digital Signature, Key Encipherment",
        "X509v3 Extended Key Usage:",
        "TLS Web Client Authentication",
        "X509v3 Subject Alternative Name:",
        "DNS:device-7.example.org, othername: UPN::device-7@example.org",
        "X509v3 Subject Key Identifier:",
    ];
    assert_eq!(&extensions[..expected.len()], expected, "{text}");
    for line in [
        "URI:http://pki.example.org/ca.crl",
        "URI:http://mirror.example.org/ca.crl",
        "OCSP - URI:http://ocsp.example.org",
        "CA Issuers - URI:http://pki.example.org/ca.cer",
        "1.3.6.1.4.1.311.25.2:",
    ] {
        assert!(extensions.contains(&line), "{line} is missing in {text}");
    }
}

#[test]
fn attack_46_the_certificate_is_a_function_of_the_contents() {
    let device = key(KeyAlgorithm::P256);
    let contents = contents(device.public_key());
    let ca = ca();
    let leaf = ca.certify(&contents, &serial()).unwrap();
    assert_eq!(leaf.subject_der(), contents.subject.to_der());
    assert_eq!(leaf.spki(), &contents.spki);
    assert_eq!(leaf.serial(), Some(serial()));
    assert_eq!((leaf.not_before(), leaf.not_after()), (contents.not_before, contents.not_after));
    assert_eq!(leaf.issuer_der(), ca.chain()[0].subject_der());
    let extensions = leaf.extensions().unwrap();
    let criticality: Vec<_> = extensions.iter().map(|e| (e.oid, e.critical)).collect();
    assert_eq!(
        criticality,
        [
            (oid::BASIC_CONSTRAINTS, true),
            (oid::KEY_USAGE, true),
            (oid::EXTENDED_KEY_USAGE, false),
            (oid::SUBJECT_ALT_NAME, false),
            (oid::SUBJECT_KEY_ID, false),
            (oid::AUTHORITY_KEY_ID, false),
            (oid::CRL_POINTS, false),
            (oid::AUTHORITY_INFO, false),
            (sid().oid, false),
        ]
    );
    let value = |oid| leaf.extension(&oid).unwrap().to_vec();
    assert_eq!(value(oid::BASIC_CONSTRAINTS), tlv::sequence(&[]));
    assert_eq!(value(oid::KEY_USAGE), contents.key_usage.to_der());
    assert_eq!(value(oid::EXTENDED_KEY_USAGE), contents.extended_key_usages.to_der());
    assert_eq!(value(oid::SUBJECT_ALT_NAME), GeneralName::list_to_der(&contents.subject_alt_names));
    assert_eq!(leaf.subject_key_id().unwrap(), contents.spki.key_id().as_bytes());
    let ca_key_id = ca.chain()[0].spki().key_id();
    let authority = tlv::sequence(&[&tlv::encode(0x80, ca_key_id.as_bytes())]);
    assert_eq!(value(oid::AUTHORITY_KEY_ID), authority);
    // The same contents and serial number give the same TBSCertificate.
    assert_eq!(ca.certify(&contents, &serial()).unwrap().tbs_der(), leaf.tbs_der());
}

#[test]
fn alternative_names_are_critical_when_there_is_no_subject() {
    let device = key(KeyAlgorithm::P256);
    let nameless = CertificateContents {
        subject: DistinguishedName::empty(),
        ..contents(device.public_key())
    };
    let leaf = ca().certify(&nameless, &serial()).unwrap();
    let san = leaf.extensions().unwrap()[3];
    assert_eq!((san.oid, san.critical), (oid::SUBJECT_ALT_NAME, true));
    // Without alternative names there is no such extension.
    let plain = CertificateContents { subject_alt_names: vec![], ..contents(device.public_key()) };
    assert_eq!(ca().certify(&plain, &serial()).unwrap().extension(&oid::SUBJECT_ALT_NAME), None);
    let nobody = CertificateContents { subject_alt_names: vec![], ..nameless };
    assert_eq!(ca().certify(&nobody, &serial()), Err(CaError::NamesMissing));
}

#[test]
fn attack_39_no_certificate_signs_certificates() {
    let device = key(KeyAlgorithm::P256);
    for usage in [KeyUsages::KEY_CERT_SIGN, KeyUsages::CRL_SIGN] {
        let usages = KeyUsages::DIGITAL_SIGNATURE.union(usage);
        let bad = CertificateContents { key_usage: usages, ..contents(device.public_key()) };
        assert_eq!(ca().certify(&bad, &serial()), Err(CaError::CaUsage { usages }));
    }
}

#[test]
fn attack_43_no_extension_of_a_ca_comes_in_by_the_side_door() {
    let device = key(KeyAlgorithm::P256);
    let with = |extensions| CertificateContents { extensions, ..contents(device.public_key()) };
    let extra = |oid: &str| ExtraExtension {
        oid: ObjectIdentifier::new_unwrap(oid),
        critical: true,
        value: tlv::sequence(&[&[tag::BOOLEAN, 1, 0xff]]),
    };
    for oid in [
        "2.5.29.14",
        "2.5.29.15",
        "2.5.29.17",
        "2.5.29.19",
        "2.5.29.30",
        "2.5.29.31",
        "2.5.29.33",
        "2.5.29.35",
        "2.5.29.36",
        "2.5.29.37",
        "2.5.29.46",
        "2.5.29.54",
        "1.3.6.1.5.5.7.1.1",
        "1.3.6.1.5.5.7.48.1.5",
    ] {
        let bad = with(vec![sid(), extra(oid)]);
        let error = CaError::ReservedExtension { oid: ObjectIdentifier::new_unwrap(oid) };
        assert_eq!(ca().certify(&bad, &serial()), Err(error), "{oid}");
    }
    let twice = with(vec![sid(), sid()]);
    let error = CaError::ReservedExtension { oid: sid().oid };
    assert_eq!(ca().certify(&twice, &serial()), Err(error));
    let critical = extra("1.3.6.1.4.1.311.25.2");
    let leaf = ca().certify(&with(vec![critical.clone()]), &serial()).unwrap();
    let written = *leaf.extensions().unwrap().last().unwrap();
    assert_eq!(
        (written.oid, written.critical, written.value),
        (critical.oid, true, &critical.value[..])
    );
}

#[test]
fn attack_25_the_ca_key_gets_no_other_certificate() {
    let ca_key = key(KeyAlgorithm::Rsa(2048));
    let ca = new(&ca_key, &[&root(&*ca_key)]).unwrap();
    let spki = ca_key.public_key();
    for purpose in [
        InfrastructurePurpose::RaSigning,
        InfrastructurePurpose::RaEncryption,
        InfrastructurePurpose::RaCombined,
    ] {
        let result = ca.issue_infrastructure(purpose, spki, &name("CN=RA"), DAY, NOW);
        assert_eq!(result, Err(CaError::CaKeyReused));
    }
    assert_eq!(ca.issue_subordinate(spki, &name("CN=x"), DAY, NOW), Err(CaError::CaKeyReused));
    // Row 44: not for a device either.
    assert_eq!(ca.certify(&contents(spki), &serial()), Err(CaError::CaKeyReused));
}

#[test]
fn a_certificate_that_would_outlive_its_ca_is_refused_and_not_shortened() {
    let root_key = key(KeyAlgorithm::P256);
    let short_root =
        LocalCa::self_signed_root(&*root_key, &name("CN=Root"), DAY * 100, NOW, &AwsLc).unwrap();
    let ca = new(&root_key, &[&short_root]).unwrap();
    let device = key(KeyAlgorithm::P256);
    let end = NOW.plus(DAY * 100);
    let until = |not_after| CertificateContents { not_after, ..contents(device.public_key()) };
    assert_eq!(ca.certify(&until(end), &serial()).unwrap().not_after(), end);
    let late = end.plus(Duration::from_secs(1));
    let error = CaError::OutlivesCa { not_after: late, ca: end };
    assert_eq!(ca.certify(&until(late), &serial()), Err(error));

    // Nor any other CA above it, whatever the issuing CA's own certificate says.
    let (sub_key, last) = (key(KeyAlgorithm::P256), key(KeyAlgorithm::P256));
    let long_sub = by(&*root_key, &short_root, &*sub_key, |parts| {
        parts.not_after = NOW.plus(DAY * 200);
    });
    let ca = new(&sub_key, &[&long_sub, &short_root]).unwrap();
    let error = CaError::OutlivesCa { not_after: late, ca: end };
    assert_eq!(ca.certify(&until(late), &serial()), Err(error.clone()));
    assert_eq!(
        ca.issue_infrastructure(
            InfrastructurePurpose::RaSigning,
            last.public_key(),
            &name("CN=RA"),
            DAY * 100 + Duration::from_secs(1),
            NOW
        ),
        Err(error)
    );
    let never = CertificateContents { not_after: NOW, not_before: NOW, ..until(end) };
    assert_eq!(ca.certify(&never, &serial()), Err(CaError::EmptyValidity));
}

#[test]
fn infrastructure_certificates_have_the_usages_of_their_purpose() {
    let ca = ca();
    let signing = KeyUsages::DIGITAL_SIGNATURE;
    let enciphering = KeyUsages::KEY_ENCIPHERMENT;
    let server = ExtendedKeyUsages::purpose("serverAuth").unwrap();
    let server = ExtendedKeyUsages::new(vec![server]).unwrap().to_der();
    let client = ExtendedKeyUsages::purpose("clientAuth").unwrap();
    let client = ExtendedKeyUsages::new(vec![client]).unwrap().to_der();
    let host = InfrastructurePurpose::TlsServer {
        dns_names: vec!["issuer.example.org".into()],
        addresses: vec!["192.0.2.7".parse().unwrap(), "2001:db8::7".parse().unwrap()],
    };
    let rsa = key(KeyAlgorithm::Rsa(2048));
    for (purpose, usages, extended) in [
        (InfrastructurePurpose::RaSigning, signing, None),
        (InfrastructurePurpose::RaEncryption, enciphering, None),
        (InfrastructurePurpose::RaCombined, signing.union(enciphering), Some(&server[..])),
        (InfrastructurePurpose::Connector, signing, Some(&client[..])),
        (host.clone(), signing, Some(&server[..])),
    ] {
        let issue = |purpose| {
            ca.issue_infrastructure(purpose, rsa.public_key(), &name("CN=RA"), DAY, NOW).unwrap()
        };
        let certificate = issue(purpose.clone());
        let names = certificate.extension(&oid::SUBJECT_ALT_NAME);
        assert_eq!(names.is_some(), purpose == host, "{purpose:?}");
        assert_eq!(certificate.extension(&oid::KEY_USAGE), Some(&usages.to_der()[..]));
        assert_eq!(certificate.extension(&oid::EXTENDED_KEY_USAGE), extended, "{purpose:?}");
        assert_eq!(certificate.extension(&oid::BASIC_CONSTRAINTS), Some(&[0x30, 0][..]));
        assert_eq!(certificate.not_before(), NOW.minus(Duration::from_secs(300)));
        assert_eq!(certificate.not_after(), NOW.plus(DAY));
        assert_ne!(certificate.serial(), None);
    }
    let ec = key(KeyAlgorithm::P256);
    let issue = |purpose, subject: &str, validity| {
        ca.issue_infrastructure(purpose, ec.public_key(), &name(subject), validity, NOW)
    };
    for purpose in [InfrastructurePurpose::RaSigning, InfrastructurePurpose::Connector, host] {
        assert!(issue(purpose.clone(), "CN=RA", DAY).is_ok(), "{purpose:?}");
    }
    let got = KeyAlgorithm::P256;
    for purpose in [InfrastructurePurpose::RaEncryption, InfrastructurePurpose::RaCombined] {
        assert_eq!(issue(purpose, "CN=RA", DAY), Err(CaError::KeyCannotEncipher { got }));
    }
    let signing = InfrastructurePurpose::RaSigning;
    assert_eq!(issue(signing.clone(), "", DAY), Err(CaError::SubjectMissing));
    let never = issue(signing.clone(), "CN=RA", Duration::ZERO);
    assert_eq!(never, Err(CaError::EmptyValidity));
    let weak = SpkiDer::from_rsa_parts(&[0xff; 128], &[1, 0, 1]).unwrap();
    assert_eq!(
        ca.issue_infrastructure(signing, &weak, &name("CN=RA"), DAY, NOW),
        Err(CaError::KeyNotAllowed { got: KeyAlgorithm::Rsa(1024) })
    );
    // The link's keys are P-256 or RSA.
    let got = KeyAlgorithm::P384;
    let connector = InfrastructurePurpose::Connector;
    assert_eq!(
        ca.issue_infrastructure(connector, key(got).public_key(), &name("CN=c"), DAY, NOW),
        Err(CaError::KeyNotAllowed { got })
    );
}

#[test]
fn the_names_of_a_tls_server_are_whole_and_one_at_least() {
    let ca = ca();
    let key = key(KeyAlgorithm::P256);
    let issue = |dns_names: &[&str], addresses: &[&str]| {
        let purpose = InfrastructurePurpose::TlsServer {
            dns_names: dns_names.iter().map(|name| (*name).to_owned()).collect(),
            addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        };
        ca.issue_infrastructure(purpose, key.public_key(), &name("CN=issuer"), DAY, NOW)
    };
    let certificate = issue(&["issuer.example.org"], &["::1"]).unwrap();
    let names = certificate.extension(&oid::SUBJECT_ALT_NAME).unwrap();
    let read = GeneralName::list_from_der(names, scep_types::StringRules::Strict).unwrap();
    let address = GeneralName::ip("::1".parse().unwrap());
    assert_eq!(read, [GeneralName::dns("issuer.example.org").unwrap(), address]);
    assert_eq!(issue(&[], &[]), Err(CaError::NamesMissing));
    for wrong in ["*.example.org", "", "a b", "ünï"] {
        assert!(matches!(issue(&[wrong], &[]), Err(CaError::ServerName(_))), "{wrong}");
    }
}

#[test]
fn the_name_of_the_ca_is_given_to_nobody_else() {
    let device = key(KeyAlgorithm::P256);
    let subject = name("O=Example, CN=Root");
    let bad = CertificateContents { subject: subject.clone(), ..contents(device.public_key()) };
    assert_eq!(ca().certify(&bad, &serial()), Err(CaError::CaNameReused));
    let subordinate = ca().issue_subordinate(device.public_key(), &subject, DAY, NOW);
    assert_eq!(subordinate, Err(CaError::CaNameReused));
}

/// A CA certificate out of its good parts with one change, signed by another CA.
fn by(
    issuer_key: &dyn Signer,
    issuer: &CertificateDer,
    subject_key: &dyn Signer,
    change: impl FnOnce(&mut Parts<'_>),
) -> CertificateDer {
    let subject = name("O=Example, CN=Sub").to_der();
    let mut extensions = Extensions::default();
    extensions.basic_constraints(Role::LastCa);
    extensions.key_usage(KeyUsages::KEY_CERT_SIGN);
    extensions.subject_key_id(subject_key.public_key());
    let mut parts = Parts {
        serial: &serial(),
        issuer: issuer.subject_der(),
        not_before: NOW,
        not_after: NOW.plus(DAY * 50),
        subject: &subject,
        spki: subject_key.public_key(),
        extensions,
    };
    change(&mut parts);
    let scheme = SignatureScheme::default_for(issuer_key.public_key().algorithm());
    certificate(parts, issuer_key, scheme).unwrap()
}

#[test]
fn a_chain_that_does_not_hold_together_is_refused() {
    let (root_key, sub_key) = (key(KeyAlgorithm::P256), key(KeyAlgorithm::P256));
    let root_certificate = root(&*root_key);
    let sub = |change: fn(&mut Parts<'_>)| by(&*root_key, &root_certificate, &*sub_key, change);
    let with_root = |certificate| new(&sub_key, &[&certificate, &root_certificate]).map(|_| ());
    assert_eq!(with_root(sub(|_| ())), Ok(()));
    assert!(new(&sub_key, &[&sub(|_| ())]).is_ok(), "the root may be left out");

    let other = key(KeyAlgorithm::P256);
    assert_eq!(new(&other, &[&root_certificate]).unwrap_err(), CaError::KeyMismatch);

    let with = |extensions: Vec<(ObjectIdentifier, Vec<u8>)>| {
        let mut list = Extensions::default();
        for (oid, value) in extensions {
            list.push(&oid, Criticality::Critical, &value);
        }
        by(&*root_key, &root_certificate, &*sub_key, |parts| parts.extensions = list)
    };
    let ca_true = (oid::BASIC_CONSTRAINTS, tlv::sequence(&[&[1, 1, 0xff]]));
    let ca_false = (oid::BASIC_CONSTRAINTS, tlv::sequence(&[]));
    let sign = (oid::KEY_USAGE, KeyUsages::KEY_CERT_SIGN.to_der());
    let no_sign = (oid::KEY_USAGE, KeyUsages::CRL_SIGN.to_der());
    let key_id = (oid::SUBJECT_KEY_ID, tlv::encode(tag::OCTET_STRING, &[7; 20]));
    let not_a_ca = Err(CaError::NotACa { position: 0 });
    assert_eq!(with_root(with(vec![ca_true.clone(), sign.clone(), key_id.clone()])), Ok(()));
    for extensions in [
        vec![sign.clone(), key_id.clone()],
        vec![ca_false, sign.clone(), key_id.clone()],
        vec![ca_true.clone(), key_id.clone()],
        vec![ca_true.clone(), no_sign, key_id.clone()],
    ] {
        assert_eq!(with_root(with(extensions)), not_a_ca);
    }
    assert_eq!(with_root(with(vec![ca_true, sign.clone()])), Err(CaError::NoSubjectKeyId));
    let trailing = (oid::BASIC_CONSTRAINTS, tlv::sequence(&[&[1, 1, 0xff, 2, 1, 0, 5, 0]]));
    assert!(matches!(
        with_root(with(vec![trailing, sign, key_id])),
        Err(CaError::Extension { position: 0, .. })
    ));
    let never = sub(|parts| parts.not_after = parts.not_before);
    assert_eq!(with_root(never), Err(CaError::NeverValid { position: 0 }));

    // Another root of the same name, and one of another name.
    let impostor = root(&*other);
    assert_eq!(
        new(&sub_key, &[&sub(|_| ()), &impostor]).unwrap_err(),
        CaError::ChainSignature { position: 0 }
    );
    let stranger = LocalCa::self_signed_root(&*other, &name("CN=Other"), DAY, NOW, &AwsLc).unwrap();
    assert_eq!(
        new(&sub_key, &[&sub(|_| ()), &stranger]).unwrap_err(),
        CaError::ChainBroken { position: 0 }
    );
    // A root that claims to be self-signed and is not.
    let forged = by(&*other, &root_certificate, &*root_key, |parts| {
        parts.subject = parts.issuer;
    });
    assert_eq!(new(&root_key, &[&forged]).unwrap_err(), CaError::ChainSignature { position: 0 });

    let many = vec![&root_certificate; 9];
    assert_eq!(new(&root_key, &many).unwrap_err(), CaError::ChainTooLong { got: 9, max: 8 });
}

#[test]
fn a_chain_signed_with_a_weak_digest_is_refused() {
    let root_key = key(KeyAlgorithm::P256);
    let good = root(&*root_key);
    // Only what the certificate says is changed: the algorithm is judged before the signature.
    let sha256 = SignatureScheme::EcdsaSha256.algorithm_der();
    let sha224 = tlv::sequence(&[&tlv::oid(&ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.1"))]);
    let mut der = good.as_der().to_vec();
    while let Some(at) = der.windows(sha256.len()).position(|w| w == sha256) {
        der.splice(at..at + sha256.len(), sha224.iter().copied());
    }
    let bad = CertificateDer::parse(&der).unwrap();
    assert_eq!(
        new(&root_key, &[&bad]).unwrap_err(),
        CaError::ChainAlgorithm { position: 0, name: "ecdsa-with-SHA224".into() }
    );
}

#[test]
fn a_subordinate_has_no_ca_below_it() {
    let root_key = key(KeyAlgorithm::P256);
    let root_certificate = root(&*root_key);
    let root_ca = new(&root_key, &[&root_certificate]).unwrap();
    let (sub_key, third) = (key(KeyAlgorithm::P256), key(KeyAlgorithm::P256));
    let subordinate = root_ca
        .issue_subordinate(sub_key.public_key(), &name("O=Example, CN=Sub"), DAY, NOW)
        .unwrap();
    let sub = new(&sub_key, &[&subordinate, &root_certificate]).unwrap();
    let length = CaError::PathLength { position: 0, allowed: 0, below: 1 };
    assert_eq!(sub.issue_subordinate(third.public_key(), &name("CN=Third"), DAY, NOW), Err(length));
    // One made all the same is refused when it is loaded.
    let lower = by(&*sub_key, &subordinate, &*third, |_| ());
    assert_eq!(
        new(&third, &[&lower, &subordinate, &root_certificate]).unwrap_err(),
        CaError::PathLength { position: 1, allowed: 0, below: 1 }
    );
}

#[test]
fn urls_must_be_writable() {
    let root_key = key(KeyAlgorithm::P256);
    for change in [
        |s: &mut LocalCaSettings| s.crl_urls.push("no scheme".into()),
        |s: &mut LocalCaSettings| s.issuer_urls.push("http://ü".into()),
        |s: &mut LocalCaSettings| s.ocsp_urls.push(String::new()),
    ] {
        let mut bad = settings();
        change(&mut bad);
        let certificate = root(&*root_key);
        let result = LocalCa::new(root_key.clone(), certificate, vec![], bad, Arc::new(AwsLc));
        assert!(matches!(result.unwrap_err(), CaError::Url(_)));
    }
}

/// A token that says it has one key and signs with another, or not at all.
#[derive(Debug)]
struct Liar {
    says: SpkiDer,
    signs: Option<Arc<dyn Signer>>,
}

impl Signer for Liar {
    fn public_key(&self) -> &SpkiDer {
        &self.says
    }
    fn sign(&self, scheme: SignatureScheme, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        match &self.signs {
            Some(key) => key.sign(scheme, message),
            None => Err(KeyError::Unavailable { why: "unplugged".into() }),
        }
    }
}

#[test]
fn a_key_that_does_not_sign_for_its_certificate_is_found_at_start() {
    let root_key = key(KeyAlgorithm::P256);
    let certificate = root(&*root_key);
    let says = root_key.public_key().clone();
    let other: Arc<dyn Signer> =
        Arc::new(Liar { says: says.clone(), signs: Some(key(KeyAlgorithm::P256)) });
    assert_eq!(new(&other, &[&certificate]).unwrap_err(), CaError::KeyMismatch);
    // Or the other way round: it signs, under a name that is not its own.
    let says_other = key(KeyAlgorithm::P256).public_key().clone();
    let other: Arc<dyn Signer> = Arc::new(Liar { says: says_other, signs: Some(root_key.clone()) });
    assert_eq!(new(&other, &[&certificate]).unwrap_err(), CaError::KeyMismatch);
    let unplugged: Arc<dyn Signer> = Arc::new(Liar { says, signs: None });
    let error = new(&unplugged, &[&certificate]).unwrap_err();
    assert_eq!(error, CaError::Key(KeyError::Unavailable { why: "unplugged".into() }));
    assert_eq!(error.fault(), Fault::OurDependency);
}

#[tokio::test]
async fn a_local_ca_keeps_nothing() {
    let ca = ca();
    let device = key(KeyAlgorithm::P256);
    let serial = ca.choose_serial().unwrap().unwrap();
    assert_eq!(serial.as_content().len(), 16);
    assert_ne!(ca.choose_serial().unwrap().unwrap(), serial);
    ca.certify(&contents(device.public_key()), &serial).unwrap();
    let wanted = Wanted {
        serial: Some(&serial),
        spki: device.public_key(),
        request: CsrInfoHash::from_bytes([0; 32]),
        pending: false,
        subject_der: &[0x30, 0],
        since: NOW,
    };
    assert_eq!(ca.find(&wanted).await, Ok(Found::Nothing));
    let capabilities = ca.capabilities();
    assert_eq!((capabilities.revoke, capabilities.recover), (CanRevoke::Yes, Recover::NothingKept));
}

#[test]
fn a_certificate_of_another_ca_is_seen() {
    let (ours, other) = (ca(), ca());
    let ra = SoftwareKey::generate(KeyAlgorithm::Rsa(2048)).unwrap();
    let purpose = InfrastructurePurpose::RaSigning;
    let issued =
        ours.issue_infrastructure(purpose, ra.public_key(), &name("CN=RA"), DAY, NOW).unwrap();
    assert_eq!(ours.check_issued(&issued), Ok(()));
    // The other CA has the same name and another key.
    assert_eq!(other.check_issued(&issued), Err(CaError::NotIssuedHere));
    let elsewhere = root(&*key(KeyAlgorithm::P256));
    assert_eq!(ours.check_issued(&elsewhere), Err(CaError::NotIssuedHere));
}
