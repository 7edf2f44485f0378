//! What the demo tries.

use super::Stage;
use super::table::Row;
use crate::error::GatewayError;
use core::time::Duration;
use scep_challenge::ChallengeClaims;
use scep_client::{
    Answer, ClientError, ClientSettings, Identity, ScepClient, Server, Transport, Trust,
};
use scep_keys::SoftwareKey;
use scep_pkcs10::{CsrBuilder, RequestedExtension};
use scep_server::{Outcome, Trace};
use scep_types::{
    CertificateDer, ExtendedKeyUsages, GatewayGroupId, GeneralName, KeyAlgorithm, ObjectIdentifier,
    Reason, Secret, SignatureScheme,
};

fn demo(error: impl std::fmt::Display) -> GatewayError {
    GatewayError::Demo(error.to_string())
}

/// A device: a key and who it is to the gateway.
pub(super) struct Device {
    key: SoftwareKey,
}

impl Device {
    pub(super) fn new() -> Result<Self, GatewayError> {
        Ok(Self { key: SoftwareKey::generate(KeyAlgorithm::Rsa(2048))? })
    }

    pub(super) fn sign(&self, csr: &CsrBuilder) -> Result<Vec<u8>, GatewayError> {
        csr.sign(&*self.key.signer(), SignatureScheme::RsaPkcs1Sha256).map_err(demo)
    }
}

/// A request that is what the claims expect.
fn request(claims: &ChallengeClaims, blob: &str) -> CsrBuilder {
    let expectation = &claims.expectation;
    CsrBuilder {
        subject: expectation.subject.clone(),
        subject_alt_names: expectation.subject_alt_names.clone(),
        key_usage: Some(expectation.key_usage),
        extended_key_usages: Some(expectation.extended_key_usages.clone()),
        challenge_password: Some(Secret::new(blob.to_owned())),
        ..CsrBuilder::default()
    }
}

/// The client side of the demo: one server, reached by POST or GET.
pub(super) struct Bench<'a> {
    pub(super) stage: &'a Stage,
    pub(super) post: ScepClient,
    get: ScepClient,
    server: Server,
}

/// What came of one try.
pub(super) struct Tried {
    pub(super) certificate: Option<CertificateDer>,
    trace: Trace,
}

impl Bench<'_> {
    pub(super) async fn send(
        &self,
        client: &ScepClient,
        device: &Device,
        csr: &[u8],
    ) -> Result<Tried, GatewayError> {
        let Stage { now, provider, seen, .. } = self.stage;
        let subject = "CN=device".parse().map_err(demo)?;
        let decryption = device.key.decryption()?;
        let identity =
            Identity::self_signed(&subject, device.key.signer(), decryption, *now, &**provider)
                .map_err(demo)?;
        seen.take();
        let answer = client.enrol(&self.server, csr, &identity, *now, &**provider).await;
        let certificate = match answer {
            Ok(Answer::Issued(issued)) => Some(issued.certificate),
            Ok(Answer::Pending(_)) => return Err(demo("an unexpected PENDING")),
            Err(ClientError::Refused { .. }) => None,
            Err(error) => return Err(demo(error)),
        };
        let trace = seen.take().ok_or_else(|| demo("the gateway saw nothing"))?;
        Ok(Tried { certificate, trace })
    }

    /// Tries a request that must be refused for this reason.
    pub(super) async fn refused(
        &self,
        tried: &'static str,
        device: &Device,
        csr: &CsrBuilder,
        reason: Reason,
    ) -> Result<Row, GatewayError> {
        let outcome = self.send(&self.post, device, &device.sign(csr)?).await?;
        let got = match (&outcome.certificate, outcome.trace.reason) {
            (Some(_), _) => "ISSUED".to_owned(),
            (None, Some(reason)) => format!("refused: {reason}"),
            (None, None) => "refused".to_owned(),
        };
        let mut detail = Vec::new();
        for field in outcome.trace.fields.iter().filter(|field| field.reason.is_some()) {
            detail.push(format!("{}: expected {}", field.field, field.expected));
            detail.push(format!(
                "{:width$}  got      {}",
                "",
                field.got,
                width = field.field.name().len()
            ));
        }
        if detail.is_empty() {
            detail.extend(outcome.trace.detail);
        }
        Ok(Row { tried, expected: format!("refused: {reason}"), got, detail })
    }
}

pub(super) fn issued(tried: &'static str, outcome: &Tried, expected: Outcome) -> Row {
    let name = |outcome: Outcome| match outcome {
        Outcome::Issued => "issued",
        Outcome::Repeated => "the same certificate",
        _ => "refused",
    };
    let got = match (&outcome.certificate, outcome.trace.reason) {
        (Some(_), _) => name(outcome.trace.outcome).to_owned(),
        (None, Some(reason)) => format!("refused: {reason}"),
        (None, None) => "nothing".to_owned(),
    };
    let detail = outcome.certificate.as_ref().map(describe).unwrap_or_default();
    Row { tried, expected: name(expected).to_owned(), got, detail }
}

/// Subject, names and serial number of a certificate.
fn describe(certificate: &CertificateDer) -> Vec<String> {
    use scep_types::{DistinguishedName, StringRules};
    const SAN: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.17");
    let subject = DistinguishedName::from_der(certificate.subject_der(), StringRules::Strict)
        .map_or_else(|error| error.to_string(), |name| name.to_string());
    let names: Vec<String> = certificate
        .extension(&SAN)
        .and_then(|der| GeneralName::list_from_der(der, StringRules::Strict).ok())
        .unwrap_or_default()
        .iter()
        .map(ToString::to_string)
        .collect();
    let serial = certificate.serial().map(|serial| serial.to_string()).unwrap_or_default();
    vec![format!("{subject}; {}", names.join(", ")), format!("serial {serial}")]
}

/// Runs every case in order.
pub(crate) async fn run(stage: &Stage) -> Result<Vec<Row>, GatewayError> {
    let provider = &*stage.provider;
    let client = |transport| {
        let settings = ClientSettings { transport, ..ClientSettings::default() };
        ScepClient::with_settings(&stage.url, settings).map_err(demo)
    };
    let post = client(Transport::Post)?;
    let trust = Trust::Fingerprint(stage.ca.fingerprint());
    let server = post.discover(&trust, stage.now, provider).await.map_err(demo)?;
    let bench = Bench { stage, post, get: client(Transport::Get)?, server };
    let mut rows = honest(&bench).await?;
    rows.extend(differing(&bench).await?);
    rows.extend(challenges(&bench).await?);
    rows.extend(super::story::run(&bench).await?);
    Ok(rows)
}

/// Enrolments that must succeed, and the one that must not follow them.
async fn honest(bench: &Bench<'_>) -> Result<Vec<Row>, GatewayError> {
    let Stage { issuer, now, provider, .. } = bench.stage;
    let mut rows = Vec::new();

    let device = Device::new()?;
    let claims = issuer.claims("phone-1", *now, &**provider)?;
    let blob = issuer.seal(&claims, &**provider)?;
    let csr = device.sign(&request(&claims, &blob))?;
    let first = bench.send(&bench.post, &device, &csr).await?;
    rows.push(issued("enrol by POST", &first, Outcome::Issued));

    let second = bench.send(&bench.post, &device, &csr).await?;
    let mut row = issued("the same request again", &second, Outcome::Repeated);
    if first.certificate != second.certificate {
        row.got = "ANOTHER CERTIFICATE".into();
    }
    rows.push(row);

    let thief = Device::new()?;
    let row = bench
        .refused(
            "the same challenge, another key",
            &thief,
            &request(&claims, &blob),
            Reason::ChallengeAlreadyUsed,
        )
        .await?;
    rows.push(row);

    let device = Device::new()?;
    let claims = issuer.claims("phone-2", *now, &**provider)?;
    let blob = issuer.seal(&claims, &**provider)?;
    let csr = device.sign(&request(&claims, &blob))?;
    let by_get = bench.send(&bench.get, &device, &csr).await?;
    rows.push(issued("enrol by GET", &by_get, Outcome::Issued));
    Ok(rows)
}

type Change = fn(&mut CsrBuilder) -> Result<(), GatewayError>;

/// Requests that differ from what their challenge describes.
const CHANGES: &[(&str, Reason, Change)] = &[
    ("another subject", Reason::SubjectNameMismatch, |csr| {
        csr.subject = "C=CH, O=Example, CN=administrator".parse().map_err(demo)?;
        Ok(())
    }),
    ("an added name", Reason::SubjectAltNameMismatch, |csr| {
        csr.subject_alt_names.push(GeneralName::upn("administrator@example.org").map_err(demo)?);
        Ok(())
    }),
    ("an added usage", Reason::EnhancedKeyUsageMismatch, |csr| {
        let purposes = ["clientAuth", "smartcardLogon"];
        let purposes = purposes.iter().filter_map(|p| ExtendedKeyUsages::purpose(p)).collect();
        csr.extended_key_usages = ExtendedKeyUsages::new(purposes);
        Ok(())
    }),
    ("CA:TRUE", Reason::ExtensionNotAllowed, |csr| {
        csr.extensions.push(RequestedExtension {
            oid: ObjectIdentifier::new_unwrap("2.5.29.19"),
            critical: true,
            // SEQUENCE { cA BOOLEAN TRUE }
            value: vec![0x30, 3, 1, 1, 0xff],
        });
        Ok(())
    }),
    ("no challenge", Reason::ChallengePasswordMissing, |csr| {
        csr.challenge_password = None;
        Ok(())
    }),
];

async fn differing(bench: &Bench<'_>) -> Result<Vec<Row>, GatewayError> {
    let Stage { issuer, now, provider, .. } = bench.stage;
    let device = Device::new()?;
    let claims = issuer.claims("phone-3", *now, &**provider)?;
    let blob = issuer.seal(&claims, &**provider)?;
    let mut rows = Vec::new();
    for (tried, reason, change) in CHANGES {
        let mut csr = request(&claims, &blob);
        change(&mut csr)?;
        rows.push(bench.refused(tried, &device, &csr, *reason).await?);
    }
    // None of that has spent it.
    let csr = device.sign(&request(&claims, &blob))?;
    let honest = bench.send(&bench.post, &device, &csr).await?;
    rows.push(issued("the same challenge, honestly", &honest, Outcome::Issued));
    Ok(rows)
}

/// Challenges that are not good here.
async fn challenges(bench: &Bench<'_>) -> Result<Vec<Row>, GatewayError> {
    let Stage { issuer, stranger, now, provider, .. } = bench.stage;
    let provider = &**provider;
    let device = Device::new()?;
    let mut rows = Vec::new();

    let hours_ago = now.minus(Duration::from_secs(2 * 3600));
    let claims = issuer.claims("phone-4", hours_ago, provider)?;
    let csr = request(&claims, &issuer.seal(&claims, provider)?);
    rows.push(
        bench.refused("an expired challenge", &device, &csr, Reason::ChallengeExpired).await?,
    );

    let mut claims = issuer.claims("phone-4", *now, provider)?;
    claims.audience = GatewayGroupId::new("elsewhere").map_err(demo)?;
    let csr = request(&claims, &issuer.seal(&claims, provider)?);
    let reason = Reason::BadAudienceInChallenge;
    rows.push(bench.refused("a challenge for another gateway", &device, &csr, reason).await?);

    let claims = stranger.claims("phone-4", *now, provider)?;
    let csr = request(&claims, &stranger.seal(&claims, provider)?);
    let reason = Reason::SigningCertThumbprintMismatch;
    rows.push(bench.refused("a challenge of another issuer", &device, &csr, reason).await?);

    let claims = issuer.claims("phone-4", *now, provider)?;
    let forged = forge(&issuer.seal(&claims, provider)?)?;
    let csr = request(&claims, &forged);
    let reason = Reason::SignatureValidationFailed;
    rows.push(bench.refused("a forged signature", &device, &csr, reason).await?);
    Ok(rows)
}

/// Changes one bit of the last octet of the blob: the end of the signature.
fn forge(blob: &str) -> Result<String, GatewayError> {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    let mut bytes = STANDARD.decode(blob).map_err(demo)?;
    if let Some(last) = bytes.last_mut() {
        *last ^= 1;
    }
    Ok(STANDARD.encode(bytes))
}
