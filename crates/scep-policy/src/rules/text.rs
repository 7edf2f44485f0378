//! Suffixes, prefixes and networks: what a name must end with, begin with or lie in.

use core::fmt;
use std::net::IpAddr;

/// Whether a text is a DNS name: labels of letters, digits, `-` and `_`, 1 to 63 octets each, 253 in all. The first
/// label may be `*` alone.
pub(crate) fn is_dns_name(text: &str) -> bool {
    let label = |l: &str| {
        (1..=63).contains(&l.len())
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    text.len() <= 253 && text.strip_prefix("*.").unwrap_or(text).split('.').all(label)
}

/// A domain, with a leading dot or without.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DnsSuffix {
    domain: String,
    itself: bool,
}

impl DnsSuffix {
    /// `example.org`: the domain and all names in it. `.example.org`: only names in it.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let domain = text.strip_prefix('.').unwrap_or(text);
        let good = is_dns_name(domain) && !domain.starts_with('*');
        good.then(|| Self { domain: domain.to_ascii_lowercase(), itself: !text.starts_with('.') })
    }

    /// Whether a DNS name is the domain or lies in it, on a label's boundary.
    pub(crate) fn covers(&self, name: &str) -> bool {
        let name = name.to_ascii_lowercase();
        match name.strip_suffix(&self.domain) {
            Some("") => self.itself,
            Some(front) => front.ends_with('.') && is_dns_name(&name),
            None => false,
        }
    }
}

/// How a URI may begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UriPrefix(String);

impl UriPrefix {
    /// A prefix that ends on a boundary: with `/`, `:`, `#`, `?` or `=`, and behind the whole authority where there
    /// is one (`https://example.org` also begins `https://example.org.example.net/`).
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once(':')?;
        let scheme_is_good = scheme.bytes().next().is_some_and(|b| b.is_ascii_alphabetic())
            && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'));
        let ends_well = matches!(text.bytes().last(), Some(b'/' | b':' | b'#' | b'?' | b'='));
        let whole_authority = rest
            .strip_prefix("//")
            .is_none_or(|behind| behind.find('/').is_some_and(|end| end > 0));
        // `https:` and `https:/` would allow any host.
        let says_something = !rest.is_empty() && rest != "/";
        let plain = text.bytes().all(|b| b.is_ascii_graphic() && b != b'\\' && b != b'%');
        (scheme_is_good && ends_well && whole_authority && says_something && plain)
            .then(|| Self(text.to_owned()))
    }

    /// Whether a URI begins so, and has nothing that leads out again.
    pub(crate) fn covers(&self, uri: &str) -> bool {
        uri.starts_with(&self.0) && !climbs(uri)
    }
}

/// A dot segment, also when percent-encoded; or a backslash, which some readers take for a slash.
fn climbs(uri: &str) -> bool {
    let text = uri.to_ascii_lowercase().replace("%2e", ".").replace("%2f", "/");
    let double = text.contains("%25") || text.contains("%5c") || text.contains('\\');
    double || text.split(['/', '?', '#']).any(|segment| matches!(segment, "." | ".."))
}

/// An IP network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Network {
    address: u128,
    mask: u128,
    v6: bool,
}

impl Network {
    /// `10.0.0.0/8` or `2001:db8::/32`; bits behind the prefix must be zero.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (address, length) = text.split_once('/')?;
        let address: IpAddr = address.parse().ok()?;
        let length = length.parse::<u32>().ok().filter(|_| !length.starts_with('+'))?;
        let (v6, width, bits) = match address {
            IpAddr::V4(v4) => (false, 32_u32, u128::from(v4.to_bits())),
            IpAddr::V6(v6) => (true, 128, v6.to_bits()),
        };
        let host = width.checked_sub(length)?;
        // Of an IPv4 address only the low 32 bits are set on both sides.
        let mask = u128::MAX.checked_shl(host).unwrap_or(0);
        (bits & !mask == 0).then_some(Self { address: bits, mask, v6 })
    }

    /// Whether an address of 4 or 16 octets lies in it. An IPv4-mapped IPv6 address is an IPv6 address.
    pub(crate) fn covers(&self, octets: &[u8]) -> bool {
        let v6 = match octets.len() {
            4 => false,
            16 => true,
            _ => return false,
        };
        let bits = octets.iter().fold(0_u128, |n, b| (n << 8) | u128::from(*b));
        v6 == self.v6 && bits & self.mask == self.address
    }
}

/// The octets of a textual address, as in iPAddress.
pub(crate) fn ip_octets(text: &str) -> Option<Vec<u8>> {
    match text.parse().ok()? {
        IpAddr::V4(v4) => Some(v4.octets().to_vec()),
        IpAddr::V6(v6) => Some(v6.octets().to_vec()),
    }
}

/// The domain of a `local@domain` with exactly one `@` and something before it.
pub(crate) fn mail_domain(text: &str) -> Option<&str> {
    let (local, domain) = text.split_once('@')?;
    (!local.is_empty() && !domain.contains('@') && !domain.starts_with('*')).then_some(domain)
}

impl fmt::Display for DnsSuffix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.itself { "" } else { "." }, self.domain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suffixes_match_on_label_boundaries() {
        let suffix = DnsSuffix::parse("Example.org").unwrap();
        for good in
            ["example.org", "EXAMPLE.ORG", "a.example.org", "*.example.org", "a_b.example.org"]
        {
            assert!(suffix.covers(good), "{good}");
        }
        for bad in [
            "badexample.org",
            "example.org.evil.net",
            ".example.org",
            "a..example.org",
            "example.org.",
            "a b.example.org",
            "a.*.example.org",
            "xample.org",
            "org",
            "",
            "x@.example.org",
        ] {
            assert!(!suffix.covers(bad), "{bad}");
        }
        let inside = DnsSuffix::parse(".example.org").unwrap();
        assert!(inside.covers("a.example.org"));
        assert!(!inside.covers("example.org"));
        for bad in ["", ".", "..org", "*.example.org", "exa mple.org", "ünïcode.org", "org."] {
            assert_eq!(DnsSuffix::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn prefixes_end_on_boundaries_and_cannot_be_left() {
        let prefix = UriPrefix::parse("https://example.org/devices/").unwrap();
        assert!(prefix.covers("https://example.org/devices/7"));
        for bad in [
            "https://example.org/devices",
            "https://example.org.evil.net/devices/7",
            "https://example.org/devices/../admin",
            "https://example.org/devices/%2E%2e/admin",
            "https://example.org/devices/%252e%252e/admin",
            "https://example.org/devices/..",
            "https://example.org/devices/..?x",
            "https://example.org/devices/..\\admin",
            "https://example.org/devices/..%2fadmin",
            "HTTPS://example.org/devices/7",
        ] {
            assert!(!prefix.covers(bad), "{bad}");
        }
        assert!(UriPrefix::parse("urn:example:device:").unwrap().covers("urn:example:device:7"));
        for bad in [
            "https://example.org",
            "https://example.org:",
            "https://example.org?",
            "https://",
            "https:///",
            "https:",
            "https:/",
            "urn:example",
            "//example.org/",
            ":x:",
            "https://example.org/%2e/",
        ] {
            assert_eq!(UriPrefix::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn networks_hold_their_addresses() {
        let v4 = Network::parse("10.1.0.0/16").unwrap();
        assert!(v4.covers(&[10, 1, 0, 0]) && v4.covers(&[10, 1, 255, 255]));
        assert!(!v4.covers(&[10, 2, 0, 0]) && !v4.covers(&[10, 0, 255, 255]));
        let all = Network::parse("0.0.0.0/0").unwrap();
        assert!(all.covers(&[255; 4]) && !all.covers(&[0; 16]));
        let v6 = Network::parse("2001:db8::/32").unwrap();
        assert!(v6.covers(&ip_octets("2001:db8:ffff::1").unwrap()));
        assert!(!v6.covers(&ip_octets("2001:db9::1").unwrap()));
        assert!(
            !Network::parse("10.0.0.0/8").unwrap().covers(&ip_octets("::ffff:10.0.0.1").unwrap())
        );
        assert!(Network::parse("192.0.2.7/32").unwrap().covers(&[192, 0, 2, 7]));
        for bad in ["10.0.0.1/8", "10.0.0.0/33", "10.0.0.0", "::/129", "10.0.0.0/+8", "x/8"] {
            assert_eq!(Network::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_mail_address_has_one_domain() {
        assert_eq!(mail_domain("a@example.org"), Some("example.org"));
        for bad in ["a@b@example.org", "@example.org", "example.org", "a@*.example.org"] {
            assert_eq!(mail_domain(bad), None, "{bad}");
        }
    }
}
