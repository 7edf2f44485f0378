//! `challenge`: what lets a device enrol.

use crate::admin::client::{Tenant, part};
use crate::admin::{ById, table};
use crate::cli::Format;
use crate::error::IssuerError;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a challenge and print it, once.
    New(NewOptions),
    /// Show the challenges that were made, without their texts.
    List,
    /// Show one challenge that was made, without its text.
    Show(ById),
}

#[derive(Debug, Args)]
pub(crate) struct NewOptions {
    /// The device.
    #[arg(long, value_name = "ID")]
    device: String,
    /// The profile, which the device or the user has.
    #[arg(long, value_name = "ID")]
    profile: String,
    /// The user, for profiles of users.
    #[arg(long, value_name = "ID")]
    user: Option<String>,
    /// The gateway group; may be left out when there is one only.
    #[arg(long, value_name = "ID")]
    group: Option<String>,
    /// What to print: the challenge alone, or what device management sends to a device.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

pub(crate) async fn run(tenant: Tenant<'_>, command: Command) -> Result<(), IssuerError> {
    let form = tenant.form();
    match command {
        Command::New(options) => {
            let body = json!({
                "device": options.device,
                "profile": options.profile,
                "user": options.user,
                "group": options.group,
            });
            let made = tenant.post("/challenges", &body).await?;
            if form == table::Form::Json {
                table::object(form, &made);
                return Ok(());
            }
            println!("{}", rendered(&made, options.format)?);
        }
        Command::List => {
            let items = tenant.list("/challenges", "").await?;
            let columns = ["id", "device", "user", "profile", "group", "purpose", "expires_at"];
            table::list(form, &items, &columns.map(|name| (name, name)));
        }
        Command::Show(ById { id }) => {
            table::object(form, &tenant.get(&format!("/challenges/{}", part(&id))).await?);
        }
    }
    Ok(())
}

/// The challenge in the form that was asked for.
fn rendered(made: &Value, format: Format) -> Result<String, IssuerError> {
    let payloads = made.get("payloads").unwrap_or(&Value::Null);
    let name = match format {
        Format::Text => {
            let text = made.get("challenge").and_then(Value::as_str).unwrap_or_default();
            return Ok(text.to_owned());
        }
        Format::Json => {
            let json = payloads.get("json").unwrap_or(&Value::Null);
            return Ok(json.to_string());
        }
        Format::Mobileconfig => "mobileconfig",
        Format::Syncml => "syncml",
    };
    let text = payloads.get(name).and_then(Value::as_str);
    text.map(|text| text.trim_end().to_owned()).ok_or_else(|| {
        let why = payloads.pointer(&format!("/absent/{name}")).and_then(Value::as_str);
        IssuerError::config("--format", why.unwrap_or("the service does not have it"))
    })
}
