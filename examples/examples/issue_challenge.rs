//! The issuer's side: a profile and what is known about a device become a challenge blob, the text that the device
//! gets from its management and can neither read nor alter.
//!
//! Run with `cargo run -p sceptic-examples --example issue_challenge`.

use scep_issuance::{Attributes, Minter, Profile};
use scep_keys::{AwsLc, SoftwareKey};
use scep_types::{DeviceId, GatewayGroupId, KeyAlgorithm, TenantId, Timestamp};
use std::error::Error;

/// What the certificates of one kind of device contain. `profile.example.toml` of scep-issuance explains every key.
const PROFILE: &str = r#"
id = "wifi"
for = "device"
subject = "C=CH, O=Example, CN={{DeviceId}}"
subject_alt_names = [{ dns = "{{DeviceId}}.example.org" }]
key_usage = ["digitalSignature", "keyEncipherment"]
extended_key_usages = ["clientAuth"]
key_algorithms = ["rsa2048", "p256"]
validity = "365d"
"#;

fn main() -> Result<(), Box<dyn Error>> {
    // A program of yours reads its signing key from a file or a token, and the gateway's public key from a file.
    let issuer = SoftwareKey::generate(KeyAlgorithm::P256)?;
    let gateway = SoftwareKey::generate(KeyAlgorithm::P256)?;
    let minter = Minter::new(
        TenantId::new("contoso")?,
        GatewayGroupId::new("zurich")?,
        issuer.signer(),
        gateway.public_key().clone(),
    )?;

    let profile = Profile::from_toml(PROFILE)?;
    for warning in profile.lint() {
        println!("warning      {warning}");
    }
    let device = DeviceId::new("laptop-7")?;
    let now = Timestamp::from(std::time::SystemTime::now());
    let minted = minter.mint(&profile, &device, None, &Attributes::new(), now, &AwsLc)?;

    let (claims, text) = (&minted.claims, &minted.text);
    let expectation = &claims.expectation;
    println!("challenge    {} for {} of {}", claims.challenge_id, claims.device, claims.tenant);
    println!("for gateway  {}, key {}", claims.audience, claims.recipient_key);
    println!("valid        {} to {}", claims.issued_at, claims.expires_at);
    println!("subject      {}", expectation.subject);
    for name in &expectation.subject_alt_names {
        println!("alt name     {name}");
    }
    println!("key usage    {}", expectation.key_usage);
    println!("purposes     {}", expectation.extended_key_usages);
    for algorithm in &expectation.key_algorithms {
        println!("key          {algorithm}");
    }
    println!("the text     {} characters, {}...", text.len(), text.get(..40).unwrap_or_default());

    // What a device's management relies on.
    let one_line = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"+/=".contains(&b));
    if !one_line || text.len() > 1_400 {
        return Err("the text is not one short line of base64".into());
    }
    if expectation.subject != "C=CH, O=Example, CN=laptop-7".parse()? {
        return Err("the profile gave another subject".into());
    }
    Ok(())
}
