//! Not an example: keys, certificates and rules that a real program reads from its configuration, as
//! `scep-gateway init` and `scep-issuer init` write them.

use scep_ca::{CertificateAuthority, InfrastructurePurpose, LocalCa, LocalCaSettings};
use scep_challenge::{Opener, OpeningKey, PinnedSigner};
use scep_issuance::{Attributes, Minter, Profile};
use scep_keys::{AwsLc, SoftwareKey};
use scep_ledger::{Ledger, LedgerSettings};
use scep_message::{RaIdentity, Recipient};
use scep_policy::{Denials, SiteRules};
use scep_server::{Authority, CrlSettings, Endpoint, Observer, Parts, ServerLimits, SystemClock};
use scep_types::{
    AuthorityName, Clock as _, CryptoProvider, DeviceId, DistinguishedName, GatewayGroupId,
    KeyAlgorithm, TenantId, Timestamp,
};
use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const PROFILE: &str = r#"
id = "wifi"
for = "device"
subject = "O=Example, CN={{DeviceId}}"
key_usage = ["digitalSignature", "keyEncipherment"]
extended_key_usages = ["clientAuth"]
key_algorithms = ["rsa2048"]
validity = "30d"
"#;

const RULES: &str = "issuance_per_hour = 100\nmax_validity_days = 398\nrsa_min_bits = 2048\n";
const HOUR: Duration = Duration::from_secs(3600);
const YEAR: Duration = Duration::from_secs(365 * 86_400);

/// An issuer, a CA and the keys of a gateway. No two roles share a key.
pub(crate) struct House {
    pub(crate) now: Timestamp,
    pub(crate) ca: LocalCa,
    issuer: SoftwareKey,
    challenge: SoftwareKey,
    ra: RaIdentity,
}

impl House {
    pub(crate) fn build() -> Result<Self, Box<dyn Error>> {
        let now = SystemClock.now();
        let provider: Arc<dyn CryptoProvider> = Arc::new(AwsLc);
        let ca_key = SoftwareKey::generate(KeyAlgorithm::P256)?.signer();
        let name = "O=Example, CN=Example CA".parse()?;
        let root = LocalCa::self_signed_root(&*ca_key, &name, 2 * YEAR, now, &AwsLc)?;
        let ca = LocalCa::new(ca_key, root, Vec::new(), LocalCaSettings::default(), provider)?;

        let (signs, opens) = (rsa()?, rsa()?);
        let certificate = |purpose, key: &SoftwareKey, name: &str| {
            let subject: DistinguishedName = name.parse()?;
            Ok::<_, Box<dyn Error>>(ca.issue_infrastructure(
                purpose,
                key.public_key(),
                &subject,
                YEAR,
                now,
            )?)
        };
        let ra = RaIdentity {
            signing_certificate: certificate(
                InfrastructurePurpose::RaSigning,
                &signs,
                "O=Example, CN=RA sign",
            )?,
            signing_key: signs.signer(),
            recipients: vec![Recipient {
                certificate: certificate(
                    InfrastructurePurpose::RaEncryption,
                    &opens,
                    "O=Example, CN=RA encrypt",
                )?,
                key: opens.decryption()?,
            }],
        };
        let issuer = SoftwareKey::generate(KeyAlgorithm::P256)?;
        let challenge = SoftwareKey::generate(KeyAlgorithm::P256)?;
        Ok(Self { now, ca, issuer, challenge, ra })
    }

    /// A challenge for a device, and the subject that its request must have.
    pub(crate) fn challenge(
        &self,
        device: &str,
    ) -> Result<(String, DistinguishedName), Box<dyn Error>> {
        let recipient = self.challenge.public_key().clone();
        let minter = Minter::new(tenant()?, group()?, self.issuer.signer(), recipient)?;
        let (profile, device) = (Profile::from_toml(PROFILE)?, DeviceId::new(device)?);
        let minted = minter.mint(&profile, &device, None, &Attributes::new(), self.now, &AwsLc)?;
        Ok((minted.text, minted.claims.expectation.subject))
    }

    /// A gateway's parts, on a new ledger in `folder`.
    pub(crate) fn parts(
        &self,
        folder: &Path,
        ca: Arc<dyn CertificateAuthority>,
        observer: Arc<dyn Observer>,
    ) -> Result<Parts, Box<dyn Error>> {
        let signer = PinnedSigner {
            key: self.issuer.public_key().clone(),
            not_before: self.now.minus(HOUR),
            not_after: self.now.plus(YEAR),
        };
        let key = OpeningKey { key: self.challenge.decryption()?, not_after: None };
        let skew = Duration::from_secs(300);
        let ours = [self.issuer.public_key(), self.challenge.public_key()];
        Ok(Parts {
            provider: Arc::new(AwsLc),
            clock: Arc::new(SystemClock),
            opener: Opener::new(tenant()?, group()?, vec![signer], vec![key], HOUR, skew)?,
            site_rules: SiteRules::from_toml(RULES)?,
            denials: Denials::default(),
            ledger: Ledger::open_sqlite(&folder.join("ledger.sqlite"), LedgerSettings::default())?,
            main: Authority {
                name: AuthorityName::main(),
                ca,
                ra: self.ra.clone(),
                crl: CrlSettings::default(),
                follows: None,
            },
            more: Vec::new(),
            our_keys: ours.iter().map(|key| key.hash()).collect(),
            endpoints: vec![Endpoint::generic("/scep")],
            limits: ServerLimits::default(),
            observer: Some(observer),
        })
    }
}

fn rsa() -> Result<SoftwareKey, Box<dyn Error>> {
    Ok(SoftwareKey::generate(KeyAlgorithm::Rsa(2048))?)
}

fn tenant() -> Result<TenantId, Box<dyn Error>> {
    Ok(TenantId::new("contoso")?)
}

fn group() -> Result<GatewayGroupId, Box<dyn Error>> {
    Ok(GatewayGroupId::new("zurich")?)
}
