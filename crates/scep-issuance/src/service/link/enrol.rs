//! A gateway becomes known.

use crate::service::Service;
use crate::service::db::{Tx, values};
use crate::service::link::Link;
use crate::service::link::answer::{Refusal, Verbatim};
use crate::service::link::caller::{Encrypted, Received};
use crate::service::link::issuer_keys::{IssuerKeys, introduce};
use crate::service::link::keys::{self, Group, KeyPurpose, Member, kind_name};
use crate::service::link::possession;
use crate::service::store::StoreError;
use axum::extract::State;
use core::time::Duration;
use scep_ca::{CertificateAuthority as _, InfrastructurePurpose};
use scep_link::{
    EnrolRequest, EnrolResponse, ErrorCode, LedgerKind, Membership, PossessionError,
    PossessionProof, Success,
};
use scep_pkcs10::{CsrError, Rules, UnprovenCsr};
use scep_types::{
    AttributeValue, CertificateDer, ConnectorId, DistinguishedName, GatewayGroupId, KeyId,
    LedgerId, NameError, ObjectIdentifier, Rdn, SpkiDer, SpkiHash, TenantId, Timestamp,
};
use sha2::{Digest as _, Sha256};
use std::sync::Arc;

/// How long a connector's certificate lives.
const CERTIFICATE_LIFE: Duration = Duration::from_secs(90 * 86_400);
/// For how long after its use a token gets the same answer again.
const REPEATS: Duration = Duration::from_secs(10 * 60);

pub(crate) async fn enrol(
    State(service): State<Service>,
    _: Encrypted,
    Received(request): Received<EnrolRequest>,
) -> Result<Verbatim, Refusal> {
    let link = service.link()?;
    let now = service.clock.now();
    // Before anything that costs: a guess gets no further.
    let hash = *request.token.hash().as_bytes();
    let token = service.store.read(move |tx| Token::read(tx, &hash)).await?;
    let tenant = token.filter(|token| token.may_count(now)).ok_or_else(not_accepted)?.tenant;

    let ours = keys::ours(&service);
    let key = proven_key(&service, request.certificate_request.as_der(), &ours)?;
    keys::suitable("the decryption key", &request.decryption_key, &ours)?;
    if key.key_id() == request.decryption_key.key_id() {
        let why = "one key cannot both authenticate and decrypt";
        return Err(Refusal::new(ErrorCode::KeyNotAccepted, why));
    }
    let connector = random_id(&service)?;
    let certificate = certify(link, &tenant, connector, &key, now)?;
    let (challenge, proof) = scep_link::challenge(
        service.provider.as_ref(),
        &request.decryption_key,
        &tenant,
        connector,
    )
    .map_err(|error| unchallenged(&error))?;
    let response = EnrolResponse {
        v: scep_link::V1,
        code: Success,
        connector,
        tenant: tenant.clone(),
        group: request.group.clone(),
        membership: Membership::AwaitingOperator,
        certificate_chain: chain(link, &certificate),
        tls_pins: link.tls_pins.clone(),
        signer_keys: Vec::new(),
        command_keys: Vec::new(),
        last_sequence: 0,
        possession_challenge: challenge,
    };
    let same = Sha256::new()
        .chain_update(key.as_der())
        .chain_update(request.decryption_key.as_der())
        .finalize()
        .into();
    let keys = service.keys();
    let wanted = Wanted { request, hash, same, tenant, key, certificate, proof, response, keys };
    service.store.write(move |tx| wanted.join(tx, now)).await.map(Verbatim)
}

/// One word for all, on purpose.
fn not_accepted() -> Refusal {
    Refusal::new(
        ErrorCode::TokenNotAccepted,
        "no such token, or it was used, withdrawn, or has expired: have a new one made",
    )
}

pub(crate) fn unchallenged(error: &PossessionError) -> Refusal {
    match error {
        PossessionError::Key(error) => {
            tracing::error!(%error, "no challenge of possession");
            Refusal::new(ErrorCode::InternalError, "the issuer's log has the cause")
        }
        error => Refusal::new(ErrorCode::KeyNotAccepted, error),
    }
}

fn random_id(service: &Service) -> Result<ConnectorId, Refusal> {
    let mut id = [0; 16];
    service
        .provider
        .random(&mut id)
        .map_err(|error| Refusal::new(ErrorCode::InternalError, error))?;
    Ok(ConnectorId::from_bytes(id))
}

/// The authentication key in a PKCS #10: suitable, and proven by the request's signature. Of the request nothing else
/// counts.
pub(crate) fn proven_key(
    service: &Service,
    der: &[u8],
    ours: &[SpkiHash],
) -> Result<SpkiDer, Refusal> {
    let unproven = UnprovenCsr::parse(der, &Rules::default()).map_err(|error| {
        Refusal::new(ErrorCode::RequestMalformed, format!("certificate_request: {error}"))
    })?;
    keys::suitable("the authentication key", unproven.spki(), ours)?;
    let csr = unproven.prove(service.provider.as_ref()).map_err(|error| match error {
        CsrError::NotProven => Refusal::new(
            ErrorCode::ProofNotAccepted,
            "the certificate request is not signed by its own key",
        ),
        error => Refusal::new(ErrorCode::RequestMalformed, error),
    })?;
    Ok(csr.spki().clone())
}

/// The certificate of a connector: its id and its tenant, and nothing of what it says of itself.
pub(crate) fn certify(
    link: &Link,
    tenant: &TenantId,
    connector: ConnectorId,
    key: &SpkiDer,
    now: Timestamp,
) -> Result<CertificateDer, Refusal> {
    let failed = |error: &dyn core::fmt::Display| {
        tracing::error!(%error, "no certificate for a connector");
        Refusal::new(ErrorCode::InternalError, "the issuer's log has the cause")
    };
    let subject = subject(tenant, connector).map_err(|error| failed(&error))?;
    // Near the CA's own end certificates become shorter; connectors renew by what is in them.
    let ends = link.connector_ca.chain().iter().map(CertificateDer::not_after).min();
    let left = ends.map_or(Duration::ZERO, |end| end.since(now));
    let purpose = InfrastructurePurpose::Connector;
    link.connector_ca
        .issue_infrastructure(purpose, key, &subject, CERTIFICATE_LIFE.min(left), now)
        .map_err(|error| failed(&error))
}

fn subject(tenant: &TenantId, connector: ConnectorId) -> Result<DistinguishedName, NameError> {
    const ORGANISATION: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.10");
    const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
    let rdn = |oid, value: String| Rdn::new(vec![AttributeValue::new(oid, value)?]);
    DistinguishedName::new(vec![
        rdn(ORGANISATION, tenant.as_str().to_owned())?,
        rdn(COMMON_NAME, format!("connector {connector}"))?,
    ])
}

/// A certificate and those above it.
pub(crate) fn chain(link: &Link, certificate: &CertificateDer) -> Vec<CertificateDer> {
    let upper = link.connector_ca.chain().iter().cloned();
    core::iter::once(certificate.clone()).chain(upper).collect()
}

/// Puts a certificate that was made for a connector beside it. The one in use stays in use until this one is used.
pub(crate) fn keep_certificate(
    tx: &Tx<'_>,
    connector: ConnectorId,
    certificate: &CertificateDer,
    state: &str,
) -> Result<(), StoreError> {
    tx.execute(
        "INSERT INTO connector_certificate (fingerprint, connector, key_id, der, state, not_after) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        values![
            certificate.fingerprint().as_bytes(),
            &connector.to_string(),
            certificate.spki().key_id().as_bytes(),
            certificate.as_der(),
            state,
            certificate.not_after().seconds()
        ],
    )?;
    Ok(())
}

/// What is stored of a token.
struct Token {
    tenant: TenantId,
    group: String,
    confirmed: bool,
    expires_at: i64,
    revoked: bool,
    used_at: Option<i64>,
    connector: Option<String>,
    request: Option<[u8; 32]>,
    answer: Option<Vec<u8>>,
}

impl Token {
    fn read(tx: &Tx<'_>, hash: &[u8; 32]) -> Result<Option<Self>, StoreError> {
        tx.one(
            "SELECT tenant, gateway_group, confirmation, expires_at, revoked_at, used_at, \
             connector, request, answer FROM connector_token WHERE hash = ?1",
            values![hash],
            |row| {
                let tenant: String = row.get(0)?;
                Ok(Self {
                    tenant: TenantId::new(tenant).map_err(|_| StoreError::Column { column: 0 })?,
                    group: row.get(1)?,
                    confirmed: row.get::<String>(2)? == "token",
                    expires_at: row.get(3)?,
                    revoked: row.get::<Option<i64>>(4)?.is_some(),
                    used_at: row.get(5)?,
                    connector: row.get(6)?,
                    request: row.get(7)?,
                    answer: row.get(8)?,
                })
            },
        )
    }

    /// Whether it serves, or may be a repetition.
    fn may_count(&self, now: Timestamp) -> bool {
        let now = now.seconds();
        !self.revoked
            && match self.used_at {
                Some(used_at) => now < Timestamp::from_seconds(used_at).plus(REPEATS).seconds(),
                None => now < self.expires_at,
            }
    }
}

/// An enrolment of which everything was checked that needs no look at what is stored.
struct Wanted {
    request: EnrolRequest,
    hash: [u8; 32],
    /// What a repetition must have in common.
    same: [u8; 32],
    tenant: TenantId,
    key: SpkiDer,
    certificate: CertificateDer,
    proof: PossessionProof,
    /// All but the keys.
    response: EnrolResponse,
    keys: Arc<IssuerKeys>,
}

impl Wanted {
    /// The whole decision, in one transaction: the token is spent with it, or nothing has happened.
    fn join(mut self, tx: &Tx<'_>, now: Timestamp) -> Result<Vec<u8>, Refusal> {
        let group_id = self.request.group.clone();
        // A token is for one group: with the group, whatever else wants to use it waits.
        let group = Group::lock(tx, &self.tenant, &group_id)?;
        let token = Token::read(tx, &self.hash)?
            .filter(|token| token.may_count(now))
            .ok_or_else(not_accepted)?;
        if token.used_at.is_some() {
            return self.again(tx, token);
        }
        let group = group.filter(|_| token.group == group_id.as_str()).ok_or_else(|| {
            let why = format!("the token is for the group {}", token.group);
            Refusal::new(ErrorCode::GroupNotAllowed, why)
        })?;
        let members = self.supersede(tx, &group, now)?;
        self.check_ledger(tx, &group, &members)?;
        self.check_name(&members)?;
        self.check_keys(tx, &group, &members)?;
        self.write(tx, &group, token.confirmed, now)?;
        let introduction = introduce(tx, self.response.connector, &self.keys, now)?;
        self.response.signer_keys = introduction.signer_keys;
        self.response.command_keys = introduction.command_keys;
        self.response.last_sequence = introduction.last_sequence;
        if token.confirmed {
            self.response.membership = Membership::Confirmed;
        }
        let answer = scep_link::write(&self.response).map_err(|error| {
            tracing::error!(%error, "the issuer has no keys to tell a gateway of");
            Refusal::new(ErrorCode::Unavailable, "the issuer has no valid keys yet")
        })?;
        let spent = tx.execute(
            "UPDATE connector_token SET used_at = ?2, connector = ?3, request = ?4, answer = ?5 \
             WHERE hash = ?1 AND used_at IS NULL",
            values![&self.hash, now.seconds(), &self.id(), &self.same, &answer],
        )?;
        if spent == 0 {
            return Err(not_accepted());
        }
        let (connector, gateway) = (self.id(), &self.request.gateway);
        tracing::info!(tenant = %self.tenant, group = %group_id, connector, %gateway, "enrolled");
        Ok(answer)
    }

    fn id(&self) -> String {
        self.response.connector.to_string()
    }

    /// The same answer, to whoever has the token and the key that it was used with.
    fn again(&self, tx: &Tx<'_>, token: Token) -> Result<Vec<u8>, Refusal> {
        let live = tx.exists(
            "SELECT 1 FROM connector WHERE id = ?1 AND membership <> 'left' \
             AND standing = 'active'",
            values![token.connector.as_ref()],
        )?;
        match (token.request, token.answer) {
            (Some(same), Some(answer)) if live && same == self.same => Ok(answer),
            _ => Err(not_accepted()),
        }
    }

    /// The members, without the one whose place this gateway takes: itself, when its certificate has expired.
    fn supersede(
        &self,
        tx: &Tx<'_>,
        group: &Group,
        now: Timestamp,
    ) -> Result<Vec<Member>, Refusal> {
        let same_ledger = group.ledger == Some(self.request.ledger);
        let single = group.ledger_kind == Some(LedgerKind::Single);
        let (gone, members): (Vec<Member>, Vec<Member>) =
            keys::members(tx, &self.tenant, &self.request.group)?.into_iter().partition(|member| {
                // Who has a ledger to itself is who it was, however it is called now.
                let same = single || member.name == self.request.gateway.as_str();
                same_ledger && same && member.not_after < now
            });
        for member in gone {
            tx.execute(
                "UPDATE connector SET membership = 'left', left_at = ?2 WHERE id = ?1",
                values![&member.id, now.seconds()],
            )?;
        }
        Ok(members)
    }

    fn check_ledger(&self, tx: &Tx<'_>, group: &Group, members: &[Member]) -> Result<(), Refusal> {
        let refuse = |why: String| Err(Refusal::new(ErrorCode::LedgerNotAccepted, why));
        let (ledger, kind) = (self.request.ledger, self.request.ledger_kind);
        if let Some(bound) = group.ledger.filter(|bound| *bound != ledger) {
            return refuse(format!(
                "the group is bound to ledger {bound}: give this gateway the group's database, or, if that is lost, remove the group's gateways and release its ledger"
            ));
        }
        if let Some(bound) = group.ledger_kind.filter(|bound| *bound != kind) {
            return refuse(format!(
                "the group's ledger is {}, not {}",
                kind_name(bound),
                kind_name(kind)
            ));
        }
        if let (LedgerKind::Single, Some(member)) = (kind, members.first()) {
            return refuse(format!(
                "gateway {} has this group and its ledger to itself: a group of several needs PostgreSQL; to enrol the same gateway anew, remove it first",
                member.name
            ));
        }
        self.own_ledger(tx, ledger)
    }

    /// A ledger is one tenant's for ever, and one group's at a time.
    fn own_ledger(&self, tx: &Tx<'_>, ledger: LedgerId) -> Result<(), Refusal> {
        let (ledger, tenant) = (ledger.to_string(), self.tenant.as_str());
        tx.execute(
            "INSERT INTO ledger (id, tenant) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
            values![&ledger, tenant],
        )?;
        // Two groups that want it come one after the other.
        tx.execute("UPDATE ledger SET id = id WHERE id = ?1", values![&ledger])?;
        let own = "SELECT 1 FROM ledger WHERE id = ?1 AND tenant = ?2";
        let own = tx.exists(own, values![&ledger, tenant])?;
        let elsewhere = tx.exists(
            "SELECT 1 FROM gateway_group WHERE ledger = ?1 AND (tenant <> ?2 OR id <> ?3)",
            values![&ledger, tenant, self.request.group.as_str()],
        )?;
        if own && !elsewhere {
            return Ok(());
        }
        let why = "another group is bound to this ledger: each group has a ledger of its own";
        Err(Refusal::new(ErrorCode::LedgerNotAccepted, why))
    }

    fn check_name(&self, members: &[Member]) -> Result<(), Refusal> {
        let name = self.request.gateway.as_str();
        if members.iter().all(|member| member.name != name) {
            return Ok(());
        }
        let why =
            format!("the group has a gateway {name}: choose another name, or remove it first");
        Err(Refusal::new(ErrorCode::GroupNotAllowed, why))
    }

    /// That the keys may be used: the authentication key is new, the decryption key the group's, or new as well when
    /// nobody in the group has one.
    fn check_keys(&self, tx: &Tx<'_>, group: &Group, members: &[Member]) -> Result<(), Refusal> {
        let refuse = |why: String| Err(Refusal::new(ErrorCode::KeyNotAccepted, why));
        fresh_authentication_key(tx, self.key.key_id())?;
        let key = self.request.decryption_key.key_id();
        let first = || members.first().map(|member| &member.decryption_key);
        match group.held_key(members).or_else(first).map(SpkiDer::key_id) {
            Some(wanted) if wanted == key => Ok(()),
            Some(wanted) => refuse(format!(
                "the group's decryption key is {wanted}: export it at a gateway of the group and import it here before you enrol"
            )),
            // The only gateway may come back with the key that the group still has, and with no other old one.
            None if group.key.as_ref().map(SpkiDer::key_id) == Some(key) => Ok(()),
            None if keys::use_of(tx, key)?.is_some() => {
                refuse("the decryption key is or was in use: make a new one".into())
            }
            None => Ok(()),
        }
    }

    fn write(
        &self,
        tx: &Tx<'_>,
        group: &Group,
        confirmed: bool,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let (request, id, tenant) = (&self.request, self.id(), self.tenant.as_str());
        let ledger = request.ledger.to_string();
        if group.ledger.is_none() {
            let kind = kind_name(request.ledger_kind);
            tx.execute(
                "UPDATE gateway_group SET ledger = ?3, ledger_kind = ?4 \
                 WHERE tenant = ?1 AND id = ?2",
                values![tenant, request.group.as_str(), &ledger, kind],
            )?;
        }
        let membership = if confirmed { "confirmed" } else { "awaiting-operator" };
        tx.execute(
            "INSERT INTO connector (id, tenant, gateway_group, name, ledger, membership, standing, \
             decryption_key, software, enrolled_at) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, 'active', ?7, ?8, ?9)",
            values![
                &id,
                tenant,
                request.group.as_str(),
                request.gateway.as_str(),
                &ledger,
                membership,
                request.decryption_key.as_der(),
                request.software.as_str(),
                now.seconds()
            ],
        )?;
        let connector = self.response.connector;
        keep_certificate(tx, connector, &self.certificate, "present")?;
        take_authentication_key(tx, self.key.key_id(), &self.tenant, &request.group)?;
        possession::expect(tx, connector, &request.decryption_key, None, &self.proof, now)
    }
}

/// That a key is nobody's, and was nobody's.
pub(crate) fn fresh_authentication_key(tx: &Tx<'_>, key: KeyId) -> Result<(), Refusal> {
    if keys::use_of(tx, key)?.is_none() && !keys::asked(tx, key)? {
        return Ok(());
    }
    let why = "the authentication key is or was in use: make a new one";
    Err(Refusal::new(ErrorCode::KeyNotAccepted, why))
}

pub(crate) fn take_authentication_key(
    tx: &Tx<'_>,
    key: KeyId,
    tenant: &TenantId,
    group: &GatewayGroupId,
) -> Result<(), Refusal> {
    if keys::take(tx, key, tenant, group, KeyPurpose::Authentication)? {
        return Ok(());
    }
    let why = "the authentication key is or was in use: make a new one";
    Err(Refusal::new(ErrorCode::KeyNotAccepted, why))
}
