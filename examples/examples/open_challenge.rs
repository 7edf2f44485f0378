//! The gateway's side of a challenge blob: signature, decryption, claims. Then what an altered, a foreign and an old
//! one give: a refusal with a reason, and no claims.
//!
//! Run with `cargo run -p sceptic-examples --example open_challenge`.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use scep_challenge::{Opener, OpeningKey, PinnedSigner};
use scep_issuance::{Attributes, Minter, Profile};
use scep_keys::{AwsLc, SoftwareKey};
use scep_types::{DeviceId, GatewayGroupId, KeyAlgorithm, Reason, TenantId, Timestamp};
use std::error::Error;
use std::time::Duration;

const PROFILE: &str = r#"
id = "wifi"
for = "device"
subject = "O=Example, CN={{DeviceId}}"
key_usage = ["digitalSignature"]
extended_key_usages = ["clientAuth"]
key_algorithms = ["rsa2048"]
validity = "365d"
"#;

const HOUR: Duration = Duration::from_secs(3600);

fn main() -> Result<(), Box<dyn Error>> {
    let now = Timestamp::from(std::time::SystemTime::now());
    let (tenant, group) = (TenantId::new("contoso")?, GatewayGroupId::new("zurich")?);
    let issuer = SoftwareKey::generate(KeyAlgorithm::P256)?;
    let gateway = SoftwareKey::generate(KeyAlgorithm::P256)?;

    // The gateway pins its issuers' keys, with the time for which it trusts them.
    let opener = Opener::new(
        tenant.clone(),
        group.clone(),
        vec![PinnedSigner {
            key: issuer.public_key().clone(),
            not_before: now.minus(HOUR),
            not_after: now.plus(24 * HOUR),
        }],
        vec![OpeningKey { key: gateway.decryption()?, not_after: None }],
        HOUR,
        Duration::from_secs(300),
    )?;

    let mint = |signer: &SoftwareKey| -> Result<String, Box<dyn Error>> {
        let recipient = gateway.public_key().clone();
        let minter = Minter::new(tenant.clone(), group.clone(), signer.signer(), recipient)?;
        let (profile, device) = (Profile::from_toml(PROFILE)?, DeviceId::new("laptop-7")?);
        Ok(minter.mint(&profile, &device, None, &Attributes::new(), now, &AwsLc)?.text)
    };
    let text = mint(&issuer)?;

    let verified = opener.open(&text, now, &AwsLc)?;
    let claims = verified.claims();
    println!("as it came      challenge {} for {}", claims.challenge_id, claims.device);
    println!("                expects {}", claims.expectation.subject);
    println!("                until {}", claims.expires_at);

    // The signature covers everything: one bit in the middle is enough.
    let mut der = STANDARD.decode(&text)?;
    let middle = der.len() / 2;
    if let Some(octet) = der.get_mut(middle) {
        *octet ^= 1;
    }
    let altered = STANDARD.encode(der);
    let foreign = mint(&SoftwareKey::generate(KeyAlgorithm::P256)?)?;
    let tomorrow = now.plus(23 * HOUR);
    let mut wrong = 0;
    for (what, text, at, expected) in [
        ("one bit altered", altered.as_str(), now, Reason::SignatureValidationFailed),
        ("cut off", text.get(..400).unwrap_or_default(), now, Reason::ChallengeDecodingError),
        ("a stranger's", &foreign, now, Reason::SigningCertThumbprintMismatch),
        ("a day later", &text, tomorrow, Reason::ChallengeExpired),
        ("blank", "   ", now, Reason::ChallengePasswordMissing),
    ] {
        match opener.open(text, at, &AwsLc) {
            Err(error) => {
                println!("{what:16}{}: {error}", error.reason());
                wrong += u32::from(error.reason() != expected);
            }
            Ok(_) => {
                println!("{what:16}opened");
                wrong += 1;
            }
        }
    }
    if wrong > 0 {
        return Err(format!("{wrong} of the challenges gave something else than expected").into());
    }
    Ok(())
}
