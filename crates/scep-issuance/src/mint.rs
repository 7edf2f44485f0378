//! From a profile and what is known about a device to a challenge.

use crate::profile::{CertificateFor, Field, Profile, SidForm};
use crate::template::FillError;
use crate::variable::{Attributes, AttributesError, Variable};
use scep_challenge::{ChallengeClaims, KeyRole, SealError, Sid, SidError, is_suitable, seal};
use scep_types::{
    ChallengeId, CryptoProvider, DeviceId, GatewayGroupId, KeyAlgorithm, KeyError, KeyId, Signer,
    SpkiDer, TenantId, Timestamp, UserId,
};
use std::sync::Arc;
use thiserror::Error;

/// Why a minter cannot be made. Our configuration is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum MinterError {
    /// Neither P-256 nor RSA of 2,048 to 4,096 bits.
    #[error("the {role}'s key is {algorithm}; P-256 and RSA of 2,048 to 4,096 bits are allowed")]
    UnsuitableKey {
        /// Which.
        role: KeyRole,
        /// Its algorithm.
        algorithm: KeyAlgorithm,
    },
    /// One key in both roles.
    #[error("signer and recipient are the same key")]
    SharedKey,
}

/// Why no challenge was made.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum MintError {
    /// The profile is for users, and no user was named.
    #[error("the profile is for users, and no user is named")]
    UserMissing,
    /// The profile is for devices, and a user was named.
    #[error("the profile is for devices, and a user is named")]
    UserNotExpected,
    /// `DeviceId` was given as an attribute that differs from the device's id.
    #[error("the attribute DeviceId is not the device's id")]
    DeviceIdDiffers,
    /// A name cannot be made: a value is missing or does not fit.
    #[error("{field}: {error}")]
    Name {
        /// Which name.
        field: Field,
        /// Why.
        error: FillError,
    },
    /// The value of `OnPremisesSecurityIdentifier` is none.
    #[error("sid: {0}")]
    Sid(#[from] SidError),
    /// An attribute that is none.
    #[error(transparent)]
    Attributes(#[from] AttributesError),
    /// The source of randomness failed.
    #[error("no random challenge id: {0}")]
    Random(#[from] KeyError),
    /// The claims are not ones, or could not be sealed.
    #[error(transparent)]
    Seal(#[from] SealError),
}

/// A challenge that was made. Its `Debug` shows the claims alone.
pub struct Minted {
    /// The text for the device. Not for logs.
    pub text: String,
    /// What it says.
    pub claims: ChallengeClaims,
}

impl core::fmt::Debug for Minted {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Minted").field("claims", &self.claims).finish_non_exhaustive()
    }
}

/// Makes the challenges of one tenant for one gateway group.
#[derive(Clone, Debug)]
pub struct Minter {
    tenant: TenantId,
    audience: GatewayGroupId,
    signer: Arc<dyn Signer>,
    signer_id: KeyId,
    recipient: SpkiDer,
    recipient_id: KeyId,
}

impl Minter {
    /// `recipient` is the gateway group's present decryption key.
    ///
    /// # Errors
    /// When a key is unsuitable, or both are the same.
    pub fn new(
        tenant: TenantId,
        audience: GatewayGroupId,
        signer: Arc<dyn Signer>,
        recipient: SpkiDer,
    ) -> Result<Self, MinterError> {
        for (role, key) in
            [(KeyRole::Signer, signer.public_key()), (KeyRole::Recipient, &recipient)]
        {
            if !is_suitable(key.algorithm()) {
                return Err(MinterError::UnsuitableKey { role, algorithm: key.algorithm() });
            }
        }
        let (signer_id, recipient_id) = (signer.public_key().key_id(), recipient.key_id());
        if signer_id == recipient_id {
            return Err(MinterError::SharedKey);
        }
        Ok(Self { tenant, audience, signer, signer_id, recipient, recipient_id })
    }

    /// Makes one challenge: one signature.
    ///
    /// `DeviceId` needs no attribute: it is `device`.
    ///
    /// # Errors
    /// When a variable of the profile has no value, a value does not fit its name, user and profile do not go
    /// together, or sealing fails.
    pub fn mint(
        &self,
        profile: &Profile,
        device: &DeviceId,
        user: Option<&UserId>,
        attributes: &Attributes,
        now: Timestamp,
        provider: &dyn CryptoProvider,
    ) -> Result<Minted, MintError> {
        match (profile.certificate_for, user) {
            (CertificateFor::User, None) => return Err(MintError::UserMissing),
            (CertificateFor::Device, Some(_)) => return Err(MintError::UserNotExpected),
            (CertificateFor::User, Some(_)) | (CertificateFor::Device, None) => {}
        }
        let mut values = attributes.clone();
        match values.get(Variable::DeviceId) {
            Some(given) if given != device.as_str() => return Err(MintError::DeviceIdDiffers),
            Some(_) => {}
            None => values.insert(Variable::DeviceId, device.as_str())?,
        }

        let mut id = [0; 16];
        provider.random(&mut id)?;
        let claims = ChallengeClaims {
            challenge_id: ChallengeId::from_bytes(id),
            tenant: self.tenant.clone(),
            issuer_key: self.signer_id,
            audience: self.audience.clone(),
            recipient_key: self.recipient_id,
            profile: profile.id.clone(),
            device: device.clone(),
            user: user.cloned(),
            issued_at: now,
            expires_at: now.plus(profile.challenge_lifetime()),
            purpose: profile.purpose,
            expectation: profile.fill(&values)?,
        };
        let text = seal(&claims, self.signer.as_ref(), &self.recipient, provider)?;
        Ok(Minted { text, claims })
    }
}

impl Profile {
    /// The expectation with values for the variables.
    fn fill(&self, values: &Attributes) -> Result<scep_challenge::Expectation, MintError> {
        let name = |field| move |error| MintError::Name { field, error };
        let subject = self.subject.fill(values).map_err(name(Field::Subject))?;
        let mut expectation = self.expectation(subject);
        for (at, template) in self.subject_alt_names.iter().enumerate() {
            let san = template.fill(values).map_err(name(Field::SubjectAltName(at)))?;
            expectation.subject_alt_names.push(san);
        }
        if !self.sid.is_empty() {
            let variable = Variable::OnPremisesSecurityIdentifier;
            let missing = || name(Field::Sid)(FillError::Missing(variable));
            let sid: Sid = values.get(variable).ok_or_else(missing)?.parse()?;
            for form in &self.sid {
                match form {
                    SidForm::Extension => expectation.extensions.push(sid.to_extension()),
                    SidForm::Uri => {
                        let uri =
                            sid.to_uri().map_err(FillError::from).map_err(name(Field::Sid))?;
                        expectation.subject_alt_names.push(uri);
                    }
                }
            }
        }
        Ok(expectation)
    }
}
