//! The operations.

use crate::algorithms;
use crate::error::{ClientError, Step};
use crate::http::{ClientSettings, Http, Send, Transport, query};
use crate::identity::Identity;
use crate::path::{Judge, is_ca};
use crate::server::{CaCertificates, Server, Trust};
use core::fmt;
use core::time::Duration;
use scep_message::caps::Capabilities;
use scep_message::client::{self, Ask, Expected, Reply};
use scep_message::{MessageType, ca_cert, next_ca};
use scep_types::tlv::{Reader, Tlv, TlvError, tag};
use scep_types::{
    CertificateDer, CryptoProvider, KeyAlgorithm, ObjectIdentifier, Secret, SerialNumber, SpkiDer,
    Timestamp, TransactionId,
};
use std::sync::Arc;

/// A SCEP client of one server. Cheap to clone; clones share their connections.
#[derive(Clone, Debug)]
pub struct ScepClient {
    http: Http,
    settings: ClientSettings,
}

/// A certificate that was issued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// For the key of the request.
    pub certificate: CertificateDer,
    /// Its issuer and those above, as far as the server sent them.
    pub chain: Vec<CertificateDer>,
    /// Under which the server knows the operation.
    pub transaction_id: TransactionId,
}

/// What a server answers to a request for a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Here it is.
    Issued(Box<Issued>),
    /// Later: [`ScepClient::poll`] or [`ScepClient::wait`].
    Pending(Pending),
}

/// An operation that the server has not decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    transaction_id: TransactionId,
    wanted: Wanted,
}

impl Pending {
    /// After a restart: from the transactionID that was kept, and the request's DER.
    ///
    /// # Errors
    /// When it is no PKCS #10 request.
    pub fn resume(transaction_id: TransactionId, request: &[u8]) -> Result<Self, ClientError> {
        Ok(Self { transaction_id, wanted: Wanted::of(request)? })
    }

    /// Without the request: by what it asked for, its subject (a Name, DER) and its key. To be polled with an RSA identity
    /// only, as the answer to an EC key is encrypted with the request's challenge.
    #[must_use]
    pub const fn for_key(transaction_id: TransactionId, subject: Vec<u8>, spki: SpkiDer) -> Self {
        Self { transaction_id, wanted: Wanted { subject, spki, challenge: None } }
    }

    /// The transactionID, to be kept over a restart.
    #[must_use]
    pub const fn transaction_id(&self) -> &TransactionId {
        &self.transaction_id
    }
}

/// How long to wait for a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Polling {
    /// Before each poll.
    pub interval: Duration,
    /// Most polls.
    pub polls: u32,
}

impl Default for Polling {
    /// Every minute for an hour.
    fn default() -> Self {
        Self { interval: Duration::from_secs(60), polls: 60 }
    }
}

const CHALLENGE_PASSWORD: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.7");

/// What a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Wanted {
    /// Name, DER.
    subject: Vec<u8>,
    spki: SpkiDer,
    challenge: Option<Challenge>,
}

/// The request's challenge, which the answer to an EC key is encrypted with.
#[derive(Clone)]
struct Challenge(Arc<Secret<String>>);

impl fmt::Debug for Challenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Challenge(..)")
    }
}

impl PartialEq for Challenge {
    fn eq(&self, other: &Self) -> bool {
        self.0.expose() == other.0.expose()
    }
}

impl Eq for Challenge {}

impl Wanted {
    fn of(request: &[u8]) -> Result<Self, ClientError> {
        let read = || {
            let outer = Reader::new(request).only(tag::SEQUENCE)?;
            let mut info = outer.reader().expect(tag::SEQUENCE)?.reader();
            info.expect(tag::INTEGER)?;
            let (subject, spki) = (info.expect(tag::SEQUENCE)?, info.expect(tag::SEQUENCE)?);
            let mut challenge = None;
            if let Some(attributes) = info.optional(tag::context_constructed(0))? {
                let mut attributes = attributes.reader();
                while !attributes.is_empty() {
                    let mut attribute = attributes.expect(tag::SEQUENCE)?.reader();
                    if attribute.any()?.oid()? == CHALLENGE_PASSWORD {
                        challenge = Self::read_challenge(&attribute.expect(tag::SET)?)?;
                    }
                }
            }
            Ok((subject.raw, spki.raw, challenge))
        };
        let (subject, spki, challenge) = read().map_err(ClientError::Request)?;
        Ok(Self { subject: subject.to_vec(), spki: SpkiDer::parse(spki)?, challenge })
    }

    fn challenge(&self) -> Option<&Secret<String>> {
        self.challenge.as_ref().map(|challenge| &*challenge.0)
    }

    /// Of the kinds of string that are UTF-8 as they stand; a blank one is none.
    fn read_challenge(values: &Tlv<'_>) -> Result<Option<Challenge>, TlvError> {
        let value = values.reader().any()?;
        let utf8 = matches!(
            value.tag,
            tag::UTF8_STRING | tag::PRINTABLE_STRING | tag::IA5_STRING | tag::OCTET_STRING
        );
        let text = core::str::from_utf8(value.value).ok();
        let text = text.filter(|text| utf8 && !text.trim().is_empty());
        Ok(text.map(|text| Challenge(Arc::new(Secret::new(text.to_owned())))))
    }
}

/// One message and who is to read and answer it.
struct Message<'a> {
    kind: MessageType,
    transaction_id: &'a TransactionId,
    data: &'a [u8],
    identity: &'a Identity,
    challenge: Option<&'a Secret<String>>,
}

impl ScepClient {
    /// With the usual settings.
    ///
    /// # Errors
    /// When the URL is not one of HTTP or HTTPS.
    pub fn new(url: &str) -> Result<Self, ClientError> {
        Self::with_settings(url, ClientSettings::default())
    }

    /// With settings of its own.
    ///
    /// # Errors
    /// When the URL is not one of HTTP or HTTPS, or the settings cannot be used.
    pub fn with_settings(url: &str, settings: ClientSettings) -> Result<Self, ClientError> {
        Ok(Self { http: Http::new(url, &settings)?, settings })
    }

    async fn ask(&self, step: Step) -> Result<Vec<u8>, ClientError> {
        let query = query(step, self.settings.ca_identifier.as_deref());
        self.http.exchange(step, Send::Query(query)).await
    }

    fn judge<'a>(&self, now: Timestamp, provider: &'a dyn CryptoProvider) -> Judge<'a> {
        Judge { provider, legacy: self.settings.legacy, now }
    }

    /// GetCACaps. A server that answers with an HTTP error has no capabilities (RFC 8894, 3.5.2).
    ///
    /// # Errors
    /// When it cannot be reached, redirects, or answers at too great a length.
    pub async fn get_ca_caps(&self) -> Result<Capabilities, ClientError> {
        match self.ask(Step::GetCaCaps).await {
            Ok(body) => Ok(Capabilities::parse(&String::from_utf8_lossy(&body))),
            Err(ClientError::Status { .. }) => Ok(Capabilities::default()),
            Err(error) => Err(error),
        }
    }

    /// GetCACert: one certificate or a bundle, of which those are kept that `trust` covers at `now`.
    ///
    /// # Errors
    /// When the exchange fails, the answer cannot be read, or no certificate in it is both trusted and fit to
    /// encrypt requests to.
    pub async fn get_ca_cert(
        &self,
        trust: &Trust,
        now: Timestamp,
        provider: &dyn CryptoProvider,
    ) -> Result<CaCertificates, ClientError> {
        let body = self.ask(Step::GetCaCert).await?;
        let sent =
            ca_cert::parse(&body, &self.settings.limits).map_err(ClientError::CaCertificates)?;
        CaCertificates::judge(sent, trust, &self.judge(now, provider))
    }

    /// GetCACaps and GetCACert.
    ///
    /// # Errors
    /// As for both.
    pub async fn discover(
        &self,
        trust: &Trust,
        now: Timestamp,
        provider: &dyn CryptoProvider,
    ) -> Result<Server, ClientError> {
        let capabilities = self.get_ca_caps().await?;
        let certificates = self.get_ca_cert(trust, now, provider).await?;
        Ok(Server { capabilities, certificates })
    }

    /// GetNextCACert: the CA certificates that come after the present ones, in the order sent. The answer must be
    /// signed by the key of a CA that is trusted now (RFC 8894, 4.7.1).
    ///
    /// # Errors
    /// When the exchange fails, the answer cannot be read, or nobody that is trusted has signed it.
    pub async fn get_next_ca_cert(
        &self,
        server: &Server,
        provider: &dyn CryptoProvider,
    ) -> Result<Vec<CertificateDer>, ClientError> {
        let body = self.ask(Step::GetNextCaCert).await?;
        let ClientSettings { limits, legacy, .. } = &self.settings;
        let (certificates, signer) = next_ca::parse(&body, provider, *legacy, limits)
            .map_err(ClientError::CaCertificates)?;
        let trusted = server.certificates.trusted();
        // The CA itself: an RA's key, which every request meets, must not be worth a new trust anchor.
        if !trusted.iter().any(|c| is_ca(c) && *c.spki() == signer) {
            return Err(ClientError::NextCaUnsigned);
        }
        Ok(certificates)
    }

    /// PKCSReq: asks for a first certificate with a PKCS #10 request, DER.
    ///
    /// # Errors
    /// [`ClientError::Refused`] when the server refuses; otherwise when the exchange fails, or the answer is not
    /// from this server, not for this request, or with a certificate that is not for its key or not of the
    /// trusted CA.
    pub async fn enrol(
        &self,
        server: &Server,
        request: &[u8],
        identity: &Identity,
        now: Timestamp,
        provider: &dyn CryptoProvider,
    ) -> Result<Answer, ClientError> {
        self.certificate(server, MessageType::PkcsReq, request, identity, now, provider).await
    }

    /// PKCSReq in a transaction that the caller names, to ask after it later even if this answer is lost. The same name must
    /// never be given to two requests. Otherwise as [`ScepClient::enrol`].
    ///
    /// # Errors
    /// As for [`ScepClient::enrol`].
    pub async fn enrol_in(
        &self,
        transaction_id: TransactionId,
        server: &Server,
        request: &[u8],
        identity: &Identity,
        now: Timestamp,
        provider: &dyn CryptoProvider,
    ) -> Result<Answer, ClientError> {
        let pending = Pending::resume(transaction_id, request)?;
        self.ask_for(server, MessageType::PkcsReq, pending, request, identity, now, provider).await
    }

    /// RenewalReq, signed with the certificate to be renewed. A server that does not advertise `Renewal` gets a
    /// PKCSReq signed so, as the field does.
    ///
    /// # Errors
    /// As for [`ScepClient::enrol`].
    pub async fn renew(
        &self,
        server: &Server,
        request: &[u8],
        identity: &Identity,
        now: Timestamp,
        provider: &dyn CryptoProvider,
    ) -> Result<Answer, ClientError> {
        let kind = if server.capabilities.renewal {
            MessageType::RenewalReq
        } else {
            MessageType::PkcsReq
        };
        self.certificate(server, kind, request, identity, now, provider).await
    }

    async fn certificate(
        &self,
        server: &Server,
        kind: MessageType,
        request: &[u8],
        identity: &Identity,
        now: Timestamp,
        provider: &dyn CryptoProvider,
    ) -> Result<Answer, ClientError> {
        let pending = Pending::resume(transaction_id(provider)?, request)?;
        self.ask_for(server, kind, pending, request, identity, now, provider).await
    }

    #[allow(clippy::too_many_arguments, reason = "of an operation, each once")]
    async fn ask_for(
        &self,
        server: &Server,
        kind: MessageType,
        pending: Pending,
        request: &[u8],
        identity: &Identity,
        now: Timestamp,
        provider: &dyn CryptoProvider,
    ) -> Result<Answer, ClientError> {
        let transaction_id = &pending.transaction_id;
        let challenge = pending.wanted.challenge();
        let message = Message { kind, transaction_id, data: request, identity, challenge };
        let reply = self.exchange(server, &message, provider).await?;
        self.answer(server, pending, reply, now, provider)
    }

    /// CertPoll: asks again for a certificate that was pending.
    ///
    /// # Errors
    /// As for [`ScepClient::enrol`].
    pub async fn poll(
        &self,
        server: &Server,
        pending: &Pending,
        identity: &Identity,
        now: Timestamp,
        provider: &dyn CryptoProvider,
    ) -> Result<Answer, ClientError> {
        let data =
            client::issuer_and_subject(server.certificates.issuer_der(), &pending.wanted.subject);
        let message = Message {
            kind: MessageType::CertPoll,
            transaction_id: &pending.transaction_id,
            data: &data,
            identity,
            challenge: pending.wanted.challenge(),
        };
        let reply = self.exchange(server, &message, provider).await?;
        self.answer(server, pending.clone(), reply, now, provider)
    }

    /// Polls until the certificate is there.
    ///
    /// # Errors
    /// [`ClientError::StillPending`] after the last poll; otherwise as for [`ScepClient::enrol`].
    pub async fn wait(
        &self,
        server: &Server,
        answer: Answer,
        identity: &Identity,
        polling: Polling,
        now: Timestamp,
        provider: &dyn CryptoProvider,
    ) -> Result<Issued, ClientError> {
        let mut answer = answer;
        let mut waited = Duration::ZERO;
        for _ in 0..polling.polls {
            let pending = match answer {
                Answer::Issued(issued) => return Ok(*issued),
                Answer::Pending(pending) => pending,
            };
            tokio::time::sleep(polling.interval).await;
            waited = waited.saturating_add(polling.interval);
            answer = self.poll(server, &pending, identity, now.plus(waited), provider).await?;
        }
        match answer {
            Answer::Issued(issued) => Ok(*issued),
            Answer::Pending(_) => Err(ClientError::StillPending { polls: polling.polls }),
        }
    }

    /// GetCert: a certificate that this CA has issued, by serial number.
    ///
    /// # Errors
    /// As for [`ScepClient::enrol`]; [`ClientError::Empty`] when the answer has no such certificate.
    pub async fn get_cert(
        &self,
        server: &Server,
        serial: &SerialNumber,
        identity: &Identity,
        provider: &dyn CryptoProvider,
    ) -> Result<CertificateDer, ClientError> {
        let issuer = server.certificates.issuer_der();
        match self.query(server, MessageType::GetCert, issuer, serial, identity, provider).await? {
            Reply::Success(certificates) => certificates
                .into_iter()
                .find(|c| c.serial().as_ref() == Some(serial))
                .ok_or(ClientError::Empty { expected: "certificate of this serial number" }),
            _ => Err(ClientError::Empty { expected: "certificate" }),
        }
    }

    /// GetCRL: the CRL, DER, that would list the certificate with this serial number. Its signature is for the
    /// caller to verify.
    ///
    /// # Errors
    /// As for [`ScepClient::enrol`]; [`ClientError::Empty`] when the answer has no CRL.
    pub async fn get_crl(
        &self,
        server: &Server,
        serial: &SerialNumber,
        identity: &Identity,
        provider: &dyn CryptoProvider,
    ) -> Result<Vec<u8>, ClientError> {
        let issuer = server.certificates.issuer_der();
        match self.query(server, MessageType::GetCrl, issuer, serial, identity, provider).await? {
            Reply::Crls(crls) => {
                crls.into_iter().next().ok_or(ClientError::Empty { expected: "CRL" })
            }
            _ => Err(ClientError::Empty { expected: "CRL" }),
        }
    }

    async fn query(
        &self,
        server: &Server,
        kind: MessageType,
        issuer: &[u8],
        serial: &SerialNumber,
        identity: &Identity,
        provider: &dyn CryptoProvider,
    ) -> Result<Reply, ClientError> {
        let data = client::issuer_and_serial(issuer, serial.as_content());
        let transaction_id = &transaction_id(provider)?;
        let challenge = None;
        let message = Message { kind, transaction_id, data: &data, identity, challenge };
        match self.exchange(server, &message, provider).await? {
            Reply::Failure { fail_info, text } => Err(ClientError::Refused { fail_info, text }),
            Reply::Pending => Err(ClientError::UnexpectedPending),
            reply => Ok(reply),
        }
    }

    /// Sends one message and verifies what comes back.
    async fn exchange(
        &self,
        server: &Server,
        message: &Message<'_>,
        provider: &dyn CryptoProvider,
    ) -> Result<Reply, ClientError> {
        let me = &message.identity.recipient;
        let key = me.certificate.spki().algorithm();
        // Nothing is sent that could not be answered.
        if !matches!(key, KeyAlgorithm::Rsa(_)) && message.challenge.is_none() {
            return Err(ClientError::NoChallengeToOpenWith { key });
        }
        let algorithms = algorithms::choose(&server.capabilities, self.settings.legacy)?;
        let ask = Ask {
            message_type: message.kind,
            transaction_id: message.transaction_id,
            data: message.data,
            recipient: server.certificates.recipient(),
            padding: self.settings.key_transport,
            encryption: algorithms.encryption,
            scheme: algorithms.scheme(key),
        };
        let who =
            client::Identity { certificate: &me.certificate, signer: &*message.identity.signer };
        let (bytes, nonce) = client::request(&ask, &who, provider).map_err(ClientError::Build)?;
        let post = match self.settings.transport {
            Transport::Post => true,
            Transport::Get => false,
            Transport::Auto => server.capabilities.post || server.capabilities.scep_standard,
        };
        let send = if post { Send::PostMessage(bytes) } else { Send::GetMessage(&bytes) };
        let body = self.http.exchange(Step::PkiOperation, send).await?;
        let expected = Expected {
            transaction_id: message.transaction_id,
            nonce: &nonce,
            ra: server.certificates.signers(),
            me,
            challenge: message.challenge,
            legacy: self.settings.legacy,
        };
        expected.read(&body, provider, &self.settings.limits).map_err(ClientError::Reply)
    }

    fn answer(
        &self,
        server: &Server,
        pending: Pending,
        reply: Reply,
        now: Timestamp,
        provider: &dyn CryptoProvider,
    ) -> Result<Answer, ClientError> {
        let sent = match reply {
            Reply::Pending => return Ok(Answer::Pending(pending)),
            Reply::Failure { fail_info, text } => {
                return Err(ClientError::Refused { fail_info, text });
            }
            Reply::Crls(_) => return Err(ClientError::Empty { expected: "certificate" }),
            Reply::Success(sent) => sent,
        };
        // The leaf should be the first; what makes it ours is its key.
        let certificate = sent
            .iter()
            .find(|c| *c.spki() == pending.wanted.spki)
            .ok_or(ClientError::OtherKey)?
            .clone();
        let anchor = server.certificates.anchor();
        let pool: Vec<&CertificateDer> =
            sent.iter().chain(server.certificates.sent()).chain(anchor).collect();
        let chain = self.judge(now, provider).path(&certificate, &pool);
        let anchored = match anchor {
            // An anchor that is no CA has issued nothing: it vouches for the server alone.
            Some(anchor) if is_ca(anchor) => chain.contains(anchor),
            _ => !chain.is_empty() || !Judge::issuer_named(&certificate, &pool),
        };
        if !anchored {
            return Err(ClientError::OtherIssuer);
        }
        let transaction_id = pending.transaction_id;
        Ok(Answer::Issued(Box::new(Issued { certificate, chain, transaction_id })))
    }
}

/// 32 random upper-case hexadecimal digits.
///
/// RFC 8894, 3.2.1.1 demands that it be unique for each operation. Many clients use a hash of the public key, which
/// is the same for two operations with one key; and whoever sees it could tell which requests are of one device.
fn transaction_id(provider: &dyn CryptoProvider) -> Result<TransactionId, ClientError> {
    let mut random = [0; 16];
    provider.random(&mut random)?;
    let text: String = random.iter().map(|b| format!("{b:02X}")).collect();
    TransactionId::new(text).map_err(ClientError::TransactionId)
}
