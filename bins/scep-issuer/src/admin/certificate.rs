//! `certificate`: what gateways have reported.

use crate::admin::client::{Tenant, part};
use crate::admin::{ById, table};
use crate::error::IssuerError;
use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show certificates.
    List(Filter),
    /// Show one certificate, by its thumbprint.
    Show(ById),
}

#[derive(Debug, Args)]
pub(crate) struct Filter {
    /// Those of this device.
    #[arg(long, value_name = "ID")]
    device: Option<String>,
    /// Those of this profile.
    #[arg(long, value_name = "ID")]
    profile: Option<String>,
    /// Those that stand so: live, withheld, revoked or expired.
    #[arg(long, value_name = "STATE")]
    state: Option<String>,
    /// Those that end before this instant: 2027-01-01T00:00:00Z.
    #[arg(long, value_name = "INSTANT")]
    expires_before: Option<String>,
}

impl Filter {
    fn query(&self) -> String {
        let all = [
            ("device", &self.device),
            ("profile", &self.profile),
            ("state", &self.state),
            ("expires_before", &self.expires_before),
        ];
        let given = all.iter().filter_map(|(name, value)| {
            value.as_deref().map(|value| format!("&{name}={}", part(value)))
        });
        given.collect()
    }
}

pub(crate) async fn run(tenant: Tenant<'_>, command: Command) -> Result<(), IssuerError> {
    let form = tenant.form();
    match command {
        Command::List(filter) => {
            let items = tenant.list("/certificates", &filter.query()).await?;
            let columns = ["thumbprint", "device", "profile", "state", "not_after", "serial"];
            table::list(form, &items, &columns.map(|name| (name, name)));
        }
        Command::Show(ById { id }) => {
            table::object(form, &tenant.get(&format!("/certificates/{}", part(&id))).await?);
        }
    }
    Ok(())
}
