//! API tokens: 256 random bits of which the database knows the hash.

use crate::service::db::{Tx, values};
use crate::service::store::{Store, StoreError};
use core::fmt;
use core::str::FromStr;
use scep_types::{CryptoProvider, KeyError, Secret, TenantId, Timestamp};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

/// In front of every token, so that a scanner for leaked secrets can recognise one.
const PREFIX: &str = "scepiss_";
const RANDOM: usize = 32;

/// What a token allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Everything in its tenant.
    Admin,
    /// Make challenges.
    ChallengesWrite,
    /// Read everything in its tenant. The texts of challenges are not there to be read.
    Read,
}

impl Scope {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::ChallengesWrite => "challenges:write",
            Self::Read => "read",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// No scope has this name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a scope is admin, challenges:write or read")]
pub struct ScopeError;

impl FromStr for Scope {
    type Err = ScopeError;
    fn from_str(text: &str) -> Result<Self, ScopeError> {
        [Self::Admin, Self::ChallengesWrite, Self::Read]
            .into_iter()
            .find(|scope| scope.name() == text)
            .ok_or(ScopeError)
    }
}

/// Why no token was made.
#[derive(Debug, Error)]
pub enum TokenError {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The source of randomness failed.
    #[error("no random token: {0}")]
    Random(#[from] KeyError),
}

/// A token as it is listed: what it is cannot be seen.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TokenInfo {
    /// What its hash begins with, hexadecimal: its name.
    pub id: String,
    /// What it allows.
    pub scopes: Vec<Scope>,
    /// Its end.
    pub expires_at: Timestamp,
}

/// How much of a token's hash is its name, octets.
const ID: usize = 8;

/// What is known of a token that was presented.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Grant {
    pub(crate) tenant: TenantId,
    pub(crate) scopes: Vec<Scope>,
}

impl Grant {
    pub(crate) fn allows(&self, scope: Scope) -> bool {
        self.scopes.contains(&Scope::Admin) || self.scopes.contains(&scope)
    }
}

pub(crate) fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

fn id(hash: &[u8; 32]) -> String {
    hash.iter().take(ID).map(|octet| format!("{octet:02x}")).collect()
}

impl Store {
    /// Makes a token, and its tenant when that is new. The token is in the answer and nowhere else.
    ///
    /// # Errors
    /// When the database or the source of randomness fails.
    pub async fn create_token(
        &self,
        tenant: &TenantId,
        scopes: &[Scope],
        expires_at: Timestamp,
        provider: &dyn CryptoProvider,
    ) -> Result<Secret<String>, TokenError> {
        let mut random = [0; RANDOM];
        provider.random(&mut random)?;
        let token = format!("{PREFIX}{}", hex::encode(random));
        let (hash, tenant) = (hash(&token), tenant.clone());
        let mut names: Vec<&str> = scopes.iter().map(|scope| scope.name()).collect();
        names.sort_unstable();
        names.dedup();
        let scopes = names.join(" ");
        self.write(move |tx| {
            put_tenant(tx, &tenant)?;
            tx.execute(
                "INSERT INTO token (hash, tenant, scopes, expires_at) VALUES (?1, ?2, ?3, ?4)",
                values![&hash, tenant.as_str(), &scopes, expires_at.seconds()],
            )?;
            Ok::<_, StoreError>(())
        })
        .await?;
        Ok(Secret::new(token))
    }

    /// The tokens of a tenant, expired ones included, those that end last in front.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn tokens(&self, tenant: &TenantId) -> Result<Vec<TokenInfo>, StoreError> {
        let tenant = tenant.clone();
        self.read(move |tx| {
            tx.query(
                "SELECT hash, scopes, expires_at FROM token WHERE tenant = ?1 \
                 ORDER BY expires_at DESC, hash",
                values![tenant.as_str()],
                |row| {
                    let (hash, scopes): ([u8; 32], String) = (row.get(0)?, row.get(1)?);
                    Ok::<_, StoreError>(TokenInfo {
                        id: id(&hash),
                        scopes: scopes.split(' ').filter_map(|name| name.parse().ok()).collect(),
                        expires_at: Timestamp::from_seconds(row.get(2)?),
                    })
                },
            )
        })
        .await
    }

    /// Takes a token's rights, at once. Gives whether there was one.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn revoke_token(&self, tenant: &TenantId, token: &str) -> Result<bool, StoreError> {
        let (tenant, token) = (tenant.clone(), token.to_owned());
        self.write(move |tx| {
            let hashes: Vec<[u8; 32]> = tx.query(
                "SELECT hash FROM token WHERE tenant = ?1",
                values![tenant.as_str()],
                |row| row.get(0),
            )?;
            let mut gone = 0;
            for hash in hashes.iter().filter(|hash| id(hash) == token) {
                gone = tx.execute("DELETE FROM token WHERE hash = ?1", values![hash])?;
            }
            Ok::<_, StoreError>(gone > 0)
        })
        .await
    }

    /// What a token allows; nothing when it is unknown or expired.
    pub(crate) async fn grant(
        &self,
        hash: [u8; 32],
        now: Timestamp,
    ) -> Result<Option<Grant>, StoreError> {
        self.read(move |tx| {
            let found: Option<(String, String)> = tx.one(
                "SELECT tenant, scopes FROM token WHERE hash = ?1 AND expires_at > ?2",
                values![&hash, now.seconds()],
                |row| Ok::<_, StoreError>((row.get(0)?, row.get(1)?)),
            )?;
            Ok::<_, StoreError>(found.and_then(|(tenant, scopes)| {
                let scopes = scopes.split(' ').filter_map(|name| name.parse().ok()).collect();
                Some(Grant { tenant: TenantId::new(tenant).ok()?, scopes })
            }))
        })
        .await
    }
}

pub(crate) fn put_tenant(tx: &Tx<'_>, tenant: &TenantId) -> Result<(), StoreError> {
    let sql = "INSERT INTO tenant (id) VALUES (?1) ON CONFLICT DO NOTHING";
    tx.execute(sql, values![tenant.as_str()]).map(drop)
}
