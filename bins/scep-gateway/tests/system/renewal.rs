//! A certificate that renews itself, from the profile at the issuer to the record of its successor there.

use crate::estate::{Gateway, Issuer, PROFILE, until};
use scep_client::{Answer, ClientError, Identity, ScepClient, Server};
use scep_keys::{AwsLc, SoftwareKey};
use scep_pkcs10::CsrBuilder;
use scep_server::SystemClock;
use scep_testkit::keys;
use scep_testkit::postgres::{Cluster, Programs};
use scep_testkit::programs::available;
use scep_types::{
    CertificateDer, Clock, ExtendedKeyUsages, GeneralName, KeyAlgorithm, KeyUsages, Secret,
    SignatureScheme,
};
use serde_json::{Value, json};

/// For RSA keys, since nothing can be sent to an EC key without a challenge; in its window from the first second on.
fn profile() -> String {
    let text = PROFILE.replace("[\"p256\"]", "[\"rsa2048\", \"p256\"]");
    format!("{text}renewal = \"certificate\"\nrenewal_threshold = \"31535999s\"\n")
}

fn request(id: &str, key: &SoftwareKey, challenge: Option<&str>) -> Vec<u8> {
    let client = ExtendedKeyUsages::purpose("clientAuth").unwrap();
    let request = CsrBuilder {
        subject: format!("O=Example, CN={id}").parse().unwrap(),
        subject_alt_names: vec![GeneralName::dns(&format!("{id}.example.org")).unwrap()],
        key_usage: Some(KeyUsages::DIGITAL_SIGNATURE),
        extended_key_usages: ExtendedKeyUsages::new(vec![client]),
        challenge_password: challenge.map(|text| Secret::new(text.to_owned())),
        ..CsrBuilder::default()
    };
    let scheme = SignatureScheme::default_for(key.public_key().algorithm());
    request.sign(&*key.signer(), scheme).unwrap()
}

/// First certificates for RSA keys, each of a device of its own.
async fn enrolled(issuer: &Issuer, gateway: &Gateway, id: &str, key: &SoftwareKey) -> Identity {
    issuer.device(id).await;
    let made = json!({ "device": id, "profile": "wifi", "group": "main" });
    let challenge = issuer.post("/challenges", made).await;
    let request = request(id, key, challenge["challenge"].as_str());
    let subject = "CN=device".parse().unwrap();
    let now = SystemClock.now();
    let decryption = key.decryption().unwrap();
    let first = Identity::self_signed(&subject, key.signer(), decryption, now, &AwsLc).unwrap();
    let certificate =
        crate::estate::enrol(&gateway.client().await, &request, &first).await.unwrap();
    identity(certificate, key)
}

fn identity(certificate: CertificateDer, key: &SoftwareKey) -> Identity {
    Identity::certified(certificate, key.signer(), key.decryption().unwrap()).unwrap()
}

/// A RenewalReq without a challenge.
async fn renew(
    (client, server): &(ScepClient, Server),
    request: &[u8],
    identity: &Identity,
) -> Result<CertificateDer, ClientError> {
    match client.renew(server, request, identity, SystemClock.now(), &AwsLc).await? {
        Answer::Issued(issued) => Ok(issued.certificate),
        Answer::Pending(pending) => panic!("nothing is pending here: {pending:?}"),
    }
}

fn thumbprint(certificate: &CertificateDer) -> String {
    certificate.fingerprint().to_string()
}

async fn reported(issuer: &Issuer, count: usize) -> Vec<Value> {
    until("the issuer has every certificate", || async {
        let all = issuer.list("/certificates").await;
        (all.len() == count).then_some(all)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_03_a_certificate_renews_itself_until_the_issuer_disables_its_device() {
    let issuer = Issuer::start();
    issuer.post("/profiles", json!({ "toml": profile() })).await;
    let gateway = Gateway::join(&issuer, "main").await;
    let client = gateway.client().await;
    let (first_key, second_key) = (keys::rsa2048(2), keys::rsa2048(3));
    let first = enrolled(&issuer, &gateway, "laptop-1", &first_key).await;
    let bare = request("laptop-1", &second_key, None);
    let second = renew(&client, &bare, &first).await.unwrap();

    // The issuer sees who follows whom, and nothing that needs attention.
    let all = reported(&issuer, 2).await;
    assert_eq!((all[0]["generation"].as_u64(), all[1]["generation"].as_u64()), (Some(0), Some(1)));
    assert_eq!(all[1]["thumbprint"], thumbprint(&second));
    assert_eq!(all[1]["renews"], all[0]["thumbprint"]);
    assert_eq!(all[0]["renewed_by"], all[1]["thumbprint"]);
    assert!(all[0].get("renews").is_none() && all[1].get("renewed_by").is_none(), "{all:?}");
    assert_eq!(all[1]["device"], "laptop-1");
    assert_eq!(issuer.list("/alarms").await, Vec::<Value>::new());

    // Disabled: the next one is refused as soon as the gateway has heard, which is said at /healthz.
    let third = request("laptop-1", &first_key, None);
    let identity = identity(second, &second_key);
    issuer.set_state("laptop-1", "disabled").await;
    until("the gateway knows that the device is disabled", || async {
        let health: Value = serde_json::from_slice(&gateway.health().body).ok()?;
        (health["denials"] == 1).then_some(())
    })
    .await;
    let error = renew(&client, &third, &identity).await.unwrap_err();
    assert!(matches!(error, ClientError::Refused { .. }), "{error:?}");
    let log = gateway.program.log();
    assert!(log.contains("ScepProfileNoLongerTargetedToTheClient"), "{log}");

    // Enabled again, it goes on where it was.
    issuer.set_state("laptop-1", "enrolled").await;
    until("it is enabled again", || async { renew(&client, &third, &identity).await.ok() }).await;
    assert_eq!(reported(&issuer, 3).await[2]["generation"], 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_03_of_two_successors_at_two_gateways_there_is_one() {
    let test = "attack_03_of_two_successors_at_two_gateways_there_is_one";
    let Some(programs) = Programs::find() else {
        assert!(!available("postgres", test));
        return;
    };
    let cluster = Cluster::start(&programs, &[]).unwrap();
    let issuer = Issuer::start();
    issuer.post("/profiles", json!({ "toml": profile() })).await;
    let one = Gateway::join_shared(&issuer, "main", &cluster.by_socket()).await;
    let other = one.join_beside(&issuer, "main").await;
    let clients = [one.client().await, other.client().await];
    let key = keys::rsa2048(2);
    let rounds = 5;
    for round in 0..rounds {
        let id = format!("laptop-{round}");
        // One key for all would be another device's.
        let key = if round == 0 { key.clone() } else { rsa() };
        let first = enrolled(&issuer, &one, &id, &key).await;
        let rivals = [(); 2].map(|()| SoftwareKey::generate(KeyAlgorithm::P256).unwrap());
        let requests = rivals.each_ref().map(|rival| request(&id, rival, None));
        let (here, there) = tokio::join!(
            renew(&clients[0], &requests[0], &first),
            renew(&clients[1], &requests[1], &first)
        );
        let issued: Vec<_> =
            [&here, &there].into_iter().filter_map(|one| one.as_ref().ok()).collect();
        assert_eq!(issued.len(), 1, "{here:?} {there:?}");
        // Both gateways give the successor to its own request, and nothing to the other's.
        let (winner, loser) = if here.is_ok() { (0, 1) } else { (1, 0) };
        for client in &clients {
            let again = renew(client, &requests[winner], &first).await.unwrap();
            assert_eq!(again, *issued[0]);
            renew(client, &requests[loser], &first).await.unwrap_err();
        }
    }
    let all = reported(&issuer, 2 * rounds).await;
    let followed = all.iter().filter(|one| one.get("renewed_by").is_some()).count();
    assert_eq!(followed, rounds);
    until("the issuer hears of the second ones", || async {
        let alarms = issuer.list("/alarms").await;
        let breaches = alarms.iter().filter(|alarm| alarm["kind"] == "breach").count();
        (breaches == rounds).then_some(())
    })
    .await;
}

fn rsa() -> SoftwareKey {
    SoftwareKey::generate(KeyAlgorithm::Rsa(2048)).unwrap()
}
