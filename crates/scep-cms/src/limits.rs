//! Upper bounds, and which old algorithms are served.

use crate::CmsError;

/// Upper bounds on what is read from a peer. Input beyond one is refused with [`CmsError::Limit`] before it costs
/// anything.
///
/// The defaults are several times what any SCEP message known to the field needs (the largest requests are
/// around 20 KiB, with five certificates and ten attributes).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest input, octets. 256 KiB.
    pub max_bytes: usize,
    /// Deepest nesting. 32.
    pub max_depth: usize,
    /// Most tag-length-values in one input. 8192.
    pub max_nodes: usize,
    /// Most certificates in a SignedData, and most CRLs. 10.
    pub max_certificates: usize,
    /// Most signed attributes. 32.
    pub max_attributes: usize,
    /// Most recipients of an envelope. 8.
    pub max_recipients: usize,
    /// Most iterations of a password's key derivation. 1,000,000.
    pub max_iterations: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_bytes: 256 << 10,
            max_depth: 32,
            max_nodes: 8192,
            max_certificates: 10,
            max_attributes: 32,
            max_recipients: 8,
            max_iterations: 1_000_000,
        }
    }
}

impl Limits {
    pub(crate) const fn check_bytes(&self, input: &[u8]) -> Result<(), CmsError> {
        at_most("octets", input.len(), self.max_bytes)
    }
}

pub(crate) const fn at_most(what: &'static str, count: usize, max: usize) -> Result<(), CmsError> {
    if count > max { Err(CmsError::Limit { what, max }) } else { Ok(()) }
}

/// Whether SHA-1 signatures and 3DES content encryption are served. DES and MD5 never are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum LegacyAlgorithms {
    /// Refused, with an error that names the algorithm.
    #[default]
    Refuse,
    /// Served.
    Accept,
}
