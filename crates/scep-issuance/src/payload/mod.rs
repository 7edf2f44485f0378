//! A minted challenge as the payload that device management hands to a device.
//!
//! Every value comes from the claims, attribute by attribute; nothing is filled into a text. What a form cannot say is
//! an error that names it: a device that asks for less than its challenge would be refused by the gateway anyway, and
//! then nobody would know why.
//!
//! - `plist`: the property list that Apple's devices read.
//! - `syncml`: the commands that Windows reads.
//! - `plain`: JSON.

mod plain;
mod plist;
mod syncml;
mod xml;

pub use plain::json;
pub use plist::apple_mobileconfig;
pub use syncml::windows_syncml;

use crate::mint::Minted;
use scep_challenge::ChallengeClaims;
use scep_types::{CertificateDer, GeneralName, KeyAlgorithm, KeyUsages, Secret};
use thiserror::Error;

/// The form of a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// Apple's configuration profile.
    AppleMobileconfig,
    /// SyncML for the ClientCertificateInstall CSP of Windows.
    WindowsSyncml,
}

impl core::fmt::Display for Form {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::AppleMobileconfig => "an Apple configuration profile",
            Self::WindowsSyncml => "Windows SyncML",
        })
    }
}

/// Why a payload cannot be made. Profile and form do not fit, or an input is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PayloadError {
    /// No address of an SCEP server.
    #[error("{url:?} is no http or https URL")]
    Url {
        /// As given.
        url: String,
    },
    /// The form cannot do without an address.
    #[error("{form} needs the URL of the SCEP server")]
    UrlMissing {
        /// Which.
        form: Form,
    },
    /// Windows separates URLs by semicolons.
    #[error("Windows SyncML cannot hold {url}: a semicolon separates URLs there")]
    UrlSemicolon {
        /// As given.
        url: String,
    },
    /// A name for people has a character that XML cannot hold, or is empty.
    #[error("{field}: empty, or a control character")]
    Name {
        /// Which.
        field: &'static str,
    },
    /// Windows demands the thumbprint of the CA.
    #[error("Windows SyncML needs the CA's certificate: CAThumbprint is required")]
    CaMissing,
    /// Windows demands a subject.
    #[error("Windows SyncML needs a subject: SubjectName is required")]
    SubjectMissing,
    /// A kind of name that the form does not have, or a value that it cannot hold.
    #[error("{form} cannot hold the subjectAltName of kind {kind}: {why}")]
    SubjectAltName {
        /// Which.
        form: Form,
        /// The kind, as site rules name it.
        kind: &'static str,
        /// Why.
        why: &'static str,
    },
    /// A name has a character that XML does not have (U+FFFE or U+FFFF).
    #[error("{form} cannot hold a non-character, which a name has")]
    NonCharacter {
        /// Which.
        form: Form,
    },
    /// A key usage that the form does not have.
    #[error("{form} cannot ask for the key usage {usage}")]
    KeyUsage {
        /// Which.
        form: Form,
        /// RFC 5280's name.
        usage: &'static str,
    },
    /// Neither digitalSignature nor keyEncipherment.
    #[error("{form} needs digitalSignature or keyEncipherment among the key usages")]
    KeyUsageMissing {
        /// Which.
        form: Form,
    },
    /// The challenge demands extended key usages in the request.
    #[error(
        "an Apple configuration profile cannot ask for extended key usages, which demand_usages demands"
    )]
    UsagesDemanded,
    /// The form's devices make RSA keys of certain sizes only.
    #[error("{form} can ask for RSA keys of {sizes} bits, and the profile allows {allowed}")]
    Key {
        /// Which.
        form: Form,
        /// What the form can ask for.
        sizes: &'static str,
        /// What the claims allow.
        allowed: String,
    },
}

/// Where Windows keeps the private key: KeyProtection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum WindowsKey {
    /// In the TPM, or not at all.
    Tpm,
    /// In the TPM where there is one.
    TpmIfPresent,
    /// In software, which is the default of Windows.
    #[default]
    Software,
}

/// What people and device management call the payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PayloadNames {
    /// Reverse-DNS prefix of Apple's PayloadIdentifier; the profile's id follows it. A device replaces a payload by a
    /// newer one with the same identifier.
    pub identifier: String,
    /// PayloadDisplayName.
    pub display: String,
    /// Apple's Name: a text for the SCEP server (`message` of GetCACert). Gateways ignore it.
    pub ca_name: Option<String>,
}

impl Default for PayloadNames {
    fn default() -> Self {
        Self {
            identifier: "org.sceptic.scep".to_owned(),
            display: "Certificate".to_owned(),
            ca_name: None,
        }
    }
}

/// What a payload is made of. Its `Debug` shows no challenge.
#[derive(Debug)]
pub struct PayloadInput {
    urls: Vec<String>,
    challenge: Secret<String>,
    claims: ChallengeClaims,
    ca_certificate: Option<CertificateDer>,
    names: PayloadNames,
    windows_key: WindowsKey,
}

impl PayloadInput {
    /// From a minted challenge and the addresses of the SCEP server, best first. Apple's devices get the first one.
    ///
    /// # Errors
    /// When an address is none of http or https, or has a character that is not ASCII.
    pub fn new(urls: Vec<String>, minted: Minted) -> Result<Self, PayloadError> {
        let good = |url: &&String| {
            let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
            rest.is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_graphic()))
        };
        if let Some(url) = urls.iter().find(|url| !good(url)) {
            return Err(PayloadError::Url { url: url.clone() });
        }
        Ok(Self {
            urls,
            challenge: Secret::new(minted.text),
            claims: minted.claims,
            ca_certificate: None,
            names: PayloadNames::default(),
            windows_key: WindowsKey::default(),
        })
    }

    /// With the certificate of the CA, by which a device knows it: the one that GetCACert answers with; for Windows,
    /// which compares the root, the root.
    #[must_use]
    pub fn with_ca_certificate(mut self, certificate: CertificateDer) -> Self {
        self.ca_certificate = Some(certificate);
        self
    }

    /// With names for people.
    ///
    /// # Errors
    /// When one is empty or has a control character.
    pub fn with_names(mut self, names: PayloadNames) -> Result<Self, PayloadError> {
        let ca_name = names.ca_name.as_deref().unwrap_or("-");
        for (field, text) in [
            ("identifier", names.identifier.as_str()),
            ("display", names.display.as_str()),
            ("ca_name", ca_name),
        ] {
            if text.is_empty() || text.chars().any(|c| c.is_control() || !xml::can_hold(c)) {
                return Err(PayloadError::Name { field });
            }
        }
        self.names = names;
        Ok(self)
    }

    /// With another place for the private key on Windows.
    #[must_use]
    pub const fn with_windows_key(mut self, key: WindowsKey) -> Self {
        self.windows_key = key;
        self
    }

    /// What the challenge says.
    #[must_use]
    pub const fn claims(&self) -> &ChallengeClaims {
        &self.claims
    }

    /// That XML has every character of the names. Controls are in none of them.
    fn check_names(&self, form: Form) -> Result<(), PayloadError> {
        let e = &self.claims.expectation;
        let mut subject = e.subject.rdns().iter().flat_map(|rdn| rdn.attributes());
        let mut upns = e.subject_alt_names.iter().filter_map(GeneralName::as_upn);
        let good = |text: &str| text.chars().all(xml::can_hold);
        if subject.all(|attribute| good(attribute.value())) && upns.all(good) {
            Ok(())
        } else {
            Err(PayloadError::NonCharacter { form })
        }
    }

    /// The first RSA size of the claims, in their order, that is among `sizes`.
    fn rsa_bits(
        &self,
        form: Form,
        sizes: &[u32],
        named: &'static str,
    ) -> Result<u32, PayloadError> {
        let allowed = &self.claims.expectation.key_algorithms;
        let fitting = allowed.iter().find_map(|algorithm| match algorithm {
            KeyAlgorithm::Rsa(bits) => sizes.contains(bits).then_some(*bits),
            KeyAlgorithm::P256 | KeyAlgorithm::P384 => None,
        });
        fitting.ok_or_else(|| {
            let names: Vec<String> = allowed.iter().map(ToString::to_string).collect();
            PayloadError::Key { form, sizes: named, allowed: names.join(", ") }
        })
    }

    /// The key usages, each of which `bit` must know; one of the two that matter must be there.
    fn key_usage_bits(
        &self,
        form: Form,
        bit: impl Fn(&str) -> Option<u32>,
    ) -> Result<u32, PayloadError> {
        let usages = self.claims.expectation.key_usage;
        let needed = KeyUsages::DIGITAL_SIGNATURE.union(KeyUsages::KEY_ENCIPHERMENT);
        if !usages.intersects(needed) {
            return Err(PayloadError::KeyUsageMissing { form });
        }
        usages.names().try_fold(0, |bits, usage| {
            Ok(bits | bit(usage).ok_or(PayloadError::KeyUsage { form, usage })?)
        })
    }
}

fn no_san(form: Form, name: &GeneralName, why: &'static str) -> PayloadError {
    PayloadError::SubjectAltName { form, kind: name.kind(), why }
}
