//! The signed answer to a check-in: sealed by the issuer, opened by the connector.

use crate::check_in::Commands;
use crate::enrol::TrustedKey;
use crate::json::{self, MessageError};
use crate::statement::{self, COMMANDS, Refused, Statement, suitable};
use crate::text::Text;
use core::fmt;
use core::time::Duration;
use scep_cms::CmsError;
use scep_types::{
    CheckInNonce, ConnectorId, CryptoProvider, Fault, KeyAlgorithm, KeyId, Signer, TenantId,
    Timestamp,
};
use thiserror::Error;

/// The longest answer, octets of DER.
pub const MAX_COMMANDS: usize = 1 << 20;
/// The longest lifetime of an answer.
pub const MAX_LIFETIME: Duration = Duration::from_secs(10 * 60);
/// The largest clock skew that may be allowed for.
pub const MAX_SKEW: Duration = Duration::from_secs(5 * 60);

/// Whether a key may sign commands or renewals, or decrypt challenges: P-256, or RSA of 2,048 to 4,096 bits.
#[must_use]
pub const fn is_suitable(algorithm: KeyAlgorithm) -> bool {
    suitable(algorithm)
}

/// Why a signed message could not be made.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SealError {
    /// The other side would refuse it.
    #[error(transparent)]
    Message(#[from] MessageError),
    /// It would live for no time, or longer than [`MAX_LIFETIME`].
    #[error("a lifetime of {got:?}; above zero and at most {max:?} is allowed")]
    Lifetime {
        /// `expires_at` minus `issued_at`.
        got: Duration,
        /// The limit.
        max: Duration,
    },
    /// Neither P-256 nor RSA of 2,048 to 4,096 bits.
    #[error("the key is {0}; P-256 and RSA of 2,048 to 4,096 bits are allowed")]
    UnsuitableKey(KeyAlgorithm),
    /// The key that signs would become a signer of challenges.
    #[error("the command key {0} would sign challenges too")]
    SharedKey(KeyId),
    /// A key operation failed.
    #[error("it could not be signed: {0}")]
    Cms(#[from] CmsError),
}

impl SealError {
    /// Whose fault it is.
    #[must_use]
    pub const fn fault(&self) -> Fault {
        match self {
            Self::Message(_) | Self::Lifetime { .. } => Fault::OurBug,
            Self::UnsuitableKey(_) | Self::SharedKey(_) => Fault::OurConfiguration,
            Self::Cms(CmsError::Key(error)) => error.fault(),
            Self::Cms(_) => Fault::OurBug,
        }
    }
}

/// Signs commands: one signature. Gives the body of the answer, DER.
///
/// # Errors
/// When they are commands that no connector would accept, the key is unsuitable, or signing fails.
pub fn seal_commands(commands: &Commands, command_key: &dyn Signer) -> Result<Vec<u8>, SealError> {
    let key = command_key.public_key();
    if !suitable(key.algorithm()) {
        return Err(SealError::UnsuitableKey(key.algorithm()));
    }
    let got = commands.expires_at.since(commands.issued_at);
    if got.is_zero() || got > MAX_LIFETIME {
        return Err(SealError::Lifetime { got, max: MAX_LIFETIME });
    }
    if commands.signer_keys.add.iter().any(|signer| signer.key.key_id() == key.key_id()) {
        return Err(SealError::SharedKey(key.key_id()));
    }
    Ok(statement::sign(COMMANDS, &json::write(commands)?, command_key)?)
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident => $fault:ident,)*) => {
        /// Why an answer was refused: the code that the operator sees and that the next check-in tells the issuer.
        /// Closed.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum CommandReason { $($(#[$doc])* $name,)* }

        impl CommandReason {
            /// Every reason.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The stable code.
            #[must_use]
            pub const fn code(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }

            /// Whose fault it is.
            #[must_use]
            pub const fn fault(self) -> Fault {
                match self { $(Self::$name => Fault::$fault,)* }
            }

            /// The reason with this code.
            #[must_use]
            pub fn from_code(code: &str) -> Option<Self> {
                match code { $(stringify!($name) => Some(Self::$name),)* _ => None }
            }
        }
    };
}

reasons! {
    /// Longer than [`MAX_COMMANDS`].
    CommandsTooLarge => PeerMessage,
    /// Not the one form of SignedData, or not the JSON of commands.
    CommandsMalformed => PeerMessage,
    /// Another version of the protocol.
    CommandsVersionNotServed => PeerMessage,
    /// Signed by a key that is not pinned for commands, or not now.
    CommandSignerNotTrusted => PeerRights,
    /// The signature does not verify.
    CommandSignatureInvalid => PeerRights,
    /// Signed by a command key, but not as commands.
    NotCommands => PeerRights,
    /// For another tenant or connector.
    CommandsForAnother => PeerRights,
    /// Not the answer to this request, or not a new one.
    CommandsReplayed => PeerRights,
    /// Its times are inconsistent, too far apart, or in the future.
    CommandsInvalidTimestamp => PeerRights,
    /// It has expired.
    CommandsExpired => PeerRights,
    /// A command key would become a signer of challenges, or the other way round.
    CommandKeyShared => PeerRights,
}

impl fmt::Display for CommandReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl Text for CommandReason {
    const WHAT: &'static str = "a reason for refusing commands";

    fn to_text(&self) -> String {
        self.code().to_owned()
    }

    fn from_text(text: &str) -> Option<Self> {
        Self::from_code(text)
    }
}

/// Why an answer was refused, in the order of the checks.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CommandError {
    /// Longer than [`MAX_COMMANDS`].
    #[error("the answer has {got} octets; at most {max} are allowed")]
    Oversize {
        /// Its length.
        got: usize,
        /// The limit.
        max: usize,
    },
    /// Something after the end of a structure, or around the JSON.
    #[error("the answer has octets after its end")]
    TrailingBytes,
    /// Not a SignedData of the one form.
    #[error("the answer's signature layer: {0}")]
    Outer(#[source] CmsError),
    /// No pinned command key is named. The issuer's key for challenges is none.
    #[error("the answer's signer is not pinned for commands")]
    SignerNotPinned,
    /// A pinned command key, but not now.
    #[error("command key {key} is trusted from {not_before} until {not_after}; now is {now}")]
    SignerNotValid {
        /// Which.
        key: KeyId,
        /// From.
        not_before: Timestamp,
        /// Until.
        not_after: Timestamp,
        /// The present instant.
        now: Timestamp,
    },
    /// The signature does not verify.
    #[error("the answer's signature does not verify")]
    SignatureInvalid,
    /// Signed by a command key, but the content does not begin as commands do.
    #[error("what was signed is no commands")]
    NotCommands,
    /// The same name twice in one object.
    #[error("the commands: {0}")]
    DuplicateKey(#[source] MessageError),
    /// A field that commands do not have.
    #[error("the commands: {0}")]
    UnknownField(#[source] MessageError),
    /// Another version.
    #[error("the commands are of version {got:?}, not 1")]
    Version {
        /// The version, when there is one.
        got: Option<u64>,
    },
    /// Not the JSON of commands for another cause.
    #[error("the commands: {0}")]
    Payload(#[source] MessageError),
    /// Another tenant's.
    #[error("the commands are of another tenant")]
    Tenant,
    /// Another connector's.
    #[error("the commands are for another connector")]
    Connector,
    /// The answer to another request.
    #[error("the commands answer another request")]
    Nonce,
    /// Not above the last.
    #[error("the commands have sequence {got}, which is not above {last}")]
    Sequence {
        /// Theirs.
        got: u64,
        /// The last accepted.
        last: u64,
    },
    /// They end before they begin.
    #[error("the commands expire at {expires_at}, not after {issued_at}, when they were issued")]
    NeverValid {
        /// When they were issued.
        issued_at: Timestamp,
        /// When they expire.
        expires_at: Timestamp,
    },
    /// They live longer than [`MAX_LIFETIME`].
    #[error("the commands live for {lifetime:?}; at most {max:?} is allowed")]
    LivesTooLong {
        /// `expires_at` minus `issued_at`.
        lifetime: Duration,
        /// The limit.
        max: Duration,
    },
    /// Issued in the future, clock skew allowed for.
    #[error("the commands were issued at {issued_at}, in the future at {now}")]
    IssuedInFuture {
        /// When they were issued.
        issued_at: Timestamp,
        /// The present instant.
        now: Timestamp,
    },
    /// Expired, clock skew allowed for.
    #[error("the commands expired at {expires_at}; now is {now}")]
    Expired {
        /// When they expired.
        expires_at: Timestamp,
        /// The present instant.
        now: Timestamp,
    },
    /// A pinned command key is to sign challenges.
    #[error("key {key} would sign both challenges and commands")]
    SharedKey {
        /// Which.
        key: KeyId,
    },
}

impl CommandError {
    /// The code under which it is shown and told.
    #[must_use]
    pub const fn reason(&self) -> CommandReason {
        match self {
            Self::Oversize { .. } => CommandReason::CommandsTooLarge,
            Self::TrailingBytes
            | Self::Outer(_)
            | Self::DuplicateKey(_)
            | Self::UnknownField(_)
            | Self::Payload(_) => CommandReason::CommandsMalformed,
            Self::Version { .. } => CommandReason::CommandsVersionNotServed,
            Self::SignerNotPinned | Self::SignerNotValid { .. } => {
                CommandReason::CommandSignerNotTrusted
            }
            Self::SignatureInvalid => CommandReason::CommandSignatureInvalid,
            Self::NotCommands => CommandReason::NotCommands,
            Self::Tenant | Self::Connector => CommandReason::CommandsForAnother,
            Self::Nonce | Self::Sequence { .. } => CommandReason::CommandsReplayed,
            Self::NeverValid { .. } | Self::LivesTooLong { .. } | Self::IssuedInFuture { .. } => {
                CommandReason::CommandsInvalidTimestamp
            }
            Self::Expired { .. } => CommandReason::CommandsExpired,
            Self::SharedKey { .. } => CommandReason::CommandKeyShared,
        }
    }

    /// Whose fault it is.
    #[must_use]
    pub const fn fault(&self) -> Fault {
        self.reason().fault()
    }

    fn refused(refused: Refused, got: usize) -> Self {
        match refused {
            Refused::Oversize => Self::Oversize { got, max: MAX_COMMANDS },
            Refused::TrailingBytes => Self::TrailingBytes,
            Refused::Cms(error) => Self::Outer(error),
            Refused::SignerUnknown => Self::SignerNotPinned,
            Refused::SignatureInvalid => Self::SignatureInvalid,
            Refused::OtherDomain => Self::NotCommands,
        }
    }

    const fn payload(error: MessageError) -> Self {
        match error {
            MessageError::Oversize { got, max } => Self::Oversize { got, max },
            MessageError::TrailingBytes => Self::TrailingBytes,
            MessageError::DuplicateKey { .. } => Self::DuplicateKey(error),
            MessageError::UnknownField { .. } => Self::UnknownField(error),
            MessageError::Version { got } => Self::Version { got },
            MessageError::Syntax { .. }
            | MessageError::Depth { .. }
            | MessageError::Value { .. }
            | MessageError::Breach(_) => Self::Payload(error),
        }
    }
}

/// Why a verifier cannot be made. Our configuration is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CommandVerifierError {
    /// No command key is pinned.
    #[error("no command key is pinned")]
    NoKeys,
    /// Neither P-256 nor RSA of 2,048 to 4,096 bits.
    #[error("command key {key} is {algorithm}; P-256 and RSA of 2,048 to 4,096 bits are allowed")]
    UnsuitableKey {
        /// Which.
        key: KeyId,
        /// Its algorithm.
        algorithm: KeyAlgorithm,
    },
    /// The same key twice: which validity would count?
    #[error("command key {key} is given twice")]
    DuplicateKey {
        /// Which.
        key: KeyId,
    },
    /// A key whose validity ends before it begins.
    #[error("command key {key} is never valid")]
    NeverValid {
        /// Which.
        key: KeyId,
    },
    /// More than [`MAX_SKEW`].
    #[error("a clock skew of {got:?}; at most {max:?} is allowed")]
    Skew {
        /// As given.
        got: Duration,
        /// The limit.
        max: Duration,
    },
}

/// Opens the answers for one connector.
#[derive(Debug)]
pub struct CommandVerifier {
    tenant: TenantId,
    connector: ConnectorId,
    keys: Vec<TrustedKey>,
    skew: Duration,
}

/// Commands out of an answer that was verified, and is the answer to this request. Cannot be made in any other way than
/// by [`CommandVerifier::open`]; no Clone.
///
/// ```compile_fail,E0599
/// fn twice(commands: scep_link::VerifiedCommands) -> [scep_link::VerifiedCommands; 2] {
///     [commands.clone(), commands]
/// }
/// ```
///
/// ```compile_fail,E0451
/// fn forged(commands: scep_link::Commands) -> scep_link::VerifiedCommands {
///     scep_link::VerifiedCommands { commands }
/// }
/// ```
#[derive(Debug)]
pub struct VerifiedCommands {
    commands: Commands,
}

impl VerifiedCommands {
    /// The commands.
    #[must_use]
    pub const fn commands(&self) -> &Commands {
        &self.commands
    }
}

impl CommandVerifier {
    /// `keys` are pinned at enrolment, and later by commands that an older one has signed; `skew` ≤ 5 minutes.
    ///
    /// # Errors
    /// When there is no key, one is weak, never valid or given twice, or the skew is out of range.
    pub fn new(
        tenant: TenantId,
        connector: ConnectorId,
        keys: Vec<TrustedKey>,
        skew: Duration,
    ) -> Result<Self, CommandVerifierError> {
        if keys.is_empty() {
            return Err(CommandVerifierError::NoKeys);
        }
        let mut seen = Vec::new();
        for trusted in &keys {
            let (key, algorithm) = (trusted.key.key_id(), trusted.key.algorithm());
            if !suitable(algorithm) {
                return Err(CommandVerifierError::UnsuitableKey { key, algorithm });
            }
            if seen.contains(&key) {
                return Err(CommandVerifierError::DuplicateKey { key });
            }
            if trusted.not_before >= trusted.not_after {
                return Err(CommandVerifierError::NeverValid { key });
            }
            seen.push(key);
        }
        if skew > MAX_SKEW {
            return Err(CommandVerifierError::Skew { got: skew, max: MAX_SKEW });
        }
        Ok(Self { tenant, connector, keys, skew })
    }

    /// Verifies the answer to the request with this nonce. `last_sequence` is the highest that was accepted; the caller
    /// keeps the new one durably before it does what it is told.
    ///
    /// # Errors
    /// The first check that fails; [`CommandError`] lists them in order.
    pub fn open(
        &self,
        bytes: &[u8],
        nonce: CheckInNonce,
        last_sequence: u64,
        now: Timestamp,
        provider: &dyn CryptoProvider,
    ) -> Result<VerifiedCommands, CommandError> {
        let refused = |refused| CommandError::refused(refused, bytes.len());
        let statement = Statement::parse(bytes, MAX_COMMANDS).map_err(refused)?;
        let key = self.key(statement.signer(), now)?;
        let json = statement.verify(COMMANDS, &key.key, provider).map_err(refused)?;
        // Only what the issuer has signed gets past this line.
        let commands: Commands = json::read(&json).map_err(CommandError::payload)?;
        match self.refusal(&commands, nonce, last_sequence, now) {
            Some(error) => Err(error),
            None => Ok(VerifiedCommands { commands }),
        }
    }

    /// The pinned key with this id, if it is trusted at this instant.
    fn key(&self, id: Option<&[u8]>, now: Timestamp) -> Result<&TrustedKey, CommandError> {
        let found = id
            .and_then(|id| KeyId::try_from(id).ok())
            .and_then(|id| self.keys.iter().find(|trusted| trusted.key.key_id() == id));
        let trusted = found.ok_or(CommandError::SignerNotPinned)?;
        if now < trusted.not_before || now > trusted.not_after {
            return Err(CommandError::SignerNotValid {
                key: trusted.key.key_id(),
                not_before: trusted.not_before,
                not_after: trusted.not_after,
                now,
            });
        }
        Ok(trusted)
    }

    fn refusal(
        &self,
        commands: &Commands,
        nonce: CheckInNonce,
        last: u64,
        now: Timestamp,
    ) -> Option<CommandError> {
        let (issued_at, expires_at) = (commands.issued_at, commands.expires_at);
        let lifetime = expires_at.since(issued_at);
        if commands.tenant != self.tenant {
            Some(CommandError::Tenant)
        } else if commands.connector != self.connector {
            Some(CommandError::Connector)
        } else if commands.nonce != nonce {
            Some(CommandError::Nonce)
        } else if commands.sequence <= last {
            Some(CommandError::Sequence { got: commands.sequence, last })
        } else if lifetime.is_zero() {
            Some(CommandError::NeverValid { issued_at, expires_at })
        } else if lifetime > MAX_LIFETIME {
            Some(CommandError::LivesTooLong { lifetime, max: MAX_LIFETIME })
        } else if issued_at > now.plus(self.skew) {
            Some(CommandError::IssuedInFuture { issued_at, now })
        } else if now >= expires_at.plus(self.skew) {
            Some(CommandError::Expired { expires_at, now })
        } else {
            self.shared_key(commands).map(|key| CommandError::SharedKey { key })
        }
    }

    /// A pinned command key that is to sign challenges. (Two in one answer were refused when it was read.)
    fn shared_key(&self, commands: &Commands) -> Option<KeyId> {
        let mut added = commands.signer_keys.add.iter().map(|signer| signer.key.key_id());
        added.find(|id| self.keys.iter().any(|trusted| trusted.key.key_id() == *id))
    }
}
