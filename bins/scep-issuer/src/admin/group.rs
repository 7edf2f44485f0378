//! `group`: gateways that share a key and a CA.

use crate::admin::client::{Tenant, part};
use crate::admin::{ById, table};
use crate::error::IssuerError;
use clap::Subcommand;
use scep_keys::{certificates_pem, public_key_pem, read_certificates, read_public_key};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Take up a group. Gateways that enrol make their group themselves; this is for those that do not, and to say
    /// beforehand which CA is behind it.
    Add {
        #[command(flatten)]
        id: ById,
        /// The public key its challenges are encrypted to, PEM: challenge.pub.pem of the gateway's folder. Without it
        /// the first gateway that enrols brings it.
        #[arg(long, value_name = "FILE")]
        public_key: Option<PathBuf>,
        /// The certificate of the CA behind its gateways, PEM; see `set-ca`.
        #[arg(long, value_name = "FILE")]
        ca_certificate: Option<PathBuf>,
    },
    /// Say which CA is behind a group's gateways: Windows needs its root, and Apple's devices look for it.
    SetCa {
        #[command(flatten)]
        id: ById,
        /// The CA's certificate, PEM: its root for Windows.
        #[arg(long, value_name = "FILE")]
        certificate: PathBuf,
    },
    /// Show all groups.
    List,
    /// Show one group.
    Show(ById),
    /// Unbind a group from its ledger, which is lost: the next gateway that enrols binds it to its own. No gateway may
    /// be in it. What challenges it had could be used once more until they expire.
    ReleaseLedger(ById),
    /// Remove a group without gateways: no challenges are made for it any more.
    Remove(ById),
}

fn certificate(path: &Path) -> Result<String, IssuerError> {
    match read_certificates(path)?.as_slice() {
        [only] => Ok(certificates_pem(std::slice::from_ref(only))),
        several => {
            let why = format!("{} has {} certificates, not one", path.display(), several.len());
            Err(IssuerError::config("--certificate", why))
        }
    }
}

fn path(id: &str) -> String {
    format!("/gateway-groups/{}", part(id))
}

pub(crate) async fn run(tenant: Tenant<'_>, command: Command) -> Result<(), IssuerError> {
    let form = tenant.form();
    match command {
        Command::Add { id: ById { id }, public_key, ca_certificate } => {
            let key = public_key.as_deref().map(read_public_key).transpose()?;
            let key = key.as_ref().map(public_key_pem);
            let mut body = json!({ "id": id, "public_key": key });
            if let (Some(path), Some(fields)) = (ca_certificate, body.as_object_mut()) {
                fields.insert("ca_certificate".to_owned(), certificate(&path)?.into());
            }
            let made = tenant.post("/gateway-groups", &body).await?;
            table::done(form, &format!("gateway group {id} is there"), &made);
        }
        Command::SetCa { id: ById { id }, certificate: file } => {
            let body = json!({ "ca_certificate": certificate(&file)? });
            let changed = tenant.put(&path(&id), &body).await?;
            table::done(form, &format!("gateway group {id} has this CA"), &changed);
        }
        Command::List => {
            let mut items = tenant.list("/gateway-groups", "").await?;
            let columns = [
                ("id", "id"),
                ("key", "key"),
                ("ca", "ca"),
                ("ledger", "ledger.kind"),
                ("members", "members"),
                ("rotation due since", "rotation_due_since"),
            ];
            let known = |item: &Value, field: &str| {
                let known = item.get(field).is_some_and(Value::is_string);
                Value::from(if known { "known" } else { "not known" })
            };
            for item in &mut items {
                let (key, ca) = (known(item, "public_key"), known(item, "ca_certificate"));
                if let Some(fields) = item.as_object_mut().filter(|_| form == table::Form::People) {
                    fields.insert("key".to_owned(), key);
                    fields.insert("ca".to_owned(), ca);
                }
            }
            table::list(form, &items, &columns);
        }
        Command::Show(ById { id }) => table::object(form, &tenant.get(&path(&id)).await?),
        Command::ReleaseLedger(ById { id }) => {
            let changed = tenant.act(&format!("{}/release-ledger", path(&id))).await?;
            table::done(form, &format!("gateway group {id} is bound to no ledger"), &changed);
        }
        Command::Remove(ById { id }) => {
            tenant.delete(&path(&id)).await?;
            table::done(form, &format!("gateway group {id} is removed"), &json!({ "removed": id }));
        }
    }
    Ok(())
}
