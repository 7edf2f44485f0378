//! `revoke` and `revocation`.

use crate::admin::client::{Tenant, part};
use crate::admin::{ById, table};
use crate::error::IssuerError;
use clap::{ArgGroup, Args, Subcommand};
use serde_json::{Map, Value, json};

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("which").required(true).multiple(true)
    .args(["thumbprint", "issuer_sha256", "device", "profile"])))]
pub(crate) struct RevokeOptions {
    /// One certificate: the SHA-256 over it.
    #[arg(long, value_name = "SHA-256", conflicts_with_all = ["issuer_sha256", "device", "profile"])]
    thumbprint: Option<String>,
    /// One certificate, by its issuer: the SHA-256 over the issuer's DER name; with --serial.
    #[arg(long, value_name = "SHA-256", requires = "serial", conflicts_with_all = ["device", "profile"])]
    issuer_sha256: Option<String>,
    /// Its serial number, hexadecimal.
    #[arg(long, value_name = "HEX", requires = "issuer_sha256")]
    serial: Option<String>,
    /// Every live certificate of a device; with --profile those of both.
    #[arg(long, value_name = "ID")]
    device: Option<String>,
    /// Every live certificate of a profile.
    #[arg(long, value_name = "ID")]
    profile: Option<String>,
    /// Why, as in RFC 5280: unspecified, keyCompromise, cACompromise, affiliationChanged, superseded,
    /// cessationOfOperation, privilegeWithdrawn, aACompromise.
    #[arg(long, default_value = "unspecified", value_name = "REASON")]
    reason: String,
}

pub(crate) async fn revoke(tenant: Tenant<'_>, options: RevokeOptions) -> Result<(), IssuerError> {
    let hex = |text: Option<String>| {
        text.map(|text| text.chars().filter(|c| *c != ':').collect::<String>())
    };
    let mut body = Map::new();
    for (name, value) in [
        ("thumbprint", hex(options.thumbprint).map(|text| text.to_ascii_lowercase())),
        ("issuer_sha256", hex(options.issuer_sha256).map(|text| text.to_ascii_lowercase())),
        ("serial", hex(options.serial).map(|text| text.to_ascii_uppercase())),
        ("device", options.device),
        ("profile", options.profile),
        ("reason", Some(options.reason)),
    ] {
        if let Some(value) = value {
            body.insert(name.to_owned(), value.into());
        }
    }
    let made = tenant.post("/revocations", &Value::Object(body)).await?;
    let number = |name: &str| made.get(name).and_then(Value::as_u64).unwrap_or(0);
    let mut sentence = format!("{} revocations ordered", number("ordered"));
    if number("already") > 0 {
        sentence.push_str(&format!(", {} were ordered before", number("already")));
    }
    if made.get("held").and_then(Value::as_bool) == Some(true) {
        sentence.push_str(
            "; they are more than usual, and wait: `revocation confirm` or `revocation decline`",
        );
    }
    table::done(tenant.form(), &sentence, &made);
    Ok(())
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show the orders and how far each is.
    List {
        /// Those in this state: held, queued, sent, failed, revoked, on-crl, declined or not-found.
        #[arg(long, value_name = "STATE")]
        state: Option<String>,
        /// Those for certificates of this device.
        #[arg(long, value_name = "ID")]
        device: Option<String>,
    },
    /// Show one order.
    Show(ById),
    /// Let go what the brake holds: one order, or all.
    Confirm(Decision),
    /// Drop what the brake holds: one order, or all. The certificates stay as they are.
    Decline(Decision),
}

#[derive(Debug, Args)]
pub(crate) struct Decision {
    /// The order; all that are held when left out.
    #[arg(value_name = "ID")]
    id: Option<String>,
    /// Who decides and why; kept with the orders.
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
}

async fn decide(tenant: &Tenant<'_>, verb: &str, decision: Decision) -> Result<(), IssuerError> {
    let body = json!({ "note": decision.note });
    let path = match &decision.id {
        Some(id) => format!("/revocations/{}/{verb}", part(id)),
        None => format!("/revocations/{verb}"),
    };
    let answer = tenant.post(&path, &body).await?;
    let sentence = match (&decision.id, answer.get("decided").and_then(Value::as_u64)) {
        (None, Some(count)) => format!("{count} orders: {verb}"),
        (id, _) => format!(
            "order {} is {}",
            id.as_deref().unwrap_or_default(),
            answer.get("state").and_then(Value::as_str).unwrap_or_default()
        ),
    };
    table::done(tenant.form(), &sentence, &answer);
    Ok(())
}

pub(crate) async fn run(tenant: Tenant<'_>, command: Command) -> Result<(), IssuerError> {
    let form = tenant.form();
    match command {
        Command::List { state, device } => {
            let query: String = [("state", state), ("device", device)]
                .into_iter()
                .filter_map(|(name, value)| Some(format!("&{name}={}", part(&value?))))
                .collect();
            let items = tenant.list("/revocations", &query).await?;
            let columns = ["id", "state", "device", "profile", "reason", "cause", "failure"];
            table::list(form, &items, &columns.map(|name| (name, name)));
        }
        Command::Show(ById { id }) => {
            table::object(form, &tenant.get(&format!("/revocations/{}", part(&id))).await?);
        }
        Command::Confirm(decision) => decide(&tenant, "confirm", decision).await?,
        Command::Decline(decision) => decide(&tenant, "decline", decision).await?,
    }
    Ok(())
}
