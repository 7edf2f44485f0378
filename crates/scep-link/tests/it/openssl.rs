//! OpenSSL as a second reader of signed commands.

use crate::samples::*;
use scep_link::*;
use std::path::Path;
use std::process::Command;

/// Whether OpenSSL is there. Where it must be (CI), its absence is a failure.
fn is_missing(test: &str) -> bool {
    let missing = Command::new("openssl").arg("version").output().is_err();
    if missing {
        assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "{test}: openssl is missing");
        eprintln!("SKIPPED {test}: openssl is missing");
    }
    missing
}

fn openssl(folder: &Path, arguments: &str) {
    let output = Command::new("openssl")
        .args(arguments.split_whitespace())
        .current_dir(folder)
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "openssl {arguments}: {stderr}");
}

/// In a folder: the command key, and a certificate with its key id as SubjectKeyIdentifier.
fn folder_with_key() -> tempfile::TempDir {
    let made = tempfile::tempdir().unwrap();
    std::fs::copy(folder().join("keys/command.pem"), made.path().join("key.pem")).unwrap();
    let config = format!(
        "[req]\ndistinguished_name = dn\nx509_extensions = ext\nprompt = no\n\
         [dn]\nCN = command\n[ext]\nsubjectKeyIdentifier = {}\n",
        spki("command").key_id()
    );
    std::fs::write(made.path().join("key.cnf"), config).unwrap();
    openssl(made.path(), "req -new -x509 -key key.pem -config key.cnf -days 30 -out key.crt");
    made
}

#[test]
fn openssl_verifies_an_answer_and_reads_the_commands() {
    if is_missing("openssl_verifies_an_answer_and_reads_the_commands") {
        return;
    }
    let made = folder_with_key();
    let answer = seal_commands(&commands(), &*key("command").signer()).unwrap();
    std::fs::write(made.path().join("answer"), answer).unwrap();
    let arguments = "cms -verify -binary -inform DER -in answer -certfile key.crt -noverify \
                     -out content";
    openssl(made.path(), arguments);
    let content = std::fs::read(made.path().join("content")).unwrap();
    let json = content.strip_prefix(b"sceptic commands 1\n").unwrap();
    assert_eq!(read::<Commands>(json), Ok(commands()));
}
