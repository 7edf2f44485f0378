//! Why the ledger could not do its work, and why it refused a first use.

use core::fmt;
use scep_types::{Fault, Reason};
use std::path::PathBuf;
use thiserror::Error;

/// What a database engine said, in its own words. Its types do not leak, so that its upgrade breaks nobody.
#[derive(Clone, PartialEq, Eq)]
pub struct EngineError {
    pub(crate) code: Option<i32>,
    pub(crate) message: String,
}

impl fmt::Display for EngineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        self.code.map_or(Ok(()), |code| write!(f, " (code {code})"))
    }
}

impl fmt::Debug for EngineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for EngineError {}

/// Why the ledger could not do its work (never: what it decided).
///
/// Whenever a step fails with one of these, the caller must act as if the step had not happened and as if it had:
/// answer nothing that depends on it, and let recovery find out.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LedgerError {
    /// A file of the ledger cannot be made, opened or locked.
    #[error("cannot {action} {}: {kind}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// As the system says.
        kind: std::io::ErrorKind,
    },
    /// Others may read or write the file.
    #[error("{} has mode {mode:o}; others must have no access (600)", path.display())]
    FileMode {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Another gateway has the ledger open. A group of several gateways shares PostgreSQL instead.
    #[error("{} is in use by another process; one SQLite ledger serves one gateway", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// A setting on which durability rests is not in force on a connection.
    #[error("{setting} is {got}, but {wanted} is demanded")]
    Setting {
        /// The engine's name of the setting.
        setting: &'static str,
        /// What is needed.
        wanted: &'static str,
        /// What was read back.
        got: String,
    },
    /// A database server that must not be used like this, or not for this.
    #[error("PostgreSQL: {what}")]
    Connection {
        /// What is wrong.
        what: String,
    },
    /// The file is a database of something else.
    #[error("{} is not a ledger", path.display())]
    NotALedger {
        /// The file.
        path: PathBuf,
    },
    /// A newer version has written this ledger. An older one would misread it.
    #[error("the ledger has schema {found}; this version knows {known} at most")]
    SchemaNewer {
        /// In the ledger.
        found: i64,
        /// The newest known here.
        known: i64,
    },
    /// The engine failed while doing something.
    #[error("the ledger could not {action}")]
    Engine {
        /// What was being done.
        action: &'static str,
        /// In the engine's words.
        source: EngineError,
    },
    /// A row does not hold what its column promises: the file was altered or is damaged.
    #[error("the ledger is damaged: {what}")]
    Damaged {
        /// Table and column.
        what: &'static str,
    },
    /// The system gave no randomness for the ledger's id.
    #[error("no randomness for the ledger's id")]
    Randomness,
    /// The thread that works for this ledger has ended: after a failed commit nothing is accepted any more
    /// until the ledger is opened anew, because what reached the disk is not known.
    #[error("the ledger is closed; open it anew")]
    Closed,
    /// The certificate belongs to another challenge or another key than the intent it should settle.
    #[error("the certificate is not of this intent")]
    Mismatch,
    /// The intent has been settled already.
    #[error("the intent was settled before")]
    AlreadySettled,
    /// No certificate with this fingerprint is on record.
    #[error("no such certificate on record")]
    NoSuchCertificate,
    /// No request with this number waits for a person: there is none, it was decided otherwise, or its time is over.
    #[error("no such request waits for approval")]
    NotHeld,
    /// The store keeps no revocations.
    #[error("this ledger's store keeps no revocations")]
    NoRevocations,
    /// Another gateway has recorded a CRL since the entries of this one were read: this one may lack some.
    #[error("CRL {last} was recorded meanwhile")]
    CrlOvertaken {
        /// The last CRL's number.
        last: u64,
    },
    /// A CRL must have a higher number than the one before.
    #[error("CRL number {got} is not above the last one, {last}")]
    CrlNumber {
        /// The new CRL's.
        got: u64,
        /// The last one's.
        last: u64,
    },
    /// Somebody acknowledges events that are too far ahead for any backup to lack them.
    #[error("event {acknowledged} was acknowledged, but the last one is {last}")]
    Implausible {
        /// What was acknowledged.
        acknowledged: u64,
        /// What this ledger has written.
        last: u64,
    },
}

impl LedgerError {
    /// Whose fault it is.
    #[must_use]
    pub const fn fault(&self) -> Fault {
        match self {
            Self::FileMode { .. }
            | Self::InUse { .. }
            | Self::Setting { .. }
            | Self::Connection { .. }
            | Self::NotALedger { .. }
            | Self::NoRevocations
            | Self::SchemaNewer { .. } => Fault::OurConfiguration,
            Self::File { .. }
            | Self::Engine { .. }
            | Self::Damaged { .. }
            | Self::Randomness
            | Self::Closed
            | Self::Implausible { .. } => Fault::OurDependency,
            Self::Mismatch
            | Self::AlreadySettled
            | Self::NoSuchCertificate
            | Self::NotHeld
            | Self::CrlOvertaken { .. }
            | Self::CrlNumber { .. } => Fault::OurBug,
        }
    }

    /// The reason it is reported under.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        match self.fault() {
            Fault::OurBug => Reason::InternalError,
            Fault::PeerMessage
            | Fault::PeerRights
            | Fault::OurConfiguration
            | Fault::OurDependency => Reason::LedgerUnavailable,
        }
    }
}

/// Why a first use was refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AdmitError {
    /// The ledger says no. The reason is one of ChallengeAlreadyUsed, ChallengeLocked, ChallengeExpired,
    /// ChallengeBeforeRestore, ScepProfileNoLongerTargetedToTheClient, KeyAlreadyCertified, IssuanceBrakeEngaged,
    /// RequestInProgress; for a request to be held also RateExceeded; for one that was held also ApprovalDenied,
    /// ApprovalExpired, CaRefused, ChallengeNotServed (approved was a certificate of another CA) and InternalError (other
    /// claims than were approved); for a renewal also RenewalNotAllowed.
    #[error("not admitted: {0}")]
    Refused(Reason),
    /// It could not be asked.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

impl AdmitError {
    /// The reason it is reported under.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        match self {
            Self::Refused(reason) => *reason,
            Self::Ledger(error) => error.reason(),
        }
    }
}
