//! BER intake: what it writes is DER that it leaves alone, and every value of it re-encodes to itself.
#![no_main]

use libfuzzer_sys::fuzz_target;
use scep_cms::{Limits, ber};
use scep_types::tlv::{self, Reader};

fuzz_target!(|data: &[u8]| {
    let limits = Limits::default();
    if let Ok(der) = ber::normalize(data, &limits) {
        let again = ber::normalize(&der, &limits).expect("what was written is read");
        assert_eq!(again, der, "normalising twice changes nothing");
    }
    walk(Reader::new(data), limits.max_depth);
});

/// Every value that the strict reader takes has this one encoding.
fn walk(mut reader: Reader<'_>, depth: usize) {
    while let Ok(tlv) = reader.any() {
        assert_eq!(tlv::encode(tlv.tag, tlv.value), tlv.raw);
        // The readers of contents never panic, whatever the tag says.
        let (_, _, _) = (tlv.oid(), tlv.unsigned(), tlv.small_int());
        let (_, _, _) = (tlv.whole_bits(), tlv.boolean(), tlv.time());
        if depth > 0 && tlv.tag & 0x20 != 0 {
            walk(tlv.reader(), depth - 1);
        }
    }
}
