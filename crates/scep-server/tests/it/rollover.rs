//! One CA after another: what tells devices of the next one, and what is still served of the one before.

use crate::queries::second_ca;
use crate::support::{Running, device_key, other_key};
use core::time::Duration;
use scep_ca::{CertificateAuthority, LocalCa};
use scep_challenge::Renewal;
use scep_client::{ScepClient, Trust};
use scep_keys::{AwsLc, SoftwareKey};
use scep_message::client::Reply;
use scep_message::{MessageType, RaIdentity};
use scep_server::{
    Authority, CrlSettings, Endpoint, Gateway, NextCa, Parts, PartsError, RenewalContact,
};
use scep_testkit::house::{House, OPENS, Sent, ra_identity, sign_csr};
use scep_testkit::keys;
use scep_types::{AuthorityName, CertificateDer, KeyAlgorithm, Reason, RsaPadding};
use std::sync::Arc;

fn name(text: &str) -> AuthorityName {
    text.parse().unwrap()
}

fn generate() -> SoftwareKey {
    SoftwareKey::generate(KeyAlgorithm::Rsa(2048)).unwrap()
}

/// A CA with an RA of its own.
struct Generation {
    ca: LocalCa,
    ra: RaIdentity,
}

impl Generation {
    fn new(house: &House, subject: &str) -> Self {
        let ca = second_ca(house, subject);
        let ra = ra_identity(&ca, &generate(), &generate());
        Self { ca, ra }
    }

    fn authority(&self, called: &str, follows: &str) -> Authority {
        Authority {
            name: name(called),
            ca: Arc::new(self.ca.clone()),
            ra: self.ra.clone(),
            crl: CrlSettings { path: format!("/crl-{called}"), ..CrlSettings::default() },
            follows: Some(name(follows)),
        }
    }

    fn has_issued(&self, certificate: &CertificateDer) -> bool {
        self.ca.check_issued(certificate).is_ok()
    }
}

/// What a request gets, from a server whose GetCACert gave this RA.
async fn ask(running: &Running, ra: &RaIdentity, sent: &Sent) -> Reply {
    let http = running.post("/scep", "", &sent.bytes).await;
    sent.read(core::slice::from_ref(&ra.signing_certificate), &http.body)
}

async fn granted(running: &Running, ra: &RaIdentity, sent: &Sent) -> CertificateDer {
    match ask(running, ra, sent).await {
        Reply::Success(mut certificates) => certificates.remove(0),
        other => panic!("{other:?}: {:?}", running.traces.last()),
    }
}

/// An enrolment of a device that has this RA from GetCACert.
fn enveloped_to(running: &mut Running, ra: &RaIdentity) -> Sent {
    let before = core::mem::replace(&mut running.house.ra, ra.clone());
    let sent = running.house.enrolment(&generate());
    running.house.ra = before;
    sent
}

#[tokio::test]
async fn the_next_ca_is_told_of_while_there_is_one() {
    let running = Running::start().await;
    let url = format!("http://{}/scep", running.address);
    let client = ScepClient::new(&url).unwrap();
    let present = running.house.ca.chain()[0].clone();
    let (trust, now) = (Trust::Certificate(present.clone()), OPENS);
    let caps = async || running.get("/scep?operation=GetCACaps").await.text();
    assert!(!caps().await.contains("GetNextCACert"));
    assert_eq!(running.get("/scep?operation=GetNextCACert").await.status, 404);
    assert_eq!(running.traces.last().reason, Some(Reason::MessageTypeNotServed));

    let next = second_ca(&running.house, "CN=Next").chain().to_vec();
    let (key, main) = (keys::p256(0), running.gateway.main_authority());
    let response = scep_message::next_ca::response(&*key.signer(), &present, &next).unwrap();
    main.set_next_ca(Some(NextCa { response: response.clone() }));
    assert!(caps().await.lines().any(|line| line == "GetNextCACert"));
    let http = running.get("/scep?operation=GetNextCACert").await;
    assert_eq!(http.header("content-type"), Some("application/x-x509-next-ca-cert"));
    assert_eq!((http.status, &http.body), (200, &response));
    let server = client.discover(&trust, now, &AwsLc).await.unwrap();
    assert!(server.capabilities.get_next_ca_cert);
    assert_eq!(client.get_next_ca_cert(&server, &AwsLc).await, Ok(next));

    main.set_next_ca(None);
    assert!(!caps().await.contains("GetNextCACert"));
    assert_eq!(running.get("/scep?operation=GetNextCACert").await.status, 404);
}

/// Two that follow one another; the endpoint is the last one's.
async fn start_third_generation() -> (Running, Generation, Generation) {
    let house = House::new();
    let second = Generation::new(&house, "CN=Second");
    let third = Generation::new(&house, "CN=Third");
    // In any order.
    let more = vec![third.authority("g3", "g2"), second.authority("g2", "main")];
    let running = Running::start_in(house, tempfile::tempdir().unwrap(), |parts| {
        parts.more = more;
        parts.endpoints = vec![Endpoint { authority: name("g3"), ..Endpoint::generic("/") }];
    })
    .await;
    (running, second, third)
}

#[tokio::test]
async fn what_is_enveloped_to_an_earlier_ra_is_answered_by_it_with_a_certificate_of_the_new_ca() {
    let (mut running, second, third) = start_third_generation().await;
    let first = running.house.ra.clone();
    for ra in [&first, &second.ra, &third.ra] {
        let sent = enveloped_to(&mut running, ra);
        let certificate = granted(&running, ra, &sent).await;
        assert!(third.has_issued(&certificate));
        // And once more, for a lost answer.
        assert_eq!(granted(&running, ra, &sent).await, certificate);
    }
    assert!(running.ca.calls().is_empty(), "the first CA issues nothing any more");

    // New ones are shown nothing of the old.
    let http = running.get("/scep?operation=GetCACert").await;
    let limits = scep_message::Limits::default();
    let shown = scep_message::ca_cert::parse(&http.body, &limits).unwrap();
    assert_eq!(shown.first(), Some(&third.ra.recipients[0].certificate));
    assert!(shown.iter().all(|one| third.has_issued(one) || third.ca.chain().contains(one)));
}

#[tokio::test]
async fn what_is_enveloped_to_the_next_ra_is_answered_before_the_switch_too() {
    let house = House::new();
    let (second, third) = (Generation::new(&house, "CN=Second"), Generation::new(&house, "CN=3rd"));
    let stranger = Generation::new(&house, "CN=Stranger");
    let mut more = vec![second.authority("g2", "main"), third.authority("g3", "g2")];
    more.push(Authority { follows: None, ..stranger.authority("else", "main") });
    let mut running = Running::start_in(house, tempfile::tempdir().unwrap(), |parts| {
        parts.more = more;
    })
    .await;
    // From another gateway of the group, that has changed over already.
    for ra in [&second.ra, &third.ra] {
        let sent = enveloped_to(&mut running, ra);
        let certificate = granted(&running, ra, &sent).await;
        assert!(running.house.ca.check_issued(&certificate).is_ok());
    }
    // A CA that has nothing to do with it lends its RA to nobody.
    let sent = enveloped_to(&mut running, &stranger.ra);
    let own = running.house.ra.clone();
    assert!(matches!(ask(&running, &own, &sent).await, Reply::Failure { .. }));
    assert_eq!(running.traces.last().reason, Some(Reason::MessageNotForUs));
}

#[tokio::test]
async fn attack_21_an_earlier_ca_s_ra_answers_whether_the_envelope_opens_or_not() {
    let (mut running, second, _) = start_third_generation().await;
    let ra = core::mem::replace(&mut running.house.ra, second.ra.clone());
    let in_vain = running.house.send(b"\x04\x00", &device_key());
    running.house.ra = ra;
    let reply = ask(&running, &second.ra, &in_vain).await;
    assert!(matches!(reply, Reply::Failure { .. }), "{reply:?}");
    assert_eq!(running.traces.last().reason, Some(Reason::MessageDecryptionFailed));
}

#[tokio::test]
async fn an_ra_that_was_replaced_before_the_roll_over_is_answered_too() {
    let (mut running, _, third) = start_third_generation().await;
    let oldest = running.house.ra.clone();
    let main = running.gateway.main_authority();
    let replace = |by: &mut RaIdentity, replaced: &[&RaIdentity]| {
        for one in replaced {
            by.recipients.extend(one.recipients.iter().take(1).cloned());
        }
        main.set_previous_ras(replaced.iter().copied().cloned().collect());
        main.set_ra(by.clone());
    };
    // Twice in a short time, while the CA rolls over.
    let mut old = ra_identity(&running.house.ca, &generate(), &generate());
    replace(&mut old, &[&oldest]);
    let mut new = ra_identity(&running.house.ca, &generate(), &generate());
    replace(&mut new, &[&old, &oldest]);
    for ra in [&oldest, &old, &new] {
        let sent = enveloped_to(&mut running, ra);
        assert!(third.has_issued(&granted(&running, ra, &sent).await));
    }
}

#[tokio::test]
async fn a_certificate_of_the_ca_before_is_given_again_and_signs_for_its_device() {
    let house = House::new();
    let second = Generation::new(&house, "CN=Second");
    let folder = tempfile::tempdir().unwrap();
    let running = Running::start_in(house, folder, |_| {}).await;
    let key = other_key();
    let sent = running.house.enrolment(&key);
    let before = running.granted(&sent).await;

    let (house, folder) = running.stop().await;
    let authority = second.authority("g2", "main");
    let running = Running::start_in(house, folder, |parts| {
        parts.more = vec![authority];
        parts.endpoints = vec![Endpoint { authority: name("g2"), ..Endpoint::generic("/") }];
    })
    .await;
    // Its answer was lost before the switch.
    let ra = running.house.ra.clone();
    assert_eq!(granted(&running, &ra, &sent).await, before);
}

#[tokio::test]
async fn quirk_53_a_certificate_of_the_ca_before_renews_itself_at_the_one_that_follows() {
    let house = House::new();
    let second = Generation::new(&house, "CN=Second");
    let mut claims = house.claims();
    let window = Duration::from_secs(30 * 86_400);
    claims.expectation.renewal = Renewal::Certificate { window };
    let csr = sign_csr(&House::csr(&claims, &house.seal(&claims)), &device_key());
    let running = Running::start_in(house, tempfile::tempdir().unwrap(), |_| {}).await;
    let first = running.granted(&running.house.send(&csr, &device_key())).await;
    running.house.clock.set(first.not_after().minus(window / 2));
    let mut bare = House::csr(&claims, "");
    bare.challenge_password = None;
    let bare = sign_csr(&bare, &other_key());
    let (mut house, mut folder) = running.stop().await;
    house.ra = second.ra.clone();
    // Another CA renews what is another's only where it takes over from that one.
    for follows in [None, Some(AuthorityName::main())] {
        let authority = Authority { follows: follows.clone(), ..second.authority("g2", "main") };
        let running = Running::start_in(house, folder, |parts| {
            parts.main.ra = ra_identity(&second.ca, &generate(), &generate());
            parts.more = vec![authority];
            parts.endpoints = vec![Endpoint { authority: name("g2"), ..Endpoint::generic("/") }];
        })
        .await;
        running.gateway.set_renewal_contact(RenewalContact::NotNeeded);
        let (key, kind) = (device_key(), MessageType::RenewalReq);
        let sent = running.house.send_as(&bare, &key, &first, kind, RsaPadding::Pkcs1v15);
        if follows.is_some() {
            let renewed = granted(&running, &second.ra, &sent).await;
            assert!(second.has_issued(&renewed));
            assert_eq!(renewed.subject_der(), first.subject_der());
        } else {
            let reply = ask(&running, &second.ra, &sent).await;
            assert!(matches!(reply, Reply::Failure { .. }), "{reply:?}");
            assert_eq!(running.traces.last().reason, Some(Reason::RenewalNotAllowed));
        }
        (house, folder) = running.stop().await;
    }
}

#[test]
fn nobody_follows_itself_or_one_that_is_not_there() {
    let house = House::new();
    let folder = tempfile::tempdir().unwrap();
    let generation = Generation::new(&house, "CN=Second");
    let refused = |at: &str, change: &dyn Fn(&mut Parts)| {
        let folder = folder.path().join(at);
        std::fs::create_dir(&folder).unwrap();
        let mut parts = house.parts(&folder);
        change(&mut parts);
        Gateway::new(parts).err()
    };
    let follows =
        |name: AuthorityName, followed| Some(PartsError::FollowsNobody { name, followed });
    let missing = refused("a", &|parts| parts.more = vec![generation.authority("g2", "g1")]);
    assert_eq!(missing, follows(name("g2"), name("g1")));
    let itself = refused("b", &|parts| parts.main.follows = Some(AuthorityName::main()));
    assert_eq!(itself, follows(AuthorityName::main(), AuthorityName::main()));
    let ring = refused("c", &|parts| {
        parts.main.follows = Some(name("g2"));
        parts.more = vec![generation.authority("g2", "main")];
    });
    assert_eq!(ring, follows(name("g2"), AuthorityName::main()));
    let fine = refused("d", &|parts| parts.more = vec![generation.authority("g2", "main")]);
    assert_eq!(fine, None);
}
