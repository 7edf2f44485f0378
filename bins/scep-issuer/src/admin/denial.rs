//! `denial`: what every gateway refuses.

use crate::admin::client::{Tenant, part};
use crate::admin::table;
use crate::error::IssuerError;
use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show what is disabled: devices, users, profiles.
    List,
    /// Disable a user or a profile. A device: `device disable`.
    Add(What),
    /// Enable a user or a profile again.
    Remove(What),
}

/// What can be disabled by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    User,
    Profile,
}

#[derive(Debug, Args)]
pub(crate) struct What {
    /// What it is.
    #[arg(value_enum, value_name = "KIND")]
    kind: Kind,
    /// Its id.
    #[arg(value_name = "ID")]
    id: String,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Profile => "profile",
        }
    }
}

pub(crate) async fn run(tenant: Tenant<'_>, command: Command) -> Result<(), IssuerError> {
    let form = tenant.form();
    match command {
        Command::List => {
            let items = tenant.list("/denials", "").await?;
            table::list(form, &items, &["kind", "id"].map(|name| (name, name)));
        }
        Command::Add(What { kind, id }) => {
            let kind = kind.name();
            let made = tenant.post("/denials", &json!({ "kind": kind, "id": id })).await?;
            table::done(form, &format!("{kind} {id} is disabled"), &made);
        }
        Command::Remove(What { kind, id }) => {
            let kind = kind.name();
            tenant.delete(&format!("/denials/{kind}/{}", part(&id))).await?;
            table::done(form, &format!("{kind} {id} is enabled"), &json!({ "removed": id }));
        }
    }
    Ok(())
}
