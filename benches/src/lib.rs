//! What the benches share: one enrolment as a sequence of library calls, those of scep-server in its order, without
//! HTTP, without threads, and with the ledger outside of what is measured; and the asymmetric operations in it.
//!
//! P-256 for the CA and for challenges, RSA-2048 for the RA and the device.
#![allow(
    clippy::expect_used,
    reason = "benches: what does not fit is a failed bench, and its message says what"
)]

use rustix::time::{ClockId, clock_gettime};
use scep_challenge::{Opener, VerifiedClaims};
use scep_ledger::{Asked, IssuePermit, Ledger, LedgerSettings, Releasable, Unsettled};
use scep_message::{
    LegacyAlgorithms, Limits, PkiMessage, ReplyChain, ReplyContext, Request, SignedRequest,
};
use scep_pkcs10::{Csr, Rules, UnprovenCsr, check_key};
use scep_policy::{Approval, Conforming, Denials, InertContent, SiteRules, decide};
use scep_testkit::house::{OPENS, SITE_RULES, sign_csr};
use scep_testkit::{House, keys};
use scep_types::{
    AuthorityName, CryptoProvider, DecryptionKey, DeviceId, RsaPadding, Secret, SerialNumber,
    SignatureScheme, SpkiHash, TransactionId,
};
use std::hint::black_box;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

/// Everything that is made once.
#[derive(Debug)]
pub struct Bench {
    house: House,
    device: scep_keys::SoftwareKey,
    opener: Opener,
    site_rules: SiteRules,
    denials: Denials,
    csr_rules: Rules,
    limits: Limits,
    ours: Vec<SpkiHash>,
    ledger: Ledger,
    runtime: Runtime,
    folder: TempDir,
}

/// What a device sends, and the parts of it.
#[derive(Debug)]
pub struct Prepared {
    /// The pkiMessage.
    pub message: Vec<u8>,
    /// The PKCS #10 request in it.
    pub csr: Vec<u8>,
    /// The challenge in that.
    pub blob: String,
}

/// An enrolment that is decided.
#[derive(Debug)]
pub struct Decided {
    approval: Approval,
    serial: Option<SerialNumber>,
    context: ReplyContext,
    signer: SpkiHash,
    transaction: TransactionId,
}

/// An asymmetric operation of an enrolment.
pub struct Operation<'a> {
    /// Which.
    pub name: &'static str,
    /// Does it once.
    pub run: Box<dyn Fn() + 'a>,
}

impl core::fmt::Debug for Operation<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.name)
    }
}

impl Default for Bench {
    fn default() -> Self {
        Self::new()
    }
}

impl Bench {
    /// Makes it.
    ///
    /// # Panics
    /// When there is no place for the ledger.
    #[must_use]
    pub fn new() -> Self {
        let house = House::new();
        let folder = tempfile::tempdir().expect("a temporary folder");
        let ledger =
            Ledger::open_sqlite(&folder.path().join("ledger.sqlite"), LedgerSettings::default())
                .expect("a ledger");
        let parts = house.parts_on(ledger.clone());
        Self {
            opener: house.opener(),
            site_rules: SiteRules::from_toml(SITE_RULES).expect("rules"),
            denials: Denials::default(),
            csr_rules: Rules::default(),
            limits: Limits::default(),
            ours: parts.our_keys,
            device: keys::rsa2048(2),
            ledger,
            runtime: Builder::new_current_thread().build().expect("a runtime"),
            folder,
            house,
        }
    }

    fn provider(&self) -> &dyn CryptoProvider {
        &*self.house.provider
    }

    /// A message with a new challenge, always of the same device and its key.
    ///
    /// # Panics
    /// Never.
    #[must_use]
    pub fn prepare(&self) -> Prepared {
        let mut claims = self.house.claims();
        claims.device = DeviceId::new("device").expect("an id");
        let blob = self.house.seal(&claims);
        let csr = sign_csr(&House::csr(&claims, &blob), &self.device);
        let message = self.house.send(&csr, &self.device).bytes;
        Prepared { message, csr, blob }
    }

    /// Parses and verifies a message.
    ///
    /// # Panics
    /// When it is refused.
    #[must_use]
    pub fn verify(&self, message: &[u8]) -> SignedRequest {
        PkiMessage::parse(message, &self.limits)
            .and_then(|message| message.verify(self.provider(), LegacyAlgorithms::Refuse))
            .expect("a good message")
    }

    /// Opens its envelope.
    ///
    /// # Panics
    /// When it does not open.
    #[must_use]
    pub fn open_envelope(&self, signed: SignedRequest) -> (Vec<u8>, ReplyContext) {
        let (request, context) = signed.decrypt(&self.house.ra, self.provider());
        match request.expect("a good envelope") {
            Request::Enrol { csr, .. } => (csr, context),
            other => unreachable!("{other:?} was not sent"),
        }
    }

    /// Parses a request.
    ///
    /// # Panics
    /// When it is refused.
    #[must_use]
    pub fn parse_csr(&self, csr: &[u8]) -> UnprovenCsr {
        UnprovenCsr::parse(csr, &self.csr_rules).expect("a good request")
    }

    /// Looks whether its key is weak.
    ///
    /// # Panics
    /// When it is.
    pub fn check_key(&self, csr: &UnprovenCsr) {
        check_key(csr.spki(), &self.csr_rules, &self.ours).expect("a good key");
    }

    /// Verifies the request's own signature.
    ///
    /// # Panics
    /// When it is wrong.
    #[must_use]
    pub fn prove(&self, csr: UnprovenCsr) -> Csr {
        csr.prove(self.provider()).expect("a good signature")
    }

    /// Opens a challenge.
    ///
    /// # Panics
    /// When it does not open.
    #[must_use]
    pub fn open_challenge(&self, blob: &str) -> VerifiedClaims {
        self.opener.open(blob, OPENS, self.provider()).expect("a good challenge")
    }

    /// Compares the request with its challenge.
    ///
    /// # Panics
    /// When they differ.
    #[must_use]
    pub fn decide(&self, csr: &Csr, claims: VerifiedClaims) -> Approval {
        let inert = InertContent::Discard;
        decide(csr, claims, &self.site_rules, &self.denials, inert, OPENS).expect("an approval")
    }

    /// From the message to the decision.
    ///
    /// # Panics
    /// When any step refuses.
    #[must_use]
    pub fn until_decided(&self, message: &[u8]) -> Decided {
        let signed = self.verify(message);
        let signer = signed.signer().spki().hash();
        let transaction = signed.transaction_id().clone();
        let (der, context) = self.open_envelope(signed);
        let csr = self.parse_csr(&der);
        self.check_key(&csr);
        let csr = self.prove(csr);
        let blob = csr.challenge_password().expect("a challenge").expose();
        let approval = self.decide(&csr, self.open_challenge(blob));
        let serial = scep_ca::CertificateAuthority::choose_serial(&self.house.ca);
        Decided { approval, serial: serial.expect("a number"), context, signer, transaction }
    }

    /// Spends the challenge in the ledger. Not measured.
    ///
    /// # Panics
    /// When the ledger refuses.
    pub fn admit(&self, decided: Decided) -> (IssuePermit, Unsettled, ReplyContext) {
        let Decided { approval, serial, context, signer, transaction } = decided;
        let authority = AuthorityName::main();
        let asked = Asked { authority: &authority, serial, signer, transaction: &transaction };
        let admitted = self.ledger.admit(approval, &asked, OPENS);
        let (permit, unsettled) = self.runtime.block_on(admitted).expect("a first use").redeem();
        (permit, unsettled, context)
    }

    /// Has the CA issue, and compares what it issued with what was approved.
    ///
    /// # Panics
    /// When the CA refuses.
    #[must_use]
    pub fn issue(&self, permit: IssuePermit, unsettled: &Unsettled) -> Conforming {
        let certificate = self.house.ca.issue_blocking(permit).expect("a certificate");
        unsettled.approval().check_certificate(&certificate).expect("the one that was approved")
    }

    /// Records it in the ledger. Not measured.
    ///
    /// # Panics
    /// When the ledger refuses.
    #[must_use]
    pub fn record(&self, unsettled: Unsettled, conforming: Conforming) -> Releasable {
        let recorded = self.ledger.record(unsettled, conforming, OPENS);
        self.runtime.block_on(recorded).expect("a record")
    }

    /// Makes the answer.
    ///
    /// # Panics
    /// When a key fails.
    #[must_use]
    pub fn seal(&self, context: &ReplyContext, releasable: &Releasable) -> Vec<u8> {
        context
            .success(&self.house.ra, releasable, ReplyChain::LeafOnly, self.provider())
            .expect("an answer")
    }

    /// Whole enrolments, one for each message: how long all of them took without the ledger's part.
    ///
    /// # Panics
    /// When one of them fails.
    #[must_use]
    pub fn whole(&self, prepared: &[Prepared]) -> Duration {
        let start = Instant::now();
        let decided: Vec<_> = prepared.iter().map(|p| self.until_decided(&p.message)).collect();
        let first = start.elapsed();

        let admitted: Vec<_> = decided.into_iter().map(|d| self.admit(d)).collect();

        let start = Instant::now();
        let issued: Vec<_> = admitted
            .into_iter()
            .map(|(permit, unsettled, context)| {
                let conforming = self.issue(permit, &unsettled);
                (conforming, unsettled, context)
            })
            .collect();
        let second = start.elapsed();

        let recorded: Vec<_> = issued
            .into_iter()
            .map(|(conforming, unsettled, context)| (self.record(unsettled, conforming), context))
            .collect();

        let start = Instant::now();
        for (releasable, context) in &recorded {
            black_box(self.seal(context, releasable));
        }
        let third = start.elapsed();
        first.saturating_add(second).saturating_add(third)
    }

    /// The ledger's file.
    #[must_use]
    pub fn ledger_file(&self) -> PathBuf {
        self.folder.path().join("ledger.sqlite")
    }

    /// How much of the processor's time each operation takes, µs: so many measurements of each, which take turns. The
    /// time that the thread has to wait while others work does not count.
    ///
    /// # Panics
    /// Never.
    #[must_use]
    pub fn speeds(&self, rounds: usize) -> Vec<(&'static str, Vec<f64>)> {
        let operations = self.operations();
        let mut all: Vec<_> = operations.iter().map(|one| (one.name, Vec::new())).collect();
        for _ in 0..rounds {
            for ((_, times), operation) in all.iter_mut().zip(&operations) {
                let start = thread_time();
                for _ in 0..SLICE {
                    (operation.run)();
                }
                times.push((thread_time() - start) * 1e6 / f64::from(SLICE));
            }
        }
        all
    }

    /// The asymmetric operations of one enrolment, on data of the sizes that it has there.
    ///
    /// # Panics
    /// Never.
    #[must_use]
    pub fn operations(&self) -> Vec<Operation<'_>> {
        use SignatureScheme::{EcdsaSha256, RsaPkcs1Sha256};
        let provider = self.provider();
        let prepared = self.prepare();
        // Signed attributes have about this length; a challenge's have half of it.
        let attributes = vec![0x5a; 220];
        let device = self.device.public_key();
        let message_signature = signed(&self.device, RsaPkcs1Sha256, &attributes);
        let csr_signature = signed(&self.device, RsaPkcs1Sha256, &prepared.csr);
        let issuer = self.house.issuer.public_key();
        let blob_signature = signed(&self.house.issuer, EcdsaSha256, &attributes);
        let recipient = self.house.ra.recipients.first().expect("a recipient");
        let content_key = [7; 32];
        let encrypted = provider
            .rsa_encrypt(recipient.certificate.spki(), RsaPadding::Pkcs1v15, &content_key)
            .expect("a key that encrypts");
        let DecryptionKey::Rsa(ra) = &recipient.key else { unreachable!("the RA has RSA keys") };
        let challenge = self.house.challenge.decryption().expect("a key that agrees");
        let ephemeral = provider
            .ephemeral_agree(self.house.challenge.public_key())
            .expect("an agreement")
            .public_point;
        let tbs = vec![0x5a; 600];
        let ca = keys::p256(0).signer();
        let (csr, attributes_of_blob) = (prepared.csr, attributes.clone());
        vec![
            operation("RSA-2048 verify: message", {
                let attributes = attributes.clone();
                move || {
                    let verified =
                        provider.verify(device, RsaPkcs1Sha256, &attributes, &message_signature);
                    assert!(verified.is_ok());
                }
            }),
            operation("RSA-2048 decrypt: envelope", move || {
                let mut key = Secret::new(vec![0; 32]);
                ra.decrypt_key(RsaPadding::Pkcs1v15, &encrypted, &mut key).expect("a key");
                assert_eq!(key.expose(), &content_key);
            }),
            operation("RSA-2048 verify: request", move || {
                let verified = provider.verify(device, RsaPkcs1Sha256, &csr, &csr_signature);
                assert!(verified.is_ok());
            }),
            operation("P-256 verify: challenge", move || {
                let verified =
                    provider.verify(issuer, EcdsaSha256, &attributes_of_blob, &blob_signature);
                assert!(verified.is_ok());
            }),
            operation("P-256 agree: challenge", move || {
                let DecryptionKey::Ec(key) = &challenge else { unreachable!("P-256") };
                black_box(key.agree(&ephemeral).expect("a secret"));
            }),
            operation("P-256 sign: certificate", move || {
                black_box(ca.sign(EcdsaSha256, &tbs).expect("a signature"));
            }),
            operation("RSA-2048 encrypt: reply", move || {
                black_box(
                    provider
                        .rsa_encrypt(device, RsaPadding::Pkcs1v15, &content_key)
                        .expect("a ciphertext"),
                );
            }),
            operation("RSA-2048 sign: reply", move || {
                let signing = &self.house.ra.signing_key;
                black_box(signing.sign(RsaPkcs1Sha256, &attributes).expect("a signature"));
            }),
        ]
    }
}

/// Operations in one measurement.
const SLICE: u32 = 16;

/// How long this thread has run, s.
fn thread_time() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default().as_secs_f64()
}

fn operation<'a>(name: &'static str, run: impl Fn() + 'a) -> Operation<'a> {
    Operation { name, run: Box::new(run) }
}

fn signed(key: &scep_keys::SoftwareKey, scheme: SignatureScheme, message: &[u8]) -> Vec<u8> {
    key.signer().sign(scheme, message).expect("a key that signs")
}
