//! Signed commands: a good answer, and the same with one change.

use crate::samples::*;
use scep_cms::{SignerId, ToSign};
use scep_keys::{AwsLc, SoftwareKey};
use scep_link::*;
use scep_types::*;
use std::time::Duration;

/// The nonce, last sequence and instant at which the good answer opens.
const LAST: u64 = 41;

fn verifier() -> CommandVerifier {
    CommandVerifier::new(tenant(), connector(), vec![trusted("command")], MINUTE).unwrap()
}

fn sealed(commands: &Commands) -> Vec<u8> {
    seal_commands(commands, &*key("command").signer()).unwrap()
}

fn open(bytes: &[u8]) -> Result<VerifiedCommands, CommandError> {
    verifier().open(bytes, nonce(), LAST, now(), &AwsLc)
}

fn refused(bytes: &[u8]) -> CommandError {
    open(bytes).expect_err("refused")
}

/// Signs any content as the issuer would sign commands.
fn signed_content(content: &[u8], content_type: &str, key: &SoftwareKey) -> Vec<u8> {
    scep_cms::sign(
        &*key.signer(),
        &ToSign {
            content_type: ObjectIdentifier::new_unwrap(content_type),
            content,
            attributes: &[],
            certificates: &[],
            signer_id: SignerId::KeyId,
            scheme: SignatureScheme::EcdsaSha256,
        },
    )
    .unwrap()
}

const DATA: &str = "1.2.840.113549.1.7.1";
const DOMAIN: &str = "sceptic commands 1\n";

/// Commands as text, changed, and signed by the command key all the same.
fn signed_json(change: impl FnOnce(String) -> String) -> Vec<u8> {
    let json = change(String::from_utf8(write(&commands()).unwrap()).unwrap());
    signed_content(format!("{DOMAIN}{json}").as_bytes(), DATA, &key("command"))
}

fn changed(change: impl FnOnce(&mut Commands)) -> CommandError {
    let mut commands = commands();
    change(&mut commands);
    refused(&sealed(&commands))
}

/// Like [`changed`], past what the issuer's side refuses to sign.
fn forced(change: impl FnOnce(&mut Commands)) -> CommandError {
    let mut commands = commands();
    change(&mut commands);
    let json = serde_json::to_string(&commands).unwrap();
    refused(&signed_content(format!("{DOMAIN}{json}").as_bytes(), DATA, &key("command")))
}

#[test]
fn the_good_answer_opens_to_what_was_sealed() {
    let opened = open(&sealed(&commands())).unwrap();
    assert_eq!(opened.commands(), &commands());
    // What the following tests change is otherwise good.
    assert!(open(&signed_json(|json| json)).is_ok());
}

#[test]
fn attack_55_commands_of_another_key_are_refused() {
    for name in ["signer", "connector"] {
        let bytes = seal_commands(
            &Commands { signer_keys: KeyChanges::default(), ..commands() },
            &*key(name).signer(),
        )
        .unwrap();
        assert_eq!(refused(&bytes), CommandError::SignerNotPinned, "{name}");
    }
}

#[test]
fn attack_55_another_key_under_the_command_keys_name_is_refused() {
    let own = sealed(&commands());
    let stranger = SoftwareKey::generate(KeyAlgorithm::P256).unwrap();
    let none = Commands { signer_keys: KeyChanges::default(), ..commands() };
    let mut forged = seal_commands(&none, &*stranger.signer()).unwrap();
    let (from, to) = (stranger.public_key().key_id(), spki("command").key_id());
    let at = forged.windows(20).position(|window| window == from.as_bytes()).unwrap();
    forged[at..at + 20].copy_from_slice(to.as_bytes());
    assert_eq!(refused(&forged), CommandError::SignatureInvalid);
    assert!(open(&own).is_ok());
}

#[test]
fn attack_55_a_command_key_counts_only_within_its_validity() {
    let bytes = sealed(&commands());
    let trusted = trusted("command");
    for at in [
        trusted.not_before.minus(Duration::from_secs(1)),
        trusted.not_after.plus(Duration::from_secs(1)),
    ] {
        let error = verifier().open(&bytes, nonce(), LAST, at, &AwsLc).unwrap_err();
        assert!(matches!(error, CommandError::SignerNotValid { now, .. } if now == at), "{error}");
        assert_eq!(error.reason(), CommandReason::CommandSignerNotTrusted);
    }
}

#[test]
fn attack_55_no_octet_of_an_answer_can_be_altered() {
    let bytes = sealed(&commands());
    for at in 0..bytes.len() {
        let mut altered = bytes.clone();
        altered[at] ^= 1;
        assert!(open(&altered).is_err(), "octet {at}");
    }
    let mut altered = bytes.clone();
    let at = bytes.windows(8).position(|window| window == b"device-7").unwrap();
    altered[at + 7] = b'8';
    assert_eq!(refused(&altered), CommandError::SignatureInvalid);
}

#[test]
fn attack_55_what_the_command_key_signs_besides_commands_is_refused() {
    let json = String::from_utf8(write(&commands()).unwrap()).unwrap();
    let key = key("command");
    let other_type = "1.2.840.113549.1.9.16.1.23";
    for bytes in [
        signed_content(json.as_bytes(), DATA, &key),
        signed_content(format!("sceptic renewal 1\n{json}").as_bytes(), DATA, &key),
        signed_content(format!("{DOMAIN}{json}").as_bytes(), other_type, &key),
    ] {
        assert_eq!(refused(&bytes), CommandError::NotCommands);
    }
}

#[test]
fn attack_55_commands_for_another_tenant_or_connector_are_refused() {
    let other = TenantId::new("fabrikam").unwrap();
    assert_eq!(changed(|c| c.tenant = other), CommandError::Tenant);
    let other = ConnectorId::from_bytes([1; 16]);
    assert_eq!(changed(|c| c.connector = other), CommandError::Connector);
}

#[test]
fn attack_55_the_answer_to_another_request_is_refused() {
    let bytes = sealed(&commands());
    let other = CheckInNonce::from_bytes([9; 16]);
    let error = verifier().open(&bytes, other, LAST, now(), &AwsLc).unwrap_err();
    assert_eq!(error, CommandError::Nonce);
    assert_eq!(error.reason(), CommandReason::CommandsReplayed);
}

#[test]
fn attack_55_a_sequence_that_is_not_above_the_last_is_refused() {
    let bytes = sealed(&commands());
    for last in [42, 43, u64::MAX] {
        let error = verifier().open(&bytes, nonce(), last, now(), &AwsLc).unwrap_err();
        assert_eq!(error, CommandError::Sequence { got: 42, last });
    }
    assert!(verifier().open(&bytes, nonce(), 0, now(), &AwsLc).is_ok(), "gaps are no harm");
}

#[test]
fn attack_55_expired_commands_are_refused() {
    let bytes = sealed(&commands());
    let end = now().plus(5 * MINUTE);
    let at = |now| verifier().open(&bytes, nonce(), LAST, now, &AwsLc);
    // One minute of skew is allowed for, and not a second more.
    assert!(at(end.plus(Duration::from_secs(59))).is_ok());
    let late = end.plus(MINUTE);
    assert_eq!(at(late).unwrap_err(), CommandError::Expired { expires_at: end, now: late });
}

#[test]
fn attack_55_commands_of_the_future_are_refused() {
    let bytes = sealed(&commands());
    let at = |now| verifier().open(&bytes, nonce(), LAST, now, &AwsLc);
    assert!(at(now().minus(MINUTE)).is_ok());
    let early = now().minus(MINUTE).minus(Duration::from_secs(1));
    let error = CommandError::IssuedInFuture { issued_at: now(), now: early };
    assert_eq!(at(early).unwrap_err(), error);
}

#[test]
fn attack_55_commands_live_for_ten_minutes_at_most() {
    let ten = now().plus(10 * MINUTE);
    assert!(open(&sealed(&Commands { expires_at: ten, ..commands() })).is_ok());
    let longer = ten.plus(Duration::from_secs(1));
    let lifetime = Duration::from_secs(601);
    assert_eq!(
        forced(|c| c.expires_at = longer),
        CommandError::LivesTooLong { lifetime, max: MAX_LIFETIME }
    );
    for never in [now(), now().minus(MINUTE)] {
        assert_eq!(
            forced(|c| c.expires_at = never),
            CommandError::NeverValid { issued_at: now(), expires_at: never }
        );
    }
    for expires_at in [longer, now()] {
        let error =
            seal_commands(&Commands { expires_at, ..commands() }, &*key("command").signer());
        assert!(matches!(error, Err(SealError::Lifetime { .. })), "nor are they sealed");
    }
}

#[test]
fn attack_55_a_command_key_never_becomes_a_signer_of_challenges() {
    let key_id = spki("command").key_id();
    let add = vec![trusted("command")];
    let shared = KeyChanges { add: add.clone(), retire: vec![] };
    assert_eq!(forced(|c| c.signer_keys = shared.clone()), CommandError::SharedKey { key: key_id });
    let commands = Commands { signer_keys: shared, ..commands() };
    let error = seal_commands(&commands, &*key("command").signer()).unwrap_err();
    assert_eq!(error, SealError::SharedKey(key_id));
    // Both at once, by a key that is not pinned yet.
    let both = KeyChanges { add: vec![trusted("connector")], retire: vec![] };
    let error = forced(|c| {
        c.signer_keys = both.clone();
        c.command_keys = both;
    });
    assert!(matches!(error, CommandError::Payload(MessageError::Breach(Breach::Twice { .. }))));
}

#[test]
fn attack_54_a_revocation_names_issuer_and_serial_and_nothing_else() {
    let error = refused(&signed_json(|json| {
        json.replace(r#""serial":"9A01""#, r#""serial":"9A01","common_name":"device-7""#)
    }));
    assert!(matches!(error, CommandError::UnknownField(_)), "{error}");
    for (from, to) in [
        (r#""serial":"9A01","#, ""),
        (r#""serial":"9A01""#, r#""serial":"9a01""#),
        (r#""serial":"9A01""#, r#""serial":"009A01""#),
        (r#""serial":"9A01""#, r#""serial":"""#),
        (r#""serial":"9A01""#, r#""serial":"00""#),
        (r#""keyCompromise""#, r#""certificateHold""#),
        (r#""keyCompromise""#, r#""removeFromCRL""#),
    ] {
        let error = refused(&signed_json(|json| {
            let other = json.replacen(from, to, 1);
            assert_ne!(other, json);
            other
        }));
        assert!(
            matches!(error, CommandError::Payload(MessageError::Value { .. })),
            "{to}: {error}"
        );
    }
}

#[test]
fn unknown_fields_are_refused_wherever_they_are() {
    for (from, to) in [
        (r#"{"v":1,"#, r#"{"v":1,"urgent":true,"#),
        (r#""denials":{"#, r#""denials":{"all":true,"#),
        (r#""signer_keys":{"#, r#""signer_keys":{"replace":true,"#),
    ] {
        let error = refused(&signed_json(|json| json.replacen(from, to, 1)));
        assert!(matches!(error, CommandError::UnknownField(_)), "{to}: {error}");
        assert_eq!(error.reason(), CommandReason::CommandsMalformed);
    }
}

#[test]
fn duplicate_keys_are_refused_wherever_they_are() {
    for (from, to) in [
        (r#""sequence":42"#, r#""sequence":42,"sequence":43"#),
        (r#""sequence":42"#, r#""sequence":42,"\u0073equence":43"#),
        (r#""complete":true"#, r#""complete":true,"complete":true"#),
        (r#"{"device":"device-7"}"#, r#"{"device":"device-7","device":"device-8"}"#),
    ] {
        let error = refused(&signed_json(|json| json.replacen(from, to, 1)));
        assert!(matches!(error, CommandError::DuplicateKey(_)), "{to}: {error}");
    }
}

#[test]
fn trailing_bytes_are_refused_inside_and_outside() {
    let outside = [sealed(&commands()), vec![0]].concat();
    assert_eq!(refused(&outside), CommandError::TrailingBytes);
    for (before, after) in [("", " "), ("", "\n"), (" ", ""), ("", "{}"), ("", "x"), ("", "\0")] {
        let error = refused(&signed_json(|json| format!("{before}{json}{after}")));
        assert_eq!(error, CommandError::TrailingBytes, "{before:?} {after:?}");
    }
}

#[test]
fn other_versions_are_refused_as_such() {
    for (to, got) in [
        (r#"{"v":2,"#, Some(2)),
        (r#"{"v":0,"#, Some(0)),
        (r#"{"v":"1","#, None),
        (r#"{"v":1.0,"#, None),
        (r#"{"#, None),
    ] {
        let error = refused(&signed_json(|json| json.replacen(r#"{"v":1,"#, to, 1)));
        assert_eq!(error, CommandError::Version { got }, "{to}");
        assert_eq!(error.reason(), CommandReason::CommandsVersionNotServed);
    }
}

#[test]
fn what_is_too_long_is_refused_before_it_is_parsed() {
    let bytes = vec![0x30; MAX_COMMANDS + 1];
    assert_eq!(
        refused(&bytes),
        CommandError::Oversize { got: MAX_COMMANDS + 1, max: MAX_COMMANDS }
    );
    // One octet less is looked at.
    assert!(!matches!(refused(&bytes[1..]), CommandError::Oversize { .. }));
}

/// As many of everything as may be, each as long as may be.
#[test]
fn the_largest_commands_fit_into_an_answer() {
    let serial = SerialNumber::from_content(&[0x7f; 20]).unwrap();
    let revocations = (0..u16::try_from(MAX_ORDERS).unwrap())
        .map(|n| {
            let mut order = [0; 16];
            order[..2].copy_from_slice(&n.to_be_bytes());
            RevocationOrder {
                order: OrderId::from_bytes(order),
                issuer: NameHash::from_bytes([0; 32]),
                serial: serial.clone(),
                reason: RevocationReason::CessationOfOperation,
            }
        })
        .collect();
    let device = |n: usize| DenialSubject::Device(DeviceId::new(format!("{n:0128}")).unwrap());
    let rsa = |n: u8| TrustedKey {
        key: SpkiDer::from_rsa_parts(&[&[0xff; 511][..], &[n]].concat(), &[1, 0, 1]).unwrap(),
        ..trusted("signer")
    };
    let keys = |from: u8| KeyChanges { add: (from..from + 8).map(rsa).collect(), retire: vec![] };
    let mut largest = Commands {
        revocations,
        denials: DenialChanges {
            added: (0..MAX_DENIALS).map(device).collect(),
            removed: vec![],
            ..commands().denials
        },
        signer_keys: keys(0),
        command_keys: keys(8),
        renewals: vec![],
        ..commands()
    };
    let bytes = sealed(&largest);
    assert!(bytes.len() > MAX_COMMANDS / 2 && bytes.len() < MAX_COMMANDS, "{}", bytes.len());
    assert!(open(&bytes).is_ok());

    largest.denials.removed.push(device(MAX_DENIALS));
    let refused = |commands: &Commands| seal_commands(commands, &*key("command").signer());
    let count = |what, got, max| {
        Err(SealError::Message(MessageError::Breach(Breach::Count { what, got, max })))
    };
    assert_eq!(refused(&largest), count("denials", MAX_DENIALS + 1, MAX_DENIALS));
    largest.denials.removed.clear();
    let one_more = RevocationOrder {
        order: OrderId::from_bytes([0xff; 16]),
        ..largest.revocations[0].clone()
    };
    largest.revocations.push(one_more);
    assert_eq!(refused(&largest), count("revocation orders", MAX_ORDERS + 1, MAX_ORDERS));
}

#[test]
fn commands_that_contradict_themselves_are_refused() {
    type Change = fn(&mut Commands);
    let changes: &[(&str, Change)] = &[
        ("an order twice", |c| c.revocations.push(c.revocations[0].clone())),
        ("one order for two things", |c| c.renewals[0].order = c.revocations[0].order),
        ("added and removed", |c| c.denials.removed.push(c.denials.added[0].clone())),
        ("cursor back", |c| c.denials.to = 7),
        ("key added twice", |c| c.signer_keys.add.push(trusted("signer"))),
        ("key added and retired", |c| c.signer_keys.retire.push(spki("signer").key_id())),
        ("key never valid", |c| c.signer_keys.add[0].not_after = Timestamp::EPOCH),
    ];
    for (what, change) in changes {
        let error = forced(change);
        let breach = matches!(error, CommandError::Payload(MessageError::Breach(_)));
        assert!(breach, "{what}: {error}");
    }
}

#[test]
fn every_reason_has_its_own_code_and_survives_the_next_check_in() {
    for reason in CommandReason::ALL {
        assert_eq!(CommandReason::from_code(reason.code()), Some(*reason));
        let request = CheckInRequest { refused: Some(*reason), ..check_in_request(vec![]) };
        let back: CheckInRequest = read(&write(&request).unwrap()).unwrap();
        assert_eq!(back.refused, Some(*reason));
    }
    assert_eq!(CommandError::Nonce.fault(), Fault::PeerRights);
    assert_eq!(CommandError::TrailingBytes.fault(), Fault::PeerMessage);
}

#[test]
fn a_verifier_refuses_keys_that_leave_a_question() {
    type E = CommandVerifierError;
    let with =
        |keys, skew| CommandVerifier::new(tenant(), connector(), keys, skew).expect_err("refused");
    let key = spki("command").key_id();
    assert_eq!(with(vec![], MINUTE), E::NoKeys);
    assert_eq!(with(vec![trusted("command"), trusted("command")], MINUTE), E::DuplicateKey { key });
    let never = TrustedKey { not_after: Timestamp::EPOCH, ..trusted("command") };
    assert_eq!(with(vec![never], MINUTE), E::NeverValid { key });
    let got = MAX_SKEW + Duration::from_secs(1);
    assert_eq!(with(vec![trusted("command")], got), E::Skew { got, max: MAX_SKEW });
    let weak = SpkiDer::from_ec_point(&[4; 97]).unwrap();
    let (key, algorithm) = (weak.key_id(), weak.algorithm());
    let weak = TrustedKey { key: weak, ..trusted("command") };
    assert_eq!(with(vec![weak], MINUTE), E::UnsuitableKey { key, algorithm });
    let weak = SoftwareKey::generate(KeyAlgorithm::P384).unwrap();
    assert_eq!(
        seal_commands(&commands(), &*weak.signer()),
        Err(SealError::UnsuitableKey(KeyAlgorithm::P384))
    );
}

#[test]
fn an_rsa_command_key_serves_alike() {
    let rsa = SoftwareKey::generate(KeyAlgorithm::Rsa(2048)).unwrap();
    let pinned = TrustedKey { key: rsa.public_key().clone(), ..trusted("command") };
    let verifier =
        CommandVerifier::new(tenant(), connector(), vec![trusted("command"), pinned], MINUTE);
    let bytes = seal_commands(&commands(), &*rsa.signer()).unwrap();
    let opened = verifier.unwrap().open(&bytes, nonce(), LAST, now(), &AwsLc).unwrap();
    assert_eq!(opened.commands(), &commands());
}
