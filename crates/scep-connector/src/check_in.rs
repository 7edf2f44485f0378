//! The check-in: one under way at any time, and what its answer commands (PROTOCOL, 4).

use crate::ConnectorError;
use crate::backoff::Backoff;
use crate::connector::{Inner, Topic, locked, own_keys};
use crate::denials::Listing;
use crate::distinct;
use crate::host::Standing;
use crate::http::{Due, EXCHANGE_TIME};
use crate::keys::KeySlot;
use crate::renewals::Renewals;
use crate::state::{DecryptionState, Retired, State};
use core::time::Duration;
use scep_ledger::Acknowledged;
use scep_link::{
    CertificateExpiry, CertificatePurpose, CheckInRequest, CommandReason, CommandVerifier,
    Commands, Counters, Health, KeyChanges, LedgerBinding, MAX_COMMANDS, MAX_SKEW, TrustedKey, V1,
    accept_signed,
};
use scep_types::{CheckInNonce, Timestamp};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// Most keys of one kind that are kept (PROTOCOL, 8).
const MAX_KEYS: usize = 8;
const MAX_CERTIFICATES: usize = 32;
/// An answer faster than this was no waiting.
const QUICK: Duration = Duration::from_millis(500);
/// An issuer that always has something to say is asked no more often than this, in the long run.
const PACE: Duration = Duration::from_secs(1);
/// Quick answers in a row before that.
const QUICK_ONES: u32 = 8;

/// When to ask next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// There is more to hear.
    AtOnce,
    /// The issuer may wait for something to say.
    Waiting,
}

impl Inner {
    pub(crate) async fn check_in_always(&self) {
        let mut backoff = Backoff::default();
        let mut renewals = Renewals::default();
        let mut listing = None;
        let mut refused = None;
        let mut quick = 0_u32;
        // The first one asks where things stand.
        let mut next = Next::AtOnce;
        loop {
            self.renew_what_is_due(&mut renewals).await;
            let asked_at = Instant::now();
            match self.check_in(next, refused, &mut listing).await {
                Ok(then) => {
                    (next, refused) = (then, None);
                    backoff.reset();
                    self.clear(Topic::CheckIn);
                    quick = if asked_at.elapsed() < QUICK { quick.saturating_add(1) } else { 0 };
                    if quick >= QUICK_ONES {
                        tokio::time::sleep(PACE).await;
                    }
                }
                Err(error) => {
                    refused = match &error {
                        ConnectorError::Commands(why) => Some(why.reason()),
                        ConnectorError::AnswerTooLong { .. } => {
                            Some(CommandReason::CommandsTooLarge)
                        }
                        _ => refused,
                    };
                    self.note(Topic::CheckIn, explain(&error));
                    tokio::time::sleep(backoff.after(&error, &*self.provider)).await;
                    next = Next::AtOnce;
                }
            }
        }
    }

    async fn check_in(
        &self,
        next: Next,
        refused: Option<CommandReason>,
        listing: &mut Option<Listing>,
    ) -> Result<Next, ConnectorError> {
        let wait_seconds = match next {
            Next::AtOnce => 0,
            Next::Waiting => self.settings.wait_seconds,
        };
        if self.trust_untold.load(Ordering::SeqCst) {
            self.tell_trust();
        }
        let state = self.state();
        let request = self.request(&state, wait_seconds, refused, listing.as_ref()).await?;
        let due = Due {
            accept: "application/cms",
            max: MAX_COMMANDS,
            time: EXCHANGE_TIME.saturating_add(Duration::from_secs(wait_seconds.into())),
        };
        let raw = {
            let identity = self.identity.read().await;
            let config = Arc::clone(&identity.config);
            self.route.post(config, "/connector/v1/check-in", &request, due).await?
        };
        let signed = accept_signed(raw.status, &raw.media_type, &raw.body)
            .map_err(|error| ConnectorError::Answer { error, retry_after: raw.retry_after })?;
        let verifier = CommandVerifier::new(
            state.tenant.clone(),
            state.connector,
            state.command_keys.clone(),
            MAX_SKEW,
        )?;
        let now = self.now().await;
        let verified =
            verifier.open(signed, request.nonce, state.last_sequence, now, &*self.provider)?;
        self.act(verified.commands(), &request, listing, now).await
    }

    async fn request(
        &self,
        state: &State,
        wait_seconds: u32,
        refused: Option<CommandReason>,
        listing: Option<&Listing>,
    ) -> Result<CheckInRequest, ConnectorError> {
        let counters = self.ledger.counters().await?;
        self.queue_depth(counters.outbox);
        let facts = self.host.facts();
        let own = CertificateExpiry {
            purpose: CertificatePurpose::Connector,
            thumbprint_sha256: state.certificate.fingerprint(),
            not_after: state.certificate.not_after(),
        };
        let mut nonce = [0; 16];
        self.provider.random(&mut nonce)?;
        Ok(CheckInRequest {
            v: V1,
            connector: state.connector,
            nonce: CheckInNonce::from_bytes(nonce),
            last_sequence: state.last_sequence,
            denial_cursor: listing.map_or(state.denial_cursor, Listing::cursor),
            wait_seconds,
            software: self.software.clone(),
            challenge_version: self.settings.challenge_version,
            health: match self.standing() {
                Standing::Serving => facts.health,
                Standing::Offline { .. } | Standing::AnotherLedger => Health::Stopped,
            },
            refused,
            queue_depth: counters.outbox,
            certificates: core::iter::once(own)
                .chain(facts.certificates)
                .take(MAX_CERTIFICATES)
                .collect(),
            counters: Counters {
                issued: counters.issued,
                delivered: counters.delivered,
                reported: counters.reported,
            },
            ledger: self.ledger.id(),
            outbox_high_mark: counters.last_event,
            // A proof brings challenges for the key: not before the gateway can open them.
            possession: match self.trust_untold.load(Ordering::SeqCst) {
                true => Vec::new(),
                false => state.proofs.clone(),
            },
        })
    }

    /// Does what verified commands say.
    async fn act(
        &self,
        commands: &Commands,
        request: &CheckInRequest,
        listing: &mut Option<Listing>,
        now: Timestamp,
    ) -> Result<Next, ConnectorError> {
        let before = self.state();
        let (signers, command_keys, objection) = self.changed_keys(&before, commands, now).await;
        // One write: the answer counts as heard exactly when its keys do. What else it says comes again until it is
        // done, so a crash after this line loses nothing.
        let after = self.update(|state| {
            state.last_sequence = commands.sequence;
            state.last_heard = Some(now);
            state.another_ledger = commands.ledger == LedgerBinding::Another;
            if !state.another_ledger {
                state.ledger = self.ledger.id();
            }
            state.trust.signers = signers;
            state.command_keys = command_keys;
            // A signed answer to a proof: the issuer has accepted it.
            for proof in &request.possession {
                state.proofs.retain(|kept| kept != proof);
                self.replaced_by(state, proof.key(), now);
            }
        })?;
        match objection {
            None => self.clear(Topic::Keys),
            Some(objection) => self.note(Topic::Keys, objection),
        }
        if after.trust != before.trust || self.trust_untold.load(Ordering::SeqCst) {
            self.tell_trust();
        }
        self.settle_standing(now);
        self.tell_log_level(commands);
        let denials = self.apply_denials(&commands.denials, request, listing, now).await;
        let told = match denials {
            Ok(told) => {
                self.clear(Topic::Denials);
                told
            }
            Err(error) => {
                // The cursor stays where it was, so that they come again.
                *listing = None;
                self.note(Topic::Denials, &error);
                return Err(error);
            }
        };
        if commands.outbox_acknowledged > 0 {
            self.acknowledged_by_check_in(commands.outbox_acknowledged, now).await;
        }
        self.reports_held.store(false, Ordering::SeqCst);
        self.wake_reports.notify_one();
        self.take_orders(&commands.revocations, now).await;
        locked(&self.renewals).clone_from(&commands.renewals);
        self.retire_decryption_keys(now);
        // The answer came to the identity of now: the one before it is not needed any more.
        self.destroy_retired(|_| true);
        Ok(if told { Next::Waiting } else { Next::AtOnce })
    }

    fn tell_log_level(&self, commands: &Commands) {
        let told = locked(&self.log_level).replace(commands.log_level);
        if told != Some(commands.log_level) {
            self.host.set_log_level(commands.log_level);
        }
    }

    async fn acknowledged_by_check_in(&self, through: u64, now: Timestamp) {
        match self.ledger.acknowledge(through, now).await {
            Ok(Acknowledged::Known) => {}
            Ok(Acknowledged::RestoreNoticed { last }) => self.note(
                Topic::Restored,
                format!(
                    "ChallengeBeforeRestore: the ledger was restored from a backup, as the issuer \
                     has event {through} and the last one here was {last}; challenges issued before \
                     {now} are refused"
                ),
            ),
            Err(error) => self.note(Topic::Reports, error),
        }
    }

    /// The issuer's keys for challenges and for commands after these commands, and what is wrong with the new ones. Then
    /// none is added, but what is no longer to be trusted goes all the same: it may have been stolen.
    async fn changed_keys(
        &self,
        state: &State,
        commands: &Commands,
        now: Timestamp,
    ) -> (Vec<TrustedKey>, Vec<TrustedKey>, Option<ConnectorError>) {
        let (signers, command_keys) = (&state.trust.signers, &state.command_keys);
        let own = {
            let identity = self.identity.read().await;
            own_keys(state, &*identity.signer, &*self.host)
        };
        let all = added(signers, &commands.signer_keys, now).and_then(|signers| {
            let command_keys = added(command_keys, &commands.command_keys, now)?;
            if command_keys.is_empty() {
                return Err(ConnectorError::Contradiction { what: "no command key would be left" });
            }
            distinct::check(&signers, &command_keys, &own)?;
            Ok((signers, command_keys))
        });
        match all {
            Ok((signers, command_keys)) => (signers, command_keys, None),
            Err(objection) => {
                let mut left = retired(command_keys, &commands.command_keys);
                if left.is_empty() {
                    // Without one, nothing that the issuer says could be heard any more.
                    left.clone_from(command_keys);
                }
                (retired(signers, &commands.signer_keys), left, Some(objection))
            }
        }
    }

    /// The decryption key with this id can be used: those before it are kept for as long as challenges for them live.
    fn replaced_by(&self, state: &mut State, id: scep_types::KeyId, now: Timestamp) {
        if state.trust.decryption.first().is_none_or(|held| held.key.key_id() != id) {
            return;
        }
        let until = now.plus(self.settings.keep_previous_key);
        for held in state.trust.decryption.iter_mut().skip(1) {
            held.until.get_or_insert(until);
        }
    }

    /// Decryption keys whose time is over: out of the trust, and then destroyed.
    pub(crate) fn retire_decryption_keys(&self, now: Timestamp) {
        let over = |held: &DecryptionState| held.until.is_some_and(|until| now > until);
        if !self.trusts_any(over) {
            return;
        }
        let removed = self.update(|state| {
            let old = state.trust.decryption.iter().filter(|held| over(held));
            let old = old.map(|held| held.key.key_id());
            state.retired.extend(old.map(|key| Retired { slot: KeySlot::Decryption, key }));
            state.trust.decryption.retain(|held| !over(held));
        });
        match removed {
            Ok(_) if self.tell_trust() => {
                self.destroy_retired(|old| old.slot == KeySlot::Decryption)
            }
            Ok(_) => {}
            Err(error) => self.note(Topic::OldKeys, error),
        }
    }

    /// Destroys keys of which the state knows that nothing needs them; only then are they forgotten.
    fn destroy_retired(&self, which: impl Fn(&Retired) -> bool) {
        let state = self.state();
        if state.retired.is_empty() {
            return self.clear(Topic::OldKeys);
        }
        let mut gone = Vec::new();
        let mut trouble = None;
        for old in state.retired.iter().filter(|old| which(old)) {
            if state.uses(old) {
                // Taken into use after all: forgotten here, and left alone.
                gone.push(old.clone());
                continue;
            }
            match self.keys.destroy(old.slot, old.key) {
                Ok(()) => gone.push(old.clone()),
                Err(error) => trouble = Some(error),
            }
        }
        let kept = self.update(|state| state.retired.retain(|old| !gone.contains(old)));
        match (kept, trouble) {
            (Err(error), _) => self.note(Topic::OldKeys, error),
            (Ok(_), Some(error)) => self.note(Topic::OldKeys, error),
            (Ok(_), None) => self.clear(Topic::OldKeys),
        }
    }
}

/// Keys without those that are no longer trusted.
fn retired(keys: &[TrustedKey], changes: &KeyChanges) -> Vec<TrustedKey> {
    let goes = |known: &&TrustedKey| !changes.retire.contains(&known.key.key_id());
    keys.iter().filter(goes).cloned().collect()
}

/// Keys with changes made to them. What has expired makes room.
fn added(
    keys: &[TrustedKey],
    changes: &KeyChanges,
    now: Timestamp,
) -> Result<Vec<TrustedKey>, ConnectorError> {
    let mut all = retired(keys, changes);
    all.retain(|known| {
        let id = known.key.key_id();
        !changes.add.iter().any(|new| new.key.key_id() == id)
    });
    all.extend(changes.add.iter().cloned());
    if all.len() > MAX_KEYS {
        all.retain(|known| known.not_after >= now);
    }
    if all.len() > MAX_KEYS {
        return Err(ConnectorError::Contradiction { what: "more than eight keys of one kind" });
    }
    Ok(all)
}

/// With what to do, where it is known.
pub(crate) fn explain(error: &ConnectorError) -> String {
    use scep_link::{AnswerError, ErrorCode};
    let ConnectorError::Answer { error: AnswerError::Refused { code, .. }, .. } = error else {
        return error.to_string();
    };
    let advice = match code {
        ErrorCode::CertificateNotAccepted => {
            "the connector's certificate has expired or is not known any more: enrol again"
        }
        ErrorCode::ConnectorRevoked => "the issuer's operator has ended this enrolment",
        ErrorCode::ConnectorCloned => {
            "two machines have used this connector's identity: an operator of the issuer must decide"
        }
        ErrorCode::LedgerNotAccepted => "the issuer has bound the group to another ledger",
        ErrorCode::VersionNotServed => "update the gateway",
        _ => return error.to_string(),
    };
    format!("{error} ({advice})")
}
