//! `explain`: the comparison as a table.

use crate::cli::ExplainOptions;
use crate::error::VerifierError;
use crate::hook::{Refused, demanded};
use crate::inputs::{Trust, request};
use scep_challenge::ChallengeClaims;
use scep_keys::AwsLc;
use scep_pkcs10::{Rules, UnprovenCsr, check_key};
use scep_policy::{Denials, FieldReport, InertContent, explain};
use scep_types::{Reason, Timestamp};
use std::process::ExitCode;

/// A verdict on something other than a field: the request itself, its key, its challenge.
struct Finding {
    what: &'static str,
    reason: Option<Reason>,
    text: String,
}

impl Finding {
    const fn good(what: &'static str, text: String) -> Self {
        Self { what, reason: None, text }
    }

    fn bad(what: &'static str, reason: Reason, text: impl std::fmt::Display) -> Self {
        Self { what, reason: Some(reason), text: text.to_string() }
    }
}

/// Everything that can be said.
#[derive(Default)]
struct Explanation {
    findings: Vec<Finding>,
    claims: Option<ChallengeClaims>,
    fields: Vec<FieldReport>,
}

impl Explanation {
    fn reasons(&self) -> impl Iterator<Item = Reason> {
        let findings = self.findings.iter().filter_map(|finding| finding.reason);
        findings.chain(self.fields.iter().filter_map(|field| field.reason))
    }
}

pub(crate) fn run(options: &ExplainOptions) -> Result<ExitCode, VerifierError> {
    let trust = Trust::load(&options.trust)?;
    let now = match &options.at {
        Some(text) => text.parse().map_err(|error| VerifierError::argument("--at", error))?,
        None => Timestamp::from(std::time::SystemTime::now()),
    };
    let der = request(&options.csr)?;
    let given = match &options.challenge_file {
        Some(path) => {
            let text = std::fs::read_to_string(path).map_err(VerifierError::file(path))?;
            Some(text.trim().to_owned())
        }
        None => None,
    };
    // A foreign CA behind the hook copies what our own leaves out.
    let inert = if options.hook { InertContent::Refuse } else { InertContent::Discard };
    let explanation = look(&trust, &der, given.as_deref(), inert, now);
    if options.json {
        print_json(&explanation);
    } else {
        print_table(&explanation);
    }
    let refused = explanation.reasons().next().is_some();
    Ok(if refused { ExitCode::from(1) } else { ExitCode::SUCCESS })
}

/// Goes as far as it can, past the first reason where that is possible.
fn look(
    trust: &Trust,
    der: &[u8],
    given: Option<&str>,
    inert: InertContent,
    now: Timestamp,
) -> Explanation {
    let mut seen = Explanation::default();
    let rules = Rules::default();
    let csr = match UnprovenCsr::parse(der, &rules).and_then(|csr| csr.prove(&AwsLc)) {
        Ok(csr) => csr,
        Err(error) => {
            seen.findings.push(Finding::bad("request", error.reason(), error));
            return seen;
        }
    };
    let signed = format!("signed by its own key, {} {}", csr.spki().algorithm(), csr.spki().hash());
    seen.findings.push(Finding::good("request", signed));
    seen.findings.push(match check_key(csr.spki(), &rules, &trust.ours) {
        Ok(_) => Finding::good("key", "not known to be weak".into()),
        Err(error) => Finding::bad("key", error.reason(), error),
    });
    if inert == InertContent::Refuse
        && let Err(Refused { reason, detail }) = demanded(&csr)
    {
        seen.findings.push(Finding::bad("usages", reason, detail));
    }
    let Some(text) = given.or_else(|| csr.challenge_password().map(|text| text.expose().as_str()))
    else {
        let reason = Reason::ChallengePasswordMissing;
        seen.findings.push(Finding::bad("challenge", reason, "the request has none"));
        return seen;
    };
    let claims = match trust.opener.open(text, now, &AwsLc) {
        Ok(opened) => {
            let text = "verified, decrypted, current".to_owned();
            seen.findings.push(Finding::good("challenge", text));
            Some(opened.claims().clone())
        }
        Err(error) => {
            let claims = error.claims().cloned();
            seen.findings.push(Finding::bad("challenge", error.reason(), error));
            claims
        }
    };
    if let Some(claims) = claims {
        seen.fields = explain(&csr, &claims, &trust.rules, &Denials::default(), inert, now);
        seen.claims = Some(claims);
    }
    seen
}

fn verdict(reason: Option<Reason>) -> &'static str {
    reason.map_or("ok", Reason::code)
}

fn print_table(seen: &Explanation) {
    if let Some(claims) = &seen.claims {
        println!(
            "challenge {} of {} for device {}, profile {}, {} to {}",
            claims.challenge_id,
            claims.tenant,
            claims.device,
            claims.profile,
            claims.issued_at,
            claims.expires_at
        );
    }
    let names = seen.fields.iter().map(|field| field.field.to_string().len());
    let width = names.max().unwrap_or(0).max("challenge".len());
    for finding in &seen.findings {
        println!("{:width$}  {:26} {}", finding.what, verdict(finding.reason), finding.text);
    }
    for field in &seen.fields {
        let name = field.field.to_string();
        println!("{name:width$}  {:26} expected: {}", verdict(field.reason), field.expected);
        println!("{:width$}  {:26} got:      {}", "", "", field.got);
    }
    let reasons = seen.reasons().count();
    if reasons == 0 {
        println!("\nThe request is exactly what its challenge allows.");
    } else {
        println!("\nRefused, for {reasons} reason(s).");
    }
}

fn print_json(seen: &Explanation) {
    let findings: Vec<serde_json::Value> = seen
        .findings
        .iter()
        .map(|finding| {
            serde_json::json!({
                "what": finding.what,
                "reason": finding.reason.map(Reason::code),
                "text": finding.text,
            })
        })
        .collect();
    let challenge = seen.claims.as_ref().map(|claims| {
        serde_json::json!({
            "id": claims.challenge_id.to_string(),
            "tenant": claims.tenant.as_str(),
            "device": claims.device.as_str(),
            "profile": claims.profile.as_str(),
            "issued_at": claims.issued_at.to_string(),
            "expires_at": claims.expires_at.to_string(),
        })
    });
    let object = serde_json::json!({
        "allowed": seen.reasons().next().is_none(),
        "challenge": challenge,
        "findings": findings,
        "fields": seen.fields,
    });
    println!("{object}");
}
