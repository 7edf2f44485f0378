//! The files under `golden/`: what PROTOCOL.md shows and other implementations can test with. With the environment
//! variable UPDATE_GOLDEN they are written anew.

use crate::samples::*;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use scep_keys::AwsLc;
use scep_link::*;
use std::collections::BTreeSet;

fn path(name: &str) -> std::path::PathBuf {
    folder().join(format!("{name}.json"))
}

fn updating() -> bool {
    std::env::var_os("UPDATE_GOLDEN").is_some()
}

fn file(name: &str) -> String {
    std::fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The file is what is written of the sample, and reading it gives the sample.
fn check<M: Message>(name: &'static str, sample: &M) -> &'static str {
    let pretty = format!("{}\n", serde_json::to_string_pretty(sample).unwrap());
    if updating() {
        std::fs::write(path(name), &pretty).unwrap();
    }
    let text = file(name);
    assert_eq!(text, pretty, "{name}");
    let read_back: M = read(text.trim_end().as_bytes()).unwrap_or_else(|e| panic!("{name}: {e}"));
    let compact = write(sample).unwrap();
    assert_eq!(write(&read_back).unwrap(), compact, "{name}");
    assert!(read::<M>(&compact).is_ok(), "{name}");
    name
}

/// What is encrypted or on a curve with fresh randomness is taken out of the file.
fn possession() -> (PossessionChallenge, PossessionProof) {
    if updating() {
        return challenge(&AwsLc, &spki("decryption"), &tenant(), connector()).unwrap();
    }
    let response: EnrolResponse = read(file("enrol-response").trim_end().as_bytes()).unwrap();
    let proof = prove(
        &AwsLc,
        &response.possession_challenge,
        &key("decryption").decryption().unwrap(),
        &tenant(),
        connector(),
    )
    .unwrap();
    (response.possession_challenge, proof)
}

#[test]
fn every_message_is_written_and_read_as_in_its_golden_file() {
    let (challenge, proof) = possession();
    let mut seen = BTreeSet::from([
        check("enrol-request", &enrol_request()),
        check("enrol-response", &enrol_response(challenge.clone())),
        check("check-in-request", &check_in_request(vec![proof])),
        check("commands", &commands()),
        check("report-batch", &reports()),
        check("acknowledgement", &acknowledgement()),
        check("revocation-results", &revocation_results()),
        check("revocation-recorded", &revocation_recorded()),
        check("renew-request-authentication", &renew_request()),
        check("renew-request-decryption", &renew_decryption_request()),
        check("renew-response-authentication", &renew_response()),
        check("renew-response-decryption", &renew_decryption_response(challenge)),
    ]);
    seen.extend(["problem", "check-in-answer"]);
    let there: BTreeSet<String> = std::fs::read_dir(folder())
        .unwrap()
        .filter_map(|entry| {
            let name = entry.unwrap().file_name().into_string().unwrap();
            name.strip_suffix(".json").map(str::to_owned)
        })
        .collect();
    let there: BTreeSet<&str> = there.iter().map(String::as_str).collect();
    assert_eq!(there, seen, "each file is tested by name");
    let specification = include_str!("../../PROTOCOL.md");
    for name in seen {
        assert!(specification.contains(&format!("golden/{name}.json")), "{name} is not specified");
    }
}

#[test]
fn the_signed_answer_in_its_golden_file_opens_to_the_golden_commands() {
    let sealed = seal_commands(&commands(), &*key("command").signer()).unwrap();
    let json = serde_json::json!({
        "command_key": STANDARD.encode(spki("command").as_der()),
        "body": STANDARD.encode(&sealed),
    });
    let pretty = format!("{}\n", serde_json::to_string_pretty(&json).unwrap());
    if updating() {
        std::fs::write(path("check-in-answer"), &pretty).unwrap();
    }
    assert_eq!(file("check-in-answer"), pretty);
    let verifier =
        CommandVerifier::new(tenant(), connector(), vec![trusted("command")], MINUTE).unwrap();
    let opened = verifier.open(&sealed, nonce(), 41, now(), &AwsLc).unwrap();
    assert_eq!(opened.commands(), &commands());
}

#[test]
fn every_code_is_specified() {
    let specification = include_str!("../../PROTOCOL.md");
    let codes = ErrorCode::ALL.iter().map(|code| code.code());
    let reasons = CommandReason::ALL.iter().map(|reason| reason.code());
    let names = RevocationReason::ALL.iter().map(|reason| reason.name());
    for word in codes.chain(reasons).chain(names) {
        assert!(specification.contains(word), "{word}");
    }
}

#[test]
fn a_problem_is_written_as_in_its_golden_file() {
    let problem = Problem::new(ErrorCode::RateExceeded, Some("at most 60 check-ins an hour"));
    let pretty = format!("{}\n", serde_json::to_string_pretty(&problem).unwrap());
    if updating() {
        std::fs::write(path("problem"), &pretty).unwrap();
    }
    assert_eq!(file("problem"), pretty);
    assert_eq!(Problem::read(pretty.as_bytes()), Some(problem));
}
