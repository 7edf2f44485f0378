//! Answers: one is a success in one case.

use crate::samples::*;
use scep_link::*;
use scep_types::Fault;

const JSON: &str = "application/json";

fn good() -> String {
    String::from_utf8(write(&acknowledgement()).unwrap()).unwrap()
}

fn answer(status: u16, media_type: &str, body: &str) -> Result<Acknowledgement, AnswerError> {
    accept(status, media_type, body.as_bytes())
}

#[test]
fn the_good_answer_is_accepted() {
    for media_type in [JSON, "application/json; charset=utf-8", "Application/JSON"] {
        assert_eq!(answer(200, media_type, &good()), Ok(acknowledgement()), "{media_type}");
    }
}

#[test]
fn attack_58_a_code_of_refusal_under_status_200_is_an_error() {
    for code in ErrorCode::ALL {
        let body = good().replace("Success", code.code());
        let refused = AnswerError::Refused { status: 200, code: *code, detail: None };
        assert_eq!(answer(200, JSON, &body), Err(refused));
        let problem = Problem::new(*code, None).write();
        let error = accept::<Acknowledgement>(200, "application/problem+json", &problem);
        assert!(matches!(error, Err(AnswerError::Refused { status: 200, .. })), "{error:?}");
    }
}

#[test]
fn attack_58_a_code_that_is_not_known_is_an_error() {
    for code in ["success", "SUCCESS", "Success ", "", "OK", "Unknown", "Succès", "Success\\u0000"]
    {
        let body = good().replace("Success", code);
        let error = answer(200, JSON, &body);
        assert_eq!(error, Err(AnswerError::UnknownCode { status: 200 }), "{code:?}");
    }
    for (from, to) in [
        (r#""code":"Success","#, ""),
        (r#""code":"Success""#, r#""code":null"#),
        (r#""code":"Success""#, r#""code":0"#),
        (r#""code":"Success""#, r#""code":["Success"]"#),
        (r#""code":"Success""#, r#""nested":{"code":"Success"}"#),
    ] {
        let error = answer(200, JSON, &good().replace(from, to));
        assert_eq!(error, Err(AnswerError::UnknownCode { status: 200 }), "{to}");
    }
    let twice = good().replace(r#""code":"Success""#, r#""code":"Unavailable","code":"Success""#);
    let error = answer(200, JSON, &twice);
    assert!(
        matches!(error, Err(AnswerError::Message(MessageError::DuplicateKey { .. }))),
        "{error:?}"
    );
}

#[test]
fn attack_58_a_success_under_another_status_is_an_error() {
    for status in [0, 201, 202, 204, 206, 301, 302, 304, 400, 404, 500] {
        assert_eq!(answer(status, JSON, &good()), Err(AnswerError::Status { status }));
        let signed = accept_signed(status, "application/cms", b"0");
        assert_eq!(signed, Err(AnswerError::Status { status }));
    }
}

#[test]
fn attack_58_what_is_not_the_message_that_was_due_is_an_error() {
    for media_type in ["text/html", "", "application/cms", "text/json", "application/jsonx"] {
        let error = AnswerError::MediaType { expected: JSON };
        assert_eq!(answer(200, media_type, &good()), Err(error), "{media_type:?}");
    }
    let expected = "application/cms";
    assert_eq!(accept_signed(200, JSON, b"0"), Err(AnswerError::MediaType { expected }));
    assert_eq!(accept_signed(200, expected, b"0"), Ok(&b"0"[..]));
    for body in ["", "<html></html>", "Success", "\"Success\"", "[]", "{}", "{\"code\":"] {
        assert!(answer(200, JSON, body).is_err(), "{body:?}");
    }
    // Another message with a success in it.
    let other = write(&revocation_recorded()).unwrap();
    let error = accept::<Acknowledgement>(200, JSON, &other).unwrap_err();
    assert!(matches!(error, AnswerError::Message(MessageError::UnknownField { .. })), "{error:?}");
    let long = format!("{}{}", " ".repeat(4096), good());
    let error = answer(200, JSON, &long).unwrap_err();
    assert!(matches!(error, AnswerError::Message(MessageError::Oversize { .. })), "{error:?}");
}

#[test]
fn attack_57_no_answer_leads_the_connector_to_another_address() {
    // A redirect is no success, whatever it carries; and no message has a field for an address.
    for status in [300, 301, 302, 303, 307, 308] {
        assert_eq!(answer(status, JSON, &good()), Err(AnswerError::Status { status }));
    }
    let (possession, _) =
        challenge(&scep_keys::AwsLc, &spki("decryption"), &tenant(), connector()).unwrap();
    let body = String::from_utf8(write(&enrol_response(possession)).unwrap()).unwrap();
    assert!(accept::<EnrolResponse>(200, JSON, body.as_bytes()).is_ok());
    for name in ["uri", "url", "issuer", "endpoint", "location", "base_address"] {
        let address = format!("{{\"{name}\":\"https://issuer.example\",");
        let error = accept::<EnrolResponse>(200, JSON, body.replacen('{', &address, 1).as_bytes());
        assert!(
            matches!(error, Err(AnswerError::Message(MessageError::UnknownField { .. }))),
            "{name}: {error:?}"
        );
    }
}

#[test]
fn only_the_exact_text_is_a_success() {
    assert_eq!(Outcome::from_code("Success"), Outcome::Success);
    assert_eq!(Outcome::from_code("success"), Outcome::Unknown);
    for code in ErrorCode::ALL {
        assert_eq!(Outcome::from_code(code.code()), Outcome::Refused(*code));
        assert!((400..600).contains(&code.status()), "{code}");
        let later = matches!(code.status(), 429 | 500..);
        assert_eq!(code.retry() == Retry::Later, later, "{code}");
    }
}

#[test]
fn a_problem_tells_its_code_and_whether_to_try_again() {
    for code in ErrorCode::ALL {
        let problem = Problem::new(*code, Some("why"));
        let media_type = "application/problem+json";
        let error =
            accept::<Acknowledgement>(code.status(), media_type, &problem.write()).unwrap_err();
        let detail = Some("why".to_owned());
        assert_eq!(error, AnswerError::Refused { status: code.status(), code: *code, detail });
        assert_eq!(error.retry(), code.retry());
        let fault = match code.retry() {
            Retry::Never => Fault::OurConfiguration,
            Retry::Later => Fault::OurDependency,
        };
        assert_eq!(error.fault(), fault);
    }
    // A proxy's problem, with fields of its own and no code or an unknown one.
    let body = br#"{"type":"https://proxy.example/busy","code":"Busy","node":7}"#;
    let error = accept::<Acknowledgement>(503, "application/problem+json", body);
    assert_eq!(error, Err(AnswerError::UnknownCode { status: 503 }));
    let error = accept::<Acknowledgement>(503, "application/problem+json", b"{}");
    assert_eq!(error, Err(AnswerError::Status { status: 503 }));
}

#[test]
fn attack_62_free_text_of_the_peer_is_cut_and_writes_no_line() {
    let long = format!("a\r\nb\u{1b}[31m{}", "é".repeat(400));
    for problem in [
        Problem::new(ErrorCode::Unavailable, Some(&long)),
        Problem::read(
            serde_json::json!({"code": "Unavailable", "detail": long}).to_string().as_bytes(),
        )
        .unwrap(),
    ] {
        let detail = problem.detail().unwrap();
        assert!(detail.starts_with("ab[31mé"), "{detail}");
        assert_eq!(detail.chars().count(), 255);
    }
}
