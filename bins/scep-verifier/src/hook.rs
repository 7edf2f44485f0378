//! `hook`: decide for another SCEP server, once for each challenge. `serve` decides by the same function.

use crate::cli::HookOptions;
use crate::error::VerifierError;
use crate::inputs::{Trust, request};
use scep_keys::AwsLc;
use scep_ledger::{AdmitError, Asked, Denied, Ledger, LedgerError, LedgerSettings};
use scep_pkcs10::{Csr, Rules, UnprovenCsr, check_key};
use scep_policy::{Approval, FieldReport, InertContent, decide};
use scep_types::{AuthorityName, Reason, Timestamp, TransactionId};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

/// The other server runs a process for each request, and one at a time has the ledger.
const LEDGER_WAIT: Duration = Duration::from_secs(10);

/// Why the request does not pass.
pub(crate) struct Refused {
    pub(crate) reason: Reason,
    pub(crate) detail: String,
}

impl Refused {
    pub(crate) fn new(reason: Reason, detail: impl std::fmt::Display) -> Self {
        Self { reason, detail: detail.to_string() }
    }
}

/// A verdict, or why there is none.
pub(crate) enum Stop {
    Refused(Refused),
    Broken(VerifierError),
}

impl From<LedgerError> for Stop {
    fn from(error: LedgerError) -> Self {
        Self::Broken(error.into())
    }
}

impl From<Refused> for Stop {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

pub(crate) fn run(options: &HookOptions) -> Result<ExitCode, VerifierError> {
    let trust = Trust::load(&options.trust)?;
    let der = request(Path::new("-"))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(VerifierError::Runtime)?;
    let decided = runtime.block_on(async {
        let csr = proven(&trust, &der)?;
        let transaction = TransactionId::new("hook")
            .map_err(|error| VerifierError::argument("transaction", error))
            .map_err(Stop::Broken)?;
        let ledger = open(&options.ledger).await?;
        pass(&trust, &ledger, &csr, &transaction).await
    });
    match decided {
        Ok(device) => {
            eprintln!("{} scep-verifier: passed, device {device}", now());
            Ok(ExitCode::SUCCESS)
        }
        Err(Stop::Refused(Refused { reason, detail })) => {
            eprintln!("{} scep-verifier: refused: {reason}: {detail}", now());
            Ok(ExitCode::from(1))
        }
        Err(Stop::Broken(error)) => Err(error),
    }
}

/// The lines end in a log, where nobody else writes when it was.
pub(crate) fn now() -> Timestamp {
    Timestamp::from(std::time::SystemTime::now())
}

/// The request, once it has shown possession of a key that is not known to be weak or the system's own.
pub(crate) fn proven(trust: &Trust, der: &[u8]) -> Result<Csr, Refused> {
    let rules = Rules::default();
    let csr = UnprovenCsr::parse(der, &rules)
        .and_then(|csr| csr.prove(&AwsLc))
        .map_err(|error| Refused::new(error.reason(), error))?;
    check_key(csr.spki(), &rules, &trust.ours)
        .map_err(|error| Refused::new(error.reason(), error))?;
    Ok(csr)
}

/// Everything else that the gateway checks, then single use. Returns the device, for the log.
pub(crate) async fn pass(
    trust: &Trust,
    ledger: &Ledger,
    csr: &Csr,
    transaction: &TransactionId,
) -> Result<String, Stop> {
    let text = csr
        .challenge_password()
        .ok_or_else(|| Refused::new(Reason::ChallengePasswordMissing, "the request has none"))?;
    let now = ledger.effective_now(now()).await?.now;
    let opened = trust
        .opener
        .open(text.expose(), now, &AwsLc)
        .map_err(|error| Refused::new(error.reason(), error))?;
    let denials = ledger.denials().await?;
    let usages = demanded(csr);
    let decision = decide(csr, opened, &trust.rules, &denials, InertContent::Refuse, now);
    let approval = match decision {
        Ok(approval) => approval,
        Err(denial) => {
            let claims = denial.claims();
            let reasons = denial.reasons();
            let detail = lines(denial.reports());
            let denied = Denied {
                tenant: &claims.tenant,
                challenge: claims.challenge_id,
                device: &claims.device,
                profile: &claims.profile,
                expires_at: claims.expires_at,
                reasons: &reasons,
                detail: &detail,
            };
            ledger.count_mismatch(&denied, now).await?;
            return Err(Refused::new(denial.reason(), detail).into());
        }
    };
    usages?;
    spend(ledger, approval, transaction, now).await
}

/// The other CA copies the request: what the request leaves out, the certificate would lack.
pub(crate) fn demanded(csr: &Csr) -> Result<(), Refused> {
    if csr.key_usage().is_none() {
        let detail = "the request must ask for key usage, as the CA copies it";
        return Err(Refused::new(Reason::KeyUsageMismatch, detail));
    }
    if csr.extended_key_usages().is_none() {
        let detail = "the request must ask for extended key usage, as the CA copies it";
        return Err(Refused::new(Reason::EnhancedKeyUsageMissing, detail));
    }
    Ok(())
}

/// Uses the challenge up. What the other CA then does is not known here, and the ledger says so.
async fn spend(
    ledger: &Ledger,
    approval: Approval,
    transaction: &TransactionId,
    now: Timestamp,
) -> Result<String, Stop> {
    let device = approval.claims().device.to_string();
    let signer = approval.contents().spki.hash();
    let authority = AuthorityName::main();
    let asked = Asked { authority: &authority, serial: None, signer, transaction };
    match ledger.admit(approval, &asked, now).await {
        Ok(admission) => {
            // The permit is the exit code or the answer: the other server's CA issues.
            let (_permit, unsettled) = admission.redeem();
            ledger.hand_over(unsettled, "left to another SCEP server's CA", now).await?;
            Ok(device)
        }
        Err(AdmitError::Refused(reason)) => {
            let detail = match reason {
                Reason::ChallengeAlreadyUsed => "the challenge does not pass again",
                Reason::KeyAlreadyCertified => "the key was certified for another device",
                _ => "the ledger does not take it",
            };
            Err(Refused::new(reason, detail).into())
        }
        Err(AdmitError::Ledger(error)) => Err(error.into()),
    }
}

pub(crate) async fn open(path: &Path) -> Result<Ledger, LedgerError> {
    let deadline = tokio::time::Instant::now() + LEDGER_WAIT;
    loop {
        match Ledger::open_sqlite(path, LedgerSettings::default()) {
            Err(LedgerError::InUse { .. }) if tokio::time::Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            other => return other,
        }
    }
}

fn lines(reports: &[FieldReport]) -> String {
    let refused = reports.iter().filter(|report| report.reason.is_some());
    refused.map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
