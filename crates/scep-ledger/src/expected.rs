//! What an approved certificate contains, kept with the intent so that recovery can check what it finds.
//!
//! [`scep_policy`] compares a certificate with the approval at hand. After a crash there is no approval any more;
//! what is kept here is compared just as strictly, and more so: extensions that a site lets its CA add are not
//! known any more, so a certificate with one of them is withheld.

use core::time::Duration;
use scep_policy::CertificateContents;
use scep_types::tlv::{self, Reader, TlvError, tag};
use scep_types::{
    CertificateDer, DistinguishedName, ExtendedKeyUsages, GeneralName, KeyUsages, NameError,
    ObjectIdentifier, SerialNumber, StringRules, Timestamp,
};
use thiserror::Error;

const KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.15");
const SUBJECT_ALT_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.17");
const BASIC_CONSTRAINTS: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.19");
const EXTENDED_KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.37");

/// subjectKeyIdentifier, authorityKeyIdentifier, cRLDistributionPoints, authorityInfoAccess: what any CA adds.
const CA_ADDS: [ObjectIdentifier; 4] = [
    ObjectIdentifier::new_unwrap("2.5.29.14"),
    ObjectIdentifier::new_unwrap("2.5.29.35"),
    ObjectIdentifier::new_unwrap("2.5.29.31"),
    ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.1.1"),
];

/// Remote CAs backdate by up to an hour.
const BEGIN_TOLERANCE: Duration = Duration::from_secs(3_600);

/// How a certificate that recovery found differs from what was approved.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum Difference {
    #[error("the record of what was approved cannot be read: {0}")]
    Record(NameError),
    #[error("its extensions cannot be read: {0}")]
    Malformed(TlvError),
    #[error("its serial number is not one of RFC 5280")]
    SerialNumber,
    #[error("its subject differs")]
    Subject,
    #[error("its subject is its issuer")]
    SelfIssued,
    #[error("its validity is not within what was approved")]
    Validity,
    #[error("its subjectAltNames differ")]
    SubjectAltNames,
    #[error("its key usage differs")]
    KeyUsage,
    #[error("its extended key usages differ")]
    ExtendedKeyUsages,
    #[error("it is a CA's certificate")]
    CaCertificate,
    #[error("extension {0} is missing, differs, or was not approved")]
    Extension(ObjectIdentifier),
}

/// The subject in what [`encode`] made; empty when it is damaged, which [`compare`] tells.
pub(crate) fn subject_der(expected: &[u8]) -> Vec<u8> {
    let subject = Reader::new(expected)
        .only(tag::SEQUENCE)
        .and_then(|all| all.reader().expect(tag::SEQUENCE).map(|subject| subject.raw.to_vec()));
    subject.unwrap_or_default()
}

/// Encodes it as
///
/// ```text
/// SEQUENCE { subject Name, sans SEQUENCE OF GeneralName, keyUsage BIT STRING, ekus SEQUENCE OF OID,
///            notBefore INTEGER, notAfter INTEGER, extensions SEQUENCE OF SEQUENCE { OID, BOOLEAN, OCTET STRING } }
/// ```
pub(crate) fn encode(contents: &CertificateContents) -> Vec<u8> {
    let seconds = |at: Timestamp| tlv::small_int(u64::try_from(at.seconds()).unwrap_or(0));
    let extensions: Vec<Vec<u8>> = contents
        .extensions
        .iter()
        .map(|extension| {
            tlv::sequence(&[
                &tlv::oid(&extension.oid),
                &tlv::encode(tag::BOOLEAN, &[if extension.critical { 0xff } else { 0 }]),
                &tlv::encode(tag::OCTET_STRING, &extension.value),
            ])
        })
        .collect();
    tlv::sequence(&[
        &contents.subject.to_der(),
        &GeneralName::list_to_der(&contents.subject_alt_names),
        &contents.key_usage.to_der(),
        &contents.extended_key_usages.to_der(),
        &seconds(contents.not_before),
        &seconds(contents.not_after),
        &tlv::encode(tag::SEQUENCE, &extensions.concat()),
    ])
}

/// Extension with criticality and value.
type Extension<'a> = (ObjectIdentifier, bool, &'a [u8]);

struct Expected<'a> {
    subject: DistinguishedName,
    names: Vec<GeneralName>,
    key_usage: KeyUsages,
    usages: ExtendedKeyUsages,
    not_before: Timestamp,
    not_after: Timestamp,
    extensions: Vec<Extension<'a>>,
}

fn decode(record: &[u8]) -> Result<Expected<'_>, NameError> {
    let time = |seconds: u64| Timestamp::from_seconds(i64::try_from(seconds).unwrap_or(i64::MAX));
    let mut fields = Reader::new(record).only(tag::SEQUENCE)?.reader();
    let subject = DistinguishedName::from_der(fields.any()?.raw, StringRules::AllowBmp)?;
    let mut list = fields.expect(tag::SEQUENCE)?.reader();
    let mut names = Vec::new();
    while !list.is_empty() {
        names.push(GeneralName::read(&mut list, StringRules::AllowBmp)?);
    }
    let key_usage = KeyUsages::from_der(fields.any()?.raw)?;
    let usages = ExtendedKeyUsages::from_der(fields.any()?.raw)?;
    let not_before = time(fields.any()?.small_int()?);
    let not_after = time(fields.any()?.small_int()?);
    let mut list = fields.expect(tag::SEQUENCE)?.reader();
    fields.finish()?;
    let mut extensions = Vec::new();
    while !list.is_empty() {
        let mut parts = list.expect(tag::SEQUENCE)?.reader();
        let (oid, critical) = (parts.any()?.oid()?, parts.any()?.boolean()?);
        extensions.push((oid, critical, parts.expect(tag::OCTET_STRING)?.value));
        parts.finish()?;
    }
    Ok(Expected { subject, names, key_usage, usages, not_before, not_after, extensions })
}

/// Compares a certificate with the record. Key and serial number are compared elsewhere, as they also tell whether
/// it is the right certificate at all.
pub(crate) fn compare(record: &[u8], certificate: &CertificateDer) -> Result<(), Difference> {
    let expected = decode(record).map_err(Difference::Record)?;
    let ensure = |ok: bool, otherwise| if ok { Ok(()) } else { Err(otherwise) };

    let serial = SerialNumber::from_content(certificate.serial_content());
    ensure(serial.is_ok(), Difference::SerialNumber)?;
    let subject = DistinguishedName::from_der(certificate.subject_der(), StringRules::AllowBmp);
    ensure(subject == Ok(expected.subject), Difference::Subject)?;
    ensure(certificate.issuer_der() != certificate.subject_der(), Difference::SelfIssued)?;
    let (begin, end) = (certificate.not_before(), certificate.not_after());
    ensure(
        begin >= expected.not_before.minus(BEGIN_TOLERANCE)
            && begin < end
            && end <= expected.not_after,
        Difference::Validity,
    )?;

    let present = certificate.extensions().map_err(Difference::Malformed)?;
    for (at, extension) in present.iter().enumerate() {
        let again = present.iter().skip(at.saturating_add(1)).any(|e| e.oid == extension.oid);
        ensure(!again, Difference::Extension(extension.oid))?;
    }
    let value = |oid| present.iter().find(|e| e.oid == oid).map(|e| e.value);
    let names = value(SUBJECT_ALT_NAME)
        .map_or(Ok(Vec::new()), |der| GeneralName::list_from_der(der, StringRules::AllowBmp));
    ensure(names.is_ok_and(|got| same(&expected.names, &got)), Difference::SubjectAltNames)?;
    let key_usage = value(KEY_USAGE).map(KeyUsages::from_der);
    ensure(key_usage == Some(Ok(expected.key_usage)), Difference::KeyUsage)?;
    let usages = value(EXTENDED_KEY_USAGE).map(ExtendedKeyUsages::from_der);
    ensure(usages == Some(Ok(expected.usages)), Difference::ExtendedKeyUsages)?;
    ensure(
        value(BASIC_CONSTRAINTS).is_none_or(|der| is_end_entity(der) == Ok(true)),
        Difference::CaCertificate,
    )?;

    for (oid, critical, value) in &expected.extensions {
        let same =
            present.iter().any(|e| e.oid == *oid && e.critical == *critical && e.value == *value);
        ensure(same, Difference::Extension(*oid))?;
    }
    let compared = [KEY_USAGE, SUBJECT_ALT_NAME, BASIC_CONSTRAINTS, EXTENDED_KEY_USAGE];
    for extension in &present {
        let known = compared.contains(&extension.oid)
            || expected.extensions.iter().any(|(oid, ..)| *oid == extension.oid)
            || (CA_ADDS.contains(&extension.oid) && !extension.critical);
        ensure(known, Difference::Extension(extension.oid))?;
    }
    Ok(())
}

/// Whether both have the same names, each as often.
fn same(expected: &[GeneralName], got: &[GeneralName]) -> bool {
    let mut left: Vec<&GeneralName> = expected.iter().collect();
    let all_known = got.iter().all(|name| {
        let at = left.iter().position(|candidate| candidate.matches(name));
        at.map(|at| left.swap_remove(at)).is_some()
    });
    all_known && left.is_empty()
}

fn is_end_entity(der: &[u8]) -> Result<bool, TlvError> {
    let mut fields = Reader::new(der).only(tag::SEQUENCE)?.reader();
    let ca = fields.optional(tag::BOOLEAN)?.map_or(Ok(false), |flag| flag.boolean())?;
    Ok(!ca && fields.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use scep_challenge::ExtraExtension;
    use scep_types::SpkiDer;

    #[test]
    fn what_was_approved_reads_back_whole() {
        let mut point = vec![9; 65];
        point[0] = 4;
        let client = ExtendedKeyUsages::purpose("clientAuth").unwrap();
        let extra = |critical| ExtraExtension {
            oid: ObjectIdentifier::new_unwrap("1.3.6.1.4.1.311.25.2"),
            critical,
            value: vec![0x05, 0x00],
        };
        for (names, extensions) in [
            (vec![], vec![]),
            (vec![GeneralName::dns("a.example.org").unwrap()], vec![extra(false), extra(true)]),
        ] {
            let contents = CertificateContents {
                subject: "CN=device-7".parse().unwrap(),
                subject_alt_names: names,
                key_usage: KeyUsages::DIGITAL_SIGNATURE,
                extended_key_usages: ExtendedKeyUsages::new(vec![client]).unwrap(),
                spki: SpkiDer::from_ec_point(&point).unwrap(),
                not_before: Timestamp::from_seconds(1_800_000_000),
                not_after: Timestamp::MAX,
                extensions,
            };
            let record = encode(&contents);
            let back = decode(&record).unwrap();
            assert_eq!(back.subject, contents.subject);
            assert_eq!(back.names, contents.subject_alt_names);
            assert_eq!(back.key_usage, contents.key_usage);
            assert_eq!(back.usages, contents.extended_key_usages);
            let validity = (contents.not_before, contents.not_after);
            assert_eq!((back.not_before, back.not_after), validity);
            let extensions = contents.extensions.iter();
            let wanted: Vec<Extension<'_>> =
                extensions.map(|e| (e.oid, e.critical, e.value.as_slice())).collect();
            assert_eq!(back.extensions, wanted);
        }
        assert!(decode(&[]).is_err());
    }
}
