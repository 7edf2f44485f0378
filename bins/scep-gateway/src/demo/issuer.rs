//! The demo's issuer: describes devices and seals challenges.

use super::{GROUP, SUFFIX, TENANT};
use crate::error::GatewayError;
use core::time::Duration;
use scep_challenge::{
    ApprovalMode, ChallengeClaims, DemandUsages, Expectation, Purpose, Renewal, seal,
};
use scep_keys::SoftwareKey;
use scep_types::{
    ChallengeId, CryptoProvider, DeviceId, ExtendedKeyUsages, GatewayGroupId, GeneralName,
    KeyAlgorithm, KeyUsages, ProfileId, SpkiDer, TenantId, Timestamp,
};

/// An issuer with one key, for one gateway.
pub(crate) struct DemoIssuer {
    key: SoftwareKey,
    recipient: SpkiDer,
}

fn demo(error: impl std::fmt::Display) -> GatewayError {
    GatewayError::Demo(error.to_string())
}

impl DemoIssuer {
    /// With a new key.
    pub(crate) fn new(recipient: SpkiDer) -> Result<Self, GatewayError> {
        Ok(Self { key: SoftwareKey::generate(KeyAlgorithm::P256)?, recipient })
    }

    pub(crate) const fn with_key(key: SoftwareKey, recipient: SpkiDer) -> Self {
        Self { key, recipient }
    }

    /// What a device's certificate shall contain: client authentication for `CN=<device>`, one DNS name, one UPN.
    pub(crate) fn claims(
        &self,
        device: &str,
        now: Timestamp,
        provider: &dyn CryptoProvider,
    ) -> Result<ChallengeClaims, GatewayError> {
        let mut id = [0; 16];
        provider.random(&mut id).map_err(demo)?;
        let client = ExtendedKeyUsages::purpose("clientAuth").into_iter().collect();
        Ok(ChallengeClaims {
            challenge_id: ChallengeId::from_bytes(id),
            tenant: TenantId::new(TENANT).map_err(demo)?,
            issuer_key: self.key.public_key().key_id(),
            audience: GatewayGroupId::new(GROUP).map_err(demo)?,
            recipient_key: self.recipient.key_id(),
            profile: ProfileId::new("wifi").map_err(demo)?,
            device: DeviceId::new(device).map_err(demo)?,
            user: None,
            issued_at: now,
            expires_at: now.plus(Duration::from_secs(3600)),
            purpose: Purpose::Enrol,
            expectation: Expectation {
                subject: format!("C=CH, O=Example, CN={device}").parse().map_err(demo)?,
                subject_alt_names: vec![
                    GeneralName::dns(&format!("{device}.{SUFFIX}")).map_err(demo)?,
                    GeneralName::upn(&format!("{device}@{SUFFIX}")).map_err(demo)?,
                ],
                key_usage: KeyUsages::DIGITAL_SIGNATURE.union(KeyUsages::KEY_ENCIPHERMENT),
                extended_key_usages: ExtendedKeyUsages::new(client)
                    .ok_or_else(|| demo("no usage"))?,
                demand_usages: DemandUsages::No,
                key_algorithms: vec![KeyAlgorithm::Rsa(2048)],
                spki_hash: None,
                validity: Duration::from_secs(365 * 86_400),
                extensions: Vec::new(),
                renewal: Renewal::Blob,
                approval: ApprovalMode::Automatic,
            },
        })
    }

    /// Signs and encrypts.
    pub(crate) fn seal(
        &self,
        claims: &ChallengeClaims,
        provider: &dyn CryptoProvider,
    ) -> Result<String, GatewayError> {
        seal(claims, &*self.key.signer(), &self.recipient, provider).map_err(demo)
    }
}
