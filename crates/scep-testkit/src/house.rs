//! A whole house: issuer, gateway parts, CA and devices, with fixed keys and a clock that tests set.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "part of tests: what does not fit is a failed test, and its message says what"
)]

use crate::clock::FixedClock;
use crate::device::{TestExtension, self_signed};
use crate::keys;
use core::time::Duration;
use scep_ca::{InfrastructurePurpose, LocalCa, LocalCaSettings};
use scep_challenge::{
    ApprovalMode, ChallengeClaims, DemandUsages, Expectation, Opener, OpeningKey, PinnedSigner,
    Purpose, Renewal, seal,
};
use scep_keys::{AwsLc, SoftwareKey};
use scep_ledger::{Ledger, LedgerSettings};
use scep_message::client::{self, Ask, Expected, Identity, Reply};
use scep_message::{
    ContentEncryption, LegacyAlgorithms, Limits, MessageType, RaIdentity, Recipient,
};
use scep_pkcs10::{CsrBuilder, Rules, UnprovenCsr};
use scep_policy::{Denials, SiteRules};
use scep_server::{Authority, CrlSettings, Endpoint, Parts, ServerLimits};
use scep_types::{
    AuthorityName, CertificateDer, ChallengeId, CryptoProvider, DeviceId, DistinguishedName,
    ExtendedKeyUsages, GatewayGroupId, GeneralName, KeyAlgorithm, KeyUsages, Nonce, ProfileId,
    RsaPadding, Secret, SignatureScheme, TenantId, Timestamp, TransactionId,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The server around a house, for tests of crates that may not know it.
pub use scep_server::Gateway;

/// When every house opens: 2026-11-24T08:00:00Z.
pub const OPENS: Timestamp = Timestamp::from_seconds(1_795_507_200);

/// Site rules that allow what [`House::claims`] asks for.
pub const SITE_RULES: &str = r#"
issuance_per_hour = 100000
max_validity_days = 398
rsa_min_bits = 2048
curves = ["p256", "p384"]
san_kinds = ["dns", "email", "upn", "uri"]
dns_suffixes = ["example.org"]
email_suffixes = ["example.org"]
upn_suffixes = ["example.org"]
uri_prefixes = ["https://example.org/"]
"#;

/// Everything an enrolment needs, on both sides.
#[derive(Debug)]
pub struct House {
    /// Public-key operations.
    pub provider: Arc<dyn CryptoProvider>,
    /// The time, at [`OPENS`] to begin with.
    pub clock: Arc<FixedClock>,
    /// The issuer's signing key (P-256).
    pub issuer: SoftwareKey,
    /// The challenge decryption key (P-256).
    pub challenge: SoftwareKey,
    /// The CA (P-256).
    pub ca: LocalCa,
    /// The RA (RSA-2048, two keys).
    pub ra: RaIdentity,
    next: AtomicU64,
}

impl Default for House {
    fn default() -> Self {
        Self::new()
    }
}

impl House {
    /// Builds one.
    ///
    /// # Panics
    /// When a part does not fit another, which would be a bug.
    #[must_use]
    pub fn new() -> Self {
        let provider: Arc<dyn CryptoProvider> = Arc::new(AwsLc);
        let ca_key = keys::p256(0);
        let root = LocalCa::self_signed_root(
            &*ca_key.signer(),
            &"O=Example, CN=Test CA".parse().expect("a name"),
            Duration::from_secs(3650 * 86_400),
            OPENS.minus(Duration::from_secs(86_400)),
            &*provider,
        )
        .expect("a root");
        let ca = LocalCa::new(
            ca_key.signer(),
            root,
            Vec::new(),
            LocalCaSettings::default(),
            Arc::clone(&provider),
        )
        .expect("a CA");
        let ra = ra_identity(&ca, &keys::rsa2048(0), &keys::rsa2048(1));
        Self {
            provider,
            clock: Arc::new(FixedClock::new(OPENS)),
            issuer: keys::p256(1),
            challenge: keys::p256(2),
            ca,
            ra,
            next: AtomicU64::new(1),
        }
    }

    /// The tenant, `contoso`.
    ///
    /// # Panics
    /// Never.
    #[must_use]
    pub fn tenant() -> TenantId {
        TenantId::new("contoso").expect("an id")
    }

    /// The gateway group, `main`.
    ///
    /// # Panics
    /// Never.
    #[must_use]
    pub fn group() -> GatewayGroupId {
        GatewayGroupId::new("main").expect("an id")
    }

    /// Opens challenges of [`House::seal`].
    ///
    /// # Panics
    /// Never.
    #[must_use]
    pub fn opener(&self) -> Opener {
        let signer = PinnedSigner {
            key: self.issuer.public_key().clone(),
            not_before: OPENS.minus(Duration::from_secs(86_400)),
            not_after: OPENS.plus(Duration::from_secs(365 * 86_400)),
        };
        let key = OpeningKey { key: self.challenge.decryption().expect("a key"), not_after: None };
        let (hour, skew) = (Duration::from_secs(3600), Duration::from_secs(300));
        Opener::new(Self::tenant(), Self::group(), vec![signer], vec![key], hour, skew)
            .expect("an opener")
    }

    /// The parts of a gateway on a new ledger in `folder`.
    ///
    /// # Panics
    /// When the ledger cannot be made there.
    #[must_use]
    pub fn parts(&self, folder: &std::path::Path) -> Parts {
        let ledger = Ledger::open_sqlite(&folder.join("ledger.sqlite"), LedgerSettings::default())
            .expect("a ledger");
        self.parts_on(ledger)
    }

    /// The parts of a gateway on this ledger.
    ///
    /// # Panics
    /// Never.
    #[must_use]
    pub fn parts_on(&self, ledger: Ledger) -> Parts {
        let ours = [self.issuer.public_key(), self.challenge.public_key()];
        let mut our_keys: Vec<_> = ours.iter().map(|key| key.hash()).collect();
        our_keys.push(self.ra.signing_certificate.spki().hash());
        our_keys.extend(self.ra.recipients.iter().map(|r| r.certificate.spki().hash()));
        Parts {
            provider: Arc::clone(&self.provider),
            clock: self.clock.clone(),
            opener: self.opener(),
            site_rules: SiteRules::from_toml(SITE_RULES).expect("rules"),
            denials: Denials::default(),
            ledger,
            main: Authority {
                name: AuthorityName::main(),
                ca: Arc::new(self.ca.clone()),
                ra: self.ra.clone(),
                crl: CrlSettings::default(),
                follows: None,
            },
            more: Vec::new(),
            our_keys,
            endpoints: vec![Endpoint::generic("/"), Endpoint::windows("/certsrv/mscep/mscep.dll")],
            limits: ServerLimits::default(),
            observer: None,
        }
    }

    /// Good claims, with a new challenge id and device each time: 3 RDNs, 2 SANs, clientAuth, RSA-2048 or P-256.
    ///
    /// # Panics
    /// Never.
    #[must_use]
    pub fn claims(&self) -> ChallengeClaims {
        let n = self.next.fetch_add(1, Ordering::Relaxed);
        let mut id = [0; 16];
        id[8..].copy_from_slice(&n.to_be_bytes());
        let device = format!("device-{n}");
        let issued_at = scep_types::Clock::now(&*self.clock);
        ChallengeClaims {
            challenge_id: ChallengeId::from_bytes(id),
            tenant: Self::tenant(),
            issuer_key: self.issuer.public_key().key_id(),
            audience: Self::group(),
            recipient_key: self.challenge.public_key().key_id(),
            profile: ProfileId::new("wifi").expect("an id"),
            device: DeviceId::new(device.clone()).expect("an id"),
            user: None,
            issued_at,
            expires_at: issued_at.plus(Duration::from_secs(3600)),
            purpose: Purpose::Enrol,
            expectation: Expectation {
                subject: format!("C=CH, O=Example, CN={device}").parse().expect("a name"),
                subject_alt_names: vec![
                    GeneralName::dns(&format!("{device}.example.org")).expect("a name"),
                    GeneralName::upn(&format!("{device}@example.org")).expect("a name"),
                ],
                key_usage: KeyUsages::DIGITAL_SIGNATURE.union(KeyUsages::KEY_ENCIPHERMENT),
                extended_key_usages: ExtendedKeyUsages::new(vec![
                    ExtendedKeyUsages::purpose("clientAuth").expect("a purpose"),
                ])
                .expect("a set"),
                demand_usages: DemandUsages::No,
                key_algorithms: vec![KeyAlgorithm::Rsa(2048), KeyAlgorithm::P256],
                spki_hash: None,
                validity: Duration::from_secs(365 * 86_400),
                extensions: Vec::new(),
                renewal: Renewal::Blob,
                approval: ApprovalMode::Automatic,
            },
        }
    }

    /// Seals claims for this house's gateway.
    ///
    /// # Panics
    /// When the claims cannot be sealed.
    #[must_use]
    pub fn seal(&self, claims: &ChallengeClaims) -> String {
        seal(claims, &*self.issuer.signer(), self.challenge.public_key(), &*self.provider)
            .expect("a blob")
    }

    /// A request that is exactly what the claims expect, with this challenge.
    #[must_use]
    pub fn csr(claims: &ChallengeClaims, blob: &str) -> CsrBuilder {
        let expectation = &claims.expectation;
        CsrBuilder {
            subject: expectation.subject.clone(),
            subject_alt_names: expectation.subject_alt_names.clone(),
            key_usage: Some(expectation.key_usage),
            extended_key_usages: Some(expectation.extended_key_usages.clone()),
            challenge_password: Some(Secret::new(blob.to_owned())),
            ..CsrBuilder::default()
        }
    }

    /// A good request of a new device with `key`, sealed and wrapped: the shortest way to one enrolment.
    ///
    /// # Panics
    /// When the key does not sign.
    #[must_use]
    pub fn enrolment(&self, key: &SoftwareKey) -> Sent {
        let claims = self.claims();
        let csr = Self::csr(&claims, &self.seal(&claims));
        self.send(&sign_csr(&csr, key), key)
    }

    /// Wraps a request's DER into a PKCSReq, signed by the device's key.
    ///
    /// # Panics
    /// When the key does not sign.
    #[must_use]
    pub fn send(&self, csr: &[u8], key: &SoftwareKey) -> Sent {
        let signer = device_certificate(key);
        self.send_as(csr, key, &signer, MessageType::PkcsReq, RsaPadding::Pkcs1v15)
    }

    /// Wraps with everything chosen: signer key and certificate, message type, key transport.
    ///
    /// # Panics
    /// When the key does not sign.
    #[must_use]
    pub fn send_as(
        &self,
        data: &[u8],
        key: &SoftwareKey,
        signer: &CertificateDer,
        message_type: MessageType,
        padding: RsaPadding,
    ) -> Sent {
        let n = self.next.fetch_add(1, Ordering::Relaxed);
        let transaction = TransactionId::new(format!("TX{n:08}")).expect("an id");
        let sent = self.send_in(transaction, data, key, signer, message_type, padding);
        Sent { challenge: challenge_of(data), ..sent }
    }

    /// A CertPoll in the transaction of an earlier message, signed by this key with a new self-signed certificate. The
    /// names in it are wrong.
    ///
    /// # Panics
    /// When the key does not sign.
    #[must_use]
    pub fn poll(&self, earlier: &Sent, key: &SoftwareKey) -> Sent {
        let names = client::issuer_and_subject(
            &DistinguishedName::empty().to_der(),
            &"CN=nobody here".parse::<DistinguishedName>().expect("a name").to_der(),
        );
        let transaction = earlier.transaction.clone();
        let signer = device_certificate(key);
        let kind = MessageType::CertPoll;
        let sent = self.send_in(transaction, &names, key, &signer, kind, RsaPadding::Pkcs1v15);
        let challenge = earlier.challenge.as_ref().map(|text| Secret::new(text.expose().clone()));
        Sent { challenge, ..sent }
    }

    /// As [`House::send_as`], in a transaction that is named; without a challenge to read the answer with.
    ///
    /// # Panics
    /// When the key does not sign.
    #[must_use]
    pub fn send_in(
        &self,
        transaction: TransactionId,
        data: &[u8],
        key: &SoftwareKey,
        signer: &CertificateDer,
        message_type: MessageType,
        padding: RsaPadding,
    ) -> Sent {
        let ask = Ask {
            message_type,
            transaction_id: &transaction,
            data,
            recipient: &self.ra.recipients[0].certificate,
            padding,
            encryption: ContentEncryption::Aes256Cbc,
            scheme: SignatureScheme::default_for(key.public_key().algorithm()),
        };
        let who = Identity { certificate: signer, signer: &*key.signer() };
        let (bytes, nonce) = client::request(&ask, &who, &*self.provider).expect("a message");
        let me = Recipient { certificate: signer.clone(), key: key.decryption().expect("a key") };
        Sent { bytes, nonce, transaction, me, challenge: None }
    }

    /// Reads the gateway's answer to a message.
    ///
    /// # Panics
    /// When it does not verify or open.
    #[must_use]
    pub fn read(&self, sent: &Sent, answer: &[u8]) -> Reply {
        sent.read(core::slice::from_ref(&self.ra.signing_certificate), answer)
    }
}

/// A message on its way, and what is needed to read its answer.
#[derive(Debug)]
pub struct Sent {
    /// The pkiMessage.
    pub bytes: Vec<u8>,
    /// The nonce it carries.
    pub nonce: Nonce,
    /// The transaction.
    pub transaction: TransactionId,
    /// Who reads the answer.
    pub me: Recipient,
    /// What an answer to an EC key is encrypted with: the request's challenge, if it has one.
    pub challenge: Option<Secret<String>>,
}

impl Sent {
    /// Reads the answer, which one of these has signed.
    ///
    /// # Panics
    /// When it does not verify or open.
    #[must_use]
    pub fn read(&self, ra: &[CertificateDer], answer: &[u8]) -> Reply {
        let expected = Expected {
            transaction_id: &self.transaction,
            nonce: &self.nonce,
            ra,
            me: &self.me,
            challenge: self.challenge.as_ref(),
            legacy: LegacyAlgorithms::Refuse,
        };
        expected.read(answer, &AwsLc, &Limits::default()).expect("a reply")
    }
}

/// The challenge of a request, where the data is one that can be read.
fn challenge_of(data: &[u8]) -> Option<Secret<String>> {
    let csr = UnprovenCsr::parse(data, &Rules::default()).ok()?.prove(&AwsLc).ok()?;
    csr.challenge_password().map(|text| Secret::new(text.expose().clone()))
}

/// Signs a request with the default scheme of its key.
///
/// # Panics
/// When the key does not sign.
#[must_use]
pub fn sign_csr(csr: &CsrBuilder, key: &SoftwareKey) -> Vec<u8> {
    let scheme = SignatureScheme::default_for(key.public_key().algorithm());
    csr.sign(&*key.signer(), scheme).expect("a request")
}

/// The self-signed certificate of a device's key, as RFC 8894, 2.3 describes it.
///
/// # Panics
/// Never.
#[must_use]
pub fn device_certificate(key: &SoftwareKey) -> CertificateDer {
    let day = Duration::from_secs(86_400);
    self_signed(
        key,
        &"CN=device".parse().expect("a name"),
        OPENS.minus(day),
        OPENS.plus(day),
        &[TestExtension::key_usage()],
    )
}

/// An RA whose certificates this CA has issued.
///
/// # Panics
/// When the keys are not RSA.
#[must_use]
pub fn ra_identity(ca: &LocalCa, signing: &SoftwareKey, encryption: &SoftwareKey) -> RaIdentity {
    let year = Duration::from_secs(365 * 86_400);
    let issue = |purpose, key: &SoftwareKey, name: &str| {
        let subject = name.parse().expect("a name");
        ca.issue_infrastructure(purpose, key.public_key(), &subject, year, OPENS)
            .expect("an RA certificate")
    };
    RaIdentity {
        signing_certificate: issue(InfrastructurePurpose::RaSigning, signing, "CN=RA sign"),
        signing_key: signing.signer(),
        recipients: vec![Recipient {
            certificate: issue(InfrastructurePurpose::RaEncryption, encryption, "CN=RA encrypt"),
            key: encryption.decryption().expect("a key"),
        }],
    }
}
