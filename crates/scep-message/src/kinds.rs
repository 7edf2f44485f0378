//! The three numbers of RFC 8894, 3.2.1: messageType, pkiStatus and failInfo.

use core::fmt;

/// messageType (RFC 8894, 3.2.1.2). Unknown values survive to the decision, so that the log shows
/// what was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MessageType {
    /// 3: an answer.
    CertRep,
    /// 17: PKCS #10, signed with an existing certificate.
    RenewalReq,
    /// 19: PKCS #10, authenticated by a challenge.
    PkcsReq,
    /// 20: is it ready?
    CertPoll,
    /// 21: a certificate by issuer and serial number.
    GetCert,
    /// 22: the CRL that covers a certificate.
    GetCrl,
    /// Any other value of 0 to 255. Never served.
    Unknown(u32),
}

impl MessageType {
    /// The type with this number.
    #[must_use]
    pub const fn from_number(number: u32) -> Self {
        match number {
            3 => Self::CertRep,
            17 => Self::RenewalReq,
            19 => Self::PkcsReq,
            20 => Self::CertPoll,
            21 => Self::GetCert,
            22 => Self::GetCrl,
            other => Self::Unknown(other),
        }
    }

    /// Its number.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::CertRep => 3,
            Self::RenewalReq => 17,
            Self::PkcsReq => 19,
            Self::CertPoll => 20,
            Self::GetCert => 21,
            Self::GetCrl => 22,
            Self::Unknown(other) => other,
        }
    }
}

impl fmt::Display for MessageType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CertRep => "CertRep",
            Self::RenewalReq => "RenewalReq",
            Self::PkcsReq => "PKCSReq",
            Self::CertPoll => "CertPoll",
            Self::GetCert => "GetCert",
            Self::GetCrl => "GetCRL",
            Self::Unknown(other) => return write!(f, "type {other}"),
        })
    }
}

/// pkiStatus (RFC 8894, 3.2.1.3). Closed: other values are errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PkiStatus {
    /// 0: granted.
    Success,
    /// 2: rejected; failInfo says why.
    Failure,
    /// 3: later.
    Pending,
}

impl PkiStatus {
    /// The status with this number, if it is defined.
    #[must_use]
    pub const fn from_number(number: u32) -> Option<Self> {
        match number {
            0 => Some(Self::Success),
            2 => Some(Self::Failure),
            3 => Some(Self::Pending),
            _ => None,
        }
    }

    /// Its number.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::Success => 0,
            Self::Failure => 2,
            Self::Pending => 3,
        }
    }
}

/// failInfo (RFC 8894, 3.2.1.4). Closed: other values are errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailInfo {
    /// 0: unrecognised or unsupported algorithm.
    BadAlg,
    /// 1: the message's integrity check failed.
    BadMessageCheck,
    /// 2: not permitted or not supported.
    BadRequest,
    /// 3: signingTime is too far off.
    BadTime,
    /// 4: no certificate matches.
    BadCertId,
}

impl FailInfo {
    /// The reason with this number, if it is defined.
    #[must_use]
    pub const fn from_number(number: u32) -> Option<Self> {
        match number {
            0 => Some(Self::BadAlg),
            1 => Some(Self::BadMessageCheck),
            2 => Some(Self::BadRequest),
            3 => Some(Self::BadTime),
            4 => Some(Self::BadCertId),
            _ => None,
        }
    }

    /// Its number.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::BadAlg => 0,
            Self::BadMessageCheck => 1,
            Self::BadRequest => 2,
            Self::BadTime => 3,
            Self::BadCertId => 4,
        }
    }
}

impl fmt::Display for FailInfo {
    /// The name that RFC 8894 gives it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BadAlg => "badAlg",
            Self::BadMessageCheck => "badMessageCheck",
            Self::BadRequest => "badRequest",
            Self::BadTime => "badTime",
            Self::BadCertId => "badCertId",
        })
    }
}
