//! One trace for each request: how far it came, what was expected, what came.
//!
//! The fields are an allow-list. No challenge, no CSR, no header is among them.

use core::fmt;
use scep_message::ReplySealing;
use scep_policy::FieldReport;
use scep_types::{
    CertificateFingerprint, ChallengeId, CsrInfoHash, DeviceId, ProfileId, Reason, SpkiHash,
    TenantId, TransactionId,
};
use serde::Serialize;
use std::net::IpAddr;

/// How far a request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// An HTTP request.
    Received,
    /// A CMS message.
    Parsed,
    /// Its signature verified.
    Verified,
    /// Its envelope opened.
    Decrypted,
    /// A query, read.
    Read,
    /// A PKCS #10 request, signed by its own key.
    Proven,
    /// Found to be a retry.
    Recalled,
    /// The challenge verified, decrypted and current.
    ChallengeOpened,
    /// The request is what the challenge allows.
    Approved,
    /// The challenge is spent, the intent durable.
    Admitted,
    /// The CA has issued.
    Issued,
    /// The certificate is durable.
    Recorded,
    /// The answer is made.
    Answered,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// A new certificate.
    Issued,
    /// The certificate issued before, to an honest retry.
    Repeated,
    /// Nothing yet: it waits for a person, or for the CA.
    Pending,
    /// Refused.
    Refused,
    /// Something of ours failed.
    Failed,
    /// GetCACaps, GetCACert, GetCert and the like: nothing to issue.
    Served,
}

/// The trace of one request.
#[derive(Clone, Debug)]
pub struct Trace {
    /// Shown to the device too: 8 hexadecimal digits.
    pub reference: String,
    /// The endpoint's name.
    pub endpoint: String,
    /// Who asks: the connection's peer, or whom a trusted proxy names.
    pub peer: Option<IpAddr>,
    /// `GET` or `POST`, and the operation.
    pub operation: &'static str,
    /// How far it came.
    pub stage: Stage,
    /// How it ended.
    pub outcome: Outcome,
    /// Why not.
    pub reason: Option<Reason>,
    /// Details of the reason, for the operator.
    pub detail: Option<String>,
    /// messageType as sent.
    pub message_type: Option<String>,
    /// transactionID.
    pub transaction: Option<TransactionId>,
    /// The outer signer's key.
    pub signer: Option<SpkiHash>,
    /// The request.
    pub request: Option<CsrInfoHash>,
    /// Of the challenge, once verified.
    pub tenant: Option<TenantId>,
    /// Of the challenge, once verified.
    pub challenge: Option<ChallengeId>,
    /// Of the challenge, once verified.
    pub device: Option<DeviceId>,
    /// Of the challenge, once verified.
    pub profile: Option<ProfileId>,
    /// Field by field, where the policy refused.
    pub fields: Vec<FieldReport>,
    /// The certificate's serial number.
    pub serial: Option<String>,
    /// The certificate.
    pub certificate: Option<CertificateFingerprint>,
    /// How it was encrypted for the device.
    pub sealed: Option<ReplySealing>,
}

impl Trace {
    pub(crate) fn new(reference: String, endpoint: &str, peer: Option<IpAddr>) -> Self {
        Self {
            reference,
            endpoint: endpoint.to_owned(),
            peer,
            operation: "?",
            stage: Stage::Received,
            outcome: Outcome::Refused,
            reason: None,
            detail: None,
            message_type: None,
            transaction: None,
            signer: None,
            request: None,
            tenant: None,
            challenge: None,
            device: None,
            profile: None,
            fields: Vec::new(),
            serial: None,
            certificate: None,
            sealed: None,
        }
    }

    /// The comparison that failed, field by field, for a log line.
    #[must_use]
    pub fn differences(&self) -> String {
        differences(&self.fields)
    }

    /// Writes the log line. What is not known is left out.
    pub(crate) fn log(&self) {
        fn known<T: fmt::Display>(value: Option<&T>) -> Option<tracing::field::DisplayValue<&T>> {
            value.map(tracing::field::display)
        }
        let differences = self.differences();
        let differences = Some(&differences).filter(|text| !text.is_empty());
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(
                    target: "scep",
                    reference = %self.reference,
                    endpoint = %self.endpoint,
                    peer = known(self.peer.as_ref()),
                    operation = self.operation,
                    stage = ?self.stage,
                    outcome = ?self.outcome,
                    reason = known(self.reason.as_ref()),
                    detail = known(self.detail.as_ref()),
                    message_type = known(self.message_type.as_ref()),
                    transaction = known(self.transaction.as_ref()),
                    signer = known(self.signer.as_ref()),
                    request = known(self.request.as_ref()),
                    tenant = known(self.tenant.as_ref()),
                    challenge = known(self.challenge.as_ref()),
                    device = known(self.device.as_ref()),
                    profile = known(self.profile.as_ref()),
                    serial = known(self.serial.as_ref()),
                    sealed = known(self.sealed.as_ref()),
                    differences = known(differences),
                    "request"
                )
            };
        }
        match self.outcome {
            Outcome::Failed => line!(error),
            Outcome::Refused => line!(warn),
            Outcome::Issued | Outcome::Repeated | Outcome::Pending | Outcome::Served => line!(info),
        }
    }
}

/// Sees every finished trace, beside the log: the demo's table, a test, an embedder's own audit.
pub trait Observer: Send + Sync + fmt::Debug {
    /// Called once for each request, from an async thread: it must not block.
    fn observe(&self, trace: &Trace);
}

/// The fields that were refused, in one line.
pub(crate) fn differences(fields: &[FieldReport]) -> String {
    let refused = fields.iter().filter(|field| field.reason.is_some());
    refused.map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
