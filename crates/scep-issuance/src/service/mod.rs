//! The issuer as a service: its database, and the admin API under `/api/v1`.
//!
//! - `store`, `schema`: the SQLite file and its two threads
//! - `postgres`: the database on a server instead, with the feature of this name
//! - `db`: statements, values, rows
//! - `token`: API tokens and their scopes
//! - `request`: what is demanded of a request before a handler sees it
//! - `once`: idempotency keys
//! - `objects`, `assignments`, `challenges`: the routes
//! - `groups`, `connectors`: the routes about gateways
//! - `certificates`, `revocations_api`, `alarms`: the routes about what gateways report
//! - `link`: the endpoints for connectors
//! - `changes`, `denials`, `orders`, `renewals`: what connectors are told
//! - `contacts`: what connectors say of themselves, and what they are ordered
//! - `upkeep`: reconciliation, and how long what is kept
//! - `document`: the OpenAPI document
//! - `health`: whether it can answer
//! - `problem`: errors
//! - `listen`: connections

mod alarms;
mod assignments;
mod certificates;
mod challenges;
mod changes;
mod connectors;
mod contacts;
mod db;
mod denials;
mod document;
mod groups;
mod health;
mod link;
mod listen;
mod objects;
mod once;
mod orders;
#[cfg(feature = "postgres")]
mod postgres;
mod problem;
mod renewals;
mod request;
mod revocations_api;
mod store;
mod token;
mod upkeep;

pub use link::{IssuerKey, IssuerKeys, IssuerKeysError, Link};
pub use listen::{ListenError, Tls, TlsError};
pub use orders::RevocationBrake;
#[cfg(feature = "postgres")]
pub use postgres::PostgresConfig;
pub use problem::Problem;
pub use store::{Store, StoreError};
pub use token::{Scope, ScopeError, TokenError, TokenInfo};
pub use upkeep::{Expiring, Findings, Found, Reconciliation, Upkeep};

use crate::mint::MinterError;
use crate::service::changes::Bell;
use crate::service::db::values;
use crate::service::link::keys::{self, KeyPurpose};
use crate::service::link::turn::Turns;
use scep_challenge::{KeyRole, is_suitable};
use scep_types::{Clock, CryptoProvider, GatewayGroupId, Signer, SpkiDer, TenantId};
use std::sync::{Arc, PoisonError, RwLock};
use thiserror::Error;
use tokio_util::sync::CancellationToken;

/// The largest body of a request, octets.
pub const MAX_BODY: usize = 256 * 1024;

/// Why a gateway group could not be taken up.
#[derive(Debug, Error)]
pub enum GroupError {
    /// Its key cannot be used.
    #[error(transparent)]
    Key(#[from] MinterError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The issuer: a database, its keys, and where randomness and time come from.
#[derive(Clone, Debug)]
pub struct Service {
    pub(crate) store: Store,
    pub(crate) provider: Arc<dyn CryptoProvider>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) link: Option<Arc<Link>>,
    keys: Arc<RwLock<Arc<IssuerKeys>>>,
    pub(crate) bell: Bell,
    pub(crate) turns: Turns,
    pub(crate) upkeep: Upkeep,
    /// Cancelled when the service is to stop: whoever waits for something to say says it now.
    pub(crate) stop: CancellationToken,
}

impl Service {
    /// Puts the parts together. `signer` signs challenges; [`Service::with_link`] brings other keys.
    #[must_use]
    pub fn new(
        store: Store,
        signer: Arc<dyn Signer>,
        provider: Arc<dyn CryptoProvider>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let keys = Arc::new(RwLock::new(Arc::new(IssuerKeys::single(signer))));
        let (bell, turns, stop) = (Bell::new(), Turns::default(), CancellationToken::new());
        let upkeep = Upkeep::default();
        Self { store, provider, clock, link: None, keys, bell, turns, upkeep, stop }
    }

    /// Serves connectors too.
    ///
    /// # Errors
    /// When the keys are none for an issuer with connectors.
    pub fn with_link(mut self, link: Link, keys: IssuerKeys) -> Result<Self, IssuerKeysError> {
        self.link = Some(Arc::new(link));
        self.set_keys(keys)?;
        Ok(self)
    }

    /// Replaces the keys, from the next request on. Connectors that wait are told at once.
    ///
    /// # Errors
    /// When one is unsuitable, never valid or there twice, when there are too many, or none of a kind that is needed.
    /// The keys stay as they were.
    pub fn set_keys(&self, keys: IssuerKeys) -> Result<(), IssuerKeysError> {
        keys.check()?;
        if self.link.is_some() && keys.command.is_empty() {
            return Err(IssuerKeysError::NoCommandKey);
        }
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
        self.bell.keys_replaced();
        Ok(())
    }

    /// The present keys.
    pub(crate) fn keys(&self) -> Arc<IssuerKeys> {
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// That challenges can be encrypted to a key: a suitable one, and none of the issuer's.
    pub(crate) fn check_recipient(&self, key: &SpkiDer) -> Result<(), MinterError> {
        if !is_suitable(key.algorithm()) {
            let (role, algorithm) = (KeyRole::Recipient, key.algorithm());
            return Err(MinterError::UnsuitableKey { role, algorithm });
        }
        if self.keys().has(key.key_id()) { Err(MinterError::SharedKey) } else { Ok(()) }
    }

    /// Takes up a tenant, unless it is there.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn put_tenant(&self, tenant: &TenantId) -> Result<(), StoreError> {
        let tenant = tenant.clone();
        self.store.write(move |tx| token::put_tenant(tx, &tenant)).await
    }

    /// Takes up a gateway group of a tenant that is there, or gives it another key, unless a gateway of the group has
    /// renewed that.
    ///
    /// # Errors
    /// When the key is unsuitable, or the database fails.
    pub async fn put_group(
        &self,
        tenant: &TenantId,
        group: &GatewayGroupId,
        key: &SpkiDer,
    ) -> Result<(), GroupError> {
        let (tenant, group, key) = (tenant.clone(), group.clone(), key.clone());
        self.check_recipient(&key)?;
        self.store
            .write(move |tx| {
                tx.execute(
                    "INSERT INTO gateway_group (tenant, id, public_key) VALUES (?1, ?2, ?3) \
                     ON CONFLICT (tenant, id) DO UPDATE SET public_key = excluded.public_key \
                     WHERE gateway_group.key_by IS NULL",
                    values![tenant.as_str(), group.as_str(), key.as_der()],
                )?;
                keys::take(tx, key.key_id(), &tenant, &group, KeyPurpose::Decryption)?;
                Ok::<_, StoreError>(())
            })
            .await?;
        Ok(())
    }

    /// The OpenAPI 3.1 document of the admin API, JSON.
    #[must_use]
    pub fn openapi() -> String {
        document::text()
    }
}
