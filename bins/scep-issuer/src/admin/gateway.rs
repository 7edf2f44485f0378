//! `gateway`: who enrols, who is a member, who has left.

use crate::admin::client::{ApiError, Tenant, part};
use crate::admin::table::{self, Form};
use crate::admin::{ById, Nothing};
use crate::clock;
use crate::error::IssuerError;
use clap::{Args, Subcommand, ValueEnum};
use scep_types::{Clock as _, SpkiHash, parse_duration};
use serde_json::{Value, json};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// One-time tokens with which gateways enrol.
    Token {
        #[command(subcommand)]
        command: TokenCommand,
    },
    /// Show all gateways.
    List(Nothing),
    /// Show one gateway, and what it has last said of itself.
    Show(ById),
    /// Let a gateway that waits into its group: challenges are made for it from then on. Compare its id first with
    /// what `scep-gateway enroll` has printed.
    Confirm(ById),
    /// Take a gateway out of its group. Those that stay are ordered to make a new key for challenges.
    Remove(ById),
    /// Let a gateway go on of whose keys two holders were seen: the other one was a copy that is gone. When in doubt,
    /// remove it and enrol it anew.
    ResolveClone(ById),
    /// Order a gateway to replace a key.
    Renew(RenewOptions),
    /// Order a gateway to log more or less.
    LogLevel(LogLevelOptions),
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token for one gateway and print the command that it is to run, once.
    New(NewOptions),
    /// Show the tokens and what became of them.
    List(Nothing),
    /// Make a token useless that was not used.
    Revoke(ById),
}

#[derive(Debug, Args)]
pub(crate) struct NewOptions {
    /// The gateway group to join; made when it is new.
    #[arg(long, value_name = "ID")]
    group: String,
    /// For how long it may be used: at most seven days.
    #[arg(long, default_value = "1d", value_name = "TIME")]
    lifetime: String,
    /// Confirm the gateway already now: whoever gets hold of the token gets into the group.
    #[arg(long)]
    confirmed: bool,
    /// The configuration of the gateway, for the command that is printed.
    #[arg(long, default_value = "gw/gateway.toml", value_name = "FILE")]
    gateway_config: String,
}

#[derive(Debug, Args)]
pub(crate) struct RenewOptions {
    #[command(flatten)]
    id: ById,
    /// Which key.
    #[arg(long, value_enum)]
    what: OwnKey,
    /// Within which time.
    #[arg(long, default_value = "1d", value_name = "TIME")]
    within: String,
}

/// A gateway's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum OwnKey {
    /// By which the issuer knows it.
    Authentication,
    /// That opens challenges; of the whole group.
    Decryption,
}

#[derive(Debug, Args)]
pub(crate) struct LogLevelOptions {
    #[command(flatten)]
    id: ById,
    /// How much.
    #[arg(value_enum)]
    level: Level,
}

/// How much is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Level {
    Error,
    Warn,
    Info,
    Debug,
    /// As the gateway's configuration says.
    Configured,
}

fn path(id: &str) -> String {
    format!("/connectors/{}", part(id))
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

pub(crate) async fn run(tenant: Tenant<'_>, command: Command) -> Result<(), IssuerError> {
    let form = tenant.form();
    match command {
        Command::Token { command } => return token(tenant, command).await,
        Command::List(Nothing {}) => {
            let items = tenant.list("/connectors", "").await?;
            let columns = [
                ("id", "id"),
                ("name", "name"),
                ("group", "group"),
                ("membership", "membership"),
                ("standing", "standing"),
                ("last seen", "last_seen_at"),
                ("days left", "certificate.days_left"),
            ];
            table::list(form, &items, &columns);
        }
        Command::Show(ById { id }) => {
            let mut gateway = tenant.get(&path(&id)).await?;
            let mut contact = tenant.get(&format!("{}/contact", path(&id))).await?;
            if let (Some(fields), Some(said)) = (gateway.as_object_mut(), contact.as_object_mut()) {
                said.remove("id");
                fields.insert("contact".to_owned(), contact);
            }
            table::object(form, &gateway);
        }
        Command::Confirm(ById { id }) => {
            let changed = tenant.act(&format!("{}/confirm", path(&id))).await?;
            let sentence = format!("gateway {id} is in group {}", text(&changed, "group"));
            table::done(form, &sentence, &changed);
        }
        Command::Remove(ById { id }) => {
            tenant.delete(&path(&id)).await?;
            table::done(form, &format!("gateway {id} is removed"), &json!({ "removed": id }));
        }
        Command::ResolveClone(ById { id }) => {
            let changed = tenant.act(&format!("{}/resolve-clone", path(&id))).await?;
            let sentence = format!("gateway {id} is {}", text(&changed, "standing"));
            table::done(form, &sentence, &changed);
        }
        Command::Renew(RenewOptions { id: ById { id }, what, within }) => {
            let within =
                parse_duration(&within).map_err(|error| IssuerError::config("--within", error))?;
            let subject = match what {
                OwnKey::Authentication => "authentication",
                OwnKey::Decryption => "decryption",
            };
            let by = clock::System.now().plus(within).to_string();
            let body = json!({ "subject": subject, "by": by });
            let made = tenant.post(&format!("{}/renewals", path(&id)), &body).await?;
            let sentence = format!("gateway {id} is to replace its {subject} key by {by}");
            table::done(form, &sentence, &made);
        }
        Command::LogLevel(LogLevelOptions { id: ById { id }, level }) => {
            let level = match level {
                Level::Error => Some("error"),
                Level::Warn => Some("warn"),
                Level::Info => Some("info"),
                Level::Debug => Some("debug"),
                Level::Configured => None,
            };
            let body = json!({ "log_level": level });
            let changed = tenant.put(&format!("{}/log-level", path(&id)), &body).await?;
            let level = level.unwrap_or("what its configuration says");
            table::done(form, &format!("gateway {id} is to log {level}"), &changed);
        }
    }
    Ok(())
}

async fn token(tenant: Tenant<'_>, command: TokenCommand) -> Result<(), IssuerError> {
    let form = tenant.form();
    match command {
        TokenCommand::New(options) => {
            let confirmation = if options.confirmed { "token" } else { "operator" };
            let body = json!({
                "group": options.group,
                "lifetime": options.lifetime,
                "confirmation": confirmation,
            });
            // First what can fail without a trace: a token that nobody can use is not made.
            let pin = pin(&tenant).await?;
            group(&tenant, &options.group).await?;
            let mut made = tenant.post("/connector-tokens", &body).await?;
            let command = format!(
                "scep-gateway enroll --config {} --issuer {} --issuer-fingerprint {pin} --token {}",
                options.gateway_config,
                tenant.api().url(),
                text(&made, "token")
            );
            if form == Form::Json {
                if let Some(fields) = made.as_object_mut() {
                    fields.insert("issuer_fingerprint".to_owned(), pin.to_string().into());
                    fields.insert("command".to_owned(), command.into());
                }
                table::object(form, &made);
                return Ok(());
            }
            eprintln!(
                "a token for one gateway of group {} until {}; it is not shown again. Run on the gateway:",
                options.group,
                text(&made, "expires_at")
            );
            println!("{command}");
        }
        TokenCommand::List(Nothing {}) => {
            let items = tenant.list("/connector-tokens", "").await?;
            let columns = ["id", "group", "confirmation", "state", "expires_at", "connector"];
            table::list(form, &items, &columns.map(|name| (name, name)));
        }
        TokenCommand::Revoke(ById { id }) => {
            tenant.delete(&format!("/connector-tokens/{}", part(&id))).await?;
            let sentence = format!("token {id} is good for nothing any more");
            table::done(form, &sentence, &json!({ "removed": id }));
        }
    }
    Ok(())
}

/// Makes the group unless it is there.
async fn group(tenant: &Tenant<'_>, id: &str) -> Result<(), IssuerError> {
    match tenant.get(&format!("/gateway-groups/{}", part(id))).await {
        Err(IssuerError::Api(ApiError::Problem { status: 404, .. })) => {
            tenant.post("/gateway-groups", &json!({ "id": id })).await.map(drop)
        }
        there => there.map(drop),
    }
}

/// What the gateway is to pin: the key that the service has shown to us, whom it has convinced.
async fn pin(tenant: &Tenant<'_>) -> Result<SpkiHash, IssuerError> {
    tenant.api().presented_pin().await?.ok_or_else(|| {
        IssuerError::config(
            "--url",
            "no TLS: gateways pin the service's TLS key, and there is none",
        )
    })
}
