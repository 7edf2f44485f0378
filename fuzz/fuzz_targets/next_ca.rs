//! Answers to GetNextCACert, and messages with any plaintext of every kind: GetCert, GetCRL and CertPoll have names and
//! numbers in it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use scep_message::{LegacyAlgorithms, Limits, MessageType, PkiMessage, Request, ca_cert, next_ca};
use scep_testkit::{NoOpHouse, NoOpProvider};
use std::sync::LazyLock;

static HOUSE: LazyLock<NoOpHouse> = LazyLock::new(NoOpHouse::new);

fuzz_target!(|data: &[u8]| {
    let limits = Limits::default();
    for legacy in [LegacyAlgorithms::Refuse, LegacyAlgorithms::Accept] {
        if let Ok((certificates, _)) = next_ca::parse(data, &NoOpProvider, legacy, &limits) {
            let (_, body) = ca_cert::response(&certificates);
            assert_eq!(ca_cert::parse(&body, &limits), Ok(certificates));
        }
    }
    for kind in [MessageType::CertPoll, MessageType::GetCert, MessageType::GetCrl] {
        let message = HOUSE.message(kind, data);
        let signed = PkiMessage::parse(&message, &limits)
            .and_then(|message| message.verify(HOUSE.provider(), LegacyAlgorithms::Refuse));
        let Ok(signed) = signed else { continue };
        let (request, _) = signed.decrypt(HOUSE.ra(), HOUSE.provider());
        match request {
            Ok(Request::GetCert { issuer, serial } | Request::GetCrl { issuer, serial }) => {
                assert!(!serial.is_empty());
                assert!(data.windows(issuer.len()).any(|window| window == issuer));
            }
            // Nothing of it is read.
            Ok(Request::CertPoll) => {}
            Ok(Request::Enrol { .. }) => panic!("nobody asked to enrol"),
            Err(_) => {}
        }
    }
});
