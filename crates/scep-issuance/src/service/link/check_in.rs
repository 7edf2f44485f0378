//! What a connector is told.
//!
//! A check-in is heard in one transaction and answered in another, which gives the answer its number; in between the
//! connector waits until there is something that it is not known to know. What that is, is looked up each time anew,
//! as is who the connector is by now: it may have been confirmed or revoked while it waited.
//!
//! A connector that no operator has confirmed is told the issuer's keys, its log level, and what concerns its own keys
//! and ledger; nothing of the tenant's devices, users, profiles and certificates (PROTOCOL.md, 3, point 4: challenges
//! are not made for it, so there is nothing that it would have to refuse or revoke).

use crate::service::db::{Tx, values};
use crate::service::link::answer::Refusal;
use crate::service::link::caller::{Caller, Received};
use crate::service::link::contact::{self, Contact, LISTING};
use crate::service::link::issuer_keys::{self, IssuerKeys, Role};
use crate::service::link::told;
use crate::service::{Service, changes, denials, orders, renewals};
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use core::pin::pin;
use core::time::Duration;
use scep_link::{
    CheckInRequest, Commands, DenialChanges, ErrorCode, LedgerBinding, MAX_ORDERS, RevocationOrder,
    V1, seal_commands,
};
use scep_types::{ConnectorId, Signer, TenantId, Timestamp};
use sha2::{Digest as _, Sha256};
use std::sync::Arc;

/// How long an answer counts.
const LIFETIME: Duration = Duration::from_secs(5 * 60);

pub(crate) async fn check_in(
    State(service): State<Service>,
    caller: Caller,
    Received(request): Received<CheckInRequest>,
) -> Result<Response, Refusal> {
    let sealed = hear(&service, caller.connector, request).await?;
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/cms")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    Ok((headers, sealed).into_response())
}

fn taken_over() -> Refusal {
    Refusal::new(ErrorCode::Unavailable, "another check-in of this connector has taken over")
}

/// Hears a connector and answers when there is something to say, or when it has waited as long as it wanted to.
pub(super) async fn hear(
    service: &Service,
    connector: ConnectorId,
    request: CheckInRequest,
) -> Result<Vec<u8>, Refusal> {
    if request.connector != connector {
        let why = "the message is another connector's than the certificate";
        return Err(Refusal::new(ErrorCode::ConnectorMismatch, why));
    }
    let turn = service.turns.take(connector);
    let mut patience =
        pin!(tokio::time::sleep(Duration::from_secs(u64::from(request.wait_seconds))));
    let request = Arc::new(request);
    let now = service.clock.now();
    let heard = Arc::clone(&request);
    let arrival = service.store.write(move |tx| contact::heard(tx, &heard, now)).await?;
    loop {
        // Listens first and looks then, so that what changes in between rings.
        let mut bell = service.bell.listen(&service.store);
        let (heard, keys, now) = (Arc::clone(&request), service.keys(), service.clock.now());
        let told = service.store.read(move |tx| Told::gather(tx, &heard, &keys, now)).await?;
        if told.contact.arrivals != arrival {
            return Err(taken_over());
        }
        if told.news {
            break;
        }
        tokio::select! {
            () = bell.rings(&told.member.tenant, told.counter) => {}
            () = turn.over() => return Err(taken_over()),
            () = service.stop.cancelled() => break,
            () = patience.as_mut() => break,
        }
    }
    let (keys, now) = (service.keys(), service.clock.now());
    let (commands, key) = service
        .store
        .write(move |tx| {
            let told = Told::gather(tx, &request, &keys, now)?;
            if told.contact.arrivals != arrival {
                return Err(taken_over());
            }
            told.commit(tx, &request, &keys, now)
        })
        .await?;
    let sealing = tokio::task::spawn_blocking(move || seal_commands(&commands, key.as_ref()));
    let sealed = sealing.await.map_err(|error| Refusal::new(ErrorCode::InternalError, error))?;
    sealed.map_err(|error| {
        tracing::error!(%connector, %error, "an answer could not be signed");
        Refusal::new(ErrorCode::InternalError, "the issuer's log has the cause")
    })
}

/// A connector as it is now.
struct Member {
    tenant: TenantId,
    confirmed: bool,
    ledger: LedgerBinding,
}

impl Member {
    fn find(tx: &Tx<'_>, request: &CheckInRequest) -> Result<Self, Refusal> {
        type Found = (String, String, String, Option<String>);
        let found: Option<Found> = tx.one(
            "SELECT connector.tenant, membership, standing, gateway_group.ledger \
             FROM connector LEFT JOIN gateway_group \
             ON gateway_group.tenant = connector.tenant \
             AND gateway_group.id = connector.gateway_group WHERE connector.id = ?1",
            values![&request.connector.to_string()],
            |row| Ok::<_, Refusal>((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)),
        )?;
        let unknown = || Refusal::new(ErrorCode::CertificateNotAccepted, "no such connector");
        let (tenant, membership, standing, ledger) = found.ok_or_else(unknown)?;
        let refuse = |code, why: &str| Err(Refusal::new(code, why));
        match (standing.as_str(), membership.as_str()) {
            ("active", "confirmed" | "awaiting-operator") => {}
            ("cloned", _) => return refuse(ErrorCode::ConnectorCloned, "there are two of it"),
            _ => return refuse(ErrorCode::ConnectorRevoked, "it is no connector any more"),
        }
        let stored = |error| Refusal::new(ErrorCode::InternalError, error);
        let own = request.ledger.to_string();
        Ok(Self {
            tenant: TenantId::new(tenant).map_err(stored)?,
            confirmed: membership == "confirmed",
            ledger: if ledger.is_none_or(|ledger| ledger == own) {
                LedgerBinding::This
            } else {
                LedgerBinding::Another
            },
        })
    }
}

/// What there is to tell a connector, and what of it is not known to it.
pub(super) struct Told {
    member: Member,
    contact: Contact,
    /// The tenant's counter when this was gathered.
    counter: i64,
    pub(super) news: bool,
    /// Everything but the number.
    commands: Commands,
    /// By topic, what is told until it is known.
    sent: Vec<(String, String)>,
    /// Topics that are over.
    over: Vec<&'static str>,
}

impl Told {
    pub(super) fn gather(
        tx: &Tx<'_>,
        request: &CheckInRequest,
        keys: &IssuerKeys,
        now: Timestamp,
    ) -> Result<Self, Refusal> {
        let member = Member::find(tx, request)?;
        let (tenant, id) = (&member.tenant, request.connector.to_string());
        let counter = changes::counter(tx, tenant)?;
        let contact = Contact::find(tx, &id)?;
        let known = told::known(tx, &id)?;
        let mut sent = Vec::new();
        let signer_keys = issuer_keys::changes(keys, Role::Signing, &known, now, &mut sent);
        let command_keys = issuer_keys::changes(keys, Role::Command, &known, now, &mut sent);
        let mut news = false;
        let (mut denials, mut revocations) = (nothing_since(request.denial_cursor), Vec::new());
        let (mut over, mut cursor) = (Vec::new(), Some(request.denial_cursor));
        let told =
            |to: u64, complete: bool| format!("{to} {}", if complete { "all" } else { "part" });
        let listing = known.get(LISTING);
        let listed = listing.is_some_and(|text| *text == told(request.denial_cursor, true));
        if let Some(text) = listing
            && !listed
            && *text != told(request.denial_cursor, false)
        {
            cursor = None;
        }
        if member.confirmed {
            (denials, news) = denials::since(tx, tenant, cursor)?;
            if listed {
                over.push(LISTING);
            } else if listing.is_some() {
                sent.push((LISTING.to_owned(), told(denials.to, denials.complete)));
            }
        }
        let (mut outbox_acknowledged, mut unheard) = (0, false);
        if member.ledger == LedgerBinding::This {
            outbox_acknowledged = contact::acknowledged(tx, tenant, request.ledger)?;
            if member.confirmed {
                (revocations, unheard) = orders::open(tx, tenant, request.ledger, MAX_ORDERS)?;
            }
        }
        let mut once = |topic: &str, content: String, silence: &str| {
            let told = known.get(topic).map_or(silence, String::as_str);
            if told != content {
                sent.push((topic.to_owned(), content));
            }
        };
        if unheard {
            // Told at once, but once: until its results come it is repeated with other news.
            once("revocations", digest(&revocations), "");
        }
        // What is reported while this check-in waits tells nothing of a backup.
        let had = contact.acknowledged.map_or(outbox_acknowledged, |had| {
            u64::try_from(had).unwrap_or_default().min(outbox_acknowledged)
        });
        let behind = request.outbox_high_mark < had;
        if behind {
            once("restored", outbox_acknowledged.to_string(), "");
        }
        let renewals = renewals::open(tx, request.connector)?;
        for order in &renewals {
            once(&format!("renewal {}", order.order), order.by.seconds().to_string(), "");
        }
        let level = contact.log_level.map_or("as-configured", contact::level_name);
        once("log-level", level.to_owned(), "as-configured");
        let binding = match member.ledger {
            LedgerBinding::This => "this",
            LedgerBinding::Another => "another",
        };
        once("ledger", binding.to_owned(), "this");
        // What is over is news when it comes again.
        for (topic, there) in [("revocations", unheard), ("restored", behind)] {
            if !there && known.contains_key(topic) {
                over.push(topic);
            }
        }
        let commands = Commands {
            v: V1,
            tenant: tenant.clone(),
            connector: request.connector,
            nonce: request.nonce,
            sequence: 0,
            issued_at: now,
            expires_at: now.plus(LIFETIME),
            signer_keys,
            command_keys,
            denials,
            revocations,
            renewals,
            log_level: contact.log_level,
            outbox_acknowledged,
            ledger: member.ledger,
        };
        let news = news || !sent.is_empty();
        Ok(Self { member, contact, counter, news, commands, sent, over })
    }

    /// Gives the answer its number and the key that signs it, and remembers what it carries.
    fn commit(
        mut self,
        tx: &Tx<'_>,
        request: &CheckInRequest,
        keys: &IssuerKeys,
        now: Timestamp,
    ) -> Result<(Commands, Arc<dyn Signer>), Refusal> {
        let id = request.connector.to_string();
        let known = told::known(tx, &id)?;
        let key = issuer_keys::command_key(keys, &known, now).ok_or_else(|| {
            tracing::error!("no command key is valid now");
            Refusal::new(ErrorCode::InternalError, "the issuer's log has the cause")
        })?;
        let last = contact::last_sequence(request)?;
        let sequence = self.contact.sequence.max(last).saturating_add(1);
        tx.execute(
            "UPDATE connector_contact SET sequence = ?2 WHERE connector = ?1",
            values![&id, sequence],
        )?;
        told::send(tx, &id, sequence, &self.sent)?;
        for topic in &self.over {
            told::forget(tx, &id, topic)?;
        }
        self.commands.sequence = u64::try_from(sequence).unwrap_or(0);
        Ok((self.commands, key))
    }
}

/// Which orders these are.
fn digest(orders: &[RevocationOrder]) -> String {
    let hash = Sha256::new();
    let hash = orders.iter().fold(hash, |hash, order| hash.chain_update(order.order.as_bytes()));
    hex::encode(hash.finalize())
}

/// No denials for whoever is not to know any: its cursor stays.
const fn nothing_since(cursor: u64) -> DenialChanges {
    DenialChanges {
        from: cursor,
        to: cursor,
        added: Vec::new(),
        removed: Vec::new(),
        complete: true,
    }
}
