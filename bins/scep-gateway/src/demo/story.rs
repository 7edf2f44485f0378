//! The issuer's side of the demo: a challenge by the API, the report of what became of it, a wiped device.

use super::cases::{Bench, Device, issued};
use super::table::Row;
use super::{SUFFIX, Stage};
use crate::error::GatewayError;
use reqwest::Method;
use scep_pkcs10::CsrBuilder;
use scep_server::Outcome;
use scep_types::{CrlDer, ExtendedKeyUsages, GeneralName, KeyUsages, Reason, Secret};
use serde_json::{Value, json};

const DEVICE: &str = "laptop-1";

const PROFILE: &str = r#"
id = "laptops"
for = "device"
subject = "C=CH, O=Example, CN={{DeviceId}}"
subject_alt_names = [{ dns = "{{DeviceId}}.example.org" }]
key_usage = ["digitalSignature"]
extended_key_usages = ["clientAuth"]
key_algorithms = ["rsa2048"]
validity = "365d"
scep_urls = ["https://scep.example.org/scep"]
"#;

fn demo(error: impl std::fmt::Display) -> GatewayError {
    GatewayError::Demo(error.to_string())
}

/// What the challenge of this profile describes.
fn request(challenge: &str) -> Result<CsrBuilder, GatewayError> {
    let client = ExtendedKeyUsages::purpose("clientAuth").into_iter().collect();
    Ok(CsrBuilder {
        subject: format!("C=CH, O=Example, CN={DEVICE}").parse().map_err(demo)?,
        subject_alt_names: vec![GeneralName::dns(&format!("{DEVICE}.{SUFFIX}")).map_err(demo)?],
        key_usage: Some(KeyUsages::DIGITAL_SIGNATURE),
        extended_key_usages: ExtendedKeyUsages::new(client),
        challenge_password: Some(Secret::new(challenge.to_owned())),
        ..CsrBuilder::default()
    })
}

fn text<'a>(value: &'a Value, name: &str) -> Option<&'a str> {
    value.get(name)?.as_str()
}

fn said(tried: &'static str, expected: &str, got: impl Into<String>, detail: Vec<String>) -> Row {
    Row { tried, expected: expected.to_owned(), got: got.into(), detail }
}

/// Runs it in order.
pub(super) async fn run(bench: &Bench<'_>) -> Result<Vec<Row>, GatewayError> {
    let service = &bench.stage.service;
    let mut rows = Vec::new();
    let post = |path: &'static str, body: Value| service.must(Method::POST, path, Some(body));
    post("/profiles", json!({ "toml": PROFILE })).await?;
    post("/devices", json!({ "id": DEVICE })).await?;
    post("/assignments", json!({ "profile": "laptops", "device": DEVICE })).await?;
    let wanted = json!({ "device": DEVICE, "profile": "laptops" });
    let made = post("/challenges", wanted.clone()).await?;
    let challenge = text(&made, "challenge").ok_or_else(|| demo("no challenge"))?.to_owned();
    let (id, until) = (text(&made, "id"), text(&made, "expires_at"));
    let detail = vec![format!("challenge {}, expires {}", id.unwrap_or("?"), until.unwrap_or("?"))];
    rows.push(said("a challenge by the API", "made", "made", detail));

    let device = Device::new()?;
    let csr = device.sign(&request(&challenge)?)?;
    let enrolled = bench.send(&bench.post, &device, &csr).await?;
    rows.push(issued("enrol with it", &enrolled, Outcome::Issued));
    let serial = enrolled.certificate.as_ref().and_then(|certificate| certificate.serial());
    let serial = serial.ok_or_else(|| demo("no certificate"))?;

    let named = serial.to_string();
    let found = service
        .until("/certificates?device=laptop-1", |answer| {
            let all = answer.get("items")?.as_array()?;
            let one = all.iter().find(|one| text(one, "serial") == Some(&named))?;
            text(one, "delivered").map(str::to_owned)
        })
        .await?;
    rows.push(match found {
        Some((delivered, after)) => {
            let detail = vec![format!("serial {serial}, after {} ms", after.as_millis())];
            said("the issuer has the report", "flushed", delivered, detail)
        }
        None => said("the issuer has the report", "flushed", "NOTHING", Vec::new()),
    });
    rows.extend(wipe(bench, &serial, &wanted).await?);
    rows.push(bench.refused("its request again", &device, &request(&challenge)?, DENIED).await?);
    Ok(rows)
}

const DENIED: Reason = Reason::ScepProfileNoLongerTargetedToTheClient;

/// Wipes the device: its certificate is revoked, and there is no further challenge.
async fn wipe(
    bench: &Bench<'_>,
    serial: &scep_types::SerialNumber,
    wanted: &Value,
) -> Result<Vec<Row>, GatewayError> {
    let Stage { service, crl_url, .. } = bench.stage;
    let path = format!("/devices/{DEVICE}");
    let wiped = json!({ "state": "wiped", "attributes": {} });
    service.must(Method::PUT, &path, Some(wiped)).await?;
    let found = service
        .until("/revocations", |answer| {
            let one = answer.get("items")?.as_array()?.first()?;
            (text(one, "state") == Some("on-crl")).then_some(())
        })
        .await?;
    let crl = reqwest::get(crl_url).await.map_err(demo)?.bytes().await.map_err(demo)?;
    let listed = CrlDer::parse(&crl).is_ok_and(|crl| crl.contains(serial));
    let mut rows = vec![match (found, listed) {
        (Some(((), after)), true) => {
            let detail = vec![format!("{crl_url} lists it after {} ms", after.as_millis())];
            said("wipe the device", "its certificate is on the CRL", ON_CRL, detail)
        }
        _ => said("wipe the device", ON_CRL, "NOT ON THE CRL", Vec::new()),
    }];
    let (status, answer) = service.ask(Method::POST, "/challenges", Some(wanted.clone())).await?;
    let kind = text(&answer, "type").and_then(|kind| kind.rsplit(':').next()).unwrap_or("none");
    let got = format!("{status} {kind}");
    rows.push(said("another challenge for it", "409 device-wiped", got, Vec::new()));
    Ok(rows)
}

const ON_CRL: &str = "its certificate is on the CRL";
