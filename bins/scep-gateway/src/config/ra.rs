//! `[ra]`: what devices encrypt to, and what signs the answers.

use super::{Context, place};
use crate::error::GatewayError;
use crate::renewal::{Pair, RaFiles, RaPair, Renewal};
use scep_keys::KeyPlace;
use scep_types::AuthorityName;
use serde::Deserialize;
use std::path::PathBuf;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRa {
    signing_key: String,
    signing_certificate: PathBuf,
    encryption_key: String,
    encryption_certificate: PathBuf,
    renewal: Option<RawRenewal>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum RawRenewal {
    Auto,
    Manual,
}

impl RawRa {
    pub(super) fn check(
        self,
        context: &Context<'_>,
        authority: &AuthorityName,
    ) -> Result<RaFiles, GatewayError> {
        let renewal = match self.renewal {
            Some(RawRenewal::Auto) => Renewal::Auto,
            Some(RawRenewal::Manual) => Renewal::Manual,
            // Gateways that share a ledger share an RA, and none may change it by itself.
            None if context.shared_ledger => Renewal::Manual,
            None => Renewal::Auto,
        };
        let pair = |name, key: &str, certificate: PathBuf| {
            let certificate = context.base.join(certificate);
            Ok::<_, GatewayError>(match place(context.base, name, key)? {
                KeyPlace::File(key) => RaPair::Files(Pair { key, certificate }),
                key @ KeyPlace::Token(_) => RaPair::Token { key, certificate },
            })
        };
        let signing = pair("ra.signing_key", &self.signing_key, self.signing_certificate)?;
        let encryption =
            pair("ra.encryption_key", &self.encryption_key, self.encryption_certificate)?;
        let (authority, legacy) = (authority.clone(), context.legacy);
        Ok(RaFiles { authority, signing, encryption, legacy, renewal })
    }
}
