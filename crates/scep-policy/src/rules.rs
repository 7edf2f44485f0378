//! Site rules: what a site allows at most, whatever the issuer asks for.
//!
//! | module | holds |
//! | --- | --- |
//! | `config` | the file as written, and why it was refused |
//! | `text` | suffixes, prefixes and networks |
//! | `check` | the claims against the rules |

mod check;
mod config;
mod text;

pub use config::{SiteRulesConfig, SiteRulesError, WildcardRule};

use const_oid::ObjectIdentifier;
use core::time::Duration;
use std::collections::BTreeSet;
use text::{DnsSuffix, Network, UriPrefix};

/// One rule, named as its key in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rule {
    /// The smallest RSA key; none: no RSA keys.
    RsaMinBits,
    /// The curves of EC keys; none: no EC keys.
    Curves,
    /// The longest validity.
    MaxValidityDays,
    /// The extended key usages allowed.
    ExtendedKeyUsages,
    /// The extended key usages never allowed; three always are on it.
    DeniedExtendedKeyUsages,
    /// keyCertSign and cRLSign, in no certificate. No key in the file: it cannot be changed.
    KeyUsage,
    /// A certificate names somebody. No key in the file: it cannot be changed.
    Identity,
    /// The kinds of subjectAltName.
    SanKinds,
    /// The domains of DNS names.
    DnsSuffixes,
    /// Whether DNS names may be wildcards.
    Wildcards,
    /// The domains of e-mail addresses.
    EmailSuffixes,
    /// The domains of user principal names.
    UpnSuffixes,
    /// How URIs may begin.
    UriPrefixes,
    /// The domains of Windows SIDs.
    SidDomains,
    /// The networks of IP addresses.
    IpNetworks,
    /// The types of otherNames.
    OtherNameTypes,
    /// The registered ids.
    RegisteredIds,
    /// The attribute types of subjects and directory names.
    SubjectAttributes,
    /// The forms of common names.
    CommonNameForms,
    /// Names that no certificate has.
    DeniedNames,
    /// No further extension but that of a SID. No key in the file: it cannot be changed.
    Extensions,
    /// Whether a certificate may be followed by another without a challenge, where its profile says so.
    RenewByCertificate,
    /// Whether it may then keep its key.
    RenewWithSameKey,
}

impl Rule {
    /// Its key in the file, or a name for what is built in.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::RsaMinBits => "rsa_min_bits",
            Self::Curves => "curves",
            Self::MaxValidityDays => "max_validity_days",
            Self::ExtendedKeyUsages => "extended_key_usages",
            Self::DeniedExtendedKeyUsages => "denied_extended_key_usages",
            Self::KeyUsage => "key_usage",
            Self::Identity => "identity",
            Self::SanKinds => "san_kinds",
            Self::DnsSuffixes => "dns_suffixes",
            Self::Wildcards => "wildcards",
            Self::EmailSuffixes => "email_suffixes",
            Self::UpnSuffixes => "upn_suffixes",
            Self::UriPrefixes => "uri_prefixes",
            Self::SidDomains => "sid_domains",
            Self::IpNetworks => "ip_networks",
            Self::OtherNameTypes => "other_name_types",
            Self::RegisteredIds => "registered_ids",
            Self::SubjectAttributes => "subject_attributes",
            Self::CommonNameForms => "common_name_forms",
            Self::DeniedNames => "denied_names",
            Self::Extensions => "extensions",
            Self::RenewByCertificate => "renew_by_certificate",
            Self::RenewWithSameKey => "renew_with_same_key",
        }
    }
}

/// A form of a common name (and of unstructuredName, which routers fill with their host name).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum NameForm {
    /// Neither of the others: a serial number, a name of a person.
    Plain,
    /// A dotted name without blanks; `dns_suffixes` applies.
    Dns,
    /// With an `@`; `email_suffixes` applies.
    Email,
    /// With an `@`; `upn_suffixes` applies.
    Upn,
    /// An address; `ip_networks` applies.
    Ip,
    /// A dotted name that is no host name (`first.last`), in certificates that are not for servers.
    Dotted,
}

impl NameForm {
    const ALL: [(&'static str, Self); 6] = [
        ("plain", Self::Plain),
        ("dns", Self::Dns),
        ("email", Self::Email),
        ("upn", Self::Upn),
        ("ip", Self::Ip),
        ("dotted", Self::Dotted),
    ];
}

/// Checked site rules. They are compared with the claims, and can only narrow them: even an issuer in the hands of an
/// attacker gets no certificate beyond them. From TOML ([`SiteRules::from_toml`]) or from code ([`SiteRules::new`]).
///
/// ```
/// let rules = scep_policy::SiteRules::from_toml(
///     r#"
///     issuance_per_hour = 500
///     max_validity_days = 397
///     curves = ["p256"]
///     extended_key_usages = ["clientAuth"]
///     san_kinds = ["dns"]
///     dns_suffixes = ["devices.example.org"]
///     "#,
/// )?;
/// assert_eq!(rules.issuance_per_hour(), 500);
/// // What is misspelt is refused, with its place.
/// let error = scep_policy::SiteRules::from_toml("max_validty_days = 397").unwrap_err();
/// assert!(error.to_string().contains("line 1"), "{error}");
/// # Ok::<(), scep_policy::SiteRulesError>(())
/// ```
#[derive(Clone, Debug)]
pub struct SiteRules {
    issuance_per_hour: u32,
    max_validity: Duration,
    rsa_min_bits: Option<u32>,
    curves: BTreeSet<scep_types::KeyAlgorithm>,
    extended_key_usages: Option<BTreeSet<ObjectIdentifier>>,
    denied_extended_key_usages: BTreeSet<ObjectIdentifier>,
    san_kinds: BTreeSet<&'static str>,
    dns_suffixes: Vec<DnsSuffix>,
    wildcards: WildcardRule,
    email_suffixes: Vec<DnsSuffix>,
    upn_suffixes: Vec<DnsSuffix>,
    uri_prefixes: Vec<UriPrefix>,
    sid_domains: BTreeSet<String>,
    ip_networks: Vec<Network>,
    other_name_types: BTreeSet<ObjectIdentifier>,
    registered_ids: BTreeSet<ObjectIdentifier>,
    subject_attributes: Option<BTreeSet<ObjectIdentifier>>,
    common_name_forms: BTreeSet<NameForm>,
    denied_names: BTreeSet<String>,
    ca_may_add: Vec<ObjectIdentifier>,
    renew_by_certificate: bool,
    renew_with_same_key: bool,
    /// The rules as written, for messages.
    written: SiteRulesConfig,
    digest: String,
}

impl SiteRules {
    /// Reads rules from TOML. Every key is explained in `site-rules.example.toml` beside this crate.
    ///
    /// # Errors
    /// When a key is unknown, missing, or has a value that makes no rule; with its line where it has one.
    pub fn from_toml(text: &str) -> Result<Self, SiteRulesError> {
        config::from_toml(text)
    }

    /// Checks rules made in code.
    ///
    /// # Errors
    /// As for [`SiteRules::from_toml`], without lines.
    pub fn new(config: SiteRulesConfig) -> Result<Self, SiteRulesError> {
        config::check(config)
    }

    /// Most certificates per hour.
    #[must_use]
    pub const fn issuance_per_hour(&self) -> u32 {
        self.issuance_per_hour
    }

    /// SHA-256 of the text they were read from, hexadecimal, for the log at start-up. Of rules made in code: of
    /// their TOML.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.digest
    }

    pub(crate) const fn renew_by_certificate(&self) -> bool {
        self.renew_by_certificate
    }

    pub(crate) const fn renew_with_same_key(&self) -> bool {
        self.renew_with_same_key
    }

    pub(crate) fn ca_may_add(&self) -> &[ObjectIdentifier] {
        &self.ca_may_add
    }
}
