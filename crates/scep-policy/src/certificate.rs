//! What a CA returned against what was approved.

use crate::contents::{BACKDATE, CertificateContents};
use crate::extensions as ext;
use crate::report::{Field, FieldReport, Findings, Keep, list, or_none};
use crate::request::{extension_text, same_names};
use const_oid::ObjectIdentifier;
use core::time::Duration;
use scep_types::tlv::{Reader, TlvError, tag};
use scep_types::{
    CertificateDer, ChallengeId, DistinguishedName, ExtendedKeyUsages, GeneralName, KeyUsages,
    Reason, StringRules, TenantId,
};
use std::collections::BTreeMap;

/// How much earlier than approved a certificate may begin: remote CAs backdate by up to an hour. Its end is what
/// limits it, and that may only be earlier than approved.
pub const BEGIN_TOLERANCE: Duration = Duration::from_secs(3600);

/// A certificate that is exactly what was approved. Cannot be made otherwise; no Clone. Bound to its challenge.
///
/// ```compile_fail,E0451
/// # fn f(certificate: scep_types::CertificateDer) {
/// let forged = scep_policy::Conforming { certificate };
/// # }
/// ```
/// ```compile_fail,E0599
/// # fn f(conforming: &scep_policy::Conforming) -> scep_policy::Conforming {
/// scep_policy::Conforming::clone(conforming)
/// # }
/// ```
#[derive(Debug)]
pub struct Conforming {
    certificate: CertificateDer,
    tenant: TenantId,
    challenge: ChallengeId,
}

impl Conforming {
    pub(crate) const fn new(
        certificate: CertificateDer,
        tenant: TenantId,
        challenge: ChallengeId,
    ) -> Self {
        Self { certificate, tenant, challenge }
    }

    /// The certificate.
    #[must_use]
    pub const fn certificate(&self) -> &CertificateDer {
        &self.certificate
    }

    /// The challenge it was approved under.
    #[must_use]
    pub const fn challenge(&self) -> (&TenantId, ChallengeId) {
        (&self.tenant, self.challenge)
    }
}

type Extension<'a> = (bool, &'a [u8]);

/// Every difference, each with [`Reason::CertificateDiffers`]; none when the certificate conforms.
///
/// `ca_may_add` are the OIDs of extensions that the site lets its CA add, besides subjectKeyIdentifier,
/// authorityKeyIdentifier, cRLDistributionPoints and authorityInfoAccess.
pub(crate) fn differences(
    approved: &CertificateContents,
    ca_may_add: &[ObjectIdentifier],
    certificate: &CertificateDer,
) -> Vec<FieldReport> {
    let mut findings = Findings::new(Keep::Refusals, None);
    let mut check = |field, ok: bool, expected: &dyn Fn() -> String, got: &dyn Fn() -> String| {
        findings.note(field, (!ok).then_some(Reason::CertificateDiffers), expected, got);
    };

    let form = form(certificate);
    check(
        Field::Form,
        form.is_ok(),
        &|| "version 3, one signature algorithm, no unique identifiers".to_owned(),
        &|| form.as_ref().err().map_or_else(String::new, |why| (*why).to_owned()),
    );
    check(
        Field::SerialNumber,
        certificate.serial().is_some(),
        &|| "positive, at most 20 octets".to_owned(),
        &|| format!("{} octets", certificate.serial_content().len()),
    );

    let subject = DistinguishedName::from_der(certificate.subject_der(), StringRules::AllowBmp);
    check(
        Field::Subject,
        subject.as_ref() == Ok(&approved.subject),
        &|| or_none(approved.subject.to_string()),
        &|| subject.as_ref().map_or_else(ToString::to_string, |s| or_none(s.to_string())),
    );
    let issuer = DistinguishedName::from_der(certificate.issuer_der(), StringRules::AllowBmp);
    check(
        Field::Issuer,
        // One that cannot be read is the CA's own affair, and no subject that was approved.
        issuer.as_ref() != Ok(&approved.subject)
            && issuer.as_ref() != Ok(&DistinguishedName::empty()),
        &|| "a CA other than the subject".to_owned(),
        &|| issuer.as_ref().map_or_else(ToString::to_string, |i| or_none(i.to_string())),
    );
    check(
        Field::Key,
        certificate.spki().as_der() == approved.spki.as_der(),
        &|| format!("{} {}", approved.spki.algorithm(), approved.spki.hash()),
        &|| format!("{} {}", certificate.spki().algorithm(), certificate.spki().hash()),
    );

    let (begin, end) = (certificate.not_before(), certificate.not_after());
    check(
        Field::Validity,
        begin >= approved.not_before.minus(BEGIN_TOLERANCE)
            && begin < end
            && end <= approved.not_after
            // Issued already expired, it would be useless, and a sign of a CA with a wrong clock.
            && end >= approved.not_before.plus(BACKDATE),
        &|| format!("within {} to {}", approved.not_before, approved.not_after),
        &|| format!("{begin} to {end}"),
    );

    let extensions = match certificate.extensions() {
        Ok(list) => list,
        Err(why) => {
            check(Field::Extensions, false, &|| "readable".to_owned(), &|| why.to_string());
            return findings.into_reports();
        }
    };
    let mut present: BTreeMap<ObjectIdentifier, Extension<'_>> = BTreeMap::new();
    for scep_types::ExtensionRef { oid, critical, value } in &extensions {
        let first = present.insert(*oid, (*critical, *value)).is_none();
        check(Field::Extensions, first, &|| "each once".to_owned(), &|| format!("{oid} again"));
    }
    let value = |oid: &ObjectIdentifier| present.get(oid).map(|(_, value)| *value);

    let names = value(&ext::SUBJECT_ALT_NAME)
        .map_or(Ok(Vec::new()), |v| GeneralName::list_from_der(v, StringRules::AllowBmp));
    check(
        Field::SubjectAltName,
        names.as_ref().is_ok_and(|got| same_names(&approved.subject_alt_names, got)),
        &|| list(&approved.subject_alt_names),
        &|| names.as_ref().map_or_else(ToString::to_string, list),
    );
    let usage = value(&ext::KEY_USAGE).map(KeyUsages::from_der);
    check(
        Field::KeyUsage,
        usage == Some(Ok(approved.key_usage)),
        &|| approved.key_usage.to_string(),
        &|| decoded(usage.as_ref()),
    );
    let usages = value(&ext::EXTENDED_KEY_USAGE).map(ExtendedKeyUsages::from_der);
    check(
        Field::ExtendedKeyUsage,
        usages.as_ref().is_some_and(|u| u.as_ref() == Ok(&approved.extended_key_usages)),
        &|| approved.extended_key_usages.to_string(),
        &|| decoded(usages.as_ref()),
    );
    check(
        Field::BasicConstraints,
        value(&ext::BASIC_CONSTRAINTS).is_none_or(|v| is_end_entity(v) == Ok(true)),
        &|| "absent or cA FALSE".to_owned(),
        &|| "something else".to_owned(),
    );

    for expected in &approved.extensions {
        let got = present.get(&expected.oid);
        check(
            Field::Extensions,
            got == Some(&(expected.critical, expected.value.as_slice())),
            &|| extension_text(&expected.oid, expected.critical, &expected.value),
            &|| {
                got.map_or_else(
                    || or_none(String::new()),
                    |(critical, value)| extension_text(&expected.oid, *critical, value),
                )
            },
        );
    }
    for (oid, (critical, value)) in &present {
        let compared =
            ext::COMPARED.contains(oid) || approved.extensions.iter().any(|e| e.oid == *oid);
        // What a CA adds for relying parties to find things is never critical (RFC 5280, 4.2.1 and 4.2.2); a
        // critical extension that nobody has approved changes who accepts the certificate.
        let added = ext::CA_ADDS.contains(oid) || ca_may_add.contains(oid);
        check(
            Field::Extensions,
            compared || (added && !critical),
            &|| "no further extension".to_owned(),
            &|| extension_text(oid, *critical, value),
        );
    }
    findings.into_reports()
}

fn decoded<T: ToString>(value: Option<&Result<T, TlvError>>) -> String {
    match value {
        None => or_none(String::new()),
        Some(Ok(value)) => value.to_string(),
        Some(Err(why)) => why.to_string(),
    }
}

/// What [`CertificateDer`] tolerates in certificates of devices, and no CA may send.
fn form(certificate: &CertificateDer) -> Result<(), &'static str> {
    let read = || -> Result<Result<(), &'static str>, TlvError> {
        let mut fields = Reader::new(certificate.tbs_der()).only(tag::SEQUENCE)?.reader();
        let version = match fields.optional(tag::context_constructed(0))? {
            Some(explicit) => explicit.reader().only(tag::INTEGER)?.small_int()?,
            None => 0,
        };
        if version != 2 {
            return Ok(Err("another version"));
        }
        fields.expect(tag::INTEGER)?;
        if fields.expect(tag::SEQUENCE)?.raw != certificate.signature_algorithm_der() {
            return Ok(Err("two signature algorithms"));
        }
        for _ in ["issuer", "validity", "subject", "subjectPublicKeyInfo"] {
            fields.expect(tag::SEQUENCE)?;
        }
        if matches!(fields.peek(), Some(0x81 | 0x82 | 0xa1 | 0xa2)) {
            return Ok(Err("unique identifiers"));
        }
        Ok(Ok(()))
    };
    read().unwrap_or(Err("malformed"))
}

/// `SEQUENCE {}`, or with an explicit FALSE as some CAs write it; a pathLen belongs to CAs only.
fn is_end_entity(value: &[u8]) -> Result<bool, TlvError> {
    let mut fields = Reader::new(value).only(tag::SEQUENCE)?.reader();
    let ca = fields.optional(tag::BOOLEAN)?.map_or(Ok(false), |flag| flag.boolean())?;
    Ok(!ca && fields.is_empty())
}
