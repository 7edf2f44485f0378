//! Challenges: as text, as the CMS in it, and as the claims in that, which have one encoding.
#![no_main]

use base64::{Engine as _, engine::general_purpose::STANDARD};
use libfuzzer_sys::fuzz_target;
use scep_challenge::{ChallengeClaims, Opener};
use scep_testkit::NoOpHouse;
use scep_testkit::house::OPENS;
use std::sync::LazyLock;

static HOUSE: LazyLock<(NoOpHouse, Opener)> = LazyLock::new(|| {
    let house = NoOpHouse::new();
    let opener = house.opener();
    (house, opener)
});

fuzz_target!(|data: &[u8]| {
    let (house, opener) = &*HOUSE;
    if let Ok(text) = core::str::from_utf8(data) {
        let _ = opener.open(text, OPENS, house.provider());
    }
    let _ = opener.open(&STANDARD.encode(data), OPENS, house.provider());
    if let Ok(claims) = ChallengeClaims::from_der(data) {
        assert_eq!(claims.to_der().as_deref(), Ok(data), "one encoding");
        // What reads as claims can be sealed, and opens to the same claims, or is refused for what it says.
        if let Some(text) = house.seal(claims) {
            let _ = opener.open(&text, OPENS, house.provider());
        }
    }
});
