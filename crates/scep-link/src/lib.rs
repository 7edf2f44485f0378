#![doc = include_str!("../README.md")]
#![warn(clippy::arithmetic_side_effects)]
#![cfg_attr(test, allow(clippy::arithmetic_side_effects))]

mod answer;
mod check_in;
mod command;
mod enrol;
mod json;
mod possession;
mod renew;
mod report;
mod statement;
mod text;
mod value;

pub use answer::{
    Answer, AnswerError, ErrorCode, Outcome, Problem, Retry, Success, accept, accept_signed,
};
pub use check_in::{
    CertificateExpiry, CertificatePurpose, CheckInRequest, Commands, Counters, DenialChanges,
    DenialSubject, Health, KeyChanges, LedgerBinding, LogLevel, MAX_DENIALS, MAX_KEY_CHANGES,
    MAX_ORDERS, MAX_WAIT, RenewalOrder, RenewalSubject, RevocationOrder, RevocationReason,
};
pub use command::{
    CommandError, CommandReason, CommandVerifier, CommandVerifierError, MAX_COMMANDS, MAX_LIFETIME,
    MAX_SKEW, SealError, VerifiedCommands, is_suitable, seal_commands,
};
pub use enrol::{EnrolRequest, EnrolResponse, LedgerKind, Membership, TrustedKey};
pub use json::{Breach, Message, MessageError, V1, read, write};
pub use possession::{PossessionChallenge, PossessionError, PossessionProof, challenge, prove};
pub use renew::{
    ProvenRenewal, RenewRequest, RenewResponse, Renewal, RenewalError, Renewed,
    renew_authentication, renew_decryption,
};
pub use report::{
    Acknowledgement, Body, Event, MAX_BODY, MAX_EVENTS, ReportBatch, RevocationRecorded,
    RevocationResult, RevocationResults, RevocationState,
};
pub use value::{EnrolmentToken, EventKind, IdempotencyKey, Pkcs10Der, SoftwareVersion, TokenHash};
