//! A server that goes, comes back, is sealed, has too much to do, or does not let the adapter do what it must.

use super::{POLICY, ca, chain, now, root_token, settings};
use core::time::Duration;
use scep_ca::{
    Authentication, CaError, CaHealth, CertificateAuthority, CrlOrder, Found, IssueError, OpenBao,
    OpenBaoSettings, SignBy, Wanted,
};
use scep_testkit::conformance::{Line, attempt};
use scep_testkit::process::openbao::OpenBao as Server;
use scep_testkit::process::{PATIENCE, free_address, temporary, wait_for};
use scep_types::{CsrInfoHash, Secret, Timestamp};
use std::sync::Arc;

/// The trouble that there is.
fn trouble(ca: &OpenBao) -> Option<String> {
    match ca.health() {
        CaHealth::Ok => None,
        CaHealth::Degraded { why, .. } => Some(why),
    }
}

fn certificates(server: &Server) -> usize {
    let listed = server.bao(&["list", "-format=json", "pki/certs"]);
    serde_json::from_str::<Vec<String>>(&listed).unwrap().len()
}

async fn nothing_issued(ca: &OpenBao) -> CaError {
    match attempt(ca, now()).await.1 {
        Err(IssueError::NothingIssued(why)) => why,
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn a_call_that_was_never_made_is_made_when_the_server_appears() {
    let home = temporary();
    let server = Server::start(home.path());
    let front = free_address();
    let patient = OpenBaoSettings {
        retry_for: PATIENCE,
        ..settings(front, SignBy::Verbatim(None), root_token())
    };
    let adapter = Arc::new(ca(patient, &chain(&server).await));
    let before = certificates(&server);
    let asking = Arc::clone(&adapter);
    let asked = tokio::spawn(async move { attempt(&*asking, now()).await.1 });
    let away = wait_for("a first attempt", || trouble(&adapter));
    assert!(away.starts_with("server: "), "{away}");
    assert!(!asked.is_finished());
    let _line = Line::at(front, server.address());
    asked.await.unwrap().unwrap();
    assert_eq!(trouble(&adapter), None);
    assert_eq!(certificates(&server), before + 1);
}

pub(crate) async fn a_sealed_or_restarted_server_is_asked_for_nothing_until_it_works() {
    let home = temporary();
    let mut server = Server::start_kept(home.path());
    let with = settings(server.address(), SignBy::Verbatim(None), root_token());
    let adapter = ca(with, &chain(&server).await);
    attempt(&adapter, now()).await.1.unwrap();
    assert_eq!(trouble(&adapter), None);

    // Nothing that the server's documentation promises says that a sealed server has done nothing: once it is unknown.
    server.seal();
    let (key, first) = attempt(&adapter, now()).await;
    assert!(matches!(first, Err(IssueError::Unknown(_))), "{first:?}");
    assert!(trouble(&adapter).unwrap().contains("sealed"), "{:?}", trouble(&adapter));
    // From then on it is asked first whether it works.
    let CaHealth::Degraded { since, .. } = adapter.health() else { unreachable!() };
    nothing_issued(&adapter).await;
    assert!(adapter.connect().await.is_err());
    let CaHealth::Degraded { since: still, .. } = adapter.health() else { unreachable!() };
    assert_eq!(since, still);
    server.unseal();
    attempt(&adapter, now()).await.1.unwrap();
    assert_eq!(trouble(&adapter), None);
    let wanted = Wanted {
        serial: None,
        spki: &key,
        request: CsrInfoHash::from_bytes([0; 32]),
        pending: false,
        subject_der: &[],
        since: now(),
    };
    let found = tokio::time::timeout(PATIENCE, async {
        loop {
            match adapter.find(&wanted).await {
                Err(CaError::Unavailable { .. }) => tokio::time::sleep(Duration::from_millis(50)),
                found => return found,
            }
            .await;
        }
    });
    assert_eq!(found.await.unwrap(), Ok(Found::Nothing));

    // Killed: nothing is sent, so nothing is unknown, before as after it is there again and sealed.
    server.kill();
    nothing_issued(&adapter).await;
    server.restart();
    nothing_issued(&adapter).await;
    assert!(trouble(&adapter).unwrap().contains("sealed"), "{:?}", trouble(&adapter));
    server.unseal();
    attempt(&adapter, now()).await.1.unwrap();
    assert_eq!(trouble(&adapter), None);
}

pub(crate) async fn a_server_with_too_much_to_do_is_asked_again() {
    let home = temporary();
    let server = Server::start(home.path());
    let chain = chain(&server).await;
    let with = |retry_for| {
        let with = settings(server.address(), SignBy::Verbatim(None), root_token());
        ca(OpenBaoSettings { retry_for, ..with }, &chain)
    };
    let (patient, hasty) = (with(PATIENCE), with(Duration::ZERO));
    patient.connect().await.unwrap();
    hasty.connect().await.unwrap();
    let quota = "sys/quotas/rate-limit/pki";
    server.bao(&["write", quota, "path=pki", "rate=1", "interval=3s"]);
    // One of two in a row is beyond the limit.
    let calls = [attempt(&hasty, now()).await.1, attempt(&hasty, now()).await.1];
    let refused = calls.into_iter().find_map(Result::err).unwrap();
    assert!(matches!(&refused, IssueError::NothingIssued(_)), "{refused}");
    assert!(refused.to_string().contains("429"), "{refused}");
    assert!(trouble(&hasty).unwrap().starts_with("server: status 429"), "{:?}", trouble(&hasty));
    for _ in 0..2 {
        attempt(&patient, now()).await.1.unwrap();
    }
    assert_eq!(trouble(&patient), None);
}

pub(crate) async fn a_revoked_token_and_missing_rights_show_in_the_health() {
    let home = temporary();
    let server = Server::start(home.path());
    let policy = |text: &str| {
        let file = home.path().join("policy.hcl");
        std::fs::write(&file, text).unwrap();
        server.bao(&["policy", "write", "scep", file.to_str().unwrap()]);
    };
    policy(POLICY);
    let create = || {
        let made = server.bao(&["token", "create", "-field=token", "-policy=scep", "-ttl=1h"]);
        made.trim().to_owned()
    };
    let file = home.path().join("token");
    let token = create();
    std::fs::write(&file, &token).unwrap();
    let by = Authentication::TokenFile(file.clone());
    let with = settings(server.address(), SignBy::Verbatim(None), by);
    let adapter = ca(with, &chain(&server).await);
    adapter.connect().await.unwrap();
    assert_eq!(trouble(&adapter), None);

    // Nobody asks for a certificate, and it is noticed all the same.
    server.bao(&["token", "revoke", &token]);
    assert!(adapter.connect().await.is_err());
    assert!(trouble(&adapter).unwrap().contains("status 403"), "{:?}", trouble(&adapter));
    nothing_issued(&adapter).await;
    std::fs::write(&file, create()).unwrap();
    adapter.connect().await.unwrap();
    attempt(&adapter, now()).await.1.unwrap();
    assert_eq!(trouble(&adapter), None);

    // Rights that are gone show at what needs them, and that the server answers otherwise does not hide them.
    policy("path \"pki/revoke\" { capabilities = [\"update\"] }");
    let refused = nothing_issued(&adapter).await;
    assert!(refused.to_string().contains("403"), "{refused}");
    adapter.connect().await.unwrap();
    assert!(trouble(&adapter).unwrap().starts_with("sign: status 403"), "{:?}", trouble(&adapter));
    policy(POLICY);
    attempt(&adapter, now()).await.1.unwrap();
    assert_eq!(trouble(&adapter), None);
}

pub(crate) async fn an_adapter_says_which_rights_its_token_lacks() {
    let home = temporary();
    let server = Server::start(home.path());
    let chain = chain(&server).await;
    let file = home.path().join("policy.hcl");
    let mut lacking = Vec::new();
    for (name, text) in [
        (
            "whole",
            POLICY.to_owned() + "path \"pki/issuer/+/sign/ra\" { capabilities = [\"update\"] }",
        ),
        ("revokes", "path \"pki/revoke\" { capabilities = [\"update\"] }".to_owned()),
    ] {
        std::fs::write(&file, text).unwrap();
        server.bao(&["policy", "write", name, file.to_str().unwrap()]);
        let policy = format!("-policy={name}");
        let token = server.bao(&["token", "create", "-field=token", &policy, "-ttl=1h"]);
        let by = Authentication::Token(Secret::new(token.trim().to_owned()));
        let adapter = ca(settings(server.address(), SignBy::Verbatim(None), by), &chain);
        let missing = adapter.missing(adapter.rights(&["ra"]).unwrap()).await.unwrap();
        lacking.push(missing.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert!(adapter.rights(&["../x"]).is_err());
    }
    assert_eq!(
        lacking,
        [
            &[][..],
            &[
                "path \"pki/issuer/+/sign-verbatim\" { capabilities = [\"update\"] }",
                "path \"pki/issuer/+/sign/ra\" { capabilities = [\"update\"] }",
                "path \"pki/certs\" { capabilities = [\"list\"] }",
            ][..],
        ]
    );
    // Nobody's token does not get that far.
    let nobody = Authentication::Token(Secret::new("nobody".into()));
    let adapter = ca(settings(server.address(), SignBy::Verbatim(None), nobody), &chain);
    assert!(adapter.missing(adapter.rights(&[]).unwrap()).await.is_err());
}

pub(crate) async fn a_list_that_has_ended_shows_in_the_health() {
    let home = temporary();
    let server = Server::start(home.path());
    let with = settings(server.address(), SignBy::Verbatim(None), root_token());
    let adapter = ca(with, &chain(&server).await);
    let at = |when: Timestamp| CrlOrder::new(&[], 1, when, Duration::from_secs(86_400));
    adapter.crl(&at(now())).await.unwrap();
    assert_eq!(trouble(&adapter), None);
    // It ends after three days, unless it is told to make a new one.
    let later = now().plus(Duration::from_secs(100 * 86_400));
    assert!(adapter.crl(&at(later)).await.is_err());
    assert!(trouble(&adapter).unwrap().contains("auto_rebuild"), "{:?}", trouble(&adapter));
    adapter.connect().await.unwrap();
    assert!(trouble(&adapter).is_some());
    adapter.crl(&at(now())).await.unwrap();
    assert_eq!(trouble(&adapter), None);
}
