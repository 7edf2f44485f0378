//! Another SCEP server as the CA.
//!
//! The server gets the device's own request, challenge and all: the challenge stands under the device's signature, so
//! that no other can be put in. The server must take the request for the sake of who brings it: an endpoint without a
//! challenge of its own on a line that nobody else reaches, or one that asks a verifier. What comes back is compared
//! with the approval by the caller.

use crate::authority::{
    CaHealth, CanRevoke, Capabilities, CertificateAuthority, Found, IssueError, Recover, Wanted,
};
use crate::chain;
use crate::error::CaError;
use async_trait::async_trait;
use core::time::Duration;
use scep_client::{
    Answer, ClientError, ClientSettings, FailInfo, Identity, Pending, ScepClient, Server, Trust,
};
use scep_ledger::IssuePermit;
use scep_types::{
    CertificateDer, Clock, CryptoProvider, CsrInfoHash, DecryptionKey, DistinguishedName,
    SerialNumber, Signer, Timestamp, TransactionId,
};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// From when on a self-signed certificate of the adapter is made anew: half of its life.
const IDENTITY_LIFE: Duration = Duration::from_secs(15 * 86_400);
/// For how long capabilities and certificates of the server are taken for its present ones.
const SERVER_LIFE: Duration = Duration::from_secs(3_600);

/// The key that signs messages to the server and opens its answers: RSA.
#[derive(Clone, Debug)]
pub struct UpstreamKey {
    /// It, to sign.
    pub signer: Arc<dyn Signer>,
    /// It, to open answers.
    pub decryption: DecryptionKey,
    /// A certificate of it, where the server wants to know who brings requests. Otherwise a self-signed one is made.
    pub certificate: Option<CertificateDer>,
}

/// Where the other server is, and how it is asked.
#[derive(Debug)]
pub struct UpstreamSettings {
    /// Its SCEP URL.
    pub url: String,
    /// HTTP, time limits, algorithms.
    pub client: ClientSettings,
    /// The adapter's own key.
    pub key: UpstreamKey,
}

/// A CA behind another SCEP server. It cannot revoke: SCEP has no message for that.
///
/// Makes no connection before it is first asked. The chain is configured and not believed.
#[derive(Debug)]
pub struct ScepUpstream {
    chain: Vec<CertificateDer>,
    trust: Trust,
    client: ScepClient,
    key: UpstreamKey,
    memory: Mutex<Memory>,
    clock: Arc<dyn Clock>,
    provider: Arc<dyn CryptoProvider>,
}

/// What is known from earlier calls.
#[derive(Debug, Default)]
struct Memory {
    server: Option<(Server, Timestamp)>,
    identity: Option<(Identity, Timestamp)>,
    trouble: Option<(String, Instant)>,
}

impl ScepUpstream {
    /// `chain`: the CA that issues first, then upwards; GetCACert's certificates must lead to the last of them.
    ///
    /// # Errors
    /// When the chain does not hold together, the URL is none, or the key is not one RSA key with its certificate.
    pub fn new(
        settings: UpstreamSettings,
        chain: Vec<CertificateDer>,
        clock: Arc<dyn Clock>,
        provider: Arc<dyn CryptoProvider>,
    ) -> Result<Self, CaError> {
        let anchor = chain.last().ok_or(CaError::NotACa { position: 0 })?.clone();
        chain::check(&chain, &*provider)?;
        let UpstreamSettings { url, client, key } = settings;
        let client = ScepClient::with_settings(&url, client).map_err(setting("URL"))?;
        let upstream = Self {
            chain,
            trust: Trust::Certificate(anchor),
            client,
            key,
            memory: Mutex::default(),
            clock,
            provider,
        };
        upstream.identity(upstream.clock.now()).map_err(setting("key"))?;
        Ok(upstream)
    }

    /// Asks the server what it can do and for its certificates: for an operator to see that it is there and trusted.
    ///
    /// # Errors
    /// When it cannot be reached, or its certificates do not lead to the configured chain.
    pub async fn connect(&self) -> Result<(), CaError> {
        self.memory().server = None;
        match self.server(self.clock.now()).await {
            Ok(_) => Ok(()),
            Err(error) => Err(unavailable(&error)),
        }
    }

    fn memory(&self) -> std::sync::MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who signs: the configured certificate, or a self-signed one that is not older than half of its life.
    fn identity(&self, now: Timestamp) -> Result<Identity, ClientError> {
        let UpstreamKey { signer, decryption, certificate } = &self.key;
        if let Some((identity, made)) = &self.memory().identity
            && now.since(*made) < IDENTITY_LIFE
        {
            return Ok(identity.clone());
        }
        let (signer, decryption) = (Arc::clone(signer), decryption.clone());
        let identity = match certificate {
            Some(certificate) => Identity::certified(certificate.clone(), signer, decryption)?,
            None => {
                let nobody = DistinguishedName::default();
                Identity::self_signed(&nobody, signer, decryption, now, &*self.provider)?
            }
        };
        self.memory().identity = Some((identity.clone(), now));
        Ok(identity)
    }

    /// What the server can do, and its certificates; asked for again after a while.
    async fn server(&self, now: Timestamp) -> Result<Server, ClientError> {
        if let Some((server, seen)) = &self.memory().server
            && now.since(*seen) < SERVER_LIFE
        {
            return Ok(server.clone());
        }
        let found = self.client.discover(&self.trust, now, &*self.provider).await;
        self.note(found.as_ref().err());
        let server = found?;
        self.memory().server = Some((server.clone(), now));
        Ok(server)
    }

    /// A refusal is no trouble of the server's: it answers.
    fn note(&self, error: Option<&ClientError>) {
        let trouble = error.filter(|error| !matches!(error, ClientError::Refused { .. }));
        let mut memory = self.memory();
        memory.trouble = trouble.map(|error| {
            let since = memory.trouble.as_ref().map_or_else(Instant::now, |(_, since)| *since);
            (error.to_string(), since)
        });
    }

    /// Has the request sent, once; whatever fails before that has certainly done nothing.
    async fn send(&self, permit: &IssuePermit) -> Result<Answer, IssueError> {
        let now = self.clock.now();
        let nothing = |error: ClientError| IssueError::NothingIssued(unavailable(&error));
        let identity = self.identity(now).map_err(nothing)?;
        let server = self.server(now).await.map_err(nothing)?;
        let transaction = transaction(permit.request())
            .map_err(|error| IssueError::NothingIssued(setting("transactionID")(error)))?;
        let request = permit.csr_der();
        let answer = self
            .client
            .enrol_in(transaction, &server, request, &identity, now, &*self.provider)
            .await;
        self.note(answer.as_ref().err());
        answer.map_err(|error| {
            if matches!(error, ClientError::Refused { fail_info: FailInfo::BadMessageCheck, .. }) {
                // Its certificates may be others by now: the next request sees.
                self.memory().server = None;
            }
            after_sending(&error)
        })
    }

    /// Checks that this CA has issued a certificate: its name and its signature.
    ///
    /// # Errors
    /// [`CaError::NotIssuedHere`].
    pub fn check_issued(&self, certificate: &CertificateDer) -> Result<(), CaError> {
        let ours = self.chain.first().ok_or(CaError::NotIssuedHere)?;
        if !chain::same_name(certificate.issuer_der(), ours.subject_der()) {
            return Err(CaError::NotIssuedHere);
        }
        chain::signature(certificate, ours, 0, &*self.provider).map_err(|_| CaError::NotIssuedHere)
    }
}

/// The same for the same request, and for no other: so a request whose answer was lost is found again.
fn transaction(request: CsrInfoHash) -> Result<TransactionId, ClientError> {
    let text: String = request.as_bytes().iter().map(|octet| format!("{octet:02X}")).collect();
    TransactionId::new(text).map_err(ClientError::TransactionId)
}

fn setting(what: &'static str) -> impl Fn(ClientError) -> CaError {
    move |error| CaError::Setting { what, why: error.to_string() }
}

fn unavailable(error: &ClientError) -> CaError {
    CaError::Unavailable { why: error.to_string() }
}

/// What an error means for a message that was on its way: only what certainly never arrived, or was answered by no, has
/// issued nothing.
fn after_sending(error: &ClientError) -> IssueError {
    match error {
        ClientError::Refused { .. } => {
            IssueError::NothingIssued(CaError::Refused { why: error.to_string() })
        }
        ClientError::Url { .. }
        | ClientError::Setup { .. }
        | ClientError::KeyCannotOpen { .. }
        | ClientError::NoChallengeToOpenWith { .. }
        | ClientError::KeysDiffer
        | ClientError::Key(_)
        | ClientError::Request(_)
        | ClientError::RequestKey(_)
        | ClientError::OwnCertificate(_)
        | ClientError::TransactionId(_)
        | ClientError::Unreachable { .. }
        | ClientError::Redirect { .. }
        | ClientError::CaCertificates(_)
        | ClientError::FingerprintMismatch { .. }
        | ClientError::Untrusted
        | ClientError::NoRecipient
        | ClientError::NoCommonAlgorithm { .. }
        | ClientError::Build(_) => IssueError::NothingIssued(unavailable(error)),
        ClientError::Connection { .. }
        | ClientError::Timeout { .. }
        | ClientError::Status { .. }
        | ClientError::TooLong { .. }
        | ClientError::Reply(_)
        | ClientError::StillPending { .. }
        | ClientError::Empty { .. }
        | ClientError::UnexpectedPending
        | ClientError::OtherKey
        | ClientError::OtherIssuer
        | ClientError::NextCaUnsigned => {
            IssueError::Unknown(CaError::Answer { why: error.to_string() })
        }
    }
}

#[async_trait]
impl CertificateAuthority for ScepUpstream {
    fn chain(&self) -> &[CertificateDer] {
        &self.chain
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { revoke: CanRevoke::No, recover: Recover::ByTransaction }
    }

    fn health(&self) -> CaHealth {
        match &self.memory().trouble {
            None => CaHealth::Ok,
            Some((why, since)) => CaHealth::Degraded { why: why.clone(), since: *since },
        }
    }

    fn is_elsewhere(&self) -> bool {
        true
    }

    /// The server chooses.
    fn choose_serial(&self) -> Result<Option<SerialNumber>, CaError> {
        Ok(None)
    }

    async fn issue(&self, permit: IssuePermit) -> Result<CertificateDer, IssueError> {
        match self.send(&permit).await? {
            Answer::Pending(_) => Err(IssueError::Pending),
            Answer::Issued(issued) => {
                self.check_issued(&issued.certificate).map_err(IssueError::Unknown)?;
                Ok(issued.certificate)
            }
        }
    }

    /// By CertPoll. A server that has forgotten the transaction, or never knew it, and one that polls no transactions say
    /// the same: it cannot be known. Only of a request that the server itself has kept waiting is a refusal its decision.
    async fn find(&self, wanted: &Wanted<'_>) -> Result<Found, CaError> {
        let now = self.clock.now();
        let identity = self.identity(now).map_err(setting("key"))?;
        let server = self.server(now).await.map_err(|error| unavailable(&error))?;
        let transaction = transaction(wanted.request).map_err(setting("transactionID"))?;
        let subject = wanted.subject_der.to_vec();
        let pending = Pending::for_key(transaction, subject, wanted.spki.clone());
        let polled = self.client.poll(&server, &pending, &identity, now, &*self.provider).await;
        self.note(polled.as_ref().err());
        match polled {
            Ok(Answer::Pending(_)) => Ok(Found::Pending),
            Ok(Answer::Issued(issued)) => match self.check_issued(&issued.certificate) {
                Ok(()) => Ok(Found::Certificate(issued.certificate)),
                Err(_) => Ok(Found::Unknown),
            },
            Err(ClientError::Refused { fail_info, .. }) => {
                // badCertId: it knows no such transaction, which a server says that has forgotten it.
                let decided = wanted.pending && fail_info == FailInfo::BadRequest;
                if fail_info == FailInfo::BadMessageCheck {
                    self.memory().server = None;
                    let why = "it does not understand the message; its certificates are read anew";
                    return Err(CaError::Unavailable { why: why.into() });
                }
                Ok(if decided { Found::Nothing } else { Found::Unknown })
            }
            // An answer, and none that tells: a server that polls no transactions says so with a status, too.
            Err(ClientError::OtherKey | ClientError::OtherIssuer | ClientError::Empty { .. }) => {
                Ok(Found::Unknown)
            }
            Err(ClientError::Status { status, .. })
                if !matches!(status, 408 | 425 | 429 | 502..=504) =>
            {
                Ok(Found::Unknown)
            }
            Err(error) => Err(unavailable(&error)),
        }
    }
}
