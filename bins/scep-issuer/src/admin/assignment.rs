//! `assign`, `unassign`, `assignments`: which device or user has which profile.

use crate::admin::client::{Tenant, part};
use crate::admin::table;
use crate::error::IssuerError;
use clap::Args;
use serde_json::{Value, json};

/// A profile and whose it is.
#[derive(Debug, Args)]
pub(crate) struct Pair {
    /// The profile.
    #[arg(long, value_name = "ID")]
    profile: String,
    /// The device that has it.
    #[arg(long, value_name = "ID", required_unless_present = "user", conflicts_with = "user")]
    device: Option<String>,
    /// The user that has it.
    #[arg(long, value_name = "ID")]
    user: Option<String>,
}

impl Pair {
    fn whose(&self) -> (&'static str, &str) {
        match (&self.device, &self.user) {
            (Some(device), _) => ("device", device),
            (None, user) => ("user", user.as_deref().unwrap_or_default()),
        }
    }
}

pub(crate) async fn assign(tenant: Tenant<'_>, pair: Pair) -> Result<(), IssuerError> {
    let (kind, id) = pair.whose();
    let mut body = json!({ "profile": pair.profile });
    if let Some(fields) = body.as_object_mut() {
        fields.insert(kind.to_owned(), id.into());
    }
    let made = tenant.post("/assignments", &body).await?;
    let sentence = format!("{kind} {id} has profile {}", pair.profile);
    table::done(tenant.form(), &sentence, &made);
    Ok(())
}

pub(crate) async fn unassign(tenant: Tenant<'_>, pair: Pair) -> Result<(), IssuerError> {
    let (kind, id) = pair.whose();
    let items = tenant.list("/assignments", "").await?;
    let is = |item: &&Value, field: &str, value: &str| {
        item.get(field).and_then(Value::as_str) == Some(value)
    };
    let found = items.iter().find(|item| is(item, "profile", &pair.profile) && is(item, kind, id));
    let number = found.and_then(|item| item.get("id")).and_then(Value::as_str);
    let number = number.ok_or_else(|| {
        IssuerError::config("--profile", format!("{kind} {id} does not have {}", pair.profile))
    })?;
    tenant.delete(&format!("/assignments/{}", part(number))).await?;
    let sentence = format!("{kind} {id} no longer has profile {}", pair.profile);
    table::done(tenant.form(), &sentence, &json!({ "removed": number }));
    Ok(())
}

pub(crate) async fn list(tenant: Tenant<'_>) -> Result<(), IssuerError> {
    let items = tenant.list("/assignments", "").await?;
    let columns = ["id", "profile", "device", "user"].map(|name| (name, name));
    table::list(tenant.form(), &items, &columns);
    Ok(())
}
