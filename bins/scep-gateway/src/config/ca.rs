//! `[ca]`: who issues.

use super::{Context, place};
use crate::ca::Ca;
use crate::error::GatewayError;
use crate::label::Label;
use crate::renewal::one_certificate;
use scep_ca::{LocalCa, LocalCaSettings};
use scep_keys::{KeyPlace, open_key, read_certificates};
use scep_types::AuthorityName;
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, tag = "kind", rename_all = "kebab-case")]
pub(super) enum RawCa {
    Local {
        key: String,
        certificate: PathBuf,
        chain: Option<PathBuf>,
        #[serde(default)]
        crl_urls: Vec<String>,
        #[serde(default)]
        issuer_urls: Vec<String>,
        #[serde(default)]
        ocsp_urls: Vec<String>,
    },
    #[cfg(feature = "openbao")]
    #[serde(rename = "openbao")]
    OpenBao(Box<crate::openbao::RawOpenBao>),
    Scep(Box<crate::upstream::RawUpstream>),
}

impl RawCa {
    /// Whether its key is on a token.
    pub(super) fn is_on_token(&self, base: &Path) -> Result<bool, GatewayError> {
        match self {
            Self::Local { key, .. } => {
                Ok(matches!(place(base, "ca.key", key)?, KeyPlace::Token(_)))
            }
            #[cfg(feature = "openbao")]
            Self::OpenBao(_) => Ok(false),
            Self::Scep(_) => Ok(false),
        }
    }

    pub(super) fn check(
        self,
        context: &mut Context<'_>,
        name: &AuthorityName,
    ) -> Result<Ca, GatewayError> {
        let (base, provider) = (context.base, context.provider);
        let (key, certificate, chain, settings) = match self {
            Self::Local { key, certificate, chain, crl_urls, issuer_urls, ocsp_urls } => {
                let settings = LocalCaSettings { crl_urls, issuer_urls, ocsp_urls };
                (key, certificate, chain, settings)
            }
            #[cfg(feature = "openbao")]
            Self::OpenBao(raw) => {
                let remote = raw.check(base, provider)?;
                let ca = Ca::OpenBao(Arc::new(remote));
                if let Some(issuer) = ca.chain().first() {
                    context.found_ca(name, issuer.spki(), issuer);
                }
                return Ok(ca);
            }
            Self::Scep(raw) => {
                let upstream = raw.check(base, provider)?;
                context.keys.push((Label::of(name, "SCEP client"), upstream.key().clone()));
                let ca = Ca::Scep(Arc::new(upstream));
                if let Some(issuer) = ca.chain().first() {
                    context.found_ca(name, issuer.spki(), issuer);
                }
                return Ok(ca);
            }
        };
        let key = open_key(&place(base, "ca.key", &key)?)?;
        let certificate = one_certificate(&base.join(certificate), "ca.certificate")?;
        let upper = match chain {
            Some(chain) => read_certificates(&base.join(chain))?,
            None => Vec::new(),
        };
        context.found_ca(name, key.public_key(), &certificate);
        let provider = Arc::clone(provider);
        Ok(Ca::Local(LocalCa::new(key.signer()?, certificate, upper, settings, provider)?))
    }
}
