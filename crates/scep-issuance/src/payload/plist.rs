//! Apple's configuration profile with one payload, com.apple.security.scep.
//!
//! The keys are those of "SCEP" (Device Management, Apple Developer Documentation) and of its machine-readable form,
//! `mdm/profiles/com.apple.security.scep.yaml` in Apple's device-management repository.
//!
//! The property list is written here and by no crate: it has six types of values, and what it must have right is the
//! escaping, which the tests leave to another reader.

use super::{Form, PayloadError, PayloadInput, no_san, xml};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use scep_types::{AttributeValue, ChallengeId, GeneralName};
use sha1::{Digest, Sha1};
use std::fmt::Write as _;

const FORM: Form = Form::AppleMobileconfig;

/// The sizes in the documentation that a challenge can allow.
const SIZES: &[u32] = &[2048, 4096];

/// Apple's defaults, written out: how often to ask again after PENDING, and after how many seconds.
const RETRIES: u32 = 3;
const RETRY_DELAY: u32 = 10;

/// A configuration profile that makes an Apple device enrol with this challenge.
///
/// Apple's devices ask for no extended key usages, and for no keys but RSA ones. CAFingerprint is the SHA-1 of the CA's
/// certificate: the developer documentation says only "fingerprint", and "SCEP settings" (Profile Manager User Guide)
/// that it is a SHA-1 or an MD5.
///
/// # Errors
/// When there is no URL, or the challenge demands what the form cannot say: other subjectAltNames than e-mail, DNS, URI
/// and UPN, other key usages than digitalSignature and keyEncipherment, extended key usages in the request, other keys
/// than RSA of 2,048 and 4,096 bits.
pub fn apple_mobileconfig(input: &PayloadInput) -> Result<String, PayloadError> {
    let claims = &input.claims;
    let expectation = &claims.expectation;
    let url = input.urls.first().ok_or(PayloadError::UrlMissing { form: FORM })?;
    if expectation.demand_usages == scep_challenge::DemandUsages::Yes {
        return Err(PayloadError::UsagesDemanded);
    }
    input.check_names(FORM)?;
    let usage = input.key_usage_bits(FORM, |usage| match usage {
        "digitalSignature" => Some(1),
        "keyEncipherment" => Some(4),
        _ => None,
    })?;
    let bits = input.rsa_bits(FORM, SIZES, "2048 and 4096")?;

    let mut scep = vec![("URL", Plist::text(url))];
    if let Some(name) = &input.names.ca_name {
        scep.push(("Name", Plist::text(name)));
    }
    if !expectation.subject.is_empty() {
        scep.push(("Subject", subject(input)));
    }
    let alt_names = alt_names(&expectation.subject_alt_names)?;
    if !alt_names.is_empty() {
        scep.push(("SubjectAltName", Plist::Dict(alt_names)));
    }
    scep.push(("Challenge", Plist::text(input.challenge.expose())));
    scep.push(("Keysize", Plist::Integer(bits)));
    scep.push(("Key Type", Plist::text("RSA")));
    scep.push(("Key Usage", Plist::Integer(usage)));
    if let Some(certificate) = &input.ca_certificate {
        let fingerprint: [u8; 20] = Sha1::digest(certificate.as_der()).into();
        scep.push(("CAFingerprint", Plist::Data(fingerprint.to_vec())));
    }
    scep.push(("Retries", Plist::Integer(RETRIES)));
    scep.push(("RetryDelay", Plist::Integer(RETRY_DELAY)));
    scep.push(("AllowAllAppsAccess", Plist::False));
    scep.push(("KeyIsExtractable", Plist::False));

    let identifier = format!("{}.{}", input.names.identifier, claims.profile);
    let common = |kind, suffix: &str, name| {
        vec![
            ("PayloadType", Plist::text(kind)),
            ("PayloadVersion", Plist::Integer(1)),
            ("PayloadIdentifier", Plist::text(&format!("{identifier}{suffix}"))),
            ("PayloadUUID", Plist::text(&uuid(claims.challenge_id, name))),
            ("PayloadDisplayName", Plist::text(&input.names.display)),
        ]
    };
    let mut payload = common("com.apple.security.scep", ".scep", "scep");
    payload.push(("PayloadContent", Plist::Dict(scep)));
    let mut profile = common("Configuration", "", "profile");
    profile.push(("PayloadContent", Plist::Array(vec![Plist::Dict(payload)])));

    let mut out = String::from(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <!DOCTYPE plist PUBLIC \"-//Apple//DTD PLIST 1.0//EN\" \
         \"http://www.apple.com/DTDs/PropertyList-1.0.dtd\">\n\
         <plist version=\"1.0\">\n",
    );
    Plist::Dict(profile).write(&mut out);
    out.push_str("</plist>\n");
    Ok(out)
}

/// A list of RDNs, each a list of pairs of type and value.
fn subject(input: &PayloadInput) -> Plist {
    let pair = |attribute: &AttributeValue| {
        Plist::Array(vec![Plist::text(&kind(attribute)), Plist::text(attribute.value())])
    };
    let rdns = input.claims.expectation.subject.rdns().iter();
    Plist::Array(
        rdns.map(|rdn| Plist::Array(rdn.attributes().iter().map(pair).collect())).collect(),
    )
}

/// The six shortcuts that the documentation has; every other type as a dotted OID.
fn kind(attribute: &AttributeValue) -> String {
    let short = attribute.short_name();
    if ["C", "L", "ST", "O", "OU", "CN"].contains(&short.as_str()) {
        short
    } else {
        attribute.oid().to_string()
    }
}

/// The dictionary: one string, or an array of them, for each kind.
fn alt_names(names: &[GeneralName]) -> Result<Vec<(&'static str, Plist)>, PayloadError> {
    let kinds = ["rfc822Name", "dNSName", "uniformResourceIdentifier", "ntPrincipalName"];
    let mut named = Vec::new();
    for name in names {
        named.push(match name {
            GeneralName::Email(text) => ("rfc822Name", text.as_str()),
            GeneralName::Dns(text) => ("dNSName", text.as_str()),
            GeneralName::Uri(text) => ("uniformResourceIdentifier", text.as_str()),
            other => {
                let why = "it has e-mail addresses, DNS names, URIs and principal names only";
                ("ntPrincipalName", other.as_upn().ok_or_else(|| no_san(FORM, other, why))?)
            }
        });
    }
    let of =
        |kind| named.iter().filter(move |(k, _)| *k == kind).map(|(_, text)| Plist::text(text));
    Ok(kinds
        .into_iter()
        .filter_map(|kind| {
            let mut texts: Vec<Plist> = of(kind).collect();
            match texts.len() {
                0 => None,
                1 => texts.pop().map(|only| (kind, only)),
                _ => Some((kind, Plist::Array(texts))),
            }
        })
        .collect())
}

/// A UUID of version 5 (RFC 9562, 5.5) in the challenge's own namespace: the same challenge has the same one.
fn uuid(challenge: ChallengeId, name: &str) -> String {
    let digest: [u8; 20] = Sha1::digest([challenge.as_bytes(), name.as_bytes()].concat()).into();
    let head = digest.first_chunk().copied().unwrap_or_default();
    let n = u128::from_be_bytes(head) & !(0xf << 76) & !(0b11 << 62) | 5 << 76 | 0b10 << 62;
    let (a, b, c) = (n >> 96, (n >> 80) & 0xffff, (n >> 64) & 0xffff);
    let (d, e) = ((n >> 48) & 0xffff, n & 0xffff_ffff_ffff);
    format!("{a:08X}-{b:04X}-{c:04X}-{d:04X}-{e:012X}")
}

/// The values that a property list has and we need.
enum Plist {
    Text(String),
    Integer(u32),
    Data(Vec<u8>),
    False,
    Array(Vec<Self>),
    Dict(Vec<(&'static str, Self)>),
}

impl Plist {
    fn text(text: &str) -> Self {
        Self::Text(text.to_owned())
    }

    fn write(&self, out: &mut String) {
        // Writing to a String cannot fail.
        let _ = match self {
            Self::Text(text) => writeln!(out, "<string>{}</string>", xml::escape(text)),
            Self::Integer(number) => writeln!(out, "<integer>{number}</integer>"),
            Self::Data(octets) => writeln!(out, "<data>{}</data>", STANDARD.encode(octets)),
            Self::False => writeln!(out, "<false/>"),
            Self::Array(values) => {
                out.push_str("<array>\n");
                values.iter().for_each(|value| value.write(out));
                writeln!(out, "</array>")
            }
            Self::Dict(entries) => {
                out.push_str("<dict>\n");
                for (key, value) in entries {
                    let _ = writeln!(out, "<key>{key}</key>");
                    value.write(out);
                }
                writeln!(out, "</dict>")
            }
        };
    }
}
