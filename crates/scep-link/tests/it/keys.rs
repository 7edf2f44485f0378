//! The connector's keys: possession, and renewal by the present key.

use crate::samples::*;
use scep_cms::CmsError;
use scep_keys::{AwsLc, SoftwareKey};
use scep_link::*;
use scep_types::*;
use std::time::Duration;

fn prove_with(
    key: &SoftwareKey,
    challenge: &PossessionChallenge,
    tenant: &TenantId,
    connector: ConnectorId,
) -> Result<PossessionProof, PossessionError> {
    prove(&AwsLc, challenge, &key.decryption().unwrap(), tenant, connector)
}

#[test]
fn a_key_that_decrypts_proves_itself_whatever_its_kind() {
    for algorithm in [KeyAlgorithm::P256, KeyAlgorithm::Rsa(2048)] {
        let key = SoftwareKey::generate(algorithm).unwrap();
        let (challenge, expected) =
            challenge(&AwsLc, key.public_key(), &tenant(), connector()).unwrap();
        assert!(challenge.as_der().len() < PossessionChallenge::MAX);
        let proof = prove_with(&key, &challenge, &tenant(), connector()).unwrap();
        assert!(proof.is(&expected), "{algorithm}");
        assert_eq!(proof.key(), key.public_key().key_id());
    }
}

#[test]
fn a_proof_is_of_one_key_one_challenge_one_tenant_and_one_connector() {
    let key = key("decryption");
    let new = || challenge(&AwsLc, key.public_key(), &tenant(), connector()).unwrap();
    let ((first, expected), (second, _)) = (new(), new());
    let other_tenant = TenantId::new("fabrikam").unwrap();
    let other_connector = ConnectorId::from_bytes([1; 16]);
    assert!(prove_with(&key, &first, &tenant(), connector()).unwrap().is(&expected));
    for proof in [
        prove_with(&key, &second, &tenant(), connector()),
        prove_with(&key, &first, &other_tenant, connector()),
        prove_with(&key, &first, &tenant(), other_connector),
    ] {
        assert!(!proof.unwrap().is(&expected));
    }
    let stranger = SoftwareKey::generate(KeyAlgorithm::P256).unwrap();
    let error = prove_with(&stranger, &first, &tenant(), connector()).unwrap_err();
    assert_eq!(error, PossessionError::Cms(CmsError::NotForUs));
}

#[test]
fn possession_of_an_unsuitable_key_is_not_asked_for() {
    let weak = SoftwareKey::generate(KeyAlgorithm::P384).unwrap();
    let error = challenge(&AwsLc, weak.public_key(), &tenant(), connector()).unwrap_err();
    assert_eq!(error, PossessionError::UnsuitableKey(KeyAlgorithm::P384));
    // Of the right length, but on no curve.
    let off = SpkiDer::from_ec_point(&[4; 65]).unwrap();
    let error = challenge(&AwsLc, &off, &tenant(), connector()).unwrap_err();
    assert!(matches!(error, PossessionError::Key(_)), "{error}");
}

fn check(request: RenewRequest) -> Result<ProvenRenewal, RenewalError> {
    check_at(request, now())
}

fn check_at(request: RenewRequest, now: Timestamp) -> Result<ProvenRenewal, RenewalError> {
    ProvenRenewal::check(request, &tenant(), connector(), &spki("connector"), now, &AwsLc)
}

#[test]
fn the_present_key_vouches_for_the_next_ones() {
    let proven = check(renew_request()).unwrap();
    let certificate_request = request();
    assert_eq!(proven.renewal(), &Renewal::Authentication { certificate_request });
    let proven = check(renew_decryption_request()).unwrap();
    assert_eq!(proven.renewal(), &Renewal::Decryption { key: spki("decryption") });
}

#[test]
fn attack_56_a_renewal_by_another_key_than_the_present_one_is_refused() {
    let present = key("command").signer();
    let request =
        renew_authentication(&tenant(), connector(), request(), &*present, now()).unwrap();
    assert_eq!(check(request).unwrap_err(), RenewalError::NotByPresentKey);
}

#[test]
fn attack_56_a_statement_does_not_serve_for_another_key() {
    let other = Pkcs10Der::new([0x30, 0]).unwrap();
    let mut swapped = renew_request();
    swapped.renewal = Renewal::Authentication { certificate_request: other };
    assert_eq!(check(swapped).unwrap_err(), RenewalError::OtherKey);
    let mut swapped = renew_decryption_request();
    swapped.renewal = Renewal::Decryption { key: spki("signer") };
    assert_eq!(check(swapped).unwrap_err(), RenewalError::OtherKey);
}

#[test]
fn attack_56_a_statement_does_not_serve_for_another_connector_or_tenant() {
    let other = ConnectorId::from_bytes([1; 16]);
    let mut moved = renew_request();
    moved.connector = other;
    assert_eq!(check(moved).unwrap_err(), RenewalError::Connector);
    let present = key("connector").signer();
    let other_tenant = TenantId::new("fabrikam").unwrap();
    for (tenant, signed_for) in [(tenant(), other), (other_tenant, connector())] {
        let mut request =
            renew_authentication(&tenant, signed_for, request(), &*present, now()).unwrap();
        request.connector = connector();
        assert_eq!(check(request).unwrap_err(), RenewalError::Connector);
    }
}

#[test]
fn attack_56_an_old_statement_is_refused() {
    let second = Duration::from_secs(1);
    let end = now().plus(10 * MINUTE);
    assert!(check_at(renew_request(), end.minus(second)).is_ok());
    assert_eq!(
        check_at(renew_request(), end).unwrap_err(),
        RenewalError::NotNow { issued_at: now(), now: end }
    );
    let early = now().minus(MAX_SKEW).minus(second);
    assert!(check_at(renew_request(), early.plus(second)).is_ok());
    assert_eq!(
        check_at(renew_request(), early).unwrap_err(),
        RenewalError::NotNow { issued_at: now(), now: early }
    );
}

#[test]
fn attack_55_commands_serve_as_no_statement() {
    // Though signed by the present key: what it signs for one purpose is good for no other.
    let none = Commands { signer_keys: KeyChanges::default(), ..commands() };
    let sealed = seal_commands(&none, &*key("connector").signer()).unwrap();
    let mut json = serde_json::to_value(renew_request()).unwrap();
    json["statement"] =
        base64::Engine::encode(&base64::engine::general_purpose::STANDARD, sealed).into();
    let request: RenewRequest = read(json.to_string().as_bytes()).unwrap();
    assert_eq!(check(request).unwrap_err(), RenewalError::NotRenewal);
}

#[test]
fn the_authentication_key_does_not_become_the_decryption_key() {
    let present = key("connector").signer();
    let request =
        renew_decryption(&tenant(), connector(), spki("connector"), &*present, now()).unwrap();
    assert_eq!(check(request).unwrap_err(), RenewalError::SameKey);
    let weak = SoftwareKey::generate(KeyAlgorithm::P384).unwrap().public_key().clone();
    let error = renew_decryption(&tenant(), connector(), weak, &*present, now()).unwrap_err();
    assert_eq!(error, SealError::UnsuitableKey(KeyAlgorithm::P384));
}
