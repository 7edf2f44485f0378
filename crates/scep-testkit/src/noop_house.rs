//! A house in which every lock opens: [`House`] on cryptography that does nothing.
#![allow(
    clippy::expect_used,
    reason = "part of tests: what does not fit is a failed test, and its message says what"
)]

use crate::clock::FixedClock;
use crate::device::{TestExtension, self_signed};
use crate::house::{House, OPENS, SITE_RULES};
use crate::keys::{self, TestKey};
use crate::noop::{NoOpDecryption, NoOpProvider, NoOpSigner};
use core::time::Duration;
use scep_ca::{InfrastructurePurpose, LocalCa, LocalCaSettings};
use scep_challenge::{ChallengeClaims, Opener, OpeningKey, PinnedSigner, seal};
use scep_ledger::Ledger;
use scep_message::client::{self, Ask, Identity};
use scep_message::{ContentEncryption, MessageType, RaIdentity, Recipient};
use scep_pkcs10::danger::{RawRequest, attribute};
use scep_policy::{Denials, SiteRules};
use scep_server::{Authority, CrlSettings, Endpoint, Parts, ServerLimits};
use scep_types::tlv::{self, tag};
use scep_types::{
    AuthorityName, CertificateDer, ChallengeId, CryptoProvider, EphemeralAgreement, KeyError,
    ObjectIdentifier, RsaPadding, SignatureInvalid, SignatureScheme, Signer, SpkiDer,
    TransactionId,
};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const CHALLENGE_PASSWORD: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.7");

/// Where a [`NoOpHouse`]'s gateway takes messages that the requested key has signed.
pub const GENERIC: &str = "/scep";
/// Where it takes messages that any key has signed.
pub const WINDOWS: &str = "/certsrv/mscep/mscep.dll";

/// [`NoOpProvider`] with random octets that differ from call to call, as serial numbers must, and are the same in
/// every run.
#[derive(Debug, Default)]
struct CountingProvider(AtomicU64);

impl CryptoProvider for CountingProvider {
    fn verify(
        &self,
        key: &SpkiDer,
        scheme: SignatureScheme,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), SignatureInvalid> {
        NoOpProvider.verify(key, scheme, message, signature)
    }

    fn rsa_encrypt(
        &self,
        key: &SpkiDer,
        padding: RsaPadding,
        plaintext: &[u8],
    ) -> Result<Vec<u8>, KeyError> {
        NoOpProvider.rsa_encrypt(key, padding, plaintext)
    }

    fn ephemeral_agree(&self, peer: &SpkiDer) -> Result<EphemeralAgreement, KeyError> {
        NoOpProvider.ephemeral_agree(peer)
    }

    fn random(&self, out: &mut [u8]) -> Result<(), KeyError> {
        let call = self.0.fetch_add(1, Ordering::Relaxed);
        for (to, from) in out.iter_mut().zip(call.to_le_bytes().iter().cycle()) {
            *to = *from;
        }
        Ok(())
    }
}

/// What a fuzz target feeds the whole gateway with. The first octet of the input says which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputKind {
    /// 0: a message.
    Message,
    /// 1: the plaintext of a message's envelope, a PKCS #10 request to begin with.
    Plaintext,
    /// 2: claims, and what a request has besides their challenge: two octets with the length of the claims, their DER,
    /// two octets with the length of the subject, the subject's DER, further attributes. The challenge is new each
    /// time, so that every input is a first use.
    Enrolment,
}

impl InputKind {
    /// An input of this kind.
    #[must_use]
    pub fn input(self, rest: &[u8]) -> Vec<u8> {
        let mut input = vec![self as u8];
        input.extend_from_slice(rest);
        input
    }
}

/// The input of [`InputKind::Enrolment`].
///
/// # Panics
/// When a part is longer than 65,535 octets.
#[must_use]
pub fn enrolment_input(claims: &[u8], subject: &[u8], attributes: &[u8]) -> Vec<u8> {
    let mut rest = Vec::new();
    for part in [claims, subject] {
        let length = u16::try_from(part.len()).expect("a short part");
        rest.extend_from_slice(&length.to_be_bytes());
        rest.extend_from_slice(part);
    }
    rest.extend_from_slice(attributes);
    InputKind::Enrolment.input(&rest)
}

/// A part after its length, and what follows it.
fn split(input: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = input.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
}

/// Issuer, gateway, CA and device with keys that only look like keys: every signature verifies, and whoever writes an
/// envelope has its content key.
#[derive(Debug)]
pub struct NoOpHouse {
    provider: Arc<dyn CryptoProvider>,
    ca: LocalCa,
    ra: RaIdentity,
    device: CertificateDer,
    next: AtomicU64,
}

impl Default for NoOpHouse {
    fn default() -> Self {
        Self::new()
    }
}

const ISSUER: TestKey = TestKey::P256B;
const CHALLENGE: TestKey = TestKey::P256C;

impl NoOpHouse {
    /// Builds one, the same each time.
    ///
    /// # Panics
    /// When a part does not fit another, which would be a bug.
    #[must_use]
    pub fn new() -> Self {
        let provider: Arc<dyn CryptoProvider> = Arc::new(CountingProvider::default());
        let year = Duration::from_secs(365 * 86_400);
        let ca_key = Arc::new(NoOpSigner::new(TestKey::P256A.public_key()));
        let name = "O=Example, CN=Test CA".parse().expect("a name");
        let root = LocalCa::self_signed_root(
            &*ca_key,
            &name,
            year.saturating_mul(10),
            OPENS.minus(Duration::from_secs(86_400)),
            &*provider,
        )
        .expect("a root");
        let settings = LocalCaSettings::default();
        let ca =
            LocalCa::new(ca_key, root, Vec::new(), settings, Arc::clone(&provider)).expect("a CA");
        let issue = |purpose, key: &SpkiDer, name: &str| {
            let subject = name.parse().expect("a name");
            ca.issue_infrastructure(purpose, key, &subject, year, OPENS).expect("a certificate")
        };
        let (signing, encryption) = (TestKey::RsaA.public_key(), TestKey::RsaB.public_key());
        let ra = RaIdentity {
            signing_certificate: issue(InfrastructurePurpose::RaSigning, &signing, "CN=RA sign"),
            recipients: vec![Recipient {
                certificate: issue(
                    InfrastructurePurpose::RaEncryption,
                    &encryption,
                    "CN=RA encrypt",
                ),
                key: NoOpDecryption::key(encryption),
            }],
            signing_key: Arc::new(NoOpSigner::new(signing)),
        };
        // PKCS #1 v1.5 signatures are the same each time.
        let device = self_signed(
            &keys::rsa2048(2),
            &"CN=device".parse().expect("a name"),
            OPENS.minus(year),
            OPENS.plus(year),
            &[TestExtension::key_usage()],
        );
        Self { provider, ca, ra, device, next: AtomicU64::new(0) }
    }

    /// Its provider.
    #[must_use]
    pub fn provider(&self) -> &dyn CryptoProvider {
        &*self.provider
    }

    /// What opens its envelopes.
    #[must_use]
    pub const fn ra(&self) -> &RaIdentity {
        &self.ra
    }

    /// Opens challenges of [`NoOpHouse::seal`].
    ///
    /// # Panics
    /// Never.
    #[must_use]
    pub fn opener(&self) -> Opener {
        let day = Duration::from_secs(86_400);
        let signer = PinnedSigner {
            key: ISSUER.public_key(),
            not_before: OPENS.minus(day),
            not_after: OPENS.plus(day),
        };
        let key = OpeningKey { key: NoOpDecryption::key(CHALLENGE.public_key()), not_after: None };
        let (hour, skew) = (Duration::from_secs(3600), Duration::from_secs(300));
        Opener::new(House::tenant(), House::group(), vec![signer], vec![key], hour, skew)
            .expect("an opener")
    }

    /// The parts of a gateway on a new ledger in `folder`. Nothing in it waits.
    ///
    /// # Panics
    /// When the ledger cannot be made there.
    #[must_use]
    pub fn parts(&self, folder: &Path) -> Parts {
        let ledger = Ledger::open_sqlite(&folder.join("ledger.sqlite"), Default::default())
            .expect("a ledger");
        Parts {
            provider: Arc::clone(&self.provider),
            clock: Arc::new(FixedClock::new(OPENS)),
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
            our_keys: vec![ISSUER.public_key().hash(), CHALLENGE.public_key().hash()],
            endpoints: vec![Endpoint::generic("/"), Endpoint::windows(WINDOWS)],
            limits: ServerLimits {
                in_progress_wait: Duration::ZERO,
                // All inputs of a fuzzer have one challenge.
                challenge_burst: u32::MAX,
                ..ServerLimits::default()
            },
            observer: None,
        }
    }

    /// Seals claims for this house's gateway, with whatever key ids they name replaced by the right ones.
    #[must_use]
    pub fn seal(&self, claims: ChallengeClaims) -> Option<String> {
        let signer = NoOpSigner::new(ISSUER.public_key());
        let recipient = CHALLENGE.public_key();
        let claims = ChallengeClaims {
            issuer_key: signer.public_key().key_id(),
            recipient_key: recipient.key_id(),
            ..claims
        };
        seal(&claims, &signer, &recipient, &*self.provider).ok()
    }

    /// Wraps octets into a message to this house's gateway.
    ///
    /// # Panics
    /// Never.
    #[must_use]
    pub fn message(&self, message_type: MessageType, data: &[u8]) -> Vec<u8> {
        let transaction = TransactionId::new("TX").expect("an id");
        let ask = Ask {
            message_type,
            transaction_id: &transaction,
            data,
            recipient: &self.ra.recipients.first().expect("a recipient").certificate,
            padding: RsaPadding::Pkcs1v15,
            encryption: ContentEncryption::Aes128Cbc,
            scheme: SignatureScheme::RsaPkcs1Sha256,
        };
        let signer = NoOpSigner::new(self.device.spki().clone());
        let who = Identity { certificate: &self.device, signer: &signer };
        client::request(&ask, &who, &*self.provider).expect("a message").0
    }

    /// The path and the message that a fuzzer's input stands for: see [`InputKind`].
    #[must_use]
    pub fn request_of(&self, input: &[u8]) -> Option<(&'static str, Vec<u8>)> {
        let (kind, rest) = input.split_first()?;
        match kind {
            0 => Some((GENERIC, rest.to_vec())),
            1 => Some((GENERIC, self.message(MessageType::PkcsReq, rest))),
            2 => {
                let csr = self.csr_of(rest)?;
                Some((WINDOWS, self.message(MessageType::PkcsReq, &csr)))
            }
            _ => None,
        }
    }

    fn csr_of(&self, input: &[u8]) -> Option<Vec<u8>> {
        let (claims, rest) = split(input)?;
        let (subject, attributes) = split(rest)?;
        let mut id = [0; 16];
        let n = self.next.fetch_add(1, Ordering::Relaxed);
        id.first_chunk_mut::<8>()?.copy_from_slice(&n.to_be_bytes());
        let claims = ChallengeClaims {
            challenge_id: ChallengeId::from_bytes(id),
            ..ChallengeClaims::from_der(claims).ok()?
        };
        let blob = self.seal(claims)?;
        // A new key each time, as one key is for one device. No such point is on the curve, and nobody looks.
        let point: Vec<u8> = [&[4][..], &id.repeat(4)].concat();
        let key = NoOpSigner::new(SpkiDer::from_ec_point(&point).ok()?);
        let password = tlv::encode(tag::PRINTABLE_STRING, blob.as_bytes());
        let request = RawRequest {
            version: tlv::small_int(0),
            subject: subject.to_vec(),
            spki: key.public_key().as_der().to_vec(),
            attributes: vec![attribute(&CHALLENGE_PASSWORD, &[&password]), attributes.to_vec()],
            algorithm: SignatureScheme::EcdsaSha256.algorithm_der(),
        };
        request.sign(&key, SignatureScheme::EcdsaSha256).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use scep_message::MessageType::PkcsReq;
    use scep_message::client::{Expected, Reply};
    use scep_pkcs10::CsrBuilder;
    use scep_server::Gateway;

    /// The answer's kind, read with the device's no-op key.
    async fn answer(house: &NoOpHouse, gateway: &Gateway, input: &[u8]) -> &'static str {
        let (path, message) = house.request_of(input).expect("an input that stands for a message");
        let Some(answer) = gateway.answer(path, message.clone()).await else { return "nothing" };
        let me = Recipient {
            certificate: house.device.clone(),
            key: NoOpDecryption::key(house.device.spki().clone()),
        };
        let transaction = TransactionId::new("TX").unwrap();
        let nonce = scep_message::PkiMessage::parse(&message, &Default::default())
            .and_then(|message| message.verify(house.provider(), Default::default()))
            .unwrap()
            .sender_nonce()
            .cloned()
            .unwrap();
        let expected = Expected {
            challenge: None,
            transaction_id: &transaction,
            nonce: &nonce,
            ra: std::slice::from_ref(&house.ra.signing_certificate),
            me: &me,
            legacy: Default::default(),
        };
        match expected.read(&answer, house.provider(), &Default::default()).unwrap() {
            Reply::Success(_) => "success",
            Reply::Failure { .. } => "failure",
            Reply::Pending | Reply::Crls(_) => "something else",
        }
    }

    #[tokio::test]
    async fn a_fuzzer_gets_as_far_as_a_certificate() {
        let folder = tempfile::tempdir().unwrap();
        let house = NoOpHouse::new();
        let gateway = Gateway::new(house.parts(folder.path())).unwrap();
        let claims = House::new().claims();
        let signer = NoOpSigner::new(house.device.spki().clone());
        let csr = House::csr(&claims, &house.seal(claims.clone()).unwrap());
        let csr = csr.sign(&signer, SignatureScheme::RsaPkcs1Sha256).unwrap();
        let subject = claims.expectation.subject.to_der();
        let rest = CsrBuilder { challenge_password: None, ..House::csr(&claims, "") };
        let rest = rest.to_raw(&signer, SignatureScheme::RsaPkcs1Sha256);
        let attributes = rest.attributes.first().unwrap();
        let der = claims.to_der().unwrap();
        let message = InputKind::Message.input(&house.message(PkcsReq, &csr));
        assert_eq!(answer(&house, &gateway, &message).await, "success");
        let plaintext = InputKind::Plaintext.input(&csr);
        assert_eq!(answer(&house, &gateway, &plaintext).await, "success", "a retry");
        for _ in 0..2 {
            let first_use = enrolment_input(&der, &subject, attributes);
            assert_eq!(answer(&house, &gateway, &first_use).await, "success");
        }
        let other = enrolment_input(&der, &CsrBuilder::default().subject.to_der(), attributes);
        assert_eq!(answer(&house, &gateway, &other).await, "failure");
        assert_eq!(house.request_of(&[3, 0]), None);
        assert_eq!(house.request_of(&[2, 0, 9, 1]), None, "a length beyond the end");
    }
}
