//! `[ca]`: who issues.

use super::{Keys, place};
use crate::ca::Ca;
use crate::error::GatewayError;
use crate::renewal::{Owned, one_certificate};
use scep_ca::{LocalCa, LocalCaSettings};
use scep_keys::{open_key, read_certificates};
use scep_link::CertificatePurpose;
use scep_types::CryptoProvider;
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
}

impl RawCa {
    pub(super) fn check(
        self,
        base: &Path,
        provider: &Arc<dyn CryptoProvider>,
        keys: &mut Keys,
        certificates: &mut Vec<Owned>,
    ) -> Result<Ca, GatewayError> {
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
                    keys.push(("CA", issuer.spki().clone()));
                    certificates.push(Owned {
                        what: "CA certificate",
                        purpose: CertificatePurpose::Ca,
                        certificate: issuer.clone(),
                    });
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
        keys.push(("CA", key.public_key().clone()));
        certificates.push(Owned {
            what: "CA certificate",
            purpose: CertificatePurpose::Ca,
            certificate: certificate.clone(),
        });
        let provider = Arc::clone(provider);
        Ok(Ca::Local(LocalCa::new(key.signer()?, certificate, upper, settings, provider)?))
    }
}
