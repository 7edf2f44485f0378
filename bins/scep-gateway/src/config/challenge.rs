//! `[challenge]`: whose challenges are accepted, and which keys open them.

use super::{LinkConfig, duration, instant, place};
use crate::error::GatewayError;
use crate::label::{Expiries, Keys, Label};
use core::time::Duration;
use scep_challenge::{Opener, OpeningKey, PinnedSigner};
use scep_keys::{open_key, read_public_key};
use scep_server::RenewalContact;
use scep_types::{GatewayGroupId, TenantId};
use serde::Deserialize;
use std::path::{Path, PathBuf};

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawChallenge {
    decryption_key: Option<String>,
    max_lifetime: Option<String>,
    clock_skew: Option<String>,
    #[serde(default)]
    renew_without_issuer: bool,
    #[serde(default)]
    signers: Vec<RawSigner>,
    #[serde(default)]
    previous_keys: Vec<RawPreviousKey>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawSigner {
    public_key: PathBuf,
    not_before: String,
    not_after: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPreviousKey {
    key: String,
    not_after: String,
}

/// How long challenges may live, and by how much clocks may differ.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ChallengeTimes {
    pub(crate) max_lifetime: Duration,
    pub(crate) skew: Duration,
}

/// Whose challenges are accepted.
#[derive(Debug)]
pub(crate) enum Challenges {
    /// Of the keys that the configuration names. Taken once, by whoever builds the gateway.
    Pinned(Option<Opener>),
    /// Of the issuer that the gateway is enrolled with: its state has the keys.
    Issuer(Box<LinkConfig>),
}

impl RawChallenge {
    pub(super) fn times(&self) -> Result<ChallengeTimes, GatewayError> {
        let minutes = |n: u64| Duration::from_secs(n.saturating_mul(60));
        Ok(ChallengeTimes {
            max_lifetime: duration(
                "challenge.max_lifetime",
                self.max_lifetime.as_deref(),
                minutes(60),
            )?,
            skew: duration("challenge.clock_skew", self.clock_skew.as_deref(), minutes(5))?,
        })
    }

    /// With a connector the keys are the issuer's to say.
    pub(super) fn absent(&self) -> Result<(), GatewayError> {
        for (key, there) in [
            ("signers", !self.signers.is_empty()),
            ("decryption_key", self.decryption_key.is_some()),
            ("previous_keys", !self.previous_keys.is_empty()),
        ] {
            if there {
                return Err(GatewayError::config(
                    format!("challenge.{key}"),
                    "must be absent where there is a [connector]: `scep-gateway enroll` makes the decryption key, and \
                     the issuer says which keys sign challenges",
                ));
            }
        }
        if self.renew_without_issuer {
            return Err(GatewayError::config(
                "challenge.renew_without_issuer",
                "must be absent where there is a [connector]: certificates renew themselves while the issuer is heard",
            ));
        }
        Ok(())
    }

    /// Where there is no connector: whether certificates may renew themselves all the same.
    pub(super) fn renewal_contact(&self) -> RenewalContact {
        if self.renew_without_issuer {
            RenewalContact::NotNeeded
        } else {
            RenewalContact::default()
        }
    }

    pub(super) fn check(
        self,
        base: &Path,
        (tenant, group): (TenantId, GatewayGroupId),
        times: ChallengeTimes,
        keys: &mut Keys,
        expiries: &mut Expiries,
    ) -> Result<Opener, GatewayError> {
        let present = self.decryption_key.ok_or_else(|| {
            GatewayError::config("challenge.decryption_key", "missing, and there is no [connector]")
        })?;
        let present = open_key(&place(base, "challenge.decryption_key", &present)?)?;
        keys.push((Label::of_gateway("challenge decryption"), present.public_key().clone()));
        let mut opening = vec![OpeningKey { key: present.decryption()?, not_after: None }];
        for previous in self.previous_keys {
            let key = open_key(&place(base, "challenge.previous_keys.key", &previous.key)?)?;
            keys.push((
                Label::of_gateway("previous challenge decryption"),
                key.public_key().clone(),
            ));
            let not_after = instant("challenge.previous_keys.not_after", &previous.not_after)?;
            opening.push(OpeningKey { key: key.decryption()?, not_after: Some(not_after) });
        }
        let mut signers = Vec::new();
        for signer in self.signers {
            let key = read_public_key(&base.join(signer.public_key))?;
            keys.push((Label::of_gateway("issuer signing"), key.clone()));
            let not_before = instant("challenge.signers.not_before", &signer.not_before)?;
            let not_after = instant("challenge.signers.not_after", &signer.not_after)?;
            expiries.push((Label::of_gateway("issuer signing key"), not_after));
            signers.push(PinnedSigner { key, not_before, not_after });
        }
        Opener::new(tenant, group, signers, opening, times.max_lifetime, times.skew)
            .map_err(|error| GatewayError::config("challenge", error))
    }
}
