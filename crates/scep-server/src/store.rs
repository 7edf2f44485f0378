//! The certificate store over HTTP (RFC 4387) for the CA's certificates and its CRL.
//!
//! The certificates of devices are not given out: they carry the names of people and machines, and whoever meets a
//! device is shown its certificate by the device itself.

use crate::gateway::Gateway;
use crate::http::{Body, plain, respond};
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use scep_types::CertificateDer;
use scep_types::tlv::{self, tag};
use sha1::{Digest, Sha1};

/// Where the certificate store is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreSettings {
    /// The path; it goes before every endpoint. `certificates/search.cgi` and `crls/search.cgi` stand below it.
    pub path: String,
}

impl Default for StoreSettings {
    /// `/certstore`.
    fn default() -> Self {
        Self { path: "/certstore".into() }
    }
}

/// Longest query: an attribute, and 27 characters that may all be escaped.
const MAX_QUERY: usize = 128;
/// A SHA-1 in base64 without padding.
const KEY_LENGTH: usize = 27;
/// Between the parts of an answer with several certificates. Only a certificate that was made for it contains this.
const BOUNDARY: &str = "scep-certificate-7d0c1f6a5be94e3f";
const MIXED: &str = "multipart/mixed; boundary=scep-certificate-7d0c1f6a5be94e3f";

/// What is searched by (RFC 4387, 2.2). `uri` and `name` search for people and machines, which are not here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attribute {
    Certificate,
    Issuer,
    IssuerAndSerial,
    Subject,
    SubjectKeyId,
}

/// An attribute, and the SHA-1 that it must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Search {
    attribute: Attribute,
    key: [u8; 20],
}

/// Why a query is no search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NoSearch {
    /// An attribute that nothing here is found by.
    Nothing,
    /// Not one attribute, or a value that is not of its form.
    Malformed,
}

impl Search {
    fn parse(query: &str) -> Result<Self, NoSearch> {
        use base64::Engine as _;
        if query.len() > MAX_QUERY || query.contains('&') {
            return Err(NoSearch::Malformed);
        }
        let (name, value) = query.split_once('=').ok_or(NoSearch::Malformed)?;
        let attribute = match name {
            "certHash" => Attribute::Certificate,
            "iHash" => Attribute::Issuer,
            "iAndSHash" => Attribute::IssuerAndSerial,
            "sHash" => Attribute::Subject,
            "sKIDHash" => Attribute::SubjectKeyId,
            _ => return Err(NoSearch::Nothing),
        };
        let value = unescape(value).ok_or(NoSearch::Malformed)?;
        if value.len() != KEY_LENGTH {
            return Err(NoSearch::Malformed);
        }
        // Only its 64 characters, and no bits that are set and not used: one key has one form (RFC 4387, 2.1).
        let key = base64::engine::general_purpose::STANDARD_NO_PAD
            .decode(value)
            .map_err(|_| NoSearch::Malformed)?;
        let key = key.try_into().map_err(|_| NoSearch::Malformed)?;
        Ok(Self { attribute, key })
    }

    fn finds(&self, certificate: &CertificateDer) -> bool {
        let serial = tlv::encode(tag::INTEGER, certificate.serial_content());
        let hash = match self.attribute {
            Attribute::Certificate => Sha1::digest(certificate.as_der()),
            Attribute::Issuer => Sha1::digest(certificate.issuer_der()),
            Attribute::IssuerAndSerial => {
                Sha1::digest(tlv::sequence(&[certificate.issuer_der(), &serial]))
            }
            Attribute::Subject => Sha1::digest(certificate.subject_der()),
            Attribute::SubjectKeyId => match certificate.subject_key_id() {
                Some(id) => Sha1::digest(id),
                None => return false,
            },
        };
        hash[..] == self.key
    }

    /// A CRL is its issuer's, by name or by key.
    fn finds_crl_of(&self, ca: &CertificateDer) -> bool {
        match self.attribute {
            Attribute::Issuer => Sha1::digest(ca.subject_der())[..] == self.key,
            Attribute::SubjectKeyId => self.finds(ca),
            Attribute::Certificate | Attribute::IssuerAndSerial | Attribute::Subject => false,
        }
    }
}

/// Takes the escapes off; `None`: one of them is none. What is left is for the decoder to judge.
pub(crate) fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(octet) = rest.next() {
        if octet != b'%' {
            octets.push(octet);
            continue;
        }
        let mut digit = || char::from(rest.next()?).to_digit(16);
        let value = digit()?.checked_mul(16)?.checked_add(digit()?)?;
        octets.push(u8::try_from(value).ok()?);
    }
    Some(octets)
}

impl Gateway {
    /// Serves the certificate store of RFC 4387 from the next request on. Without a call it is not served.
    pub fn set_certificate_store(&self, settings: StoreSettings) {
        self.inner.store.set(Some(settings));
    }

    /// Answers what is asked below the store's path; `None`: it is asked elsewhere.
    pub(crate) fn store_response(&self, request: &Request<Incoming>) -> Option<Response<Body>> {
        let settings = self.inner.store.get();
        let below = request.uri().path().strip_prefix(settings.as_ref().as_ref()?.path.as_str())?;
        if !below.is_empty() && !below.starts_with('/') {
            return None;
        }
        let nothing = || plain(StatusCode::NOT_FOUND, "not found\n");
        let crls = match below {
            "/certificates/search.cgi" => false,
            "/crls/search.cgi" => true,
            _ => return Some(nothing()),
        };
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "GET only\n");
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return Some(response);
        }
        let search = match Search::parse(request.uri().query().unwrap_or_default()) {
            Ok(search) => search,
            Err(NoSearch::Nothing) => return Some(nothing()),
            Err(NoSearch::Malformed) => {
                return Some(plain(StatusCode::BAD_REQUEST, "one attribute with its value\n"));
            }
        };
        let offices = &self.inner.offices;
        if crls {
            let found = offices.iter().find(|office| {
                let ca = office.ca.chain().first();
                office.revokes() && ca.is_some_and(|ca| search.finds_crl_of(ca))
            });
            return Some(found.map_or_else(nothing, |office| office.crl_response(request)));
        }
        let mut found: Vec<&CertificateDer> = Vec::new();
        for one in offices.iter().flat_map(|office| office.ca.chain()) {
            // CAs may share a root.
            if search.finds(one) && !found.contains(&one) {
                found.push(one);
            }
        }
        Some(match found.as_slice() {
            [] => nothing(),
            [one] => respond(StatusCode::OK, "application/pkix-cert", one.as_der().to_vec()),
            several => {
                let mut response = respond(StatusCode::OK, "text/plain", mixed(several));
                response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(MIXED));
                response
            }
        })
    }
}

/// Several certificates, each a part.
fn mixed(certificates: &[&CertificateDer]) -> Vec<u8> {
    let mut body = Vec::new();
    for certificate in certificates {
        let head = format!("--{BOUNDARY}\r\nContent-Type: application/pkix-cert\r\n\r\n");
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(certificate.as_der());
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(format!("--{BOUNDARY}--\r\n").as_bytes());
    body
}
