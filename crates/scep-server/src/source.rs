//! Where a request comes from: the connection's peer, or whom a trusted proxy names (RFC 7239).

use core::fmt;
use core::str::FromStr;
use hyper::HeaderMap;
use hyper::header::{FORWARDED, HeaderName, HeaderValue};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use thiserror::Error;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Addresses with a common beginning: `10.0.0.11`, `10.0.0.0/24`, `2001:db8::/32`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    first: IpAddr,
    bits: u8,
}

/// Why a text is no [`Network`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NetworkError {
    /// Not of that form.
    #[error("not an address, or an address and the length of a prefix, as 10.0.0.0/24")]
    Malformed,
    /// One bit behind the prefix is set: meant as the address alone, or with another length.
    #[error("the address goes on behind the prefix")]
    LongerThanItsPrefix,
}

impl Network {
    /// Whether it is every address of its kind.
    #[must_use]
    pub const fn is_everything(&self) -> bool {
        self.bits == 0
    }

    /// Whether an address is one of them.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let same_kind = self.first.is_ipv4() == address.to_canonical().is_ipv4();
        same_kind && prefix(address.to_canonical(), self.bits) == self.first
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let first: IpAddr = address.parse().map_err(|_| NetworkError::Malformed)?;
        // Addresses are compared in their canonical form; a prefix of a mapped one would mean something else.
        if first != first.to_canonical() {
            return Err(NetworkError::Malformed);
        }
        let most = if first.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => most,
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
                digits.parse().ok().filter(|bits| *bits <= most).ok_or(NetworkError::Malformed)?
            }
            Some(_) => return Err(NetworkError::Malformed),
        };
        if prefix(first, bits) != first {
            return Err(NetworkError::LongerThanItsPrefix);
        }
        Ok(Self { first, bits })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.bits)
    }
}

/// The address with every bit behind the first `bits` cleared.
fn prefix(address: IpAddr, bits: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32_u32.saturating_sub(bits.into())).unwrap_or(0);
            IpAddr::V4((v4.to_bits() & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128_u32.saturating_sub(bits.into())).unwrap_or(0);
            IpAddr::V6((v6.to_bits() & mask).into())
        }
    }
}

/// What counts as one source: an IPv4 address, or the 64 bits of an IPv6 address that a subscriber is given.
pub(crate) fn source(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        v4 @ IpAddr::V4(_) => v4,
        v6 @ IpAddr::V6(_) => prefix(v6, 64),
    }
}

/// The proxies whose word about a client's address is taken.
#[derive(Clone, Debug, Default)]
pub(crate) struct Proxies(Vec<Network>);

impl Proxies {
    pub(crate) const fn new(networks: Vec<Network>) -> Self {
        Self(networks)
    }

    pub(crate) fn trust(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(address))
    }

    /// Who asks.
    ///
    /// What a peer that is no trusted proxy says about it is not looked at. A trusted one's header is read from its
    /// end, which is what the nearest proxy wrote, up to the first address that is no trusted proxy: whatever stands
    /// before it, anybody may have sent. Where there is anything else on the way to it, or where `Forwarded` and
    /// `X-Forwarded-For` do not agree, as when a client sends the one that its proxy leaves alone, it is the peer.
    pub(crate) fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let peer = peer.to_canonical();
        if !self.trust(peer) {
            return peer;
        }
        let forwarded = headers.contains_key(FORWARDED).then(|| {
            self.first_stranger(headers.get_all(FORWARDED).iter().rev(), |line, hops| {
                elements(line, hops)
            })
        });
        let listed = headers.contains_key(&X_FORWARDED_FOR).then(|| {
            self.first_stranger(headers.get_all(&X_FORWARDED_FOR).iter().rev(), |line, hops| {
                hops.extend(
                    line.split(',').map(|hop| listed_address(hop.trim_matches([' ', '\t']))),
                );
                Some(())
            })
        });
        let named = match (forwarded, listed) {
            (Some(one), None) | (None, Some(one)) => one,
            (Some(one), Some(other)) if one == other => one,
            _ => None,
        };
        named.unwrap_or(peer)
    }

    /// The last address that is no trusted proxy, or else the first of all. `None`: something else comes before it.
    fn first_stranger<'h>(
        &self,
        lines: impl Iterator<Item = &'h HeaderValue>,
        read: impl Fn(&str, &mut Vec<Option<IpAddr>>) -> Option<()>,
    ) -> Option<IpAddr> {
        let mut furthest = None;
        for line in lines {
            let mut hops = Vec::new();
            read(line.to_str().ok()?, &mut hops)?;
            for hop in hops.into_iter().rev() {
                let address = hop?.to_canonical();
                if !self.trust(address) {
                    return Some(address);
                }
                furthest = Some(address);
            }
        }
        furthest
    }
}

/// An address in X-Forwarded-For, which nobody has specified: some proxies add the port.
fn listed_address(text: &str) -> Option<IpAddr> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(address);
    }
    if let Some(inner) = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        return inner.parse::<Ipv6Addr>().ok().map(IpAddr::V6);
    }
    text.parse::<SocketAddr>().ok().map(|address| address.ip())
}

/// The elements of one line of Forwarded (RFC 7239, 4), each as the address that it is for, if it is for one. `None`:
/// the line is not of that form.
///
/// From left to right, as only so it is clear what stands within quotation marks. A proxy may have gone on in a line
/// that its client has begun: a quotation mark that the client leaves open makes the line malformed, and nothing else.
fn elements(line: &str, hops: &mut Vec<Option<IpAddr>>) -> Option<()> {
    let mut rest = line;
    loop {
        let mut names = Vec::new();
        let mut hop = None;
        loop {
            rest = blanks(rest);
            let (name, after) = token(rest)?;
            let (value, after) = value(after.strip_prefix('=')?)?;
            let name = name.to_ascii_lowercase();
            if names.contains(&name) {
                return None;
            }
            if name == "for" {
                hop = node(&value);
            }
            names.push(name);
            rest = blanks(after);
            match rest.strip_prefix(';') {
                Some(after) => rest = after,
                None => break,
            }
        }
        hops.push(hop);
        if rest.is_empty() {
            return Some(());
        }
        rest = rest.strip_prefix(',')?;
    }
}

fn blanks(text: &str) -> &str {
    text.trim_start_matches([' ', '\t'])
}

/// A token (RFC 9110, 5.6.2), and what comes after it.
fn token(text: &str) -> Option<(&str, &str)> {
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    let end = text.find(|c| !is_token(c)).unwrap_or(text.len());
    let (token, rest) = text.split_at_checked(end)?;
    (!token.is_empty()).then_some((token, rest))
}

/// A token or a quoted string (RFC 9110, 5.6.4), and what comes after it.
fn value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        return token(text).map(|(token, rest)| (token.to_owned(), rest));
    };
    let mut value = String::new();
    let mut characters = quoted.chars();
    loop {
        match characters.next()? {
            '"' => return Some((value, characters.as_str())),
            '\\' => value.push(characters.next()?),
            other => value.push(other),
        }
    }
}

/// The address of a node (RFC 7239, 6). `None`: `unknown`, a name of the proxy's own, or not of that form.
fn node(text: &str) -> Option<IpAddr> {
    let (address, port) = match text.strip_prefix('[') {
        Some(inner) => {
            let (inner, after) = inner.split_once(']')?;
            (IpAddr::V6(inner.parse().ok()?), after)
        }
        None => {
            let end = text.find(':').unwrap_or(text.len());
            let (address, after) = text.split_at_checked(end)?;
            (IpAddr::V4(address.parse().ok()?), after)
        }
    };
    match port.strip_prefix(':') {
        None => port.is_empty().then_some(address),
        Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
            (1..=5).contains(&digits.len()).then_some(address)
        }
        Some(name) => {
            let rest = name.strip_prefix('_')?;
            let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
            (!rest.is_empty() && rest.bytes().all(plain)).then_some(address)
        }
    }
}

/// Open connections by source: one source does not take the places of all others.
#[derive(Debug)]
pub(crate) struct Crowd {
    most: usize,
    open: Mutex<HashMap<IpAddr, usize>>,
}

/// A source's connection, counted until this value goes.
#[derive(Debug)]
pub(crate) struct Counted {
    crowd: Arc<Crowd>,
    source: IpAddr,
}

impl Crowd {
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most: most.max(1), open: Mutex::default() })
    }

    /// Counts one more connection, unless the source has as many as it may have.
    pub(crate) fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Counted> {
        let source = source(address);
        let mut all = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let open = all.entry(source).or_default();
        if *open >= self.most {
            return None;
        }
        *open = open.saturating_add(1);
        Some(Counted { crowd: Arc::clone(self), source })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut all = self.crowd.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = all.get_mut(&self.source) {
            *open = open.saturating_sub(1);
            if *open == 0 {
                all.remove(&self.source);
            }
        }
    }
}

/// For a fuzzer: whom a trusted proxy at 10.0.0.1 names with these lines of `Forwarded` and `X-Forwarded-For`.
#[doc(hidden)]
#[must_use]
pub fn client_of(forwarded: &[&[u8]], listed: &[&[u8]]) -> IpAddr {
    let peer = IpAddr::from([10, 0, 0, 1]);
    let proxies = Proxies::new(vec![Network { first: IpAddr::from([10, 0, 0, 0]), bits: 8 }]);
    let mut headers = HeaderMap::new();
    let lines = forwarded.iter().map(|line| (FORWARDED, *line));
    for (name, line) in lines.chain(listed.iter().map(|line| (X_FORWARDED_FOR, *line))) {
        // With anything else it is no request.
        let Ok(line) = HeaderValue::from_bytes(line) else { return peer };
        headers.append(name, line);
    }
    proxies.client(peer, &headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: &str = "10.0.0.1";

    /// Who asks, where the peer and the proxy before it are trusted.
    fn client(peer: &str, lines: &[(&'static str, &str)]) -> String {
        let trusted = ["10.0.0.0/28", "fd00::/64"];
        let proxies = Proxies::new(trusted.iter().map(|text| text.parse().unwrap()).collect());
        let mut headers = HeaderMap::new();
        for (name, line) in lines {
            headers.append(*name, HeaderValue::from_bytes(line.as_bytes()).unwrap());
        }
        proxies.client(peer.parse().unwrap(), &headers).to_string()
    }

    #[test]
    fn networks_are_read_strictly_and_contain_what_begins_alike() {
        for (text, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.1"),
            ("10.0.0.0/8", "::ffff:10.1.1.1", "::ffff:11.1.1.1"),
            ("192.0.2.7", "192.0.2.7", "192.0.2.6"),
            ("0.0.0.0/0", "203.0.113.1", "2001:db8::1"),
            ("::/0", "2001:db8::1", "::ffff:192.0.2.1"),
            ("2001:db8::/33", "2001:db8:7fff::1", "2001:db8:8000::1"),
            ("fd00::1", "fd00::1", "fd00::2"),
        ] {
            let network: Network = text.parse().unwrap();
            assert!(network.contains(inside.parse().unwrap()), "{text} {inside}");
            assert!(!network.contains(outside.parse().unwrap()), "{text} {outside}");
        }
        for text in [
            "",
            "/",
            "10.0.0.0/",
            "10.0.0.0/33",
            "10.0.0.0/+8",
            "10.0.0.0/-1",
            "10.0.0/8",
            "::/129",
            "proxy",
            "10.0.0.0/8 ",
            "::ffff:10.0.0.0/104",
            "10.0.0.0/256",
            "[::1]",
        ] {
            assert_eq!(text.parse::<Network>(), Err(NetworkError::Malformed), "{text}");
        }
        for text in ["10.0.0.1/8", "2001:db8::1/32"] {
            assert_eq!(text.parse::<Network>(), Err(NetworkError::LongerThanItsPrefix), "{text}");
        }
        assert_eq!("10.0.0.0/8".parse::<Network>().unwrap().to_string(), "10.0.0.0/8");
    }

    #[test]
    fn attack_59_x_forwarded_for_is_read_from_its_end_and_from_trusted_peers_only() {
        for (peer, line, expected) in [
            (PEER, "192.0.2.1", "192.0.2.1"),
            ("::ffff:10.0.0.1", "192.0.2.1", "192.0.2.1"),
            ("fd00::5", "2001:db8::1", "2001:db8::1"),
            // Not of a trusted proxy.
            ("10.0.0.16", "192.0.2.1", "10.0.0.16"),
            ("203.0.113.9", "192.0.2.1", "203.0.113.9"),
            ("::ffff:203.0.113.9", "192.0.2.1", "203.0.113.9"),
            // What the client has sent itself stands before what its proxy has seen.
            (PEER, "198.51.100.66, 192.0.2.1", "192.0.2.1"),
            (PEER, "10.0.0.3, 192.0.2.1", "192.0.2.1"),
            (PEER, "nonsense;\",, 192.0.2.1", "192.0.2.1"),
            // Through two proxies.
            (PEER, "198.51.100.66, 192.0.2.1, 10.0.0.2", "192.0.2.1"),
            (PEER, "192.0.2.1,\t 10.0.0.2 ,::ffff:10.0.0.3", "192.0.2.1"),
            // Asked by a proxy itself.
            (PEER, "10.0.0.4, 10.0.0.2", "10.0.0.4"),
            // With ports.
            (PEER, "192.0.2.1:50000", "192.0.2.1"),
            (PEER, "[2001:db8::1]:50000", "2001:db8::1"),
            (PEER, "[2001:db8::1]", "2001:db8::1"),
            (PEER, "::ffff:192.0.2.1", "192.0.2.1"),
            // Malformed where it counts.
            (PEER, "", PEER),
            (PEER, "unknown", PEER),
            (PEER, "192.0.2.1, ", PEER),
            (PEER, "192.0.2.1, unknown, 10.0.0.2", PEER),
            (PEER, "192.0.2.1 10.0.0.2", PEER),
            (PEER, "192.0.2.256", PEER),
            (PEER, "192.0.2.01", PEER),
            (PEER, "192.0.2.1:", PEER),
            (PEER, "192.0.2.1:65536", PEER),
            (PEER, "[192.0.2.1]", PEER),
            (PEER, "fe80::1%eth0", PEER),
            (PEER, "\"192.0.2.1\"", PEER),
            (PEER, "192.0.2.1\u{e9}", PEER),
        ] {
            assert_eq!(client(peer, &[("x-forwarded-for", line)]), expected, "{peer} {line}");
        }
    }

    #[test]
    fn attack_59_forwarded_is_read_as_rfc_7239_has_it() {
        for (line, expected) in [
            ("for=192.0.2.1", "192.0.2.1"),
            ("For=\"192.0.2.1:50000\"; proto=https ;by=10.0.0.1", "192.0.2.1"),
            ("proto=http;for=\"[2001:db8::1]\"", "2001:db8::1"),
            ("for=\"[2001:db8::1]:_a.b-c\"", "2001:db8::1"),
            ("for=\"[::ffff:192.0.2.1]\"", "192.0.2.1"),
            ("for=\"192.0\\.2.1\"", "192.0.2.1"),
            ("for=198.51.100.66, for=192.0.2.1", "192.0.2.1"),
            ("for=198.51.100.66,for=192.0.2.1, for=10.0.0.2", "192.0.2.1"),
            ("for=_hidden, for=192.0.2.1", "192.0.2.1"),
            ("for=\"a, for=198.51.100.66\", for=192.0.2.1", "192.0.2.1"),
            ("for=10.0.0.4, for=10.0.0.2", "10.0.0.4"),
            // Nobody can be named so.
            ("", PEER),
            ("for", PEER),
            ("for=", PEER),
            ("for=unknown", PEER),
            ("for=_hidden", PEER),
            ("for=192.0.2.1, for=_hidden, for=10.0.0.2", PEER),
            ("for=192.0.2.1, proto=https", PEER),
            ("for=192.0.2.1,", PEER),
            ("for=192.0.2.1;", PEER),
            ("for=192.0.2.1;for=192.0.2.2", PEER),
            ("for=192.0.2.1:50000", PEER),
            ("for=\"192.0.2.1:\"", PEER),
            ("for=\"192.0.2.1:123456\"", PEER),
            ("for=\"192.0.2.1:_\"", PEER),
            ("for=\"2001:db8::1\"", PEER),
            ("for=\"[192.0.2.1]\"", PEER),
            ("for=\"[2001:db8::1\"", PEER),
            ("for=\"[2001:db8::1]x\"", PEER),
            ("for =192.0.2.1", PEER),
            ("for= 192.0.2.1", PEER),
            ("for=\"192.0.2.1", PEER),
            ("for=\"192.0.2.1\\", PEER),
            ("for=192.0.2.1 for=192.0.2.2", PEER),
            // A quotation mark that the client has left open, in the line that its proxy goes on with.
            ("for=198.51.100.66;x=\", for=192.0.2.1", PEER),
            ("for=198.51.100.66;x=\", for=\"[2001:db8::1]\"", PEER),
        ] {
            assert_eq!(client(PEER, &[("forwarded", line)]), expected, "{line}");
            assert_eq!(client("203.0.113.9", &[("forwarded", line)]), "203.0.113.9", "{line}");
        }
    }

    #[test]
    fn attack_59_several_lines_are_one_list_and_two_headers_must_agree() {
        let (forwarded, listed) = ("forwarded", "x-forwarded-for");
        for (lines, expected) in [
            (&[(listed, "198.51.100.66"), (listed, "192.0.2.1, 10.0.0.2")][..], "192.0.2.1"),
            (
                &[(listed, "198.51.100.66"), (listed, "192.0.2.1"), (listed, "10.0.0.2")],
                "192.0.2.1",
            ),
            (&[(listed, "198.51.100.66"), (listed, "")], PEER),
            // Each line of Forwarded has its own quotation marks.
            (&[(forwarded, "for=\"x"), (forwarded, "for=192.0.2.1")], "192.0.2.1"),
            (&[(forwarded, "for=\"x"), (forwarded, "for=10.0.0.2")], PEER),
            // The one that the proxy leaves alone is the client's own.
            (&[(forwarded, "for=198.51.100.66"), (listed, "192.0.2.1")], PEER),
            (&[(forwarded, "for=192.0.2.1"), (listed, "198.51.100.66")], PEER),
            (&[(forwarded, "nonsense"), (listed, "192.0.2.1")], PEER),
            (&[(forwarded, "for=192.0.2.1"), (listed, "198.51.100.66, 192.0.2.1")], "192.0.2.1"),
            (&[], PEER),
        ] {
            assert_eq!(client(PEER, lines), expected, "{lines:?}");
        }
    }

    #[test]
    fn attack_59_a_subscriber_of_ipv6_is_one_source() {
        let of = |text: &str| source(text.parse().unwrap()).to_string();
        assert_eq!(of("192.0.2.1"), "192.0.2.1");
        assert_eq!(of("::ffff:192.0.2.1"), "192.0.2.1");
        assert_eq!(of("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(of("2001:db8:1:3::1"), "2001:db8:1:3::");
    }

    #[test]
    fn attack_59_one_source_has_its_share_of_connections() {
        let crowd = Crowd::new(2);
        let enter = |text: &str| crowd.enter(text.parse().unwrap());
        let first = enter("2001:db8::1").unwrap();
        let _second = enter("2001:db8::2").unwrap();
        assert!(enter("2001:db8::3").is_none());
        assert!(enter("2001:db8:0:1::1").is_some());
        drop(first);
        assert!(enter("2001:db8::3").is_some());
        // Whoever is gone leaves nothing behind.
        assert_eq!(crowd.open.lock().unwrap().len(), 1);
    }
}
