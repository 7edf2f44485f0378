//! What a CA of the configuration hands on to the one that comes next.

use super::authorities::{RawAuthority, all, default_path};
use super::ca::RawCa;
use super::{Context, Raw, no_such, place};
use crate::error::GatewayError;
use crate::renewal::one_certificate;
use scep_ca::LocalCaSettings;
use scep_keys::open_key;
use scep_types::{AuthorityName, CertificateDer, CryptoProvider, Signer, Timestamp};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A CA whose key is here, before another one takes over from it.
#[derive(Debug)]
pub(crate) struct Present {
    pub(crate) name: AuthorityName,
    /// Its key, which signs what GetNextCACert answers.
    pub(crate) signer: Arc<dyn Signer>,
    pub(crate) certificate: CertificateDer,
    /// What the configuration's paths are relative to.
    pub(crate) base: PathBuf,
    /// Names that are taken.
    pub(crate) names: Vec<AuthorityName>,
    /// The names in the certificates of all CAs, DER.
    pub(crate) subjects: Vec<Vec<u8>>,
    /// What it writes into certificates.
    pub(crate) urls: LocalCaSettings,
    /// Where its CRL is.
    pub(crate) crl_path: String,
    /// Where its OCSP responder is, if there is one.
    pub(crate) ocsp_path: Option<String>,
}

/// A key, and the certificate of its CA.
type Signing = (Arc<dyn Signer>, CertificateDer);

impl Present {
    /// Reads it out of a configuration whose RA and challenge keys need not be there.
    pub(crate) fn read(
        path: &Path,
        name: &str,
        now: Timestamp,
        provider: &Arc<dyn CryptoProvider>,
    ) -> Result<Self, GatewayError> {
        let (raw, base) = Raw::read(path)?;
        let all = all(
            RawAuthority::main(raw.ca, raw.crl, raw.ocsp, raw.ra, raw.rollover)?,
            raw.authorities,
        )?;
        let names: Vec<AuthorityName> = all.iter().map(|one| one.name.clone()).collect();
        let mut context = Context::new(base, now, provider);
        let (mut found, mut subjects) = (None, Vec::new());
        for one in all {
            let is_it = one.name.as_str() == name;
            let key = if is_it { one.ca.signing_key(base)? } else { None };
            let urls = one.ca.urls();
            let ca = one.ca.check(&mut context, &one.name)?;
            subjects.extend(ca.chain().first().map(|ca| ca.subject_der().to_vec()));
            if !is_it {
                continue;
            }
            ca.local("ca")?;
            let default = scep_server::OcspSettings::default().path;
            let ocsp_path =
                one.ocsp.map(|ocsp| ocsp.path.unwrap_or_else(|| default_path(default, &one.name)));
            let crl_path = one.crl.check(&one.name)?.path;
            found = key.map(|key| (one.name, key, urls, crl_path, ocsp_path));
        }
        let Some((name, (signer, certificate), urls, crl_path, ocsp_path)) = found else {
            return Err(no_such("--ca", name, &names));
        };
        let base = base.to_owned();
        Ok(Self { name, signer, certificate, base, names, subjects, urls, crl_path, ocsp_path })
    }
}

impl RawCa {
    /// Its key and certificate, where the key is here.
    fn signing_key(&self, base: &Path) -> Result<Option<Signing>, GatewayError> {
        match self {
            Self::Local { key, certificate, .. } => {
                let key = open_key(&place(base, "ca.key", key)?)?;
                let certificate = one_certificate(&base.join(certificate), "ca.certificate")?;
                Ok(Some((key.signer()?, certificate)))
            }
            #[cfg(feature = "openbao")]
            Self::OpenBao(_) => Ok(None),
            Self::Scep(_) => Ok(None),
        }
    }

    /// What it writes into certificates, where that is said here.
    fn urls(&self) -> LocalCaSettings {
        match self {
            Self::Local { crl_urls, issuer_urls, ocsp_urls, .. } => LocalCaSettings {
                crl_urls: crl_urls.clone(),
                issuer_urls: issuer_urls.clone(),
                ocsp_urls: ocsp_urls.clone(),
            },
            #[cfg(feature = "openbao")]
            Self::OpenBao(_) => LocalCaSettings::default(),
            Self::Scep(_) => LocalCaSettings::default(),
        }
    }
}
