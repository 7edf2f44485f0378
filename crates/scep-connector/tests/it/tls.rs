//! Who is spoken to: the pinned key, and nobody else.

use crate::gateway::{Gateway, address, eventually};
use crate::issuer::{Issuer, config, key};
use scep_connector::{ConnectorError, IssuerAddress};
use scep_keys::SoftwareKey;
use scep_types::KeyAlgorithm;
use tokio_rustls::rustls::{ALL_VERSIONS, version};

/// Handshakes that came to an end, and requests.
fn told(issuer: &Issuer) -> (usize, usize) {
    let book = issuer.book();
    (book.shaken, book.asked.len())
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_57_a_middlebox_that_opens_tls_is_named_and_told_nothing() {
    let issuer = Issuer::start().await;
    let forged = key();
    let middlebox = Issuer::with_config(
        config(&forged, &forged, "O=Example, CN=Corporate Inspection", ALL_VERSIONS),
        forged.public_key().hash(),
    )
    .await;
    let mut gateway = Gateway::new(&middlebox);
    let error = gateway.enrol(&issuer).await.unwrap_err();
    let said = error.to_string();
    assert!(matches!(error, ConnectorError::AnotherTlsKey { .. }), "{said}");
    for part in [
        format!("expected SHA-256 {}", issuer.pin),
        format!("found {}", middlebox.pin),
        "O=Example, CN=Corporate Inspection".to_owned(),
        "looks like a proxy that opens TLS".to_owned(),
    ] {
        assert!(said.contains(&part), "{part}: {said}");
    }
    assert_eq!(told(&middlebox), (0, 0));
    // The same for a connector that is enrolled and whose way to the issuer changes.
    gateway.settings.issuer = address(&issuer);
    gateway.enrol(&issuer).await.unwrap();
    gateway.settings.issuer = address(&middlebox);
    gateway.event(1).await;
    gateway.start();
    let said = eventually("trouble", || gateway.trouble()).await;
    assert!(said.contains("looks like a proxy that opens TLS"), "{said}");
    eventually("no report either", || gateway.trouble().filter(|said| said.contains("reports:")))
        .await;
    assert_eq!(told(&middlebox), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_57_the_pinned_certificate_without_its_key_is_refused() {
    let (pinned, other) = (key(), key());
    for versions in [&[&version::TLS13][..], &[&version::TLS12]] {
        let config = config(&pinned, &other, "CN=Issuer Test", versions);
        let thief = Issuer::with_config(config, pinned.public_key().hash()).await;
        let gateway = Gateway::new(&thief);
        let error = gateway.enrol(&thief).await.unwrap_err();
        assert!(matches!(error, ConnectorError::Tls { .. }), "{error}");
        assert!(thief.book().asked.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_versions_and_both_kinds_of_keys_work_on_both_sides() {
    for versions in [&[&version::TLS13][..], &[&version::TLS12]] {
        for algorithm in [KeyAlgorithm::P256, KeyAlgorithm::Rsa(2048)] {
            let tls = SoftwareKey::generate(algorithm).unwrap();
            let config = config(&tls, &tls, "CN=Issuer Test", versions);
            let issuer = Issuer::with_config(config, tls.public_key().hash()).await;
            let mut gateway = Gateway::new(&issuer);
            gateway.keys.algorithm(algorithm);
            gateway.enrol(&issuer).await.unwrap();
            gateway.start();
            eventually("a check-in", || (gateway.state().last_sequence > 40).then_some(())).await;
            assert_eq!(gateway.trouble(), None);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_not_there_is_unreachable() {
    let gone = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let issuer = Issuer::start().await;
    let mut gateway = Gateway::new(&issuer);
    gateway.settings.issuer = IssuerAddress::parse(&format!("https://{gone}")).unwrap();
    let error = gateway.enrol(&issuer).await.unwrap_err();
    assert!(matches!(error, ConnectorError::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains(&gone.to_string()), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_59_a_mute_issuer_is_given_up() {
    let issuer = Issuer::start().await;
    let gateway = Gateway::new(&issuer);
    issuer.twist(|_, _| Some(crate::issuer::Reply::mute()));
    let error = gateway.enrol(&issuer).await.unwrap_err();
    assert!(matches!(error, ConnectorError::TimedOut { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_59_a_mute_check_in_holds_up_neither_reports_nor_the_end() {
    let issuer = Issuer::start().await;
    let mut gateway = Gateway::enrolled(&issuer).await;
    issuer.twist(|_, asked| asked.check_in().map(|_| crate::issuer::Reply::mute()));
    gateway.start();
    eventually("a check-in", || (!issuer.book().check_ins().is_empty()).then_some(())).await;
    gateway.event(1).await;
    eventually("the event", || (issuer.book().events.len() == 1).then_some(())).await;
    gateway.stop().await;
}
