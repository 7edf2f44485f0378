//! Site rules, as an operator may write them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use scep_policy::SiteRules;

fuzz_target!(|text: &str| {
    if let Err(error) = SiteRules::from_toml(text) {
        assert!(!error.to_string().is_empty());
    }
});
