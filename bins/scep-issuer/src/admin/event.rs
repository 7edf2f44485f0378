//! `event` and `ledger`: what gateways have reported, as they have reported it.

use crate::admin::client::{Tenant, part};
use crate::admin::{ById, Nothing, table};
use crate::error::IssuerError;
use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show the events that gateways have reported, in their order.
    List(Filter),
}

#[derive(Debug, Args)]
pub(crate) struct Filter {
    /// Those about this device.
    #[arg(long, value_name = "ID")]
    device: Option<String>,
    /// Those of this kind: issued, delivery, refused, revoked and others.
    #[arg(long, value_name = "KIND")]
    kind: Option<String>,
}

pub(crate) async fn run(tenant: Tenant<'_>, command: Command) -> Result<(), IssuerError> {
    let Command::List(Filter { device, kind }) = command;
    let query: String = [("device", device), ("kind", kind)]
        .into_iter()
        .filter_map(|(name, value)| Some(format!("&{name}={}", part(&value?))))
        .collect();
    let items = tenant.list("/events", &query).await?;
    let columns = ["sequence", "at", "kind", "device", "facts"];
    table::list(tenant.form(), &items, &columns.map(|name| (name, name)));
    Ok(())
}

#[derive(Debug, Subcommand)]
pub(crate) enum LedgerCommand {
    /// Show the ledgers of gateways, and how far their reports are here.
    List(Nothing),
    /// Show one ledger, with how many events of each kind it has reported.
    Show(ById),
}

pub(crate) async fn ledger(tenant: Tenant<'_>, command: LedgerCommand) -> Result<(), IssuerError> {
    let form = tenant.form();
    match command {
        LedgerCommand::List(Nothing {}) => {
            let items = tenant.list("/ledgers", "").await?;
            let columns = ["id", "group", "acknowledged", "heard_at", "counts"];
            table::list(form, &items, &columns.map(|name| (name, name)));
        }
        LedgerCommand::Show(ById { id }) => {
            table::object(form, &tenant.get(&format!("/ledgers/{}", part(&id))).await?);
        }
    }
    Ok(())
}
