//! What gateway and issuer exchange: every message out of any octets, with every signature valid; what is read is
//! written and read to the same.
#![no_main]

use core::time::Duration;
use libfuzzer_sys::fuzz_target;
use scep_link::{
    Acknowledgement, Answer, Body, CheckInRequest, CommandVerifier, Commands, EnrolRequest,
    EnrolResponse, Message, Problem, ProvenRenewal, RenewRequest, RenewResponse, Renewed,
    ReportBatch, RevocationRecorded, RevocationResults, TrustedKey, accept, prove, read,
    seal_commands, write,
};
use scep_testkit::house::OPENS;
use scep_testkit::{House, NoOpDecryption, NoOpProvider, NoOpSigner, TestKey};
use scep_types::CheckInNonce;

fuzz_target!(|data: &[u8]| {
    message::<EnrolRequest>(data);
    message::<CheckInRequest>(data);
    message::<ReportBatch>(data);
    message::<RevocationResults>(data);
    answer::<Acknowledgement>(data);
    answer::<RevocationRecorded>(data);
    answer::<EnrolResponse>(data);
    if let Some(problem) = Problem::read(data) {
        assert_eq!(Problem::read(&problem.write()), Some(problem));
    }
    if let Some(body) = core::str::from_utf8(data).ok().and_then(|text| Body::parse(text).ok()) {
        // A number with more digits than a float has may come back as its neighbour.
        let again = Body::parse(&body.to_json()).expect("what was written is read");
        assert!(again.facts().keys().eq(body.facts().keys()));
    }
    if let Some(request) = message::<RenewRequest>(data) {
        renewal(request);
    }
    if let Some(response) = answer::<RenewResponse>(data) {
        possession(&response);
    }
    if let Some(told) = message::<Commands>(data) {
        commands(&told);
    }
    signed(data);
});

fn message<M: Message>(data: &[u8]) -> Option<M> {
    let message: M = read(data).ok()?;
    // Some values are written longer than they may be read.
    if let Ok(written) = write(&message) {
        let again: M = read(&written).expect("what was written is read");
        assert_eq!(write(&again).as_deref(), Ok(&written[..]));
    }
    Some(message)
}

fn answer<A: Answer>(data: &[u8]) -> Option<A> {
    let accepted = accept::<A>(200, "application/json", data).ok();
    let message = message::<A>(data);
    assert_eq!(accepted.is_some(), message.is_some(), "a success is a message with Success");
    accepted
}

fn renewal(request: RenewRequest) {
    let connector = request.connector;
    let present = TestKey::P256D.public_key();
    let _ =
        ProvenRenewal::check(request, &House::tenant(), connector, &present, OPENS, &NoOpProvider);
}

fn possession(response: &RenewResponse) {
    if let Renewed::Decryption { possession_challenge, .. } = &response.renewed {
        for key in [TestKey::P256C, TestKey::RsaB] {
            let key = NoOpDecryption::key(key.public_key());
            let connector = scep_types::ConnectorId::from_bytes([0x0c; 16]);
            let _ = prove(&NoOpProvider, possession_challenge, &key, &House::tenant(), connector);
        }
    }
}

fn verifier(commands: Option<&Commands>) -> CommandVerifier {
    let (tenant, connector) = commands.map_or_else(
        || (House::tenant(), scep_types::ConnectorId::from_bytes([0x0c; 16])),
        |commands| (commands.tenant.clone(), commands.connector),
    );
    let key = TrustedKey {
        key: TestKey::P256D.public_key(),
        not_before: OPENS.minus(Duration::from_secs(86_400)),
        not_after: OPENS.plus(Duration::from_secs(86_400)),
    };
    CommandVerifier::new(tenant, connector, vec![key], Duration::from_secs(60)).expect("a verifier")
}

/// What the issuer would sign, the connector reads, and does once.
fn commands(told: &Commands) {
    let signer = NoOpSigner::new(TestKey::P256D.public_key());
    let Ok(sealed) = seal_commands(told, &signer) else { return };
    let verifier = verifier(Some(told));
    let last = told.sequence.saturating_sub(1);
    match verifier.open(&sealed, told.nonce, last, told.issued_at, &NoOpProvider) {
        Ok(opened) => assert_eq!(opened.commands(), told),
        Err(error) => {
            let (from, to) =
                (OPENS.minus(Duration::from_secs(86_400)), OPENS.plus(Duration::from_secs(86_400)));
            let trusted = told.issued_at >= from && told.issued_at <= to;
            assert!(!trusted || told.sequence == 0, "what was sealed is refused: {error}");
        }
    }
    let again = verifier.open(&sealed, told.nonce, told.sequence, told.issued_at, &NoOpProvider);
    assert!(again.is_err(), "a sequence number counts once");
}

/// Signed answers and challenges of possession as octets.
fn signed(data: &[u8]) {
    let nonce = CheckInNonce::from_bytes([0; 16]);
    let _ = verifier(None).open(data, nonce, 0, OPENS, &NoOpProvider);
    for key in [TestKey::P256C, TestKey::RsaB] {
        let key = NoOpDecryption::key(key.public_key());
        let _ = scep_cms::open_auth(&NoOpProvider, data, &key, &scep_cms::Limits::default());
    }
}
