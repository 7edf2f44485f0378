//! `alarm`: what an operator must know.

use crate::admin::client::{Tenant, part};
use crate::admin::{ById, table};
use crate::error::IssuerError;
use clap::Subcommand;
use serde_json::Value;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show the alarms that nobody has acknowledged.
    List {
        /// Show the others too.
        #[arg(long)]
        all: bool,
    },
    /// Say that an alarm has been seen. It comes back when its cause does.
    Acknowledge(ById),
}

pub(crate) async fn run(tenant: Tenant<'_>, command: Command) -> Result<(), IssuerError> {
    let form = tenant.form();
    match command {
        Command::List { all } => {
            let mut items = tenant.list("/alarms", "").await?;
            items.retain(|item| all || item.get("acknowledged_at").is_none_or(Value::is_null));
            let columns = ["id", "kind", "subject", "times", "last_at", "detail"];
            table::list(form, &items, &columns.map(|name| (name, name)));
        }
        Command::Acknowledge(ById { id }) => {
            let changed = tenant.act(&format!("/alarms/{}/acknowledge", part(&id))).await?;
            table::done(form, &format!("alarm {id} is acknowledged"), &changed);
        }
    }
    Ok(())
}
