//! That a connector has the private half of a decryption key.

use crate::service::db::{Tx, values};
use crate::service::link::answer::Refusal;
use crate::service::link::keys::{self, KeyPurpose};
use crate::service::renewals;
use crate::service::store::StoreError;
use scep_link::{ErrorCode, PossessionProof, RenewalSubject};
use scep_types::{ConnectorId, GatewayGroupId, KeyId, SpkiDer, TenantId, Timestamp};

/// Keeps what the connector must answer; of a renewal also the answer, to be repeated.
pub(crate) fn expect(
    tx: &Tx<'_>,
    connector: ConnectorId,
    key: &SpkiDer,
    answer: Option<&str>,
    proof: &PossessionProof,
    now: Timestamp,
) -> Result<(), Refusal> {
    let proof = serde_json::to_string(proof)
        .map_err(|error| Refusal::new(ErrorCode::InternalError, error))?;
    tx.execute(
        "INSERT INTO possession (connector, key_id, public_key, answer, proof, asked_at) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        values![
            &connector.to_string(),
            key.key_id().as_bytes(),
            key.as_der(),
            answer,
            &proof,
            now.seconds()
        ],
    )?;
    Ok(())
}

/// Takes up the proofs of a check-in. Proofs of keys already proven are ignored; a wrong one, or one that was not asked
/// for, refuses the check-in. With a proof a group may get its key, or another one.
pub(crate) fn accept(
    tx: &Tx<'_>,
    id: ConnectorId,
    proofs: &[PossessionProof],
    now: Timestamp,
) -> Result<(), ErrorCode> {
    if proofs.is_empty() {
        return Ok(());
    }
    let failed = |error: StoreError| {
        tracing::error!(%error, "the issuer's database failed");
        ErrorCode::InternalError
    };
    let connector = id.to_string();
    let (tenant, group) =
        home(tx, &connector).map_err(failed)?.ok_or(ErrorCode::ConnectorRevoked)?;
    for proof in proofs {
        let key = proof.key();
        let asked = asked(tx, &connector, key).map_err(failed)?;
        let asked = asked.ok_or(ErrorCode::ProofNotAccepted)?;
        if asked.proven {
            continue;
        }
        let expected: PossessionProof =
            serde_json::from_str(&asked.proof).map_err(|_| ErrorCode::InternalError)?;
        if !proof.is(&expected) {
            return Err(ErrorCode::ProofNotAccepted);
        }
        // Whoever is asked first need not be the first to prove.
        let taken = keys::take(tx, key, &tenant, &group, KeyPurpose::Decryption).map_err(failed)?;
        if !taken {
            return Err(ErrorCode::KeyNotAccepted);
        }
        tx.execute(
            "UPDATE possession SET proven_at = ?3 WHERE connector = ?1 AND key_id = ?2",
            values![&connector, key.as_bytes(), now.seconds()],
        )
        .map_err(failed)?;
        if asked.renewal {
            keys::renewed(tx, &tenant, &group, &asked.key, &connector, now).map_err(failed)?;
            renewals::done(tx, id, RenewalSubject::Decryption, now).map_err(failed)?;
        } else {
            keys::settle(tx, &tenant, &group, now).map(drop).map_err(failed)?;
        }
    }
    Ok(())
}

/// What a connector was asked to prove.
struct Asked {
    key: SpkiDer,
    proof: String,
    proven: bool,
    renewal: bool,
}

fn asked(tx: &Tx<'_>, connector: &str, key: KeyId) -> Result<Option<Asked>, StoreError> {
    tx.one(
        "SELECT public_key, proof, proven_at, answer FROM possession \
         WHERE connector = ?1 AND key_id = ?2",
        values![connector, key.as_bytes()],
        |row| {
            let der: Vec<u8> = row.get(0)?;
            Ok(Asked {
                key: SpkiDer::parse(&der).map_err(|_| StoreError::Column { column: 0 })?,
                proof: row.get(1)?,
                proven: row.get::<Option<i64>>(2)?.is_some(),
                renewal: row.get::<Option<String>>(3)?.is_some(),
            })
        },
    )
}

fn home(tx: &Tx<'_>, connector: &str) -> Result<Option<(TenantId, GatewayGroupId)>, StoreError> {
    tx.one("SELECT tenant, gateway_group FROM connector WHERE id = ?1", values![connector], |row| {
        let (tenant, group): (String, String) = (row.get(0)?, row.get(1)?);
        let tenant = TenantId::new(tenant).map_err(|_| StoreError::Column { column: 0 })?;
        let group = GatewayGroupId::new(group).map_err(|_| StoreError::Column { column: 1 })?;
        Ok((tenant, group))
    })
}
