//! Whatever is sent, the answer is a value.

use crate::common::{Message, csr, device, ra, ra_party, request, to_ber, transaction};
use proptest::prelude::*;
use proptest::sample::Index;
use scep_cms::{LegacyAlgorithms, Limits};
use scep_keys::AwsLc;
use scep_message::{MessageType, PkiMessage, ca_cert, caps::Capabilities, client, salvage};
use scep_types::Nonce;

fn everything(bytes: &[u8]) {
    let limits = Limits::default();
    let _ = salvage(bytes, &limits);
    let _ = ca_cert::parse(bytes, &limits);
    if let Ok(signed) = PkiMessage::parse(bytes, &limits)
        .and_then(|message| message.verify(&AwsLc, LegacyAlgorithms::Accept))
    {
        let _ = signed.decrypt(&ra(), &AwsLc);
    }
    let nonce = Nonce::new([7; 16]).unwrap();
    let trusted = [ra_party().certificate.clone()];
    let me = device().recipient();
    let _ = client::reply(bytes, &transaction(), &nonce, &trusted, &me, &AwsLc, &limits);
}

proptest! {
    // Half as many as usual, or as PROPTEST_CASES says.
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases / 2))]

    #[test]
    fn random_octets(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        everything(&bytes);
    }

    #[test]
    fn a_changed_message(
        at in any::<Index>(),
        to in any::<u8>(),
        end in any::<Index>(),
        ber in any::<bool>(),
    ) {
        let (message, _) = request(MessageType::PkcsReq, &csr());
        let mut message = if ber { to_ber(&message) } else { message };
        *at.get_mut(&mut message) = to;
        everything(&message);
        message.truncate(end.index(message.len()));
        everything(&message);
    }

    #[test]
    fn a_signed_message_with_odd_attributes(
        kind in prop::sample::select(vec![
            crate::common::MESSAGE_TYPE, crate::common::TRANSACTION_ID, crate::common::SENDER_NONCE,
            crate::common::SIGNING_TIME, crate::common::PKI_STATUS,
        ]),
        value in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        everything(&Message::good().set(kind, value).encode());
    }

    #[test]
    fn a_signed_message_with_odd_content(content in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut message = Message::good();
        message.content = Some(content);
        everything(&message.encode());
    }

    #[test]
    fn odd_capabilities(body in ".{0,200}") {
        let _ = Capabilities::parse(&body);
    }
}
