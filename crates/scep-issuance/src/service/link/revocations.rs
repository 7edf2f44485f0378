//! What became of revocation orders.

use crate::service::Service;
use crate::service::alarms::{self, AlarmKind};
use crate::service::db::Tx;
use crate::service::link::answer::{Refusal, Success};
use crate::service::link::caller::{Caller, Received};
use crate::service::link::reports::{AWAITING, Source};
use crate::service::orders;
use crate::service::store::StoreError;
use axum::extract::State;
use scep_link::{ErrorCode, RevocationRecorded, RevocationResults, V1};
use scep_types::Timestamp;

/// `POST /connector/v1/revocations`.
pub(crate) async fn results(
    State(service): State<Service>,
    caller: Caller,
    Received(results): Received<RevocationResults>,
) -> Result<Success<RevocationRecorded>, Refusal> {
    caller.speaks_as(results.connector)?;
    if !caller.confirmed {
        return Err(Refusal::new(ErrorCode::Unavailable, AWAITING));
    }
    let now = service.clock.now();
    let source = Source::of(&caller);
    let recorded = service.store.write(move |tx| record(tx, &source, &results, now)).await??;
    Ok(Success(RevocationRecorded { v: V1, code: scep_link::Success, recorded }))
}

/// Records what a gateway says about orders. Gives how many: all.
pub(crate) fn record(
    tx: &Tx<'_>,
    source: &Source,
    results: &RevocationResults,
    now: Timestamp,
) -> Result<Result<u32, Refusal>, StoreError> {
    let tenant = &source.tenant;
    let ledger = results.ledger.to_string();
    if !source.has(tx, results.ledger)? {
        let detail = format!("ledger {ledger} is not the one of group {}", source.group);
        let subject = results.connector.to_string();
        alarms::raise(tx, tenant, AlarmKind::ForeignLedger, &subject, &detail, now)?;
        return Ok(Err(Refusal::new(ErrorCode::LedgerNotAccepted, detail)));
    }
    for result in &results.results {
        orders::record(tx, tenant, results.ledger, result, now)?;
    }
    Ok(Ok(u32::try_from(results.results.len()).unwrap_or(u32::MAX)))
}
