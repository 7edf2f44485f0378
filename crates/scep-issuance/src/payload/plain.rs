//! JSON for device management that is neither.

use super::PayloadInput;
use scep_challenge::{DemandUsages, Purpose};
use scep_types::{DistinguishedName, ExtendedKeyUsages, GeneralName};
use serde_json::{Value, json};

/// Everything that a request with this challenge must contain, plainly. It holds the challenge: not for logs.
///
/// `subject` is text for people; `subject_rdns` is the name: a list of RDNs in encoded order, each a list of attributes.
#[must_use]
pub fn json(input: &PayloadInput) -> Value {
    let claims = &input.claims;
    let e = &claims.expectation;
    json!({
        "urls": input.urls,
        "challenge": input.challenge.expose(),
        "challenge_id": claims.challenge_id.to_string(),
        "tenant": claims.tenant.as_str(),
        "gateway_group": claims.audience.as_str(),
        "profile": claims.profile.as_str(),
        "device": claims.device.as_str(),
        "user": claims.user.as_ref().map(|user| user.as_str()),
        "purpose": match claims.purpose {
            Purpose::Enrol => "enrol",
            Purpose::Renew => "renew",
        },
        "issued_at": claims.issued_at.to_string(),
        "expires_at": claims.expires_at.to_string(),
        "subject": e.subject.to_string(),
        "subject_rdns": rdns(&e.subject),
        "subject_alt_names": e.subject_alt_names.iter().map(alt_name).collect::<Vec<_>>(),
        "key_usage": e.key_usage.names().collect::<Vec<_>>(),
        "extended_key_usages": e.extended_key_usages.purposes().iter().map(|oid| json!({
            "oid": oid.to_string(),
            "name": ExtendedKeyUsages::purpose_name(oid),
        })).collect::<Vec<_>>(),
        "demand_usages": e.demand_usages == DemandUsages::Yes,
        "key_algorithms": e.key_algorithms.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "validity_seconds": e.validity.as_secs(),
        "ca_certificate_sha256":
            input.ca_certificate.as_ref().map(|certificate| certificate.fingerprint().to_string()),
    })
}

fn rdns(name: &DistinguishedName) -> Value {
    name.rdns()
        .iter()
        .map(|rdn| {
            rdn.attributes()
                .iter()
                .map(|attribute| {
                    json!({
                        "oid": attribute.oid().to_string(),
                        "type": attribute.short_name(),
                        "value": attribute.value(),
                    })
                })
                .collect::<Value>()
        })
        .collect()
}

fn alt_name(name: &GeneralName) -> Value {
    match name {
        GeneralName::Email(text) | GeneralName::Dns(text) | GeneralName::Uri(text) => {
            json!({ "kind": name.kind(), "value": text })
        }
        GeneralName::Directory(directory) => {
            json!({ "kind": name.kind(), "rdns": rdns(directory) })
        }
        other => match other.as_upn() {
            Some(text) => json!({ "kind": "upn", "value": text }),
            None => {
                let der: String = other.to_der().iter().map(|b| format!("{b:02x}")).collect();
                json!({ "kind": other.kind(), "der": der })
            }
        },
    }
}
