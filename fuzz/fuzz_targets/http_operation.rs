//! Operations out of queries and bodies. The input is a query, a newline, a body.
#![no_main]

use libfuzzer_sys::fuzz_target;
use scep_message::caps::Capabilities;
use scep_message::http::{MAX_QUERY, Operation, from_post, from_query, pki_operation_query};

fuzz_target!(|data: &[u8]| {
    let end = data.iter().position(|octet| *octet == b'\n').unwrap_or(data.len());
    let (query, body) = data.split_at(end);
    let query = String::from_utf8_lossy(query);
    let _ = from_query(&query);
    let _ = from_post(Some(&query), body.to_vec());
    let _ = from_post(None, body.to_vec());
    let _ = Capabilities::parse(&query);
    let sent = pki_operation_query(data);
    if !data.is_empty() && sent.len() <= MAX_QUERY {
        assert_eq!(from_query(&sent), Ok(Operation::PkiOperation(data.to_vec())));
    }
});
