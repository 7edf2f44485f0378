//! What can go wrong between a gateway and its issuer.

use crate::keys::KeyStoreError;
use core::time::Duration;
use scep_ledger::LedgerError;
use scep_link::{
    AnswerError, CommandError, CommandVerifierError, MessageError, PossessionError, Retry,
    SealError,
};
use scep_types::{Fault, KeyError, SpkiHash};
use std::path::PathBuf;
use thiserror::Error;

/// Why the connector did not do something.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConnectorError {
    /// A setting that cannot be used.
    #[error("{what}: {why}")]
    Setting {
        /// Which.
        what: &'static str,
        /// Why not.
        why: String,
    },
    /// The gateway has never enrolled.
    #[error("{} is not there: this gateway was never enrolled; enrol it with a token of the issuer", path.display())]
    NotEnrolled {
        /// The file of the state.
        path: PathBuf,
    },
    /// The file of the state cannot be read or written.
    #[error("{}: {why}", path.display())]
    State {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// Another process has the state: a running gateway, or an enrolment.
    #[error("{} is in use by another process; stop the gateway first", path.display())]
    StateInUse {
        /// The file.
        path: PathBuf,
    },
    /// A private key could not be had.
    #[error(transparent)]
    KeyStore(#[from] KeyStoreError),
    /// A private key, or the source of randomness, failed.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// One key has two roles.
    #[error("one key is both {one} and {other}")]
    SharedKey {
        /// A role.
        one: String,
        /// The other.
        other: String,
    },
    /// No connection.
    #[error("{whom} cannot be reached: {why}")]
    Unreachable {
        /// The issuer or the proxy, as host and port.
        whom: String,
        /// As the system says.
        why: String,
    },
    /// It took too long.
    #[error("{what} took longer than {after:?}")]
    TimedOut {
        /// What.
        what: &'static str,
        /// The limit.
        after: Duration,
    },
    /// The proxy does not tunnel.
    #[error("the proxy {proxy} answers CONNECT with status {status}{}", if *status == 407 { ": it wants a user and a password in its URL" } else { "" })]
    ProxyRefused {
        /// Which.
        proxy: String,
        /// The HTTP status.
        status: u16,
    },
    /// What the proxy says is not HTTP.
    #[error("the proxy {proxy} does not speak HTTP")]
    ProxyMalformed {
        /// Which.
        proxy: String,
    },
    /// The other end of TLS is not the issuer.
    #[error(
        "the TLS key is not the issuer's: expected SHA-256 {}, found {found}, certified by \"{certified_by}\"; \
         it looks like a proxy that opens TLS: exempt the issuer from TLS inspection",
        list(expected)
    )]
    AnotherTlsKey {
        /// The pins: SHA-256 over SubjectPublicKeyInfo.
        expected: Vec<SpkiHash>,
        /// What was found instead.
        found: SpkiHash,
        /// The issuer's Name in the certificate that was found.
        certified_by: String,
    },
    /// No TLS for another cause.
    #[error("TLS with {whom}: {why}")]
    Tls {
        /// The issuer or the proxy, as host and port.
        whom: String,
        /// In the words of the TLS library.
        why: String,
    },
    /// The connection broke, or the answer is not HTTP.
    #[error("HTTP: {why}")]
    Http {
        /// In the words of the HTTP library.
        why: String,
    },
    /// An answer without end.
    #[error("the answer is longer than {max} octets")]
    AnswerTooLong {
        /// The limit.
        max: usize,
    },
    /// The answer is no success.
    #[error("{error}")]
    Answer {
        /// Why.
        error: AnswerError,
        /// When the issuer wants to be asked again.
        retry_after: Option<Duration>,
    },
    /// The answer to a check-in was refused. Nothing of it was done.
    #[error("the answer to the check-in was refused: {0}")]
    Commands(#[from] CommandError),
    /// The pinned command keys cannot be used.
    #[error(transparent)]
    CommandKeys(#[from] CommandVerifierError),
    /// The issuer's answer is a success, but cannot be right.
    #[error("the issuer's answer cannot be used: {what}")]
    Contradiction {
        /// What is wrong.
        what: &'static str,
    },
    /// A message of ours cannot be written.
    #[error("a message could not be written: {0}")]
    Message(#[from] MessageError),
    /// A statement of ours cannot be signed.
    #[error(transparent)]
    Statement(#[from] SealError),
    /// The challenge of possession could not be answered.
    #[error(transparent)]
    Possession(#[from] PossessionError),
    /// The ledger failed.
    #[error("the ledger: {0}")]
    Ledger(#[from] LedgerError),
    /// What the gateway itself objects, in its own words: see [`Host::set_trust`](crate::Host::set_trust).
    #[error("{0}")]
    Other(String),
}

fn list(pins: &[SpkiHash]) -> String {
    pins.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or ")
}

impl ConnectorError {
    /// Whose fault it is.
    #[must_use]
    pub const fn fault(&self) -> Fault {
        match self {
            Self::Setting { .. }
            | Self::NotEnrolled { .. }
            | Self::StateInUse { .. }
            | Self::SharedKey { .. }
            | Self::ProxyRefused { .. }
            | Self::AnotherTlsKey { .. }
            | Self::CommandKeys(_)
            | Self::Other(_) => Fault::OurConfiguration,
            Self::State { .. }
            | Self::KeyStore(_)
            | Self::Unreachable { .. }
            | Self::TimedOut { .. }
            | Self::ProxyMalformed { .. }
            | Self::Tls { .. }
            | Self::Http { .. } => Fault::OurDependency,
            Self::AnswerTooLong { .. } | Self::Contradiction { .. } => Fault::PeerMessage,
            Self::Key(error) => error.fault(),
            Self::Answer { error, .. } => error.fault(),
            Self::Commands(error) => error.fault(),
            Self::Message(_) => Fault::OurBug,
            Self::Statement(error) => error.fault(),
            Self::Possession(error) => error.fault(),
            Self::Ledger(error) => error.fault(),
        }
    }

    /// Whether the same may succeed later without anybody's doing.
    #[must_use]
    pub const fn retry(&self) -> Retry {
        match self {
            Self::Answer { error, .. } => error.retry(),
            _ => match self.fault() {
                Fault::OurDependency | Fault::PeerMessage | Fault::PeerRights => Retry::Later,
                Fault::OurConfiguration | Fault::OurBug => Retry::Never,
            },
        }
    }

    /// Not before this time, says the issuer.
    pub(crate) const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Answer { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}
