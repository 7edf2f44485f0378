//! `revoke`, `confirm-revocations` and `crl`: what an operator does about revocations. With SQLite while the gateway is
//! stopped; in a shared ledger at any time.

use crate::cli::{CrlOptions, OperatorOptions, RevokeOptions};
use crate::config::{AuthorityConfig, Config};
use crate::error::GatewayError;
use scep_keys::AwsLc;
use scep_ledger::{
    Ledger, OrderedBy, QueueOutcome, RevocationOrder, RevocationReason, RevocationState,
};
use scep_server::SystemClock;
use scep_types::{Clock, CryptoProvider, NameHash, SerialNumber};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

fn load(path: &Path) -> Result<(Config, Arc<dyn CryptoProvider>), GatewayError> {
    let provider: Arc<dyn CryptoProvider> = Arc::new(AwsLc);
    Ok((Config::load(path, SystemClock.now(), &provider)?, provider))
}

/// The name of a CA in its certificates and CRL.
fn issuer(authority: &AuthorityConfig) -> Result<NameHash, GatewayError> {
    let ca = authority.ca.chain().first();
    let ca = ca.ok_or_else(|| GatewayError::config("ca.certificate", "there is none"))?;
    Ok(NameHash::of(ca.subject_der()))
}

/// The CA that has issued a certificate: the one that is named, or the only one that the ledger knows it of.
async fn issuer_of(
    config: &Config,
    named: Option<&str>,
    serial: &SerialNumber,
    ledger: &Ledger,
) -> Result<NameHash, GatewayError> {
    if let Some(name) = named {
        return issuer(config.authority(name)?);
    }
    let mut found = Vec::new();
    for authority in config.authorities() {
        let issuer = issuer(authority)?;
        if ledger.certificate_status(issuer, serial).await?.is_some() {
            found.push((authority.name.as_str(), issuer));
        }
    }
    match found.as_slice() {
        [] => Err(GatewayError::NotIssued { serial: serial.to_string() }),
        [(_, issuer)] => Ok(*issuer),
        several => {
            let names: Vec<&str> = several.iter().map(|(name, _)| *name).collect();
            let why = format!("{serial} is of several CAs; say which: {}", names.join(", "));
            Err(GatewayError::config("--ca", why))
        }
    }
}

/// When what was ordered happens.
const fn when(config: &Config) -> &'static str {
    if config.ledger.is_shared() {
        "at once, at a gateway of the group"
    } else {
        "when the gateway starts"
    }
}

/// Hexadecimal with or without colons, as OpenSSL and browsers show it.
fn serial(text: &str) -> Result<SerialNumber, GatewayError> {
    let wrong = || GatewayError::config("--serial", "must be a serial number in hexadecimal");
    let digits: String = text.chars().filter(|c| *c != ':').collect();
    let digits = digits.trim_start_matches('0');
    let digits =
        if digits.len().is_multiple_of(2) { digits.to_owned() } else { format!("0{digits}") };
    if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(wrong());
    }
    let mut octets: Vec<u8> = (0..digits.len())
        .step_by(2)
        .map(|at| {
            digits.get(at..at.saturating_add(2)).and_then(|two| u8::from_str_radix(two, 16).ok())
        })
        .collect::<Option<_>>()
        .ok_or_else(wrong)?;
    if octets.first().is_some_and(|first| *first >= 0x80) {
        octets.insert(0, 0);
    }
    SerialNumber::from_content(&octets).map_err(|_| wrong())
}

fn reason(text: &str) -> Result<RevocationReason, GatewayError> {
    RevocationReason::ALL.iter().copied().find(|reason| reason.name() == text).ok_or_else(|| {
        let names: Vec<&str> = RevocationReason::ALL.iter().map(|reason| reason.name()).collect();
        GatewayError::config("--reason", format!("must be one of {}", names.join(", ")))
    })
}

pub(crate) fn run(options: &RevokeOptions) -> Result<ExitCode, GatewayError> {
    let (serial, reason) = (serial(&options.serial)?, reason(&options.reason)?);
    let (config, _) = load(&options.config)?;
    crate::serve::runtime()?.block_on(async {
        let ledger = config.ledger.open().await?;
        let now = ledger.effective_now(SystemClock.now()).await?.now;
        let issuer = issuer_of(&config, options.ca.as_deref(), &serial, &ledger).await?;
        let by = OrderedBy::Operator(options.operator.clone());
        let order = RevocationOrder { issuer, serial: serial.clone(), reason, by };
        match ledger.queue_revocation(order, now).await? {
            QueueOutcome::Queued | QueueOutcome::Already(RevocationState::Queued) => {
                let when = when(&config);
                println!("ordered: the revocation of {serial} goes on {when}; the order is in the ledger's audit");
            }
            QueueOutcome::Already(RevocationState::OnCrl) => {
                println!("{serial} is revoked, and the CRL shows it");
            }
            QueueOutcome::Already(_) => {
                println!("{serial} is being revoked; the CRL does not show it yet");
            }
            QueueOutcome::NotFound => {
                return Err(GatewayError::NotIssued { serial: serial.to_string() });
            }
        }
        Ok(ExitCode::SUCCESS)
    })
}

pub(crate) fn confirm(options: &OperatorOptions) -> Result<ExitCode, GatewayError> {
    let (config, _) = load(&options.config)?;
    crate::serve::runtime()?.block_on(async {
        let ledger = config.ledger.open().await?;
        let now = ledger.effective_now(SystemClock.now()).await?.now;
        let count = ledger.confirm_revocations(&options.operator, now).await?;
        let when = when(&config);
        println!("confirmed: {count} revocations go on {when}; this is in the ledger's audit");
        Ok(ExitCode::SUCCESS)
    })
}

pub(crate) fn crl(options: &CrlOptions) -> Result<ExitCode, GatewayError> {
    let (config, provider) = load(&options.config)?;
    let issuer = issuer(config.authority(&options.ca)?)?;
    crate::serve::runtime()?.block_on(async {
        let gateway = crate::serve::assemble(config, provider, None).await?;
        let done = gateway.revoke_pending().await?;
        let crl = gateway.ledger().last_crl(issuer).await?;
        let crl = crl.ok_or_else(|| GatewayError::config("ca", "this CA makes no CRL"))?;
        std::fs::write(&options.out, crl.as_der()).map_err(GatewayError::file(&options.out))?;
        println!("{}: {} entries", options.out.display(), crl.serials().count());
        if let Some(next) = crl.next_update() {
            println!("from {} to {next}", crl.this_update());
        }
        if done.held > 0 {
            println!(
                "{} revocations are held by the brake; `scep-gateway confirm-revocations` lets them go",
                done.held
            );
        }
        Ok(ExitCode::SUCCESS)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serial_numbers_are_read_as_tools_show_them() {
        for (text, octets) in [
            ("4F3a", &[0x4f, 0x3a][..]),
            ("4f:3a", &[0x4f, 0x3a]),
            ("00:90", &[0, 0x90]),
            ("90", &[0, 0x90]),
            ("f", &[0x0f]),
        ] {
            assert_eq!(serial(text).unwrap().as_content(), octets, "{text}");
        }
        for bad in ["", "0", "xy", "-1", "0x12", &"7f".repeat(21)] {
            assert!(serial(bad).is_err(), "{bad}");
        }
        assert_eq!(reason("keyCompromise").unwrap(), RevocationReason::KeyCompromise);
        assert!(reason("certificateHold").is_err());
    }
}
