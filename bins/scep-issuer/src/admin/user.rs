//! `user`: whom devices belong to.

use crate::admin::client::{Tenant, part};
use crate::admin::{AttributeOptions, ById, table};
use crate::error::IssuerError;
use clap::Subcommand;
use serde_json::json;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Take up a user.
    Add {
        #[command(flatten)]
        id: ById,
        #[command(flatten)]
        attributes: AttributeOptions,
    },
    /// Give a user these attributes and no others.
    Set {
        #[command(flatten)]
        id: ById,
        #[command(flatten)]
        attributes: AttributeOptions,
    },
    /// Show all users.
    List,
    /// Show one user.
    Show(ById),
    /// Remove a user and its assignments.
    Remove(ById),
}

pub(crate) async fn run(tenant: Tenant<'_>, command: Command) -> Result<(), IssuerError> {
    let form = tenant.form();
    match command {
        Command::Add { id: ById { id }, attributes } => {
            let body = json!({ "id": id, "attributes": attributes.read()? });
            let made = tenant.post("/users", &body).await?;
            table::done(form, &format!("user {id} is there"), &made);
        }
        Command::Set { id: ById { id }, attributes } => {
            let body = json!({ "attributes": attributes.read()? });
            let changed = tenant.put(&format!("/users/{}", part(&id)), &body).await?;
            table::done(form, &format!("user {id} is changed"), &changed);
        }
        Command::List => {
            let items = tenant.list("/users", "").await?;
            table::list(form, &items, &["id", "attributes"].map(|name| (name, name)));
        }
        Command::Show(ById { id }) => {
            table::object(form, &tenant.get(&format!("/users/{}", part(&id))).await?);
        }
        Command::Remove(ById { id }) => {
            tenant.delete(&format!("/users/{}", part(&id))).await?;
            table::done(form, &format!("user {id} is removed"), &json!({ "removed": id }));
        }
    }
    Ok(())
}
