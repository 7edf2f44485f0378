//! Who is to blame, and under which code a refusal is reported.

use core::fmt;

/// Whose fault a failure is. It decides retry, answer and pager without reading strings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The peer's message is malformed, or uses what we do not serve.
    PeerMessage,
    /// The message is well-formed, but the peer has no right to what it asks.
    PeerRights,
    /// Our configuration is wrong.
    OurConfiguration,
    /// Something we depend on (CA, ledger, disk, token) failed.
    OurDependency,
    /// A bug in this code.
    OurBug,
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident => $fault:ident,)*) => {
        /// Why a request was refused: the code under which it is reported to the issuer and shown to
        /// the operator. The first block uses the names that the field knows from Microsoft's SCEP
        /// validation API; the second block is ours. Closed on purpose: a new reason must be given an
        /// answer in the one table that maps reasons to failInfo.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason { $($(#[$doc])* $name,)* }

        impl Reason {
            /// Every reason, for tables and tests.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The stable code, as reported.
            #[must_use]
            pub const fn code(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }

            /// Whose fault it is.
            #[must_use]
            pub const fn fault(self) -> Fault {
                match self { $(Self::$name => Fault::$fault,)* }
            }

            /// The reason with this code.
            #[must_use]
            pub fn from_code(code: &str) -> Option<Self> {
                match code { $(stringify!($name) => Some(Self::$name),)* _ => None }
            }
        }
    };
}

reasons! {
    /// The PKCS #10 request could not be read.
    CertificateRequestDecodingFailed => PeerMessage,
    /// No challengePassword, or a blank one.
    ChallengePasswordMissing => PeerRights,
    /// The challengePassword is not base64 of the blob's CMS structure.
    ChallengeDecodingError => PeerRights,
    /// The blob could not be decrypted.
    ChallengeDecryptionError => PeerRights,
    /// The blob's plaintext is not canonical `ChallengeClaims`.
    ChallengeDeserializationError => PeerRights,
    /// The blob's times are inconsistent, too far apart, or in the future.
    ChallengeInvalidTimestamp => PeerRights,
    /// The blob has expired.
    ChallengeExpired => PeerRights,
    /// The blob's signature does not verify.
    SignatureValidationFailed => PeerRights,
    /// The blob names a signer that is not pinned, or no longer.
    SigningCertThumbprintMismatch => PeerRights,
    /// The request's subject is empty where the challenge names one.
    SubjectNameMissing => PeerRights,
    /// The request's subject differs from the challenge's.
    SubjectNameMismatch => PeerRights,
    /// The request has no subjectAltName where the challenge names some.
    SubjectAltNameMissing => PeerRights,
    /// The request's set of subjectAltNames differs from the challenge's.
    SubjectAltNameMismatch => PeerRights,
    /// The request's key usage differs, or is absent where the profile demands it.
    KeyUsageMismatch => PeerRights,
    /// The key's algorithm or size is not one that the challenge allows.
    KeyLengthMismatch => PeerRights,
    /// No extended key usage where the profile demands it.
    EnhancedKeyUsageMissing => PeerRights,
    /// The request's extended key usages differ from the challenge's.
    EnhancedKeyUsageMismatch => PeerRights,
    /// The challenge pins a key, and the request has another.
    RegisteredKeyMismatch => PeerRights,
    /// The device, user or profile is disabled.
    ScepProfileNoLongerTargetedToTheClient => PeerRights,
    /// The blob is of another tenant.
    BadTenantIdInChallenge => PeerRights,

    /// The blob is for another gateway group or another decryption key.
    BadAudienceInChallenge => PeerRights,
    /// The blob's purpose or rules are of a kind this gateway does not serve.
    ChallengeNotServed => PeerRights,
    /// The blob has been used for another request.
    ChallengeAlreadyUsed => PeerRights,
    /// Ten requests that did not match were made with this blob.
    ChallengeLocked => PeerRights,
    /// The blob was issued before this ledger was found to be restored from a backup.
    ChallengeBeforeRestore => PeerRights,
    /// The certificate that signs may not be followed by another without a fresh challenge: its profile, its age, its
    /// generation, its key, or another successor.
    RenewalNotAllowed => PeerRights,
    /// A person has refused the request.
    ApprovalDenied => PeerRights,
    /// Nobody has approved the request in time.
    ApprovalExpired => PeerRights,
    /// The CA itself has kept the request waiting, and has refused it in the end.
    CaRefused => OurDependency,
    /// The same request is being worked on by another connection.
    RequestInProgress => OurDependency,
    /// An extension, or a second source of extensions, that the challenge does not name.
    ExtensionNotAllowed => PeerRights,
    /// An attribute that is neither needed nor known to be inert.
    AttributeNotAllowed => PeerRights,
    /// What the challenge asks for is outside the site's rules.
    SiteRuleViolated => PeerRights,
    /// More certificates per hour than the site's brake allows.
    IssuanceBrakeEngaged => PeerRights,
    /// The public key is certified for another device already.
    KeyAlreadyCertified => PeerRights,
    /// The key is weak: size, exponent, ROCA, close primes, or a key of ours.
    WeakKey => PeerRights,
    /// The request is not signed by the key it asks to certify.
    ProofOfPossessionFailed => PeerRights,
    /// The outer signature is by neither the requested key nor a live certificate of the device.
    SignerNotAllowed => PeerRights,
    /// The CMS message could not be read.
    MessageMalformed => PeerMessage,
    /// The CMS signature, digest or signed attributes are wrong.
    MessageSignatureInvalid => PeerMessage,
    /// The envelope could not be opened. One reason for every cause, on purpose.
    MessageDecryptionFailed => PeerMessage,
    /// The envelope is not for a key of ours.
    MessageNotForUs => PeerMessage,
    /// An algorithm that is not enabled here.
    AlgorithmNotSupported => PeerMessage,
    /// A messageType that is not served here.
    MessageTypeNotServed => PeerMessage,
    /// The message is signed by a key that signs only, and the request has no challenge to encrypt the answer with.
    AnswerUndeliverable => PeerMessage,
    /// signingTime is too far off, on endpoints that check it.
    SigningTimeOff => PeerMessage,
    /// No transaction with this id.
    NoSuchTransaction => PeerRights,
    /// No certificate or CRL by this issuer and serial number that whoever asks may have.
    NoSuchCertificate => PeerRights,
    /// Too many requests.
    RateExceeded => PeerRights,
    /// The CA refused, or could not be reached, and has issued nothing.
    CaUnavailable => OurDependency,
    /// It is not known whether the CA has issued.
    CaOutcomeUnknown => OurDependency,
    /// The CA's certificate is not what was approved; it was not released.
    CertificateDiffers => OurDependency,
    /// The ledger could not be read or written.
    LedgerUnavailable => OurDependency,
    /// The clock is too far behind what the ledger has seen.
    ClockBehind => OurConfiguration,
    /// The issuer was not heard for longer than the operator allows.
    IssuerOffline => OurDependency,
    /// The issuer has bound the gateway group to another ledger.
    LedgerNotBound => OurConfiguration,
    /// A private key or token failed.
    KeyUnavailable => OurDependency,
    /// The answer could not be made. A bug, or a failing token.
    InternalError => OurBug,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}
