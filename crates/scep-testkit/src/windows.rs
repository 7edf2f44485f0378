//! A device with Windows, as far as a SCEP server can tell.
#![allow(
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "part of tests: what does not fit is a failed test, and its message says what"
)]

use crate::device::{TestExtension, self_signed};
use crate::house::Sent;
use core::time::Duration;
use scep_keys::{AwsLc, SoftwareKey};
use scep_message::client::{self, Ask, Identity};
use scep_message::{ContentEncryption, MessageType, Recipient};
use scep_pkcs10::CsrBuilder;
use scep_pkcs10::danger::attribute;
use scep_types::tlv::{self, tag};
use scep_types::{
    CertificateDer, KeyAlgorithm, OaepHash, ObjectIdentifier, RsaPadding, SignatureScheme,
    Timestamp, TransactionId,
};

/// The path that device management gives to Windows, with what the client appends (Q6).
pub const PATH: &str = "/certsrv/mscep/mscep.dll/pkiclient.exe";

/// The query of an operation without a message: Windows says `default` (Q8).
#[must_use]
pub fn query(operation: &str) -> String {
    format!("operation={operation}&message=default")
}

/// A PKCSReq: the attributes that Windows adds to the request, a signer made for this one attempt with a critical
/// authorityKeyIdentifier (Q27, Q28), key transport by OAEP (Q32). With the request that is in it.
#[must_use]
pub fn request(
    mut csr: CsrBuilder,
    key: &SoftwareKey,
    ra: &CertificateDer,
    now: Timestamp,
) -> (Sent, Vec<u8>) {
    csr.attributes.extend(attributes());
    let csr = csr.sign(&*key.signer(), SignatureScheme::RsaPkcs1Sha256).expect("a request");

    let throw_away = SoftwareKey::generate(KeyAlgorithm::Rsa(2048)).expect("a key");
    let subject = "CN=SCEP Protocol Certificate".parse().expect("a name");
    let extensions =
        [TestExtension::key_usage(), TestExtension::critical_authority_key_id(&throw_away)];
    let day = Duration::from_secs(86_400);
    let signer = self_signed(&throw_away, &subject, now.minus(day), now.plus(day), &extensions);

    let id: String = signer.fingerprint().to_string().chars().take(40).collect();
    let transaction = TransactionId::new(id).expect("an id");
    let ask = Ask {
        message_type: MessageType::PkcsReq,
        transaction_id: &transaction,
        data: &csr,
        recipient: ra,
        padding: RsaPadding::Oaep(OaepHash::Sha1),
        encryption: ContentEncryption::Aes256Cbc,
        scheme: SignatureScheme::RsaPkcs1Sha256,
    };
    let who = Identity { certificate: &signer, signer: &*throw_away.signer() };
    let (bytes, nonce) = client::request(&ask, &who, &AwsLc).expect("a message");
    let me = Recipient { certificate: signer, key: throw_away.decryption().expect("a key") };
    (Sent { bytes, nonce, transaction, me, challenge: None }, csr)
}

/// CSP, operating system and client info: which provider, which version, whose process.
fn attributes() -> [Vec<u8>; 3] {
    let bmp = |text: &str| {
        let octets: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
        tlv::encode(tag::BMP_STRING, &octets)
    };
    let utf8 = |text: &str| tlv::encode(tag::UTF8_STRING, text.as_bytes());
    let provider = tlv::sequence(&[
        &tlv::small_int(1),
        &bmp("Microsoft Software Key Storage Provider"),
        &tlv::whole_bits(&[]),
    ]);
    let version = tlv::encode(tag::IA5_STRING, b"10.0.22631.2");
    let client = tlv::sequence(&[
        &tlv::small_int(9),
        &utf8("laptop-1"),
        &utf8("NT AUTHORITY\\SYSTEM"),
        &utf8("omadmclient.exe"),
    ]);
    [
        ("1.3.6.1.4.1.311.13.2.3", version),
        ("1.3.6.1.4.1.311.13.2.2", provider),
        ("1.3.6.1.4.1.311.21.20", client),
    ]
    .map(|(id, value)| attribute(&ObjectIdentifier::new_unwrap(id), &[&value]))
}
