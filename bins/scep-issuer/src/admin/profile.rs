//! `profile`: what certificates look like.

use crate::admin::ById;
use crate::admin::client::{Tenant, part};
use crate::admin::table;
use crate::error::IssuerError;
use clap::Subcommand;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Take up a profile.
    Add {
        /// The profile's file; profile.example.toml explains every key.
        #[arg(long, value_name = "FILE")]
        file: PathBuf,
    },
    /// Give a profile another text. Its id stays.
    Replace {
        /// The profile's file.
        #[arg(long, value_name = "FILE")]
        file: PathBuf,
    },
    /// Show all profiles.
    List,
    /// Show one profile and what is questionable about it.
    Show(ById),
    /// Remove a profile that is not assigned.
    Remove(ById),
    /// Read a profile's file and print what is questionable about it, without the service.
    Lint {
        /// The profile's file.
        #[arg(long, value_name = "FILE")]
        file: PathBuf,
    },
}

fn text(path: &Path) -> Result<String, IssuerError> {
    std::fs::read_to_string(path).map_err(IssuerError::file(path))
}

fn warn(profile: &Value) {
    for warning in profile.get("warnings").and_then(Value::as_array).into_iter().flatten() {
        eprintln!("warning: {}", warning.as_str().unwrap_or_default());
    }
}

fn id(profile: &Value) -> &str {
    profile.get("id").and_then(Value::as_str).unwrap_or_default()
}

pub(crate) async fn run(tenant: Tenant<'_>, command: Command) -> Result<(), IssuerError> {
    let form = tenant.form();
    match command {
        Command::Add { file } => {
            let made = tenant.post("/profiles", &json!({ "toml": text(&file)? })).await?;
            warn(&made);
            table::done(form, &format!("profile {} is there", id(&made)), &made);
        }
        Command::Replace { file } => {
            let toml = text(&file)?;
            // The path names the profile, and only the file says its id.
            let profile = crate::mint::profile(&file)?;
            let path = format!("/profiles/{}", part(profile.id().as_str()));
            let changed = tenant.put(&path, &json!({ "toml": toml })).await?;
            warn(&changed);
            table::done(form, &format!("profile {} is changed", id(&changed)), &changed);
        }
        Command::List => {
            let items = tenant.list("/profiles", "").await?;
            let columns = ["id", "for", "validity", "variables", "warnings"];
            table::list(form, &items, &columns.map(|name| (name, name)));
        }
        Command::Show(ById { id }) => {
            table::object(form, &tenant.get(&format!("/profiles/{}", part(&id))).await?);
        }
        Command::Remove(ById { id }) => {
            tenant.delete(&format!("/profiles/{}", part(&id))).await?;
            table::done(form, &format!("profile {id} is removed"), &json!({ "removed": id }));
        }
        Command::Lint { file } => crate::mint::lint(&file)?,
    }
    Ok(())
}
