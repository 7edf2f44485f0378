//! Requests made by the openssl program, and ours read by it: our reader agreeing with our writer proves little.

use crate::support::*;
use scep_pkcs10::{Csr, CsrError, Rules, UnprovenCsr, check_key};
use scep_types::{GeneralName, KeyUsages, SignatureScheme, SpkiDer, SpkiError};
use std::path::Path;
use std::process::{Command, Output};

/// Runs openssl in a directory. `None`, said on stderr, when there is none; in CI that is a failure.
fn openssl(test: &str, dir: &Path, arguments: &[&str]) -> Option<Output> {
    match Command::new("openssl").current_dir(dir).args(arguments).output() {
        Ok(output) => {
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "openssl {arguments:?}: {stderr}");
            Some(output)
        }
        Err(error) => {
            assert!(std::env::var("CI").as_deref() != Ok("true"), "openssl: {error}");
            eprintln!("SKIPPED {test}: openssl is missing");
            None
        }
    }
}

const CONFIG: &str = "
[req]
prompt = no
distinguished_name = name
req_extensions = extensions
attributes = attributes
string_mask = utf8only
[name]
C = CH
O = Example, Inc.
CN = device-7
emailAddress = a@example.org
[attributes]
challengePassword = MIIFjgYJKoZIhvcNAQcCoIIFfzCCBXsCAQMxDTALBglghkgBZQMEAgEw+/==
unstructuredName = router
[extensions]
basicConstraints = CA:FALSE
subjectKeyIdentifier = hash
keyUsage = critical, digitalSignature, keyEncipherment
extendedKeyUsage = clientAuth, emailProtection
subjectAltName = otherName:1.3.6.1.4.1.311.20.2.3;UTF8:user@example.org, DNS:device-7.example.org, \
  email:a@example.org, URI:tag:example, IP:192.0.2.1, IP:2001:db8::1, RID:1.2.3, dirName:directory
1.2.3.4 = DER:0500
[directory]
CN = other
";

/// A request for a new key of this kind, made with the configuration and these further arguments; and the key's
/// SubjectPublicKeyInfo.
fn request(test: &str, key: &[&str], more: &[&str]) -> Option<(Vec<u8>, Vec<u8>)> {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("config"), CONFIG).unwrap();
    openssl(test, dir.path(), &[&["genpkey", "-out", "key"], key].concat())?;
    let base = ["req", "-new", "-config", "config", "-key", "key", "-outform", "DER"];
    let csr = openssl(test, dir.path(), &[&base, more].concat())?.stdout;
    let public = ["pkey", "-in", "key", "-pubout", "-outform", "DER"];
    Some((csr, openssl(test, dir.path(), &public)?.stdout))
}

const RSA: &[&str] = &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"];
const P256: &[&str] = &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"];
const P384: &[&str] = &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"];

fn assert_every_field(csr: &Csr, der: &[u8], spki: &[u8]) {
    assert_eq!(csr.as_der(), der);
    assert_eq!(csr.spki(), &SpkiDer::parse(spki).unwrap());
    let subject = r"C=CH, O=Example\, Inc., CN=device-7, emailAddress=a@example.org";
    assert_eq!(*csr.subject(), subject.parse().unwrap());
    assert_eq!(
        csr.subject_alt_names(),
        [
            GeneralName::upn("user@example.org").unwrap(),
            GeneralName::dns("device-7.example.org").unwrap(),
            GeneralName::email("a@example.org").unwrap(),
            GeneralName::uri("tag:example").unwrap(),
            GeneralName::ip([192, 0, 2, 1].into()),
            GeneralName::ip("2001:db8::1".parse().unwrap()),
            GeneralName::RegisteredId(oid("1.2.3")),
            GeneralName::Directory("CN=other".parse().unwrap()),
        ]
    );
    assert_eq!(csr.key_usage(), KeyUsages::from_names(["digitalSignature", "keyEncipherment"]));
    let expected = purposes(&["clientAuth", "emailProtection"]);
    assert_eq!(csr.extended_key_usages(), Some(&expected));
    assert_eq!(challenge_text(csr), Some(CHALLENGE));
    assert_eq!(csr.other_attributes(), [oid("1.2.840.113549.1.9.2")]);
    assert_eq!(csr.other_extensions(), [extension("1.2.3.4", &[5, 0])]);
    assert_eq!(csr.inert(), [oid("2.5.29.19"), oid("2.5.29.14")]);
}

#[test]
fn requests_of_openssl_are_read_field_by_field() {
    let test = "requests_of_openssl_are_read_field_by_field";
    let pss = ["-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:-1"];
    let pss = |digest| [&[digest][..], &pss].concat();
    for (key, more) in [
        (RSA, vec!["-sha256"]),
        (RSA, vec!["-sha384"]),
        (RSA, vec!["-sha512"]),
        (RSA, pss("-sha256")),
        (RSA, pss("-sha384")),
        (RSA, pss("-sha512")),
        (P256, vec!["-sha256"]),
        (P256, vec!["-sha512"]),
        (P384, vec!["-sha384"]),
    ] {
        let Some((der, spki)) = request(test, key, &more) else { return };
        let csr = proven(&der).unwrap();
        assert_every_field(&csr, &der, &spki);
        assert_eq!(check_key(csr.spki(), &Rules::default(), &[]), Ok(()));
    }
}

#[test]
fn requests_of_openssl_that_are_refused() {
    let test = "requests_of_openssl_that_are_refused";
    let p224: &[&str] = &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-224"];
    let explicit: &[&str] = &[P256, &["-pkeyopt", "ec_param_enc:explicit"]].concat();
    let exponent: &[&str] = &[RSA, &["-pkeyopt", "rsa_keygen_pubexp:3"]].concat();
    let Some((der, _)) = request(test, p224, &[]) else { return };
    assert_eq!(proven(&der).unwrap_err(), CsrError::Key(SpkiError::Algorithm));
    let Some((der, _)) = request(test, explicit, &[]) else { return };
    assert!(matches!(proven(&der).unwrap_err(), CsrError::Key(SpkiError::Der(_))));
    let Some((der, _)) = request(test, RSA, &["-sha1"]) else { return };
    assert_eq!(proven(&der).unwrap_err(), CsrError::Sha1Signature);
    let Some((der, _)) = request(test, RSA, &["-md5"]) else { return };
    assert!(matches!(
        proven(&der).unwrap_err(),
        CsrError::SignatureAlgorithm(unknown) if unknown.name == "md5WithRSAEncryption"
    ));
    let Some((der, _)) = request(test, exponent, &[]) else { return };
    let unproven = UnprovenCsr::parse(&der, &Rules::default()).unwrap();
    assert_eq!(
        check_key(unproven.spki(), &Rules::default(), &[]),
        Err(CsrError::ExponentTooSmall { exponent: 3 })
    );
}

#[test]
fn openssl_verifies_and_prints_ours() {
    let test = "openssl_verifies_and_prints_ours";
    let dir = tempfile::tempdir().unwrap();
    for (key, scheme) in [
        (&*EC_KEY, EC),
        (&*RSA_KEY, SignatureScheme::RsaPkcs1Sha256),
        (&*RSA_KEY, SignatureScheme::RsaPssSha384),
    ] {
        let der = good().sign(&**key, scheme).unwrap();
        std::fs::write(dir.path().join("csr"), &der).unwrap();
        let arguments = [
            "req", "-in", "csr", "-inform", "DER", "-verify", "-noout", "-text", "-nameopt",
            "RFC2253",
        ];
        let Some(output) = openssl(test, dir.path(), &arguments) else { return };
        let text = String::from_utf8_lossy(&output.stdout);
        for part in [
            "CN=device-7,O=Example,C=CH",
            CHALLENGE,
            "DNS:device-7.example.org",
            "Digital Signature, Key Encipherment",
            "TLS Web Client Authentication",
        ] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
    }
}
