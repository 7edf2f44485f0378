//! Key files: what is read, what is refused and with which advice, and what is written.
#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a helper of tests may panic as a test may"
)]

mod support;

use scep_keys::{AwsLc, Backend, KeyFileError, KeyProblem, SoftwareKey};
use scep_types::{CryptoProvider, Fault, KeyAlgorithm, ObjectIdentifier, SignatureScheme, Signer};
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use support::{have_openssl, openssl};
use tempfile::TempDir;

const BACKENDS: [Backend; 2] = [Backend::AwsLc, Backend::PureRust];

fn dir() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// A good key file: what every bad one differs from in one thing.
fn good(dir: &TempDir) -> PathBuf {
    let path = dir.path().join("key.pem");
    SoftwareKey::generate(KeyAlgorithm::P256).unwrap().write_new(&path).unwrap();
    path
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn refused(path: &Path) -> KeyFileError {
    let error = SoftwareKey::read(path, Backend::AwsLc).unwrap_err();
    assert_eq!(SoftwareKey::read(path, Backend::PureRust).unwrap_err(), error);
    assert!(error.to_string().starts_with(&format!("{}: ", path.display())), "{error}");
    error
}

#[test]
fn what_is_written_reads_back_and_is_closed_to_others() {
    let dir = dir();
    for algorithm in [KeyAlgorithm::Rsa(2048), KeyAlgorithm::P256, KeyAlgorithm::P384] {
        let path = dir.path().join(algorithm.to_string());
        let key = SoftwareKey::generate(algorithm).unwrap();
        key.write_new(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        for backend in BACKENDS {
            let read = SoftwareKey::read(&path, backend).unwrap();
            assert_eq!(read.public_key(), key.public_key());
            assert_eq!(read.public_key().algorithm(), algorithm);
            let (a, b) = (read.to_pkcs8_der().unwrap(), key.to_pkcs8_der().unwrap());
            assert_eq!(a.expose(), b.expose());
        }
    }
}

#[test]
fn a_key_is_never_overwritten() {
    let dir = dir();
    let path = good(&dir);
    let before = fs::read(&path).unwrap();
    let other = SoftwareKey::generate(KeyAlgorithm::P256).unwrap();
    assert_eq!(other.write_new(&path), Err(KeyFileError::Exists { path: path.clone() }));
    assert_eq!(fs::read(&path).unwrap(), before);
    // Nor is a link to nowhere followed.
    let link = dir.path().join("link.pem");
    symlink(dir.path().join("target.pem"), &link).unwrap();
    assert_eq!(other.write_new(&link), Err(KeyFileError::Exists { path: link.clone() }));
    assert!(!dir.path().join("target.pem").exists());
}

#[test]
fn a_directory_that_is_missing_is_named() {
    let dir = dir();
    let path = dir.path().join("none").join("key.pem");
    let key = SoftwareKey::generate(KeyAlgorithm::P256).unwrap();
    let error = key.write_new(&path).unwrap_err();
    let kind = ErrorKind::NotFound;
    assert_eq!(error, KeyFileError::Io { path: path.clone(), doing: "create", kind });
    assert_eq!(refused(&path), KeyFileError::Io { path, doing: "open", kind });
    assert_eq!(error.fault(), Fault::OurConfiguration);
}

#[test]
fn only_the_owner_may_have_a_right_to_the_file() {
    let dir = dir();
    let path = good(&dir);
    for mode in [0o640, 0o620, 0o610, 0o604, 0o602, 0o601, 0o700, 0o777] {
        chmod(&path, mode);
        let error = refused(&path);
        assert_eq!(error, KeyFileError::Mode { path: path.clone(), mode });
        assert!(error.to_string().contains("run: chmod 600 "), "{error}");
        assert_eq!(error.fault(), Fault::OurConfiguration);
    }
    for mode in [0o600, 0o400] {
        chmod(&path, mode);
        SoftwareKey::read(&path, Backend::AwsLc).unwrap();
    }
}

#[test]
fn only_regular_files_are_read() {
    let dir = dir();
    let path = good(&dir);
    for odd in [Path::new("/dev/null"), dir.path()] {
        assert_eq!(refused(odd), KeyFileError::NotRegular { path: odd.to_owned() });
    }
    let link = dir.path().join("link.pem");
    symlink(&path, &link).unwrap();
    SoftwareKey::read(&link, Backend::AwsLc).unwrap();
    // The mode that counts is that of the file behind the link.
    chmod(&path, 0o644);
    assert_eq!(refused(&link), KeyFileError::Mode { path: link.clone(), mode: 0o644 });
    let to_device = dir.path().join("device.pem");
    symlink("/dev/null", &to_device).unwrap();
    assert_eq!(refused(&to_device), KeyFileError::NotRegular { path: to_device.clone() });
}

/// Writes a file as it must be but for its text.
fn with_text(dir: &TempDir, text: impl AsRef<[u8]>) -> PathBuf {
    let path = dir.path().join("text.pem");
    fs::write(&path, text).unwrap();
    chmod(&path, 0o600);
    path
}

#[test]
fn text_that_is_no_key_is_refused() {
    let dir = dir();
    let pem = fs::read_to_string(good(&dir)).unwrap();
    let not_pem = |text: &[u8]| {
        let path = with_text(&dir, text);
        assert_eq!(refused(&path), KeyFileError::NotPem { path });
    };
    not_pem(b"");
    not_pem(&[0xff; 40]);
    not_pem(SoftwareKey::generate(KeyAlgorithm::P256).unwrap().to_pkcs8_der().unwrap().expose());

    let path = with_text(&dir, pem.repeat(2));
    assert_eq!(refused(&path), KeyFileError::SeveralBlocks { path, count: 2 });
    let path = with_text(&dir, " ".repeat(65_537));
    assert_eq!(refused(&path), KeyFileError::TooLong { path, limit: 65_536 });
    for damaged in [pem.replace('M', "*"), pem.replace("-----END", "----END"), pem[..90].into()] {
        let path = with_text(&dir, damaged);
        assert_eq!(refused(&path), KeyFileError::Damaged { path });
    }
    for label in ["CERTIFICATE", "PUBLIC KEY"] {
        let path = with_text(&dir, pem.replace("PRIVATE KEY", label));
        assert_eq!(refused(&path), KeyFileError::OtherPem { path, label: label.into() });
    }
    for label in ["RSA PRIVATE KEY", "EC PRIVATE KEY", "OPENSSH PRIVATE KEY"] {
        let path = with_text(&dir, pem.replace("PRIVATE KEY", label));
        let error = refused(&path);
        assert!(error.to_string().contains("run: openssl pkcs8 -topk8 -nocrypt -in "), "{error}");
        assert_eq!(error, KeyFileError::LegacyFormat { path, label: label.into() });
    }
    let path = with_text(&dir, pem.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY"));
    let error = refused(&path);
    assert!(error.to_string().contains("run: openssl pkcs8 -topk8 -nocrypt -in "), "{error}");
    assert_eq!(error, KeyFileError::Encrypted { path });
}

#[test]
fn comments_and_line_ends_of_windows_do_no_harm() {
    let dir = dir();
    let pem = fs::read_to_string(good(&dir)).unwrap();
    for text in [pem.replace('\n', "\r\n"), format!("The CA's key.\n{pem}"), format!("{pem}\n")] {
        SoftwareKey::read(&with_text(&dir, text), Backend::AwsLc).unwrap();
    }
}

#[test]
fn keys_of_openssl_are_read_and_the_advice_to_convert_works() {
    if !have_openssl("keys_of_openssl_are_read_and_the_advice_to_convert_works") {
        return;
    }
    let dir = dir();
    let ec = "genpkey -algorithm EC -pkeyopt ec_param_enc:named_curve -pkeyopt ec_paramgen_curve:";
    for (made, algorithm) in [
        ("genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048".into(), KeyAlgorithm::Rsa(2048)),
        // Not a whole number of machine words.
        ("genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2056".into(), KeyAlgorithm::Rsa(2056)),
        (format!("{ec}P-256"), KeyAlgorithm::P256),
        (format!("{ec}P-384"), KeyAlgorithm::P384),
    ] {
        let path = dir.path().join(algorithm.to_string());
        openssl(dir.path(), &format!("{made} -out {algorithm}"));
        chmod(&path, 0o600);
        let scheme = SignatureScheme::default_for(algorithm);
        for backend in BACKENDS {
            let key = SoftwareKey::read(&path, backend).unwrap();
            assert_eq!(key.public_key().algorithm(), algorithm);
            let public = openssl(dir.path(), &format!("pkey -in {algorithm} -pubout -outform DER"));
            assert_eq!(key.public_key().as_der(), public.stdout);
            let signature = key.sign(scheme, b"message").unwrap();
            AwsLc.verify(key.public_key(), scheme, b"message", &signature).unwrap();
        }
        // The older format, and an encrypted key, each converted as the error says.
        let old = dir.path().join("old.pem");
        openssl(dir.path(), &format!("pkey -in {algorithm} -traditional -out old.pem"));
        chmod(&old, 0o600);
        assert!(matches!(refused(&old), KeyFileError::LegacyFormat { .. }));
        openssl(dir.path(), &format!("pkcs8 -topk8 -in {algorithm} -passout pass:x -out enc.pem"));
        let encrypted = dir.path().join("enc.pem");
        chmod(&encrypted, 0o600);
        assert_eq!(refused(&encrypted), KeyFileError::Encrypted { path: encrypted.clone() });
        openssl(dir.path(), "pkcs8 -topk8 -nocrypt -in old.pem -out new.pem");
        let new = dir.path().join("new.pem");
        chmod(&new, 0o600);
        assert_eq!(
            SoftwareKey::read(&new, Backend::AwsLc).unwrap().public_key(),
            SoftwareKey::read(&path, Backend::AwsLc).unwrap().public_key()
        );
    }
    // What `openssl ecparam -genkey` writes has the curve in a block of its own.
    let path = dir.path().join("ecparam.pem");
    openssl(dir.path(), "ecparam -name prime256v1 -genkey -out ecparam.pem");
    chmod(&path, 0o600);
    assert_eq!(refused(&path), KeyFileError::LegacyFormat { path, label: "EC PRIVATE KEY".into() });
}

#[test]
fn attack_44_keys_of_another_kind_or_size_are_refused() {
    if !have_openssl("attack_44_keys_of_another_kind_or_size_are_refused") {
        return;
    }
    let dir = dir();
    let path = dir.path().join("key.pem");
    for (arguments, problem) in [
        (
            "-algorithm RSA -pkeyopt rsa_keygen_bits:1024",
            KeyProblem::Size { algorithm: KeyAlgorithm::Rsa(1024) },
        ),
        (
            "-algorithm RSA -pkeyopt rsa_keygen_bits:4100",
            KeyProblem::Size { algorithm: KeyAlgorithm::Rsa(4100) },
        ),
        ("-algorithm RSA -pkeyopt rsa_keygen_pubexp:3", KeyProblem::Exponent),
        ("-algorithm RSA -pkeyopt rsa_keygen_pubexp:4294967297", KeyProblem::Exponent),
        (
            "-algorithm RSA-PSS -pkeyopt rsa_keygen_bits:2048",
            KeyProblem::Algorithm { oid: ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.10") },
        ),
        (
            "-algorithm ED25519",
            KeyProblem::Algorithm { oid: ObjectIdentifier::new_unwrap("1.3.101.112") },
        ),
        ("-algorithm EC -pkeyopt ec_paramgen_curve:P-521", KeyProblem::Curve),
        ("-algorithm EC -pkeyopt ec_paramgen_curve:P-224", KeyProblem::Curve),
        (
            "-algorithm EC -pkeyopt ec_paramgen_curve:P-256 -pkeyopt ec_param_enc:explicit",
            KeyProblem::Curve,
        ),
    ] {
        openssl(dir.path(), &format!("genpkey {arguments} -out key.pem"));
        chmod(&path, 0o600);
        assert_eq!(
            refused(&path),
            KeyFileError::Key { path: path.clone(), problem },
            "{arguments}"
        );
    }
}

#[test]
fn damaged_der_is_refused_by_both_back_ends() {
    for algorithm in [KeyAlgorithm::Rsa(2048), KeyAlgorithm::P256, KeyAlgorithm::P384] {
        let key = SoftwareKey::generate(algorithm).unwrap().to_pkcs8_der().unwrap();
        let refuse = |der: &[u8], what: &str| {
            for backend in BACKENDS {
                let error = SoftwareKey::from_pkcs8_der(der, backend).unwrap_err();
                assert!(matches!(error, KeyFileError::Material(_)), "{what}: {error}");
                assert_eq!(error.fault(), Fault::OurConfiguration);
            }
        };
        refuse(&[], "empty");
        refuse(&key.expose()[..key.expose().len() - 1], "shorter");
        refuse(&[key.expose(), &[0][..]].concat(), "longer");
        let flipped = |at: usize| {
            let mut bad = key.expose().clone();
            bad[at] ^= 1;
            bad
        };
        // The private exponent, or the private scalar.
        refuse(&flipped(key.expose().len() / 2), "another private part");
        let last = flipped(key.expose().len() - 3);
        if algorithm == KeyAlgorithm::Rsa(2048) {
            // The CRT coefficient comes last: aws-lc-rs works with it and checks it, the rsa crate computes its own.
            assert_eq!(
                SoftwareKey::from_pkcs8_der(&last, Backend::AwsLc).unwrap_err(),
                KeyFileError::Material(KeyProblem::Inconsistent)
            );
            SoftwareKey::from_pkcs8_der(&last, Backend::PureRust).unwrap();
        } else {
            refuse(&last, "another public part");
        }
    }
}

#[test]
fn sizes_that_are_not_made_are_refused() {
    for bits in [1024, 2047, 2056, 8192] {
        assert_eq!(
            SoftwareKey::generate(KeyAlgorithm::Rsa(bits)).unwrap_err(),
            KeyFileError::Material(KeyProblem::Size { algorithm: KeyAlgorithm::Rsa(bits) })
        );
    }
}

#[test]
fn debug_shows_the_public_half_alone() {
    let key = SoftwareKey::generate(KeyAlgorithm::P256).unwrap();
    let shown = format!("SpkiDer(p256 {})", key.public_key().hash());
    assert_eq!(format!("{key:?}"), format!("SoftwareKey({shown})"));
    assert_eq!(format!("{:?}", key.signer()), format!("SoftwareKey({shown})"));
    assert_eq!(format!("{:?}", key.decryption().unwrap()), format!("Ec(DecryptionKey({shown}))"));
}
