//! Messages: what is read is exactly what may be written.

use crate::samples::*;
use scep_link::*;
use scep_types::*;

fn text<M: Message>(message: &M) -> String {
    String::from_utf8(write(message).unwrap()).unwrap()
}

fn changed<M: Message>(message: &M, from: &str, to: &str) -> MessageError {
    let good = text(message);
    let bad = good.replacen(from, to, 1);
    assert_ne!(good, bad, "{from} is there");
    read::<M>(bad.as_bytes()).err().unwrap_or_else(|| panic!("{to} was read"))
}

#[test]
fn each_id_has_one_text() {
    let request = check_in_request(vec![]);
    let nonce = "00112233445566778899aabbccddeeff";
    for bad in [
        "00112233445566778899AABBCCDDEEFF",
        "00112233445566778899aabbccddee",
        "00112233445566778899aabbccddeeff00",
        "0x112233445566778899aabbccddeeff",
        "",
    ] {
        let error = changed(&request, nonce, bad);
        assert!(matches!(error, MessageError::Value { .. }), "{bad}: {error}");
    }
    let ack = "2026-11-24T08:00:00Z";
    for bad in ["2026-11-24T09:00:00+01:00", "2026-11-24", "2026-11-24T08:00:00.0Z", "1795507200"] {
        let error = changed(&revocation_results(), ack, bad);
        assert!(matches!(error, MessageError::Value { .. }), "{bad}: {error}");
    }
    let enrol = text(&enrol_request());
    let key = enrol.split("\"decryption_key\":\"").nth(1).unwrap().split('"').next().unwrap();
    for bad in [
        key.trim_end_matches('=').to_owned(),
        key.replacen('M', "N", 1),
        key.replace('+', "-").replace('/', "_").replace('=', ""),
        format!("{key}AAAA"),
        format!("{key}\\n"),
    ] {
        let error = changed(&enrol_request(), key, &bad);
        assert!(matches!(error, MessageError::Value { .. }), "{bad}: {error}");
    }
    for (from, to) in [("gateway-1", "gateway 1"), ("\"zurich\"", "\"zurich/../x\"")] {
        let error = changed(&enrol_request(), from, to);
        assert!(matches!(error, MessageError::Value { .. }), "{to}: {error}");
    }
}

#[test]
fn attack_61_an_error_repeats_nothing_of_what_was_received() {
    let token = "0123456789abcdef0123456789abcdef-TEST";
    let errors = [
        changed(&enrol_request(), r#""single""#, &format!("{token:?}")),
        changed(&enrol_request(), r#""gateway":"#, &format!("{token:?}:1,\"gateway\":")),
        changed(&enrol_request(), token, &format!("{token} ")),
        changed(&enrol_request(), "\"v\":1", &format!("\"v\":{token:?}")),
        changed(&enrol_request(), "{", &format!("{{{token:?}:1,{token:?}:2,")),
    ];
    for error in errors {
        assert!(!format!("{error} {error:?}").contains(&token[..16]), "{error:?}");
    }
    assert!(!format!("{:?}", enrol_request()).contains(&token[..16]));
    assert_eq!(format!("{:?}", enrol_request().token.hash()), "TokenHash(..)");
}

#[test]
fn every_message_refuses_unknown_fields_other_versions_and_its_own_length() {
    fn check<M: Message>(message: &M) {
        let error = changed(message, "{\"v\":1,", "{\"v\":1,\"x\":1,");
        assert!(matches!(error, MessageError::UnknownField { .. }), "{error}");
        assert_eq!(
            changed(message, "{\"v\":1,", "{\"v\":3,"),
            MessageError::Version { got: Some(3) }
        );
        let got = M::MAX_BYTES + 1;
        assert_eq!(
            read::<M>(&vec![b'{'; got]).err(),
            Some(MessageError::Oversize { got, max: M::MAX_BYTES })
        );
    }
    check(&enrol_request());
    check(&check_in_request(vec![]));
    check(&commands());
    check(&reports());
    check(&acknowledgement());
    check(&revocation_results());
    check(&revocation_recorded());
    check(&renew_request());
    check(&renew_decryption_request());
    check(&renew_response());
}

/// Also where null is a value: what is not said is not guessed.
#[test]
fn every_message_refuses_a_missing_field_wherever_it_is() {
    /// The paths to all fields, but for those inside an event's body, which are free.
    fn fields(value: &serde_json::Value, path: &str, all: &mut Vec<(String, String)>) {
        match value {
            serde_json::Value::Object(map) if !path.ends_with("/body") => {
                for (name, inner) in map {
                    all.push((path.to_owned(), name.clone()));
                    fields(inner, &format!("{path}/{name}"), all);
                }
            }
            serde_json::Value::Array(list) => {
                for (at, inner) in list.iter().enumerate() {
                    fields(inner, &format!("{path}/{at}"), all);
                }
            }
            _ => {}
        }
    }
    fn check<M: Message>(message: &M) {
        let whole = serde_json::to_value(message).unwrap();
        let mut all = Vec::new();
        fields(&whole, "", &mut all);
        assert!(all.len() > 2);
        for (path, name) in all {
            let mut partial = whole.clone();
            let object = partial.pointer_mut(&path).unwrap().as_object_mut().unwrap();
            object.remove(&name).unwrap();
            let error = read::<M>(partial.to_string().as_bytes()).err();
            assert!(
                matches!(error, Some(MessageError::Value { .. } | MessageError::Version { .. })),
                "without {path}/{name}: {error:?}"
            );
        }
    }
    check(&enrol_request());
    check(&check_in_request(vec![]));
    check(&commands());
    check(&reports());
    check(&acknowledgement());
    check(&revocation_results());
    check(&revocation_recorded());
    check(&renew_request());
    check(&renew_response());
}

#[test]
fn what_is_no_object_is_refused_as_such() {
    for body in
        ["", "[]", "1", "null", "{", "{\"v\":1", "\u{feff}{\"v\":1}", "{'v':1}", "{\"v\":01}"]
    {
        let error = read::<Acknowledgement>(body.as_bytes()).unwrap_err();
        assert!(matches!(error, MessageError::Syntax { .. }), "{body:?}: {error}");
    }
    for body in [" {\"v\":1}", "{\"v\":1}\n", "{\"v\":1}{\"v\":1}"] {
        let error = read::<Acknowledgement>(body.as_bytes()).unwrap_err();
        assert_eq!(error, MessageError::TrailingBytes, "{body:?}");
    }
    let deep = format!("{{\"v\":1,\"x\":{}{}}}", "[".repeat(16), "]".repeat(16));
    let error = read::<Acknowledgement>(deep.as_bytes()).unwrap_err();
    assert_eq!(error, MessageError::Depth { max: 16 });
    let invalid = [&b"{\"v\":1,\"x\":\""[..], &[0xff], b"\"}"].concat();
    let error = read::<Acknowledgement>(&invalid).unwrap_err();
    assert!(matches!(error, MessageError::Syntax { .. }), "{error}");
}

#[test]
fn a_batch_has_its_events_in_order_and_without_gaps() {
    let batch = |sequences: &[u64]| ReportBatch {
        events: sequences.iter().copied().map(event).collect(),
        ..reports()
    };
    for good in [&[1][..], &[1, 2, 3], &[u64::MAX]] {
        assert!(read::<ReportBatch>(text(&batch(good)).as_bytes()).is_ok(), "{good:?}");
    }
    for (bad, breach) in [
        (&[0][..], Breach::Gap { expected: 1, got: 0 }),
        (&[1, 3], Breach::Gap { expected: 2, got: 3 }),
        (&[2, 1], Breach::Gap { expected: 3, got: 1 }),
        (&[5, 5], Breach::Twice { what: "idempotency key" }),
        (&[], Breach::None { what: "events" }),
    ] {
        assert_eq!(write(&batch(bad)), Err(breach.into()), "{bad:?}");
        let json = serde_json::to_vec(&batch(bad)).unwrap();
        assert_eq!(read::<ReportBatch>(&json), Err(breach.into()), "{bad:?}");
    }
    let most: Vec<u64> = (1..=500).collect();
    assert!(write(&batch(&most)).is_ok());
    let more: Vec<u64> = (1..=501).collect();
    let breach = Breach::Count { what: "events", got: 501, max: MAX_EVENTS };
    assert_eq!(write(&batch(&more)), Err(breach.into()));
}

#[test]
fn the_longest_batch_keeps_both_limits_and_always_has_an_event() {
    let take = |events: Vec<Event>| ReportBatch::longest(connector(), ledger(), events);
    let many = take((1..=700).map(event).collect());
    assert_eq!(many.events.len(), MAX_EVENTS);
    assert!(write(&many).is_ok());
    let facts = format!("{{\"detail\":\"{}\"}}", "x".repeat(MAX_BODY - 13));
    let large = Body::parse(&facts).unwrap();
    assert_eq!(large.to_json().len(), MAX_BODY);
    let large = take((1..=100).map(|n| Event { body: large.clone(), ..event(n) }).collect());
    assert!((60..100).contains(&large.events.len()), "{}", large.events.len());
    assert!(write(&large).is_ok());
    assert_eq!(take(large.events[..1].to_vec()).events.len(), 1);
}

#[test]
fn a_body_is_any_object_within_its_limits() {
    let ledgers = r#"{"at":"2026-11-24T08:00:00Z","detail":{"subject":["a","b"]},"n":1}"#;
    assert_eq!(Body::parse(ledgers).unwrap().to_json(), ledgers);
    let deep = |n: usize| format!("{{\"x\":{}{}}}", "[".repeat(n), "]".repeat(n));
    assert!(Body::parse(&deep(11)).is_ok());
    // What a body may be, a message around it may be.
    let event = Event { body: Body::parse(&deep(11)).unwrap(), ..event(1) };
    let batch = ReportBatch { events: vec![event], ..reports() };
    assert!(read::<ReportBatch>(text(&batch).as_bytes()).is_ok());
    assert_eq!(Body::parse(&deep(12)), Err(MessageError::Depth { max: 12 }));
    let twice = Body::parse(r#"{"a":{"b":1,"b":2}}"#);
    assert!(matches!(twice, Err(MessageError::DuplicateKey { .. })), "{twice:?}");
    let long = format!("{{\"x\":\"{}\"}}", "x".repeat(MAX_BODY));
    assert!(matches!(Body::parse(&long), Err(MessageError::Oversize { .. })));
    for bad in ["", "[]", "1", "null", "x"] {
        assert!(Body::parse(bad).is_err(), "{bad:?}");
    }
    let error =
        changed(&reports(), r#""recovered":false"#, r#""recovered":false,"recovered":true"#);
    assert!(matches!(error, MessageError::DuplicateKey { .. }), "{error}");
}

#[test]
fn everything_that_the_ledger_reports_can_be_said() {
    for kind in scep_ledger::EventKind::ALL {
        assert_eq!(EventKind::new(kind.code()).unwrap().as_str(), kind.code());
    }
    let names = |all: &[String]| all.to_vec();
    let ledgers: Vec<_> =
        scep_ledger::RevocationReason::ALL.iter().map(ToString::to_string).collect();
    let ours: Vec<_> = RevocationReason::ALL.iter().map(ToString::to_string).collect();
    assert_eq!(names(&ours), names(&ledgers));
    // The longest key that the ledger makes.
    let tenant = "t".repeat(TenantId::MAX);
    let challenge = ChallengeId::from_bytes([0xff; 16]);
    assert!(IdempotencyKey::new(format!("refused:{tenant}:{challenge}:4294967295")).is_ok());
}

#[test]
fn a_token_is_recognised_by_its_hash() {
    let token = EnrolmentToken::random(&scep_keys::AwsLc).unwrap();
    assert_eq!(token.expose().len(), 64);
    let kept = TokenHash::from_bytes(*token.hash().as_bytes());
    assert!(kept == EnrolmentToken::new(token.expose()).unwrap().hash());
    assert!(kept != EnrolmentToken::random(&scep_keys::AwsLc).unwrap().hash());
    for bad in ["", "short", &"a".repeat(129), &format!("{} ", "a".repeat(40))] {
        assert!(EnrolmentToken::new(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn limits_of_the_smaller_messages_hold() {
    let long_wait = CheckInRequest { wait_seconds: MAX_WAIT + 1, ..check_in_request(vec![]) };
    let breach = Breach::Number { what: "wait_seconds", got: 61, max: 60 };
    assert_eq!(write(&long_wait), Err(breach.into()));
    let expiry = check_in_request(vec![]).certificates[0].clone();
    let many = CheckInRequest { certificates: vec![expiry; 33], ..check_in_request(vec![]) };
    let breach = Breach::Count { what: "certificates", got: 33, max: 32 };
    assert_eq!(write(&many), Err(breach.into()));
    let result = revocation_results().results[0].clone();
    let twice = RevocationResults { results: vec![result; 2], ..revocation_results() };
    assert_eq!(write(&twice), Err(Breach::Twice { what: "order" }.into()));
    let (challenge, _) =
        challenge(&scep_keys::AwsLc, &spki("decryption"), &tenant(), connector()).unwrap();
    let response = enrol_response(challenge);
    assert!(write(&response).is_ok());
    let shared = EnrolResponse { command_keys: response.signer_keys.clone(), ..response.clone() };
    let what = "key for challenges and commands";
    assert_eq!(write(&shared), Err(Breach::Twice { what }.into()));
    let none = EnrolResponse { tls_pins: vec![], ..response };
    assert_eq!(write(&none), Err(Breach::None { what: "TLS pins" }.into()));
}
