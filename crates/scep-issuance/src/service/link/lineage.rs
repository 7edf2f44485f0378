//! Certificates that follow others without a challenge: what is told of them against what is here of the others.

use crate::service::db::{Tx, values};
use crate::service::store::StoreError;
use scep_types::{CertificateFingerprint, ChallengeId, TenantId, Timestamp};
use sha2::{Digest, Sha256};

/// The most certificates of a line that follow without a challenge. Gateways refuse the next one.
pub(super) const MAX_GENERATIONS: i64 = 3;

/// What is told of a certificate that follows another.
#[derive(Debug)]
pub(super) struct Follower<'a> {
    pub(super) renews: CertificateFingerprint,
    pub(super) generation: i64,
    pub(super) challenge: &'a str,
    pub(super) device: &'a str,
    pub(super) user: Option<&'a str>,
    pub(super) profile: &'a str,
    pub(super) ledger: &'a str,
    pub(super) issued_at: Timestamp,
}

/// What is here of the one that it follows.
#[derive(Debug)]
pub(super) enum Followed {
    /// Nothing.
    Unknown,
    /// It is there.
    Known {
        /// What does not fit.
        differences: Vec<String>,
        /// When the challenge of the line was made; when that is not here, when its first certificate was issued.
        challenged_at: Timestamp,
    },
}

/// The id that a gateway takes instead of a challenge's: the first 16 octets of SHA-256("scep renewal" || SHA-256 of the
/// predecessor's DER). It is the same for each successor of one certificate, so that two are seen as one challenge used
/// twice.
pub(super) fn successor_id(predecessor: CertificateFingerprint) -> ChallengeId {
    let hash = Sha256::new().chain_update("scep renewal").chain_update(predecessor.as_bytes());
    let mut id = [0; 16];
    id.iter_mut().zip(hash.finalize()).for_each(|(to, from)| *to = from);
    ChallengeId::from_bytes(id)
}

/// One certificate of a line.
struct Member {
    device: String,
    user: Option<String>,
    profile: String,
    ledger: String,
    state: String,
    revoked_at: Option<i64>,
    generation: i64,
    issued_at: i64,
    renews: Option<String>,
    challenge: String,
}

fn member(tx: &Tx<'_>, tenant: &TenantId, thumbprint: &str) -> Result<Option<Member>, StoreError> {
    tx.one(
        "SELECT device, owner, profile, ledger, state, revoked_at, generation, issued_at, renews, \
         challenge FROM certificate WHERE tenant = ?1 AND thumbprint = ?2",
        values![tenant.as_str(), thumbprint],
        |row| {
            Ok::<_, StoreError>(Member {
                device: row.get(0)?,
                user: row.get(1)?,
                profile: row.get(2)?,
                ledger: row.get(3)?,
                state: row.get(4)?,
                revoked_at: row.get(5)?,
                generation: row.get(6)?,
                issued_at: row.get(7)?,
                renews: row.get(8)?,
                challenge: row.get(9)?,
            })
        },
    )
}

/// Compares a certificate with the one that it follows.
pub(super) fn compare(
    tx: &Tx<'_>,
    tenant: &TenantId,
    told: &Follower<'_>,
) -> Result<Followed, StoreError> {
    let Some(before) = member(tx, tenant, &told.renews.to_string())? else {
        return Ok(Followed::Unknown);
    };
    let mut differences = Vec::new();
    let mut differ = |what: &str, told: &str, known: &str| {
        if told != known {
            differences.push(format!("{what} {told}, not {known}"));
        }
    };
    differ("device", told.device, &before.device);
    differ("user", told.user.unwrap_or("(none)"), before.user.as_deref().unwrap_or("(none)"));
    differ("profile", told.profile, &before.profile);
    differ("ledger", told.ledger, &before.ledger);
    differ("id", told.challenge, &successor_id(told.renews).to_string());
    let next = before.generation.saturating_add(1);
    differ("generation", &told.generation.to_string(), &next.to_string());
    if told.generation > MAX_GENERATIONS {
        differences.push(format!("renewal {}, and {MAX_GENERATIONS} is the last", told.generation));
    }
    if before.state == "withheld" {
        differences.push("that certificate was withheld".to_owned());
    }
    if before.revoked_at.is_some_and(|at| at < told.issued_at.seconds()) {
        differences.push("that certificate was revoked before".to_owned());
    }
    let challenged_at = challenged_at(tx, tenant, before)?;
    Ok(Followed::Known { differences, challenged_at })
}

/// When the line began.
fn challenged_at(
    tx: &Tx<'_>,
    tenant: &TenantId,
    mut oldest: Member,
) -> Result<Timestamp, StoreError> {
    // No line is longer; one that goes in a circle ends here too.
    for _ in 0..MAX_GENERATIONS {
        let Some(before) = &oldest.renews else { break };
        let Some(before) = member(tx, tenant, before)? else { break };
        oldest = before;
    }
    let made: Option<i64> = tx.one(
        "SELECT issued_at FROM challenge WHERE tenant = ?1 AND id = ?2",
        values![tenant.as_str(), &oldest.challenge],
        |row| row.get(0),
    )?;
    Ok(Timestamp::from_seconds(made.unwrap_or(oldest.issued_at)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_of_a_successor_is_that_of_gateways() {
        let predecessor = CertificateFingerprint::from_bytes([0x11; 32]);
        assert_eq!(successor_id(predecessor).to_string(), "95cddd0c267eac8a4a0ffc06c2849157");
    }
}
