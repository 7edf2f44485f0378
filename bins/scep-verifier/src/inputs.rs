//! What both commands read.

use crate::cli::TrustOptions;
use crate::error::VerifierError;
use scep_challenge::{Opener, OpeningKey, PinnedSigner};
use scep_keys::{Backend, SoftwareKey, read_public_key};
use scep_policy::SiteRules;
use scep_types::{GatewayGroupId, TenantId, Timestamp};
use std::io::Read;
use std::path::Path;

/// No request is longer.
const MAX_REQUEST: u64 = 256 * 1024;

/// What opens challenges, and the rules.
pub(crate) struct Trust {
    pub(crate) opener: Opener,
    pub(crate) rules: SiteRules,
    /// Keys of the system, which no device may have certified.
    pub(crate) ours: Vec<scep_types::SpkiHash>,
}

impl Trust {
    pub(crate) fn load(options: &TrustOptions) -> Result<Self, VerifierError> {
        let decryption = SoftwareKey::read(&options.decryption_key, Backend::AwsLc)?;
        let mut ours = vec![decryption.public_key().hash()];
        let mut signers = Vec::new();
        for path in &options.issuer_key {
            let key = read_public_key(path)?;
            ours.push(key.hash());
            // Given on the command line, a key is good as long as it stands there.
            signers.push(PinnedSigner {
                key,
                not_before: Timestamp::EPOCH,
                not_after: Timestamp::MAX,
            });
        }
        let tenant = TenantId::new(&*options.tenant)
            .map_err(|error| VerifierError::argument("--tenant", error))?;
        let group = GatewayGroupId::new(&*options.group)
            .map_err(|error| VerifierError::argument("--group", error))?;
        let keys = vec![OpeningKey { key: decryption.decryption()?, not_after: None }];
        let opener =
            Opener::new(tenant, group, signers, keys, options.max_lifetime, options.clock_skew)
                .map_err(|error| VerifierError::argument("challenge options", error))?;
        let text = std::fs::read_to_string(&options.site_rules)
            .map_err(VerifierError::file(&options.site_rules))?;
        let rules = SiteRules::from_toml(&text)
            .map_err(|error| VerifierError::argument("--site-rules", error))?;
        Ok(Self { opener, rules, ours })
    }
}

/// The DER of a request in a file of DER or PEM, or on standard input.
pub(crate) fn request(path: &Path) -> Result<Vec<u8>, VerifierError> {
    let mut bytes = Vec::new();
    if path == Path::new("-") {
        std::io::stdin().take(MAX_REQUEST).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(MAX_REQUEST).read_to_end(&mut bytes))
    }
    .map_err(VerifierError::file(path))?;
    let block = pem::parse(&bytes).ok().filter(|b| b.tag().ends_with("CERTIFICATE REQUEST"));
    Ok(block.map_or(bytes, pem::Pem::into_contents))
}
