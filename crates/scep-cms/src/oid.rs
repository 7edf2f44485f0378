//! The object identifiers that are written or compared here.

use scep_types::ObjectIdentifier;

macro_rules! oids {
    ($($name:ident = $dotted:literal;)*) => {
        $(pub(crate) const $name: ObjectIdentifier = ObjectIdentifier::new_unwrap($dotted);)*
    };
}

// Content types and attributes: RFC 5652, 5083.
oids! {
    DATA = "1.2.840.113549.1.7.1";
    SIGNED_DATA = "1.2.840.113549.1.7.2";
    ENVELOPED_DATA = "1.2.840.113549.1.7.3";
    AUTH_ENVELOPED_DATA = "1.2.840.113549.1.9.16.1.23";
    CONTENT_TYPE = "1.2.840.113549.1.9.3";
    MESSAGE_DIGEST = "1.2.840.113549.1.9.4";
}

// Digests, signatures and key transport: RFC 3370, 5754, 4055, 4056.
oids! {
    SHA1 = "1.3.14.3.2.26";
    SHA256 = "2.16.840.1.101.3.4.2.1";
    SHA384 = "2.16.840.1.101.3.4.2.2";
    SHA512 = "2.16.840.1.101.3.4.2.3";
    RSA_ENCRYPTION = "1.2.840.113549.1.1.1";
    SHA1_WITH_RSA = "1.2.840.113549.1.1.5";
    SHA256_WITH_RSA = "1.2.840.113549.1.1.11";
    SHA384_WITH_RSA = "1.2.840.113549.1.1.12";
    SHA512_WITH_RSA = "1.2.840.113549.1.1.13";
    RSAES_OAEP = "1.2.840.113549.1.1.7";
    MGF1 = "1.2.840.113549.1.1.8";
    P_SPECIFIED = "1.2.840.113549.1.1.9";
    RSASSA_PSS = "1.2.840.113549.1.1.10";
    ECDSA_SHA256 = "1.2.840.10045.4.3.2";
    ECDSA_SHA384 = "1.2.840.10045.4.3.3";
    ECDSA_SHA512 = "1.2.840.10045.4.3.4";
}

// Content encryption, key wrap, passwords and key agreement: RFC 3565, 3370, 5084, 3211, 8018, 5753.
oids! {
    AES128_CBC = "2.16.840.1.101.3.4.1.2";
    AES192_CBC = "2.16.840.1.101.3.4.1.22";
    AES256_CBC = "2.16.840.1.101.3.4.1.42";
    DES_EDE3_CBC = "1.2.840.113549.3.7";
    AES256_GCM = "2.16.840.1.101.3.4.1.46";
    AES256_WRAP = "2.16.840.1.101.3.4.1.45";
    PWRI_KEK = "1.2.840.113549.1.9.16.3.9";
    PBKDF2 = "1.2.840.113549.1.5.12";
    HMAC_SHA1 = "1.2.840.113549.2.7";
    HMAC_SHA256 = "1.2.840.113549.2.9";
    HMAC_SHA384 = "1.2.840.113549.2.10";
    HMAC_SHA512 = "1.2.840.113549.2.11";
    EC_PUBLIC_KEY = "1.2.840.10045.2.1";
    DH_SINGLE_PASS_STD_SHA256 = "1.3.132.1.11.1";
}

/// What the field calls algorithms that are refused: an operator looks for these words in a device's settings.
const NAMES: &[(&str, &str)] = &[
    ("1.2.840.113549.2.2", "md2"),
    ("1.2.840.113549.2.5", "md5"),
    ("1.3.14.3.2.26", "sha1"),
    ("2.16.840.1.101.3.4.2.4", "sha224"),
    ("2.16.840.1.101.3.4.2.1", "sha256"),
    ("2.16.840.1.101.3.4.2.2", "sha384"),
    ("2.16.840.1.101.3.4.2.3", "sha512"),
    ("1.2.840.113549.1.1.1", "rsaEncryption"),
    ("1.2.840.113549.1.1.2", "md2WithRSAEncryption"),
    ("1.2.840.113549.1.1.4", "md5WithRSAEncryption"),
    ("1.2.840.113549.1.1.5", "sha1WithRSAEncryption"),
    ("1.2.840.113549.1.1.7", "rsaes-oaep"),
    ("1.2.840.113549.1.1.10", "rsassa-pss"),
    ("1.2.840.113549.1.1.11", "sha256WithRSAEncryption"),
    ("1.2.840.113549.1.1.12", "sha384WithRSAEncryption"),
    ("1.2.840.113549.1.1.13", "sha512WithRSAEncryption"),
    ("1.2.840.113549.1.1.14", "sha224WithRSAEncryption"),
    ("1.2.840.10040.4.3", "dsa-with-sha1"),
    ("1.2.840.10045.4.1", "ecdsa-with-SHA1"),
    ("1.2.840.10045.4.3.2", "ecdsa-with-SHA256"),
    ("1.2.840.10045.4.3.3", "ecdsa-with-SHA384"),
    ("1.2.840.10045.4.3.4", "ecdsa-with-SHA512"),
    ("1.3.101.112", "ed25519"),
    ("1.3.14.3.2.7", "des-cbc"),
    ("1.2.840.113549.1.5.12", "pbkdf2"),
    ("1.2.840.113549.2.7", "hmacWithSHA1"),
    ("1.2.840.113549.2.8", "hmacWithSHA224"),
    ("1.2.840.113549.2.9", "hmacWithSHA256"),
    ("1.2.840.113549.3.2", "rc2-cbc"),
    ("1.2.840.113549.3.4", "rc4"),
    ("1.2.840.113549.3.7", "des-ede3-cbc"),
    ("1.2.840.113533.7.66.10", "cast5-cbc"),
    ("1.2.392.200011.61.1.1.1.2", "camellia128-cbc"),
    ("2.16.840.1.101.3.4.1.6", "aes128-gcm"),
    ("2.16.840.1.101.3.4.1.26", "aes192-gcm"),
    ("2.16.840.1.101.3.4.1.46", "aes256-gcm"),
];

/// The field's name of an algorithm, or its dotted OID.
pub(crate) fn name(oid: &ObjectIdentifier) -> String {
    let dotted = oid.to_string();
    match NAMES.iter().find(|(known, _)| *known == dotted) {
        Some((_, name)) => (*name).to_owned(),
        None => dotted,
    }
}
