//! What the engine is asked to sign.

use super::SignBy;
use crate::error::CaError;
use scep_policy::CertificateContents;
use scep_types::{AttributeValue, DistinguishedName, GeneralName, KeyUsages};
use serde_json::{Value, json};

pub(super) fn pem_of(tag: &str, der: &[u8]) -> String {
    pem::encode(&pem::Pem::new(tag, der))
}

/// The engine's name of a key usage: that of Go's constants.
fn usage_names(usages: KeyUsages) -> Vec<String> {
    let name = |standard: &str| match standard {
        "nonRepudiation" => "ContentCommitment".to_owned(),
        "cRLSign" => "CRLSign".to_owned(),
        "keyCertSign" => "CertSign".to_owned(),
        other => {
            let (first, rest) = other.split_at_checked(1).unwrap_or((other, ""));
            format!("{}{rest}", first.to_ascii_uppercase())
        }
    };
    usages.names().map(name).collect()
}

/// The first commonName.
fn common_name(subject: &DistinguishedName) -> Option<&str> {
    let all = subject.rdns().iter().flat_map(|rdn| rdn.attributes());
    all.into_iter().find(|one| one.short_name() == "CN").map(AttributeValue::value)
}

/// What the server is asked for. A role that takes names from the request (the default) does not read the names here,
/// and one that takes them from parameters finds the claims'.
pub(super) fn request(
    contents: &CertificateContents,
    csr_der: &[u8],
    sign_by: &SignBy,
) -> Result<Value, CaError> {
    if contents.key_usage.intersects(KeyUsages::KEY_CERT_SIGN.union(KeyUsages::CRL_SIGN)) {
        return Err(CaError::CaUsage { usages: contents.key_usage });
    }
    let mut body = json!({
        "csr": pem_of("CERTIFICATE REQUEST", csr_der),
        "not_after": contents.not_after.to_string(),
        "exclude_cn_from_sans": true,
        "format": "pem",
    });
    let Some(fields) = body.as_object_mut() else { return Ok(body) };
    match sign_by {
        SignBy::Verbatim(_) => {
            let purposes = contents.extended_key_usages.purposes().iter();
            let oids: Vec<String> = purposes.map(ToString::to_string).collect();
            fields.insert("key_usage".into(), json!(usage_names(contents.key_usage)));
            fields.insert("ext_key_usage".into(), json!([]));
            fields.insert("ext_key_usage_oids".into(), json!(oids));
        }
        SignBy::Role(_) => {
            // A role puts none in, so the certificate would differ: better never made.
            if let Some(extra) = contents.extensions.first() {
                return Err(CaError::ReservedExtension { oid: extra.oid });
            }
            let (mut names, mut addresses, mut uris) = (Vec::new(), Vec::new(), Vec::new());
            for name in &contents.subject_alt_names {
                match name {
                    GeneralName::Dns(text) | GeneralName::Email(text) => names.push(text.clone()),
                    GeneralName::Uri(text) => uris.push(text.clone()),
                    GeneralName::Ip(octets) => addresses.extend(address(octets)),
                    // The engine adds other names to those of the request instead of taking either: they come from
                    // the request.
                    _ => {}
                }
            }
            if let Some(name) = common_name(&contents.subject) {
                fields.insert("common_name".into(), json!(name));
            }
            fields.insert("alt_names".into(), json!(names.join(",")));
            fields.insert("ip_sans".into(), json!(addresses));
            fields.insert("uri_sans".into(), json!(uris));
        }
    }
    Ok(body)
}

fn address(octets: &[u8]) -> Option<String> {
    let v4 = <[u8; 4]>::try_from(octets).map(std::net::IpAddr::from);
    let v6 = || <[u8; 16]>::try_from(octets).map(std::net::IpAddr::from);
    v4.or_else(|_| v6()).ok().map(|address| address.to_string())
}
