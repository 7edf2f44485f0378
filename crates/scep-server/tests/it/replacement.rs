//! What is replaced while the gateway runs: challenge keys, the RA, the keys that are ours.

use crate::support::{Running, device_key, other_key};
use core::time::Duration;
use scep_challenge::{Opener, OpeningKey, PinnedSigner, seal};
use scep_keys::SoftwareKey;
use scep_message::RaIdentity;
use scep_message::client::Reply;
use scep_testkit::house::{House, OPENS, Sent, ra_identity, sign_csr};
use scep_testkit::keys;
use scep_types::{CertificateDer, KeyAlgorithm, Reason};

/// Opens what these two sign and these keys decrypt.
fn opener(signers: &[&SoftwareKey], keys: &[&SoftwareKey]) -> Opener {
    let day = Duration::from_secs(86_400);
    let pinned = |key: &&SoftwareKey| PinnedSigner {
        key: key.public_key().clone(),
        not_before: OPENS.minus(day),
        not_after: OPENS.plus(day),
    };
    let opening =
        |key: &&SoftwareKey| OpeningKey { key: key.decryption().unwrap(), not_after: None };
    let (hour, skew) = (Duration::from_secs(3600), Duration::from_secs(300));
    let signers = signers.iter().map(pinned).collect();
    let keys = keys.iter().map(opening).collect();
    Opener::new(House::tenant(), House::group(), signers, keys, hour, skew).unwrap()
}

/// A request whose challenge `issuer` has made for `gateway`.
fn sent_by(house: &House, issuer: &SoftwareKey, gateway: &SoftwareKey, key: &SoftwareKey) -> Sent {
    let mut claims = house.claims();
    claims.issuer_key = issuer.public_key().key_id();
    claims.recipient_key = gateway.public_key().key_id();
    let blob = seal(&claims, &*issuer.signer(), gateway.public_key(), &*house.provider).unwrap();
    house.send(&sign_csr(&House::csr(&claims, &blob), key), key)
}

#[tokio::test]
async fn attack_26_challenge_keys_are_replaced_between_two_requests() {
    let running = Running::start().await;
    let house = &running.house;
    let (signer, decryption) = (keys::p256(3), SoftwareKey::generate(KeyAlgorithm::P256).unwrap());
    let old = sent_by(house, &house.issuer, &house.challenge, &device_key());
    let new = sent_by(house, &signer, &decryption, &other_key());
    assert_eq!(running.refused(&new).await, Reason::SigningCertThumbprintMismatch);

    // Both, while they overlap.
    let (signers, openings) = ([&house.issuer, &signer], [&decryption, &house.challenge]);
    running.gateway.set_opener(opener(&signers, &openings));
    running.granted(&new).await;
    running.granted(&old).await;

    // The old ones are gone.
    running.gateway.set_opener(opener(&[&signer], &[&decryption]));
    let key = SoftwareKey::generate(KeyAlgorithm::Rsa(2048)).unwrap();
    let late = sent_by(house, &house.issuer, &house.challenge, &key);
    assert_eq!(running.refused(&late).await, Reason::SigningCertThumbprintMismatch);
    let late = sent_by(house, &signer, &house.challenge, &key);
    assert_eq!(running.refused(&late).await, Reason::BadAudienceInChallenge);
    running.granted(&sent_by(house, &signer, &decryption, &key)).await;
}

async fn shown(running: &Running) -> Vec<CertificateDer> {
    let http = running.get("/scep?operation=GetCACert").await;
    scep_message::ca_cert::parse(&http.body, &scep_message::Limits::default()).unwrap()
}

fn success(reply: Reply) -> bool {
    matches!(reply, Reply::Success(_))
}

async fn granted_by(running: &Running, ra: &RaIdentity, sent: &Sent) -> bool {
    let http = running.post("/scep", "", &sent.bytes).await;
    success(sent.read(core::slice::from_ref(&ra.signing_certificate), &http.body))
}

#[tokio::test]
async fn the_ra_is_replaced_and_what_was_enveloped_to_the_last_one_is_opened() {
    let mut running = Running::start().await;
    let generate = || SoftwareKey::generate(KeyAlgorithm::Rsa(2048)).unwrap();
    let old = running.house.ra.clone();
    let mut ra = ra_identity(&running.house.ca, &generate(), &generate());
    let only_new = ra.clone();
    ra.recipients.extend(old.recipients.iter().cloned());
    let before = running.house.enrolment(&device_key());

    running.gateway.main_authority().set_ra(ra.clone());
    // The new one, and nothing of the old.
    let certificates = shown(&running).await;
    assert_eq!(certificates[0], ra.recipients[0].certificate);
    assert!(certificates.contains(&ra.signing_certificate));
    assert!(!certificates.contains(&old.recipients[0].certificate));
    assert!(!certificates.contains(&old.signing_certificate));

    assert!(granted_by(&running, &ra, &before).await, "enveloped to the previous RA");
    running.house.ra = ra.clone();
    assert!(granted_by(&running, &ra, &running.house.enrolment(&other_key())).await);

    // After the overlap the previous one opens nothing.
    running.house.ra = old;
    let late = running.house.enrolment(&generate());
    running.gateway.main_authority().set_ra(only_new.clone());
    let http = running.post("/scep", "", &late.bytes).await;
    let reply = late.read(core::slice::from_ref(&only_new.signing_certificate), &http.body);
    assert!(matches!(reply, Reply::Failure { .. }), "{reply:?}");
    assert_eq!(running.traces.last().reason, Some(Reason::MessageNotForUs));
}

#[tokio::test]
async fn attack_21_an_earlier_getcacert_is_answered_by_its_signer_whether_the_envelope_opens_or_not()
 {
    let mut running = Running::start().await;
    let generate = || SoftwareKey::generate(KeyAlgorithm::Rsa(2048)).unwrap();
    let old = running.house.ra.clone();
    let mut ra = ra_identity(&running.house.ca, &generate(), &generate());
    ra.recipients.extend(old.recipients.iter().cloned());
    let before = running.house.enrolment(&device_key());
    let before_in_vain = running.house.send(b"\x04\x00", &other_key());

    running.gateway.main_authority().set_previous_ras(vec![old.clone()]);
    running.gateway.main_authority().set_ra(ra.clone());
    assert!(granted_by(&running, &old, &before).await, "the signer that the device knows");
    let refused_by = async |sent: &Sent, ra: &RaIdentity| {
        let http = running.post("/scep", "", &sent.bytes).await;
        let reply = sent.read(core::slice::from_ref(&ra.signing_certificate), &http.body);
        assert!(matches!(reply, Reply::Failure { .. }), "{reply:?}");
        running.traces.last().reason
    };
    // What opens to nothing has the same signer as what is granted: the signer tells nothing of the envelope.
    let reason = refused_by(&before_in_vain, &old).await;
    assert_eq!(reason, Some(Reason::MessageDecryptionFailed));

    running.house.ra = ra.clone();
    let after = running.house.enrolment(&generate());
    assert!(
        granted_by(&running, &ra, &after).await,
        "the present signer for the present recipient"
    );
    let after_in_vain = running.house.send(b"\x04\x00", &other_key());
    let http = running.post("/scep", "", &after_in_vain.bytes).await;
    let signer = core::slice::from_ref(&ra.signing_certificate);
    assert!(matches!(after_in_vain.read(signer, &http.body), Reply::Failure { .. }));
}

#[tokio::test]
async fn attack_25_a_new_key_of_the_system_is_certified_for_nobody() {
    let mut running = Running::start().await;
    let (signing, decryption) = (other_key(), device_key());
    // Nobody's, until it is ours.
    let of_ra = running.house.enrolment(&signing);
    let mut ra = ra_identity(&running.house.ca, &signing, &keys::rsa2048(1));
    ra.recipients.clone_from(&running.house.ra.recipients);
    running.gateway.main_authority().set_ra(ra.clone());
    running.house.ra = ra;
    assert_eq!(running.refused(&of_ra).await, Reason::WeakKey);

    let ours = running.house.enrolment(&decryption);
    running.gateway.set_our_keys(vec![decryption.public_key().hash()]);
    assert_eq!(running.refused(&ours).await, Reason::WeakKey);
    running.gateway.set_our_keys(Vec::new());
    running.granted(&ours).await;
}
