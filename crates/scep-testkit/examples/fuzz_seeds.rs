//! Writes the seed corpora of `fuzz/`: inputs that are right, so that a fuzzer starts behind the first checks.
//!
//! The same files each time: nothing in them is random, and no signature is of a kind that is.
#![allow(clippy::expect_used, reason = "a tool for developers: what does not fit is its failure")]

use base64::{Engine as _, engine::general_purpose::STANDARD};
use scep_challenge::Sid;
use scep_message::client::{
    Ask, Expected, Identity, Reply, issuer_and_serial, issuer_and_subject, request,
};
use scep_message::http::{Operation, from_query, pki_operation_query};
use scep_message::{
    ContentEncryption, LegacyAlgorithms, Limits, MessageType, PkiMessage, Recipient, ReplyChain,
    ca_cert, next_ca,
};
use scep_pkcs10::CsrBuilder;
use scep_pkcs10::danger::attribute;
use scep_testkit::house::{House, SITE_RULES};
use scep_testkit::noop_house::{InputKind, enrolment_input};
use scep_testkit::{NoOpHouse, NoOpSigner, TestKey};
use scep_types::tlv::{self, tag};
use scep_types::{
    CertificateDer, GeneralName, ObjectIdentifier, ReleasedCertificate, RsaPadding, Secret,
    SignatureScheme, Signer as _, TransactionId, UserId,
};
use std::path::{Path, PathBuf};

/// The repository's root.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn write(target: &str, name: &str, bytes: &[u8]) {
    let folder = root().join("fuzz/corpus").join(target);
    std::fs::create_dir_all(&folder).expect("a folder for the seeds");
    std::fs::write(folder.join(name), bytes).expect("a seed is written");
}

/// What a real client has sent: base64 of a body, or a query.
fn capture(name: &str) -> String {
    let file = root().join("crates/scep-message/tests/captures").join(name);
    let text = std::fs::read_to_string(file).expect("a capture");
    let (_, sent) = text.split_once("\n\n").expect("a capture has a header");
    sent.split_whitespace().collect()
}

/// The message that it sent.
fn message(name: &str) -> Vec<u8> {
    let sent = capture(name);
    match from_query(&sent) {
        Ok(Operation::PkiOperation(message)) => message,
        _ => STANDARD.decode(sent).expect("base64"),
    }
}

fn text(path: &str) -> Vec<u8> {
    std::fs::read(root().join(path)).expect("a file of the repository")
}

/// A certificate of the seeds is on no record.
struct Seed(CertificateDer);

impl ReleasedCertificate for Seed {
    fn certificate(&self) -> &CertificateDer {
        &self.0
    }
}

/// The answer to a device with an EC key, encrypted with the challenge that the target knows.
fn success_by_challenge(house: &NoOpHouse, signer: &NoOpSigner, csr: &[u8]) -> Vec<u8> {
    let (provider, ra) = (house.provider(), house.ra());
    // Any certificate of an EC key does for a signer whose signature nobody looks at.
    let name = tlv::sequence(&[]);
    let algorithm = SignatureScheme::EcdsaSha256.algorithm_der();
    let time = tlv::encode(tag::UTC_TIME, b"260101000000Z");
    let tbs = tlv::sequence(&[
        &tlv::small_int(1),
        &algorithm,
        &name,
        &tlv::sequence(&[&time, &time]),
        &name,
        signer.public_key().as_der(),
    ]);
    let der = tlv::sequence(&[&tbs, &algorithm, &tlv::whole_bits(&[0])]);
    let certificate = CertificateDer::parse(&der).expect("a certificate");
    let transaction = TransactionId::new("TX").expect("an id");
    let ask = Ask {
        message_type: MessageType::PkcsReq,
        transaction_id: &transaction,
        data: csr,
        recipient: &ra.recipients.first().expect("a recipient").certificate,
        padding: RsaPadding::Pkcs1v15,
        encryption: ContentEncryption::Aes128Cbc,
        scheme: SignatureScheme::EcdsaSha256,
    };
    let who = Identity { certificate: &certificate, signer };
    let (message, nonce) = request(&ask, &who, provider).expect("a message");
    let signed = PkiMessage::parse(&message, &Limits::default())
        .and_then(|message| message.verify(provider, LegacyAlgorithms::Refuse))
        .expect("a verified message");
    let (_, mut context) = signed.decrypt(ra, provider);
    let challenge = Secret::new("challenge".to_owned());
    context.answer_with(Secret::new(challenge.expose().clone()));
    let seed = Seed(certificate.clone());
    let answer = context.success(ra, &seed, ReplyChain::LeafOnly, provider).expect("an answer");
    let expected = Expected {
        transaction_id: &transaction,
        nonce: &nonce,
        ra: core::slice::from_ref(&ra.signing_certificate),
        me: &Recipient { certificate, key: TestKey::P256D.decryption() },
        challenge: Some(&challenge),
        legacy: LegacyAlgorithms::Refuse,
    };
    let read = expected.read(&answer, provider, &Limits::default());
    assert!(matches!(read, Ok(Reply::Success(_))), "the seed is read: {read:?}");
    answer
}

fn main() {
    let house = NoOpHouse::new();
    let claims = House::new().claims();
    let mut full = claims.clone();
    full.user = Some(UserId::new("alice").expect("an id"));
    let sid: Sid = "S-1-5-21-1-2-3-1104".parse().expect("a SID");
    full.expectation.extensions.push(sid.to_extension());
    full.expectation
        .subject_alt_names
        .push(GeneralName::uri("https://example.org/x").expect("a URI"));
    let blob = house.seal(claims.clone()).expect("a blob");

    let rsa = NoOpSigner::new(TestKey::RsaC.public_key());
    let ec = NoOpSigner::new(TestKey::P256D.public_key());
    let good = House::csr(&claims, &blob);
    let csr = good.sign(&rsa, SignatureScheme::RsaPkcs1Sha256).expect("a request");
    let ec_csr = good.sign(&ec, SignatureScheme::EcdsaSha256).expect("a request");
    let bare = CsrBuilder::default().sign(&ec, SignatureScheme::EcdsaSha256).expect("a request");
    let friendly = attribute(
        &ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.20"),
        &[&tlv::encode(tag::BMP_STRING, &[0, b'x'])],
    );
    let with_more = CsrBuilder { attributes: vec![friendly.clone()], ..House::csr(&full, &blob) }
        .sign(&rsa, SignatureScheme::RsaPkcs1Sha256)
        .expect("a request");
    for (name, der) in [
        ("good-rsa", &csr),
        ("good-p256", &ec_csr),
        ("without-attributes", &bare),
        ("with-friendly-name-and-uri", &with_more),
    ] {
        write("csr", name, der);
        write("openssl", name, der);
    }

    let ra = &house.ra().signing_certificate;
    let messages = [
        ("pkcs-req", house.message(MessageType::PkcsReq, &csr)),
        ("renewal-req", house.message(MessageType::RenewalReq, &ec_csr)),
        (
            "cert-poll",
            house.message(
                MessageType::CertPoll,
                &issuer_and_subject(ra.issuer_der(), ra.subject_der()),
            ),
        ),
        (
            "get-cert",
            house.message(MessageType::GetCert, &issuer_and_serial(ra.issuer_der(), &[7])),
        ),
        ("bouncy-castle-in-ber", message("bouncycastle_enrols_in_ber.txt")),
        ("certmonger", message("certmonger_enrols.txt")),
        ("scepclient", message("scepclient_is_refused.txt")),
        ("strongswan", message("strongswan_enrols.txt")),
    ];
    for (name, message) in &messages {
        write("pki_message", name, message);
        write("openssl", name, message);
        write("ber", name, message);
        write("whole_request", name, &InputKind::Message.input(message));
    }
    write("pki_message", "success-by-challenge", &success_by_challenge(&house, &ec, &ec_csr));
    write("ber", "octet-string-in-segments", &[0x24, 0x80, 4, 1, 1, 4, 2, 2, 3, 0, 0]);
    write("ber", "long-length", &[0x30, 0x82, 0, 3, 2, 1, 5]);

    let (der, full_der) = (claims.to_der().expect("claims"), full.to_der().expect("claims"));
    write("challenge_blob", "text-p256", blob.as_bytes());
    write("challenge_blob", "cms-p256", &STANDARD.decode(&blob).expect("base64"));
    write("challenge_blob", "claims", &der);
    write("challenge_blob", "claims-with-everything", &full_der);

    for (name, target, body) in [
        ("get-ca-caps", String::from("operation=GetCACaps&message=ca"), &[][..]),
        ("get-ca-cert", String::from("operation=GetCACert"), &[]),
        ("get-next-ca-cert", String::from("operation=GetNextCACert"), &[]),
        ("pki-operation", pki_operation_query(&csr), &[]),
        ("certmonger", capture("certmonger_enrols.txt"), &[]),
        ("post", String::from("operation=PKIOperation"), &csr),
        ("escaped-thrice", String::from("operation=PKIOperation&message=MA%25252BC"), &[]),
    ] {
        write("http_operation", name, &[target.as_bytes(), b"\n", body].concat());
    }

    for (name, lines) in [
        ("forwarded", "for=192.0.2.1;proto=https;by=\"[fd00::1]:80\", for=\"[2001:db8::1]:_p\""),
        ("forwarded-open-quotation", "for=198.51.100.66;x=\""),
        ("forwarded-escaped", "for=_hidden, for=\"192.0\\.2.1\""),
        ("x-forwarded-for", "198.51.100.66, 10.0.0.2:80\n[2001:db8::1]:443"),
    ] {
        write("client_address", name, lines.as_bytes());
    }

    let plaintext = |der: &[u8]| InputKind::Plaintext.input(der);
    write("whole_request", "plaintext-rsa", &plaintext(&csr));
    write("whole_request", "plaintext-with-friendly-name", &plaintext(&with_more));
    for (name, claims, der) in [("good", &claims, &der), ("everything", &full, &full_der)] {
        let rest = CsrBuilder { challenge_password: None, ..House::csr(claims, "") };
        let raw = rest.to_raw(&ec, SignatureScheme::EcdsaSha256);
        let subject = &raw.subject;
        let attributes = raw.attributes.concat();
        write(
            "whole_request",
            &format!("enrolment-{name}"),
            &enrolment_input(der, subject, &attributes),
        );
        let inert = [attributes, friendly.clone()].concat();
        write(
            "whole_request",
            &format!("enrolment-{name}-inert"),
            &enrolment_input(der, subject, &inert),
        );
    }

    write("site_rules", "of-the-tests", SITE_RULES.as_bytes());
    write("site_rules", "example", &text("crates/scep-policy/site-rules.example.toml"));
    write("profile", "example", &text("crates/scep-issuance/profile.example.toml"));
    let ca = [house.ra().signing_certificate.clone()];
    write("ca_cert", "one", &ca_cert::response(&ca).1);
    let two = [ca.as_slice(), &[house.ra().recipients.first().expect("one").certificate.clone()]];
    write("ca_cert", "two", &ca_cert::response(&two.concat()).1);
    more_targets(&house);
}

/// The seeds of structures, of the connector's messages, of OCSP requests and of what comes before a new CA.
fn more_targets(house: &NoOpHouse) {
    // The first of all choices, and a mixture of many: octets out of which structures are made.
    for target in ["csr_made", "message_made"] {
        write(target, "first-choices", &[0; 300]);
        for seed in 1..=8_u64 {
            write(target, &format!("mixed-{seed}"), &mixed(seed));
        }
    }

    let ra = &house.ra().signing_certificate;
    let next = next_ca::response(&*house.ra().signing_key, ra, core::slice::from_ref(ra));
    write("next_ca", "next-ca", &next.expect("an answer"));
    write("next_ca", "serial", &issuer_and_serial(ra.issuer_der(), ra.serial_content()));
    write("next_ca", "subject", &issuer_and_subject(ra.issuer_der(), ra.subject_der()));

    let golden = root().join("crates/scep-link/golden");
    for entry in std::fs::read_dir(golden).expect("the golden messages") {
        let path = entry.expect("a golden message").path();
        if path.extension().is_some_and(|extension| extension == "json") {
            let text = std::fs::read_to_string(&path).expect("JSON");
            let name = path.file_stem().and_then(|name| name.to_str()).expect("a name");
            write("link", name, text.trim().as_bytes());
        }
    }

    let oid = |text: &str| tlv::oid(&ObjectIdentifier::new_unwrap(text));
    let octets = |octets: &[u8]| tlv::encode(tag::OCTET_STRING, octets);
    let id = |digest: &str, length: usize| {
        let algorithm = tlv::sequence(&[&oid(digest), &[tag::NULL, 0]]);
        let serial = tlv::encode(tag::INTEGER, ra.serial_content());
        let hash = octets(&vec![0x5a; length]);
        tlv::sequence(&[&tlv::sequence(&[&algorithm, &hash, &hash, &serial])])
    };
    let (sha1, sha256) = (id("1.3.14.3.2.26", 20), id("2.16.840.1.101.3.4.2.1", 32));
    let nonce = tlv::sequence(&[&oid("1.3.6.1.5.5.7.48.1.2"), &octets(&octets(&[7; 32]))]);
    let nonce = tlv::construct(tag::context_constructed(2), &[&tlv::sequence(&[&nonce])]);
    let bare = tlv::sequence(&[&tlv::sequence(&[&tlv::sequence(&[&sha1])])]);
    let full = tlv::sequence(&[&tlv::sequence(&[&tlv::sequence(&[&sha1, &sha256]), &nonce])]);
    write("ocsp_request", "one", &bare);
    write("ocsp_request", "two-with-nonce", &full);
}

/// Octets of which half are 0 and the others anything: the same for the same seed.
fn mixed(seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_be_bytes()
    };
    let octets = (0..600).map(|_| match next() {
        [even, octet, ..] if even % 2 == 0 => octet,
        _ => 0,
    });
    octets.collect()
}
