//! How a gateway becomes known to the issuer: one request with a one-time token.

use crate::http::Route;
use crate::keys::{KeySlot, KeyStore, OwnKey};
use crate::settings::{IssuerAddress, Proxy};
use crate::state::{Contents, DecryptionState, Pending, Retired, State, StateFile, Trust};
use crate::text::Octets;
use crate::{ConnectorError, distinct, keys, tls};
use core::time::Duration;
use scep_ledger::Ledger;
use scep_link::{
    CommandVerifier, EnrolRequest, EnrolResponse, EnrolmentToken, LedgerKind, Membership,
    Pkcs10Der, SoftwareVersion, V1, prove,
};
use scep_pkcs10::CsrBuilder;
use scep_types::{
    CertificateDer, Clock, CryptoProvider, DecryptionKey, GatewayGroupId, GatewayName, KeyId,
    SignatureScheme, Signer, SpkiHash, Timestamp,
};
use std::sync::Arc;

/// How long the decryption keys of an earlier enrolment still open what was made for them: the default lifetime of a
/// challenge and the largest skew.
const KEEP_EARLIER: Duration = Duration::from_secs(65 * 60);

/// What an enrolment needs.
#[derive(Debug)]
pub struct EnrolOptions {
    /// Where the issuer is.
    pub issuer: IssuerAddress,
    /// Through which proxy.
    pub proxy: Option<Proxy>,
    /// SHA-256 over the SubjectPublicKeyInfo of the issuer's TLS key; came with the token.
    pub issuer_fingerprint: SpkiHash,
    /// The token.
    pub token: EnrolmentToken,
    /// The gateway's name within its group.
    pub gateway: GatewayName,
    /// The group that it is to join.
    pub group: GatewayGroupId,
    /// The decryption key that is there already: that of the group, imported, or that of an earlier enrolment. `None`
    /// makes a new one.
    pub decryption_key: Option<KeyId>,
    /// Whether several gateways can share the ledger.
    pub ledger_kind: LedgerKind,
    /// The gateway's version.
    pub software: String,
}

/// What came of it.
#[derive(Debug)]
#[non_exhaustive]
pub struct Enrolled {
    /// As it was made durable.
    pub state: State,
    /// Whether an operator of the tenant has to confirm.
    pub membership: Membership,
}

/// Enrols. Safe to repeat with the same token after a crash or a lost answer: the same keys are used again, and the
/// issuer gives the same identity. Enrolling a gateway anew keeps its ledger.
///
/// # Errors
/// When the issuer cannot be reached, is another one than the fingerprint says, refuses, or the state cannot be kept.
pub async fn enrol(
    options: EnrolOptions,
    state: &StateFile,
    keys: &dyn KeyStore,
    ledger: &Ledger,
    provider: &dyn CryptoProvider,
    clock: &dyn Clock,
) -> Result<Enrolled, ConnectorError> {
    let software = software(&options.software)?;
    let lock = state.lock()?;
    let before = state.contents()?;
    let token_sha256 = hex::encode(options.token.hash().as_bytes());
    let same = |pending: &Pending| {
        pending.token_sha256 == token_sha256
            && options.decryption_key.is_none_or(|key| key == pending.decryption)
    };
    // Durable before the request: whoever repeats it after a crash has the same keys, and so the same identity.
    let (pending, authentication, decryption) = match before.pending.clone().filter(same) {
        Some(pending) => {
            let authentication = keys::signer(keys, pending.authentication)?;
            let decryption = keys::decryption(keys, pending.decryption)?;
            (pending, authentication, decryption)
        }
        None => {
            if let Some(abandoned) = &before.pending {
                abandon(abandoned, before.enrolled.as_ref(), keys);
            }
            let authentication = keys::new_signer(keys)?;
            let (decryption, made) = match options.decryption_key {
                Some(id) => (keys::decryption(keys, id)?, false),
                None => (keys::new_decryption(keys)?, true),
            };
            let pending = Pending {
                token_sha256,
                authentication: authentication.public_key().key_id(),
                request: Octets(request(&options.gateway, &*authentication)?),
                decryption: decryption.public_key().key_id(),
                made,
            };
            let contents = Contents::new(before.enrolled.clone(), Some(pending.clone()));
            state.write(&contents, &lock)?;
            (pending, authentication, decryption)
        }
    };
    let message = EnrolRequest {
        v: V1,
        token: options.token,
        gateway: options.gateway.clone(),
        group: options.group.clone(),
        certificate_request: pkcs10(&pending.request)?,
        decryption_key: decryption.public_key().clone(),
        ledger: ledger.id(),
        ledger_kind: options.ledger_kind,
        software,
    };
    let route = Route { issuer: options.issuer, proxy: options.proxy };
    let config = tls::to_issuer(&[options.issuer_fingerprint], None)?;
    let answer: EnrolResponse = route.ask(config, "/connector/v1/enrol", &message).await?;
    let now = ledger.effective_now(clock.now()).await?.now;
    let enrolled = accept(
        answer,
        (&options.gateway, &options.group),
        &*authentication,
        &decryption,
        (ledger, provider),
        before.enrolled.as_ref(),
        now,
    )?;
    let membership = enrolled.membership;
    state.write(&Contents::new(Some(enrolled.clone()), None), &lock)?;
    Ok(Enrolled { state: enrolled, membership })
}

/// The keys of an enrolment that came to nothing. What cannot be destroyed now is of no use to anybody.
fn abandon(pending: &Pending, enrolled: Option<&State>, keys: &dyn KeyStore) {
    let in_use = enrolled.is_some_and(|state| {
        state.trust.decryption.iter().any(|held| held.key.key_id() == pending.decryption)
    });
    let mut destroy = vec![(KeySlot::Authentication, pending.authentication)];
    if pending.made && !in_use {
        destroy.push((KeySlot::Decryption, pending.decryption));
    }
    for (slot, key) in destroy {
        if let Err(error) = keys.destroy(slot, key) {
            tracing::warn!(%error, %key, "a key of an abandoned enrolment is still there");
        }
    }
}

pub(crate) fn software(text: &str) -> Result<SoftwareVersion, ConnectorError> {
    SoftwareVersion::new(text).map_err(|error| ConnectorError::Setting {
        what: "the software's version",
        why: error.to_string(),
    })
}

/// A PKCS #10 of an authentication key. Of its contents only the key counts; the name helps whoever reads it.
pub(crate) fn request(name: &GatewayName, key: &dyn Signer) -> Result<Vec<u8>, ConnectorError> {
    let subject = format!("CN={name}").parse().map_err(|_| ConnectorError::Setting {
        what: "the gateway's name",
        why: "it cannot be in a certificate request".to_owned(),
    })?;
    let scheme = SignatureScheme::default_for(key.public_key().algorithm());
    Ok(CsrBuilder { subject, ..CsrBuilder::default() }.sign(key, scheme)?)
}

pub(crate) fn pkcs10(request: &Octets) -> Result<Pkcs10Der, ConnectorError> {
    Pkcs10Der::new(request.0.clone())
        .map_err(|_| ConnectorError::Contradiction { what: "the kept request is too long" })
}

/// The certificate of a key of ours, and those above it.
pub(crate) fn certificate(
    chain: Vec<CertificateDer>,
    key: &dyn Signer,
) -> Result<(CertificateDer, Vec<CertificateDer>), ConnectorError> {
    let mut chain = chain.into_iter();
    match chain.next() {
        Some(leaf) if leaf.spki() == key.public_key() => Ok((leaf, chain.collect())),
        _ => Err(ConnectorError::Contradiction { what: "the certificate is of another key" }),
    }
}

/// The answer, checked, as a state.
fn accept(
    answer: EnrolResponse,
    (gateway, group): (&GatewayName, &GatewayGroupId),
    authentication: &dyn Signer,
    decryption: &DecryptionKey,
    (ledger, provider): (&Ledger, &dyn CryptoProvider),
    earlier: Option<&State>,
    now: Timestamp,
) -> Result<State, ConnectorError> {
    let contradiction = |what| Err(ConnectorError::Contradiction { what });
    if answer.group != *group {
        return contradiction("it enrols into another group");
    }
    let (certificate, certified_by) = certificate(answer.certificate_chain, authentication)?;
    let (signers, commands) = (&answer.signer_keys, &answer.command_keys);
    distinct::check(
        signers,
        commands,
        &[
            ("the connector's authentication".to_owned(), authentication.public_key().clone()),
            ("the connector's decryption".to_owned(), decryption.public_key().clone()),
        ],
    )?;
    // That the command keys can be used at all is found out now, and not at the first check-in.
    CommandVerifier::new(
        answer.tenant.clone(),
        answer.connector,
        commands.clone(),
        Duration::ZERO,
    )?;
    let (tenant, connector) = (answer.tenant, answer.connector);
    let proof = prove(provider, &answer.possession_challenge, decryption, &tenant, connector)?;
    let key = decryption.public_key().clone();
    let mut held = vec![DecryptionState { key: key.clone(), until: None }];
    let mut retired = Vec::new();
    if let Some(earlier) = earlier {
        let old = earlier.trust.decryption.iter().filter(|held| held.key != key);
        held.extend(old.map(|held| DecryptionState {
            key: held.key.clone(),
            until: Some(held.until.unwrap_or_else(|| now.plus(KEEP_EARLIER))),
        }));
        retired.clone_from(&earlier.retired);
        let next = earlier.next_authentication.as_ref().map(|next| next.key);
        let old = [Some(earlier.authentication), next].into_iter().flatten();
        let old = old.filter(|id| *id != authentication.public_key().key_id());
        retired.extend(old.map(|key| Retired { slot: KeySlot::Authentication, key }));
        if let Some(next) = &earlier.next_decryption
            && next.key != key.key_id()
        {
            retired.push(Retired { slot: KeySlot::Decryption, key: next.key });
        }
    }
    Ok(State {
        connector,
        tenant: tenant.clone(),
        group: answer.group.clone(),
        gateway: gateway.clone(),
        membership: answer.membership,
        authentication: authentication.public_key().key_id(),
        certificate,
        certified_by,
        tls_pins: answer.tls_pins,
        trust: Trust { tenant, group: answer.group, signers: answer.signer_keys, decryption: held },
        command_keys: answer.command_keys,
        ledger: ledger.id(),
        another_ledger: false,
        last_heard: Some(now),
        last_sequence: answer.last_sequence,
        // From the beginning: the ledger may hold the denials of an earlier enrolment.
        denial_cursor: 0,
        proofs: vec![proof],
        next_authentication: None,
        next_decryption: None,
        retired,
        orders_done: Vec::new(),
    })
}

impl OwnKey {
    pub(crate) fn into_signer(self) -> Option<Arc<dyn Signer>> {
        match self {
            Self::Authentication(key) => Some(key),
            Self::Decryption(_) => None,
        }
    }

    pub(crate) fn into_decryption(self) -> Option<DecryptionKey> {
        match self {
            Self::Decryption(key) => Some(key),
            Self::Authentication(_) => None,
        }
    }
}
