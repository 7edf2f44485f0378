//! The one table from reason to what the device is told.

use scep_message::FailInfo;
use scep_types::Reason;

/// What a device may see of a refusal: failInfo, and a short text that says what to do rather than what
/// was compared. The operator's trace has the rest, under the reference that is added to the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// RFC 8894, 3.2.1.4.
    pub fail_info: FailInfo,
    /// failInfoText, without the reference.
    pub text: &'static str,
}

/// The one text for everything that goes wrong between the envelope and the request in it: an observer
/// must not learn which step failed.
const UNREADABLE: Answer =
    Answer { fail_info: FailInfo::BadMessageCheck, text: "the request could not be read" };

/// The answer for a reason. Exhaustive without a wildcard, so that a new reason must be given one.
#[must_use]
pub const fn answer(reason: Reason) -> Answer {
    use FailInfo::{BadAlg, BadCertId, BadMessageCheck, BadRequest, BadTime};
    let (fail_info, text) = match reason {
        Reason::MessageDecryptionFailed | Reason::CertificateRequestDecodingFailed => {
            return UNREADABLE;
        }
        Reason::MessageMalformed | Reason::MessageSignatureInvalid => {
            (BadMessageCheck, "the message could not be verified")
        }
        Reason::MessageNotForUs => {
            (BadMessageCheck, "not encrypted to this server; fetch GetCACert again")
        }
        Reason::AlgorithmNotSupported => (BadAlg, "algorithm not supported"),
        Reason::AnswerUndeliverable => {
            (BadRequest, "the answer to an EC key needs a challengePassword")
        }
        Reason::MessageTypeNotServed => (BadRequest, "messageType not served"),
        Reason::SigningTimeOff => (BadTime, "the device's clock is wrong"),
        Reason::NoSuchTransaction => (BadCertId, "no such transaction"),
        Reason::NoSuchCertificate => (BadCertId, "no such certificate"),
        Reason::ChallengePasswordMissing => (BadRequest, "challengePassword missing"),
        Reason::ChallengeExpired => (BadRequest, "challenge expired; get a new one"),
        Reason::ChallengeDecodingError
        | Reason::ChallengeDecryptionError
        | Reason::ChallengeDeserializationError
        | Reason::ChallengeInvalidTimestamp
        | Reason::SignatureValidationFailed
        | Reason::SigningCertThumbprintMismatch
        | Reason::BadTenantIdInChallenge
        | Reason::BadAudienceInChallenge
        | Reason::ChallengeNotServed
        | Reason::ChallengeAlreadyUsed
        | Reason::ChallengeLocked
        | Reason::ChallengeBeforeRestore => (BadRequest, "challenge refused"),
        Reason::SubjectNameMissing
        | Reason::SubjectNameMismatch
        | Reason::SubjectAltNameMissing
        | Reason::SubjectAltNameMismatch
        | Reason::KeyUsageMismatch
        | Reason::KeyLengthMismatch
        | Reason::EnhancedKeyUsageMissing
        | Reason::EnhancedKeyUsageMismatch
        | Reason::RegisteredKeyMismatch
        | Reason::ExtensionNotAllowed
        | Reason::AttributeNotAllowed => (BadRequest, "the request differs from its challenge"),
        Reason::ScepProfileNoLongerTargetedToTheClient
        | Reason::SiteRuleViolated
        | Reason::KeyAlreadyCertified => (BadRequest, "not allowed here"),
        Reason::RenewalNotAllowed => (BadRequest, "a renewal needs a new challenge"),
        Reason::ApprovalDenied => (BadRequest, "refused by the operator"),
        Reason::ApprovalExpired => (BadRequest, "nobody has approved it in time"),
        Reason::CaRefused => (BadRequest, "refused by the CA"),
        Reason::SignerNotAllowed => (BadMessageCheck, "the message is signed by another key"),
        Reason::WeakKey => (BadRequest, "the key is not acceptable; make a new one"),
        Reason::ProofOfPossessionFailed => (BadRequest, "the request's own signature is wrong"),
        Reason::RequestInProgress
        | Reason::IssuanceBrakeEngaged
        | Reason::RateExceeded
        | Reason::CaUnavailable
        | Reason::CaOutcomeUnknown
        | Reason::CertificateDiffers
        | Reason::LedgerUnavailable
        | Reason::ClockBehind
        | Reason::IssuerOffline
        | Reason::LedgerNotBound
        | Reason::KeyUnavailable
        | Reason::InternalError => (BadRequest, "not now; try again later"),
    };
    Answer { fail_info, text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attack_22_one_answer_for_everything_inside_the_envelope() {
        assert_eq!(
            answer(Reason::MessageDecryptionFailed),
            answer(Reason::CertificateRequestDecodingFailed)
        );
    }

    #[test]
    fn quirk_57_texts_are_short_and_tell_no_detail() {
        for reason in Reason::ALL {
            let text = answer(*reason).text;
            assert!(text.len() <= 64, "{reason}");
            assert!(!text.contains(reason.code()), "{reason}");
        }
    }
}
