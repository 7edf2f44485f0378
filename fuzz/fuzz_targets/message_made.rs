//! Messages that are nearly right: parsed, verified, opened and answered, and what OpenSSL reads in those that are
//! accepted. The first octet says whether signatures and envelopes are true ones.
#![no_main]

use arbitrary::{Arbitrary, Unstructured};
use libfuzzer_sys::fuzz_target;
use openssl::pkey::{PKey, Private};
use scep_cms::{EnvelopedData, SignedData, ber};
use scep_message::{FailInfo, LegacyAlgorithms, Limits, PkiMessage, Request, salvage};
use scep_testkit::{House, NoOpHouse, TestKey};
use sceptic_fuzz::message::{Made, MadeMessage, World};
use sceptic_fuzz::second::{self, Signatures};
use std::sync::LazyLock;

static NO_OP: LazyLock<World> = LazyLock::new(|| {
    let house = NoOpHouse::new();
    let provider = std::sync::Arc::new(scep_testkit::NoOpProvider);
    World::new(house.ra().clone(), provider, false)
});
static REAL: LazyLock<World> = LazyLock::new(|| {
    let house = House::new();
    World::new(house.ra.clone(), house.provider, true)
});
static DECRYPTION: LazyLock<PKey<Private>> =
    LazyLock::new(|| PKey::private_key_from_pem(TestKey::RsaB.pem().as_bytes()).expect("a key"));

fuzz_target!(|data: &[u8]| {
    let Some((first, rest)) = data.split_first() else { return };
    // One in 32: true signatures take their time.
    let real = first % 32 == 31;
    let Ok(made) = MadeMessage::arbitrary_take_rest(Unstructured::new(rest)) else { return };
    let world = if real { &*REAL } else { &*NO_OP };
    let made = made.make(world);
    let limits = Limits::default();
    server(&made, world, LegacyAlgorithms::Accept, &limits);
    if !real {
        server(&made, world, LegacyAlgorithms::Refuse, &limits);
    }
    if let Some(context) = salvage(&made.message, &limits) {
        let answer =
            context.failure(world.ra(), FailInfo::BadMessageCheck, "refused", world.provider());
        assert!(answer.is_ok(), "whoever was salvaged can be answered");
    }
    differential(&made, world, real, &limits);
});

fn server(made: &Made, world: &World, legacy: LegacyAlgorithms, limits: &Limits) {
    let signed = PkiMessage::parse(&made.message, limits)
        .and_then(|message| message.verify(world.provider(), legacy));
    let signed = match signed {
        Ok(signed) => signed,
        Err(error) => {
            assert!(!made.right, "a right message is refused: {error}");
            return;
        }
    };
    let (request, context) = signed.decrypt(world.ra(), world.provider());
    match request {
        Ok(Request::Enrol { csr, .. }) => assert_eq!(csr, made.plaintext),
        Ok(Request::GetCert { serial, .. } | Request::GetCrl { serial, .. }) => {
            assert!(!serial.is_empty());
        }
        Ok(Request::CertPoll) => {}
        Err(error) => assert!(!made.right, "a right envelope does not open: {error}"),
    }
    let answer = context.failure(world.ra(), FailInfo::BadRequest, "refused", world.provider());
    assert!(answer.is_ok(), "whoever was verified can be answered");
}

fn differential(made: &Made, world: &World, real: bool, limits: &Limits) {
    let Ok(der) = ber::normalize(&made.message, limits) else { return };
    let signed = SignedData::parse(&der, limits)
        .and_then(|signed| signed.verify(world.provider(), LegacyAlgorithms::Accept));
    let Ok(signed) = signed else { return };
    let signatures = if real { Signatures::Verify } else { Signatures::Ignore };
    second::signed(&made.message, &der, &signed, signatures);
    if !real {
        return;
    }
    let Ok(der) = ber::normalize(signed.content(), limits) else { return };
    let opened = EnvelopedData::parse(&der, limits, LegacyAlgorithms::Accept)
        .and_then(|envelope| envelope.open(&world.ra().recipients, world.provider()));
    if let Ok(opened) = opened {
        second::envelope(signed.content(), opened.plaintext.expose(), &DECRYPTION);
    }
}
