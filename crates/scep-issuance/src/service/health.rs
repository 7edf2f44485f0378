//! `/healthz`: whether the service can answer, and nothing else, since it asks for no token.

use crate::service::Service;
use crate::service::db::values;
use crate::service::store::StoreError;
use axum::extract::State;
use axum::http::StatusCode;

/// 200 `ok` when the database answers; otherwise 503 `not ok`, and the log has the cause.
pub(crate) async fn health(State(service): State<Service>) -> (StatusCode, &'static str) {
    let asked: Result<bool, StoreError> =
        service.store.read(|tx| tx.exists("SELECT 1", values![])).await;
    match asked {
        Ok(true) => (StatusCode::OK, "ok\n"),
        Ok(false) => (StatusCode::SERVICE_UNAVAILABLE, "not ok\n"),
        Err(error) => {
            tracing::error!(%error, "the issuer's database failed");
            (StatusCode::SERVICE_UNAVAILABLE, "not ok\n")
        }
    }
}
