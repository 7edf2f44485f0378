//! Keys on tokens of SoftHSM2, against OpenSSL and against keys in software.
//!
//! A harness of its own: the tokens are made in a temporary folder that SoftHSM2 finds by an environment variable, so this
//! program runs itself again with it. Where SoftHSM2 or OpenSSL is missing every test is listed as ignored; where the
//! environment variable `CI` is `true` it fails instead.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests: what does not fit is a failed test"
)]

#[path = "support/softhsm.rs"]
#[allow(dead_code, reason = "the tests of the gateway use the rest")]
mod softhsm;

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::slot::Slot;
use libtest_mimic::{Arguments, Failed, Trial};
use rsa::{BoxedUint, PublicKey, hazmat};
use scep_keys::{
    AwsLc, Backend, KeyPlace, OpenKeyError, Pkcs11Error, Pkcs11Key, PrivateKey, SoftwareKey,
    TokenKeyPurpose, TokenUri, danger, distinct_keys, open_key, public_key_pem,
};
use scep_types::{
    CryptoProvider as _, DecryptionKey, Fault, KeyAlgorithm, KeyError, OaepHash, RsaDecryptionKey,
    RsaPadding, Secret, SignatureScheme, SpkiDer,
};
use softhsm::{PIN, SoftHsm, set_mode};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;

/// Where the tokens are, in the second run.
const FOLDER: &str = "SCEP_KEYS_TEST_TOKENS";
/// A token for each test: SoftHSM2 sometimes fails to make a key while another thread does on the same token.
const TOKENS: &[&str] = &[
    "sign",
    "open",
    "padding",
    "agree",
    "purpose",
    "stays",
    "asks",
    "certified",
    "threads",
    "out",
    "refused",
    "gone",
    "wrong",
    "twice",
    "pair",
    "mixed",
];
/// Set where a test has a process to itself.
const ALONE: &str = "SCEP_KEYS_TEST_ALONE";

const RSA: [SignatureScheme; 6] = [
    SignatureScheme::RsaPkcs1Sha256,
    SignatureScheme::RsaPkcs1Sha384,
    SignatureScheme::RsaPkcs1Sha512,
    SignatureScheme::RsaPssSha256,
    SignatureScheme::RsaPssSha384,
    SignatureScheme::RsaPssSha512,
];
const EC: [SignatureScheme; 3] =
    [SignatureScheme::EcdsaSha256, SignatureScheme::EcdsaSha384, SignatureScheme::EcdsaSha512];
const PADDINGS: [RsaPadding; 5] = [
    RsaPadding::Pkcs1v15,
    RsaPadding::Oaep(OaepHash::Sha1),
    RsaPadding::Oaep(OaepHash::Sha256),
    RsaPadding::Oaep(OaepHash::Sha384),
    RsaPadding::Oaep(OaepHash::Sha512),
];

fn main() -> ExitCode {
    if std::env::var_os(FOLDER).is_some() {
        return libtest_mimic::run(&Arguments::from_args(), trials(false)).exit_code();
    }
    let openssl = Command::new("openssl").arg("version").stdout(Stdio::null()).status().is_ok();
    let Some(module) = softhsm::module().filter(|_| openssl) else {
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "softhsm2 or openssl is missing");
        return libtest_mimic::run(&Arguments::from_args(), trials(true)).exit_code();
    };
    let hsm = SoftHsm::new(module, TOKENS);
    let status = Command::new(std::env::current_exe().unwrap())
        .args(std::env::args_os().skip(1))
        .env("SOFTHSM2_CONF", hsm.conf())
        .env(FOLDER, hsm.dir())
        .env("SCEP_KEYS_TEST_PIN", PIN)
        .status()
        .unwrap();
    ExitCode::from(u8::try_from(status.code().unwrap_or(1)).unwrap_or(1))
}

fn trials(missing: bool) -> Vec<Trial> {
    let tests: &[(&str, fn())] = &[
        ("every_scheme_verifies_with_openssl", every_scheme_verifies_with_openssl),
        ("every_padding_is_decrypted", every_padding_is_decrypted),
        (
            "attack_21_a_bad_padding_leaves_the_random_key_and_no_trace",
            attack_21_a_bad_padding_leaves_the_random_key_and_no_trace,
        ),
        ("agreement_gives_the_x_coordinate", agreement_gives_the_x_coordinate),
        ("a_key_does_what_it_was_made_for", a_key_does_what_it_was_made_for),
        (
            "a_key_that_is_made_stays_and_does_nothing_else",
            a_key_that_is_made_stays_and_does_nothing_else,
        ),
        (
            "a_key_that_asks_for_the_pin_at_each_use_is_refused",
            a_key_that_asks_for_the_pin_at_each_use_is_refused,
        ),
        ("the_public_half_may_be_in_a_certificate", the_public_half_may_be_in_a_certificate),
        ("many_threads_share_a_token", many_threads_share_a_token),
        ("a_lost_login_is_made_again", a_lost_login_is_made_again),
        (
            "a_pin_refused_at_a_new_login_is_not_tried_again",
            a_pin_refused_at_a_new_login_is_not_tried_again,
        ),
        ("an_ended_library_is_begun_again", an_ended_library_is_begun_again),
        (
            "a_key_that_has_gone_is_an_error_with_a_class",
            a_key_that_has_gone_is_an_error_with_a_class,
        ),
        ("a_wrong_pin_is_tried_once", a_wrong_pin_is_tried_once),
        ("the_pin_is_closed_to_others", the_pin_is_closed_to_others),
        ("no_key_and_two_keys_are_refused", no_key_and_two_keys_are_refused),
        ("files_and_tokens_mix", files_and_tokens_mix),
    ];
    tests
        .iter()
        .map(|&(name, test)| {
            Trial::test(name, move || {
                test();
                Ok::<(), Failed>(())
            })
            .with_ignored_flag(missing)
        })
        .collect()
}

fn folder() -> PathBuf {
    PathBuf::from(std::env::var_os(FOLDER).unwrap())
}

fn text(token: &str, object: &str) -> String {
    softhsm::uri(&softhsm::module().unwrap(), &folder(), token, object)
}

fn uri(token: &str, object: &str) -> TokenUri {
    TokenUri::parse(&text(token, object), &folder()).unwrap()
}

fn made(token: &str, object: &str, algorithm: KeyAlgorithm, purpose: TokenKeyPurpose) -> Pkcs11Key {
    Pkcs11Key::generate(&uri(token, object), algorithm, purpose).unwrap()
}

/// The library as this process has it already: for disturbing it.
fn library() -> Pkcs11 {
    let library = Pkcs11::new(softhsm::module().unwrap()).unwrap();
    // What is initialised already says so.
    let _ = library.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK));
    library
}

fn slot(token: &str) -> Slot {
    let library = library();
    let is = |slot: &Slot| library.get_token_info(*slot).unwrap().label() == token;
    library.get_slots_with_token().unwrap().into_iter().find(is).unwrap()
}

fn openssl_verifies(
    key: &SpkiDer,
    scheme: SignatureScheme,
    message: &[u8],
    signature: &[u8],
) -> bool {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, octets: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, octets).unwrap();
        path
    };
    let (digest, pss) = match scheme {
        SignatureScheme::RsaPkcs1Sha1 => ("-sha1", false),
        SignatureScheme::RsaPkcs1Sha256 | SignatureScheme::EcdsaSha256 => ("-sha256", false),
        SignatureScheme::RsaPkcs1Sha384 | SignatureScheme::EcdsaSha384 => ("-sha384", false),
        SignatureScheme::RsaPkcs1Sha512 | SignatureScheme::EcdsaSha512 => ("-sha512", false),
        SignatureScheme::RsaPssSha256 => ("-sha256", true),
        SignatureScheme::RsaPssSha384 => ("-sha384", true),
        SignatureScheme::RsaPssSha512 => ("-sha512", true),
    };
    let mut openssl = Command::new("openssl");
    openssl.args(["dgst", digest, "-verify"]).arg(file("key", public_key_pem(key).as_bytes()));
    if pss {
        openssl.args(["-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:digest"]);
    }
    openssl.arg("-signature").arg(file("signature", signature)).arg(file("message", message));
    openssl.output().unwrap().status.success()
}

fn every_scheme_verifies_with_openssl() {
    let message = b"what is signed";
    for (object, algorithm, schemes) in [
        ("sign-rsa2048", KeyAlgorithm::Rsa(2048), RSA.as_slice()),
        ("sign-rsa3072", KeyAlgorithm::Rsa(3072), &RSA),
        ("sign-p256", KeyAlgorithm::P256, &EC),
        ("sign-p384", KeyAlgorithm::P384, &EC),
    ] {
        let key = made("sign", object, algorithm, TokenKeyPurpose::Signing);
        assert_eq!(key.public_key().algorithm(), algorithm);
        let signer = key.signer().unwrap();
        for &scheme in schemes {
            let signature = signer.sign(scheme, message).unwrap();
            assert!(openssl_verifies(key.public_key(), scheme, message, &signature), "{scheme:?}");
            assert!(!openssl_verifies(key.public_key(), scheme, b"another", &signature));
            AwsLc.verify(key.public_key(), scheme, message, &signature).unwrap();
        }
        let others = if matches!(algorithm, KeyAlgorithm::Rsa(_)) { EC.as_slice() } else { &RSA };
        for &scheme in others.iter().chain([&SignatureScheme::RsaPkcs1Sha1]) {
            let error = signer.sign(scheme, message).unwrap_err();
            assert!(matches!(error, KeyError::Unsupported { .. }), "{scheme:?}: {error}");
        }
        let legacy = danger::sha1_signer_of(&PrivateKey::Token(key.clone()));
        if schemes.len() == RSA.len() {
            let scheme = SignatureScheme::RsaPkcs1Sha1;
            let signature = legacy.unwrap().sign(scheme, message).unwrap();
            AwsLc.verify(key.public_key(), scheme, message, &signature).unwrap();
        } else {
            legacy.unwrap_err();
        }
    }
}

fn rsa_decryption(key: &Pkcs11Key) -> Arc<dyn RsaDecryptionKey> {
    let DecryptionKey::Rsa(decryption) = key.decryption().unwrap() else { panic!("not RSA") };
    decryption
}

fn opened(key: &dyn RsaDecryptionKey, padding: RsaPadding, sealed: &[u8], len: usize) -> Vec<u8> {
    let mut got = Secret::new(vec![0xa5; len]);
    key.decrypt_key(padding, sealed, &mut got).unwrap();
    got.expose().clone()
}

fn openssl_encrypts(key: &SpkiDer, padding: RsaPadding, message: &[u8]) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let [public, plain] = ["public", "plain"].map(|name| dir.path().join(name));
    std::fs::write(&public, public_key_pem(key)).unwrap();
    std::fs::write(&plain, message).unwrap();
    let mut openssl = Command::new("openssl");
    openssl.args(["pkeyutl", "-encrypt", "-pubin", "-inkey"]).arg(public).arg("-in").arg(plain);
    let hash = match padding {
        RsaPadding::Pkcs1v15 => None,
        RsaPadding::Oaep(OaepHash::Sha1) => Some("sha1"),
        RsaPadding::Oaep(OaepHash::Sha256) => Some("sha256"),
        RsaPadding::Oaep(OaepHash::Sha384) => Some("sha384"),
        RsaPadding::Oaep(OaepHash::Sha512) => Some("sha512"),
    };
    if let Some(hash) = hash {
        openssl.args(["-pkeyopt", "rsa_padding_mode:oaep", "-pkeyopt"]);
        openssl.arg(format!("rsa_oaep_md:{hash}"));
    }
    let output = openssl.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    output.stdout
}

fn every_padding_is_decrypted() {
    for (object, bits) in [("open-rsa2048", 2048), ("open-rsa4096", 4096)] {
        let key = made("open", object, KeyAlgorithm::Rsa(bits), TokenKeyPurpose::Decryption);
        let decryption = rsa_decryption(&key);
        assert_eq!(decryption.public_key(), key.public_key());
        for padding in PADDINGS {
            for message in [[7; 16].as_slice(), &[0; 24], &[255; 32]] {
                let sealed = openssl_encrypts(key.public_key(), padding, message);
                assert_eq!(opened(&*decryption, padding, &sealed, message.len()), message);
                let sealed = AwsLc.rsa_encrypt(key.public_key(), padding, message).unwrap();
                assert_eq!(opened(&*decryption, padding, &sealed, message.len()), message);
            }
        }
    }
}

/// Encrypts an encoded message as it is.
fn raw(key: &SpkiDer, em: &[u8]) -> Vec<u8> {
    let parts = key.rsa().unwrap();
    let bits = u32::try_from(parts.modulus.len() * 8).unwrap();
    let uint = |octets: &[u8]| BoxedUint::from_be_slice(octets, bits).unwrap();
    let e = BoxedUint::from_be_slice(parts.exponent, 64).unwrap();
    let public = PublicKey::new(uint(parts.modulus), e).unwrap();
    let c = hazmat::rsa_encrypt(&public, &uint(em)).unwrap().to_be_bytes();
    c[c.len() - parts.modulus.len()..].to_vec()
}

fn attack_21_a_bad_padding_leaves_the_random_key_and_no_trace() {
    // A key that is in memory too, so that a good encoding can be had and spoilt.
    let file = folder().join("known.pem");
    let known = SoftwareKey::generate(KeyAlgorithm::Rsa(2048)).unwrap();
    known.write_new(&file).unwrap();
    let status = Command::new("softhsm2-util")
        .args(["--import", file.to_str().unwrap(), "--token", "padding", "--pin", PIN])
        .args(["--label", "known", "--id", "0a"])
        .stdout(Stdio::null())
        .status();
    assert!(status.unwrap().success());
    // The library reads the folder of tokens anew when it is asked for objects.
    let key = Pkcs11Key::open(&uri("padding", "known")).unwrap();
    assert_eq!(key.public_key(), known.public_key());
    let (public, decryption) = (key.public_key(), rsa_decryption(&key));
    let DecryptionKey::Rsa(software) = known.decryption().unwrap() else { panic!() };
    let unchanged = vec![0xa5; 16];

    let mut good = vec![0x5a; 256];
    good[..2].copy_from_slice(&[0, 2]);
    good[239] = 0;
    good[240..].fill(7);
    let pkcs1 = RsaPadding::Pkcs1v15;
    assert_eq!(opened(&*decryption, pkcs1, &raw(public, &good), 16), [7; 16]);
    for (at, octet) in [(0, 1), (1, 1), (2, 0), (9, 0), (100, 0), (239, 1), (240, 0)] {
        let mut bad = good.clone();
        bad[at] = octet;
        let sealed = raw(public, &bad);
        let expected = opened(&*software, pkcs1, &sealed, 16);
        assert_eq!(opened(&*decryption, pkcs1, &sealed, 16), expected, "octet {at}");
        assert_eq!(expected == unchanged, at != 240, "octet {at}");
    }
    for len in [8, 15, 17, 24, 32] {
        assert_eq!(opened(&*decryption, pkcs1, &raw(public, &good), len), vec![0xa5; len]);
    }
    for padding in PADDINGS {
        // Another padding, another hash, a flipped bit, a message of another length.
        for sealed_with in PADDINGS.into_iter().filter(|other| *other != padding) {
            let sealed = AwsLc.rsa_encrypt(public, sealed_with, &[7; 16]).unwrap();
            assert_eq!(opened(&*decryption, padding, &sealed, 16), unchanged, "{padding:?}");
        }
        let mut sealed = AwsLc.rsa_encrypt(public, padding, &[7; 16]).unwrap();
        assert_eq!(opened(&*decryption, padding, &sealed, 16), [7; 16]);
        assert_eq!(opened(&*decryption, padding, &sealed, 24), vec![0xa5; 24]);
        sealed[255] ^= 1;
        assert_eq!(opened(&*decryption, padding, &sealed, 16), unchanged, "{padding:?}");
        // Zero, one, the modulus and above: numbers that some back ends treat apart.
        for sealed in [vec![0; 256], raw(public, &[vec![0; 255], vec![1]].concat()), vec![255; 256]]
        {
            assert_eq!(opened(&*decryption, padding, &sealed, 16), unchanged, "{padding:?}");
        }
        let mut key = Secret::new(unchanged.clone());
        for len in [0, 255, 257] {
            let error = decryption.decrypt_key(padding, &vec![1; len], &mut key).unwrap_err();
            assert!(matches!(error, KeyError::Rejected { .. }), "{error}");
        }
    }
}

fn agreement_gives_the_x_coordinate() {
    for (object, algorithm) in
        [("agree-p256", KeyAlgorithm::P256), ("agree-p384", KeyAlgorithm::P384)]
    {
        let key = made("agree", object, algorithm, TokenKeyPurpose::Decryption);
        let DecryptionKey::Ec(agreement) = key.decryption().unwrap() else { panic!("not EC") };
        // Some of the secrets begin with zeros.
        for _ in 0..300 {
            let ours = AwsLc.ephemeral_agree(key.public_key()).unwrap();
            let theirs = agreement.agree(&ours.public_point).unwrap();
            assert_eq!(ours.shared_secret.expose(), theirs.expose());
        }
        let mut off = AwsLc.ephemeral_agree(key.public_key()).unwrap().public_point;
        let compressed = [&[2 + (off[off.len() - 1] & 1)], &off[1..=off.len() / 2]].concat();
        *off.last_mut().unwrap() ^= 1;
        for bad in [off.as_slice(), &compressed, &[], &[4]] {
            let error = agreement.agree(bad).unwrap_err();
            assert!(matches!(error, KeyError::Rejected { .. }), "{error}");
        }
    }
}

fn a_key_does_what_it_was_made_for() {
    for (algorithm, name) in [(KeyAlgorithm::Rsa(2048), "rsa"), (KeyAlgorithm::P256, "ec")] {
        let signs =
            made("purpose", &format!("only-signs-{name}"), algorithm, TokenKeyPurpose::Signing);
        let error = signs.decryption().unwrap_err();
        assert!(matches!(error, Pkcs11Error::Usage { .. }), "{error}");
        let opens =
            made("purpose", &format!("only-opens-{name}"), algorithm, TokenKeyPurpose::Decryption);
        let error = opens.signer().unwrap_err();
        assert!(matches!(error, Pkcs11Error::Usage { .. }), "{error}");
        let both = made("purpose", &format!("both-{name}"), algorithm, TokenKeyPurpose::Both);
        both.signer().unwrap();
        both.decryption().unwrap();
    }
    let error = Pkcs11Key::generate(
        &uri("purpose", "both-ec"),
        KeyAlgorithm::P256,
        TokenKeyPurpose::Signing,
    );
    assert!(matches!(error.unwrap_err(), Pkcs11Error::Exists { .. }));
}

fn a_key_that_is_made_stays_and_does_nothing_else() {
    use cryptoki::object::{Attribute, AttributeType, ObjectClass};
    let session = library().open_ro_session(slot("stays")).unwrap();
    for (algorithm, name, opening) in [
        (KeyAlgorithm::Rsa(2048), "stays-rsa", AttributeType::Decrypt),
        (KeyAlgorithm::P256, "stays-ec", AttributeType::Derive),
    ] {
        for (purpose, name, signs, opens) in [
            (TokenKeyPurpose::Signing, format!("{name}-signs"), true, false),
            (TokenKeyPurpose::Decryption, format!("{name}-opens"), false, true),
        ] {
            made("stays", &name, algorithm, purpose);
            let label = Attribute::Label(name.into_bytes());
            let found = session.find_objects(&[Attribute::Class(ObjectClass::PRIVATE_KEY), label]);
            let [key] = found.unwrap().try_into().unwrap();
            let is = |wanted| session.get_attributes(key, &[wanted]).unwrap().remove(0);
            assert_eq!(is(AttributeType::Sensitive), Attribute::Sensitive(true));
            assert_eq!(is(AttributeType::Extractable), Attribute::Extractable(false));
            assert_eq!(is(AttributeType::NeverExtractable), Attribute::NeverExtractable(true));
            assert_eq!(is(AttributeType::Sign), Attribute::Sign(signs));
            assert_eq!(is(AttributeType::Unwrap), Attribute::Unwrap(false));
            let expected = match opening {
                AttributeType::Decrypt => Attribute::Decrypt(opens),
                _ => Attribute::Derive(opens),
            };
            assert_eq!(is(opening), expected);
            let value = session.get_attributes(key, &[AttributeType::Value]);
            assert!(value.unwrap_or_default().is_empty());
        }
    }
}

fn a_key_that_asks_for_the_pin_at_each_use_is_refused() {
    use cryptoki::mechanism::Mechanism;
    use cryptoki::object::Attribute;
    // Logs in.
    made("asks", "asks-not", KeyAlgorithm::P256, TokenKeyPurpose::Signing);
    let session = library().open_rw_session(slot("asks")).unwrap();
    let public = [
        Attribute::EcParams(vec![6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7]),
        Attribute::Id(vec![0x0b]),
        Attribute::Token(true),
    ];
    let private = [
        Attribute::Label(b"asks".to_vec()),
        Attribute::Id(vec![0x0b]),
        Attribute::Token(true),
        Attribute::Private(true),
        Attribute::Sign(true),
        Attribute::AlwaysAuthenticate(true),
    ];
    session.generate_key_pair(&Mechanism::EccKeyPairGen, &public, &private).unwrap();
    let error = Pkcs11Key::open(&uri("asks", "asks")).unwrap_err();
    assert!(error.to_string().contains("CKA_ALWAYS_AUTHENTICATE"), "{error}");
}

fn the_public_half_may_be_in_a_certificate() {
    use cryptoki::object::{Attribute, AttributeType, ObjectClass};
    let key = made("certified", "certified", KeyAlgorithm::P256, TokenKeyPurpose::Signing);
    let library = library();
    let slot = slot("certified");
    let session = library.open_rw_session(slot).unwrap();
    let find = |class| {
        let label = Attribute::Label(b"certified".to_vec());
        let found = session.find_objects(&[Attribute::Class(class), label]).unwrap();
        assert_eq!(found.len(), 1);
        found[0]
    };
    let public = find(ObjectClass::PUBLIC_KEY);
    let id = session.get_attributes(public, &[AttributeType::Id]).unwrap().remove(0);
    session.destroy_object(public).unwrap();
    let error = Pkcs11Key::open(&uri("certified", "certified")).unwrap_err();
    assert!(matches!(error, Pkcs11Error::NoPublicKey { .. }), "{error}");
    // Any certificate with this key will do: made by OpenSSL with a key of its own.
    let dir = tempfile::tempdir().unwrap();
    let public = dir.path().join("public");
    std::fs::write(&public, public_key_pem(key.public_key())).unwrap();
    let output = Command::new("openssl")
        .args(["x509", "-new", "-subj", "/CN=x", "-outform", "DER", "-force_pubkey"])
        .arg(&public)
        .arg("-key")
        .arg(other_key(dir.path()))
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    session
        .create_object(&[
            Attribute::Class(ObjectClass::CERTIFICATE),
            Attribute::CertificateType(cryptoki::object::CertificateType::X_509),
            Attribute::Token(true),
            Attribute::Subject(vec![0x30, 0]),
            Attribute::Value(output.stdout),
            id,
        ])
        .unwrap();
    let again = Pkcs11Key::open(&uri("certified", "certified")).unwrap();
    assert_eq!(again.public_key(), key.public_key());
    again.signer().unwrap();
}

fn other_key(dir: &Path) -> PathBuf {
    let path = dir.join("other.pem");
    SoftwareKey::generate(KeyAlgorithm::P256).unwrap().write_new(&path).unwrap();
    path
}

fn many_threads_share_a_token() {
    let signing = made("threads", "threads-ec", KeyAlgorithm::P256, TokenKeyPurpose::Signing);
    let opening =
        made("threads", "threads-rsa", KeyAlgorithm::Rsa(2048), TokenKeyPurpose::Decryption);
    let (signer, decryption) = (signing.signer().unwrap(), rsa_decryption(&opening));
    // More threads than sessions.
    std::thread::scope(|scope| {
        for thread in 0..12_u8 {
            let (signer, decryption) = (&signer, &decryption);
            let (signing, opening) = (&signing, &opening);
            scope.spawn(move || {
                for round in 0..20_u8 {
                    let message = [thread, round];
                    let scheme = SignatureScheme::EcdsaSha256;
                    let signature = signer.sign(scheme, &message).unwrap();
                    AwsLc.verify(signing.public_key(), scheme, &message, &signature).unwrap();
                    let sent = [thread ^ round; 16];
                    let padding = RsaPadding::Oaep(OaepHash::Sha256);
                    let sealed = AwsLc.rsa_encrypt(opening.public_key(), padding, &sent).unwrap();
                    assert_eq!(opened(&**decryption, padding, &sealed, 16), sent);
                }
            });
        }
    });
}

fn a_lost_login_is_made_again() {
    let key = made("out", "key", KeyAlgorithm::P256, TokenKeyPurpose::Both);
    let signer = key.signer().unwrap();
    let sign = || signer.sign(SignatureScheme::EcdsaSha256, b"m");
    let library = library();
    let slot = slot("out");
    for _ in 0..3 {
        // Several sessions, so that there are stale ones beside the one whose loss is noticed.
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| (0..20).for_each(|_| drop(sign().unwrap())));
            }
        });
        library.open_ro_session(slot).unwrap().logout().unwrap();
        sign().unwrap();
    }
    // The whole token may have been used by somebody else meanwhile: all that counts is its one PIN.
    let elsewhere = text("out", "key").replace("/pin", "/pin-out");
    let elsewhere = TokenUri::parse(&elsewhere, &folder()).unwrap();
    let error = Pkcs11Key::open(&elsewhere).unwrap_err();
    assert!(matches!(error, Pkcs11Error::PinTwice { .. }), "{error}");
}

fn a_pin_refused_at_a_new_login_is_not_tried_again() {
    let pin = folder().join("pin-refused");
    std::fs::write(&pin, PIN).unwrap();
    set_mode(&pin, 0o600);
    let uri = TokenUri::parse(&text("refused", "key").replace("/pin", "/pin-refused"), &folder());
    let (algorithm, purpose) = (KeyAlgorithm::P256, TokenKeyPurpose::Signing);
    let key = Pkcs11Key::generate(&uri.unwrap(), algorithm, purpose).unwrap();
    let signer = key.signer().unwrap();
    let sign = || signer.sign(SignatureScheme::EcdsaSha256, b"m");
    let log_out = || library().open_ro_session(slot("refused")).unwrap().logout().unwrap();
    // Without the file there is no login; with it there is again.
    std::fs::remove_file(&pin).unwrap();
    sign().unwrap();
    log_out();
    assert_eq!(sign().unwrap_err().fault(), Fault::OurDependency);
    std::fs::write(&pin, PIN).unwrap();
    set_mode(&pin, 0o600);
    sign().unwrap();
    // A wrong one is the last that is tried.
    std::fs::write(&pin, "another").unwrap();
    log_out();
    let error = sign().unwrap_err().to_string();
    assert!(error.contains("refuses the PIN (PinIncorrect)"), "{error}");
    std::fs::write(&pin, PIN).unwrap();
    assert_eq!(sign().unwrap_err().to_string(), error);
}

/// A library that was ended beneath all of its sessions, as one is whose service or network was away.
fn an_ended_library_is_begun_again() {
    if std::env::var_os(ALONE).is_none() {
        let hsm = SoftHsm::new(softhsm::module().unwrap(), &["ended"]);
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "an_ended_library_is_begun_again"])
            .env("SOFTHSM2_CONF", hsm.conf())
            .env(FOLDER, hsm.dir())
            .env(ALONE, "1")
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        return;
    }
    let key = made("ended", "key", KeyAlgorithm::Rsa(2048), TokenKeyPurpose::Both);
    let (signer, decryption) = (key.signer().unwrap(), rsa_decryption(&key));
    for _ in 0..2 {
        library().finalize().unwrap();
        signer.sign(SignatureScheme::RsaPkcs1Sha256, b"m").unwrap();
        library().finalize().unwrap();
        let sealed = AwsLc.rsa_encrypt(key.public_key(), RsaPadding::Pkcs1v15, &[7; 16]).unwrap();
        assert_eq!(opened(&*decryption, RsaPadding::Pkcs1v15, &sealed, 16), [7; 16]);
    }
    // The token itself gone, and back.
    let (here, away) = (folder().join("tokens"), folder().join("tokens-away"));
    std::fs::rename(&here, &away).unwrap();
    std::fs::create_dir(&here).unwrap();
    library().finalize().unwrap();
    for _ in 0..2 {
        let error = signer.sign(SignatureScheme::RsaPkcs1Sha256, b"m").unwrap_err();
        assert_eq!(error.fault(), Fault::OurDependency, "{error}");
    }
    std::fs::remove_dir(&here).unwrap();
    std::fs::rename(&away, &here).unwrap();
    library().finalize().unwrap();
    signer.sign(SignatureScheme::RsaPkcs1Sha256, b"m").unwrap();
}

fn a_key_that_has_gone_is_an_error_with_a_class() {
    let key = made("gone", "key", KeyAlgorithm::Rsa(2048), TokenKeyPurpose::Both);
    let signer = key.signer().unwrap();
    let sign = || signer.sign(SignatureScheme::RsaPkcs1Sha256, b"m");
    sign().unwrap();
    let library = library();
    let slot = slot("gone");
    let session = library.open_rw_session(slot).unwrap();
    for object in session.find_objects(&[]).unwrap() {
        session.destroy_object(object).unwrap();
    }
    for _ in 0..2 {
        let error = sign().unwrap_err();
        assert_eq!(error.fault(), Fault::OurDependency, "{error}");
        assert!(error.to_string().contains("pkcs11:token=gone;object=key"), "{error}");
    }
    // Another key that has taken the name is not the same: its signatures would verify nowhere.
    drop(session);
    let other = made("gone", "key", KeyAlgorithm::Rsa(2048), TokenKeyPurpose::Both);
    assert_ne!(other.public_key(), key.public_key());
    other.signer().unwrap().sign(SignatureScheme::RsaPkcs1Sha256, b"m").unwrap();
    let error = sign().unwrap_err();
    assert_eq!(error.fault(), Fault::OurDependency, "{error}");
}

fn a_wrong_pin_is_tried_once() {
    let text = text("wrong", "key").replace("/pin", "/pin-wrong");
    let pin = folder().join("pin-wrong");
    let uri = TokenUri::parse(&text, &folder()).unwrap();
    let open = || Pkcs11Key::open(&uri).unwrap_err();
    assert!(matches!(open(), Pkcs11Error::PinFile(_)));
    for (content, expected) in [("", "PinText"), ("a\nb", "PinText"), ("wrong one", "PinRefused")] {
        std::fs::write(&pin, content).unwrap();
        set_mode(&pin, 0o600);
        let error = open();
        assert!(format!("{error:?}").starts_with(expected), "{error}");
        assert!(!format!("{error:?} {error}").contains("wrong one"), "{error}");
        assert_eq!(error.fault(), Fault::OurConfiguration);
    }
    // Mended, it opens: there is no key yet.
    std::fs::write(&pin, PIN).unwrap();
    assert!(matches!(open(), Pkcs11Error::Count { count: 0, .. }));
}

fn the_pin_is_closed_to_others() {
    let pin = folder().join("pin-twice");
    std::fs::write(&pin, PIN).unwrap();
    set_mode(&pin, 0o640);
    let open = |source: &str| {
        let text = text("twice", "none");
        let text = format!("{}&pin-source={source}", text.split_once('&').unwrap().0);
        Pkcs11Key::open(&TokenUri::parse(&text, &folder()).unwrap()).unwrap_err()
    };
    let error = open("pin-twice");
    assert!(error.to_string().contains("0640"), "{error}");
    let error = open("env:SCEP_KEYS_TEST_NO_PIN");
    assert!(matches!(error, Pkcs11Error::PinMissing { .. }), "{error}");
    let error = open("env:SCEP_KEYS_TEST_PIN");
    assert!(matches!(error, Pkcs11Error::Count { count: 0, .. }), "{error}");
}

fn no_key_and_two_keys_are_refused() {
    let error = Pkcs11Key::open(&uri("pair", "nobody")).unwrap_err();
    assert!(matches!(error, Pkcs11Error::Count { count: 0, .. }), "{error}");
    let error = Pkcs11Key::open(&uri("nowhere", "key")).unwrap_err();
    assert!(matches!(error, Pkcs11Error::Token { count: 0, .. }), "{error}");
    let with_id = |id: &str| {
        let text = text("pair", "pair").replace("object=pair", &format!("object=pair;id=%{id}"));
        TokenUri::parse(&text, &folder()).unwrap()
    };
    let [one, two] = ["01", "02"].map(|id| {
        Pkcs11Key::generate(&with_id(id), KeyAlgorithm::P256, TokenKeyPurpose::Signing).unwrap()
    });
    let error = Pkcs11Key::open(&uri("pair", "pair")).unwrap_err();
    assert!(matches!(error, Pkcs11Error::Count { count: 2, .. }), "{error}");
    for (id, key) in [("01", &one), ("02", &two)] {
        assert_eq!(Pkcs11Key::open(&with_id(id)).unwrap().public_key(), key.public_key());
    }
    let text = text("pair", "pair");
    let elsewhere = text.replace("libsofthsm2.so", "nothing.so");
    let error = Pkcs11Key::open(&TokenUri::parse(&elsewhere, &folder()).unwrap()).unwrap_err();
    assert!(matches!(error, Pkcs11Error::Module { .. }), "{error}");
}

fn files_and_tokens_mix() {
    let token = made("mixed", "mixed", KeyAlgorithm::P256, TokenKeyPurpose::Signing);
    SoftwareKey::generate(KeyAlgorithm::P256)
        .unwrap()
        .write_new(&folder().join("mixed.pem"))
        .unwrap();
    let open = |text: &str| open_key(&KeyPlace::parse(&folder(), text).unwrap());
    let file = open("mixed.pem").unwrap();
    let same = open(&text("mixed", "mixed")).unwrap();
    assert!(file.software().is_some() && same.software().is_none());
    assert_eq!(same.public_key(), token.public_key());
    let keys = [file.public_key(), token.public_key()];
    distinct_keys(&[("a", keys[0]), ("b", keys[1])]).unwrap();
    distinct_keys(&[("a", token.public_key()), ("b", same.public_key())]).unwrap_err();
    let read = SoftwareKey::read(&folder().join("mixed.pem"), Backend::AwsLc).unwrap();
    assert_eq!(file.public_key(), read.public_key());
    for upper in ["PKCS11:token=mixed", "pkcs11:token=mixed;object=mixed"] {
        let error = KeyPlace::parse(&folder(), upper).unwrap_err();
        assert!(matches!(error, OpenKeyError::Uri(_)), "{error}");
    }
    let shown = format!("{same:?}");
    assert!(shown.contains("pkcs11:token=mixed;object=mixed") && !shown.contains("pin"), "{shown}");
}
