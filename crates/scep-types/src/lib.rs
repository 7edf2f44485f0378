//! What every crate of a SCEP system shares: ids, names, key traits, timestamps, secrets and fault
//! classes. No I/O, no clock, no randomness of its own, no cryptographic back end for private keys.
//!
//! ```
//! use scep_types::{DistinguishedName, Timestamp};
//!
//! // Names are structures: two spellings of one name are equal, a comma in a value changes nothing.
//! let a: DistinguishedName = r"O=Example\, Inc., CN=device-7".parse()?;
//! let b = DistinguishedName::from_der(&a.to_der(), scep_types::StringRules::Strict)?;
//! assert_eq!(a, b);
//! assert_eq!(Timestamp::from_seconds(0).to_string(), "1970-01-01T00:00:00Z");
//! # Ok::<(), scep_types::NameError>(())
//! ```
//!
//! | module | holds |
//! | --- | --- |
//! | [`id`] | one newtype for each id and hash |
//! | [`time`] | [`Timestamp`], [`Clock`] |
//! | [`secret`] | [`Secret`]: blank `Debug`, zeroised on drop |
//! | [`fault`] | [`Fault`], [`Reason`]: who is to blame, and the field's reason codes |
//! | [`tlv`] | a strict DER cursor and writer that keep the received bytes |
//! | [`name`] | [`DistinguishedName`], [`GeneralName`] |
//! | [`usage`] | [`KeyUsages`], [`ExtendedKeyUsages`] |
//! | [`spki`] | [`SpkiDer`], [`KeyAlgorithm`] |
//! | [`certificate`] | [`CertificateDer`]: received bytes with a tolerant view |
//! | [`crl`] | [`CrlDer`]: the same of revocation lists |
//! | [`crypto`] | the traits of keys and of the [`CryptoProvider`] |
//! | [`algorithm`] | AlgorithmIdentifiers of signatures and digests |
#![warn(clippy::arithmetic_side_effects)]
#![cfg_attr(test, allow(clippy::arithmetic_side_effects))]

pub mod algorithm;
pub mod certificate;
pub mod crl;
pub mod crypto;
pub mod fault;
pub mod id;
pub mod name;
pub mod secret;
pub mod spki;
pub mod time;
pub mod tlv;
pub mod usage;

pub use algorithm::{DigestAlgorithm, DigestParameters, UnknownAlgorithm};
pub use certificate::{CertificateDer, CertificateError, ExtensionRef};
pub use const_oid::ObjectIdentifier;
pub use crl::CrlDer;
pub use crypto::{
    CryptoProvider, DecryptionKey, EcdhKey, EphemeralAgreement, KeyError, OaepHash,
    ReleasedCertificate, RsaDecryptionKey, RsaPadding, SignatureInvalid, SignatureScheme, Signer,
};
pub use fault::{Fault, Reason};
pub use id::*;
pub use name::{AttributeValue, DistinguishedName, GeneralName, NameError, Rdn, StringRules};
pub use secret::Secret;
pub use spki::{KeyAlgorithm, RsaPublicParts, SpkiDer, SpkiError};
pub use time::{Clock, DurationError, Timestamp, TimestampError, format_duration, parse_duration};
pub use usage::{ExtendedKeyUsages, KeyUsages};
