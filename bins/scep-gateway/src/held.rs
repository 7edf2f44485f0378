//! `held`: the requests that wait for a person, seen and decided on; at the running gateway, or in the ledger of one that is
//! stopped or shares it.

use crate::cli::{DecideOptions, HeldCommand};
use crate::config::Config;
use crate::error::GatewayError;
use crate::loopback::{self, Answer};
use scep_keys::AwsLc;
use scep_ledger::{HeldVerdict, Ledger, LedgerError};
use scep_server::{HeldDocument, Person, SystemClock};
use scep_types::{Clock, CryptoProvider};
use serde::Deserialize;
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

/// Of the ledger and of the running gateway.
const PAGE: u32 = 500;

pub(crate) fn run(command: &HeldCommand) -> Result<ExitCode, GatewayError> {
    match command {
        HeldCommand::List { config, json } => {
            let held = Desk::of(config)?.list()?;
            print(*json, &held, |out| table(&held, out))?;
        }
        HeldCommand::Show { row, config, json } => {
            let held = Desk::of(config)?.show(*row)?;
            print(*json, &held, |out| one(&held, out))?;
        }
        HeldCommand::Approve(options) => decide(options, HeldVerdict::Approve)?,
        HeldCommand::Deny(options) => decide(options, HeldVerdict::Deny)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn decide(options: &DecideOptions, verdict: HeldVerdict) -> Result<(), GatewayError> {
    let person = Person::new(&options.person).map_err(|e| GatewayError::config("--person", e))?;
    Desk::of(&options.config)?.decide(options.row, verdict, &person)?;
    let row = options.row;
    match verdict {
        HeldVerdict::Approve => {
            println!(
                "approved: {row} is issued when its device asks again; this is in the ledger's audit"
            );
        }
        HeldVerdict::Deny => {
            println!(
                "denied: {row} is refused when its device asks again; this is in the ledger's audit"
            );
        }
    }
    Ok(())
}

/// Where it is done.
struct Desk {
    config: Config,
}

/// `GET /held`.
#[derive(Debug, Deserialize)]
struct Page {
    held: Vec<HeldDocument>,
    next: Option<u64>,
}

/// What the gateway says when it does not do it.
#[derive(Debug, Deserialize)]
struct Wrong {
    error: String,
}

impl Desk {
    fn of(config: &Path) -> Result<Self, GatewayError> {
        let provider: Arc<dyn CryptoProvider> = Arc::new(AwsLc);
        Ok(Self { config: Config::load(config, SystemClock.now(), &provider)? })
    }

    fn list(&self) -> Result<Vec<HeldDocument>, GatewayError> {
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let page = self.page(PAGE, after)?;
            all.extend(page.held);
            after = page.next;
            if after.is_none() {
                return Ok(all);
            }
        }
    }

    fn show(&self, row: u64) -> Result<HeldDocument, GatewayError> {
        let none = || GatewayError::NoSuchRequest { row };
        let before = row.checked_sub(1).ok_or_else(none)?;
        let first = self.page(1, Some(before))?.held.into_iter().next();
        first.filter(|held| held.row == row).ok_or_else(none)
    }

    fn page(&self, limit: u32, after: Option<u64>) -> Result<Page, GatewayError> {
        let query = after.map_or(String::new(), |after| format!("&after={after}"));
        let path = format!("/held?limit={limit}{query}");
        if let Some(answer) = self.gateway(&path, None)? {
            return self.read(&answer);
        }
        let held = self.in_ledger(async |ledger| ledger.held(limit, after).await)?;
        let full = u64::try_from(held.len()).is_ok_and(|len| len >= u64::from(limit));
        let next = held.last().filter(|_| full).map(|last| last.row);
        Ok(Page { held: held.iter().map(HeldDocument::from).collect(), next })
    }

    fn decide(&self, row: u64, verdict: HeldVerdict, person: &Person) -> Result<(), GatewayError> {
        let word = match verdict {
            HeldVerdict::Approve => "approve",
            HeldVerdict::Deny => "deny",
        };
        let body = serde_json::json!({ "person": person.as_str() }).to_string();
        if let Some(answer) = self.gateway(&format!("/held/{row}/{word}"), Some(&body))? {
            return match answer.status {
                200 => Ok(()),
                409 => Err(LedgerError::NotHeld.into()),
                _ => Err(self.wrong(&answer)),
            };
        }
        self.in_ledger(async |ledger| {
            let now = ledger.effective_now(SystemClock.now()).await?.now;
            ledger.decide_held(row, verdict, person.as_str(), now).await
        })
    }

    /// Asks the running gateway, which has a ledger in SQLite to itself. `None`: the ledger can be had here.
    fn gateway(&self, path: &str, body: Option<&str>) -> Result<Option<Answer>, GatewayError> {
        let address = self.config.admin_listen;
        if self.config.ledger.is_shared() {
            return Ok(None);
        }
        let Some(token) = &self.config.admin_token else {
            return match loopback::get(address, "/healthz") {
                Ok(_) => Err(GatewayError::NoAdminToken),
                Err(_) => Ok(None),
            };
        };
        let answer = match body {
            None => loopback::get_with(address, token, path),
            Some(body) => loopback::post_json(address, token, path, body.as_bytes()),
        };
        match answer {
            Ok(Answer { status: 404, .. }) => Err(GatewayError::Operator {
                address,
                why: "it was started without `admin_token`, or is another program".into(),
            }),
            Ok(answer) => Ok(Some(answer)),
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(None),
            Err(error) => Err(GatewayError::Operator { address, why: error.to_string() }),
        }
    }

    fn in_ledger<T>(
        &self,
        work: impl AsyncFnOnce(Ledger) -> Result<T, LedgerError>,
    ) -> Result<T, GatewayError> {
        crate::serve::runtime()?.block_on(async {
            let ledger = crate::serve::open_ledger(&self.config).await?;
            Ok(work(ledger).await?)
        })
    }

    fn read<T: for<'a> Deserialize<'a>>(&self, answer: &Answer) -> Result<T, GatewayError> {
        if answer.status != 200 {
            return Err(self.wrong(answer));
        }
        serde_json::from_slice(&answer.body).map_err(|error| GatewayError::Operator {
            address: self.config.admin_listen,
            why: format!("answers with something else: {error}"),
        })
    }

    fn wrong(&self, answer: &Answer) -> GatewayError {
        let said = serde_json::from_slice(&answer.body).map(|wrong: Wrong| wrong.error);
        let why = match answer.status {
            401 => "does not take the token of `admin_token`; it takes the one it was started with"
                .into(),
            status => said.unwrap_or_else(|_| format!("answers {status}")),
        };
        GatewayError::Operator { address: self.config.admin_listen, why }
    }
}

fn print(
    json: bool,
    document: &impl serde::Serialize,
    text: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
) -> Result<(), GatewayError> {
    let mut out = std::io::stdout().lock();
    let written = if json {
        serde_json::to_string_pretty(document)
            .map_err(std::io::Error::from)
            .and_then(|document| writeln!(out, "{document}"))
    } else {
        text(&mut out)
    };
    written.map_err(GatewayError::file("standard output"))
}

fn table(held: &[HeldDocument], out: &mut dyn Write) -> std::io::Result<()> {
    if held.is_empty() {
        return writeln!(out, "nothing waits");
    }
    writeln!(
        out,
        "{:>6}  {:9} {:20}  {:20} {:16} subject",
        "row", "state", "since", "device", "profile"
    )?;
    for one in held {
        writeln!(
            out,
            "{:>6}  {:9} {:20}  {:20} {:16} {}",
            one.row,
            one.state,
            one.asked_at,
            shown(&one.device),
            shown(&one.profile),
            shown(&one.subject)
        )?;
    }
    Ok(())
}

fn one(held: &HeldDocument, out: &mut dyn Write) -> std::io::Result<()> {
    let state = match (&held.person, &held.decided_at) {
        (Some(person), Some(at)) => format!("{}, by {person} at {at}", held.state),
        _ => held.state.clone(),
    };
    for (name, value) in [
        ("row", Some(held.row.to_string())),
        ("state", Some(state)),
        ("asked at", Some(held.asked_at.clone())),
        ("over at", Some(held.until.clone())),
        ("tenant", Some(held.tenant.clone())),
        ("device", Some(held.device.clone())),
        ("user", held.user.clone()),
        ("profile", Some(held.profile.clone())),
        ("CA", Some(held.authority.clone())),
        ("subject", Some(held.subject.clone())),
    ] {
        if let Some(value) = value {
            writeln!(out, "{name:14} {}", shown(&value))?;
        }
    }
    for name in &held.subject_alt_names {
        writeln!(out, "{:14} {}", "also known as", shown(name))?;
    }
    writeln!(out, "{:14} {}", "key (SHA-256)", held.spki_sha256)?;
    writeln!(out, "{:14} {}", "challenge", held.challenge)?;
    writeln!(out, "{:14} {}", "transaction", shown(&held.transaction))
}

/// Names come from elsewhere: none of them moves the cursor.
fn shown(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_name_reaches_the_terminal_as_a_command() {
        assert_eq!(shown("CN=a\u{1b}[2Jb\r\n"), "CN=a\u{fffd}[2Jb\u{fffd}\u{fffd}");
        assert_eq!(shown("C=CH, CN=Ümit"), "C=CH, CN=Ümit");
    }
}
