//! The connector's own keys: renewed in time or when ordered (PROTOCOL, 7).
//!
//! Each renewal is a new key, durable before it is sent, then one durable change from old to new, then the old key's
//! end. Repeated at any point it goes on with the same new key.

use crate::ConnectorError;
use crate::backoff::Backoff;
use crate::check_in::explain;
use crate::connector::{Identity, Inner, Topic, config, locked};
use crate::enrol::{certificate, pkcs10, request};
use crate::keys::{self, KeySlot, KeyStoreError};
use crate::state::{DecryptionState, NextAuthentication, NextDecryption, Retired, State};
use crate::text::Octets;
use core::time::Duration;
use scep_link::{
    AnswerError, ErrorCode, RenewRequest, RenewResponse, RenewalSubject, Renewed, prove,
    renew_authentication, renew_decryption,
};
use scep_types::{CertificateDer, KeyId, OrderId, Timestamp};

use std::time::Instant;

/// Orders that are remembered as done.
const REMEMBERED: usize = 64;

/// When each renewal is tried again.
#[derive(Debug, Default)]
pub(crate) struct Renewals {
    authentication: Attempt,
    decryption: Attempt,
}

#[derive(Debug, Default)]
struct Attempt {
    backoff: Backoff,
    not_before: Option<Instant>,
}

impl Attempt {
    fn may(&self) -> bool {
        self.not_before.is_none_or(|at| Instant::now() >= at)
    }
}

/// Whether two thirds of its life have passed.
fn due(certificate: &CertificateDer, now: Timestamp) -> bool {
    let life = certificate.not_after().since(certificate.not_before());
    let third = Duration::from_secs(life.as_secs() / 3);
    now >= certificate.not_after().minus(third)
}

impl Inner {
    /// Renews what is due, or ordered. Between two check-ins, when nobody has a connection with the old identity but
    /// a report that is under way, and that is waited for.
    pub(crate) async fn renew_what_is_due(&self, attempts: &mut Renewals) {
        for subject in [RenewalSubject::Authentication, RenewalSubject::Decryption] {
            let (topic, attempt) = match subject {
                RenewalSubject::Authentication => {
                    (Topic::RenewalOfAuthentication, &mut attempts.authentication)
                }
                RenewalSubject::Decryption => {
                    (Topic::RenewalOfDecryption, &mut attempts.decryption)
                }
            };
            let now = self.now().await;
            let state = self.state();
            let order = self.ordered(subject, &state);
            let wanted = match subject {
                RenewalSubject::Authentication => {
                    state.next_authentication.is_some() || due(&state.certificate, now)
                }
                RenewalSubject::Decryption => state.next_decryption.is_some(),
            };
            if !(wanted || order.is_some()) || !attempt.may() {
                continue;
            }
            let renewed = match subject {
                RenewalSubject::Authentication => {
                    self.renew_authentication(state, order, now).await
                }
                RenewalSubject::Decryption => self.renew_decryption(state, order, now).await,
            };
            match renewed {
                Ok(()) => {
                    *attempt = Attempt::default();
                    self.clear(topic);
                }
                Err(error) => {
                    self.note(topic, explain(&error));
                    let wait = attempt.backoff.after(&error, &*self.provider);
                    attempt.not_before = Instant::now().checked_add(wait);
                }
            }
        }
    }

    /// An order for this key that is not done.
    fn ordered(&self, subject: RenewalSubject, state: &State) -> Option<OrderId> {
        let orders = locked(&self.renewals);
        let mut open = orders.iter().filter(|order| !state.orders_done.contains(&order.order));
        open.find(|order| order.subject == subject).map(|order| order.order)
    }

    async fn renew_authentication(
        &self,
        state: State,
        order: Option<OrderId>,
        now: Timestamp,
    ) -> Result<(), ConnectorError> {
        let (next, new) = match state.next_authentication.clone() {
            Some(next) => {
                let key = keys::signer(&*self.keys, next.key)?;
                (next, key)
            }
            None => {
                let key = keys::new_signer(&*self.keys)?;
                let request = Octets(request(&state.gateway, &*key)?);
                let next = NextAuthentication { key: key.public_key().key_id(), request, order };
                self.update(|state| state.next_authentication = Some(next.clone()))?;
                (next, key)
            }
        };
        let asked = {
            let identity = self.identity.read().await;
            let request = pkcs10(&next.request)?;
            renew_authentication(&state.tenant, state.connector, request, &*identity.signer, now)?
        };
        let answer = self.renew(KeySlot::Authentication, next.key, &asked).await?;
        let Renewed::Authentication { certificate_chain } = answer else {
            return Err(ConnectorError::Contradiction { what: "another key was renewed" });
        };
        let (certificate, certified_by) = certificate(certificate_chain, &*new)?;
        if now > certificate.not_after() {
            return Err(ConnectorError::Contradiction { what: "the new certificate has expired" });
        }
        // From here on nobody opens a connection until the new identity is in its place.
        let mut identity = self.identity.write().await;
        let mut changed = state;
        changed.certificate = certificate.clone();
        changed.certified_by.clone_from(&certified_by);
        let config = config(&changed, &new)?;
        self.update(|state| {
            // Destroyed once a check-in with the new one has been answered.
            let old = Retired { slot: KeySlot::Authentication, key: state.authentication };
            state.retired.push(old);
            state.authentication = next.key;
            state.certificate = certificate;
            state.certified_by = certified_by;
            state.next_authentication = None;
            done(state, next.order);
            done(state, order);
        })?;
        *identity = Identity { signer: new, config };
        drop(identity);
        // Nothing of it has changed, but the gateway's own keys have: no device may have one of them certified.
        self.tell_trust();
        tracing::info!("the connector's key and certificate are renewed");
        Ok(())
    }

    async fn renew_decryption(
        &self,
        state: State,
        order: Option<OrderId>,
        now: Timestamp,
    ) -> Result<(), ConnectorError> {
        let (next, new) = match state.next_decryption.clone() {
            Some(next) => {
                let key = keys::decryption(&*self.keys, next.key)?;
                (next, key)
            }
            None => {
                let key = keys::new_decryption(&*self.keys)?;
                let slot = KeySlot::Decryption;
                if state.uses(&Retired { slot, key: key.public_key().key_id() }) {
                    let why = "the key store gives a key as new that is in use".to_owned();
                    return Err(KeyStoreError { slot, why }.into());
                }
                let next = NextDecryption { key: key.public_key().key_id(), order };
                self.update(|state| state.next_decryption = Some(next.clone()))?;
                (next, key)
            }
        };
        let asked = {
            let identity = self.identity.read().await;
            let (tenant, key) = (&state.tenant, new.public_key().clone());
            renew_decryption(tenant, state.connector, key, &*identity.signer, now)?
        };
        let answer = self.renew(KeySlot::Decryption, next.key, &asked).await?;
        let Renewed::Decryption { key, possession_challenge } = answer else {
            return Err(ConnectorError::Contradiction { what: "another key was renewed" });
        };
        if key != next.key {
            return Err(ConnectorError::Contradiction {
                what: "another decryption key was renewed",
            });
        }
        let (tenant, connector) = (&state.tenant, state.connector);
        let proof = prove(&*self.provider, &possession_challenge, &new, tenant, connector)?;
        self.update(|state| {
            let held = DecryptionState { key: new.public_key().clone(), until: None };
            state.trust.decryption.insert(0, held);
            state.proofs.insert(0, proof);
            // What is not proven yet and is no longer the present key need not be.
            state.proofs.truncate(1);
            state.next_decryption = None;
            done(state, next.order);
            done(state, order);
        })?;
        // Before the issuer sees the proof, and so before the first challenge for the new key.
        self.tell_trust();
        tracing::info!("the decryption key is renewed");
        Ok(())
    }

    async fn renew(
        &self,
        slot: KeySlot,
        key: KeyId,
        asked: &RenewRequest,
    ) -> Result<Renewed, ConnectorError> {
        let answer: Result<RenewResponse, _> = self.ask("/connector/v1/renew", asked).await;
        match answer {
            Ok(answer) => Ok(answer.renewed),
            Err(error) => {
                if let ConnectorError::Answer {
                    error: AnswerError::Refused { code: ErrorCode::KeyNotAccepted, .. },
                    ..
                } = &error
                {
                    // This key never will be: the next attempt takes another. A decryption key may be the group's,
                    // which the store was given; it is left alone.
                    self.update(|state| match slot {
                        KeySlot::Authentication => {
                            state.retired.push(Retired { slot, key });
                            state.next_authentication = None;
                        }
                        KeySlot::Decryption => state.next_decryption = None,
                    })?;
                }
                Err(error)
            }
        }
    }
}

fn done(state: &mut State, order: Option<OrderId>) {
    let Some(order) = order else { return };
    if !state.orders_done.contains(&order) {
        state.orders_done.push(order);
    }
    let surplus = state.orders_done.len().saturating_sub(REMEMBERED);
    state.orders_done.drain(..surplus);
}
