//! What anybody on the path can read of a SCEP message (RFC 8894, 3.2): its attributes, who signed it and whom it is
//! encrypted to. The request itself, with its challenge, is inside the envelope and stays there.
//!
//! Run with `cargo run -p sceptic-examples --example decode_message [FILE]`; the file has a pkiMessage in DER or BER.
//! Without one it is a message that strongSwan has sent.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use scep_cms::{EnvelopedData, LegacyAlgorithms, Limits, SignedData, ber};
use scep_keys::AwsLc;
use scep_message::{MessageType, PkiMessage};
use scep_types::tlv::{Reader, TlvError, tag};
use scep_types::{DistinguishedName, StringRules};
use std::error::Error;

const BUILT_IN: &str =
    include_str!("../../crates/scep-message/tests/captures/strongswan_enrols.txt");

fn built_in() -> Result<Vec<u8>, Box<dyn Error>> {
    let (_, base64) = BUILT_IN.split_once("\n\n").ok_or("a header, a blank line, base64")?;
    Ok(STANDARD.decode(base64.split_whitespace().collect::<String>())?)
}

/// A Name for people; in hexadecimal when it is none.
fn name(der: &[u8]) -> String {
    let name = DistinguishedName::from_der(der, StringRules::AllowBmp);
    name.map_or_else(|_| hex::encode(der), |name| name.to_string())
}

/// The recipients of an EnvelopedData (RFC 5652, 6.1), as they are named.
fn recipients(envelope: &[u8]) -> Result<Vec<String>, TlvError> {
    let mut content_info = Reader::new(envelope).only(tag::SEQUENCE)?.reader();
    content_info.expect(tag::OID)?;
    let enveloped = content_info.expect(tag::context_constructed(0))?;
    let mut fields = enveloped.reader().expect(tag::SEQUENCE)?.reader();
    fields.expect(tag::INTEGER)?;
    let mut set = fields.expect(tag::SET)?.reader();
    let mut found = Vec::new();
    while !set.is_empty() {
        let recipient = set.any()?;
        if recipient.tag != tag::SEQUENCE {
            found.push(String::from("some other kind of recipient"));
            continue;
        }
        let mut fields = recipient.reader();
        fields.expect(tag::INTEGER)?;
        let id = fields.any()?;
        found.push(if id.tag == tag::SEQUENCE {
            let mut id = id.reader();
            let issuer = name(id.expect(tag::SEQUENCE)?.raw);
            format!("{} of {issuer}", hex::encode(id.expect(tag::INTEGER)?.value))
        } else {
            format!("key id {}", hex::encode(id.value))
        });
    }
    Ok(found)
}

fn main() -> Result<(), Box<dyn Error>> {
    let file = std::env::args_os().nth(1);
    let message = match &file {
        Some(path) => std::fs::read(path)?,
        None => built_in()?,
    };
    let (limits, legacy) = (Limits::default(), LegacyAlgorithms::Accept);

    // Nothing can be read before the signature is verified, by the certificate that is in the message. Whose that is,
    // is another question: a device that has no certificate signs with one of its own making.
    let signed = PkiMessage::parse(&message, &limits)?.verify(&AwsLc, legacy)?;
    println!("message      {} octets", message.len());
    println!("messageType  {}", signed.message_type());
    println!("transaction  {}", signed.transaction_id());
    if let Some(nonce) = signed.sender_nonce() {
        println!("senderNonce  {}", hex::encode(nonce.as_bytes()));
    }
    if let Some(time) = signed.signing_time() {
        println!("signingTime  {time}");
    }
    let signer = signed.signer();
    println!("signature    {}, verified", signed.scheme());
    println!("signer       {}", name(signer.subject_der()));
    println!("             issued by {}", name(signer.issuer_der()));
    println!("             {}, {}", signer.spki().algorithm(), signer.fingerprint());

    // The same message as plain CMS, for what SCEP does not look at before it opens the envelope.
    let der = ber::normalize(&message, &limits)?;
    let cms = SignedData::parse(&der, &limits)?.verify(&AwsLc, legacy)?;
    let envelope = ber::normalize(cms.content(), &limits)?.into_owned();
    if envelope.is_empty() {
        println!("envelope     none");
    } else {
        let parsed = EnvelopedData::parse(&envelope, &limits, legacy)?;
        println!("envelope     {:?}", parsed.content_encryption());
        for recipient in recipients(&envelope)? {
            println!("recipient    {recipient}");
        }
    }

    if file.is_none() && signed.message_type() != MessageType::PkcsReq {
        return Err("the built-in message is a PKCSReq".into());
    }
    Ok(())
}
