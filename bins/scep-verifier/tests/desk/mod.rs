//! What every test of the verifier stands on: an issuer, a key that opens its challenges, site rules, requests.

use scep_keys::{SoftwareKey, public_key_pem};
use scep_pkcs10::CsrBuilder;
use scep_testkit::process::{Issuer, temporary};
use scep_types::{
    ExtendedKeyUsages, GeneralName, KeyAlgorithm, KeyUsages, Secret, SignatureScheme,
};
use std::path::PathBuf;
use std::process::Command;
use tempfile::TempDir;

/// The devices' profile. scepserver certifies these usages, whatever is asked for.
pub(crate) const PROFILE: &str = r#"
id = "devices"
for = "device"
subject = "CN={{DeviceName}}"
subject_alt_names = [{ dns = "{{DeviceName}}.example.org" }]
key_usage = ["digitalSignature"]
extended_key_usages = ["clientAuth"]
key_algorithms = ["rsa2048"]
validity = "90d"
"#;

const SITE_RULES: &str = r#"
issuance_per_hour = 100
max_validity_days = 398
rsa_min_bits = 2048
extended_key_usages = ["clientAuth"]
san_kinds = ["dns"]
dns_suffixes = ["example.org"]
"#;

/// An issuer, and what the verifier needs to judge its challenges.
pub(crate) struct Desk {
    pub(crate) issuer: Issuer,
    pub(crate) dir: TempDir,
}

impl Desk {
    pub(crate) fn new() -> Self {
        let desk = Self { issuer: Issuer::init(), dir: temporary() };
        let key = SoftwareKey::generate(KeyAlgorithm::P256).unwrap();
        key.write_new(&desk.path("challenge.key.pem")).unwrap();
        let public = desk.path("challenge.pub.pem");
        std::fs::write(&public, public_key_pem(key.public_key())).unwrap();
        desk.issuer.add_gateway("main", &public);
        std::fs::write(desk.path("rules.toml"), SITE_RULES).unwrap();
        desk
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A challenge for a device of this name.
    pub(crate) fn challenge(&self, name: &str) -> String {
        self.issuer.mint("main", PROFILE, name, &[("DeviceName", name)])
    }

    /// `scep-verifier explain` or `hook`, with whom it trusts.
    pub(crate) fn verifier(&self, command: &str) -> Command {
        let mut verifier = Command::new(env!("CARGO_BIN_EXE_scep-verifier"));
        verifier.env_remove("SCEP_TENANT").env_remove("SCEP_GROUP");
        verifier.args([command, "--tenant", "contoso", "--group", "main"]);
        verifier.arg("--issuer-key").arg(self.issuer.public_key());
        verifier.arg("--decryption-key").arg(self.path("challenge.key.pem"));
        verifier.arg("--site-rules").arg(self.path("rules.toml"));
        verifier
    }

    /// `scep-verifier hook` with a ledger.
    pub(crate) fn hook(&self) -> Command {
        let mut hook = self.verifier("hook");
        hook.arg("--ledger").arg(self.path("ledger.sqlite"));
        hook
    }
}

/// What a device of this name shall ask for, and with which challenge.
pub(crate) fn request(name: &str, challenge: &str) -> CsrBuilder {
    CsrBuilder {
        subject: format!("CN={name}").parse().unwrap(),
        subject_alt_names: vec![GeneralName::dns(&format!("{name}.example.org")).unwrap()],
        key_usage: Some(KeyUsages::DIGITAL_SIGNATURE),
        extended_key_usages: ExtendedKeyUsages::new(
            ExtendedKeyUsages::purpose("clientAuth").into_iter().collect(),
        ),
        challenge_password: Some(Secret::new(challenge.to_owned())),
        ..CsrBuilder::default()
    }
}

/// The request's DER.
pub(crate) fn sign(request: &CsrBuilder, key: &SoftwareKey) -> Vec<u8> {
    let scheme = SignatureScheme::default_for(key.public_key().algorithm());
    request.sign(&*key.signer(), scheme).unwrap()
}
