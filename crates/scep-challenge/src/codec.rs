//! Claims to DER and back. FORMAT.md has the ASN.1 module; the decoder here is the one place that knows
//! what is allowed.

use crate::claims::{
    ApprovalMode, ChallengeClaims, ClaimsError, DemandUsages, Expectation, ExtraExtension, Purpose,
    Renewal,
};
use crate::sid::{SID_EXTENSION, Sid, SidError};
use core::time::Duration;
use scep_types::tlv::{self, Reader, Tlv, TlvError, tag};
use scep_types::{
    ChallengeId, DeviceId, DistinguishedName, ExtendedKeyUsages, GatewayGroupId, GeneralName,
    KeyAlgorithm, KeyId, KeyUsages, ObjectIdentifier, ProfileId, SpkiHash, StringRules, TenantId,
    Timestamp, UserId,
};

const VERSION: u64 = 1;
const ENUMERATED: u8 = 0x0a;
const MAX_NAMES: usize = 64;
const MAX_ALGORITHMS: usize = 8;
const MAX_EXTENSIONS: usize = 8;
const MAX_VALUE: usize = 4096;
/// Levels of DER inside an opaque value, the innermost included. The schema itself has fewer.
const MAX_DEPTH: usize = 16;
const HOUR: u64 = 3600;
const TEN_YEARS: u64 = 3650 * 24 * HOUR;
const RSA_BITS: (u64, u64) = (2048, 8192);

const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");

/// What the certificate gets from the claims' own fields or from the gateway's configuration.
const RESERVED: [ObjectIdentifier; 8] = [
    ObjectIdentifier::new_unwrap("2.5.29.17"), // subjectAltName
    ObjectIdentifier::new_unwrap("2.5.29.15"), // keyUsage
    ObjectIdentifier::new_unwrap("2.5.29.37"), // extKeyUsage
    ObjectIdentifier::new_unwrap("2.5.29.19"), // basicConstraints
    ObjectIdentifier::new_unwrap("2.5.29.14"), // subjectKeyIdentifier
    ObjectIdentifier::new_unwrap("2.5.29.35"), // authorityKeyIdentifier
    ObjectIdentifier::new_unwrap("2.5.29.31"), // cRLDistributionPoints
    ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.1.1"), // authorityInfoAccess
];

/// Encodes without checking.
pub(crate) fn encode(claims: &ChallengeClaims) -> Vec<u8> {
    let user = claims
        .user
        .as_ref()
        .map(|user| tlv::encode(tag::context(0), user.as_str().as_bytes()))
        .unwrap_or_default();
    tlv::sequence(&[
        &tlv::small_int(VERSION),
        &tlv::encode(tag::OCTET_STRING, claims.challenge_id.as_bytes()),
        &utf8(claims.tenant.as_str()),
        &tlv::encode(tag::OCTET_STRING, claims.issuer_key.as_bytes()),
        &utf8(claims.audience.as_str()),
        &tlv::encode(tag::OCTET_STRING, claims.recipient_key.as_bytes()),
        &utf8(claims.profile.as_str()),
        &utf8(claims.device.as_str()),
        &user,
        &timestamp(claims.issued_at),
        &timestamp(claims.expires_at),
        &enumerated(match claims.purpose {
            Purpose::Enrol => 0,
            Purpose::Renew => 1,
        }),
        &expectation(&claims.expectation),
    ])
}

fn expectation(expectation: &Expectation) -> Vec<u8> {
    let demand = matches!(expectation.demand_usages, DemandUsages::Yes);
    let algorithms: Vec<Vec<u8>> = expectation
        .key_algorithms
        .iter()
        .map(|algorithm| match algorithm {
            KeyAlgorithm::Rsa(bits) => tlv::small_int(u64::from(*bits)),
            KeyAlgorithm::P256 => tlv::oid(&P256),
            KeyAlgorithm::P384 => tlv::oid(&P384),
        })
        .collect();
    let spki_hash = expectation
        .spki_hash
        .map(|hash| tlv::encode(tag::context(0), hash.as_bytes()))
        .unwrap_or_default();
    let extensions: Vec<Vec<u8>> = expectation.extensions.iter().map(extension).collect();
    tlv::sequence(&[
        &expectation.subject.to_der(),
        &GeneralName::list_to_der(&expectation.subject_alt_names),
        &expectation.key_usage.to_der(),
        &expectation.extended_key_usages.to_der(),
        &boolean(demand),
        &tlv::encode(tag::SEQUENCE, &algorithms.concat()),
        &spki_hash,
        &tlv::small_int(expectation.validity.as_secs()),
        &tlv::encode(tag::SEQUENCE, &extensions.concat()),
        &match expectation.renewal {
            Renewal::Blob => tlv::encode(tag::NULL, &[]),
            Renewal::Certificate { window } => tlv::small_int(window.as_secs()),
        },
        &enumerated(match expectation.approval {
            ApprovalMode::Automatic => 0,
            ApprovalMode::Manual => 1,
        }),
    ])
}

fn extension(extension: &ExtraExtension) -> Vec<u8> {
    // DER leaves DEFAULT FALSE out.
    let critical = if extension.critical { boolean(true) } else { Vec::new() };
    tlv::sequence(&[
        &tlv::oid(&extension.oid),
        &critical,
        &tlv::encode(tag::OCTET_STRING, &extension.value),
    ])
}

fn utf8(text: &str) -> Vec<u8> {
    tlv::encode(tag::UTF8_STRING, text.as_bytes())
}

fn boolean(value: bool) -> Vec<u8> {
    tlv::encode(tag::BOOLEAN, &[if value { 0xff } else { 0 }])
}

fn enumerated(value: u8) -> Vec<u8> {
    tlv::encode(ENUMERATED, &[value])
}

fn timestamp(time: Timestamp) -> Vec<u8> {
    tlv::small_int(u64::try_from(time.seconds()).unwrap_or(0))
}

/// Decodes and checks everything but canonical form.
pub(crate) fn decode(der: &[u8]) -> Result<ChallengeClaims, ClaimsError> {
    let mut fields = Reader::new(der).only(tag::SEQUENCE)?.reader();
    // First, so that a later version is told from a broken one.
    let version = fields.any()?.small_int()?;
    if version != VERSION {
        return Err(ClaimsError::Version { got: version });
    }
    let claims = ChallengeClaims {
        challenge_id: ChallengeId::from_bytes(octets(&mut fields, "challengeId")?),
        tenant: TenantId::new(text(&mut fields, "tenant")?)?,
        issuer_key: KeyId::from_bytes(octets(&mut fields, "issuerKey")?),
        audience: GatewayGroupId::new(text(&mut fields, "audience")?)?,
        recipient_key: KeyId::from_bytes(octets(&mut fields, "recipientKey")?),
        profile: ProfileId::new(text(&mut fields, "profile")?)?,
        device: DeviceId::new(text(&mut fields, "device")?)?,
        user: match fields.optional(tag::context(0))? {
            Some(tlv) => Some(UserId::new(utf8_of(&tlv, "user")?)?),
            None => None,
        },
        issued_at: read_timestamp(&mut fields, "issuedAt")?,
        expires_at: read_timestamp(&mut fields, "expiresAt")?,
        purpose: match choice(&mut fields)? {
            (0, _) => Purpose::Enrol,
            (1, _) => Purpose::Renew,
            (_, tlv) => return Err(tlv.invalid("purpose").into()),
        },
        expectation: read_expectation(&fields.expect(tag::SEQUENCE)?)?,
    };
    fields.finish()?;
    let (issued_at, expires_at) = (claims.issued_at, claims.expires_at);
    if issued_at >= expires_at {
        return Err(ClaimsError::Times { issued_at, expires_at });
    }
    Ok(claims)
}

fn read_expectation(tlv: &Tlv<'_>) -> Result<Expectation, ClaimsError> {
    let mut fields = tlv.reader();
    let expectation = Expectation {
        subject: DistinguishedName::from_der(
            fields.expect(tag::SEQUENCE)?.raw,
            StringRules::Strict,
        )?,
        subject_alt_names: read_names(&fields.expect(tag::SEQUENCE)?)?,
        key_usage: KeyUsages::from_der(fields.expect(tag::BIT_STRING)?.raw)?,
        extended_key_usages: ExtendedKeyUsages::from_der(fields.expect(tag::SEQUENCE)?.raw)?,
        demand_usages: match fields.any()?.boolean()? {
            false => DemandUsages::No,
            true => DemandUsages::Yes,
        },
        key_algorithms: read_algorithms(&fields.expect(tag::SEQUENCE)?)?,
        spki_hash: match fields.optional(tag::context(0))? {
            Some(tlv) => Some(SpkiHash::try_from(tlv.value).map_err(|_| tlv.invalid("spkiHash"))?),
            None => None,
        },
        validity: seconds(&fields.any()?, "validity", HOUR, TEN_YEARS)?,
        extensions: read_extensions(&fields.expect(tag::SEQUENCE)?)?,
        renewal: {
            let tlv = fields.any()?;
            match (tlv.tag, tlv.value) {
                (tag::NULL, []) => Renewal::Blob,
                (tag::NULL, _) => return Err(tlv.invalid("renewal").into()),
                _ => {
                    let window = seconds(&tlv, "renewal window", 1, TEN_YEARS)?;
                    Renewal::Certificate { window }
                }
            }
        },
        approval: match choice(&mut fields)? {
            (0, _) => ApprovalMode::Automatic,
            (1, _) => ApprovalMode::Manual,
            (_, tlv) => return Err(tlv.invalid("approval").into()),
        },
    };
    fields.finish()?;
    if expectation.subject.is_empty() && expectation.subject_alt_names.is_empty() {
        return Err(ClaimsError::Nameless);
    }
    if let Renewal::Certificate { window } = expectation.renewal
        && window >= expectation.validity
    {
        return Err(ClaimsError::RenewalWindow {
            window: window.as_secs(),
            validity: expectation.validity.as_secs(),
        });
    }
    check_sids(&expectation)?;
    Ok(expectation)
}

fn read_names(tlv: &Tlv<'_>) -> Result<Vec<GeneralName>, ClaimsError> {
    let mut reader = tlv.reader();
    let mut names: Vec<GeneralName> = Vec::new();
    while !reader.is_empty() {
        let raw = reader.any()?;
        let limit = raw.value.len();
        if limit > MAX_VALUE {
            let what = "a subjectAltName";
            return Err(ClaimsError::TooLong { what, got: limit, max: MAX_VALUE });
        }
        let name = GeneralName::read(&mut Reader::new(raw.raw), StringRules::Strict)?;
        match &name {
            // Opaque to the name's decoder, but on its way into a certificate.
            GeneralName::Other(oid, value) => {
                well_formed(value, "a subjectAltName", MAX_DEPTH)?;
                if *oid == GeneralName::UPN && name.as_upn().is_none() {
                    return Err(raw.invalid("userPrincipalName").into());
                }
            }
            GeneralName::X400(contents) | GeneralName::EdiParty(contents) => {
                well_formed(contents, "a subjectAltName", MAX_DEPTH)?;
            }
            _ => {}
        }
        if names.iter().any(|other| other.matches(&name)) {
            return Err(ClaimsError::Duplicate { what: "subjectAltName" });
        }
        names.push(name);
        count("subjectAltNames", names.len(), 0, MAX_NAMES)?;
    }
    Ok(names)
}

fn read_algorithms(tlv: &Tlv<'_>) -> Result<Vec<KeyAlgorithm>, ClaimsError> {
    let mut reader = tlv.reader();
    let mut algorithms = Vec::new();
    while !reader.is_empty() {
        let tlv = reader.any()?;
        let algorithm = if tlv.tag == tag::OID {
            match tlv.oid()? {
                P256 => KeyAlgorithm::P256,
                P384 => KeyAlgorithm::P384,
                _ => return Err(tlv.invalid("key algorithm").into()),
            }
        } else {
            let bits = range(&tlv, "RSA key size", RSA_BITS.0, RSA_BITS.1)?;
            KeyAlgorithm::Rsa(u32::try_from(bits).map_err(|_| tlv.invalid("key algorithm"))?)
        };
        if algorithms.contains(&algorithm) {
            return Err(ClaimsError::Duplicate { what: "key algorithm" });
        }
        algorithms.push(algorithm);
        count("key algorithms", algorithms.len(), 1, MAX_ALGORITHMS)?;
    }
    count("key algorithms", algorithms.len(), 1, MAX_ALGORITHMS)?;
    Ok(algorithms)
}

fn read_extensions(tlv: &Tlv<'_>) -> Result<Vec<ExtraExtension>, ClaimsError> {
    let mut reader = tlv.reader();
    let mut extensions: Vec<ExtraExtension> = Vec::new();
    while !reader.is_empty() {
        let mut fields = reader.expect(tag::SEQUENCE)?.reader();
        let oid = fields.any()?.oid()?;
        let critical = match fields.optional(tag::BOOLEAN)? {
            Some(flag) => flag.boolean()?,
            None => false,
        };
        let value = fields.expect(tag::OCTET_STRING)?.value;
        fields.finish()?;
        if RESERVED.contains(&oid) {
            return Err(ClaimsError::ExtensionReserved { oid });
        }
        // An allow-list: each extension needs its own comparison with what a request carries.
        if oid != SID_EXTENSION {
            return Err(ClaimsError::ExtensionNotAllowed { oid });
        }
        if value.len() > MAX_VALUE {
            let what = "an extension's value";
            return Err(ClaimsError::TooLong { what, got: value.len(), max: MAX_VALUE });
        }
        extensions.push(ExtraExtension { oid, critical, value: value.to_vec() });
        count("extensions", extensions.len(), 0, MAX_EXTENSIONS)?;
    }
    Ok(extensions)
}

/// At most one security identifier in each form, and the same in both.
fn check_sids(expectation: &Expectation) -> Result<(), ClaimsError> {
    let mut from_extension = None;
    for extension in expectation.extensions.iter().filter(|e| e.oid == SID_EXTENSION) {
        if from_extension.replace(Sid::from_extension(extension)?).is_some() {
            return Err(SidError::Twice("security identifier extension").into());
        }
    }
    let mut from_uri = None;
    for name in &expectation.subject_alt_names {
        if let Some(sid) = Sid::from_uri(name)?
            && from_uri.replace(sid).is_some()
        {
            return Err(SidError::Twice("security identifier URI").into());
        }
    }
    match (from_extension, from_uri) {
        (Some(a), Some(b)) if a != b => Err(ClaimsError::SidsDiffer),
        _ => Ok(()),
    }
}

/// That `der` is a series of DER values, constructed ones not nested deeper than `depth`.
fn well_formed(der: &[u8], what: &'static str, depth: usize) -> Result<(), ClaimsError> {
    let Some(deeper) = depth.checked_sub(1) else {
        return Err(ClaimsError::TooDeep { what, max: MAX_DEPTH });
    };
    let mut reader = Reader::new(der);
    while !reader.is_empty() {
        let tlv = reader.any()?;
        if tlv.tag & 0x20 != 0 {
            well_formed(tlv.value, what, deeper)?;
        }
    }
    Ok(())
}

const fn count(what: &'static str, got: usize, min: usize, max: usize) -> Result<(), ClaimsError> {
    if got < min || got > max {
        return Err(ClaimsError::Count { what, got, min, max });
    }
    Ok(())
}

fn range(tlv: &Tlv<'_>, what: &'static str, min: u64, max: u64) -> Result<u64, ClaimsError> {
    let got = tlv.small_int()?;
    if got < min || got > max {
        return Err(ClaimsError::Range { what, got, min, max });
    }
    Ok(got)
}

fn seconds(tlv: &Tlv<'_>, what: &'static str, min: u64, max: u64) -> Result<Duration, ClaimsError> {
    range(tlv, what, min, max).map(Duration::from_secs)
}

fn read_timestamp(fields: &mut Reader<'_>, what: &'static str) -> Result<Timestamp, ClaimsError> {
    let max = u64::try_from(Timestamp::MAX.seconds()).unwrap_or(0);
    let tlv = fields.any()?;
    let seconds = range(&tlv, what, 0, max)?;
    Ok(Timestamp::from_seconds(i64::try_from(seconds).map_err(|_| tlv.invalid(what))?))
}

fn octets<const N: usize>(
    fields: &mut Reader<'_>,
    what: &'static str,
) -> Result<[u8; N], TlvError> {
    let tlv = fields.expect(tag::OCTET_STRING)?;
    tlv.value.try_into().map_err(|_| tlv.invalid(what))
}

fn text<'a>(fields: &mut Reader<'a>, what: &'static str) -> Result<&'a str, TlvError> {
    utf8_of(&fields.expect(tag::UTF8_STRING)?, what)
}

fn utf8_of<'a>(tlv: &Tlv<'a>, what: &'static str) -> Result<&'a str, TlvError> {
    core::str::from_utf8(tlv.value).map_err(|_| tlv.invalid(what))
}

fn choice<'a>(fields: &mut Reader<'a>) -> Result<(u8, Tlv<'a>), TlvError> {
    let tlv = fields.expect(ENUMERATED)?;
    match tlv.value {
        [value] => Ok((*value, tlv)),
        _ => Err(tlv.invalid("ENUMERATED")),
    }
}
