#![doc = include_str!("../README.md")]
#![warn(clippy::arithmetic_side_effects)]
#![cfg_attr(
    not(feature = "sqlite"),
    allow(
        dead_code,
        reason = "only SQLite keeps revocations; with no store nobody makes the evidence"
    )
)]

mod clock;
mod error;
mod evidence;
mod expected;
mod held;
mod inventory;
mod judge;
mod ledger;
mod live;
#[cfg(feature = "postgres")]
mod postgres;
mod report;
mod revocation;
mod settings;
#[cfg(feature = "sqlite")]
mod sqlite;
mod store;

pub use clock::EffectiveNow;
pub use error::{AdmitError, EngineError, LedgerError};
pub use evidence::{
    Admission, IssuePermit, LeftBehind, Recall, Recoverable, Releasable, Unsettled,
};
pub use held::{Asked, HeldEnrolment, HeldRequest, HeldState, HeldVerdict, Polled};
pub use inventory::{
    Counters, Delivery, DenialSubject, InventoryEntry, RevocationReason, Standing,
};
pub use ledger::Ledger;
#[cfg(feature = "postgres")]
pub use postgres::PostgresConfig;
pub use report::{Acknowledged, Denied, EventKind, OutboxEvent};
pub use revocation::{
    CertificateStatus, CrlEntry, OrderedBy, QueueOutcome, RevocationJob, RevocationOrder,
    RevocationState, RevocationWork,
};
pub use settings::{LedgerSettings, RevocationBrake};
