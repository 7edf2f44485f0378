//! Answers to a check-in that are not the issuer's word to this very request: refused, and nothing of them is done.

use crate::gateway::{Gateway, eventually};
use crate::issuer::{Asked, Book, DAY, Issuer, NOW, Reply, key, tenant, trusted};
use scep_ledger::Ledger;
use scep_link::*;
use scep_types::{
    CertificateFingerprint, CheckInNonce, ConnectorId, DeviceId, NameHash, OrderId, SerialNumber,
    TenantId,
};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;

/// Everything that an answer can command.
fn everything(book: &mut Book, request: &CheckInRequest) -> Commands {
    let mut commands = book.commands(request);
    commands.signer_keys.add.push(trusted(&key()));
    commands.command_keys.add.push(trusted(&key()));
    let device = DenialSubject::Device(DeviceId::new("device-1").unwrap());
    let (from, to) = (request.denial_cursor, request.denial_cursor + 1);
    commands.denials =
        DenialChanges { from, to, added: vec![device], removed: vec![], complete: true };
    commands.revocations.push(RevocationOrder {
        order: OrderId::from_bytes([1; 16]),
        issuer: NameHash::of(b"issuer"),
        serial: SerialNumber::from_random([2; 16]),
        reason: RevocationReason::KeyCompromise,
    });
    commands.renewals.push(RenewalOrder {
        order: OrderId::from_bytes([3; 16]),
        subject: RenewalSubject::Authentication,
        by: NOW.plus(DAY),
    });
    commands.log_level = Some(LogLevel::Debug);
    commands.ledger = LedgerBinding::Another;
    commands
}

fn sealed(book: &mut Book, request: &CheckInRequest, change: impl FnOnce(&mut Commands)) -> Reply {
    let mut commands = everything(book, request);
    change(&mut commands);
    book.seal(&commands)
}

/// What an answer could have changed.
async fn traces(gateway: &Gateway) -> impl PartialEq + std::fmt::Debug + use<> {
    let state = gateway.state();
    let ledger: &Ledger = &gateway.ledger;
    let made = gateway.keys.made.lock().unwrap().len();
    let levels = gateway.host.log_levels.lock().unwrap().len();
    let denials = ledger.denials().await.unwrap();
    (
        (state.trust, state.command_keys, state.authentication, state.last_sequence),
        (state.denial_cursor, state.another_ledger, state.last_heard),
        (made, levels, denials),
        gateway.host.trusts.lock().unwrap().len(),
    )
}

/// Answers each check-in so until `refused` is what the connector says of it, and sees that nothing came of it.
async fn refused(
    expected: Option<CommandReason>,
    trouble: &str,
    mut answer: impl FnMut(&mut Book, &CheckInRequest) -> Reply + Send + 'static,
) {
    let issuer = Issuer::start().await;
    let mut gateway = Gateway::enrolled(&issuer).await;
    gateway.start();
    eventually("an accepted check-in", || (gateway.state().last_sequence > 40).then_some(())).await;
    // Every honest answer that is on its way has arrived once the first false one is asked for.
    let asked = Arc::new(Mutex::new(0));
    let count = Arc::clone(&asked);
    let before = Arc::new(Mutex::new(None));
    let path = gateway.state_file();
    let note = Arc::clone(&before);
    issuer.twist(move |book, asked| {
        let request = asked.check_in()?;
        *count.lock().unwrap() += 1;
        note.lock().unwrap().get_or_insert_with(|| path.read().unwrap().unwrap().last_sequence);
        Some(answer(book, &request))
    });
    eventually("a false answer", || (*asked.lock().unwrap() > 0).then_some(())).await;
    let traced = traces(&gateway).await;
    eventually("trouble", || gateway.trouble().filter(|said| said.contains(trouble))).await;
    eventually("two more false answers", || (*asked.lock().unwrap() > 2).then_some(())).await;
    assert_eq!(Some(gateway.state().last_sequence), *before.lock().unwrap());
    assert_eq!(traces(&gateway).await, traced, "something was done");
    {
        let book = issuer.book();
        assert!(book.results.is_empty(), "an order was followed");
        let said: Vec<_> = book.check_ins().iter().map(|request| request.refused).collect();
        assert!(said.contains(&expected), "{said:?}");
    }
    // The next honest answer is taken.
    issuer.honest();
    eventually("no trouble", || gateway.trouble().is_none().then_some(())).await;
    assert!(gateway.state().last_sequence > before.lock().unwrap().unwrap());
}

/// Refused by what was signed.
async fn refused_as(
    reason: CommandReason,
    answer: impl FnMut(&mut Book, &CheckInRequest) -> Reply + Send + 'static,
) {
    refused(Some(reason), "the answer to the check-in was refused", answer).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_55_an_answer_by_another_key_is_refused() {
    let other = key();
    refused_as(CommandReason::CommandSignerNotTrusted, move |book, request| {
        let commands = everything(book, request);
        Reply::cms(seal_commands(&commands, &*other.signer()).unwrap())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_55_an_answer_by_the_key_that_signs_challenges_is_refused() {
    refused_as(CommandReason::CommandSignerNotTrusted, |book, request| {
        let commands = everything(book, request);
        Reply::cms(seal_commands(&commands, &*book.signer.signer()).unwrap())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_55_an_answer_by_a_command_key_out_of_its_time_is_refused() {
    let issuer = Issuer::start().await;
    let mut gateway = Gateway::enrolled(&issuer).await;
    let late = NOW.plus(366 * DAY);
    gateway.clock.set(late);
    issuer.says(|book| book.now = late);
    gateway.start();
    eventually("the refusal", || {
        let said = issuer.book().check_ins().last().and_then(|request| request.refused);
        (said == Some(CommandReason::CommandSignerNotTrusted)).then_some(())
    })
    .await;
    assert_eq!(gateway.state().last_sequence, 40);
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_55_an_altered_answer_is_refused() {
    refused_as(CommandReason::CommandSignatureInvalid, |book, request| {
        let mut reply = sealed(book, request, |_| ());
        let word = b"device-1";
        let at = reply.body.windows(word.len()).position(|part| part == word).unwrap();
        reply.body[at + 7] = b'2';
        reply
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_55_an_answer_to_an_earlier_request_is_refused() {
    let mut first = None;
    refused_as(CommandReason::CommandsReplayed, move |book, request| {
        // The first is to another request already; the later ones are that one again.
        let nonce = CheckInNonce::from_bytes([9; 16]);
        let reply = sealed(book, request, |commands| commands.nonce = nonce);
        first.get_or_insert(reply).clone()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_55_an_older_answer_is_refused() {
    refused_as(CommandReason::CommandsReplayed, |book, request| {
        sealed(book, request, |commands| commands.sequence = request.last_sequence)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_55_an_answer_for_another_tenant_is_refused() {
    refused_as(CommandReason::CommandsForAnother, |book, request| {
        sealed(book, request, |commands| commands.tenant = TenantId::new("fabrikam").unwrap())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_55_an_answer_for_another_gateway_is_refused() {
    refused_as(CommandReason::CommandsForAnother, |book, request| {
        sealed(book, request, |commands| commands.connector = ConnectorId::from_bytes([8; 16]))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_55_an_expired_answer_is_refused() {
    refused_as(CommandReason::CommandsExpired, |book, request| {
        sealed(book, request, |commands| {
            commands.issued_at = NOW.minus(Duration::from_secs(900));
            commands.expires_at = NOW.minus(Duration::from_secs(301));
        })
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_19_an_expired_answer_stays_so_when_the_clock_is_set_back() {
    let issuer = Issuer::start().await;
    let mut gateway = Gateway::enrolled(&issuer).await;
    // The gateway has seen a later time; then its clock is set back to the answer's.
    gateway.ledger.effective_now(NOW.plus(DAY)).await.unwrap();
    gateway.clock.set(NOW);
    gateway.start();
    eventually("the refusal", || {
        let said = issuer.book().check_ins().last().and_then(|request| request.refused);
        (said == Some(CommandReason::CommandsExpired)).then_some(())
    })
    .await;
    assert_eq!(gateway.state().last_sequence, 40);
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_55_an_answer_of_the_future_is_refused() {
    refused_as(CommandReason::CommandsInvalidTimestamp, |book, request| {
        sealed(book, request, |commands| {
            commands.issued_at = NOW.plus(Duration::from_secs(301));
            commands.expires_at = NOW.plus(Duration::from_secs(600));
        })
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_55_a_statement_that_is_no_command_is_refused() {
    refused_as(CommandReason::CommandsMalformed, |_, _| Reply::cms(b"{\"v\":1}".to_vec())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_59_an_answer_without_end_is_cut_off() {
    refused(None, "the answer is longer than 1048576 octets", |_, _| {
        Reply::cms(vec![0x30; 2 << 20])
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_58_commands_without_a_signature_are_refused() {
    refused(None, "another media type", |book, request| {
        Reply::json(write(&everything(book, request)).unwrap())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_58_signed_commands_under_another_media_type_are_refused() {
    refused(None, "another media type", |book, request| Reply {
        media_type: "application/octet-stream".to_owned(),
        ..sealed(book, request, |_| ())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_58_signed_commands_under_another_status_are_refused() {
    let mut statuses = [201, 202, 204, 400, 500].into_iter().cycle();
    refused(None, "the answer has status", move |book, request| Reply {
        status: statuses.next().unwrap(),
        ..sealed(book, request, |_| ())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_58_a_code_that_is_not_known_is_no_success() {
    refused(None, "a code that is not known", |_, _| {
        let body = br#"{"type":"about:blank","status":200,"code":"Granted"}"#;
        Reply::new("application/problem+json", body.to_vec())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_57_a_redirect_is_not_followed() {
    let elsewhere = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = format!("https://{}/connector/v1/check-in", elsewhere.local_addr().unwrap());
    let visited = tokio::spawn(async move {
        let _ = elsewhere.accept().await;
    });
    let mut statuses = [301, 302, 303, 307, 308].into_iter().cycle();
    refused(None, "the answer has status 30", move |book, request| Reply {
        status: statuses.next().unwrap(),
        headers: vec![("location", target.clone())],
        ..sealed(book, request, |_| ())
    })
    .await;
    assert!(!visited.is_finished(), "the connector went where it was sent");
    visited.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_55_a_command_key_never_becomes_a_signer_of_challenges() {
    let issuer = Issuer::start().await;
    let mut gateway = Gateway::enrolled(&issuer).await;
    let second = key();
    issuer.says(|book| book.command_keys.add.push(trusted(&second)));
    gateway.start();
    eventually("the second command key", || {
        (gateway.state().command_keys.len() == 2).then_some(())
    })
    .await;
    issuer.says(|book| {
        book.command_keys = KeyChanges::default();
        book.signer_keys.add.push(trusted(&second));
    });
    eventually("the refusal", || {
        let said = issuer.book().check_ins().last().and_then(|request| request.refused);
        (said == Some(CommandReason::CommandKeyShared)).then_some(())
    })
    .await;
    assert_eq!(gateway.state().trust.signers.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_25_no_key_of_the_issuer_is_one_of_ours() {
    let issuer = Issuer::start().await;
    let mut gateway = Gateway::enrolled(&issuer).await;
    let ca = key();
    gateway.host.own.lock().unwrap().push(("the CA's".into(), ca.public_key().clone()));
    issuer.says(|book| {
        book.signer_keys.add.extend([trusted(&key()), trusted(&ca)]);
    });
    gateway.start();
    let said = eventually("trouble", || gateway.trouble()).await;
    assert!(said.contains("the CA's key"), "{said}");
    let state = gateway.state();
    assert_eq!(state.trust.signers, [trusted(&issuer.book().signer)], "all or nothing");
    assert!(state.last_sequence > 40, "the answer itself was heard");
    gateway.stop().await;
    // What is in the state already is looked at when it is opened.
    let signer = issuer.book().signer.clone();
    gateway.host.own.lock().unwrap().push(("the RA's".into(), signer.public_key().clone()));
    let error = gateway.open().unwrap_err().to_string();
    assert!(error.contains("the RA's key"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn signer_and_command_keys_are_rotated_before_the_host_uses_them() {
    let issuer = Issuer::start().await;
    let mut gateway = Gateway::enrolled(&issuer).await;
    gateway.start();
    let (signer, command) = (key(), key());
    issuer.says(|book| {
        book.signer_keys.add.push(trusted(&signer));
        book.command_keys.add.push(trusted(&command));
    });
    eventually("the new keys", || {
        let trusts = gateway.host.trusts.lock().unwrap();
        trusts.last().is_some_and(|trust| trust.signers.len() == 2).then_some(())
    })
    .await;
    assert_eq!(gateway.connector().trust(), gateway.state().trust);
    issuer.says(|book| {
        let old = core::mem::replace(&mut book.command, command.clone());
        book.command_keys = KeyChanges { add: vec![], retire: vec![old.public_key().key_id()] };
        let old = book.signer.public_key().key_id();
        book.signer_keys = KeyChanges { add: vec![], retire: vec![old] };
    });
    eventually("the old keys' end", || {
        let state = gateway.state();
        (state.command_keys == [trusted(&command)] && state.trust.signers == [trusted(&signer)])
            .then_some(())
    })
    .await;
    assert_eq!(gateway.host.trusts.lock().unwrap().last(), Some(&gateway.state().trust));
    assert_eq!(gateway.trouble(), None);
    let durable = gateway.host.durable.lock().unwrap().clone();
    assert!(durable.len() >= 2 && durable.iter().all(|kept| *kept), "used before it was durable");
    // The last command key cannot be taken away.
    issuer.says(|book| {
        book.command_keys = KeyChanges { add: vec![], retire: vec![command.public_key().key_id()] };
    });
    let said = eventually("trouble", || gateway.trouble()).await;
    assert!(said.contains("no command key would be left"), "{said}");
    assert_eq!(gateway.state().command_keys, [trusted(&command)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_26_a_stolen_signer_goes_although_it_is_the_last_and_its_successor_is_no_good() {
    let issuer = Issuer::start().await;
    let mut gateway = Gateway::enrolled(&issuer).await;
    let ca = key();
    gateway.host.own.lock().unwrap().push(("the CA's".into(), ca.public_key().clone()));
    gateway.start();
    issuer.says(|book| {
        let retire = vec![book.signer.public_key().key_id()];
        book.signer_keys = KeyChanges { add: vec![trusted(&ca)], retire };
    });
    let said = eventually("trouble", || gateway.trouble()).await;
    assert!(said.contains("the CA's key"), "{said}");
    assert_eq!(gateway.state().trust.signers, []);
    assert_eq!(gateway.host.trusts.lock().unwrap().last().unwrap().signers, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_objects_to_a_trust_is_asked_again() {
    let issuer = Issuer::start().await;
    let mut gateway = Gateway::enrolled(&issuer).await;
    gateway.start();
    eventually("a check-in", || (gateway.state().last_sequence > 40).then_some(())).await;
    *gateway.host.objects.lock().unwrap() = true;
    let proven = issuer.book().proven.clone();
    issuer.says(|book| {
        book.signer_keys.add.push(trusted(&key()));
        book.renewals.push(RenewalOrder {
            order: OrderId::from_bytes([1; 16]),
            subject: RenewalSubject::Decryption,
            by: NOW.plus(DAY),
        });
    });
    eventually("the new decryption key", || {
        (gateway.state().trust.decryption.len() == 2).then_some(())
    })
    .await;
    issuer.says(|book| book.signer_keys = KeyChanges::default());
    let checked = issuer.book().check_ins().len();
    eventually("more check-ins", || (issuer.book().check_ins().len() > checked + 2).then_some(()))
        .await;
    let said = gateway.trouble().unwrap();
    assert!(said.contains("trust: the gateway objects"), "{said}");
    assert_eq!(issuer.book().proven, proven, "challenges would come that the gateway cannot open");
    *gateway.host.objects.lock().unwrap() = false;
    eventually("no trouble", || gateway.trouble().is_none().then_some(())).await;
    eventually("the proof", || (issuer.book().proven.len() > proven.len()).then_some(())).await;
    let trusts = gateway.host.trusts.lock().unwrap();
    assert!(trusts.iter().any(|trust| trust.signers.len() == 2 && trust.decryption.len() == 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_level_is_told_when_it_changes() {
    let issuer = Issuer::start().await;
    let mut gateway = Gateway::enrolled(&issuer).await;
    gateway.start();
    let told = |count: usize| {
        let levels = gateway.host.log_levels.lock().unwrap();
        (levels.len() >= count).then(|| levels.clone())
    };
    eventually("the first", || told(1)).await;
    issuer.says(|book| book.log_level = Some(LogLevel::Debug));
    eventually("the second", || told(2)).await;
    let asked = issuer.book().check_ins().len();
    issuer.says(|_| ());
    eventually("more check-ins", || (issuer.book().check_ins().len() > asked + 1).then_some(()))
        .await;
    issuer.says(|book| book.log_level = None);
    let levels = eventually("the third", || told(3)).await;
    assert_eq!(levels, [None, Some(LogLevel::Debug), None]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_in_tells_of_the_gateway() {
    let issuer = Issuer::start().await;
    let mut gateway = Gateway::enrolled(&issuer).await;
    let ra = CertificateExpiry {
        purpose: CertificatePurpose::Ra,
        thumbprint_sha256: CertificateFingerprint::from_bytes([5; 32]),
        not_after: NOW.plus(DAY),
    };
    gateway.host.certificates.lock().unwrap().push(ra.clone());
    // Nobody takes them, so they can be counted.
    issuer.twist(|_, asked: &Asked| {
        (asked.path == "/connector/v1/reports").then(|| Reply::problem(ErrorCode::Unavailable))
    });
    gateway.event(1).await;
    gateway.event(2).await;
    gateway.start();
    let request = eventually("a check-in", || issuer.book().check_ins().first().cloned()).await;
    assert_eq!((request.queue_depth, request.outbox_high_mark), (2, 2));
    assert_eq!(request.health, Health::Serving);
    assert_eq!(request.ledger, gateway.ledger.id());
    let own = &request.certificates[0];
    assert_eq!(own.purpose, CertificatePurpose::Connector);
    assert_eq!(own.thumbprint_sha256, gateway.connector().status().certificate.fingerprint());
    assert_eq!(request.certificates[1..], [ra]);
    let nonces: Vec<_> = eventually("three check-ins", || {
        let all = issuer.book().check_ins();
        (all.len() >= 3).then(|| all.iter().map(|request| request.nonce).collect())
    })
    .await;
    assert!(nonces[0] != nonces[1] && nonces[1] != nonces[2], "a nonce came twice");
    assert_eq!(request.connector, gateway.state().connector);
    assert_eq!(gateway.state().tenant, tenant());
}
