//! Certification requests that are nearly right, and what OpenSSL reads in those that are accepted.
#![no_main]

use libfuzzer_sys::fuzz_target;
use scep_pkcs10::{Rules, Sha1Signatures, UnprovenCsr, check_key};
use scep_testkit::NoOpProvider;
use scep_types::{DistinguishedName, GeneralName, StringRules};
use sceptic_fuzz::{csr::MadeCsr, second};

fuzz_target!(|made: MadeCsr| {
    let der = made.der();
    let lenient =
        Rules { strings: StringRules::AllowBmp, sha1: Sha1Signatures::Accept, ..Rules::default() };
    for rules in [Rules::default(), lenient] {
        let Ok(csr) = UnprovenCsr::parse(&der, &rules) else { continue };
        let _ = check_key(csr.spki(), &rules, &[]);
        let Ok(csr) = csr.prove(&NoOpProvider) else { continue };
        assert_eq!(csr.as_der(), der);
        let name = csr.subject().to_der();
        assert_eq!(DistinguishedName::from_der(&name, rules.strings).as_ref(), Ok(csr.subject()));
        let names = csr.subject_alt_names();
        if !names.is_empty() {
            let again = GeneralName::list_from_der(&GeneralName::list_to_der(names), rules.strings);
            assert_eq!(again.as_deref(), Ok(names));
        }
        second::csr(&csr);
    }
});
