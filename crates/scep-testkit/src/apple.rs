//! A device of Apple's, as far as a SCEP server can tell.
#![allow(
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "part of tests: what does not fit is a failed test, and its message says what"
)]

use crate::ber;
use crate::device::{TestExtension, self_signed};
use crate::house::Sent;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use core::time::Duration;
use scep_cms::{SignerId, ToSign};
use scep_keys::{AwsLc, SoftwareKey};
use scep_message::{ContentEncryption, Recipient};
use scep_pkcs10::CsrBuilder;
use scep_types::tlv::{self, tag};
use scep_types::{
    CertificateDer, CryptoProvider, Nonce, ObjectIdentifier, RsaPadding, SignatureScheme,
    Timestamp, TransactionId,
};

const DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.1");
const MESSAGE_TYPE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.113733.1.9.2");
const SENDER_NONCE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.113733.1.9.5");
const TRANSACTION_ID: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.113733.1.9.7");

/// How many octets of content come in one piece.
const PIECE: usize = 100;

/// How much of a message is in BER.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// What holds the content, as Apple's devices do it.
    Streamed,
    /// Every value.
    Everything,
}

/// The query of an operation without a message: the name of the profile, blanks escaped (Q8).
#[must_use]
pub fn query(operation: &str) -> String {
    format!("operation={operation}&message=SCEP%20Authority")
}

/// The query of a PKIOperation by GET, its base64 as it comes: `+` stays `+` (Q1).
#[must_use]
pub fn pki_operation_query(message: &[u8]) -> String {
    format!("operation=PKIOperation&message={}", STANDARD.encode(message))
}

/// A PKCSReq signed by the request's key, both layers in BER (Q22). With the request that is in it.
#[must_use]
pub fn request(
    csr: &CsrBuilder,
    key: &SoftwareKey,
    ra: &CertificateDer,
    now: Timestamp,
    form: Form,
) -> (Sent, Vec<u8>) {
    let scheme = SignatureScheme::RsaPkcs1Sha256;
    let csr = csr.sign(&*key.signer(), scheme).expect("a request");
    let day = Duration::from_secs(86_400);
    let subject = "CN=Device".parse().expect("a name");
    let extensions = [TestExtension::key_usage()];
    let signer = self_signed(key, &subject, now.minus(day), now.plus(day), &extensions);

    let (padding, encryption) = (RsaPadding::Pkcs1v15, ContentEncryption::Aes128Cbc);
    let envelope = scep_cms::seal(&AwsLc, &[ra], padding, encryption, &csr).expect("an envelope");
    let mut octets = [0; 16];
    AwsLc.random(&mut octets).expect("randomness");
    let nonce = Nonce::new(octets).expect("a nonce");
    let id: String = key.public_key().hash().to_string().chars().take(40).collect();
    let transaction = TransactionId::new(id).expect("an id");
    let printable = |text: &str| tlv::encode(tag::PRINTABLE_STRING, text.as_bytes());
    let what = ToSign {
        content_type: DATA,
        content: &match form {
            Form::Streamed => ber::stream_enveloped_data(&envelope, PIECE),
            Form::Everything => ber::everything(&envelope, PIECE),
        },
        attributes: &[
            (MESSAGE_TYPE, printable("19")),
            (SENDER_NONCE, tlv::encode(tag::OCTET_STRING, nonce.as_bytes())),
            (TRANSACTION_ID, printable(transaction.as_str())),
        ],
        certificates: &[],
        signer_id: SignerId::Certificate(&signer),
        scheme,
    };
    let message = scep_cms::sign(&*key.signer(), &what).expect("a message");
    let bytes = match form {
        Form::Streamed => ber::stream_signed_data(&message, PIECE),
        Form::Everything => ber::everything(&message, PIECE),
    };
    let me = Recipient { certificate: signer, key: key.decryption().expect("a key") };
    (Sent { bytes, nonce, transaction, me, challenge: None }, csr)
}
