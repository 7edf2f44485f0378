//! `Forwarded` and `X-Forwarded-For` as a client has begun them and its proxy goes on: nobody chooses who he is. The
//! input is lines; each is a line of its own, and the last is also one that the proxy goes on in.
#![no_main]

use libfuzzer_sys::fuzz_target;
use scep_server::client_of;
use std::net::IpAddr;

fuzz_target!(|data: &[u8]| {
    let proxy = IpAddr::from([10, 0, 0, 1]);
    let lines: Vec<&[u8]> = data.split(|octet| *octet == b'\n').collect();
    // What the client says alone may be anybody, as no proxy has added a word; it is read without harm.
    let _ = (client_of(&lines, &[]), client_of(&[], &lines), client_of(&lines, &lines));
    for address in ["192.0.2.1", "2001:db8::1"] {
        let seen: IpAddr = address.parse().expect("an address");
        let node = if seen.is_ipv4() { address.to_owned() } else { format!("\"[{address}]\"") };
        let (forwarded, listed) = (format!("for={node}"), address.to_owned());
        let continued = |word: &str| {
            let (last, before) = lines.split_last().expect("split gives a line");
            let last = [*last, b", ", word.as_bytes()].concat();
            before.iter().map(|line| line.to_vec()).chain([last]).collect::<Vec<_>>()
        };
        let added = |word: &str| {
            let own = lines.iter().map(|line| line.to_vec());
            own.chain([word.as_bytes().to_vec()]).collect::<Vec<_>>()
        };
        for by_proxy in [continued(&forwarded), added(&forwarded)] {
            let by_proxy: Vec<&[u8]> = by_proxy.iter().map(Vec::as_slice).collect();
            for other in [&[][..], &lines] {
                let client = client_of(&by_proxy, other);
                assert!(client == seen || client == proxy, "{client}");
            }
        }
        for by_proxy in [continued(&listed), added(&listed)] {
            let by_proxy: Vec<&[u8]> = by_proxy.iter().map(Vec::as_slice).collect();
            for other in [&[][..], &lines] {
                let client = client_of(other, &by_proxy);
                assert!(client == seen || client == proxy, "{client}");
            }
        }
    }
});
