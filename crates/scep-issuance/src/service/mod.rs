//! The issuer as a service: its database, and the admin API under `/api/v1`.
//!
//! - `store`, `schema`: the SQLite file and its two threads
//! - `db`: statements, values, rows
//! - `token`: API tokens and their scopes
//! - `request`: what is demanded of a request before a handler sees it
//! - `once`: idempotency keys
//! - `objects`, `assignments`, `challenges`: the routes
//! - `link`: the endpoints for connectors
//! - `changes`, `denials`, `orders`: what connectors are told
//! - `document`: the OpenAPI document
//! - `health`: whether it can answer
//! - `problem`: errors
//! - `listen`: connections

mod assignments;
mod challenges;
mod changes;
mod db;
mod denials;
mod document;
mod health;
mod link;
mod listen;
mod objects;
mod once;
mod orders;
mod problem;
mod request;
mod store;
mod token;

pub use link::{IssuerKey, IssuerKeys, Link};
pub use listen::{ListenError, Tls, TlsError};
pub use problem::Problem;
pub use store::{Store, StoreError};
pub use token::{Scope, ScopeError, TokenError};

use crate::mint::{Minter, MinterError};
use crate::service::db::values;
use scep_types::{Clock, CryptoProvider, GatewayGroupId, Signer, SpkiDer, TenantId};
use std::sync::{Arc, PoisonError, RwLock};
use thiserror::Error;

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

/// The issuer: a database, the key that signs challenges, and where randomness and time come from.
#[derive(Clone, Debug)]
pub struct Service {
    pub(crate) store: Store,
    pub(crate) signer: Arc<dyn Signer>,
    pub(crate) provider: Arc<dyn CryptoProvider>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) link: Option<Arc<Link>>,
    pub(crate) keys: Arc<RwLock<Arc<IssuerKeys>>>,
}

impl Service {
    /// Puts the parts together.
    #[must_use]
    pub fn new(
        store: Store,
        signer: Arc<dyn Signer>,
        provider: Arc<dyn CryptoProvider>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let keys = IssuerKeys { signing: Vec::new(), command: Vec::new() };
        let keys = Arc::new(RwLock::new(Arc::new(keys)));
        Self { store, signer, provider, clock, link: None, keys }
    }

    /// Serves connectors too.
    #[must_use]
    pub fn with_link(mut self, link: Link, keys: IssuerKeys) -> Self {
        self.link = Some(Arc::new(link));
        self.set_keys(keys);
        self
    }

    /// Replaces the keys, from the next request on.
    pub fn set_keys(&self, keys: IssuerKeys) {
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
    }

    /// Takes up a tenant, unless it is there.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn put_tenant(&self, tenant: &TenantId) -> Result<(), StoreError> {
        let tenant = tenant.clone();
        self.store.write(move |tx| token::put_tenant(tx, &tenant)).await
    }

    /// Takes up a gateway group of a tenant that is there, or gives it another key.
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
        Minter::new(tenant.clone(), group.clone(), Arc::clone(&self.signer), key.clone())?;
        self.store
            .write(move |tx| {
                tx.execute(
                    "INSERT INTO gateway_group (tenant, id, public_key) VALUES (?1, ?2, ?3) \
                     ON CONFLICT (tenant, id) DO UPDATE SET public_key = excluded.public_key",
                    values![tenant.as_str(), group.as_str(), key.as_der()],
                )?;
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
