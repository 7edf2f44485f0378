//! SyncML for the ClientCertificateInstall CSP of Windows.
//!
//! Nodes, their meaning and the frame of commands are those of "ClientCertificateInstall CSP" (Microsoft Learn), their
//! order that of "MDM_ClientCertificateInstall_Install03 class" (Microsoft Learn). Only what those pages explain is
//! written. ValidPeriod and ValidPeriodUnits are left out on purpose: the device would only repeat them in its request,
//! and how long the certificate lives is in the challenge.

use super::{Form, PayloadError, PayloadInput, WindowsKey, no_san, xml};
use scep_types::{AttributeValue, DistinguishedName, GeneralName};
use sha1::{Digest, Sha1};
use std::fmt::Write as _;

const FORM: Form = Form::WindowsSyncml;

/// The CSP's defaults, written out: minutes between, and number of, attempts after PENDING.
const RETRY_DELAY: &str = "5";
const RETRY_COUNT: &str = "3";

/// The commands that make Windows enrol with this challenge: `Add` for each setting, then `Exec` of Enroll, in one
/// `Atomic`.
///
/// A challenge of a user goes to the user's store, any other to the device's. The challenge's id is the UniqueID. The
/// challenge goes in as it is: it is base64 already, which the CSP asks for, and fits into the PrintableString of
/// Windows.
///
/// # Errors
/// When there is no URL, no CA certificate or no subject, or the challenge demands what the form cannot say: other
/// subjectAltNames than e-mail, DNS, URI, UPN and IPv4 address, decipherOnly, neither digitalSignature nor
/// keyEncipherment, other keys than RSA of 2,048 and 4,096 bits (2,048 in a TPM).
pub fn windows_syncml(input: &PayloadInput) -> Result<String, PayloadError> {
    let claims = &input.claims;
    let expectation = &claims.expectation;
    if input.urls.is_empty() {
        return Err(PayloadError::UrlMissing { form: FORM });
    }
    if let Some(url) = input.urls.iter().find(|url| url.contains(';')) {
        return Err(PayloadError::UrlSemicolon { url: url.clone() });
    }
    let ca = input.ca_certificate.as_ref().ok_or(PayloadError::CaMissing)?;
    if expectation.subject.is_empty() {
        return Err(PayloadError::SubjectMissing);
    }
    input.check_names(FORM)?;
    // The first octet of RFC 5280's bit string; decipherOnly is in the second.
    let usage = input.key_usage_bits(FORM, |usage| match usage {
        "digitalSignature" => Some(0x80),
        "nonRepudiation" => Some(0x40),
        "keyEncipherment" => Some(0x20),
        "dataEncipherment" => Some(0x10),
        "keyAgreement" => Some(0x08),
        "keyCertSign" => Some(0x04),
        "cRLSign" => Some(0x02),
        "encipherOnly" => Some(0x01),
        _ => None,
    })?;
    let bits = match input.windows_key {
        WindowsKey::Software => input.rsa_bits(FORM, &[2048, 4096], "2048 and 4096")?,
        WindowsKey::Tpm | WindowsKey::TpmIfPresent => {
            input.rsa_bits(FORM, &[2048], "2048 (in a TPM)")?
        }
    };
    let protection = match input.windows_key {
        WindowsKey::Tpm => "1",
        WindowsKey::TpmIfPresent => "2",
        WindowsKey::Software => "3",
    };
    let purposes: Vec<String> =
        expectation.extended_key_usages.purposes().iter().map(ToString::to_string).collect();
    let thumbprint: [u8; 20] = Sha1::digest(ca.as_der()).into();
    let thumbprint = thumbprint.iter().fold(String::new(), |mut text, octet| {
        let _ = write!(text, "{octet:02X}");
        text
    });
    let alt_names = alt_names(&expectation.subject_alt_names)?;

    let store = if claims.user.is_some() { "User" } else { "Device" };
    let node =
        format!("./{store}/Vendor/MSFT/ClientCertificateInstall/SCEP/{}", claims.challenge_id);
    let mut commands = Commands::default();
    commands.add(&node, "node", None);
    for (setting, format, value) in [
        ("ServerURL", "chr", input.urls.join(";")),
        ("Challenge", "chr", input.challenge.expose().clone()),
        ("EKUMapping", "chr", purposes.join("+")),
        ("KeyUsage", "int", usage.to_string()),
        ("SubjectName", "chr", x500(&expectation.subject)),
        ("KeyProtection", "int", protection.to_owned()),
        ("RetryDelay", "int", RETRY_DELAY.to_owned()),
        ("RetryCount", "int", RETRY_COUNT.to_owned()),
        ("KeyLength", "int", bits.to_string()),
        ("HashAlgorithm", "chr", "SHA-2".to_owned()),
        ("CAThumbprint", "chr", thumbprint),
        ("SubjectAlternativeNames", "chr", alt_names),
    ] {
        if !value.is_empty() {
            commands.add(&format!("{node}/Install/{setting}"), format, Some(&value));
        }
    }
    Ok(commands.finish(&format!("{node}/Install/Enroll")))
}

/// The string form that "CertStrToNameA function" (Microsoft Learn) reads: RDNs in encoded order separated by commas,
/// the attributes of one by plus signs; a value in quotation marks where it needs them, and a quotation mark in it
/// doubled. A backslash escapes nothing there.
fn x500(name: &DistinguishedName) -> String {
    let attribute = |a: &AttributeValue| format!("{}={}", key(a), quoted(a.value()));
    let rdns = name
        .rdns()
        .iter()
        .map(|rdn| rdn.attributes().iter().map(attribute).collect::<Vec<_>>().join(" + "));
    rdns.collect::<Vec<_>>().join(", ")
}

/// The keys of that page's table that are the same here; every other type as an OID with its prefix.
fn key(attribute: &AttributeValue) -> String {
    let short = attribute.short_name();
    match short.as_str() {
        "CN" | "L" | "O" | "OU" | "C" | "ST" | "SN" | "DC" => short,
        "emailAddress" => "E".to_owned(),
        _ => format!("OID.{}", attribute.oid()),
    }
}

fn quoted(value: &str) -> String {
    let special = |c| matches!(c, ',' | '+' | '=' | '"' | '\n' | '<' | '>' | '#' | ';');
    if value.contains(special)
        || value.starts_with(char::is_whitespace)
        || value.ends_with(char::is_whitespace)
    {
        format!("\"{}\"", value.replace('"', "\"\""))
    } else {
        value.to_owned()
    }
}

/// Number, plus sign and value of each, separated by semicolons. The numbers are those of "AlternativeNameType
/// enumeration" (Microsoft Learn).
fn alt_names(names: &[GeneralName]) -> Result<String, PayloadError> {
    let mut pairs = Vec::new();
    for name in names {
        let (number, value) = match name {
            GeneralName::Email(text) => (2, text.clone()),
            GeneralName::Dns(text) => (3, text.clone()),
            GeneralName::Uri(text) => (7, text.clone()),
            GeneralName::Ip(octets) => {
                let v4: [u8; 4] = octets.as_slice().try_into().map_err(|_| {
                    no_san(FORM, name, "only IPv4 addresses have a documented form")
                })?;
                (8, std::net::Ipv4Addr::from(v4).to_string())
            }
            other => {
                let why = "it has e-mail addresses, DNS names, URIs, principal names and IPv4 addresses only";
                (11, other.as_upn().ok_or_else(|| no_san(FORM, other, why))?.to_owned())
            }
        };
        if value.contains(';') {
            return Err(no_san(FORM, name, "a semicolon separates names there"));
        }
        pairs.push(format!("{number}+{value}"));
    }
    Ok(pairs.join(";"))
}

/// The commands with their numbers.
#[derive(Default)]
struct Commands {
    text: String,
    last: u32,
}

impl Commands {
    /// The next CmdID; the `Atomic` has 1.
    fn next(&mut self) -> u32 {
        self.last = self.last.saturating_add(1);
        self.last.saturating_add(1)
    }

    fn add(&mut self, target: &str, format: &str, value: Option<&str>) {
        let id = self.next();
        let data = value.map(|v| format!("<Data>{}</Data>", xml::escape(v))).unwrap_or_default();
        // Writing to a String cannot fail.
        let _ = writeln!(
            self.text,
            "<Add><CmdID>{id}</CmdID><Item><Target><LocURI>{}</LocURI></Target>\
             <Meta><Format xmlns=\"syncml:metinf\">{format}</Format></Meta>{data}</Item></Add>",
            xml::escape(target),
        );
    }

    fn finish(mut self, enroll: &str) -> String {
        let id = self.next();
        format!(
            "<SyncML xmlns=\"SYNCML:SYNCML1.2\">\n<SyncBody>\n<Atomic>\n<CmdID>1</CmdID>\n{}\
             <Exec><CmdID>{id}</CmdID><Item><Target><LocURI>{}</LocURI></Target></Item></Exec>\n\
             </Atomic>\n<Final/>\n</SyncBody>\n</SyncML>\n",
            self.text,
            xml::escape(enroll),
        )
    }
}
