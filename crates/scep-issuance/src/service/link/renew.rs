//! A connector renews a key.

use crate::service::Service;
use crate::service::db::{Tx, values};
use crate::service::link::answer::{Refusal, Verbatim};
use crate::service::link::caller::{Caller, Received};
use crate::service::link::enrol::{
    certify, chain, fresh_authentication_key, keep_certificate, proven_key,
    take_authentication_key, unchallenged,
};
use crate::service::link::keys::{self, Group};
use crate::service::link::{Link, possession};
use crate::service::store::StoreError;
use axum::extract::State;
use scep_link::{
    ErrorCode, Pkcs10Der, PossessionProof, ProvenRenewal, RenewRequest, RenewResponse, Renewal,
    RenewalError, Renewed, Success,
};
use scep_types::{CertificateDer, SpkiDer, Timestamp};

pub(crate) async fn renew(
    State(service): State<Service>,
    caller: Caller,
    Received(request): Received<RenewRequest>,
) -> Result<Verbatim, Refusal> {
    caller.speaks_as(request.connector)?;
    let proven = ProvenRenewal::check(
        request,
        &caller.tenant,
        caller.connector,
        caller.certificate.spki(),
        service.clock.now(),
        service.provider.as_ref(),
    )
    .map_err(|error| match error {
        RenewalError::UnsuitableKey | RenewalError::SameKey => {
            Refusal::new(ErrorCode::KeyNotAccepted, error)
        }
        error => Refusal::new(ErrorCode::ProofNotAccepted, error),
    })?;
    match proven.renewal() {
        Renewal::Authentication { certificate_request } => {
            authentication(&service, caller, certificate_request).await
        }
        Renewal::Decryption { key } => decryption(&service, caller, key.clone()).await,
    }
    .map(Verbatim)
}

fn written(renewed: Renewed) -> Result<Vec<u8>, Refusal> {
    let response = RenewResponse { v: scep_link::V1, code: Success, renewed };
    scep_link::write(&response).map_err(|error| Refusal::new(ErrorCode::InternalError, error))
}

/// What the caller was when its request came may have changed since.
fn still_present(tx: &Tx<'_>, caller: &Caller) -> Result<(), Refusal> {
    let id = caller.connector.to_string();
    // Of several renewals one after the other.
    tx.execute("UPDATE connector SET id = id WHERE id = ?1", values![&id])?;
    let present = tx.exists(
        "SELECT 1 FROM connector c JOIN connector_certificate t ON t.connector = c.id \
         WHERE c.id = ?1 AND c.membership <> 'left' AND c.standing = 'active' \
         AND t.fingerprint = ?2 AND t.state = 'present'",
        values![&id, caller.certificate.fingerprint().as_bytes()],
    )?;
    if present {
        return Ok(());
    }
    Err(Refusal::new(ErrorCode::Unavailable, "the connector has changed meanwhile: connect anew"))
}

async fn authentication(
    service: &Service,
    caller: Caller,
    request: &Pkcs10Der,
) -> Result<Vec<u8>, Refusal> {
    let (link, now) = (service.link()?, service.clock.now());
    let key = proven_key(service, request.as_der(), &keys::ours(service))?;
    let made = certify(link, &caller.tenant, caller.connector, &key, now)?;
    let work = move |tx: &Tx<'_>| place(tx, &caller, &key, made, now);
    let certificate = service.store.write(work).await?;
    renewed_authentication(link, &certificate)
}

fn renewed_authentication(link: &Link, certificate: &CertificateDer) -> Result<Vec<u8>, Refusal> {
    written(Renewed::Authentication { certificate_chain: chain(link, certificate) })
}

/// Puts the new certificate beside the present one. The same key has its certificate already.
fn place(
    tx: &Tx<'_>,
    caller: &Caller,
    key: &SpkiDer,
    made: CertificateDer,
    now: Timestamp,
) -> Result<CertificateDer, Refusal> {
    still_present(tx, caller)?;
    let id = caller.connector.to_string();
    let earlier: Option<Vec<u8>> = tx.one(
        "SELECT der FROM connector_certificate \
         WHERE connector = ?1 AND state = 'new' AND key_id = ?2",
        values![&id, key.key_id().as_bytes()],
        |row| row.get::<Vec<u8>>(0),
    )?;
    if let Some(der) = earlier {
        let bad = |_| Refusal::from(StoreError::Column { column: 0 });
        return CertificateDer::parse(&der).map_err(bad);
    }
    fresh_authentication_key(tx, key.key_id())?;
    // A key whose certificate never arrived, or somebody else's: if that is used now there are two holders.
    tx.execute(
        "UPDATE connector_certificate SET state = 'past', replaced_at = ?2 \
         WHERE connector = ?1 AND state = 'new'",
        values![&id, now.seconds()],
    )?;
    take_authentication_key(tx, key.key_id(), &caller.tenant, &caller.group)?;
    keep_certificate(tx, caller.connector, &made, "new")?;
    Ok(made)
}

async fn decryption(service: &Service, caller: Caller, key: SpkiDer) -> Result<Vec<u8>, Refusal> {
    if !caller.confirmed {
        let why = "an operator has not confirmed this gateway yet: its key is not the group's";
        return Err(Refusal::new(ErrorCode::GroupNotAllowed, why));
    }
    keys::suitable("the decryption key", &key, &keys::ours(service))?;
    let now = service.clock.now();
    let (provider, connector) = (service.provider.as_ref(), caller.connector);
    let (challenge, proof) = scep_link::challenge(provider, &key, &caller.tenant, connector)
        .map_err(|error| unchallenged(&error))?;
    let renewed = Renewed::Decryption { key: key.key_id(), possession_challenge: challenge };
    let answer = written(renewed)?;
    service.store.write(move |tx| ask(tx, &caller, &key, answer, &proof, now)).await
}

/// Keeps what proves the key. It is the group's once that has come.
fn ask(
    tx: &Tx<'_>,
    caller: &Caller,
    key: &SpkiDer,
    answer: Vec<u8>,
    proof: &PossessionProof,
    now: Timestamp,
) -> Result<Vec<u8>, Refusal> {
    still_present(tx, caller)?;
    let (id, key_id) = (caller.connector.to_string(), key.key_id());
    let earlier: Option<Option<String>> = tx.one(
        "SELECT answer FROM possession WHERE connector = ?1 AND key_id = ?2",
        values![&id, key_id.as_bytes()],
        |row| row.get::<Option<String>>(0),
    )?;
    let refuse = |why: &str| Err(Refusal::new(ErrorCode::KeyNotAccepted, why));
    let group = Group::lock(tx, &caller.tenant, &caller.group)?;
    let is_groups = group.is_some_and(|group| group.key.is_some_and(|k| k.key_id() == key_id));
    match earlier {
        Some(Some(earlier)) if is_groups || !keys::has_proven(tx, &id, key_id)? => {
            return Ok(earlier.into_bytes());
        }
        Some(_) => return refuse("the decryption key is or was in use: make a new one"),
        None => {}
    }
    // A key of the group that another member has brought is imported here; every other one is new.
    if keys::use_of(tx, key_id)?.is_some() && !is_groups {
        return refuse("the decryption key is or was in use: make a new one");
    }
    let text =
        String::from_utf8(answer).map_err(|error| Refusal::new(ErrorCode::InternalError, error))?;
    possession::expect(tx, caller.connector, key, Some(&text), proof, now)?;
    Ok(text.into_bytes())
}
