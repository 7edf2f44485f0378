//! How an endpoint behaves towards its clients, as data: each choice, and presets of all of them for families of clients.

use scep_message::{LegacyAlgorithms, ReplyCipher, ReplyDigest};
use scep_pkcs10::{Rules as CsrRules, Sha1Signatures};
use scep_types::{AuthorityName, ProfileId, StringRules};
use std::collections::BTreeSet;

/// Whose key must have signed the message around a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum SignerRule {
    /// The key that the request asks to certify, or the key of a live certificate that this gateway has issued to
    /// the same device. Nobody on the path can lift an envelope, sign it anew and receive the answer.
    #[default]
    CsrKey,
    /// Any key: Windows makes a throw-away signer for each attempt. Proof of possession is the request's
    /// own signature; the signer's key is recorded.
    Any,
}

/// What a SUCCESS carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ReplyCertificates {
    /// The leaf alone: Apple binds the first of the set to its key.
    #[default]
    Leaf,
    /// The leaf, then the CA: Cisco's VPN clients want it.
    LeafAndCa,
}

/// Which of the RA's certificates GetCACert shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RaShown {
    /// The one to encrypt to, then the one that signs; one where it does both.
    All,
    /// The one to encrypt to.
    Recipient,
}

/// Which of the CA's certificates GetCACert shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CaShown {
    /// The issuing CA's, then those above it.
    Chain,
    /// The issuing CA's.
    Issuer,
    /// None: the client has it already.
    Nothing,
}

/// Whose certificates come first in GetCACert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CaCertOrder {
    /// The RA's: clients that encrypt to the first find the right one.
    RaFirst,
    /// The CA's: for clients that take the first for the CA.
    CaFirst,
}

/// What GetCACert returns: several certificates as a bundle, a single one as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CaCertForm {
    /// Of the RA.
    pub ra: RaShown,
    /// Of the CA.
    pub ca: CaShown,
    /// In which order.
    pub order: CaCertOrder,
}

impl CaCertForm {
    /// The RA's certificates, then the CA's with all above it.
    pub const BUNDLE: Self =
        Self { ra: RaShown::All, ca: CaShown::Chain, order: CaCertOrder::RaFirst };
    /// The RA's certificates, then the issuing CA's alone.
    pub const ISSUER: Self = Self { ca: CaShown::Issuer, ..Self::BUNDLE };
    /// The CA's certificates, then the RA's.
    pub const CA_FIRST: Self = Self { order: CaCertOrder::CaFirst, ..Self::BUNDLE };
    /// One bare certificate, the RA's: for clients that look for nothing else.
    pub const RA_ONLY: Self =
        Self { ra: RaShown::Recipient, ca: CaShown::Nothing, order: CaCertOrder::RaFirst };

    /// Each form that has a name, by it.
    pub const NAMED: [(&'static str, Self); 4] = [
        ("bundle", Self::BUNDLE),
        ("issuer", Self::ISSUER),
        ("ca-first", Self::CA_FIRST),
        ("ra-only", Self::RA_ONLY),
    ];
}

impl Default for CaCertForm {
    fn default() -> Self {
        Self::BUNDLE
    }
}

/// One SCEP endpoint: a path and how it behaves there.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Its name in traces and metrics.
    pub name: String,
    /// The CA that issues here.
    pub authority: AuthorityName,
    /// The profiles that are served here; `None`: all.
    pub profiles: Option<BTreeSet<ProfileId>>,
    /// The path it serves and everything below; `/` serves every path that no other endpoint does.
    pub path: String,
    /// Whose key signs.
    pub signer: SignerRule,
    /// SHA-1 and 3DES.
    pub legacy: LegacyAlgorithms,
    /// What a SUCCESS carries.
    pub reply: ReplyCertificates,
    /// What GetCACert returns.
    pub ca_cert: CaCertForm,
    /// The digest of an answer's signature.
    pub digest: ReplyDigest,
    /// The cipher of an answer.
    pub cipher: ReplyCipher,
    /// What is accepted of a PKCS #10 request.
    pub csr: CsrRules,
}

impl Endpoint {
    /// For clients that sign with the key they ask to certify: [`Preset::GENERIC`].
    #[must_use]
    pub fn generic(path: impl Into<String>) -> Self {
        Preset::GENERIC.endpoint(path)
    }

    /// For Windows: [`Preset::WINDOWS`].
    #[must_use]
    pub fn windows(path: impl Into<String>) -> Self {
        Preset::WINDOWS.endpoint(path)
    }

    /// For iPhones, iPads and Macs: [`Preset::APPLE`].
    #[must_use]
    pub fn apple(path: impl Into<String>) -> Self {
        Preset::APPLE.endpoint(path)
    }

    /// For Android agents and other programs on jscep: [`Preset::ANDROID_JSCEP`].
    #[must_use]
    pub fn android_jscep(path: impl Into<String>) -> Self {
        Preset::ANDROID_JSCEP.endpoint(path)
    }

    /// For routers and switches with Cisco IOS: [`Preset::CISCO_IOS`].
    #[must_use]
    pub fn cisco_ios(path: impl Into<String>) -> Self {
        Preset::CISCO_IOS.endpoint(path)
    }

    /// Serves SHA-1 and 3DES too, to devices that know nothing else: a choice of the operator's, and of no preset.
    #[must_use]
    pub const fn with_legacy(mut self) -> Self {
        self.legacy = LegacyAlgorithms::Accept;
        self.csr.sha1 = Sha1Signatures::Accept;
        self
    }
}

/// What a family of clients needs of an endpoint. None opens SHA-1 and 3DES.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preset {
    /// Its name in configurations, and that of its endpoints in traces and metrics.
    pub name: &'static str,
    /// Whose key signs.
    pub signer: SignerRule,
    /// What a SUCCESS carries.
    pub reply: ReplyCertificates,
    /// What GetCACert returns.
    pub ca_cert: CaCertForm,
    /// The digest of an answer's signature.
    pub digest: ReplyDigest,
    /// The cipher of an answer.
    pub cipher: ReplyCipher,
    /// String types in names.
    pub strings: StringRules,
    /// The quirks of its clients that it is tested with; what they are is in CONFORMANCE.md of scep-message.
    pub quirks: &'static [u8],
}

impl Preset {
    /// Clients that do as RFC 8894 says.
    pub const GENERIC: Self = Self {
        name: "generic",
        signer: SignerRule::CsrKey,
        reply: ReplyCertificates::Leaf,
        ca_cert: CaCertForm::BUNDLE,
        digest: ReplyDigest::Mirror,
        cipher: ReplyCipher::Mirror,
        strings: StringRules::Strict,
        quirks: &[],
    };

    /// Windows: a throw-away signer for each attempt (27), no certificate above the issuer in GetCACert (19).
    pub const WINDOWS: Self = Self {
        name: "windows",
        signer: SignerRule::Any,
        reply: ReplyCertificates::Leaf,
        ca_cert: CaCertForm::ISSUER,
        digest: ReplyDigest::Mirror,
        cipher: ReplyCipher::Mirror,
        strings: StringRules::Strict,
        quirks: &[6, 7, 18, 19, 27, 28, 32, 54],
    };

    /// iOS, iPadOS and macOS: the leaf alone, as the first of the answer is bound to the key (43), and every RA
    /// certificate in a bundle, which is searched by key usage (17, 18).
    pub const APPLE: Self = Self {
        name: "apple",
        signer: SignerRule::CsrKey,
        reply: ReplyCertificates::Leaf,
        ca_cert: CaCertForm::BUNDLE,
        digest: ReplyDigest::Mirror,
        cipher: ReplyCipher::Mirror,
        strings: StringRules::Strict,
        quirks: &[1, 8, 17, 18, 22, 43, 54],
    };

    /// Java, as Android's agents have it: BMPString in names that are not ASCII (38), answers signed with a digest that
    /// the client has used itself (34).
    pub const ANDROID_JSCEP: Self = Self {
        name: "android-jscep",
        signer: SignerRule::CsrKey,
        reply: ReplyCertificates::Leaf,
        ca_cert: CaCertForm::BUNDLE,
        digest: ReplyDigest::Mirror,
        cipher: ReplyCipher::Mirror,
        strings: StringRules::AllowBmp,
        quirks: &[3, 15, 21, 22, 34, 38, 39, 42, 44],
    };

    /// Cisco IOS: the CA after the leaf (43). What is older than SHA-256 and AES needs `legacy` besides (33, 34).
    pub const CISCO_IOS: Self = Self {
        name: "cisco-ios",
        signer: SignerRule::CsrKey,
        reply: ReplyCertificates::LeafAndCa,
        ca_cert: CaCertForm::BUNDLE,
        digest: ReplyDigest::Mirror,
        cipher: ReplyCipher::Mirror,
        strings: StringRules::Strict,
        quirks: &[2, 5, 6, 33, 34, 38, 43],
    };

    /// Every preset.
    pub const ALL: [Self; 5] =
        [Self::GENERIC, Self::WINDOWS, Self::APPLE, Self::ANDROID_JSCEP, Self::CISCO_IOS];

    /// The one with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        const ALL: &[Preset] = &Preset::ALL;
        ALL.iter().find(|preset| preset.name == name)
    }

    /// An endpoint at this path, of the main CA and for all profiles.
    #[must_use]
    pub fn endpoint(&self, path: impl Into<String>) -> Endpoint {
        Endpoint {
            name: self.name.into(),
            authority: AuthorityName::main(),
            profiles: None,
            path: path.into(),
            signer: self.signer,
            legacy: LegacyAlgorithms::Refuse,
            reply: self.reply,
            ca_cert: self.ca_cert,
            digest: self.digest,
            cipher: self.cipher,
            csr: CsrRules { strings: self.strings, ..CsrRules::default() },
        }
    }
}
