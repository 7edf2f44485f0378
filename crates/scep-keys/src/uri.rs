//! The names of keys on tokens: PKCS #11 URIs (RFC 7512), of which the attributes are served that name one key for good.

use core::fmt;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// What every such URI begins with.
pub(crate) const SCHEME: &str = "pkcs11:";
/// Longest URI.
const MAX_URI: usize = 1_024;
/// Longest value. Labels of tokens have 32 octets; labels of objects and paths need more.
const MAX_VALUE: usize = 255;
/// Longest CKA_ID.
const MAX_ID: usize = 64;

/// The name of a private key on a token: a PKCS #11 URI (RFC 7512).
///
/// ```
/// use scep_keys::TokenUri;
/// use std::path::Path;
///
/// let uri = TokenUri::parse(
///     "pkcs11:token=scep;object=ca?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=hsm.pin",
///     Path::new("/etc/scep"),
/// )?;
/// assert_eq!(uri.to_string(), "pkcs11:token=scep;object=ca");
/// # Ok::<(), scep_keys::TokenUriError>(())
/// ```
///
/// | attribute | names |
/// | --- | --- |
/// | `token`, `serial`, `manufacturer`, `model` | the token: one of the first two at least |
/// | `object`, `id` | the key: its label, its CKA_ID (percent-encoded octets), or both |
/// | `type` | nothing; `private` is allowed |
/// | `module-path` | the library that speaks to the token: an absolute path |
/// | `pin-source` | where the PIN is: the path of a file, relative to the configuration (`file:` before it is allowed), or `env:NAME` |
///
/// Every other attribute is refused by name: `pin-value`, as a secret has no place in a configuration, and `slot-id`, as
/// numbers of slots change. So is an attribute that comes twice. A value has at most 255 octets, an id 64, the URI 1,024.
///
/// `Display` leaves out everything behind the `?`.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenUri {
    token: TokenName,
    object: ObjectName,
    module: PathBuf,
    pin: PinSource,
}

/// Which token. What is `None` may be anything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TokenName {
    pub(crate) label: Option<String>,
    pub(crate) serial: Option<String>,
    pub(crate) manufacturer: Option<String>,
    pub(crate) model: Option<String>,
}

/// Which key of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ObjectName {
    pub(crate) label: Option<String>,
    pub(crate) id: Option<Vec<u8>>,
}

/// Where the PIN is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PinSource {
    /// The first line of a file.
    File(PathBuf),
    /// An environment variable.
    Environment(String),
}

/// Why a text is no name of a key on a token.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TokenUriError {
    /// Another scheme.
    #[error("does not begin with \"pkcs11:\"")]
    Scheme,
    /// Too long.
    #[error("{what} is longer than {limit} octets")]
    TooLong {
        /// The URI or one of its attributes.
        what: String,
        /// How long it may be.
        limit: usize,
    },
    /// No `name=value`.
    #[error("\"{part}\" is not name=value")]
    NotPair {
        /// As it stands there.
        part: String,
    },
    /// Twice, so that it is not clear which is meant.
    #[error("attribute \"{name}\" is there twice")]
    Twice {
        /// Its name.
        name: String,
    },
    /// The PIN itself.
    #[error(
        "attribute \"pin-value\": a PIN has no place in a configuration; put it into a file of mode 600 and say \
         pin-source=FILE, or into the environment and say pin-source=env:NAME"
    )]
    PinValue,
    /// Not one of those that are served.
    #[error(
        "attribute \"{name}\" is not served; these are: token, serial, manufacturer, model, object, id, type, and \
         behind the ? module-path, pin-source"
    )]
    Attribute {
        /// Its name.
        name: String,
    },
    /// A value that is not acceptable.
    #[error("attribute \"{name}\": {why}")]
    Value {
        /// Its name.
        name: &'static str,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Something without which it names nothing.
    #[error("{what} is missing")]
    Missing {
        /// Which attributes.
        what: &'static str,
    },
}

impl TokenUri {
    /// Parses one. A relative `pin-source` is relative to `base`.
    ///
    /// # Errors
    /// [`TokenUriError`] with the attribute that is wrong.
    pub fn parse(text: &str, base: &Path) -> Result<Self, TokenUriError> {
        if text.len() > MAX_URI {
            return Err(TokenUriError::TooLong { what: "the URI".into(), limit: MAX_URI });
        }
        let rest = text.strip_prefix(SCHEME).ok_or(TokenUriError::Scheme)?;
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let mut token = TokenName::default();
        let mut object = ObjectName::default();
        let mut kind = None;
        for part in path.split(';').filter(|part| !part.is_empty()) {
            let (name, value) = pair(part)?;
            match name {
                "token" => set(&mut token.label, "token", || utf8("token", value))?,
                "serial" => set(&mut token.serial, "serial", || utf8("serial", value))?,
                "manufacturer" => {
                    set(&mut token.manufacturer, "manufacturer", || utf8("manufacturer", value))?;
                }
                "model" => set(&mut token.model, "model", || utf8("model", value))?,
                "object" => set(&mut object.label, "object", || utf8("object", value))?,
                "id" => set(&mut object.id, "id", || id(value))?,
                "type" => set(&mut kind, "type", || match value {
                    "private" => Ok(()),
                    _ => Err(TokenUriError::Value { name: "type", why: "must be private" }),
                })?,
                other => return Err(unknown(other)),
            }
        }
        let (mut module, mut pin) = (None, None);
        for part in query.split('&').filter(|part| !part.is_empty()) {
            let (name, value) = pair(part)?;
            match name {
                "module-path" => set(&mut module, "module-path", || module_path(value))?,
                "pin-source" => set(&mut pin, "pin-source", || pin_source(value, base))?,
                other => return Err(unknown(other)),
            }
        }
        let missing = |what| TokenUriError::Missing { what };
        if token.label.is_none() && token.serial.is_none() {
            return Err(missing("the token (token= or serial=)"));
        }
        if object.label.is_none() && object.id.is_none() {
            return Err(missing("the key on it (object= or id=)"));
        }
        let module = module.ok_or_else(|| missing("the library (?module-path=)"))?;
        let pin = pin.ok_or_else(|| missing("the place of the PIN (?pin-source=)"))?;
        Ok(Self { token, object, module, pin })
    }

    #[cfg(feature = "pkcs11")]
    pub(crate) const fn token(&self) -> &TokenName {
        &self.token
    }

    #[cfg(feature = "pkcs11")]
    pub(crate) const fn object(&self) -> &ObjectName {
        &self.object
    }

    #[cfg(feature = "pkcs11")]
    pub(crate) fn module(&self) -> &Path {
        &self.module
    }

    #[cfg(feature = "pkcs11")]
    pub(crate) const fn pin(&self) -> &PinSource {
        &self.pin
    }
}

fn unknown(name: &str) -> TokenUriError {
    match name {
        "pin-value" => TokenUriError::PinValue,
        _ => TokenUriError::Attribute { name: name.to_owned() },
    }
}

fn pair(part: &str) -> Result<(&str, &str), TokenUriError> {
    let not_pair = || {
        // Not more of it than a name: what has lost its `=` may be a secret.
        TokenUriError::NotPair { part: part.chars().take(16).collect() }
    };
    let (name, value) = part.split_once('=').ok_or_else(not_pair)?;
    if name == "pin-value" {
        return Err(TokenUriError::PinValue);
    }
    if value.is_empty() {
        return Err(not_pair());
    }
    Ok((name, value))
}

fn set<T>(
    slot: &mut Option<T>,
    name: &'static str,
    value: impl FnOnce() -> Result<T, TokenUriError>,
) -> Result<(), TokenUriError> {
    if slot.replace(value()?).is_some() {
        return Err(TokenUriError::Twice { name: name.to_owned() });
    }
    Ok(())
}

/// RFC 3986, 2.1: octets that are no ASCII printables, or that divide, are percent-encoded.
fn decode(name: &'static str, value: &str) -> Result<Vec<u8>, TokenUriError> {
    let wrong = |why| TokenUriError::Value { name, why };
    let mut octets = Vec::new();
    let mut rest = value.bytes();
    while let Some(octet) = rest.next() {
        match octet {
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                let (high, low) = (digit(), digit());
                let octet = high.zip(low).and_then(|(h, l)| u8::try_from((h << 4) | l).ok());
                octets.push(octet.ok_or_else(|| wrong("% without two hexadecimal digits"))?);
            }
            b'!'..=b'~' => octets.push(octet),
            _ => return Err(wrong("spaces and what is not ASCII must be percent-encoded")),
        }
    }
    if octets.len() > MAX_VALUE {
        return Err(TokenUriError::TooLong { what: name.to_owned(), limit: MAX_VALUE });
    }
    if octets.contains(&0) && name != "id" {
        return Err(wrong("a zero octet"));
    }
    Ok(octets)
}

fn utf8(name: &'static str, value: &str) -> Result<String, TokenUriError> {
    String::from_utf8(decode(name, value)?)
        .map_err(|_| TokenUriError::Value { name, why: "not UTF-8" })
}

fn id(value: &str) -> Result<Vec<u8>, TokenUriError> {
    let octets = decode("id", value)?;
    if octets.len() > MAX_ID {
        return Err(TokenUriError::TooLong { what: "id".to_owned(), limit: MAX_ID });
    }
    Ok(octets)
}

/// Absolute, so that no search path decides which code is loaded.
fn module_path(value: &str) -> Result<PathBuf, TokenUriError> {
    let path = PathBuf::from(utf8("module-path", value)?);
    if path.is_absolute() {
        Ok(path)
    } else {
        Err(TokenUriError::Value { name: "module-path", why: "must be an absolute path" })
    }
}

fn pin_source(value: &str, base: &Path) -> Result<PinSource, TokenUriError> {
    let wrong = |why| TokenUriError::Value { name: "pin-source", why };
    let value = utf8("pin-source", value)?;
    if let Some(name) = value.strip_prefix("env:") {
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        return if !name.is_empty() && name.chars().all(word) {
            Ok(PinSource::Environment(name.to_owned()))
        } else {
            Err(wrong("env: is followed by the name of an environment variable"))
        };
    }
    // RFC 7512 has the output of a command there, which is not served.
    if value.starts_with('|') {
        return Err(wrong("a command is not run; name a file or env:NAME"));
    }
    let path = value.strip_prefix("file://").or_else(|| value.strip_prefix("file:"));
    let path = base.join(path.unwrap_or(&value));
    // Absolute, so that two names of one file are one: `pin` and `./pin`.
    Ok(PinSource::File(std::path::absolute(&path).unwrap_or(path)))
}

/// With percent-encoding of whatever could be mistaken.
fn encode(octets: &[u8]) -> String {
    let mut text = String::new();
    for octet in octets {
        match octet {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                text.push(char::from(*octet));
            }
            _ => text.push_str(&format!("%{octet:02X}")),
        }
    }
    text
}

impl fmt::Display for TokenUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TokenName { label, serial, manufacturer, model } = &self.token;
        let text = |part: &Option<String>| part.as_ref().map(|text| encode(text.as_bytes()));
        let parts = [
            ("token", text(label)),
            ("serial", text(serial)),
            ("manufacturer", text(manufacturer)),
            ("model", text(model)),
            ("object", text(&self.object.label)),
            ("id", self.object.id.as_deref().map(encode)),
        ];
        let parts = parts.into_iter().filter_map(|(name, value)| Some((name, value?)));
        for (at, (name, value)) in parts.enumerate() {
            write!(f, "{}{name}={value}", if at == 0 { SCHEME } else { ";" })?;
        }
        Ok(())
    }
}

impl fmt::Debug for TokenUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenUri({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAIL: &str = "?module-path=/lib/p.so&pin-source=pin";

    fn parse(text: &str) -> Result<TokenUri, TokenUriError> {
        TokenUri::parse(text, Path::new("/etc/scep"))
    }

    #[test]
    fn a_key_is_named_by_token_and_object() {
        let text =
            format!("pkcs11:token=My%20token;serial=1;object=a%3Bb;id=%00%ff;type=private{TAIL}");
        let uri = parse(&text).unwrap();
        assert_eq!(uri.token.label.as_deref(), Some("My token"));
        assert_eq!(uri.object.label.as_deref(), Some("a;b"));
        assert_eq!(uri.object.id.as_deref(), Some([0, 0xff].as_slice()));
        assert_eq!(uri.module, Path::new("/lib/p.so"));
        assert_eq!(uri.pin, PinSource::File("/etc/scep/pin".into()));
        let shown = "pkcs11:token=My%20token;serial=1;object=a%3Bb;id=%00%FF";
        assert_eq!(uri.to_string(), shown);
        assert_eq!(format!("{uri:?}"), format!("TokenUri({shown})"));
        // What it shows names the same key.
        assert_eq!(parse(&format!("{shown}{TAIL}")).unwrap(), uri);
    }

    #[test]
    fn the_pin_is_in_a_file_or_in_the_environment() {
        let pin = |source: &str| {
            parse(&format!("pkcs11:token=t;object=o?module-path=/p.so&pin-source={source}"))
                .map(|uri| uri.pin)
        };
        for (source, path) in [
            ("/run/pin", "/run/pin"),
            ("file:/run/pin", "/run/pin"),
            ("file:///run/pin", "/run/pin"),
            ("file:pin", "/etc/scep/pin"),
        ] {
            assert_eq!(pin(source).unwrap(), PinSource::File(path.into()), "{source}");
        }
        assert_eq!(pin("env:HSM_PIN").unwrap(), PinSource::Environment("HSM_PIN".into()));
        for bad in ["env:", "env:A=B", "%7Ccat%20pin"] {
            let error = pin(bad).unwrap_err();
            assert!(matches!(error, TokenUriError::Value { name: "pin-source", .. }), "{bad}");
        }
    }

    #[test]
    fn one_file_has_one_name() {
        let uri =
            |base| TokenUri::parse(&format!("pkcs11:token=t;object=o{TAIL}"), Path::new(base));
        assert_eq!(uri("").unwrap(), uri(".").unwrap());
        assert_ne!(uri("").unwrap(), uri("..").unwrap());
    }

    #[test]
    fn what_is_not_understood_is_refused_by_name() {
        let x = |n: usize| "x".repeat(n);
        let good = format!("pkcs11:token=t;object=o{TAIL}");
        parse(&good).unwrap();
        for (text, expected) in [
            ("file:ca.pem".into(), "does not begin"),
            (good.replace("object", "slot-id=0;object"), "attribute \"slot-id\" is not served"),
            (format!("{good}&x-pool=1"), "attribute \"x-pool\" is not served"),
            (format!("{good}&module-name=p"), "attribute \"module-name\" is not served"),
            (format!("{good}&pin-value=1234"), "attribute \"pin-value\": a PIN has no place"),
            (good.replace("object", "pin-value=;object"), "attribute \"pin-value\": a PIN"),
            (good.replace("object", "token=u;object"), "attribute \"token\" is there twice"),
            (format!("{good}&pin-source=p"), "attribute \"pin-source\" is there twice"),
            (good.replace("token=t", "token"), "\"token\" is not name=value"),
            (good.replace("token=t", "token="), "\"token=\" is not name=value"),
            (good.replace("object", "type=cert;object"), "attribute \"type\": must be private"),
            (good.replace("token=t", "token=%2"), "attribute \"token\": % without"),
            (good.replace("token=t", "token=%+1"), "attribute \"token\": % without"),
            (good.replace("token=t", "token=a b"), "attribute \"token\": spaces"),
            (good.replace("token=t", "token=%00"), "attribute \"token\": a zero octet"),
            (good.replace("token=t", "token=%FF"), "attribute \"token\": not UTF-8"),
            (
                good.replace("/p.so", "p.so").replace("/lib", ""),
                "attribute \"module-path\": must be",
            ),
            (good.replace("token=t;", ""), "the token (token= or serial=) is missing"),
            (good.replace(";object=o", ""), "the key on it (object= or id=) is missing"),
            (good.replace("module-path=/lib/p.so&", ""), "the library (?module-path=) is missing"),
            (good.replace("&pin-source=pin", ""), "the place of the PIN (?pin-source=) is missing"),
            (good.replace("token=t", &format!("token={}", x(256))), "token is longer than 255"),
            (good.replace("object=o", &format!("id={}", x(65))), "id is longer than 64"),
            (format!("pkcs11:{}", x(1_024)), "the URI is longer than 1024"),
        ] {
            let error = parse(&text).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{text}: {error}");
            assert!(!error.contains("1234"), "{error}");
        }
    }
}
