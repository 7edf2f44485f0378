//! Certificate profiles: the file as written, and the checked profile.

use crate::template::{SanKind, SanTemplate, SubjectTemplate, TemplateError};
use crate::variable::{About, Variable};
use core::time::Duration;
use scep_challenge::{
    ApprovalMode, ChallengeClaims, ClaimsError, DemandUsages, Expectation, Purpose, Renewal,
};
use scep_types::{
    ChallengeId, DeviceId, DistinguishedName, ExtendedKeyUsages, GatewayGroupId, IdError,
    KeyAlgorithm, KeyId, KeyUsages, ObjectIdentifier, ProfileId, TenantId, Timestamp,
    parse_duration,
};
use serde::Deserialize;
use std::collections::BTreeSet;
use thiserror::Error;

/// The longest lifetime of a challenge that a gateway can be told to accept.
const MAX_CHALLENGE_LIFETIME: Duration = scep_challenge::MAX_LIFETIME;
const MAX_SCEP_URLS: usize = 8;
/// Octets of one address.
const MAX_SCEP_URL: usize = 1024;
const DEFAULT_CHALLENGE_LIFETIME: &str = "60m";
/// Whatever a device's certificates are for, nobody has them any more.
pub(crate) const DEFAULT_REVOKE_ON: [RevokeOn; 2] = [RevokeOn::Wipe, RevokeOn::Unenrol];

/// Why a profile was refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ProfileError {
    /// No TOML, a key that is unknown or missing, or a value of another type.
    #[error("profile{}: {message}", at(*line))]
    Syntax {
        /// Its line, where the parser knows it.
        line: Option<usize>,
        /// As the parser says; it names the key.
        message: String,
    },
    /// `id` is none.
    #[error("profile: id: {0}")]
    Id(#[from] IdError),
    /// A template.
    #[error("profile: {field}: {error}")]
    Template {
        /// Where.
        field: Field,
        /// Why.
        error: TemplateError,
    },
    /// A value that is not one of the field's.
    #[error("profile: {field}: `{value}` is {why}")]
    Value {
        /// Where.
        field: Field,
        /// As written.
        value: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A variable about the user in a profile for devices.
    #[error("profile: {field}: {variable} is about a user, and the profile is for devices")]
    UserVariable {
        /// Where.
        field: Field,
        /// Which.
        variable: Variable,
    },
    /// `renewal` and `renewal_threshold` do not go together.
    #[error("profile: renewal_threshold: needed when the certificate renews itself")]
    ThresholdMissing,
    /// Gateways would refuse each renewal: nobody has approved it.
    #[error(
        "profile: renewal: certificates that a person approves need a fresh challenge each: \"blob\""
    )]
    ManualRenewal,
    /// What no challenge may say.
    #[error("profile: {0}")]
    Claims(#[from] ClaimsError),
}

/// A key of the profile's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Field {
    /// `subject`.
    Subject,
    /// `subject_alt_names`, and which of them, from 0.
    SubjectAltName(usize),
    /// `sid`.
    Sid,
    /// `key_usage`.
    KeyUsage,
    /// `extended_key_usages`.
    ExtendedKeyUsages,
    /// `key_algorithms`.
    KeyAlgorithms,
    /// `validity`.
    Validity,
    /// `renewal_threshold`.
    RenewalThreshold,
    /// `challenge_lifetime`.
    ChallengeLifetime,
    /// `scep_urls`.
    ScepUrls,
    /// `revoke_on`.
    RevokeOn,
}

impl core::fmt::Display for Field {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::SubjectAltName(at) => return write!(f, "subject_alt_names[{at}]"),
            Self::Subject => "subject",
            Self::Sid => "sid",
            Self::KeyUsage => "key_usage",
            Self::ExtendedKeyUsages => "extended_key_usages",
            Self::KeyAlgorithms => "key_algorithms",
            Self::Validity => "validity",
            Self::RenewalThreshold => "renewal_threshold",
            Self::ChallengeLifetime => "challenge_lifetime",
            Self::ScepUrls => "scep_urls",
            Self::RevokeOn => "revoke_on",
        })
    }
}

/// Whom a profile's certificates are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CertificateFor {
    /// Devices: variables about users are refused.
    Device,
    /// Users of devices: a challenge names its user.
    User,
}

/// What has a device's certificates revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RevokeOn {
    /// The device was wiped.
    Wipe,
    /// The device was removed.
    Unenrol,
    /// The device was disabled.
    Disable,
    /// The profile's certificates have other contents now.
    ProfileChange,
}

/// How a certificate carries the security identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SidForm {
    /// The extension 1.3.6.1.4.1.311.25.2.
    Extension,
    /// A subjectAltName URI.
    Uri,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum RawPurpose {
    Enrol,
    Renew,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum RawRenewal {
    Blob,
    Certificate,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum RawApproval {
    Automatic,
    Manual,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum RawSan {
    Dns(String),
    Email(String),
    Upn(String),
    Uri(String),
}

/// The file as written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawProfile {
    id: String,
    #[serde(rename = "for")]
    certificate_for: CertificateFor,
    #[serde(default = "RawProfile::enrol")]
    purpose: RawPurpose,
    subject: String,
    #[serde(default)]
    subject_alt_names: Vec<RawSan>,
    #[serde(default)]
    sid: Vec<SidForm>,
    key_usage: Vec<String>,
    extended_key_usages: Vec<String>,
    #[serde(default)]
    demand_usages: bool,
    key_algorithms: Vec<String>,
    validity: String,
    #[serde(default = "RawProfile::blob")]
    renewal: RawRenewal,
    renewal_threshold: Option<String>,
    #[serde(default = "RawProfile::automatic")]
    approval: RawApproval,
    #[serde(default = "RawProfile::hour")]
    challenge_lifetime: String,
    #[serde(default)]
    scep_urls: Vec<String>,
    #[serde(default = "RawProfile::gone")]
    revoke_on: Vec<RevokeOn>,
}

impl RawProfile {
    const fn enrol() -> RawPurpose {
        RawPurpose::Enrol
    }
    const fn blob() -> RawRenewal {
        RawRenewal::Blob
    }
    const fn automatic() -> RawApproval {
        RawApproval::Automatic
    }
    fn hour() -> String {
        DEFAULT_CHALLENGE_LIFETIME.to_owned()
    }
    fn gone() -> Vec<RevokeOn> {
        DEFAULT_REVOKE_ON.to_vec()
    }
}

/// A checked certificate profile: what the certificates of its devices or users contain.
///
/// ```
/// let profile = scep_issuance::Profile::from_toml(
///     r#"
///     id = "wifi-devices"
///     for = "device"
///     subject = "O=Example, CN={{DeviceId}}"
///     key_usage = ["digitalSignature"]
///     extended_key_usages = ["clientAuth"]
///     key_algorithms = ["rsa2048", "p256"]
///     validity = "365d"
///     "#,
/// )?;
/// assert_eq!(profile.id().as_str(), "wifi-devices");
/// assert!(profile.lint().is_empty());
/// // What is misspelt is refused by name.
/// let error = scep_issuance::Profile::from_toml("ids = 'x'").unwrap_err();
/// assert!(error.to_string().contains("ids"), "{error}");
/// # Ok::<(), scep_issuance::ProfileError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    pub(crate) id: ProfileId,
    pub(crate) certificate_for: CertificateFor,
    pub(crate) purpose: Purpose,
    pub(crate) subject: SubjectTemplate,
    pub(crate) subject_alt_names: Vec<SanTemplate>,
    pub(crate) sid: Vec<SidForm>,
    pub(crate) key_usage: KeyUsages,
    pub(crate) extended_key_usages: ExtendedKeyUsages,
    demand_usages: DemandUsages,
    key_algorithms: Vec<KeyAlgorithm>,
    validity: Duration,
    renewal: Renewal,
    renewal_window: Option<Duration>,
    approval: ApprovalMode,
    challenge_lifetime: Duration,
    scep_urls: Vec<String>,
    revoke_on: BTreeSet<RevokeOn>,
}

impl Profile {
    /// Reads and checks a profile. Every key is explained in `profile.example.toml` beside this crate.
    ///
    /// # Errors
    /// When a key is unknown or missing, or a value makes no profile; the error names the key.
    pub fn from_toml(text: &str) -> Result<Self, ProfileError> {
        let raw: RawProfile = toml::from_str(text).map_err(|error| {
            let (line, message) = syntax(text, &error);
            ProfileError::Syntax { line, message }
        })?;
        Self::check(raw)
    }

    fn check(raw: RawProfile) -> Result<Self, ProfileError> {
        let template = |field| move |error| ProfileError::Template { field, error };
        let subject = SubjectTemplate::parse(&raw.subject).map_err(template(Field::Subject))?;
        let mut subject_alt_names = Vec::new();
        for (at, san) in raw.subject_alt_names.iter().enumerate() {
            let (kind, text) = match san {
                RawSan::Dns(text) => (SanKind::Dns, text),
                RawSan::Email(text) => (SanKind::Email, text),
                RawSan::Upn(text) => (SanKind::Upn, text),
                RawSan::Uri(text) => (SanKind::Uri, text),
            };
            let parsed = SanTemplate::parse(kind, text);
            subject_alt_names.push(parsed.map_err(template(Field::SubjectAltName(at)))?);
        }
        let validity = duration(Field::Validity, &raw.validity)?;
        let renewal_window = match &raw.renewal_threshold {
            Some(text) => Some(threshold(text, validity)?),
            None => None,
        };
        if matches!((&raw.renewal, &raw.approval), (RawRenewal::Certificate, RawApproval::Manual)) {
            return Err(ProfileError::ManualRenewal);
        }
        let profile = Self {
            id: ProfileId::new(raw.id)?,
            certificate_for: raw.certificate_for,
            purpose: match raw.purpose {
                RawPurpose::Enrol => Purpose::Enrol,
                RawPurpose::Renew => Purpose::Renew,
            },
            subject,
            subject_alt_names,
            sid: sid_forms(raw.sid)?,
            key_usage: key_usage(&raw.key_usage)?,
            extended_key_usages: extended_key_usages(&raw.extended_key_usages)?,
            demand_usages: if raw.demand_usages { DemandUsages::Yes } else { DemandUsages::No },
            key_algorithms: key_algorithms(&raw.key_algorithms)?,
            validity,
            renewal: match raw.renewal {
                RawRenewal::Blob => Renewal::Blob,
                RawRenewal::Certificate => Renewal::Certificate {
                    window: renewal_window.ok_or(ProfileError::ThresholdMissing)?,
                },
            },
            renewal_window,
            approval: match raw.approval {
                RawApproval::Automatic => ApprovalMode::Automatic,
                RawApproval::Manual => ApprovalMode::Manual,
            },
            challenge_lifetime: challenge_lifetime(&raw.challenge_lifetime)?,
            scep_urls: scep_urls(raw.scep_urls)?,
            revoke_on: revoke_on(&raw.revoke_on)?,
        };
        profile.refuse_user_variables()?;
        profile.check_claims()?;
        Ok(profile)
    }

    fn refuse_user_variables(&self) -> Result<(), ProfileError> {
        if self.certificate_for == CertificateFor::User {
            return Ok(());
        }
        match self.uses().into_iter().find(|(_, variable)| variable.about() == About::User) {
            Some((field, variable)) => Err(ProfileError::UserVariable { field, variable }),
            None => Ok(()),
        }
    }

    /// That a challenge can say all this: the limits of claims are written down in one place only.
    fn check_claims(&self) -> Result<(), ProfileError> {
        let someone: DistinguishedName = "CN=x".parse().map_err(ClaimsError::from)?;
        let nobody = self.subject.is_empty()
            && self.subject_alt_names.is_empty()
            && !self.sid.contains(&SidForm::Uri);
        let subject = if nobody { DistinguishedName::empty() } else { someone };
        ChallengeClaims {
            challenge_id: ChallengeId::from_bytes([0; 16]),
            tenant: TenantId::new("x")?,
            issuer_key: KeyId::from_bytes([0; 20]),
            audience: GatewayGroupId::new("x")?,
            recipient_key: KeyId::from_bytes([0; 20]),
            profile: self.id.clone(),
            device: DeviceId::new("x")?,
            user: None,
            issued_at: Timestamp::EPOCH,
            expires_at: Timestamp::EPOCH.plus(self.challenge_lifetime),
            purpose: self.purpose,
            expectation: self.expectation(subject),
        }
        .to_der()?;
        Ok(())
    }

    /// What a challenge expects but for the names.
    pub(crate) fn expectation(&self, subject: DistinguishedName) -> Expectation {
        Expectation {
            subject,
            subject_alt_names: Vec::new(),
            key_usage: self.key_usage,
            extended_key_usages: self.extended_key_usages.clone(),
            demand_usages: self.demand_usages,
            key_algorithms: self.key_algorithms.clone(),
            spki_hash: None,
            validity: self.validity,
            extensions: Vec::new(),
            renewal: self.renewal,
            approval: self.approval,
        }
    }

    /// Every variable in the profile's names, and where.
    pub(crate) fn uses(&self) -> Vec<(Field, Variable)> {
        let subject = self.subject.variables().into_iter().map(|v| (Field::Subject, v));
        let sans = self.subject_alt_names.iter().enumerate().flat_map(|(at, template)| {
            template.variables().map(move |variable| (Field::SubjectAltName(at), variable))
        });
        let sid =
            (!self.sid.is_empty()).then_some((Field::Sid, Variable::OnPremisesSecurityIdentifier));
        subject.chain(sans).chain(sid).collect()
    }

    /// Its id.
    #[must_use]
    pub const fn id(&self) -> &ProfileId {
        &self.id
    }

    /// Whom its certificates are for.
    #[must_use]
    pub const fn certificate_for(&self) -> CertificateFor {
        self.certificate_for
    }

    /// The variables that need a value.
    #[must_use]
    pub fn variables(&self) -> BTreeSet<Variable> {
        self.uses().into_iter().map(|(_, variable)| variable).collect()
    }

    /// How long a challenge lives.
    #[must_use]
    pub const fn challenge_lifetime(&self) -> Duration {
        self.challenge_lifetime
    }

    /// Where devices enrol: the addresses of gateways, in the order in which they are to be tried.
    #[must_use]
    pub fn scep_urls(&self) -> &[String] {
        &self.scep_urls
    }

    /// How long a certificate lives.
    #[must_use]
    pub const fn validity(&self) -> Duration {
        self.validity
    }

    /// Whether this has the certificates of the device concerned revoked.
    #[must_use]
    pub fn revokes_on(&self, event: RevokeOn) -> bool {
        self.revoke_on.contains(&event)
    }

    /// Whether certificates of both have the same contents, as far as profiles decide.
    #[must_use]
    pub fn certificates_equal(&self, other: &Self) -> bool {
        self.subject == other.subject
            && self.subject_alt_names == other.subject_alt_names
            && self.sid == other.sid
            && self.key_usage == other.key_usage
            && self.extended_key_usages == other.extended_key_usages
            && self.key_algorithms == other.key_algorithms
            && self.validity == other.validity
    }

    /// How long before its end a certificate is due for renewal, by whatever way.
    #[must_use]
    pub const fn renewal_window(&self) -> Option<Duration> {
        self.renewal_window
    }
}

fn value_error(field: Field, value: &str, why: &'static str) -> ProfileError {
    ProfileError::Value { field, value: shown(value), why }
}

fn duration(field: Field, text: &str) -> Result<Duration, ProfileError> {
    parse_duration(text)
        .map_err(|_| value_error(field, text, "no length of time like 90s, 60m, 24h or 365d"))
}

fn challenge_lifetime(text: &str) -> Result<Duration, ProfileError> {
    let field = Field::ChallengeLifetime;
    let lifetime = duration(field, text)?;
    if lifetime.is_zero() || lifetime > MAX_CHALLENGE_LIFETIME {
        return Err(value_error(field, text, "not above zero and at most 24h"));
    }
    Ok(lifetime)
}

/// Addresses that a payload can carry: plain text, so that no device reads another address than the author did.
fn scep_urls(urls: Vec<String>) -> Result<Vec<String>, ProfileError> {
    let field = Field::ScepUrls;
    if urls.len() > MAX_SCEP_URLS {
        return Err(value_error(field, &urls.len().to_string(), "more than 8 addresses"));
    }
    for (at, url) in urls.iter().enumerate() {
        let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
        let host = rest.and_then(|rest| rest.split(['/', '?', '#']).next()).unwrap_or_default();
        let plain = url.bytes().all(|b| b.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&b));
        if host.is_empty() || host.contains('@') || !plain || url.len() > MAX_SCEP_URL {
            return Err(value_error(field, url, "no http or https address"));
        }
        if urls.iter().take(at).any(|other| other == url) {
            return Err(value_error(field, url, "given twice"));
        }
    }
    Ok(urls)
}

fn revoke_on(events: &[RevokeOn]) -> Result<BTreeSet<RevokeOn>, ProfileError> {
    let set: BTreeSet<RevokeOn> = events.iter().copied().collect();
    if set.len() != events.len() {
        return Err(value_error(Field::RevokeOn, "revoke_on", "a list with the same event twice"));
    }
    Ok(set)
}

/// `20%` of the validity, or a length of time.
fn threshold(text: &str, validity: Duration) -> Result<Duration, ProfileError> {
    let field = Field::RenewalThreshold;
    let window = match text.strip_suffix('%') {
        Some(percent) => {
            let why = "not 1% to 99%";
            let plain = percent.bytes().all(|b| b.is_ascii_digit());
            let percent: u32 = percent.parse().map_err(|_| value_error(field, text, why))?;
            if !plain || !(1..=99).contains(&percent) {
                return Err(value_error(field, text, why));
            }
            let seconds = validity.as_secs().saturating_mul(u64::from(percent)) / 100;
            Duration::from_secs(seconds)
        }
        None => duration(field, text)?,
    };
    if window.is_zero() || window >= validity {
        return Err(value_error(field, text, "not above zero and below the validity"));
    }
    Ok(window)
}

fn sid_forms(forms: Vec<SidForm>) -> Result<Vec<SidForm>, ProfileError> {
    let twice = |form| forms.iter().filter(|f| **f == form).count() > 1;
    if twice(SidForm::Extension) || twice(SidForm::Uri) {
        return Err(value_error(Field::Sid, "sid", "a list with the same form twice"));
    }
    Ok(forms)
}

fn key_usage(names: &[String]) -> Result<KeyUsages, ProfileError> {
    let field = Field::KeyUsage;
    if let Some(name) = names.iter().find(|name| KeyUsages::from_names([name.as_str()]).is_none()) {
        return Err(value_error(field, name, "no key usage"));
    }
    KeyUsages::from_names(names.iter().map(String::as_str))
        .ok_or_else(|| value_error(field, "[]", "empty"))
}

fn extended_key_usages(names: &[String]) -> Result<ExtendedKeyUsages, ProfileError> {
    let field = Field::ExtendedKeyUsages;
    let mut purposes: Vec<ObjectIdentifier> = Vec::new();
    for name in names {
        let purpose = ExtendedKeyUsages::purpose(name)
            .ok_or_else(|| value_error(field, name, "neither a known purpose nor an OID"))?;
        if purposes.contains(&purpose) {
            return Err(value_error(field, name, "given twice"));
        }
        purposes.push(purpose);
    }
    ExtendedKeyUsages::new(purposes)
        .ok_or_else(|| value_error(field, &names.len().to_string(), "not 1 to 32 purposes"))
}

fn key_algorithms(names: &[String]) -> Result<Vec<KeyAlgorithm>, ProfileError> {
    let field = Field::KeyAlgorithms;
    let parse = |name: &String| {
        name.parse().map_err(|_| value_error(field, name, "none of p256, p384 and rsaBITS"))
    };
    names.iter().map(parse).collect()
}

/// ", line 7", where it is known.
pub(crate) fn at(line: Option<usize>) -> String {
    line.map(|line| format!(", line {line}")).unwrap_or_default()
}

/// Where and what a TOML error is.
pub(crate) fn syntax(text: &str, error: &toml::de::Error) -> (Option<usize>, String) {
    let line = error.span().and_then(|span| {
        text.get(..span.start).map(|before| before.matches('\n').count().saturating_add(1))
    });
    (line, shown(error.message()))
}

/// A text for a message: short, and without control characters.
pub(crate) fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}
