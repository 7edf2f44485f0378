//! An issuer whose signing and command keys are on a token of SoftHSM2.
//!
//! A harness of its own: where SoftHSM2 is missing every test is listed as ignored; where the environment variable `CI` is
//! `true` it fails instead.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests: what does not fit is a failed test"
)]

#[path = "../../../crates/scep-keys/tests/support/softhsm.rs"]
#[allow(dead_code, reason = "the tests of the keys use the rest")]
mod softhsm;

use core::time::Duration;
use libtest_mimic::{Arguments, Trial};
use scep_challenge::{Opener, OpeningKey, PinnedSigner};
use scep_keys::{AwsLc, public_key_pem, read_public_key};
use scep_testkit::keys;
use scep_testkit::process::{must, run, text};
use scep_types::{GatewayGroupId, TenantId, Timestamp};
use softhsm::{SoftHsm, module};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::SystemTime;

const PROFILE: &str = "id = 'wifi'\nfor = 'device'\nsubject = 'CN=d1'\nkey_usage = ['digitalSignature']\n\
    extended_key_usages = ['clientAuth']\nkey_algorithms = ['rsa2048']\nvalidity = '365d'\n";

fn command(hsm: &SoftHsm, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_scep-issuer"));
    command.env_remove("SCEP_ISSUER_CONFIG").env("SOFTHSM2_CONF", hsm.conf());
    command.args(words);
    command
}

/// An issuer, its keys moved from their files to a token.
fn on_a_token(hsm: &SoftHsm) -> PathBuf {
    let dir = hsm.dir().join("issuer");
    must(command(hsm, &["init", "--tenant", "contoso", "--dir"]).arg(&dir));
    let config = dir.join("issuer.toml");
    let mut text = std::fs::read_to_string(&config).unwrap();
    for (name, id) in [("issuer", "01"), ("command", "02"), ("connector-ca", "03")] {
        let file = dir.join(format!("{name}.key.pem"));
        let quoted = format!("\"{name}.key.pem\"");
        if !text.contains(&quoted) {
            continue;
        }
        hsm.import(&file, "issuer", name, id);
        text = text.replace(&quoted, &format!("\"{}\"", hsm.uri("issuer", name)));
        std::fs::remove_file(&file).unwrap();
    }
    std::fs::write(&config, text).unwrap();
    config
}

fn a_key_on_a_token_signs_challenges(hsm: &SoftHsm) {
    let config = on_a_token(hsm);
    let group = keys::p256(3);
    let public = hsm.dir().join("group.pub.pem");
    std::fs::write(&public, public_key_pem(group.public_key())).unwrap();
    let config = config.to_str().unwrap();
    let public = public.to_str().unwrap();
    must(&mut command(
        hsm,
        &["add-gateway", "--config", config, "--group", "main", "--public-key", public],
    ));
    let profile = hsm.dir().join("wifi.toml");
    std::fs::write(&profile, PROFILE).unwrap();
    let profile = profile.to_str().unwrap();
    let mint = ["mint", "--config", config, "--device", "d1", "--profile", profile];
    let minted = String::from_utf8(must(&mut command(hsm, &mint))).unwrap();
    let now = Timestamp::from(SystemTime::now());
    let minutes = |n: u64| Duration::from_secs(n * 60);
    let signer = PinnedSigner {
        key: read_public_key(&Path::new(config).with_file_name("issuer.pub.pem")).unwrap(),
        not_before: now.minus(minutes(60)),
        not_after: now.plus(minutes(60)),
    };
    let opening = OpeningKey { key: group.decryption().unwrap(), not_after: None };
    let (tenant, group) = (TenantId::new("contoso").unwrap(), GatewayGroupId::new("main").unwrap());
    let opener =
        Opener::new(tenant, group, vec![signer], vec![opening], minutes(60), minutes(5)).unwrap();
    opener.open(minted.trim(), now, &AwsLc).unwrap();

    // Without its token it signs nothing.
    let output = run(command(hsm, &mint).env("SOFTHSM2_CONF", "/nonexistent"));
    assert!(!output.status.success() && output.stdout.is_empty(), "{}", text(&output));
}

fn no_key_goes_from_a_token_into_a_file(hsm: &SoftHsm) {
    let config = on_a_token(hsm);
    let config = config.to_str().unwrap();
    let listed = text(&run(&mut command(hsm, &["key", "list", "--config", config])));
    assert!(listed.contains("pkcs11:token=issuer;object=issuer"), "{listed}");
    assert!(!listed.contains("pin-source"), "{listed}");
    let before = std::fs::read(config).unwrap();
    let files = || std::fs::read_dir(Path::new(config).parent().unwrap()).unwrap().count();
    let count = files();
    let output =
        run(&mut command(hsm, &["key", "rotate", "--config", config, "--what", "signing"]));
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    assert!(text(&output).contains("is on a token"), "{}", text(&output));
    assert_eq!((std::fs::read(config).unwrap(), files()), (before, count));
}

type Test = fn(&SoftHsm);

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let module = module();
    let ignored = module.is_none() && std::env::var("CI").as_deref() != Ok("true");
    let tests: [(&str, Test); 2] = [
        ("a_key_on_a_token_signs_challenges", a_key_on_a_token_signs_challenges),
        ("no_key_goes_from_a_token_into_a_file", no_key_goes_from_a_token_into_a_file),
    ];
    if ignored {
        eprintln!("SKIPPED {} tests: SoftHSM2 is missing", tests.len());
    }
    let trial = |(name, test): (&str, Test)| {
        let module = module.clone();
        let run = move || {
            let module = module.ok_or("SoftHSM2 is missing")?;
            test(&SoftHsm::new(module, &["issuer"]));
            Ok(())
        };
        Trial::test(name, run).with_ignored_flag(ignored)
    };
    libtest_mimic::run(&arguments, tests.into_iter().map(trial).collect()).exit_code()
}
