//! OCSP requests: what is accepted is within the limits, has its CertIDs back octet by octet, and OpenSSL reads it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use openssl::ocsp::OcspRequest as Theirs;
use scep_ca::{CertId, MAX_OCSP_NONCE, MAX_OCSP_REQUESTS, OcspRequest};

fuzz_target!(|data: &[u8]| {
    let Ok(request) = OcspRequest::parse(data) else { return };
    assert!((1..=MAX_OCSP_REQUESTS).contains(&request.certificates.len()));
    if let Some(nonce) = &request.nonce {
        assert!((1..=MAX_OCSP_NONCE).contains(&nonce.len()));
    }
    for id in &request.certificates {
        assert!(data.windows(id.as_der().len()).any(|window| window == id.as_der()));
        let _ = id.serial();
    }
    if let Ok(theirs) = Theirs::from_der(data)
        && let Ok(again) = theirs.to_der()
    {
        // What OpenSSL writes of it asks for the same; parameters of a digest that nobody knows it may write otherwise.
        let again = OcspRequest::parse(&again).expect("what OpenSSL writes is a request");
        assert_eq!(again.nonce, request.nonce);
        let serials = |request: &OcspRequest| -> Vec<_> {
            request.certificates.iter().map(CertId::serial).collect()
        };
        assert_eq!(serials(&again), serials(&request));
    }
});
