//! What an operator decides about the link.

use crate::ConnectorError;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use core::fmt;
use core::time::Duration;
use hyper::Uri;
use scep_types::Secret;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

/// Where the issuer is: `https://host[:port][/path]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuerAddress {
    url: String,
    host: String,
    port: u16,
    /// Without the slash at its end.
    path: String,
}

impl IssuerAddress {
    /// Checks the address.
    ///
    /// # Errors
    /// When it is no https URL, or has a user, a query or a fragment.
    pub fn parse(text: &str) -> Result<Self, ConnectorError> {
        let wrong = |why: &str| ConnectorError::Setting {
            what: "the issuer's address",
            why: format!("{why}; it has the form https://host[:port][/path]"),
        };
        let parts = Parts::parse(text).ok_or_else(|| wrong("not a URL"))?;
        if parts.scheme != "https" {
            return Err(wrong("not https"));
        }
        if parts.user.is_some() {
            return Err(wrong("a user does not belong there"));
        }
        if parts.query || text.contains('#') {
            return Err(wrong("a query or fragment does not belong there"));
        }
        Ok(Self {
            url: text.to_owned(),
            port: parts.port.unwrap_or(443),
            path: parts.path.trim_end_matches('/').to_owned(),
            host: parts.host,
        })
    }

    /// As written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.url
    }

    /// Without the brackets of an IPv6 address.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn path(&self) -> &str {
        &self.path
    }
}

/// A proxy that tunnels (CONNECT), by http or https, with or without a user: `http://[user:password@]host[:port]`.
///
/// Neither `Debug` nor any error shows user and password.
#[derive(Clone)]
pub struct Proxy {
    host: String,
    port: u16,
    hop: Hop,
    /// The value of Proxy-Authorization.
    authorization: Option<Arc<Secret<String>>>,
}

/// How the proxy itself is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hop {
    Plain,
    Tls,
}

impl PartialEq for Proxy {
    fn eq(&self, other: &Self) -> bool {
        let secret = |proxy: &Self| proxy.authorization.as_ref().map(|text| text.expose().clone());
        (&self.host, self.port, self.hop) == (&other.host, other.port, other.hop)
            && secret(self) == secret(other)
    }
}

impl Eq for Proxy {}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({:?} {})", self.hop, self.name())
    }
}

impl Proxy {
    /// Checks the proxy's URL.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(text: &str) -> Result<Self, ConnectorError> {
        let wrong = |why: &str| ConnectorError::Setting {
            what: "the proxy's URL",
            // The text itself may have a password in it.
            why: format!("{why}; it has the form http://[user:password@]host[:port]"),
        };
        let parts = Parts::parse(text).ok_or_else(|| wrong("not a URL"))?;
        let hop = match parts.scheme.as_str() {
            "http" => Hop::Plain,
            "https" => Hop::Tls,
            _ => return Err(wrong("neither http nor https")),
        };
        if parts.query || text.contains('#') || !matches!(parts.path.as_str(), "" | "/") {
            return Err(wrong("a path, query or fragment does not belong there"));
        }
        let authorization = match parts.user {
            Some(user) => {
                let decoded = unescape(user.expose()).ok_or_else(|| wrong("a wrong escape"))?;
                let mut decoded = decoded;
                if !decoded.expose().contains(&b':') {
                    decoded.expose_mut().push(b':');
                }
                let basic = Secret::new(STANDARD.encode(decoded.expose()));
                Some(Arc::new(Secret::new(format!("Basic {}", basic.expose()))))
            }
            None => None,
        };
        let port = parts.port.unwrap_or(match hop {
            Hop::Plain => 80,
            Hop::Tls => 443,
        });
        Ok(Self { host: parts.host, port, hop, authorization })
    }

    /// What the environment says for this issuer: `HTTPS_PROXY`, `ALL_PROXY`, `NO_PROXY`, in either case. An issuer on
    /// this machine is never spoken to through the environment's proxy.
    ///
    /// # Errors
    /// When it is no proxy's URL.
    pub fn from_environment(issuer: &IssuerAddress) -> Result<Option<Self>, ConnectorError> {
        Self::from_variables(issuer, |name| std::env::var(name).ok())
    }

    fn from_variables(
        issuer: &IssuerAddress,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<Self>, ConnectorError> {
        let value = |name: &str| {
            let either = [name.to_ascii_lowercase(), name.to_owned()];
            either.iter().filter_map(|name| variable(name)).find(|value| !value.trim().is_empty())
        };
        let Some(url) = value("HTTPS_PROXY").or_else(|| value("ALL_PROXY")) else {
            return Ok(None);
        };
        if is_this_machine(issuer.host()) || value("NO_PROXY").is_some_and(|no| exempt(&no, issuer))
        {
            return Ok(None);
        }
        let url = url.trim();
        let url = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
        Self::parse(&url).map(Some)
    }

    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    pub(crate) const fn hop(&self) -> Hop {
        self.hop
    }

    pub(crate) fn authorization(&self) -> Option<&Secret<String>> {
        self.authorization.as_deref()
    }

    /// Host and port, for errors.
    pub(crate) fn name(&self) -> String {
        authority(&self.host, self.port)
    }
}

/// `host:port`, an IPv6 address in brackets.
pub(crate) fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

fn is_this_machine(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Whether `NO_PROXY` names this issuer: `*`, a host, a domain (with or without a dot before it), an address, a range of
/// addresses as `10.0.0.0/8`; each but the last with or without a port.
fn exempt(no_proxy: &str, issuer: &IssuerAddress) -> bool {
    let host = issuer.host().to_ascii_lowercase();
    let address = host.parse::<IpAddr>().ok();
    no_proxy.split([',', ' ']).map(|entry| entry.trim().to_ascii_lowercase()).any(|entry| {
        if entry == "*" {
            return true;
        }
        if let (Some(address), Some((network, bits))) = (address, entry.split_once('/')) {
            return in_network(address, network, bits);
        }
        let (name, port) = match entry.rsplit_once(':') {
            // Several colons without brackets are an IPv6 address.
            Some((name, port)) if !name.contains(':') || name.ends_with(']') => (name, Some(port)),
            _ => (entry.as_str(), None),
        };
        if port.is_some_and(|port| port.parse() != Ok(issuer.port())) {
            return false;
        }
        let name = name.trim_start_matches('[').trim_end_matches(']').trim_start_matches('.');
        if name.is_empty() {
            return false;
        }
        match (address, name.parse::<IpAddr>()) {
            (Some(address), Ok(named)) => address == named,
            (Some(_), Err(_)) | (None, Ok(_)) => false,
            (None, Err(_)) => {
                host == name || host.strip_suffix(name).is_some_and(|rest| rest.ends_with('.'))
            }
        }
    })
}

fn in_network(address: IpAddr, network: &str, bits: &str) -> bool {
    let Ok(bits) = bits.parse::<u32>() else { return false };
    match (address, network.parse::<IpAddr>()) {
        (IpAddr::V4(address), Ok(IpAddr::V4(network))) => {
            let mask = mask(bits, 32);
            u128::from(address.to_bits()) & mask == u128::from(network.to_bits()) & mask
        }
        (IpAddr::V6(address), Ok(IpAddr::V6(network))) => {
            let mask = mask(bits, 128);
            address.to_bits() & mask == network.to_bits() & mask
        }
        _ => false,
    }
}

/// The upper `bits` of `of` bits.
const fn mask(bits: u32, of: u32) -> u128 {
    match u128::MAX.checked_shl(of.saturating_sub(bits)) {
        Some(mask) => mask,
        None => 0,
    }
}

/// What a URL consists of.
struct Parts {
    scheme: String,
    user: Option<Secret<String>>,
    host: String,
    port: Option<u16>,
    path: String,
    query: bool,
}

impl Parts {
    fn parse(text: &str) -> Option<Self> {
        let url: Uri = text.parse().ok()?;
        let authority = url.authority()?;
        let user = authority.as_str().rsplit_once('@').map(|(user, _)| user.to_owned());
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        // A port that is no number is no port for the library, and a mistake for us.
        let after_user = authority.as_str().rsplit('@').next()?;
        let port = match after_user.rsplit_once(':') {
            Some((before, port)) if !before.starts_with('[') || before.ends_with(']') => {
                Some(port.parse().ok()?)
            }
            _ => None,
        };
        if host.is_empty() || port == Some(0) {
            return None;
        }
        Some(Self {
            scheme: url.scheme_str()?.to_ascii_lowercase(),
            user: user.map(Secret::new),
            host: host.to_owned(),
            port,
            path: url.path().to_owned(),
            query: url.query().is_some(),
        })
    }
}

/// Percent-decoding.
fn unescape(text: &str) -> Option<Secret<Vec<u8>>> {
    let mut out = Secret::new(Vec::with_capacity(text.len()));
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        if *first == b'%' {
            let (digits, after) = after.split_at_checked(2)?;
            let mut octet = [0];
            hex::decode_to_slice(digits, &mut octet).ok()?;
            out.expose_mut().extend_from_slice(&octet);
            rest = after;
        } else {
            out.expose_mut().push(*first);
            rest = after;
        }
    }
    Some(out)
}

/// What a gateway does that has not heard of its issuer for long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offline {
    /// It goes on issuing.
    Serve,
    /// It stops after this time.
    RefuseAfter(Duration),
}

impl Default for Offline {
    /// Stops after 24 hours.
    fn default() -> Self {
        Self::RefuseAfter(Duration::from_secs(24 * 3600))
    }
}

/// The settings of a running connector.
#[derive(Clone, Debug)]
pub struct ConnectorSettings {
    /// Where the issuer is.
    pub issuer: IssuerAddress,
    /// Through which proxy.
    pub proxy: Option<Proxy>,
    /// What happens when it is out of reach for long.
    pub offline: Offline,
    /// How long the issuer may hold a check-in, seconds; at most 60.
    pub wait_seconds: u32,
    /// The delivery log: one JSON file for each event in `processing`, `succeed` and `failed` below this folder.
    pub status_folder: Option<PathBuf>,
    /// How many files `succeed` and `failed` keep each; the oldest go first.
    pub status_files: usize,
    /// The largest lifetime of a challenge and the skew: how long a replaced decryption key is kept.
    pub keep_previous_key: Duration,
    /// The gateway's version, as the issuer is told.
    pub software: String,
    /// The version of challenges that the gateway opens.
    pub challenge_version: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn issuer(text: &str) -> IssuerAddress {
        IssuerAddress::parse(text).unwrap()
    }

    #[test]
    fn an_issuers_address_is_https_and_nothing_but_a_place() {
        let address = issuer("https://issuer.example.org:8443/link/");
        assert_eq!(
            (address.host(), address.port(), address.path()),
            ("issuer.example.org", 8443, "/link")
        );
        assert_eq!(issuer("https://[::1]").host(), "::1");
        assert_eq!((issuer("https://a").port(), issuer("https://a").path()), (443, ""));
        for wrong in [
            "http://issuer.example.org",
            "issuer.example.org",
            "https://",
            "https://a@issuer.example.org",
            "https://issuer.example.org/?a=b",
            "https://issuer.example.org/#a",
            "https://issuer.example.org:0",
            "https://issuer.example.org:65536",
            "https://issuer.example.org:x",
            "/connector",
            "",
        ] {
            let refused = IssuerAddress::parse(wrong);
            assert!(matches!(refused, Err(ConnectorError::Setting { .. })), "{wrong}: {refused:?}");
        }
    }

    #[test]
    fn a_proxys_password_is_sent_and_never_shown() {
        let proxy = Proxy::parse("http://us%65r:p%40ss%3Aword@proxy.example.org:3128").unwrap();
        let sent = proxy.authorization().unwrap().expose().clone();
        assert_eq!(sent, format!("Basic {}", STANDARD.encode("user:p@ss:word")));
        let shown = format!("{proxy:?}");
        assert_eq!(shown, "Proxy(Plain proxy.example.org:3128)");
        let lonely = Proxy::parse("http://user@proxy").unwrap();
        assert_eq!(
            lonely.authorization().unwrap().expose(),
            &format!("Basic {}", STANDARD.encode("user:"))
        );
        for wrong in
            ["http://user:se%zzcret@proxy", "ftp://user:secret@proxy", "http://user:secret@proxy/x"]
        {
            let said = Proxy::parse(wrong).unwrap_err().to_string();
            assert!(!said.contains("secret") && !said.contains("zz"), "{said}");
        }
    }

    #[test]
    fn the_environment_names_a_proxy_and_its_exceptions() {
        let chosen = |variables: &[(&str, &str)], address: &str| {
            let variables = variables.to_vec();
            Proxy::from_variables(&issuer(address), move |name| {
                variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned())
            })
        };
        let name = |variables: &[(&str, &str)], address: &str| {
            chosen(variables, address).unwrap().map(|proxy| proxy.name())
        };
        let far = "https://issuer.example.org";
        assert_eq!(name(&[], far), None);
        assert_eq!(name(&[("HTTPS_PROXY", "")], far), None);
        assert_eq!(name(&[("HTTP_PROXY", "http://a:1")], far), None, "that is for http");
        assert_eq!(name(&[("HTTPS_PROXY", "http://a:1")], far).unwrap(), "a:1");
        assert_eq!(name(&[("https_proxy", "a:1")], far).unwrap(), "a:1");
        assert_eq!(name(&[("ALL_PROXY", "http://b:2")], far).unwrap(), "b:2");
        let both = [("ALL_PROXY", "http://b:2"), ("HTTPS_PROXY", "http://a:1")];
        assert_eq!(name(&both, far).unwrap(), "a:1");
        assert!(chosen(&[("HTTPS_PROXY", "socks5://a:1")], far).is_err());
        for (no_proxy, address, through) in [
            ("*", far, false),
            ("example.org", far, false),
            (".example.org", far, false),
            ("other.org, ISSUER.example.org", far, false),
            ("issuer.example.org:443", far, false),
            ("issuer.example.org:8443", far, true),
            ("ample.org", far, true),
            ("", far, true),
            ("10.0.0.0/8", "https://10.1.2.3", false),
            ("10.0.0.0/8", "https://11.1.2.3", true),
            ("10.1.2.3", "https://10.1.2.3", false),
            ("0.0.0.0/0", "https://10.1.2.3", false),
            ("fd00::/8", "https://[fd12::1]", false),
            ("fd12::1", "https://[fd12::1]", false),
            ("[fd12::1]:443", "https://[fd12::1]", false),
            ("fe00::/8", "https://[fd12::1]", true),
            ("", "https://127.0.0.1:8443", false),
            ("", "https://localhost", false),
        ] {
            let variables = [("HTTPS_PROXY", "http://a:1"), ("NO_PROXY", no_proxy)];
            assert_eq!(name(&variables, address).is_some(), through, "{no_proxy} {address}");
        }
    }
}
