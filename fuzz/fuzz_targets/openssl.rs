//! Any octets: what is accepted as a request or as a message, OpenSSL reads the same way.
#![no_main]

use libfuzzer_sys::fuzz_target;
use scep_cms::{LegacyAlgorithms, Limits, SignedData, ber};
use scep_pkcs10::{Rules, Sha1Signatures, UnprovenCsr};
use scep_testkit::NoOpProvider;
use scep_types::StringRules;
use sceptic_fuzz::second::{self, Signatures};

fuzz_target!(|data: &[u8]| {
    let rules =
        Rules { strings: StringRules::AllowBmp, sha1: Sha1Signatures::Accept, ..Rules::default() };
    let csr = UnprovenCsr::parse(data, &rules).and_then(|csr| csr.prove(&NoOpProvider));
    if let Ok(csr) = csr {
        second::csr(&csr);
    }
    let limits = Limits::default();
    let Ok(der) = ber::normalize(data, &limits) else { return };
    let signed = SignedData::parse(&der, &limits)
        .and_then(|signed| signed.verify(&NoOpProvider, LegacyAlgorithms::Accept));
    if let Ok(signed) = signed {
        second::signed(data, &der, &signed, Signatures::Ignore);
    }
});
