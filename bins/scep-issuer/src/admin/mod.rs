//! The commands that use the HTTP API, one module for each group of them.
//!
//! - `client`: the API as a client sees it; `pin`: a server that is known by its key
//! - `table`: what people read
//! - the others: what the commands ask for

pub(crate) mod alarm;
pub(crate) mod assignment;
pub(crate) mod certificate;
pub(crate) mod challenge;
pub(crate) mod client;
pub(crate) mod denial;
pub(crate) mod device;
pub(crate) mod event;
pub(crate) mod gateway;
pub(crate) mod group;
mod pin;
pub(crate) mod profile;
pub(crate) mod report;
pub(crate) mod revocation;
pub(crate) mod table;
pub(crate) mod user;

use crate::error::IssuerError;
use clap::{Args, Subcommand};
use client::{ApiOptions, Tenant};
use serde_json::{Map, Value};

/// The commands that use the API.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show whose token it is.
    Tenant(Single<Nothing>),
    /// Certificate profiles.
    Profile(Group<profile::Command>),
    /// Users.
    User(Group<user::Command>),
    /// Devices.
    Device(Group<device::Command>),
    /// Give a device or a user a profile.
    Assign(Single<assignment::Pair>),
    /// Take a profile from a device or a user.
    Unassign(Single<assignment::Pair>),
    /// Show who has which profile.
    Assignments(Single<Nothing>),
    /// Gateway groups.
    Group(Group<group::Command>),
    /// Challenges.
    Challenge(Group<challenge::Command>),
    /// Gateways, and the tokens with which they enrol.
    Gateway(Group<gateway::Command>),
    /// Certificates that gateways have reported.
    Certificate(Group<certificate::Command>),
    /// Events that gateways have reported.
    Event(Group<event::Command>),
    /// Ledgers of gateways.
    Ledger(Group<event::LedgerCommand>),
    /// Order certificates to be revoked.
    Revoke(Single<revocation::RevokeOptions>),
    /// Orders of revocation, and what the brake holds back.
    Revocation(Group<revocation::Command>),
    /// What every gateway refuses.
    Denial(Group<denial::Command>),
    /// What an operator must know.
    Alarm(Group<alarm::Command>),
    /// Show what does not fit: certificates of devices that are gone, renewals overdue, certificates about to expire.
    Report(Single<Nothing>),
}

/// A group of commands, with where to send them.
#[derive(Debug, Args)]
pub(crate) struct Group<C: Subcommand> {
    #[command(flatten)]
    pub(crate) api: ApiOptions,
    #[command(subcommand)]
    pub(crate) command: C,
}

/// One command, with where to send it.
#[derive(Debug, Args)]
pub(crate) struct Single<A: Args> {
    #[command(flatten)]
    pub(crate) api: ApiOptions,
    #[command(flatten)]
    pub(crate) arguments: A,
}

/// No arguments.
#[derive(Debug, Args)]
pub(crate) struct Nothing {}

/// An object by its id.
#[derive(Debug, Args)]
pub(crate) struct ById {
    /// Its id.
    #[arg(value_name = "ID")]
    pub(crate) id: String,
}

/// What is known of a device or user.
#[derive(Debug, Args)]
pub(crate) struct AttributeOptions {
    /// A variable of profiles and its value. Repeatable.
    #[arg(long = "attribute", short = 'a', value_name = "NAME=VALUE")]
    attributes: Vec<String>,
}

impl AttributeOptions {
    fn read(&self) -> Result<Value, IssuerError> {
        let mut values = Map::new();
        for pair in &self.attributes {
            let wrong = || IssuerError::config("--attribute", format!("{pair}: not NAME=VALUE"));
            let (name, value) = pair.split_once('=').ok_or_else(wrong)?;
            if values.insert(name.to_owned(), value.into()).is_some() {
                return Err(IssuerError::config("--attribute", format!("{name} is there twice")));
            }
        }
        Ok(Value::Object(values))
    }
}

/// Does what the command line says.
pub(crate) fn run(command: Command) -> Result<(), IssuerError> {
    match command {
        Command::Tenant(it) => ask(&it.api, tenant),
        // What needs no service asks for none.
        Command::Profile(Group { command: profile::Command::Lint { file }, .. }) => {
            crate::mint::lint(&file)
        }
        Command::Profile(it) => ask(&it.api, async |tenant| profile::run(tenant, it.command).await),
        Command::User(it) => ask(&it.api, async |tenant| user::run(tenant, it.command).await),
        Command::Device(it) => ask(&it.api, async |tenant| device::run(tenant, it.command).await),
        Command::Assign(it) => {
            ask(&it.api, async |tenant| assignment::assign(tenant, it.arguments).await)
        }
        Command::Unassign(it) => {
            ask(&it.api, async |tenant| assignment::unassign(tenant, it.arguments).await)
        }
        Command::Assignments(it) => ask(&it.api, assignment::list),
        Command::Group(it) => ask(&it.api, async |tenant| group::run(tenant, it.command).await),
        Command::Challenge(it) => {
            ask(&it.api, async |tenant| challenge::run(tenant, it.command).await)
        }
        Command::Gateway(it) => ask(&it.api, async |tenant| gateway::run(tenant, it.command).await),
        Command::Certificate(it) => {
            ask(&it.api, async |tenant| certificate::run(tenant, it.command).await)
        }
        Command::Event(it) => ask(&it.api, async |tenant| event::run(tenant, it.command).await),
        Command::Ledger(it) => ask(&it.api, async |tenant| event::ledger(tenant, it.command).await),
        Command::Revoke(it) => {
            ask(&it.api, async |tenant| revocation::revoke(tenant, it.arguments).await)
        }
        Command::Revocation(it) => {
            ask(&it.api, async |tenant| revocation::run(tenant, it.command).await)
        }
        Command::Denial(it) => ask(&it.api, async |tenant| denial::run(tenant, it.command).await),
        Command::Alarm(it) => ask(&it.api, async |tenant| alarm::run(tenant, it.command).await),
        Command::Report(it) => ask(&it.api, report::run),
    }
}

/// Opens the API and does the work.
fn ask<F>(options: &ApiOptions, work: F) -> Result<(), IssuerError>
where
    F: AsyncFnOnce(Tenant<'_>) -> Result<(), IssuerError>,
{
    let api = options.open()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(IssuerError::Runtime)?.block_on(async { work(api.tenant().await?).await })
}

/// `tenant`: whose token it is.
async fn tenant(tenant: Tenant<'_>) -> Result<(), IssuerError> {
    let value = tenant.get("").await?;
    table::object(tenant.form(), &value);
    Ok(())
}
