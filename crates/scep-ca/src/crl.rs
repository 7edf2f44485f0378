//! CRLs out of their entries (RFC 5280, 5).
//!
//! One pass over the entries writes into one buffer; a million of them is some 40 MB and well under a second. The
//! encoding is not kept between CRLs: sorting and hashing are of the same order, and the signature is one.

use crate::error::CaError;
use crate::tbs::{Criticality, Extensions, oid};
use core::time::Duration;
use scep_ledger::{CrlEntry, RevocationReason};
use scep_types::tlv::{self, tag};
use scep_types::{CrlDer, SignatureScheme, Signer, Timestamp};

/// What one entry takes, about.
const ENTRY: usize = 48;

/// What a CRL should be like.
#[derive(Clone, Copy, Debug)]
pub struct CrlOrder<'a> {
    /// What it lists, in any order.
    pub entries: &'a [CrlEntry],
    /// cRLNumber: higher than that of every CRL before.
    pub number: u64,
    /// thisUpdate.
    pub this_update: Timestamp,
    /// nextUpdate.
    pub next_update: Timestamp,
}

impl CrlOrder<'_> {
    /// The order for a validity from now on.
    #[must_use]
    pub fn new(
        entries: &[CrlEntry],
        number: u64,
        now: Timestamp,
        validity: Duration,
    ) -> CrlOrder<'_> {
        CrlOrder { entries, number, this_update: now, next_update: now.plus(validity) }
    }
}

/// One element of revokedCertificates; reasonCode is left out where there is none to say (RFC 5280, 5.3.1).
fn entry(entry: &CrlEntry) -> Vec<u8> {
    let serial = tlv::encode(tag::INTEGER, entry.serial.as_content());
    let at = tlv::time(entry.revoked_at);
    if entry.reason == RevocationReason::Unspecified {
        return tlv::sequence(&[&serial, &at]);
    }
    let mut extensions = Extensions::default();
    let code = [0x0a, 1, entry.reason.code()]; // ENUMERATED
    extensions.push(&oid::CRL_REASON, Criticality::Ignorable, &code);
    tlv::sequence(&[&serial, &at, &tlv::sequence(&[&extensions.into_der()])])
}

/// Signs a version 2 CRL: one signature.
pub(crate) fn sign(
    order: &CrlOrder<'_>,
    issuer: &[u8],
    key_id: &[u8],
    key: &dyn Signer,
    scheme: SignatureScheme,
) -> Result<CrlDer, CaError> {
    if order.next_update <= order.this_update {
        return Err(CaError::EmptyValidity);
    }
    let mut sorted: Vec<&CrlEntry> = order.entries.iter().collect();
    // As numbers: the content octets of positive INTEGERs of one length order as they do.
    sorted.sort_by(|a, b| {
        let (a, b) = (a.serial.as_content(), b.serial.as_content());
        a.len().cmp(&b.len()).then_with(|| a.cmp(b))
    });
    sorted.dedup_by(|a, b| a.serial == b.serial);
    let mut list = Vec::with_capacity(sorted.len().saturating_mul(ENTRY));
    for one in sorted {
        list.extend_from_slice(&entry(one));
    }
    // An empty list is left out (RFC 5280, 5.1.2.6).
    let list = if list.is_empty() { list } else { tlv::encode(tag::SEQUENCE, &list) };

    let mut extensions = Extensions::default();
    extensions.authority_key_id(key_id);
    extensions.push(&oid::CRL_NUMBER, Criticality::Ignorable, &tlv::small_int(order.number));
    let extensions = tlv::sequence(&[&extensions.into_der()]);
    let algorithm = scheme.algorithm_der();
    let tbs = tlv::sequence(&[
        &tlv::small_int(1),
        &algorithm,
        issuer,
        &tlv::time(order.this_update),
        &tlv::time(order.next_update),
        &list,
        &tlv::encode(tag::context_constructed(0), &extensions),
    ]);
    let signature = key.sign(scheme, &tbs)?;
    CrlDer::parse(&tlv::sequence(&[&tbs, &algorithm, &tlv::whole_bits(&signature)]))
        .map_err(CaError::NotACrl)
}
