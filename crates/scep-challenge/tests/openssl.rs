//! OpenSSL as a second reader of both layers: what FORMAT.md, section 8 describes.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic is how a test fails"
)]

use core::time::Duration;
use scep_challenge::*;
use scep_keys::{AwsLc, Backend, SoftwareKey};
use scep_types::*;
use std::path::Path;
use std::process::Command;

/// Whether OpenSSL is there. Where it must be (CI), its absence is a failure.
fn openssl_is_missing(test: &str) -> bool {
    let missing = Command::new("openssl").arg("version").output().is_err();
    if missing {
        assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "{test}: openssl is missing");
        eprintln!("SKIPPED {test}: openssl is missing");
    }
    missing
}

fn openssl(folder: &Path, arguments: &str) {
    let output = Command::new("openssl")
        .args(arguments.split_whitespace())
        .current_dir(folder)
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "openssl {arguments}: {stderr}");
}

/// A test key, and in `folder` its file and a certificate with its key id as SubjectKeyIdentifier.
fn key_and_certificate(folder: &Path, name: &str) -> SoftwareKey {
    let source = format!("{}/vectors/keys/{name}.pem", env!("CARGO_MANIFEST_DIR"));
    std::fs::copy(&source, folder.join(format!("{name}.pem"))).unwrap();
    let pem = pem::parse(std::fs::read(source).unwrap()).unwrap();
    let key = SoftwareKey::from_pkcs8_der(pem.contents(), Backend::AwsLc).unwrap();
    let config = format!(
        "[req]\ndistinguished_name = dn\nx509_extensions = ext\nprompt = no\n\
         [dn]\nCN = {name}\n[ext]\nsubjectKeyIdentifier = {}\n",
        key.public_key().key_id()
    );
    std::fs::write(folder.join(format!("{name}.cnf")), config).unwrap();
    openssl(
        folder,
        &format!("req -new -x509 -key {name}.pem -config {name}.cnf -days 30 -out {name}.crt"),
    );
    key
}

fn claims(issuer: KeyId, recipient: KeyId) -> ChallengeClaims {
    let now = Timestamp::from_seconds(1_800_000_000);
    let purposes = vec![ExtendedKeyUsages::purpose("clientAuth").unwrap()];
    ChallengeClaims {
        challenge_id: ChallengeId::from_bytes([9; 16]),
        tenant: TenantId::new("contoso").unwrap(),
        issuer_key: issuer,
        audience: GatewayGroupId::new("zurich").unwrap(),
        recipient_key: recipient,
        profile: ProfileId::new("wifi").unwrap(),
        device: DeviceId::new("device-7").unwrap(),
        user: None,
        issued_at: now,
        expires_at: now.plus(Duration::from_secs(3600)),
        purpose: Purpose::Enrol,
        expectation: Expectation {
            subject: "CN=device-7".parse().unwrap(),
            subject_alt_names: vec![],
            key_usage: KeyUsages::DIGITAL_SIGNATURE,
            extended_key_usages: ExtendedKeyUsages::new(purposes).unwrap(),
            demand_usages: DemandUsages::No,
            key_algorithms: vec![KeyAlgorithm::P256],
            spki_hash: None,
            validity: Duration::from_secs(86_400),
            extensions: vec![],
            renewal: Renewal::Blob,
            approval: ApprovalMode::Automatic,
        },
    }
}

#[test]
fn openssl_verifies_and_decrypts_a_blob() {
    if openssl_is_missing("openssl_verifies_and_decrypts_a_blob") {
        return;
    }
    for kind in ["p256", "rsa2048"] {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let (issuer_name, gateway_name) = (format!("issuer-{kind}"), format!("gateway-{kind}"));
        let issuer = key_and_certificate(folder, &issuer_name);
        let gateway = key_and_certificate(folder, &gateway_name);
        let claims = claims(issuer.public_key().key_id(), gateway.public_key().key_id());
        let text = seal(&claims, &*issuer.signer(), gateway.public_key(), &AwsLc).unwrap();
        std::fs::write(folder.join("blob.txt"), text).unwrap();

        openssl(folder, "base64 -d -A -in blob.txt -out blob.der");
        openssl(
            folder,
            &format!(
                "cms -verify -binary -inform DER -in blob.der -certfile {issuer_name}.crt -noverify \
                 -out envelope.der"
            ),
        );
        let envelope = std::fs::read(folder.join("envelope.der")).unwrap();
        let content_type = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.1.23");
        let explicit = tlv::encode(tlv::tag::context_constructed(0), &envelope);
        let content_info = tlv::sequence(&[&tlv::oid(&content_type), &explicit]);
        std::fs::write(folder.join("enveloped.der"), content_info).unwrap();
        openssl(
            folder,
            &format!(
                "cms -decrypt -binary -inform DER -in enveloped.der -inkey {gateway_name}.pem \
                 -recip {gateway_name}.crt -out claims.der"
            ),
        );
        let plaintext = std::fs::read(folder.join("claims.der")).unwrap();
        assert_eq!(plaintext, claims.to_der().unwrap(), "{kind}");
    }
}
