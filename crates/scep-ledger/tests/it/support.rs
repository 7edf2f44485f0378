//! Approvals as they come about in a gateway, and certificates made by hand.

use core::time::Duration;
use scep_challenge::{
    ApprovalMode, ChallengeClaims, DemandUsages, Expectation, Opener, OpeningKey, PinnedSigner,
    Purpose, Renewal, seal,
};
use scep_keys::{AwsLc, SoftwareKey};
use scep_ledger::{
    Admission, AdmitError, Asked, Ledger, LedgerSettings, Polled, Recall, Releasable,
};
use scep_pkcs10::{Csr, CsrBuilder, Rules, UnprovenCsr};
use scep_policy::{
    Approval, CertificateContents, Decision, Denials, HeldClaims, Holdable, InertContent,
    Predecessor, RetryKey, SiteRules, decide, decide_held, decide_or_hold, decide_renewal,
};
use scep_types::tlv::{self, tag};
use scep_types::{
    AuthorityName, CertificateDer, ChallengeId, DistinguishedName, ExtendedKeyUsages, GeneralName,
    KeyAlgorithm, KeyUsages, ObjectIdentifier, Reason, ReleasedCertificate as _, Secret,
    SerialNumber, SignatureScheme, SpkiHash, TenantId, Timestamp, TransactionId,
};
use std::sync::LazyLock;

/// When every challenge of these tests is issued and opened.
pub(crate) const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);
pub(crate) const HOUR: u64 = 3_600;
pub(crate) const DAY: u64 = 24 * HOUR;

pub(crate) fn after(seconds: u64) -> Timestamp {
    NOW.plus(Duration::from_secs(seconds))
}

fn key() -> SoftwareKey {
    SoftwareKey::generate(KeyAlgorithm::P256).unwrap()
}

static ISSUER: LazyLock<SoftwareKey> = LazyLock::new(key);
static GATEWAY: LazyLock<SoftwareKey> = LazyLock::new(key);
static CA: LazyLock<SoftwareKey> = LazyLock::new(key);

/// Keys of devices.
pub(crate) static KEYS: LazyLock<Vec<SoftwareKey>> =
    LazyLock::new(|| (0..8).map(|_| key()).collect());

static OPENER: LazyLock<Opener> = LazyLock::new(|| {
    let signer = PinnedSigner {
        key: ISSUER.public_key().clone(),
        not_before: Timestamp::EPOCH,
        not_after: Timestamp::MAX,
    };
    let opening = OpeningKey { key: GATEWAY.decryption().unwrap(), not_after: None };
    Opener::new(
        tenant(),
        "gateways".parse().unwrap(),
        vec![signer],
        vec![opening],
        Duration::from_secs(HOUR),
        Duration::from_secs(300),
    )
    .unwrap()
});

pub(crate) fn tenant() -> TenantId {
    "tenant".parse().unwrap()
}

pub(crate) fn transaction(text: &str) -> TransactionId {
    TransactionId::new(text).unwrap()
}

pub(crate) fn signer() -> SpkiHash {
    KEYS[0].public_key().hash()
}

pub(crate) fn serial(n: u8) -> SerialNumber {
    SerialNumber::from_random([n; 16])
}

/// A device's request with its challenge.
pub(crate) struct Enrolment {
    pub(crate) claims: ChallengeClaims,
    blob: String,
    csr: Vec<u8>,
    rules: SiteRules,
}

/// The challenge `n` for a device, and the request for it with one of [`KEYS`].
pub(crate) fn enrolment(n: u8, device: &str, key: usize) -> Enrolment {
    enrolment_with(ChallengeId::from_bytes([n; 16]), device, &KEYS[key], 60, 365 * DAY)
}

pub(crate) fn enrolment_with(
    challenge_id: ChallengeId,
    device: &str,
    key: &SoftwareKey,
    per_hour: u32,
    validity: u64,
) -> Enrolment {
    let subject: DistinguishedName = format!("O=Example, CN={device}").parse().unwrap();
    let names = vec![GeneralName::dns(&format!("{device}.example.org")).unwrap()];
    let key_usage = KeyUsages::DIGITAL_SIGNATURE;
    let client = ExtendedKeyUsages::purpose("clientAuth").unwrap();
    let purposes = ExtendedKeyUsages::new(vec![client]).unwrap();
    let claims = ChallengeClaims {
        challenge_id,
        tenant: tenant(),
        issuer_key: ISSUER.public_key().key_id(),
        audience: "gateways".parse().unwrap(),
        recipient_key: GATEWAY.public_key().key_id(),
        profile: "wifi".parse().unwrap(),
        device: device.parse().unwrap(),
        user: Some("user-7".parse().unwrap()),
        issued_at: NOW,
        expires_at: after(HOUR),
        purpose: Purpose::Enrol,
        expectation: Expectation {
            subject,
            subject_alt_names: names,
            key_usage,
            extended_key_usages: purposes,
            demand_usages: DemandUsages::No,
            key_algorithms: vec![KeyAlgorithm::P256],
            spki_hash: None,
            validity: Duration::from_secs(validity),
            extensions: Vec::new(),
            renewal: Renewal::Blob,
            approval: ApprovalMode::Automatic,
        },
    };
    sealed(claims, key, per_hour)
}

/// The challenge with these claims, and the request that matches it.
pub(crate) fn sealed(claims: ChallengeClaims, key: &SoftwareKey, per_hour: u32) -> Enrolment {
    let blob = seal(&claims, &*ISSUER.signer(), GATEWAY.public_key(), &AwsLc).unwrap();
    let expected = claims.expectation.clone();
    let request = CsrBuilder {
        subject: expected.subject,
        subject_alt_names: expected.subject_alt_names,
        key_usage: Some(expected.key_usage),
        extended_key_usages: Some(expected.extended_key_usages),
        challenge_password: Some(Secret::new(blob.clone())),
        ..CsrBuilder::default()
    };
    let csr = request.sign(&*key.signer(), SignatureScheme::EcdsaSha256).unwrap();
    let rules = format!(
        "issuance_per_hour = {per_hour}\nmax_validity_days = 397\ncurves = [\"p256\"]\n\
         extended_key_usages = [\"clientAuth\"]\nsan_kinds = [\"dns\"]\n\
         dns_suffixes = [\"example.org\"]\n"
    );
    Enrolment { claims, blob, csr, rules: SiteRules::from_toml(&rules).unwrap() }
}

/// Admits with the next serial number.
pub(crate) async fn admit(
    ledger: &Ledger,
    approval: Approval,
    now: Timestamp,
) -> Result<Admission, AdmitError> {
    admit_at(ledger, approval, &AuthorityName::main(), now).await
}

pub(crate) async fn admit_at(
    ledger: &Ledger,
    approval: Approval,
    authority: &AuthorityName,
    now: Timestamp,
) -> Result<Admission, AdmitError> {
    let serial = SerialNumber::from_random(*approval.claims().challenge_id.as_bytes());
    let asked = Asked {
        authority,
        serial: Some(serial),
        signer: signer(),
        transaction: &transaction("T1"),
    };
    ledger.admit(approval, &asked, now).await
}

/// Issue, record.
pub(crate) async fn finish(
    ledger: &Ledger,
    admission: Admission,
    now: Timestamp,
) -> CertificateDer {
    let (permit, unsettled) = admission.redeem();
    let certificate = issue(permit.contents(), permit.serial().unwrap());
    let conforming = unsettled.approval().check_certificate(&certificate).unwrap();
    ledger.record(unsettled, conforming, now).await.unwrap().certificate().clone()
}

/// Why it was not admitted.
pub(crate) fn reason(refused: Result<Admission, AdmitError>) -> Reason {
    match refused {
        Err(AdmitError::Refused(reason)) => reason,
        Err(AdmitError::Ledger(error)) => panic!("{error}"),
        Ok(_) => panic!("admitted"),
    }
}

impl Enrolment {
    /// The same challenge in a request with another key.
    pub(crate) fn with_key(&self, key: usize) -> Self {
        let expectation = &self.claims.expectation;
        let request = CsrBuilder {
            subject: expectation.subject.clone(),
            subject_alt_names: expectation.subject_alt_names.clone(),
            challenge_password: Some(Secret::new(self.blob.clone())),
            ..CsrBuilder::default()
        };
        let signer = KEYS[key].signer();
        Self {
            claims: self.claims.clone(),
            blob: self.blob.clone(),
            csr: request.sign(&*signer, SignatureScheme::EcdsaSha256).unwrap(),
            rules: self.rules.clone(),
        }
    }

    pub(crate) fn csr(&self) -> Csr {
        UnprovenCsr::parse(&self.csr, &Rules::default()).unwrap().prove(&AwsLc).unwrap()
    }

    pub(crate) fn retry_key(&self) -> RetryKey {
        RetryKey::of(&self.csr())
    }

    pub(crate) fn approval(&self) -> Approval {
        let claims = OPENER.open(&self.blob, NOW, &AwsLc).unwrap();
        let denials = Denials::default();
        decide(&self.csr(), claims, &self.rules, &denials, InertContent::Discard, NOW).unwrap()
    }

    pub(crate) async fn admit(
        &self,
        ledger: &Ledger,
        now: Timestamp,
    ) -> Result<Admission, AdmitError> {
        admit(ledger, self.approval(), now).await
    }

    /// The same device's request for the same, which a person must approve.
    pub(crate) fn manual(&self, key: usize) -> Self {
        let mut claims = self.claims.clone();
        claims.expectation.approval = ApprovalMode::Manual;
        let made = sealed(claims, &KEYS[key], 60);
        Self { rules: self.rules.clone(), ..made }
    }

    /// The same, by a profile whose certificates renew themselves in the last month.
    pub(crate) fn renewable(&self, key: usize) -> Self {
        let mut claims = self.claims.clone();
        claims.expectation.renewal = Renewal::Certificate { window: Duration::from_secs(30 * DAY) };
        let made = sealed(claims, &KEYS[key], 60);
        Self { rules: self.rules.clone(), ..made }
    }

    pub(crate) fn holdable(&self) -> Holdable {
        let claims = OPENER.open(&self.blob, NOW, &AwsLc).unwrap();
        let (csr, denials) = (self.csr(), Denials::default());
        let inert = InertContent::Discard;
        match decide_or_hold(&csr, claims, &self.rules, &denials, inert, NOW).unwrap() {
            Decision::NeedsApproval(holdable) => holdable,
            Decision::Approved(_) => panic!("nobody has to approve it"),
        }
    }

    pub(crate) async fn hold(
        &self,
        ledger: &Ledger,
        until: Timestamp,
        now: Timestamp,
    ) -> Result<(), AdmitError> {
        let authority = AuthorityName::main();
        let asked = Asked {
            authority: &authority,
            serial: None,
            signer: signer(),
            transaction: &transaction("T1"),
        };
        ledger.hold(self.holdable(), &asked, until, now).await
    }

    /// The decision after a person's.
    pub(crate) fn decided(&self, held: HeldClaims, now: Timestamp) -> Approval {
        let denials = Denials::default();
        decide_held(&self.csr(), held, &self.rules, &denials, InertContent::Discard, now).unwrap()
    }

    /// What a person has approved goes on.
    pub(crate) async fn resume(
        &self,
        ledger: &Ledger,
        now: Timestamp,
    ) -> Result<Admission, AdmitError> {
        let Recall::Approved(held) = ledger.recall(self.retry_key(), now).await.unwrap() else {
            panic!("it is not approved");
        };
        let (claims, csr) = held.into_parts();
        assert_eq!(csr.expose(), &self.csr);
        admit(ledger, self.decided(claims, now), now).await
    }

    /// The approval of a request for the successor of a certificate, with one of [`KEYS`].
    pub(crate) fn successor(&self, of: Predecessor, key: usize, now: Timestamp) -> Approval {
        let expectation = &self.claims.expectation;
        let request = CsrBuilder {
            subject: expectation.subject.clone(),
            subject_alt_names: expectation.subject_alt_names.clone(),
            ..CsrBuilder::default()
        };
        let csr = request.sign(&*KEYS[key].signer(), SignatureScheme::EcdsaSha256).unwrap();
        let csr = UnprovenCsr::parse(&csr, &Rules::default()).unwrap().prove(&AwsLc).unwrap();
        let (denials, inert) = (Denials::default(), InertContent::Discard);
        decide_renewal(&csr, of, None, &self.rules, &denials, inert, now).unwrap()
    }

    pub(crate) async fn refused(&self, ledger: &Ledger, now: Timestamp) -> Reason {
        reason(self.admit(ledger, now).await)
    }

    /// Admission, issue, record.
    pub(crate) async fn enrol(&self, ledger: &Ledger, now: Timestamp) -> CertificateDer {
        finish(ledger, self.admit(ledger, now).await.unwrap(), now).await
    }

    /// Of the transaction that all of these tests' requests have.
    pub(crate) async fn poll(&self, ledger: &Ledger, now: Timestamp) -> (Known, bool) {
        let Polled { recall, csr_der } =
            ledger.poll(&transaction("T1"), signer(), now).await.unwrap();
        let kept = csr_der.is_some_and(|csr| *csr.expose() == self.csr);
        (Known::from(recall), kept)
    }

    /// What the ledger knows: nothing, in progress, over, or this certificate.
    pub(crate) async fn recall(&self, ledger: &Ledger, now: Timestamp) -> Known {
        Known::from(ledger.recall(self.retry_key(), now).await.unwrap())
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    Nothing,
    InProgress,
    Pending,
    Approved,
    Over(Reason),
    Certificate(CertificateDer),
}

impl From<Recall> for Known {
    fn from(recall: Recall) -> Self {
        match recall {
            Recall::Nothing => Self::Nothing,
            Recall::InProgress => Self::InProgress,
            Recall::Pending => Self::Pending,
            Recall::Approved(_) => Self::Approved,
            Recall::Over(reason) => Self::Over(reason),
            Recall::Releasable(releasable) => Self::of(&releasable),
        }
    }
}

impl Known {
    pub(crate) fn of(releasable: &Releasable) -> Self {
        Self::Certificate(releasable.certificate().clone())
    }
}

fn oid(text: &str) -> Vec<u8> {
    tlv::oid(&ObjectIdentifier::new(text).unwrap())
}

pub(crate) fn extension(id: &str, value: &[u8]) -> Vec<u8> {
    tlv::sequence(&[&oid(id), &tlv::encode(tag::OCTET_STRING, value)])
}

pub(crate) fn critical_extension(id: &str, value: &[u8]) -> Vec<u8> {
    let critical = tlv::encode(tag::BOOLEAN, &[0xff]);
    tlv::sequence(&[&oid(id), &critical, &tlv::encode(tag::OCTET_STRING, value)])
}

/// A certificate before it is signed.
pub(crate) struct Draft {
    pub(crate) issuer: DistinguishedName,
    pub(crate) contents: CertificateContents,
    /// Beyond those of the contents.
    pub(crate) extensions: Vec<Vec<u8>>,
}

impl Draft {
    pub(crate) fn of(contents: &CertificateContents) -> Self {
        let issuer = "CN=Test CA".parse().unwrap();
        // subjectKeyIdentifier, which every CA may add.
        let extensions = vec![extension("2.5.29.14", &tlv::encode(tag::OCTET_STRING, &[7; 20]))];
        Self { issuer, contents: contents.clone(), extensions }
    }

    pub(crate) fn sign(&self, serial: &SerialNumber) -> CertificateDer {
        let contents = &self.contents;
        let algorithm = tlv::sequence(&[&oid("1.2.840.10045.4.3.2")]);
        let mut extensions = vec![
            extension("2.5.29.15", &contents.key_usage.to_der()),
            extension("2.5.29.37", &contents.extended_key_usages.to_der()),
        ];
        if !contents.subject_alt_names.is_empty() {
            let names = GeneralName::list_to_der(&contents.subject_alt_names);
            extensions.push(extension("2.5.29.17", &names));
        }
        extensions.extend(self.extensions.iter().cloned());
        let extensions = tlv::encode(tag::SEQUENCE, &extensions.concat());
        let tbs = tlv::sequence(&[
            &tlv::encode(tag::context_constructed(0), &tlv::small_int(2)),
            &tlv::encode(tag::INTEGER, serial.as_content()),
            &algorithm,
            &self.issuer.to_der(),
            &tlv::sequence(&[&tlv::time(contents.not_before), &tlv::time(contents.not_after)]),
            &contents.subject.to_der(),
            contents.spki.as_der(),
            &tlv::encode(tag::context_constructed(3), &extensions),
        ]);
        let signature = CA.signer().sign(SignatureScheme::EcdsaSha256, &tbs).unwrap();
        let certificate = tlv::sequence(&[&tbs, &algorithm, &tlv::whole_bits(&signature)]);
        CertificateDer::parse(&certificate).unwrap()
    }
}

/// A certificate of the test's CA with these contents.
pub(crate) fn issue(contents: &CertificateContents, serial: &SerialNumber) -> CertificateDer {
    Draft::of(contents).sign(serial)
}

/// A place for a ledger, which can be opened, closed and opened again.
pub(crate) trait Backend: Sync {
    fn open_with(&self, settings: LedgerSettings) -> Ledger;
    fn open(&self) -> Ledger {
        self.open_with(LedgerSettings::default())
    }
}

/// The kinds and bodies of all events.
pub(crate) async fn events(ledger: &Ledger) -> Vec<(String, serde_json::Value)> {
    let events = ledger.outbox(0, 1_000).await.unwrap();
    events
        .into_iter()
        .map(|event| {
            let body: serde_json::Value = serde_json::from_str(&event.body_json).unwrap();
            assert_eq!(body["idempotency_key"], event.idempotency_key);
            (event.kind.to_string(), body)
        })
        .collect()
}

pub(crate) async fn kinds(ledger: &Ledger) -> Vec<String> {
    events(ledger).await.into_iter().map(|(kind, _)| kind).collect()
}
