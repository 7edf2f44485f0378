//! Messages, of both directions, with every signature valid: parsed, opened, and refused.
#![no_main]

use libfuzzer_sys::fuzz_target;
use scep_message::client::Expected;
use scep_message::{FailInfo, LegacyAlgorithms, Limits, PkiMessage, Recipient, salvage};
use scep_testkit::house::device_certificate;
use scep_testkit::{NoOpHouse, NoOpProvider, TestKey};
use scep_types::{Nonce, Secret, TransactionId};
use std::sync::LazyLock;

static HOUSE: LazyLock<NoOpHouse> = LazyLock::new(NoOpHouse::new);
/// A device with an EC key, which opens replies with its challenge.
static EC_DEVICE: LazyLock<Recipient> = LazyLock::new(|| Recipient {
    certificate: device_certificate(&TestKey::P256D.key()),
    key: TestKey::P256D.decryption(),
});

fuzz_target!(|data: &[u8]| {
    let (provider, ra) = (HOUSE.provider(), HOUSE.ra());
    let limits = Limits::default();
    for legacy in [LegacyAlgorithms::Refuse, LegacyAlgorithms::Accept] {
        let Ok(message) = PkiMessage::parse(data, &limits) else { break };
        let Ok(signed) = message.verify(provider, legacy) else { continue };
        let (_, context) = signed.decrypt(ra, provider);
        let answer = context.failure(ra, FailInfo::BadRequest, "refused", provider);
        assert!(answer.is_ok(), "whoever was verified can be answered");
    }
    if let Some(context) = salvage(data, &limits) {
        let answer = context.failure(ra, FailInfo::BadMessageCheck, "refused", provider);
        assert!(answer.is_ok(), "whoever was salvaged can be answered");
    }
    // No input derives keys for long.
    let limits = Limits { max_iterations: 10_000, ..limits };
    let challenge = Secret::new("challenge".to_owned());
    for me in [&ra.recipients[0], &*EC_DEVICE] {
        let expected = Expected {
            transaction_id: &TransactionId::new("TX").expect("an id"),
            nonce: &Nonce::new([NoOpProvider::RANDOM; 16]).expect("a nonce"),
            ra: std::slice::from_ref(&ra.signing_certificate),
            me,
            challenge: Some(&challenge),
            legacy: LegacyAlgorithms::Accept,
        };
        let _ = expected.read(data, provider, &limits);
    }
});
