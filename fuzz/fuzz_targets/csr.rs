//! Certification requests: parsed, judged, proven and read; what is kept is what came.
#![no_main]

use libfuzzer_sys::fuzz_target;
use scep_pkcs10::{Rules, Sha1Signatures, UnprovenCsr, check_key};
use scep_testkit::NoOpProvider;
use scep_types::{CertificateDer, DistinguishedName, GeneralName, StringRules};

fuzz_target!(|data: &[u8]| {
    let lenient =
        Rules { strings: StringRules::AllowBmp, sha1: Sha1Signatures::Accept, ..Rules::default() };
    for rules in [Rules::default(), lenient] {
        let Ok(csr) = UnprovenCsr::parse(data, &rules) else { continue };
        let _ = check_key(csr.spki(), &rules, &[]);
        let Ok(csr) = csr.prove(&NoOpProvider) else { continue };
        assert_eq!(csr.as_der(), data);
        // Names are kept as structures: writing and reading them gives the same.
        let name = csr.subject().to_der();
        assert_eq!(DistinguishedName::from_der(&name, rules.strings).as_ref(), Ok(csr.subject()));
        let _ = csr.subject().to_string();
        if !csr.subject_alt_names().is_empty() {
            let _ = GeneralName::list_to_der(csr.subject_alt_names());
        }
        let _ = (csr.key_usage(), csr.extended_key_usages(), csr.inert());
    }
    // A certificate has the same parts.
    if let Ok(certificate) = CertificateDer::parse(data) {
        assert_eq!(certificate.as_der(), data);
        let _ = (certificate.extensions(), certificate.subject_key_id(), certificate.serial());
    }
});
