//! Events for the issuer: what is in the outbox.

use crate::held::HeldVerdict;
use crate::inventory::{Delivery, RevocationReason};
use crate::store::{Attempt, Intent};
use core::fmt;
use scep_policy::Grounds;
use scep_types::{
    CertificateDer, CertificateFingerprint, ChallengeId, DeviceId, DistinguishedName, NameHash,
    ProfileId, Reason, StringRules, TenantId, Timestamp,
};
use serde_json::{Map, Value};

/// The most bytes of free text in an event; longer text is cut.
const MAX_DETAIL: usize = 8 * 1024;

/// A denial to be counted.
#[derive(Clone, Copy, Debug)]
pub struct Denied<'a> {
    /// Whose challenge.
    pub tenant: &'a TenantId,
    /// Which.
    pub challenge: ChallengeId,
    /// For which device it was made.
    pub device: &'a DeviceId,
    /// By which profile.
    pub profile: &'a ProfileId,
    /// When it ends.
    pub expires_at: Timestamp,
    /// Every reason against.
    pub reasons: &'a [Reason],
    /// Field by field, JSON. Text that is no JSON is reported as a string.
    pub detail: &'a str,
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $code:literal,)*) => {
        /// What an event says. Closed: who reads the outbox decides about each.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum EventKind { $($(#[$doc])* $name,)* }

        impl EventKind {
            /// Every kind.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The stable code.
            #[must_use]
            pub const fn code(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }

            /// The kind with this code.
            #[must_use]
            pub fn from_code(code: &str) -> Option<Self> {
                match code { $($code => Some(Self::$name),)* _ => None }
            }
        }
    };
}

kinds! {
    /// A certificate was issued and recorded.
    Issued = "issued",
    /// The CA is known to have issued nothing; the challenge is free again, or what a person has approved waits again.
    Failed = "failed",
    /// A request with a verified challenge was refused: at once, or after it had waited for a person or for its CA.
    Refused = "refused",
    /// A request waits for a person.
    Held = "held",
    /// A person has decided on a request that waited. A refusal is also told as [`EventKind::Refused`].
    HeldDecided = "held-decided",
    /// A challenge came again with other content: the signal of RFC 8894, 7.3.
    Breach = "breach",
    /// The CA returned something else than was approved. It was not released.
    Withheld = "withheld",
    /// A certificate may exist that nobody has on record.
    PossibleOrphan = "possible-orphan",
    /// Whether a reply with the certificate got out.
    Delivery = "delivery",
    /// A certificate was revoked.
    Revoked = "revoked",
    /// The CA refuses to revoke a certificate.
    RevocationFailed = "revocation-failed",
    /// A CRL shows that a certificate is revoked.
    OnCrl = "on-crl",
    /// The brake on mass revocation holds.
    RevocationBrakeEngaged = "revocation-brake-engaged",
    /// An operator has let the revocations go that the brake held.
    RevocationsConfirmed = "revocations-confirmed",
    /// The brake on abnormal issuance holds.
    BrakeEngaged = "brake-engaged",
    /// The ledger was found to be restored from a backup.
    Restored = "restored",
    /// An operator has set the high-water mark of time.
    ClockReset = "clock-reset",
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// One event for the issuer, to be delivered at least once and, per device, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OutboxEvent {
    /// Its number: events are numbered from 1 without gaps, in the order of their commits.
    pub sequence: u64,
    /// What it says.
    pub kind: EventKind,
    /// Whose it is, unless it is about the whole ledger.
    pub tenant: Option<TenantId>,
    /// The device it is about, if any.
    pub device: Option<DeviceId>,
    /// The same for every delivery of this event, and for no other event of this ledger.
    pub idempotency_key: String,
    /// Its facts, a JSON object.
    pub body_json: String,
    /// When it happened.
    pub at: Timestamp,
}

/// What an acknowledgement told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acknowledged {
    /// The events were ours.
    Known,
    /// Some never were: the ledger was restored from a backup, and has taken its measures.
    RestoreNoticed {
        /// The last event before the measures.
        last: u64,
    },
}

/// An event before it has a number.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) kind: EventKind,
    pub(crate) tenant: Option<TenantId>,
    pub(crate) device: Option<DeviceId>,
    pub(crate) key: String,
    pub(crate) body: String,
    pub(crate) at: Timestamp,
}

/// Whether a certificate was recorded in its turn or by recovery after a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    InTurn,
    ByRecovery,
}

struct Body(Map<String, Value>);

impl Body {
    fn new(key: &str, at: Timestamp) -> Self {
        Self(Map::new()).text("idempotency_key", key).text("at", at)
    }

    fn with(mut self, name: &str, value: Value) -> Self {
        self.0.insert(name.to_owned(), value);
        self
    }

    fn text(self, name: &str, value: impl fmt::Display) -> Self {
        self.with(name, Value::String(value.to_string()))
    }

    fn intent(self, intent: &Intent) -> Self {
        let body = self
            .text("tenant", &intent.tenant)
            .text("device", &intent.device)
            .text("profile", &intent.profile)
            .text("audience", &intent.audience)
            .text("challenge", intent.challenge)
            .text("challenge_issued_at", intent.issued_at)
            .text("challenge_expires_at", intent.expires_at)
            .text("transaction_id", &intent.transaction)
            .text("signer_spki_sha256", intent.signer)
            .text("spki_sha256", intent.spki.hash())
            .text("request_info_sha256", intent.info)
            .text("authority", &intent.authority)
            .text("admitted_at", intent.at);
        match &intent.user {
            Some(user) => body.text("user", user),
            None => body,
        }
    }

    fn certificate(self, certificate: &CertificateDer) -> Self {
        let issuer = DistinguishedName::from_der(certificate.issuer_der(), StringRules::AllowBmp)
            .map_or_else(|_| String::from("(unreadable)"), |name| name.to_string());
        let serial = certificate
            .serial()
            .map_or_else(|| hex_upper(certificate.serial_content()), |serial| serial.to_string());
        self.text("thumbprint_sha256", certificate.fingerprint())
            .text("serial", serial)
            .text("issuer", issuer)
            // Orders to revoke name the certificate's issuer so.
            .text("issuer_sha256", NameHash::of(certificate.issuer_der()))
            .text("not_before", certificate.not_before())
            .text("not_after", certificate.not_after())
    }

    fn into_json(self) -> String {
        Value::Object(self.0).to_string()
    }
}

fn hex_upper(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02X}")).collect()
}

fn cut(text: &str) -> &str {
    let mut end = text.len().min(MAX_DETAIL);
    while !text.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    text.get(..end).unwrap_or_default()
}

fn of_intent(kind: EventKind, intent: &Intent, row: i64, at: Timestamp, body: Body) -> Draft {
    Draft {
        kind,
        tenant: Some(intent.tenant.clone()),
        device: Some(intent.device.clone()),
        key: key_of(kind, row),
        body: body.intent(intent).into_json(),
        at,
    }
}

/// The row of an intent is never used again, so kind and row name an event.
fn key_of(kind: EventKind, row: i64) -> String {
    format!("{kind}:{row}")
}

/// What one attempt of a row may bring and another one again.
fn of_attempt(
    kind: EventKind,
    intent: &Intent,
    attempt: Attempt,
    at: Timestamp,
    facts: impl FnOnce(Body) -> Body,
) -> Draft {
    let Attempt { row, failures, .. } = attempt;
    let key = if failures == 0 { key_of(kind, row) } else { format!("{kind}:{row}:{failures}") };
    let body = facts(Body::new(&key, at));
    Draft { key, ..of_intent(kind, intent, row, at, body) }
}

pub(crate) fn issued(
    intent: &Intent,
    row: i64,
    certificate: &CertificateDer,
    found: Found,
    at: Timestamp,
) -> Draft {
    let kind = EventKind::Issued;
    let body = Body::new(&key_of(kind, row), at)
        .certificate(certificate)
        .with("recovered", Value::Bool(found == Found::ByRecovery));
    let body = match intent.grounds {
        Grounds::Challenge | Grounds::Held => body,
        Grounds::Renewal { predecessor, generation } => {
            body.text("renews", predecessor).with("generation", Value::from(generation))
        }
    };
    of_intent(kind, intent, row, at, body)
}

pub(crate) fn withheld(
    intent: &Intent,
    attempt: Attempt,
    certificate: &CertificateDer,
    detail: &str,
    at: Timestamp,
) -> Draft {
    of_attempt(EventKind::Withheld, intent, attempt, at, |body| {
        body.certificate(certificate)
            .text("reason", Reason::CertificateDiffers)
            .text("detail", cut(detail))
    })
}

pub(crate) fn failed(
    intent: &Intent,
    attempt: Attempt,
    reason: Reason,
    detail: &str,
    at: Timestamp,
) -> Draft {
    of_attempt(EventKind::Failed, intent, attempt, at, |body| {
        body.text("reason", reason).text("detail", cut(detail))
    })
}

/// `until`: when it is over unless somebody decides.
pub(crate) fn held(intent: &Intent, row: i64, until: Timestamp) -> Draft {
    let kind = EventKind::Held;
    let body = Body::new(&key_of(kind, row), intent.at).text("until", until);
    of_intent(kind, intent, row, intent.at, body)
}

pub(crate) fn held_decided(
    intent: &Intent,
    row: i64,
    verdict: HeldVerdict,
    person: &str,
    at: Timestamp,
) -> Draft {
    let kind = EventKind::HeldDecided;
    let body = Body::new(&key_of(kind, row), at)
        .text("verdict", verdict.word())
        .text("person", cut(person));
    of_intent(kind, intent, row, at, body)
}

/// A request that was kept is over: its person has said no, or nobody anything in time, or its CA has refused it.
pub(crate) fn over(
    intent: &Intent,
    row: i64,
    reason: Reason,
    detail: &str,
    at: Timestamp,
) -> Draft {
    let kind = EventKind::Refused;
    let key = key_of(kind, row);
    let body = Body::new(&key, at)
        .with("reasons", Value::Array(vec![Value::String(reason.code().to_owned())]))
        .text("detail", cut(detail));
    Draft { key, ..of_intent(kind, intent, row, at, body) }
}

pub(crate) fn possible_orphan(
    intent: &Intent,
    attempt: Attempt,
    detail: &str,
    at: Timestamp,
) -> Draft {
    of_attempt(EventKind::PossibleOrphan, intent, attempt, at, |body| {
        let body = body.text("reason", Reason::CaOutcomeUnknown).text("detail", cut(detail));
        match &intent.serial {
            Some(serial) => body.text("serial", serial),
            None => body,
        }
    })
}

/// `row` and `nth` name the use that was there first, and how often it was challenged by then.
pub(crate) fn breach(intent: &Intent, row: i64, nth: u32, at: Timestamp) -> Draft {
    let kind = EventKind::Breach;
    let key = format!("{kind}:{row}:{nth}");
    let body = Body::new(&key, at).text("reason", Reason::ChallengeAlreadyUsed);
    Draft { key, ..of_intent(kind, intent, row, at, body) }
}

pub(crate) fn refused(denied: &Denied<'_>, nth: u32, at: Timestamp) -> Draft {
    let kind = EventKind::Refused;
    let key = format!("{kind}:{}:{}:{nth}", denied.tenant, denied.challenge);
    let detail = cut(denied.detail);
    let reasons = denied.reasons.iter().map(|r| Value::String(r.code().to_owned())).collect();
    let body = Body::new(&key, at)
        .text("tenant", denied.tenant)
        .text("device", denied.device)
        .text("profile", denied.profile)
        .text("challenge", denied.challenge)
        .text("challenge_expires_at", denied.expires_at)
        .with("reasons", Value::Array(reasons))
        .with(
            "detail",
            serde_json::from_str(detail).unwrap_or_else(|_| Value::String(detail.to_owned())),
        )
        .into_json();
    Draft {
        kind,
        tenant: Some(denied.tenant.clone()),
        device: Some(denied.device.clone()),
        key,
        body,
        at,
    }
}

pub(crate) fn brake_engaged(per_hour: u32, at: Timestamp) -> Draft {
    let kind = EventKind::BrakeEngaged;
    let key = format!("{kind}:{}", at.seconds());
    let body = Body::new(&key, at)
        .text("reason", Reason::IssuanceBrakeEngaged)
        .with("per_hour", Value::from(per_hour))
        .into_json();
    Draft { kind, tenant: None, device: None, key, body, at }
}

/// `nth` is the row in the audit table.
pub(crate) fn clock_reset(
    nth: i64,
    from: Timestamp,
    to: Timestamp,
    operator: &str,
    at: Timestamp,
) -> Draft {
    let kind = EventKind::ClockReset;
    let key = format!("{kind}:{nth}");
    let body = Body::new(&key, at)
        .text("from", from)
        .text("to", to)
        .text("operator", cut(operator))
        .into_json();
    Draft { kind, tenant: None, device: None, key, body, at }
}

pub(crate) fn revoked(
    tenant: TenantId,
    device: DeviceId,
    certificate: CertificateFingerprint,
    reason: RevocationReason,
    at: Timestamp,
) -> Draft {
    let kind = EventKind::Revoked;
    let key = format!("{kind}:{certificate}");
    let body = Body::new(&key, at)
        .text("tenant", &tenant)
        .text("device", &device)
        .text("thumbprint_sha256", certificate)
        .text("reason", reason)
        .into_json();
    Draft { kind, tenant: Some(tenant), device: Some(device), key, body, at }
}

/// A step of a revocation's: `nth` is the order's row, `step` what tells this event from others of the same kind.
pub(crate) fn revocation_step(
    kind: EventKind,
    (nth, step): (i64, u64),
    owner: (TenantId, DeviceId, CertificateFingerprint),
    facts: &[(&str, &str)],
    at: Timestamp,
) -> Draft {
    let (tenant, device, certificate) = owner;
    let key = format!("{kind}:{nth}:{step}");
    let body = Body::new(&key, at)
        .text("tenant", &tenant)
        .text("device", &device)
        .text("thumbprint_sha256", certificate);
    let body = facts.iter().fold(body, |body, (name, value)| body.text(name, cut(value)));
    let body = body.into_json();
    Draft { kind, tenant: Some(tenant), device: Some(device), key, body, at }
}

/// `counted`: waiting, or sent within the hour.
pub(crate) fn revocation_brake_engaged(counted: u64, live: u64, at: Timestamp) -> Draft {
    let kind = EventKind::RevocationBrakeEngaged;
    let key = format!("{kind}:{}", at.seconds());
    let body = Body::new(&key, at)
        .with("counted", Value::from(counted))
        .with("live", Value::from(live))
        .into_json();
    Draft { kind, tenant: None, device: None, key, body, at }
}

/// `nth` is the row in the audit table.
pub(crate) fn revocations_confirmed(
    nth: i64,
    operator: &str,
    waiting: u64,
    at: Timestamp,
) -> Draft {
    let kind = EventKind::RevocationsConfirmed;
    let key = format!("{kind}:{nth}");
    let body = Body::new(&key, at)
        .text("operator", cut(operator))
        .with("confirmed", Value::from(waiting))
        .into_json();
    Draft { kind, tenant: None, device: None, key, body, at }
}

pub(crate) fn delivery(
    tenant: TenantId,
    device: DeviceId,
    certificate: CertificateFingerprint,
    delivered: Delivery,
    at: Timestamp,
) -> Draft {
    let kind = EventKind::Delivery;
    let delivered = match delivered {
        Delivery::Flushed => "flushed",
        Delivery::ConnectionLost => "connection-lost",
    };
    let key = format!("{kind}:{certificate}:{delivered}");
    let body = Body::new(&key, at)
        .text("tenant", &tenant)
        .text("device", &device)
        .text("thumbprint_sha256", certificate)
        .text("reply", delivered)
        .into_json();
    Draft { kind, tenant: Some(tenant), device: Some(device), key, body, at }
}

pub(crate) fn restored(acknowledged: u64, last: u64, at: Timestamp) -> Draft {
    let kind = EventKind::Restored;
    let key = format!("{kind}:{acknowledged}");
    let body = Body::new(&key, at)
        .with("acknowledged", Value::from(acknowledged))
        .with("last", Value::from(last))
        .into_json();
    Draft { kind, tenant: None, device: None, key, body, at }
}
