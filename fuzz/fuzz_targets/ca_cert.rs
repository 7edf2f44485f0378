//! Answers to GetCACert: what was read is what would be read again of our own answer with the same certificates.
#![no_main]

use libfuzzer_sys::fuzz_target;
use scep_message::{Limits, ca_cert};

fuzz_target!(|data: &[u8]| {
    let limits = Limits::default();
    if let Ok(certificates) = ca_cert::parse(data, &limits) {
        let (_, body) = ca_cert::response(&certificates);
        assert_eq!(ca_cert::parse(&body, &limits), Ok(certificates));
    }
});
