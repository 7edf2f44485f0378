//! Several CAs in one gateway: which of them issues where, and which parts make no gateway.

use crate::queries::second_ca;
use crate::support::{Running, Traces, device_key};
use scep_keys::SoftwareKey;
use scep_message::client::Reply;
use scep_message::{FailInfo, RaIdentity};
use scep_server::{Authority, CrlSettings, Endpoint, Gateway, Parts, PartsError};
use scep_testkit::House;
use scep_testkit::ca::RecordingCa;
use scep_testkit::house::{Sent, ra_identity};
use scep_types::{AuthorityName, KeyAlgorithm, ProfileId, Reason};
use std::collections::BTreeSet;
use std::sync::Arc;

fn name(text: &str) -> AuthorityName {
    text.parse().unwrap()
}

/// Another CA with an RA of its own, and what it is asked.
fn another(house: &House, subject: &str) -> (RecordingCa, RaIdentity) {
    let ca = second_ca(house, subject);
    let key = || SoftwareKey::generate(KeyAlgorithm::Rsa(2048)).unwrap();
    let ra = ra_identity(&ca, &key(), &key());
    (RecordingCa::new(ca), ra)
}

fn authority(called: &str, crl: &str, (ca, ra): &(RecordingCa, RaIdentity)) -> Authority {
    Authority {
        name: name(called),
        ca: Arc::new(ca.clone()),
        ra: ra.clone(),
        crl: CrlSettings { path: crl.into(), ..CrlSettings::default() },
        follows: None,
    }
}

fn only(profiles: &[&str]) -> Option<BTreeSet<ProfileId>> {
    Some(profiles.iter().map(|profile| profile.parse().unwrap()).collect())
}

/// An enrolment of a new device, enveloped to this RA.
fn enrolment(running: &mut Running, ra: &RaIdentity) -> Sent {
    let before = core::mem::replace(&mut running.house.ra, ra.clone());
    let sent = running.house.enrolment(&device_key());
    running.house.ra = before;
    sent
}

async fn ask(running: &Running, path: &str, ra: &RaIdentity, sent: &Sent) -> Reply {
    let http = running.post(&format!("{path}?operation=PKIOperation"), "", &sent.bytes).await;
    assert_eq!(http.status, 200);
    sent.read(core::slice::from_ref(&ra.signing_certificate), &http.body)
}

#[tokio::test]
async fn a_profile_is_served_where_an_endpoint_says_so_and_nowhere_else() {
    let house = House::new();
    let vpn = another(&house, "O=Example, CN=VPN CA");
    let parts = |parts: &mut Parts| {
        parts.more = vec![authority("vpn", "/crl-vpn", &vpn)];
        let at = |path: &str, ca: &str, profiles| Endpoint {
            authority: name(ca),
            profiles,
            ..Endpoint::generic(path)
        };
        parts.endpoints = vec![
            at("/guests", "vpn", only(&["guests", "visitors"])),
            at("/wifi", "vpn", only(&["wifi"])),
            at("/main", "main", None),
        ];
    };
    let mut running = Running::start_in(house, tempfile::tempdir().unwrap(), parts).await;
    let sent = enrolment(&mut running, &vpn.1);
    // Twelve times: it counts for nothing, and locks nothing.
    for _ in 0..12 {
        let reply = ask(&running, "/guests", &vpn.1, &sent).await;
        let Reply::Failure { fail_info, .. } = &reply else { panic!("{reply:?}") };
        assert_eq!(*fail_info, FailInfo::BadRequest);
        let trace = running.traces.last();
        assert_eq!(trace.reason, Some(Reason::ChallengeNotServed));
        assert_eq!(trace.profile.map(|profile| profile.to_string()).as_deref(), Some("wifi"));
    }
    assert!(running.ca.calls().is_empty() && vpn.0.calls().is_empty());
    let reply = ask(&running, "/wifi", &vpn.1, &sent).await;
    assert!(matches!(reply, Reply::Success(_)), "{reply:?}: {:?}", running.traces.last());
    // Of the endpoint's CA, and of no other.
    assert_eq!((running.ca.calls().len(), vpn.0.calls().len()), (0, 1));
    // What is enveloped to one CA's RA opens at none of another's endpoints.
    let sent = enrolment(&mut running, &vpn.1);
    let http = running.post("/main?operation=PKIOperation", "", &sent.bytes).await;
    assert_eq!((http.status, running.traces.last().reason), (200, Some(Reason::MessageNotForUs)));
    assert_eq!((running.ca.calls().len(), vpn.0.calls().len()), (0, 1));
}

#[tokio::test]
async fn what_two_cas_cannot_share_makes_no_gateway() {
    let house = House::new();
    let other = another(&house, "O=Example, CN=VPN CA");
    // The name of the main CA, with another key.
    let twin = another(&house, "O=Example, CN=Test CA");
    let wrong = |change: &dyn Fn(&mut Parts)| {
        let folder = tempfile::tempdir().unwrap();
        let mut parts = house.parts(folder.path());
        parts.observer = Some(Arc::new(Traces::default()));
        change(&mut parts);
        Gateway::new(parts).map(drop).unwrap_err()
    };
    let more = |called: &'static str, crl: &'static str, one: &(RecordingCa, RaIdentity)| {
        let one = one.clone();
        move |parts: &mut Parts| parts.more = vec![authority(called, crl, &one)]
    };
    let twice = PartsError::AuthorityTwice(name("main"));
    assert_eq!(wrong(&more("main", "/crl-vpn", &other)), twice);
    // The CA of a test's record revokes nothing, and has no CRL.
    let revoking = second_ca(&house, "O=Example, CN=Another CA");
    let crl = wrong(&|parts| {
        let ca = Arc::new(revoking.clone());
        parts.more = vec![Authority { ca, ..authority("vpn", "/crl", &other) }];
    });
    assert_eq!(crl, PartsError::CrlPathTwice("/crl".into()));
    let one = PartsError::OneIssuer(name("main"), name("twin"));
    assert_eq!(wrong(&more("twin", "/crl-twin", &twin)), one);
    let nobody = wrong(&|parts| parts.endpoints[0].authority = name("vpn"));
    let unknown = PartsError::UnknownAuthority { path: "/".into(), authority: name("vpn") };
    assert_eq!(nobody, unknown);
}
