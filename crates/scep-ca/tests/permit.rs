//! From a permit to a certificate, and what becomes of one that is not what was approved.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a helper of tests may panic as a test may"
)]

use core::time::Duration;
use scep_ca::{CaError, CertificateAuthority, Found, IssueError, LocalCa, LocalCaSettings, Wanted};
use scep_challenge::ChallengeClaims;
use scep_ledger::{Asked, IssuePermit, Ledger, LedgerSettings, Recall, Unsettled};
use scep_pkcs10::{Csr, Rules, UnprovenCsr};
use scep_policy::{Approval, Denials, Field, InertContent, SiteRules, decide};
use scep_testkit::ca::{Alteration, AlteringCa, Outcome, RecordingCa};
use scep_testkit::house::{OPENS, SITE_RULES, sign_csr};
use scep_testkit::{House, keys};
use scep_types::{
    AuthorityName, CsrInfoHash, Fault, KeyError, Reason, ReleasedCertificate, SerialNumber,
    SignatureScheme, Signer, SpkiDer, TransactionId,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A house with a ledger.
struct Scene {
    house: House,
    ledger: Ledger,
    _folder: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.sqlite");
        let ledger = Ledger::open_sqlite(&path, LedgerSettings::default()).unwrap();
        Self { house: House::new(), ledger, _folder: folder }
    }

    fn csr(&self, claims: &ChallengeClaims, blob: &str) -> Csr {
        let der = sign_csr(&House::csr(claims, blob), &keys::p256(3));
        UnprovenCsr::parse(&der, &Rules::default()).unwrap().prove(&*self.house.provider).unwrap()
    }

    fn approve(&self, claims: &ChallengeClaims) -> Approval {
        let blob = self.house.seal(claims);
        let csr = self.csr(claims, &blob);
        let verified = self.house.opener().open(&blob, OPENS, &*self.house.provider).unwrap();
        let rules = SiteRules::from_toml(SITE_RULES).unwrap();
        decide(&csr, verified, &rules, &Denials::default(), InertContent::Discard, OPENS).unwrap()
    }

    async fn admit(
        &self,
        claims: &ChallengeClaims,
        serial: Option<SerialNumber>,
    ) -> (IssuePermit, Unsettled) {
        let transaction = TransactionId::new("TX1").unwrap();
        let signer = keys::p256(3).public_key().hash();
        let approval = self.approve(claims);
        let authority = AuthorityName::main();
        let asked = Asked { authority: &authority, serial, signer, transaction: &transaction };
        self.ledger.admit(approval, &asked, OPENS).await.unwrap().redeem()
    }

    /// A permit for this CA.
    async fn permit(&self, ca: &dyn CertificateAuthority) -> (IssuePermit, Unsettled) {
        self.admit(&self.house.claims(), ca.choose_serial().unwrap()).await
    }
}

#[tokio::test]
async fn what_the_local_ca_issues_conforms_and_is_released() {
    let scene = Scene::new();
    let ca = &scene.house.ca;
    let (permit, unsettled) = scene.permit(ca).await;
    let serial = permit.serial().unwrap().clone();
    let certificate = ca.issue(permit).await.unwrap();
    assert_eq!(certificate.serial(), Some(serial));
    let conforming = unsettled.approval().check_certificate(&certificate).unwrap();
    let released = scene.ledger.record(unsettled, conforming, OPENS).await.unwrap();
    assert_eq!(released.certificate(), &certificate);
}

/// Issues something else than was approved; the fields in which it is found to differ.
async fn altered(alteration: Alteration) -> Vec<Field> {
    let scene = Scene::new();
    let ca = AlteringCa::new(
        scene.house.ca.clone(),
        keys::p256(0).signer(),
        keys::p256(1).public_key().clone(),
        alteration,
    );
    let (permit, unsettled) = scene.permit(&ca).await;
    let retry = unsettled.approval().retry_key();
    let certificate = ca.issue(permit).await.unwrap();
    let differences = unsettled.approval().check_certificate(&certificate).unwrap_err();
    assert!(differences.iter().all(|d| d.reason == Some(Reason::CertificateDiffers)));

    // It is kept, and nobody gets it: neither now nor with a retry.
    scene.ledger.withhold(unsettled, &certificate, "it differs", OPENS).await.unwrap();
    let recalled = scene.ledger.recall(retry, OPENS).await.unwrap();
    assert!(matches!(recalled, Recall::Over(Reason::CertificateDiffers)), "{recalled:?}");
    differences.iter().map(|d| d.field).collect()
}

#[tokio::test]
async fn attack_43_a_ca_that_makes_a_ca_is_found_out() {
    assert_eq!(altered(Alteration::CaTrue).await, [Field::BasicConstraints]);
    assert_eq!(altered(Alteration::KeyCertSign).await, [Field::KeyUsage]);
}

#[tokio::test]
async fn attack_46_a_ca_with_a_mind_of_its_own_is_found_out() {
    for (alteration, field) in [
        (Alteration::Subject, Field::Subject),
        (Alteration::ExtraAltName, Field::SubjectAltName),
        (Alteration::NoAltName, Field::SubjectAltName),
        (Alteration::Key, Field::Key),
        (Alteration::LongerValidity, Field::Validity),
        (Alteration::ExtraUsage, Field::ExtendedKeyUsage),
        (Alteration::NoUsage, Field::ExtendedKeyUsage),
        (Alteration::ApplicationPolicies, Field::Extensions),
        (Alteration::AdministratorSid, Field::Extensions),
        (Alteration::CriticalExtension, Field::Extensions),
    ] {
        assert_eq!(altered(alteration).await, [field], "{alteration:?}");
    }
    // Two are attack 43, and one only the ledger can see.
    assert_eq!(Alteration::ALL.len(), 10 + 2 + 1);
}

#[tokio::test]
async fn attack_46_another_serial_number_than_the_intents_is_found_out() {
    let scene = Scene::new();
    let other = keys::p256(1).public_key().clone();
    let signer = keys::p256(0).signer();
    let ca = AlteringCa::new(scene.house.ca.clone(), signer, other, Alteration::SerialNumber);
    let (permit, unsettled) = scene.permit(&ca).await;
    let certificate = ca.issue(permit).await.unwrap();
    assert!(!unsettled.has_serial_of(&certificate));
    let conforming = unsettled.approval().check_certificate(&certificate).unwrap();
    let refused = scene.ledger.record(unsettled, conforming, OPENS).await.unwrap_err();
    assert_eq!(refused, scep_ledger::LedgerError::Mismatch);
}

#[tokio::test]
async fn attack_53_a_certificate_that_was_not_recorded_was_never_handed_out() {
    let scene = Scene::new();
    let claims = scene.house.claims();
    let ca = &scene.house.ca;
    let (permit, unsettled) = scene.admit(&claims, ca.choose_serial().unwrap()).await;
    ca.issue(permit).await.unwrap();
    // The process ends here, between issuing and recording.
    drop(unsettled);
    let left = scene.ledger.unsettled().await.unwrap().pop().unwrap();
    let subject_der = left.subject_der();
    let wanted = Wanted {
        serial: left.serial(),
        spki: left.spki(),
        request: left.request(),
        pending: false,
        subject_der: &subject_der,
        since: left.admitted_at(),
    };
    assert_eq!(ca.find(&wanted).await, Ok(Found::Nothing));
    scene.ledger.settle_nothing(left, OPENS).await.unwrap();
    // The challenge is free again, and the device gets its certificate.
    let (permit, unsettled) = scene.admit(&claims, ca.choose_serial().unwrap()).await;
    let certificate = ca.issue(permit).await.unwrap();
    let conforming = unsettled.approval().check_certificate(&certificate).unwrap();
    scene.ledger.record(unsettled, conforming, OPENS).await.unwrap();
}

#[tokio::test]
async fn a_permit_without_a_serial_number_is_our_bug() {
    let scene = Scene::new();
    let (permit, unsettled) = scene.admit(&scene.house.claims(), None).await;
    let error = scene.house.ca.issue(permit).await.unwrap_err();
    assert_eq!(error, IssueError::NothingIssued(CaError::SerialMissing));
    assert_eq!(error.fault(), Some(Fault::OurBug));
    scene.ledger.hand_back(unsettled, Reason::CaUnavailable, "", OPENS).await.unwrap();
}

/// A token that can be pulled out.
#[derive(Debug)]
struct Token {
    key: Arc<dyn Signer>,
    present: AtomicBool,
}

impl Signer for Token {
    fn public_key(&self) -> &SpkiDer {
        self.key.public_key()
    }
    fn sign(&self, scheme: SignatureScheme, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        if self.present.load(Ordering::Relaxed) {
            self.key.sign(scheme, message)
        } else {
            Err(KeyError::Unavailable { why: "no token".into() })
        }
    }
}

#[tokio::test]
async fn a_key_that_fails_has_certainly_issued_nothing() {
    let scene = Scene::new();
    let token = Arc::new(Token { key: keys::p256(0).signer(), present: AtomicBool::new(true) });
    let root = scene.house.ca.chain()[0].clone();
    let provider = Arc::clone(&scene.house.provider);
    let ca =
        LocalCa::new(token.clone(), root, vec![], LocalCaSettings::default(), provider).unwrap();
    let claims = scene.house.claims();
    let (permit, unsettled) = scene.admit(&claims, ca.choose_serial().unwrap()).await;
    token.present.store(false, Ordering::Relaxed);
    let error = ca.issue(permit).await.unwrap_err();
    let key = KeyError::Unavailable { why: "no token".into() };
    assert_eq!(error, IssueError::NothingIssued(CaError::Key(key)));
    assert_eq!(error.fault(), Some(Fault::OurDependency));
    scene.ledger.hand_back(unsettled, Reason::CaUnavailable, "", OPENS).await.unwrap();
    // Plugged in again, the same challenge works.
    token.present.store(true, Ordering::Relaxed);
    let (permit, _unsettled) = scene.admit(&claims, ca.choose_serial().unwrap()).await;
    ca.issue(permit).await.unwrap();
}

#[tokio::test]
async fn a_ca_that_ends_before_the_certificate_would_issues_nothing() {
    let scene = Scene::new();
    let key = keys::p256(0).signer();
    let provider = Arc::clone(&scene.house.provider);
    let subject = "CN=Short CA".parse().unwrap();
    let month = Duration::from_secs(30 * 86_400);
    let root = LocalCa::self_signed_root(&*key, &subject, month, OPENS, &*provider).unwrap();
    let end = root.not_after();
    let ca = LocalCa::new(key, root, vec![], LocalCaSettings::default(), provider).unwrap();
    let (permit, unsettled) = scene.permit(&ca).await;
    let not_after = permit.contents().not_after;
    let error = ca.issue(permit).await.unwrap_err();
    let cause = CaError::OutlivesCa { not_after, ca: end };
    assert_eq!(error, IssueError::NothingIssued(cause));
    assert_eq!(error.fault(), Some(Fault::OurConfiguration));
    scene.ledger.hand_back(unsettled, Reason::CaUnavailable, "", OPENS).await.unwrap();
}

#[tokio::test]
async fn a_recording_ca_does_what_the_test_says() {
    for (outcome, exists) in [
        (Outcome::Issue, true),
        (Outcome::LoseAnswer, true),
        (Outcome::LoseRequest, false),
        (Outcome::Refuse, false),
        (Outcome::Pend, false),
    ] {
        let scene = Scene::new();
        let ca = RecordingCa::new(scene.house.ca.clone());
        ca.then(outcome);
        let (permit, unsettled) = scene.permit(&ca).await;
        let serial = permit.serial().unwrap().clone();
        let spki = permit.contents().spki.clone();
        let result = ca.issue(permit).await;
        match outcome {
            Outcome::Issue => assert!(result.is_ok()),
            Outcome::Refuse => assert!(matches!(result, Err(IssueError::NothingIssued(_)))),
            Outcome::LoseAnswer | Outcome::LoseRequest => {
                assert!(matches!(result, Err(IssueError::Unknown(_))));
            }
            Outcome::Pend => assert!(matches!(result, Err(IssueError::Pending))),
        }
        let found = ca
            .find(&Wanted {
                serial: Some(&serial),
                spki: &spki,
                request: CsrInfoHash::from_bytes([0; 32]),
                pending: false,
                subject_der: &[0x30, 0],
                since: OPENS,
            })
            .await
            .unwrap();
        assert_eq!(matches!(found, Found::Certificate(_)), exists, "{outcome:?}");
        assert_eq!(found == Found::Pending, outcome == Outcome::Pend, "{outcome:?}");
        assert_eq!((ca.calls().len(), ca.issued().len()), (1, usize::from(exists)));
        drop(unsettled);
    }
}
