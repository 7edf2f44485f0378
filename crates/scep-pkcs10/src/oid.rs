//! The object identifiers that a request's reader and builder know.

use scep_types::ObjectIdentifier;

const fn oid(text: &str) -> ObjectIdentifier {
    ObjectIdentifier::new_unwrap(text)
}

/// PKCS #9 challengePassword (RFC 2985, 5.4.1).
pub(crate) const CHALLENGE_PASSWORD: ObjectIdentifier = oid("1.2.840.113549.1.9.7");
/// PKCS #9 extensionRequest (RFC 2985, 5.4.2).
pub(crate) const EXTENSION_REQUEST: ObjectIdentifier = oid("1.2.840.113549.1.9.14");
/// PKCS #9 friendlyName (RFC 2985, 5.5.1).
pub(crate) const FRIENDLY_NAME: ObjectIdentifier = oid("1.2.840.113549.1.9.20");
/// szOID_CERT_EXTENSIONS: Microsoft's twin of extensionRequest.
pub(crate) const MS_CERT_EXTENSIONS: ObjectIdentifier = oid("1.3.6.1.4.1.311.2.1.14");
/// szOID_ENROLLMENT_NAME_VALUE_PAIR: instructions to a Microsoft CA, such as the template or further names.
pub(crate) const MS_NAME_VALUE_PAIR: ObjectIdentifier = oid("1.3.6.1.4.1.311.13.2.1");
/// szOID_ENROLLMENT_CSP_PROVIDER: where the key was made.
pub(crate) const MS_CSP_PROVIDER: ObjectIdentifier = oid("1.3.6.1.4.1.311.13.2.2");
/// szOID_OS_VERSION.
pub(crate) const MS_OS_VERSION: ObjectIdentifier = oid("1.3.6.1.4.1.311.13.2.3");
/// szOID_REQUEST_CLIENT_INFO: the names of machine, user and process.
pub(crate) const MS_CLIENT_INFO: ObjectIdentifier = oid("1.3.6.1.4.1.311.21.20");

/// Attributes that are read and discarded.
pub(crate) const INERT_ATTRIBUTES: [ObjectIdentifier; 4] =
    [FRIENDLY_NAME, MS_CSP_PROVIDER, MS_OS_VERSION, MS_CLIENT_INFO];

/// subjectKeyIdentifier (RFC 5280, 4.2.1.2).
pub(crate) const SUBJECT_KEY_IDENTIFIER: ObjectIdentifier = oid("2.5.29.14");
/// keyUsage (RFC 5280, 4.2.1.3).
pub(crate) const KEY_USAGE: ObjectIdentifier = oid("2.5.29.15");
/// subjectAltName (RFC 5280, 4.2.1.6).
pub(crate) const SUBJECT_ALT_NAME: ObjectIdentifier = oid("2.5.29.17");
/// basicConstraints (RFC 5280, 4.2.1.9).
pub(crate) const BASIC_CONSTRAINTS: ObjectIdentifier = oid("2.5.29.19");
/// extKeyUsage (RFC 5280, 4.2.1.12).
pub(crate) const EXTENDED_KEY_USAGE: ObjectIdentifier = oid("2.5.29.37");
