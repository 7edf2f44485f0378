//! The extensions asked for (RFC 2985, 5.4.2; RFC 5280, 4.2).

use crate::{CsrError, MAX_EXTENSIONS, Rules, oid};
use scep_types::tlv::{self, Reader, Tlv, tag};
use scep_types::{ExtendedKeyUsages, GeneralName, KeyUsages, ObjectIdentifier};

/// An extension asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestedExtension {
    /// extnID.
    pub oid: ObjectIdentifier,
    /// critical.
    pub critical: bool,
    /// extnValue's contents.
    pub value: Vec<u8>,
}

impl RequestedExtension {
    /// Its DER.
    #[must_use]
    pub fn to_der(&self) -> Vec<u8> {
        let critical = if self.critical { &[tag::BOOLEAN, 1, 0xff][..] } else { &[] };
        tlv::sequence(&[
            &tlv::oid(&self.oid),
            critical,
            &tlv::encode(tag::OCTET_STRING, &self.value),
        ])
    }
}

/// What the one extensionRequest holds.
#[derive(Default)]
pub(crate) struct Extensions {
    pub(crate) subject_alt_names: Vec<GeneralName>,
    pub(crate) key_usage: Option<KeyUsages>,
    pub(crate) extended_key_usages: Option<ExtendedKeyUsages>,
    pub(crate) others: Vec<RequestedExtension>,
    pub(crate) inert: Vec<ObjectIdentifier>,
}

/// Reads `Extensions`. RFC 5280 wants at least one; none asks for nothing, so it is read as that.
pub(crate) fn read(list: &Tlv<'_>, rules: &Rules) -> Result<Extensions, CsrError> {
    let mut all = Extensions::default();
    let mut seen: Vec<ObjectIdentifier> = Vec::new();
    let mut reader = list.reader();
    while !reader.is_empty() {
        if seen.len() >= MAX_EXTENSIONS {
            return Err(CsrError::TooManyExtensions { max: MAX_EXTENSIONS });
        }
        let extension = read_one(&reader.expect(tag::SEQUENCE)?)?;
        if seen.contains(&extension.oid) {
            return Err(CsrError::RepeatedExtension { oid: extension.oid });
        }
        seen.push(extension.oid);
        all.sort_in(extension, rules)?;
    }
    Ok(all)
}

fn read_one(extension: &Tlv<'_>) -> Result<RequestedExtension, CsrError> {
    let mut fields = extension.reader();
    let oid = fields.any()?.oid()?;
    let critical = match fields.optional(tag::BOOLEAN)? {
        None => false,
        Some(flag) if flag.boolean()? => true,
        Some(_) => return Err(CsrError::ExplicitNotCritical { oid }),
    };
    let value = fields.expect(tag::OCTET_STRING)?.value.to_vec();
    fields.finish()?;
    Ok(RequestedExtension { oid, critical, value })
}

impl Extensions {
    fn sort_in(&mut self, extension: RequestedExtension, rules: &Rules) -> Result<(), CsrError> {
        let value = &extension.value[..];
        match extension.oid {
            oid::SUBJECT_ALT_NAME => {
                self.subject_alt_names = GeneralName::list_from_der(value, rules.strings)
                    .map_err(CsrError::SubjectAltName)?;
            }
            oid::KEY_USAGE => {
                self.key_usage = Some(KeyUsages::from_der(value).map_err(CsrError::KeyUsage)?);
            }
            // Clients without a choice of purposes send an empty list: it asks for nothing.
            oid::EXTENDED_KEY_USAGE if value == EMPTY_SEQUENCE => {}
            oid::EXTENDED_KEY_USAGE => {
                let usages = ExtendedKeyUsages::from_der(value);
                self.extended_key_usages = Some(usages.map_err(CsrError::ExtendedKeyUsage)?);
            }
            // cA is FALSE by default and pathLen absent: the only form that is a request for nothing.
            oid::BASIC_CONSTRAINTS if value == EMPTY_SEQUENCE => self.inert.push(extension.oid),
            oid::SUBJECT_KEY_IDENTIFIER if Reader::new(value).only(tag::OCTET_STRING).is_ok() => {
                self.inert.push(extension.oid);
            }
            _ => self.others.push(extension),
        }
        Ok(())
    }
}

const EMPTY_SEQUENCE: [u8; 2] = [tag::SEQUENCE, 0];
