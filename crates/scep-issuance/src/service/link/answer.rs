//! Successes and problems as the protocol has them.

use crate::service::store::StoreError;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use scep_link::{ErrorCode, Message, Problem};

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    code: ErrorCode,
    detail: String,
}

impl Refusal {
    pub(crate) fn new(code: ErrorCode, detail: impl core::fmt::Display) -> Self {
        Self { code, detail: detail.to_string() }
    }

    #[cfg(test)]
    pub(crate) const fn code(&self) -> ErrorCode {
        self.code
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Overloaded => Self::new(ErrorCode::Unavailable, "the issuer is busy"),
            error => {
                tracing::error!(%error, "the issuer's database failed");
                // A connector repeats what it does not know to be done, and then it is done once.
                let code = match error {
                    StoreError::Away { .. } | StoreError::Uncertain { .. } => {
                        ErrorCode::Unavailable
                    }
                    _ => ErrorCode::InternalError,
                };
                Self::new(code, "the issuer's log has the cause")
            }
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status =
            StatusCode::from_u16(self.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        tracing::warn!(code = self.code.code(), detail = self.detail, "connector refused");
        let body = Problem::new(self.code, Some(&self.detail)).write();
        let json = HeaderValue::from_static("application/problem+json");
        (status, [(header::CONTENT_TYPE, json)], body).into_response()
    }
}

/// A success.
pub(crate) struct Success<M>(pub(crate) M);

impl<M: Message> IntoResponse for Success<M> {
    fn into_response(self) -> Response {
        match scep_link::write(&self.0) {
            Ok(body) => {
                let json = HeaderValue::from_static("application/json");
                (StatusCode::OK, [(header::CONTENT_TYPE, json)], body).into_response()
            }
            Err(error) => Refusal::new(ErrorCode::InternalError, error).into_response(),
        }
    }
}

/// A success that was written already, and perhaps answered before.
pub(crate) struct Verbatim(pub(crate) Vec<u8>);

impl IntoResponse for Verbatim {
    fn into_response(self) -> Response {
        let json = HeaderValue::from_static("application/json");
        (StatusCode::OK, [(header::CONTENT_TYPE, json)], self.0).into_response()
    }
}
