//! `device`: what certificates are for.

use crate::admin::client::{Tenant, part};
use crate::admin::{AttributeOptions, ById, table};
use crate::error::IssuerError;
use clap::Subcommand;
use serde_json::{Value, json};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Take up a device.
    Add {
        #[command(flatten)]
        id: ById,
        #[command(flatten)]
        attributes: AttributeOptions,
    },
    /// Give a device these attributes and no others.
    Set {
        #[command(flatten)]
        id: ById,
        #[command(flatten)]
        attributes: AttributeOptions,
    },
    /// Show all devices.
    List,
    /// Show one device.
    Show(ById),
    /// Refuse a device everywhere, until it is enabled. Its certificates stay.
    Disable(ById),
    /// Accept a device again.
    Enable(ById),
    /// Say that a device was erased: it is refused everywhere, and its certificates are revoked.
    Wipe(ById),
    /// Accept a device that was wiped.
    ReEnrol(ById),
    /// Remove a device and its assignments: it has left, and its certificates are revoked.
    Remove(ById),
}

fn path(id: &str) -> String {
    format!("/devices/{}", part(id))
}

/// Changes the state and leaves the attributes.
async fn state(tenant: &Tenant<'_>, id: &str, state: &str) -> Result<(), IssuerError> {
    let device = tenant.get(&path(id)).await?;
    let attributes = device.get("attributes").cloned().unwrap_or_else(|| json!({}));
    let body = json!({ "state": state, "attributes": attributes });
    let changed = tenant.put(&path(id), &body).await?;
    let now = changed.get("state").and_then(Value::as_str).unwrap_or_default();
    table::done(tenant.form(), &format!("device {id} is {now}"), &changed);
    Ok(())
}

pub(crate) async fn run(tenant: Tenant<'_>, command: Command) -> Result<(), IssuerError> {
    let form = tenant.form();
    match command {
        Command::Add { id: ById { id }, attributes } => {
            let body = json!({ "id": id, "attributes": attributes.read()? });
            let made = tenant.post("/devices", &body).await?;
            table::done(form, &format!("device {id} is there"), &made);
        }
        Command::Set { id: ById { id }, attributes } => {
            let device = tenant.get(&path(&id)).await?;
            let state = device.get("state").cloned().unwrap_or_default();
            let body = json!({ "state": state, "attributes": attributes.read()? });
            let changed = tenant.put(&path(&id), &body).await?;
            table::done(form, &format!("device {id} is changed"), &changed);
        }
        Command::List => {
            let items = tenant.list("/devices", "").await?;
            table::list(form, &items, &["id", "state", "attributes"].map(|name| (name, name)));
        }
        Command::Show(ById { id }) => table::object(form, &tenant.get(&path(&id)).await?),
        Command::Disable(ById { id }) => state(&tenant, &id, "disabled").await?,
        Command::Enable(ById { id }) => state(&tenant, &id, "enrolled").await?,
        Command::Wipe(ById { id }) => state(&tenant, &id, "wiped").await?,
        Command::ReEnrol(ById { id }) => {
            let changed = tenant.act(&format!("{}/re-enrol", path(&id))).await?;
            table::done(form, &format!("device {id} is enrolled"), &changed);
        }
        Command::Remove(ById { id }) => {
            tenant.delete(&path(&id)).await?;
            table::done(form, &format!("device {id} is removed"), &json!({ "removed": id }));
        }
    }
    Ok(())
}
