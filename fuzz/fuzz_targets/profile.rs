//! Certificate profiles, as an operator may write them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use scep_issuance::Profile;

fuzz_target!(|text: &str| {
    match Profile::from_toml(text) {
        Ok(profile) => drop((profile.lint(), profile.variables())),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
