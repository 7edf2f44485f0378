//! Limits, at the limit and one above it.

use crate::support::*;
use scep_pkcs10::danger::{RawRequest, attribute};
use scep_pkcs10::{CsrError, MAX_ATTRIBUTES, MAX_EXTENSIONS, RequestedExtension, Rules};
use scep_types::Reason;
use scep_types::tlv;

#[test]
fn attack_29_octets_are_limited() {
    let der = signed(&raw());
    let rules = |max_bytes| Rules { max_bytes, ..Rules::default() };
    proven_by(&der, &rules(der.len())).unwrap();
    let (got, max) = (der.len(), der.len() - 1);
    let error = proven_by(&der, &rules(max)).unwrap_err();
    assert_eq!(error, CsrError::TooLarge { got, max });
    assert_eq!(error.reason(), Reason::CertificateRequestDecodingFailed);
    assert_eq!(Rules::default().max_bytes, 65_536);
}

#[test]
fn attack_29_attributes_are_limited() {
    let many = |count: usize| -> Vec<Vec<u8>> {
        (0..count).map(|n| attribute(&oid(&format!("1.2.3.{n}")), &[&[5, 0]])).collect()
    };
    let csr = proven(&signed(&with_attributes(many(MAX_ATTRIBUTES)))).unwrap();
    assert_eq!(csr.other_attributes().len(), 16);
    assert_eq!(
        error(&with_attributes(many(MAX_ATTRIBUTES + 1))),
        CsrError::TooManyAttributes { max: 16 }
    );
}

#[test]
fn attack_29_extensions_are_limited() {
    let many = |count: usize| {
        let all: Vec<RequestedExtension> =
            (0..count).map(|n| extension(&format!("1.2.3.{n}"), &[])).collect();
        with_attributes(vec![extensions(&all)])
    };
    let csr = proven(&signed(&many(MAX_EXTENSIONS))).unwrap();
    assert_eq!(csr.other_extensions().len(), 32);
    assert_eq!(error(&many(MAX_EXTENSIONS + 1)), CsrError::TooManyExtensions { max: 32 });
}

#[test]
fn the_version_is_zero() {
    let request = RawRequest { version: tlv::small_int(1), ..raw() };
    assert_eq!(error(&request), CsrError::Version { got: 1 });
}
