//! OpenSSL as the second reader: what our readers accept and OpenSSL reads differently is a finding. What OpenSSL
//! refuses to read it does not read differently.
//!
//! The `openssl` crate shows neither attributes nor the parts of some extensions; those are compared with what OpenSSL
//! prints.

use openssl::asn1::Asn1Object;
use openssl::cms::{CMSOptions, CmsContentInfo};
use openssl::pkcs7::{Pkcs7, Pkcs7Flags};
use openssl::pkey::{PKey, Private};
use openssl::stack::Stack;
use openssl::x509::{X509Builder, X509ExtensionRef, X509NameRef, X509Req};
use scep_cms::{Limits, VerifiedSignedData, ber};
use scep_pkcs10::{Csr, RequestedExtension};
use scep_types::tlv::{self, Reader, tag};
use scep_types::{CertificateDer, DistinguishedName, GeneralName, ObjectIdentifier, SpkiDer};

const KEY_USAGE: &str = "2.5.29.15";
const SUBJECT_ALT_NAME: &str = "2.5.29.17";
const EXTENDED_KEY_USAGE: &str = "2.5.29.37";

/// Compares a request that was accepted with what OpenSSL reads.
///
/// # Panics
/// When they differ.
pub fn csr(ours: &Csr) {
    let theirs = match X509Req::from_der(ours.as_der()) {
        Ok(theirs) => theirs,
        // It looks into the values of attributes that mean nothing here.
        Err(_) if !ours.other_attributes().is_empty() || !ours.inert().is_empty() => return,
        Err(error) => panic!("OpenSSL does not read what is DER throughout: {error}"),
    };
    assert_eq!(theirs.version(), 0);
    name(ours.subject(), theirs.subject_name());
    key(ours.spki(), &theirs);
    let all = theirs.extensions();
    let all = match &all {
        Ok(all) => all.iter().map(|e| (e, extension(&e.to_der().expect("an extension")))).collect(),
        Err(_) => Vec::new(),
    };
    extensions(ours, &all);
    if let Ok(text) = theirs.to_text() {
        printed(ours, &text);
    }
}

fn key(ours: &SpkiDer, theirs: &X509Req) {
    // A point that is on no curve is one that OpenSSL does not read.
    let Ok(key) = theirs.public_key() else { return };
    assert_eq!(key.public_key_to_der().expect("a key"), ours.as_der(), "the public key");
}

/// RDN by RDN; within one the order carries no meaning, and OpenSSL shows no more than the order of all attributes.
fn name(ours: &DistinguishedName, theirs: &X509NameRef) {
    let mut entries = theirs.entries().map(|entry| {
        let value = entry.data().to_string().expect("a string");
        (entry.object().to_owned().as_slice().to_vec(), value)
    });
    for rdn in ours.rdns() {
        let attributes = rdn.attributes();
        let mut expected: Vec<_> = attributes
            .iter()
            .map(|a| (a.oid().as_bytes().to_vec(), a.value().to_owned()))
            .collect();
        let mut got: Vec<_> = entries.by_ref().take(attributes.len()).collect();
        expected.sort();
        got.sort();
        assert_eq!(got, expected, "an RDN");
    }
    assert_eq!(entries.next(), None, "more in OpenSSL's name");
}

/// An extension as OpenSSL writes it.
fn extension(der: &[u8]) -> RequestedExtension {
    let mut fields = Reader::new(der).only(tag::SEQUENCE).expect("an extension").reader();
    let oid = fields.any().and_then(|tlv| tlv.oid()).expect("its type");
    let critical = fields.optional(tag::BOOLEAN).expect("critical or not").is_some();
    let value = fields.expect(tag::OCTET_STRING).expect("its value").value.to_vec();
    RequestedExtension { oid, critical, value }
}

fn extensions(ours: &Csr, theirs: &[(&X509ExtensionRef, RequestedExtension)]) {
    let find = |oid: &str| {
        let oid = ObjectIdentifier::new_unwrap(oid);
        theirs.iter().find(|(_, extension)| extension.oid == oid)
    };
    for other in ours.other_extensions() {
        let seen = theirs.iter().any(|(_, extension)| extension == other);
        assert!(seen, "an extension that OpenSSL does not see: {other:?}");
    }
    let sans = find(SUBJECT_ALT_NAME);
    assert_eq!(sans.is_some(), !ours.subject_alt_names().is_empty(), "subjectAltName");
    if let Some((extension, _)) = sans {
        subject_alt_names(ours.subject_alt_names(), extension);
    }
    assert_eq!(find(KEY_USAGE).is_some(), ours.key_usage().is_some(), "keyUsage");
    let usages = find(EXTENDED_KEY_USAGE).filter(|(_, usages)| usages.value != [tag::SEQUENCE, 0]);
    assert_eq!(usages.is_some(), ours.extended_key_usages().is_some(), "extKeyUsage");
    // Nothing that OpenSSL sees is lost on us: what is not one of the three is inert or among the others.
    let three = [SUBJECT_ALT_NAME, KEY_USAGE, EXTENDED_KEY_USAGE].map(ObjectIdentifier::new_unwrap);
    for (_, extension) in theirs {
        assert!(
            three.contains(&extension.oid)
                || ours.inert().contains(&extension.oid)
                || ours.other_extensions().contains(extension),
            "an extension that only OpenSSL sees: {extension:?}"
        );
    }
}

fn subject_alt_names(ours: &[GeneralName], extension: &X509ExtensionRef) {
    let read = || {
        let mut certificate = X509Builder::new()?;
        certificate.append_extension2(extension)?;
        Ok::<_, openssl::error::ErrorStack>(certificate.build().subject_alt_names())
    };
    let Ok(Some(theirs)) = read() else { return };
    assert_eq!(theirs.len(), ours.len(), "how many subjectAltNames");
    for (theirs, ours) in theirs.iter().zip(ours) {
        let text = |text: &str| Some(text.to_owned());
        let seen = (
            theirs.email().and_then(text),
            theirs.dnsname().and_then(text),
            theirs.uri().and_then(text),
            theirs.ipaddress().map(<[u8]>::to_vec),
        );
        let expected = match ours {
            GeneralName::Email(email) => (text(email), None, None, None),
            GeneralName::Dns(dns) => (None, text(dns), None, None),
            GeneralName::Uri(uri) => (None, None, text(uri), None),
            GeneralName::Ip(octets) => (None, None, None, Some(octets.clone())),
            _ => (None, None, None, None),
        };
        assert_eq!(seen, expected, "a subjectAltName");
        match (theirs.directory_name(), ours) {
            (Some(theirs), GeneralName::Directory(ours)) => name(ours, theirs),
            (None, GeneralName::Directory(_)) | (Some(_), _) => panic!("a directoryName"),
            (None, _) => {}
        }
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

/// As OpenSSL names it where it prints.
fn printed_name(oid: &ObjectIdentifier) -> Option<String> {
    let name = Asn1Object::from_str(&oid.to_string()).ok()?.to_string();
    // Longer ones it cuts.
    (name.len() < 70).then_some(name)
}

fn printed(ours: &Csr, text: &[u8]) {
    if let Some(challenge) = ours.challenge_password() {
        challenge_password(ours.as_der(), challenge.expose(), text);
    }
    for oid in ours.other_attributes() {
        let Some(name) = printed_name(oid) else { continue };
        assert!(contains(text, name.as_bytes()), "an attribute that OpenSSL does not see: {oid}");
    }
    if let Some(usages) = ours.key_usage() {
        let names: Vec<&str> = usages.names().map(printed_usage).collect();
        let line = format!("  {}\n", names.join(", "));
        let seen = contains(text, line.as_bytes());
        assert!(seen, "keyUsage {line:?} in {}", String::from_utf8_lossy(text));
    }
    if let Some(usages) = ours.extended_key_usages() {
        // In another order than ours: a set has none.
        for name in usages.purposes().iter().filter_map(printed_name) {
            assert!(contains(text, name.as_bytes()), "extKeyUsage {name:?}");
        }
    }
}

fn printed_usage(name: &str) -> &'static str {
    match name {
        "digitalSignature" => "Digital Signature",
        "nonRepudiation" => "Non Repudiation",
        "keyEncipherment" => "Key Encipherment",
        "dataEncipherment" => "Data Encipherment",
        "keyAgreement" => "Key Agreement",
        "keyCertSign" => "Certificate Sign",
        "cRLSign" => "CRL Sign",
        "encipherOnly" => "Encipher Only",
        _ => "Decipher Only",
    }
}

/// OpenSSL prints the octets of the strings it knows.
fn challenge_password(der: &[u8], ours: &str, text: &[u8]) {
    let octets = ours.as_bytes();
    let line = [b"challengePassword        :", octets, b"\n"].concat();
    let utf8 = [tag::UTF8_STRING, tag::PRINTABLE_STRING, tag::IA5_STRING]
        .iter()
        .any(|string| contains(der, &tlv::encode(*string, octets)));
    let printable = !octets.is_empty() && utf8;
    assert!(contains(text, b"challengePassword"), "a challenge that OpenSSL does not see");
    // Octet strings and wide ones it does not print.
    assert!(
        !printable
            || contains(text, &line)
            || contains(text, b"challengePassword        :unable to print attribute\n"),
        "another challenge"
    );
}

/// Whether OpenSSL is to verify too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signatures {
    /// They are true ones.
    Verify,
    /// Nothing has been signed.
    Ignore,
}

/// Compares a SignedData that was accepted, in whatever encoding it came, with what OpenSSL reads: signer, content,
/// signed attributes.
///
/// # Panics
/// When they differ.
pub fn signed(sent: &[u8], der: &[u8], ours: &VerifiedSignedData, signatures: Signatures) {
    if let Some(attributes) = signed_attributes(der) {
        attributes_printed(ours, attributes);
    }
    if let Some(signer) = their_signer(sent) {
        let certificate = ours.signer_certificate().expect("the signer's certificate");
        // OpenSSL keeps the encoding of what is signed as it came, and writes the parameters of the signature's algorithm
        // anew.
        let theirs = ber::normalize(&signer, &Limits::default()).ok();
        let theirs = theirs.and_then(|der| CertificateDer::parse(&der).ok());
        if let Some(theirs) = theirs {
            assert_eq!(theirs.tbs_der(), certificate.tbs_der(), "the signer");
        }
    }
    let Ok(mut theirs) = CmsContentInfo::from_der(sent) else { return };
    let mut flags = CMSOptions::NO_SIGNER_CERT_VERIFY | CMSOptions::BINARY;
    if signatures == Signatures::Ignore {
        flags |= CMSOptions::NO_ATTR_VERIFY | CMSOptions::NO_CONTENT_VERIFY;
    }
    let mut content = Vec::new();
    if theirs.verify(None, None, None, Some(&mut content), flags).is_ok() {
        assert_eq!(content, ours.content(), "the content");
    }
}

/// The one signer by issuer and serial number, with the certificates of the message alone.
fn their_signer(sent: &[u8]) -> Option<Vec<u8>> {
    let message = Pkcs7::from_der(sent).ok()?;
    let none = Stack::new().ok()?;
    let signers = message.signers(&none, Pkcs7Flags::empty()).ok()?;
    (signers.len() == 1).then(|| signers.get(0)?.to_der().ok()).flatten()
}

/// The contents of the one SignerInfo's signed attributes, in what was read.
fn signed_attributes(der: &[u8]) -> Option<&[u8]> {
    let mut info = Reader::new(der).only(tag::SEQUENCE).ok()?.reader();
    info.any().ok()?;
    let mut signed = info.any().ok()?.reader().any().ok()?.reader();
    let mut signers = None;
    while !signed.is_empty() {
        signers = signed.any().ok();
    }
    let mut signer = signers?.reader().any().ok()?.reader();
    while !signer.is_empty() {
        let part = signer.any().ok()?;
        if part.tag == tag::context_constructed(0) {
            return Some(part.value);
        }
    }
    None
}

/// The attributes of a request have the form of signed ones, and OpenSSL prints those of a request.
fn attributes_printed(ours: &VerifiedSignedData, attributes: &[u8]) {
    const TEXTS: [&str; 2] = ["2.16.840.1.113733.1.9.7", "2.16.840.1.113733.1.9.2"];
    let info = tlv::sequence(&[
        &tlv::small_int(0),
        &tlv::sequence(&[]),
        ours.signer_key().as_der(),
        &tlv::encode(tag::context_constructed(0), attributes),
    ]);
    let algorithm = scep_types::SignatureScheme::RsaPkcs1Sha256.algorithm_der();
    let der = tlv::sequence(&[&info, &algorithm, &tlv::whole_bits(&[0])]);
    let Ok(request) = X509Req::from_der(&der) else { return };
    let Ok(text) = request.to_text() else { return };
    for oid in TEXTS {
        let Some(value) = ours.attribute(&ObjectIdentifier::new_unwrap(oid)) else { continue };
        let value = Reader::new(value).any().expect("one value");
        if matches!(value.tag, tag::PRINTABLE_STRING | tag::UTF8_STRING) {
            let line = [oid.as_bytes(), b"  :", value.value, b"\n"].concat();
            assert!(contains(&text, &line), "the attribute {oid}");
        }
    }
}

/// Compares what an envelope opened to with what OpenSSL finds in it.
///
/// # Panics
/// When they differ.
pub fn envelope(sent: &[u8], ours: &[u8], key: &PKey<Private>) {
    let Ok(theirs) = CmsContentInfo::from_der(sent) else { return };
    // Without the certificate every recipient is tried: with several, one whose key comes out by accident could win.
    if let Ok(plaintext) = theirs.decrypt_without_cert_check(key) {
        assert_eq!(plaintext, ours, "what was encrypted");
    }
}
