//! Renewal on the word of the certificate that signs, where its profile allows that.

use crate::gateway::{Gateway, Site};
use crate::refusal::Refusal;
use scep_pkcs10::Csr;
use scep_policy::Approval;
use scep_types::{CertificateDer, ChallengeId, Timestamp};

impl Gateway {
    /// The approval of a renewal by certificate. `None`: the request is none, and its challenge decides.
    ///
    /// `presented` is the challenge in the request, if it was opened, expired or not.
    #[allow(clippy::unused_async, reason = "asks the ledger")]
    pub(crate) async fn renewal(
        &self,
        _site: &Site,
        _csr: &Csr,
        _signer: &CertificateDer,
        _presented: Option<ChallengeId>,
        _now: Timestamp,
    ) -> Result<Option<Approval>, Refusal> {
        Ok(None)
    }
}
