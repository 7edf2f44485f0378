//! Errors as they are answered: problem details of RFC 9457.

use crate::service::store::StoreError;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

/// What went wrong, for people and programs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Problem {
    /// Names the kind of problem: `urn:sceptic:problem:` and its kind.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// This case.
    pub detail: String,
    /// The field of the body, the path, the query or the header that is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub field: Option<String>,
}

/// Every kind of problem there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    BadRequest,
    Unauthenticated,
    WrongScope,
    NotFound,
    MethodNotAllowed,
    Timeout,
    Exists,
    InUse,
    BodyTooLarge,
    NotJson,
    BadField,
    IdempotencyKeyReused,
    UnknownDevice,
    DeviceDisabled,
    DeviceWiped,
    NotWiped,
    NotAssigned,
    UserDisabled,
    ProfileDisabled,
    UnknownProfile,
    UnknownUser,
    UnknownGroup,
    WhichGroup,
    CannotMint,
    SigningKeyNotKnown,
    ProfileUnreadable,
    GroupWithoutKey,
    ConnectorLeft,
    UnknownCertificate,
    NotHeld,
    Overloaded,
    DatabaseAway,
    Uncertain,
    Internal,
}

impl Kind {
    const fn parts(self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::BadRequest => {
                (StatusCode::BAD_REQUEST, "bad-request", "The request is malformed")
            }
            Self::Unauthenticated => {
                (StatusCode::UNAUTHORIZED, "unauthenticated", "A valid bearer token is needed")
            }
            Self::WrongScope => {
                (StatusCode::FORBIDDEN, "wrong-scope", "The token's scopes do not allow this")
            }
            Self::NotFound => (StatusCode::NOT_FOUND, "not-found", "There is no such resource"),
            Self::MethodNotAllowed => (
                StatusCode::METHOD_NOT_ALLOWED,
                "method-not-allowed",
                "The resource has no such method",
            ),
            Self::Timeout => {
                (StatusCode::REQUEST_TIMEOUT, "timeout", "The request did not arrive in time")
            }
            Self::Exists => (StatusCode::CONFLICT, "exists", "There is one with this id already"),
            Self::InUse => (StatusCode::CONFLICT, "in-use", "Something else refers to it"),
            Self::BodyTooLarge => {
                (StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", "The body is too large")
            }
            Self::NotJson => (
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "not-json",
                "The body must be application/json",
            ),
            Self::BadField => {
                (StatusCode::UNPROCESSABLE_ENTITY, "bad-field", "A value is not acceptable")
            }
            Self::IdempotencyKeyReused => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "idempotency-key-reused",
                "The idempotency key belongs to another request",
            ),
            Self::UnknownDevice => {
                (StatusCode::CONFLICT, "unknown-device", "The device is not known")
            }
            Self::DeviceDisabled => {
                (StatusCode::CONFLICT, "device-disabled", "The device is disabled")
            }
            Self::DeviceWiped => (StatusCode::CONFLICT, "device-wiped", "The device is wiped"),
            Self::NotWiped => (StatusCode::CONFLICT, "not-wiped", "The device is not wiped"),
            Self::UserDisabled => (StatusCode::CONFLICT, "user-disabled", "The user is disabled"),
            Self::ProfileDisabled => {
                (StatusCode::CONFLICT, "profile-disabled", "The profile is disabled")
            }
            Self::NotAssigned => (
                StatusCode::CONFLICT,
                "not-assigned",
                "The profile is assigned to neither the device nor the user",
            ),
            Self::UnknownProfile => {
                (StatusCode::CONFLICT, "unknown-profile", "The profile is not known")
            }
            Self::UnknownUser => (StatusCode::CONFLICT, "unknown-user", "The user is not known"),
            Self::UnknownGroup => {
                (StatusCode::CONFLICT, "unknown-group", "The gateway group is not known")
            }
            Self::WhichGroup => {
                (StatusCode::CONFLICT, "which-group", "The gateway group must be named")
            }
            Self::CannotMint => {
                (StatusCode::CONFLICT, "cannot-mint", "No challenge can be made of these values")
            }
            Self::SigningKeyNotKnown => (
                StatusCode::CONFLICT,
                "signing-key-not-known",
                "No valid signing key is known to every gateway of the group",
            ),
            Self::GroupWithoutKey => (
                StatusCode::CONFLICT,
                "group-without-key",
                "No confirmed gateway of the group has proven a decryption key",
            ),
            Self::ConnectorLeft => {
                (StatusCode::CONFLICT, "connector-left", "The gateway has left its group")
            }
            Self::ProfileUnreadable => (
                StatusCode::CONFLICT,
                "profile-unreadable",
                "The stored profile is none for this release",
            ),
            Self::UnknownCertificate => {
                (StatusCode::CONFLICT, "unknown-certificate", "There is no such certificate")
            }
            Self::NotHeld => {
                (StatusCode::CONFLICT, "not-held", "The brake does not hold this revocation")
            }
            Self::Overloaded => {
                (StatusCode::SERVICE_UNAVAILABLE, "overloaded", "Too much is going on; try again")
            }
            Self::DatabaseAway => (
                StatusCode::SERVICE_UNAVAILABLE,
                "database-away",
                "The database cannot be reached; try again",
            ),
            Self::Uncertain => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "uncertain",
                "It is unknown whether this was done; repeat it with the same idempotency key",
            ),
            Self::Internal => {
                (StatusCode::INTERNAL_SERVER_ERROR, "internal", "The issuer has failed")
            }
        }
    }
}

impl Problem {
    pub(crate) fn new(kind: Kind, detail: impl ToString) -> Self {
        let (status, name, title) = kind.parts();
        Self {
            kind: format!("urn:sceptic:problem:{name}"),
            title: title.to_owned(),
            status: status.as_u16(),
            detail: detail.to_string(),
            field: None,
        }
    }

    pub(crate) fn is(&self, kind: Kind) -> bool {
        self.kind == Self::new(kind, "").kind
    }

    pub(crate) fn at(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }

    /// A value that is not acceptable, by the field's name.
    pub(crate) fn field(field: &str, why: impl ToString) -> Self {
        Self::new(Kind::BadField, why).at(field)
    }

    pub(crate) fn not_found(what: &str) -> Self {
        Self::new(Kind::NotFound, format!("no such {what} in this tenant"))
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Overloaded => Self::new(Kind::Overloaded, "the database's queue is full"),
            // What the database says is for the log alone.
            error => {
                tracing::error!(%error, "the issuer's database failed");
                let kind = match error {
                    StoreError::Away { .. } => Kind::DatabaseAway,
                    StoreError::Uncertain { .. } => Kind::Uncertain,
                    _ => Kind::Internal,
                };
                Self::new(kind, "the log has the cause")
            }
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        let json = HeaderValue::from_static("application/problem+json");
        headers.insert(header::CONTENT_TYPE, json);
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        match status {
            StatusCode::UNAUTHORIZED => {
                let scheme = HeaderValue::from_static("Bearer realm=\"scep-issuer\"");
                headers.insert(header::WWW_AUTHENTICATE, scheme);
            }
            StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            _ => {}
        }
        response
    }
}
