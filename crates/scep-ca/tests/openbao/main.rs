//! The OpenBao adapter with the real server.
//!
//! A harness of its own: where the server's program is missing every test is listed as ignored; where the environment
//! variable `CI` is `true` it fails instead.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests: what does not fit is a failed test"
)]

mod trouble;

use core::time::Duration;
use libtest_mimic::Arguments;
use scep_ca::{
    Authentication, CaError, CertificateAuthority as _, OpenBao, OpenBaoSettings, Revocation,
    SecretId, SignBy,
};
use scep_challenge::{ChallengeClaims, SID_EXTENSION, Sid};
use scep_keys::{AwsLc, read_certificates};
use scep_ledger::RevocationReason;
use scep_testkit::House;
use scep_testkit::conformance::{Line, SID_DOMAIN, Subject, run};
use scep_testkit::process::openbao::{OpenBao as Server, ROOT_TOKEN, program};
use scep_testkit::process::{free_address, peers, temporary, wait_for};
use scep_types::{CertificateDer, ObjectIdentifier, Secret, SerialNumber, Timestamp};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::SystemTime;

const SUBJECT_ALT_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.17");

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    Timestamp::from_seconds(since.as_secs().try_into().unwrap())
}

fn root_token() -> Authentication {
    Authentication::Token(Secret::new(ROOT_TOKEN.to_owned()))
}

/// Short times, as everything is on this machine.
fn settings(address: SocketAddr, sign_by: SignBy, by: Authentication) -> OpenBaoSettings {
    OpenBaoSettings {
        timeout: Duration::from_secs(3),
        retry_for: Duration::from_millis(300),
        grace: Duration::from_secs(4),
        ..OpenBaoSettings::new(format!("http://{address}"), sign_by, by)
    }
}

async fn chain(server: &Server) -> Vec<CertificateDer> {
    let settings = settings(server.address(), SignBy::Verbatim(None), root_token());
    OpenBao::fetch_chain(settings, Arc::new(AwsLc)).await.unwrap()
}

fn ca(settings: OpenBaoSettings, chain: &[CertificateDer]) -> OpenBao {
    OpenBao::new(settings, chain.to_vec(), Arc::new(AwsLc)).unwrap()
}

/// A role that gives exactly what the house's claims say.
fn honest_role(server: &Server) -> SignBy {
    server.bao(&[
        "write",
        "pki/roles/scep",
        "allow_any_name=true",
        "enforce_hostnames=false",
        "cn_validations=disabled",
        "allowed_other_sans=1.3.6.1.4.1.311.20.2.3;UTF8:*",
        "key_type=any",
        "max_ttl=87600h",
        "key_usage=DigitalSignature,KeyEncipherment",
        "server_flag=false",
        "client_flag=false",
        "ext_key_usage=ClientAuth",
        "country=CH",
        "organization=Example",
    ]);
    SignBy::Role("scep".into())
}

/// The whole suite, over a line that fails on command.
async fn conforms(sign_by: SignBy, server: &Server) {
    server.bao(&["write", "pki/roles/small", "allow_any_name=false", "key_type=any"]);
    server.bao(&[
        "write",
        "pki/roles/other",
        "allow_any_name=true",
        "enforce_hostnames=false",
        "cn_validations=disabled",
        "allowed_other_sans=*",
        "key_type=any",
        "max_ttl=87600h",
        "organization=Another",
    ]);
    let chain = chain(server).await;
    let line = Line::to(server.address());
    let by = |address, sign_by| Arc::new(ca(settings(address, sign_by, root_token()), &chain));
    let role = |name: &str| SignBy::Role(name.into());
    let subject = Subject {
        away: Some(by(free_address(), sign_by.clone())),
        refusing: Some(by(server.address(), role("small"))),
        altering: Some(by(server.address(), role("other"))),
        ..Subject::new(by(line.address(), sign_by), now())
    };
    let subject = Subject { line: Some(line), ..subject };
    assert_eq!(run(&subject).await.len(), 9);
}

async fn sign_verbatim_conforms() {
    let home = temporary();
    conforms(SignBy::Verbatim(None), &Server::start(home.path())).await;
}

async fn sign_with_a_role_conforms() {
    let home = temporary();
    let server = Server::start(home.path());
    let role = honest_role(&server);
    conforms(role, &server).await;
}

/// Rights for the adapter and for nothing else, as its documentation gives them.
const POLICY: &str = r#"
path "pki/issuer/+/sign-verbatim" { capabilities = ["update"] }
path "pki/revoke" { capabilities = ["update"] }
path "pki/certs" { capabilities = ["list"] }
"#;

async fn an_approle_logs_in_again_when_its_token_has_ended() {
    let home = temporary();
    let server = Server::start(home.path());
    let policy = home.path().join("policy.hcl");
    std::fs::write(&policy, POLICY).unwrap();
    server.bao(&["policy", "write", "scep", policy.to_str().unwrap()]);
    server.bao(&["auth", "enable", "approle"]);
    server.bao(&[
        "write",
        "auth/approle/role/gateway",
        "token_policies=scep",
        "token_ttl=2s",
        "token_max_ttl=4s",
    ]);
    let role_id = server.field("read", "role_id", &["auth/approle/role/gateway/role-id"]);
    let secret_id =
        server.field("write", "secret_id", &["-f", "auth/approle/role/gateway/secret-id"]);
    let file = home.path().join("secret-id");
    std::fs::write(&file, format!("{secret_id}\n")).unwrap();
    let chain = chain(&server).await;
    let login = |secret_id| Authentication::AppRole {
        mount: "approle".into(),
        role_id: role_id.clone(),
        secret_id,
    };
    let with = |by| ca(settings(server.address(), SignBy::Verbatim(None), by), &chain);
    let adapter = Arc::new(with(login(SecretId::File(file))));
    let subject = Subject::new(adapter.clone(), now());
    assert_eq!(run(&subject).await.len(), 3);
    // Longer than any token of this role lives: renewed twice at most, then made anew.
    let end = SystemTime::now() + Duration::from_secs(5);
    wait_for("the end of every token so far", || (SystemTime::now() > end).then_some(()));
    assert_eq!(run(&subject).await.len(), 3);
    // And one that is revoked before its time is replaced within the call.
    server.bao(&["token", "revoke", "-mode=path", "auth/approle"]);
    assert_eq!(run(&subject).await.len(), 3);

    let wrong = with(login(SecretId::Value(Secret::new("wrong".into()))));
    assert!(wrong.connect().await.is_err());
}

async fn a_token_file_is_read_again_when_an_agent_replaces_it() {
    let home = temporary();
    let server = Server::start(home.path());
    let file = home.path().join("token");
    let create = || {
        let made = server.bao(&["token", "create", "-field=token", "-policy=root", "-ttl=1h"]);
        made.trim().to_owned()
    };
    let first = create();
    std::fs::write(&file, format!("{first}\n")).unwrap();
    let by = Authentication::TokenFile(file.clone());
    let adapter = ca(settings(server.address(), SignBy::Verbatim(None), by), &chain(&server).await);
    let subject = Subject::new(Arc::new(adapter), now());
    run(&subject).await;
    let second = create();
    server.bao(&["token", "revoke", &first]);
    std::fs::write(&file, second).unwrap();
    run(&subject).await;
}

async fn attack_54_an_engine_with_another_issuer_is_asked_for_nothing() {
    let home = temporary();
    let server = Server::start(home.path());
    let good = chain(&server).await;
    server.bao(&["write", "pki/issuer/default", "issuer_name=first"]);
    // The engine's default is another one from now on.
    server.bao(&[
        "write",
        "pki/root/generate/internal",
        "common_name=Another Root",
        "issuer_name=another",
        "ttl=87600h",
        "key_type=ec",
    ]);
    server.bao(&["write", "pki/config/issuers", "default=another"]);
    let adapter = ca(settings(server.address(), SignBy::Verbatim(None), root_token()), &good);
    assert_eq!(adapter.connect().await, Err(CaError::NotIssuedHere));
    let subject = Subject::new(
        Arc::new(ca(
            settings(server.address(), SignBy::Verbatim(None), root_token()),
            &chain(&server).await,
        )),
        now(),
    );
    run(&subject).await;
    // One that was connected before goes on with its own issuer.
    server.bao(&["write", "pki/config/issuers", "default=first"]);
    run(&subject).await;
}

async fn what_was_never_issued_is_not_revoked() {
    let home = temporary();
    let server = Server::start(home.path());
    let chain = chain(&server).await;
    let adapter = ca(settings(server.address(), SignBy::Verbatim(None), root_token()), &chain);
    let serial = SerialNumber::from_content(&[1, 2, 3]).unwrap();
    let what = Revocation { serial: &serial, reason: RevocationReason::Superseded, now: now() };
    let refused = adapter.revoke(&what).await.unwrap_err();
    assert!(matches!(refused, CaError::Refused { .. }), "{refused}");
    // Without rights it is a matter for the operator, and asked again.
    let nobody = Authentication::Token(Secret::new("nobody".into()));
    let adapter = ca(settings(server.address(), SignBy::Verbatim(None), nobody), &chain);
    let error = adapter.revoke(&what).await.unwrap_err();
    assert!(matches!(error, CaError::Unavailable { .. }), "{error}");
    assert!(!format!("{adapter:?}").contains("nobody"), "a token in a log");
}

async fn a_server_is_known_by_the_roots_of_the_settings_alone() {
    let home = temporary();
    let server = Server::start_tls(home.path());
    let roots = read_certificates(&server.tls_root()).unwrap();
    let with = |tls_roots| OpenBaoSettings {
        tls_roots,
        address: server.url(),
        ..settings(server.address(), SignBy::Verbatim(None), root_token())
    };
    let provider = || Arc::new(AwsLc);
    let chain = OpenBao::fetch_chain(with(roots.clone()), provider()).await.unwrap();
    run(&Subject::new(Arc::new(ca(with(roots.clone()), &chain)), now())).await;
    // By another root: nobody is asked for anything.
    let other = with(chain.clone());
    let error = OpenBao::fetch_chain(other, provider()).await.unwrap_err();
    assert!(matches!(error, CaError::Unavailable { .. }), "{error}");
    let subject = Subject {
        away: Some(Arc::new(ca(with(chain.clone()), &chain))),
        ..Subject::new(Arc::new(House::new().ca), now())
    };
    assert!(run(&subject).await.contains(&"away"));
    // A key tells who the server is by itself, whatever its certificate says, and beside the roots.
    let key = read_certificates(&server.tls_certificate()).unwrap()[0].spki().hash();
    let other = chain[0].spki().hash();
    let pinned = |tls_roots: &[CertificateDer], tls_pins| OpenBaoSettings {
        tls_pins,
        ..with(tls_roots.to_vec())
    };
    run(&Subject::new(Arc::new(ca(pinned(&[], vec![other, key]), &chain)), now())).await;
    run(&Subject::new(Arc::new(ca(pinned(&roots, vec![key]), &chain)), now())).await;
    for (roots, pins, why) in [
        (&[][..], vec![other], format!("the server's TLS key is {key}, certified by ")),
        (&roots, vec![other], format!("and pinned is {other}")),
        (&chain, vec![key], "UnknownIssuer".to_owned()),
    ] {
        let refused = OpenBao::fetch_chain(pinned(roots, pins.clone()), provider()).await;
        let error = refused.unwrap_err().to_string();
        assert!(error.contains(&why), "{error}");
        // In the handshake: certainly nothing was asked for.
        let subject = Subject {
            away: Some(Arc::new(ca(pinned(roots, pins), &chain))),
            ..Subject::new(Arc::new(House::new().ca), now())
        };
        assert!(run(&subject).await.contains(&"away"));
    }
    // And a token goes over plain HTTP to this machine only.
    let plain = OpenBaoSettings::new("http://192.0.2.1:8200", SignBy::Verbatim(None), root_token());
    let refused = OpenBao::new(plain, chain.clone(), provider()).unwrap_err();
    assert!(matches!(refused, CaError::Setting { what: "address", .. }), "{refused}");
    let plain =
        OpenBaoSettings { address: "http://127.0.0.1:8200".into(), ..pinned(&[], vec![key]) };
    let refused = OpenBao::new(plain, chain, provider()).unwrap_err();
    assert!(matches!(refused, CaError::Setting { what: "address", .. }), "{refused}");
}

async fn an_engine_in_a_namespace_is_used_there() {
    let home = temporary();
    let server = Server::start(home.path());
    server.bao(&["namespace", "create", "team"]);
    server.bao(&["secrets", "enable", "-namespace=team", "-path=certs/pki", "pki"]);
    server.bao(&["secrets", "tune", "-namespace=team", "-max-lease-ttl=87600h", "certs/pki"]);
    server.bao(&[
        "write",
        "-namespace=team",
        "certs/pki/root/generate/internal",
        "common_name=Team Root",
        "issuer_name=team",
        "ttl=87600h",
        "key_type=rsa",
    ]);
    let there = || OpenBaoSettings {
        namespace: Some("team".into()),
        mount: "certs/pki".into(),
        issuer: "team".into(),
        ..settings(server.address(), SignBy::Verbatim(None), root_token())
    };
    let chain = OpenBao::fetch_chain(there(), Arc::new(AwsLc)).await.unwrap();
    assert_ne!(chain, self::chain(&server).await);
    run(&Subject::new(Arc::new(ca(there(), &chain)), now())).await;
}

/// A SID in both forms, beside the house's usual claims.
fn with_sid(claims: &mut ChallengeClaims) {
    let sid: Sid = format!("{SID_DOMAIN}-1105").parse().unwrap();
    claims.expectation.subject_alt_names.push(sid.to_uri().unwrap());
    claims.expectation.extensions.push(sid.to_extension());
}

async fn a_sid_comes_out_exactly_by_sign_verbatim_and_not_at_all_by_a_role() {
    let home = temporary();
    let server = Server::start(home.path());
    let role = honest_role(&server);
    let chain = chain(&server).await;
    let by = |sign_by| Arc::new(ca(settings(server.address(), sign_by, root_token()), &chain));
    let subject = Subject { claims: with_sid, ..Subject::new(by(SignBy::Verbatim(None)), now()) };
    run(&subject).await;
    // As the engine itself has them: the suite has compared them with what was approved.
    let sid: Sid = format!("{SID_DOMAIN}-1105").parse().unwrap();
    let serials: Vec<String> =
        serde_json::from_str(&server.bao(&["list", "-format=json", "pki/certs"])).unwrap();
    let mut with = 0;
    for serial in &serials {
        let text = server.field("read", "certificate", &[&format!("pki/cert/{serial}")]);
        let file = home.path().join("certificate.pem");
        std::fs::write(&file, format!("{text}\n")).unwrap();
        let certificate = &read_certificates(&file).unwrap()[0];
        // The engine's root has none.
        if certificate.extension(&SID_EXTENSION) == Some(&sid.to_extension().value[..]) {
            with += 1;
            let names = certificate.extension(&SUBJECT_ALT_NAME).unwrap();
            let uri = sid.to_uri().unwrap().to_der();
            assert!(names.windows(uri.len()).any(|part| part == uri), "{text}");
        }
    }
    assert_eq!((with, serials.len()), (5, 6));
    // A role has no way to say it: refused before the engine is asked.
    let subject = Subject {
        claims: with_sid,
        refusing: Some(by(role)),
        ..Subject::new(by(SignBy::Verbatim(None)), now())
    };
    assert!(run(&subject).await.contains(&"refuses"));
    let now_there: Vec<String> =
        serde_json::from_str(&server.bao(&["list", "-format=json", "pki/certs"])).unwrap();
    assert_eq!(now_there.len(), 11, "the role has signed something");
}

macro_rules! trials {
    ($($name:path),* $(,)?) => {
        [$((stringify!($name), (|| {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on($name());
        }) as fn())),*]
    };
}

fn main() -> ExitCode {
    let trials = trials![
        sign_verbatim_conforms,
        sign_with_a_role_conforms,
        an_approle_logs_in_again_when_its_token_has_ended,
        a_token_file_is_read_again_when_an_agent_replaces_it,
        attack_54_an_engine_with_another_issuer_is_asked_for_nothing,
        what_was_never_issued_is_not_revoked,
        a_server_is_known_by_the_roots_of_the_settings_alone,
        an_engine_in_a_namespace_is_used_there,
        a_sid_comes_out_exactly_by_sign_verbatim_and_not_at_all_by_a_role,
        trouble::a_call_that_was_never_made_is_made_when_the_server_appears,
        trouble::a_sealed_or_restarted_server_is_asked_for_nothing_until_it_works,
        trouble::a_server_with_too_much_to_do_is_asked_again,
        trouble::a_revoked_token_and_missing_rights_show_in_the_health,
        trouble::an_adapter_says_which_rights_its_token_lacks,
        trouble::a_list_that_has_ended_shows_in_the_health,
    ];
    let trials =
        trials.map(|(name, test)| peers::trial(name, &[peers::Peer::file(program())], test));
    libtest_mimic::run(&Arguments::from_args(), trials.into()).exit_code()
}
