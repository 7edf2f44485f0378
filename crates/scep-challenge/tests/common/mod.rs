//! Claims as JSON, for the vectors: what FORMAT.md calls each field, values as text.

use scep_challenge::*;
use serde_json::{Value, json};

/// The claims, field by field.
pub(crate) fn describe(claims: &ChallengeClaims) -> Value {
    let e = &claims.expectation;
    json!({
        "challengeId": claims.challenge_id.to_string(),
        "tenant": claims.tenant.as_str(),
        "issuerKey": claims.issuer_key.to_string(),
        "audience": claims.audience.as_str(),
        "recipientKey": claims.recipient_key.to_string(),
        "profile": claims.profile.as_str(),
        "device": claims.device.as_str(),
        "user": claims.user.as_ref().map(scep_types::UserId::as_str),
        "issuedAt": claims.issued_at.to_string(),
        "expiresAt": claims.expires_at.to_string(),
        "purpose": match claims.purpose {
            Purpose::Enrol => "enrol",
            Purpose::Renew => "renew",
        },
        "expectation": {
            "subject": e.subject.to_string(),
            "subjectAltNames": texts(&e.subject_alt_names),
            "keyUsage": e.key_usage.names().collect::<Vec<_>>(),
            "extKeyUsage": texts(e.extended_key_usages.purposes()),
            "demandUsages": e.demand_usages == DemandUsages::Yes,
            "keyAlgorithms": texts(&e.key_algorithms),
            "spkiHash": e.spki_hash.map(|hash| hash.to_string()),
            "validity": e.validity.as_secs(),
            "extensions": e.extensions.iter().map(|extension| json!({
                "extnID": extension.oid.to_string(),
                "critical": extension.critical,
                "extnValue": hex::encode(&extension.value),
            })).collect::<Vec<_>>(),
            "renewal": match e.renewal {
                Renewal::Blob => json!("blob"),
                Renewal::Certificate { window } => json!({ "certificate": window.as_secs() }),
            },
            "approval": match e.approval {
                ApprovalMode::Automatic => "automatic",
                ApprovalMode::Manual => "manual",
            },
        },
    })
}

fn texts<T: ToString>(values: &[T]) -> Vec<String> {
    values.iter().map(ToString::to_string).collect()
}
