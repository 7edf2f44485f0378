//! The extensions that have a place of their own in these decisions.

use const_oid::ObjectIdentifier;
use scep_challenge::SID_EXTENSION;

const fn oid(text: &str) -> ObjectIdentifier {
    ObjectIdentifier::new_unwrap(text)
}

pub(crate) const KEY_USAGE: ObjectIdentifier = oid("2.5.29.15");
pub(crate) const SUBJECT_ALT_NAME: ObjectIdentifier = oid("2.5.29.17");
pub(crate) const BASIC_CONSTRAINTS: ObjectIdentifier = oid("2.5.29.19");
pub(crate) const EXTENDED_KEY_USAGE: ObjectIdentifier = oid("2.5.29.37");
const SUBJECT_KEY_ID: ObjectIdentifier = oid("2.5.29.14");
const AUTHORITY_KEY_ID: ObjectIdentifier = oid("2.5.29.35");
const CRL_DISTRIBUTION_POINTS: ObjectIdentifier = oid("2.5.29.31");
const AUTHORITY_INFO_ACCESS: ObjectIdentifier = oid("1.3.6.1.5.5.7.1.1");

/// Compared with the approval value by value.
pub(crate) const COMPARED: [ObjectIdentifier; 4] =
    [KEY_USAGE, SUBJECT_ALT_NAME, BASIC_CONSTRAINTS, EXTENDED_KEY_USAGE];

/// What any CA may add.
pub(crate) const CA_ADDS: [ObjectIdentifier; 4] =
    [SUBJECT_KEY_ID, AUTHORITY_KEY_ID, CRL_DISTRIBUTION_POINTS, AUTHORITY_INFO_ACCESS];

/// What no CA may add under any rule: each gives a meaning to the certificate that nobody has approved, or is
/// compared value by value.
pub(crate) const NEVER: [ObjectIdentifier; 12] = [
    KEY_USAGE,
    SUBJECT_ALT_NAME,
    BASIC_CONSTRAINTS,
    EXTENDED_KEY_USAGE,
    // nameConstraints, policyMappings, policyConstraints, inhibitAnyPolicy: for CAs.
    oid("2.5.29.30"),
    oid("2.5.29.33"),
    oid("2.5.29.36"),
    oid("2.5.29.54"),
    // Microsoft's application policies, which override extKeyUsage, their mappings and constraints.
    oid("1.3.6.1.4.1.311.21.10"),
    oid("1.3.6.1.4.1.311.21.11"),
    oid("1.3.6.1.4.1.311.21.12"),
    // Governed by the rule `sid_domains`.
    SID_EXTENSION,
];
