//! Which connector has sent a request, by its TLS certificate.

use crate::service::Service;
use crate::service::alarms::{self, AlarmKind};
use crate::service::db::{Tx, values};
use crate::service::link::Link;
use crate::service::link::answer::Refusal;
use crate::service::renewals;
use crate::service::store::StoreError;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::header;
use axum::http::request::Parts;
use core::time::Duration;
use scep_link::{ErrorCode, Message, MessageError, RenewalSubject};
use scep_types::{CertificateDer, ConnectorId, GatewayGroupId, LedgerId, TenantId, Timestamp};
use std::sync::Arc;

/// How long a message may take to arrive.
const BODY_TIME: Duration = Duration::from_secs(30);

/// How a connection is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Tls,
    /// Not at all; on loopback.
    Plain,
}

/// The certificate with which the peer of this connection has proven itself; put into each request's extensions by the
/// listener. Its chain to the connector CA and its validity were verified; whose it is was not.
#[derive(Clone, Debug)]
pub(crate) struct PeerCertificate {
    pub(crate) certificate: Option<CertificateDer>,
    pub(crate) transport: Transport,
    /// When the connection was made.
    pub(crate) since: Timestamp,
}

impl Service {
    /// What is needed to speak with connectors.
    pub(crate) fn link(&self) -> Result<&Arc<Link>, Refusal> {
        let none = || Refusal::new(ErrorCode::Unavailable, "this issuer serves no connectors");
        self.link.as_ref().ok_or_else(none)
    }
}

/// A request over TLS to an issuer that serves connectors.
pub(crate) struct Encrypted(pub(crate) PeerCertificate);

impl FromRequestParts<Service> for Encrypted {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, service: &Service) -> Result<Self, Refusal> {
        service.link()?;
        let peer = parts.extensions.get::<PeerCertificate>();
        match peer {
            Some(peer) if peer.transport == Transport::Tls => Ok(Self(peer.clone())),
            _ => Err(Refusal::new(
                ErrorCode::CertificateNotAccepted,
                "this connection has no TLS: connectors are served over TLS alone, and a proxy must pass it through",
            )),
        }
    }
}

/// The connector that has sent a request: known, active, with its present certificate.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) connector: ConnectorId,
    pub(crate) tenant: TenantId,
    pub(crate) group: GatewayGroupId,
    pub(crate) ledger: LedgerId,
    /// Whether an operator has confirmed it.
    pub(crate) confirmed: bool,
    /// The certificate that was used.
    pub(crate) certificate: CertificateDer,
}

impl Caller {
    /// That a message of this connector is the caller's own.
    pub(crate) fn speaks_as(&self, connector: ConnectorId) -> Result<(), Refusal> {
        if self.connector == connector {
            return Ok(());
        }
        let why = format!("the certificate is that of connector {}", self.connector);
        Err(Refusal::new(ErrorCode::ConnectorMismatch, why))
    }
}

impl FromRequestParts<Service> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, service: &Service) -> Result<Self, Refusal> {
        let Encrypted(peer) = Encrypted::from_request_parts(parts, service).await?;
        let refuse = |why: &str| Refusal::new(ErrorCode::CertificateNotAccepted, why);
        let certificate = peer.certificate.ok_or_else(|| {
            refuse("no client certificate: enrol first, and let no proxy open the connection")
        })?;
        // The handshake has seen to it; a connection may live longer than its certificate.
        let now = service.clock.now();
        if now > certificate.not_after() {
            return Err(refuse("the certificate has expired: enrol again"));
        }
        let (known, since) = (certificate.clone(), peer.since);
        let seen = service.store.read(move |tx| look(tx, &known, since)).await?;
        match seen {
            Seen::Caller(caller) => Ok(*caller),
            Seen::Refused(refusal) => Err(refusal),
            // Both change something.
            Seen::New | Seen::Replaced => {
                let done = move |tx: &Tx<'_>| act(tx, &certificate, since, now);
                service.store.write(done).await?
            }
        }
    }
}

/// What a certificate tells about its holder.
enum Seen {
    Caller(Box<Caller>),
    Refused(Refusal),
    /// It was not used before.
    New,
    /// Another one is in use in its place.
    Replaced,
}

fn look(tx: &Tx<'_>, certificate: &CertificateDer, since: Timestamp) -> Result<Seen, StoreError> {
    let found = tx.one(
        "SELECT t.state, t.replaced_at, c.id, c.tenant, c.gateway_group, c.ledger, c.membership, \
         c.standing FROM connector_certificate t JOIN connector c ON c.id = t.connector \
         WHERE t.fingerprint = ?1",
        values![certificate.fingerprint().as_bytes()],
        |row| {
            let (connector, tenant): (String, String) = (row.get(2)?, row.get(3)?);
            let (group, ledger): (String, String) = (row.get(4)?, row.get(5)?);
            let bad = |column| StoreError::Column { column };
            let membership: String = row.get(6)?;
            let caller = Caller {
                connector: ConnectorId::from_hex(&connector).ok_or_else(|| bad(2))?,
                tenant: TenantId::new(tenant).map_err(|_| bad(3))?,
                group: GatewayGroupId::new(group).map_err(|_| bad(4))?,
                ledger: LedgerId::from_hex(&ledger).ok_or_else(|| bad(5))?,
                confirmed: membership == "confirmed",
                certificate: certificate.clone(),
            };
            let state: (String, Option<i64>) = (row.get(0)?, row.get(1)?);
            Ok::<_, StoreError>((state, caller, membership, row.get::<String>(7)?))
        },
    )?;
    let refused = |code, why: &str| Ok(Seen::Refused(Refusal::new(code, why)));
    let Some(((state, replaced_at), caller, membership, standing)) = found else {
        let why = "the certificate is of no connector that is known here";
        return refused(ErrorCode::CertificateNotAccepted, why);
    };
    if membership == "left" || standing == "revoked" {
        let why = "this gateway was removed: enrol again, with a new token";
        return refused(ErrorCode::ConnectorRevoked, why);
    }
    if standing != "active" {
        return Ok(Seen::Refused(cloned()));
    }
    match state.as_str() {
        "present" => Ok(Seen::Caller(Box::new(caller))),
        "new" => Ok(Seen::New),
        // A connection from before is its holder's own, that has not changed over yet.
        _ if replaced_at.is_some_and(|at| since.seconds() <= at) => refused(
            ErrorCode::Unavailable,
            "the certificate of this connection was replaced: connect with the new one",
        ),
        _ => Ok(Seen::Replaced),
    }
}

fn cloned() -> Refusal {
    let why = "two holders of this connector's keys were seen: an operator must decide";
    Refusal::new(ErrorCode::ConnectorCloned, why)
}

/// Takes a new certificate into use, or notes that there are two holders. Committed either way.
fn act(
    tx: &Tx<'_>,
    certificate: &CertificateDer,
    since: Timestamp,
    now: Timestamp,
) -> Result<Result<Caller, Refusal>, StoreError> {
    let fingerprint = certificate.fingerprint();
    let sql = "SELECT c.id, c.tenant FROM connector_certificate t \
               JOIN connector c ON c.id = t.connector WHERE t.fingerprint = ?1";
    let owner = tx.one(sql, values![fingerprint.as_bytes()], |row| {
        let tenant = TenantId::new(row.get::<String>(1)?);
        Ok::<_, StoreError>((row.get(0)?, tenant.map_err(|_| StoreError::Column { column: 1 })?))
    })?;
    let (owner, tenant): (String, TenantId) = owner.ok_or(StoreError::Reference)?;
    // One after the other, wherever several processes serve.
    tx.execute("UPDATE connector SET id = id WHERE id = ?1", values![&owner])?;
    match look(tx, certificate, since)? {
        Seen::Caller(caller) => return Ok(Ok(*caller)),
        Seen::Refused(refusal) => return Ok(Err(refusal)),
        Seen::Replaced => {
            tx.execute("UPDATE connector SET standing = 'cloned' WHERE id = ?1", values![&owner])?;
            let detail = format!("the replaced certificate {fingerprint} was used");
            alarms::raise(tx, &tenant, AlarmKind::ConnectorCloned, &owner, &detail, now)?;
            return Ok(Err(cloned()));
        }
        Seen::New => {}
    }
    tx.execute(
        "UPDATE connector_certificate SET state = 'past', replaced_at = ?2 \
         WHERE connector = ?1 AND state = 'present'",
        values![&owner, now.seconds()],
    )?;
    tx.execute(
        "UPDATE connector_certificate SET state = 'present' WHERE fingerprint = ?1",
        values![fingerprint.as_bytes()],
    )?;
    if let Some(connector) = ConnectorId::from_hex(&owner) {
        renewals::done(tx, connector, RenewalSubject::Authentication, now)?;
    }
    tracing::info!(connector = owner, %fingerprint, "the connector's new certificate is in use");
    Ok(match look(tx, certificate, since)? {
        Seen::Caller(caller) => Ok(*caller),
        Seen::Refused(refusal) => Err(refusal),
        Seen::New | Seen::Replaced => {
            Err(Refusal::new(ErrorCode::InternalError, "the certificate could not be taken up"))
        }
    })
}

/// A message in a request's body, read by the protocol's rules.
pub(crate) struct Received<M>(pub(crate) M);

impl<M: Message> FromRequest<Service> for Received<M> {
    type Rejection = Refusal;

    async fn from_request(request: Request, _: &Service) -> Result<Self, Refusal> {
        let media = request.headers().get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok());
        let media = media.and_then(|text| text.split(';').next()).map(str::trim);
        if !media.is_some_and(|media| media.eq_ignore_ascii_case("application/json")) {
            let why = "the media type is not application/json";
            return Err(Refusal::new(ErrorCode::RequestMalformed, why));
        }
        let too_large = || {
            let why = format!("more than {} octets", M::MAX_BYTES);
            Refusal::new(ErrorCode::RequestTooLarge, why)
        };
        let body = axum::body::to_bytes(request.into_body(), M::MAX_BYTES);
        let body = tokio::time::timeout(BODY_TIME, body)
            .await
            .map_err(|_| Refusal::new(ErrorCode::Unavailable, "the message took too long"))?
            .map_err(|error| {
                if error.into_inner().is::<http_body_util::LengthLimitError>() {
                    too_large()
                } else {
                    Refusal::new(ErrorCode::RequestMalformed, "the message broke off")
                }
            })?;
        scep_link::read(&body).map(Self).map_err(|error| match error {
            MessageError::Oversize { .. } => too_large(),
            MessageError::Version { .. } => Refusal::new(ErrorCode::VersionNotServed, error),
            error => Refusal::new(ErrorCode::RequestMalformed, error),
        })
    }
}
