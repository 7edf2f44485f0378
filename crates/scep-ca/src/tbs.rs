//! Certificates out of their parts.
//!
//! The TBSCertificate is put together from DER parts rather than from the types of `x509-cert`: subject, names
//! and usages of the claims encode themselves canonically, the issuer's name must be the CA's subject octet by
//! octet, and the key must be the octets that were proven. A detour through another crate's types would encode
//! all of it a second time, with rules of its own.

use crate::error::CaError;
use scep_types::tlv::{self, tag};
use scep_types::{
    CertificateDer, ExtendedKeyUsages, GeneralName, KeyUsages, ObjectIdentifier, SerialNumber,
    SignatureScheme, Signer, SpkiDer, Timestamp,
};

pub(crate) mod oid {
    use scep_types::ObjectIdentifier;
    pub(crate) const SUBJECT_KEY_ID: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.14");
    pub(crate) const KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.15");
    pub(crate) const CRL_NUMBER: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.20");
    pub(crate) const CRL_REASON: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.21");
    pub(crate) const SUBJECT_ALT_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.17");
    pub(crate) const BASIC_CONSTRAINTS: ObjectIdentifier =
        ObjectIdentifier::new_unwrap("2.5.29.19");
    pub(crate) const NAME_CONSTRAINTS: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.30");
    pub(crate) const CRL_POINTS: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.31");
    pub(crate) const POLICY_MAPPINGS: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.33");
    pub(crate) const AUTHORITY_KEY_ID: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.35");
    pub(crate) const POLICY_CONSTRAINTS: ObjectIdentifier =
        ObjectIdentifier::new_unwrap("2.5.29.36");
    pub(crate) const EXTENDED_KEY_USAGE: ObjectIdentifier =
        ObjectIdentifier::new_unwrap("2.5.29.37");
    pub(crate) const FRESHEST_CRL: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.46");
    pub(crate) const INHIBIT_ANY_POLICY: ObjectIdentifier =
        ObjectIdentifier::new_unwrap("2.5.29.54");
    pub(crate) const AUTHORITY_INFO: ObjectIdentifier =
        ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.1.1");
    pub(crate) const OCSP: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.48.1");
    pub(crate) const OCSP_NO_CHECK: ObjectIdentifier =
        ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.48.1.5");
    pub(crate) const CA_ISSUERS: ObjectIdentifier =
        ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.48.2");
}

/// Whether a reader that does not know the extension must refuse the certificate.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Criticality {
    Critical,
    Ignorable,
}

/// Whether a certificate is a CA's.
#[derive(Clone, Copy)]
pub(crate) enum Role {
    /// Of a CA with any number of CAs below it.
    Root,
    /// Of a CA with none below it.
    LastCa,
    /// Of anybody else.
    EndEntity,
}

/// The extensions of one certificate, in the order they are written.
#[derive(Default)]
pub(crate) struct Extensions(Vec<u8>);

impl Extensions {
    pub(crate) fn push(&mut self, oid: &ObjectIdentifier, criticality: Criticality, value: &[u8]) {
        // DEFAULT FALSE is not encoded in DER.
        let flag: &[u8] = match criticality {
            Criticality::Critical => &[tag::BOOLEAN, 1, 0xff],
            Criticality::Ignorable => &[],
        };
        let value = tlv::encode(tag::OCTET_STRING, value);
        self.push_encoded(&tlv::sequence(&[&tlv::oid(oid), flag, &value]));
    }

    /// Adds whole Extension values.
    pub(crate) fn push_encoded(&mut self, der: &[u8]) {
        self.0.extend_from_slice(der);
    }

    pub(crate) fn into_der(self) -> Vec<u8> {
        self.0
    }

    /// basicConstraints, critical (RFC 5280, 4.2.1.9). An end entity's may be left out; it is written, so that
    /// "not a CA" is said and not inferred.
    pub(crate) fn basic_constraints(&mut self, role: Role) {
        const CA: &[u8] = &[tag::BOOLEAN, 1, 0xff];
        let parts: &[&[u8]] = match role {
            Role::Root => &[CA],
            Role::LastCa => &[CA, &[tag::INTEGER, 1, 0]],
            Role::EndEntity => &[],
        };
        self.push(&oid::BASIC_CONSTRAINTS, Criticality::Critical, &tlv::sequence(parts));
    }

    /// keyUsage, critical (RFC 5280, 4.2.1.3).
    pub(crate) fn key_usage(&mut self, usages: KeyUsages) {
        self.push(&oid::KEY_USAGE, Criticality::Critical, &usages.to_der());
    }

    pub(crate) fn extended_key_usages(&mut self, usages: &ExtendedKeyUsages) {
        self.push(&oid::EXTENDED_KEY_USAGE, Criticality::Ignorable, &usages.to_der());
    }

    /// subjectAltName; critical when there is no other name (RFC 5280, 4.2.1.6).
    pub(crate) fn subject_alt_names(&mut self, names: &[GeneralName], criticality: Criticality) {
        if !names.is_empty() {
            self.push(&oid::SUBJECT_ALT_NAME, criticality, &GeneralName::list_to_der(names));
        }
    }

    pub(crate) fn subject_key_id(&mut self, spki: &SpkiDer) {
        let value = tlv::encode(tag::OCTET_STRING, spki.key_id().as_bytes());
        self.push(&oid::SUBJECT_KEY_ID, Criticality::Ignorable, &value);
    }

    /// authorityKeyIdentifier with keyIdentifier only.
    pub(crate) fn authority_key_id(&mut self, key_id: &[u8]) {
        let value = tlv::sequence(&[&tlv::encode(tag::context(0), key_id)]);
        self.push(&oid::AUTHORITY_KEY_ID, Criticality::Ignorable, &value);
    }

    /// cRLDistributionPoints: one point, its URLs are ways to the same CRL.
    pub(crate) fn crl_points(&mut self, urls: &[GeneralName]) {
        if urls.is_empty() {
            return;
        }
        let names: Vec<u8> = urls.iter().flat_map(GeneralName::to_der).collect();
        let full_name = tlv::encode(tag::context_constructed(0), &names);
        let name = tlv::encode(tag::context_constructed(0), &full_name);
        let value = tlv::sequence(&[&tlv::sequence(&[&name])]);
        self.push(&oid::CRL_POINTS, Criticality::Ignorable, &value);
    }

    /// authorityInfoAccess (RFC 5280, 4.2.2.1).
    pub(crate) fn authority_info(&mut self, ocsp: &[GeneralName], issuers: &[GeneralName]) {
        let descriptions: Vec<u8> = ocsp
            .iter()
            .map(|url| (&oid::OCSP, url))
            .chain(issuers.iter().map(|url| (&oid::CA_ISSUERS, url)))
            .flat_map(|(method, url)| tlv::sequence(&[&tlv::oid(method), &url.to_der()]))
            .collect();
        if !descriptions.is_empty() {
            let value = tlv::sequence(&[&descriptions]);
            self.push(&oid::AUTHORITY_INFO, Criticality::Ignorable, &value);
        }
    }
}

/// Everything a version 3 TBSCertificate (RFC 5280, 4.1) contains.
pub(crate) struct Parts<'a> {
    pub(crate) serial: &'a SerialNumber,
    /// Name, DER.
    pub(crate) issuer: &'a [u8],
    pub(crate) not_before: Timestamp,
    pub(crate) not_after: Timestamp,
    /// Name, DER.
    pub(crate) subject: &'a [u8],
    pub(crate) spki: &'a SpkiDer,
    pub(crate) extensions: Extensions,
}

/// Signs a certificate: one signature.
pub(crate) fn certificate(
    parts: Parts<'_>,
    key: &dyn Signer,
    scheme: SignatureScheme,
) -> Result<CertificateDer, CaError> {
    const VERSION_3: &[u8] = &[0xa0, 3, tag::INTEGER, 1, 2];
    let algorithm = scheme.algorithm_der();
    let extensions = tlv::sequence(&[&parts.extensions.into_der()]);
    let tbs = tlv::sequence(&[
        VERSION_3,
        &tlv::encode(tag::INTEGER, parts.serial.as_content()),
        &algorithm,
        parts.issuer,
        &tlv::sequence(&[&tlv::time(parts.not_before), &tlv::time(parts.not_after)]),
        parts.subject,
        parts.spki.as_der(),
        &tlv::construct(tag::context_constructed(3), &[&extensions]),
    ]);
    let signature = key.sign(scheme, &tbs)?;
    let der = tlv::sequence(&[&tbs, &algorithm, &tlv::whole_bits(&signature)]);
    Ok(CertificateDer::parse(&der)?)
}
