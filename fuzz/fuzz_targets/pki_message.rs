//! Messages, of both directions, with every signature valid: parsed, opened, and refused.
#![no_main]

use libfuzzer_sys::fuzz_target;
use scep_message::client::Expected;
use scep_message::{FailInfo, LegacyAlgorithms, Limits, PkiMessage, salvage};
use scep_testkit::NoOpHouse;
use scep_types::{Nonce, TransactionId};
use std::sync::LazyLock;

static HOUSE: LazyLock<NoOpHouse> = LazyLock::new(NoOpHouse::new);

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
    let expected = Expected {
        transaction_id: &TransactionId::new("TX").expect("an id"),
        nonce: &Nonce::new([0; 16]).expect("a nonce"),
        ra: std::slice::from_ref(&ra.signing_certificate),
        me: &ra.recipients[0],
        legacy: LegacyAlgorithms::Accept,
    };
    let _ = expected.read(data, provider, &limits);
});
