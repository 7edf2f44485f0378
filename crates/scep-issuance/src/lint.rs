//! What a profile may say but should not.

use crate::profile::{Field, Profile, RevokeOn};
use crate::variable::{Origin, Variable};
use core::fmt;
use scep_types::{ExtendedKeyUsages, KeyUsages};

/// A warning about a profile. It can be minted from all the same: the gateway's site rules have the last word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lint {
    /// Somebody who holds a device can choose a value by which others will recognise its certificate.
    SpoofableName {
        /// Where.
        field: Field,
        /// Which value.
        variable: Variable,
        /// For which purpose it will be recognised.
        purpose: String,
    },
    /// A purpose that makes a certificate a master key or part of the infrastructure. Gateways refuse it.
    DangerousPurpose {
        /// Which.
        purpose: String,
    },
    /// A key usage of CA certificates. Gateways refuse it.
    CaKeyUsage,
    /// A purpose for signing in to Windows, and no security identifier: domain controllers refuse such a
    /// certificate.
    NoSid {
        /// Which purpose.
        purpose: String,
    },
    /// Certificates of wiped devices stay valid until they end.
    OutlivesWipe,
}

impl fmt::Display for Lint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SpoofableName { field, variable, purpose } => write!(
                f,
                "{field}: whoever holds a device can choose {variable}, and {purpose} makes it an identity"
            ),
            Self::DangerousPurpose { purpose } => {
                write!(f, "extended_key_usages: {purpose} must not be in a device's certificate")
            }
            Self::CaKeyUsage => {
                f.write_str("key_usage: keyCertSign and cRLSign belong in CA certificates alone")
            }
            Self::NoSid { purpose } => {
                write!(f, "sid: {purpose} without a security identifier is refused by Windows")
            }
            Self::OutlivesWipe => {
                f.write_str("revoke_on: without wipe, certificates of wiped devices stay valid")
            }
        }
    }
}

/// Purposes by which a certificate's holder is recognised.
const IDENTIFYING: [&str; 5] =
    ["clientAuth", "serverAuth", "smartcardLogon", "eapOverLAN", "ipsecIKE"];
const DANGEROUS: [&str; 3] = ["anyExtendedKeyUsage", "OCSPSigning", "certificateRequestAgent"];

impl Profile {
    /// Warnings about names that can be spoofed, and usages that no device should have.
    #[must_use]
    pub fn lint(&self) -> Vec<Lint> {
        let has = |purpose: &&str| {
            ExtendedKeyUsages::purpose(purpose)
                .is_some_and(|oid| self.extended_key_usages.purposes().contains(&oid))
        };
        let mut lints = Vec::new();
        // A certificate for any purpose identifies too.
        let identifying = IDENTIFYING.iter().chain(&DANGEROUS[..1]).find(|purpose| has(purpose));
        if let Some(purpose) = identifying {
            for (field, variable) in self.uses() {
                if variable.origin() == Origin::Device {
                    let purpose = (*purpose).to_owned();
                    lints.push(Lint::SpoofableName { field, variable, purpose });
                }
            }
        }
        for purpose in DANGEROUS.iter().filter(|purpose| has(purpose)) {
            lints.push(Lint::DangerousPurpose { purpose: (*purpose).to_owned() });
        }
        if self.key_usage.intersects(KeyUsages::KEY_CERT_SIGN.union(KeyUsages::CRL_SIGN)) {
            lints.push(Lint::CaKeyUsage);
        }
        let names_sid =
            self.uses().iter().any(|(_, v)| *v == Variable::OnPremisesSecurityIdentifier);
        if has(&"smartcardLogon") && !names_sid {
            lints.push(Lint::NoSid { purpose: "smartcardLogon".to_owned() });
        }
        if !self.revokes_on(RevokeOn::Wipe) {
            lints.push(Lint::OutlivesWipe);
        }
        lints
    }
}
