//! Why a key could not be read, made or written.

use scep_types::{Fault, KeyAlgorithm, ObjectIdentifier};
use std::io;
use std::path::PathBuf;
use thiserror::Error;

/// What is wrong with a key itself, wherever it came from.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum KeyProblem {
    /// Not the DER of a PKCS #8 PrivateKeyInfo (RFC 5208, 5).
    #[error("not a PKCS #8 private key")]
    Malformed,
    /// Neither rsaEncryption nor id-ecPublicKey.
    #[error("algorithm {oid}; RSA and EC keys are supported")]
    Algorithm {
        /// The privateKeyAlgorithm.
        oid: ObjectIdentifier,
    },
    /// An EC key that is not on a named curve we serve.
    #[error("the key is not on the named curve P-256 or P-384")]
    Curve,
    /// An RSA modulus outside 2048 to 4096 bits, or of a size that the back end does not make.
    #[error("{algorithm}; RSA keys have 2048 to 4096 bits (made here: 2048, 3072 or 4096)")]
    Size {
        /// What it is.
        algorithm: KeyAlgorithm,
    },
    /// A public exponent below 65537, even, or over 32 bits.
    #[error("the RSA public exponent is not an odd number from 65537 to 2^32")]
    Exponent,
    /// The back end found the parts inconsistent.
    #[error("the key's parts do not belong together")]
    Inconsistent,
    /// The back end could not make a key.
    #[error("the back end could not make a key")]
    NotMade,
}

/// Why a key could not be read, made or written. Every text names the path and what to do.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum KeyFileError {
    /// The file system refused.
    #[error("{}: cannot {doing} the key file: {kind}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried: open, read, create, write, sync.
        doing: &'static str,
        /// What the system said.
        kind: io::ErrorKind,
    },
    /// A key is there already; it is never overwritten.
    #[error("{}: exists already; a key is never overwritten, so move it away or choose another path", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// A directory, device, pipe or socket.
    #[error("{}: not a regular file; give the path of the PEM file itself", path.display())]
    NotRegular {
        /// What was named.
        path: PathBuf,
    },
    /// Group or others have a right to it, or it is executable.
    #[error("{}: mode {mode:04o}, and a key file has 0600 or stricter; run: chmod 600 {}", path.display(), path.display())]
    Mode {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Longer than any key.
    #[error("{}: longer than {limit} bytes, so it is no key file; check the path", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
        /// The limit in bytes.
        limit: u64,
    },
    /// No PEM in it.
    #[error(
        "{}: no PEM block \"PRIVATE KEY\" in it; for a DER file run: \
         openssl pkcs8 -topk8 -nocrypt -inform DER -in {} -out NEW.pem", path.display(), path.display()
    )]
    NotPem {
        /// The file.
        path: PathBuf,
    },
    /// A block `PRIVATE KEY` whose base64 or frame is broken.
    #[error(
        "{}: its PEM block is damaged; openssl pkey -in {} -noout tells more; restore the file or make a new key",
        path.display(), path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// More than one PEM block: which of them is meant is not ours to guess.
    #[error("{}: {count} PEM blocks; leave the one key in it and nothing else", path.display())]
    SeveralBlocks {
        /// The file.
        path: PathBuf,
        /// How many.
        count: usize,
    },
    /// A PKCS #8 key under a pass phrase.
    #[error(
        "{}: the key is encrypted, and the service cannot ask for a pass phrase; run: \
         openssl pkcs8 -topk8 -nocrypt -in {} -out NEW.pem && chmod 600 NEW.pem",
        path.display(), path.display()
    )]
    Encrypted {
        /// The file.
        path: PathBuf,
    },
    /// A private key in a format older than PKCS #8.
    #[error(
        "{}: \"{label}\" is not PKCS #8; run: \
         openssl pkcs8 -topk8 -nocrypt -in {} -out NEW.pem && chmod 600 NEW.pem",
        path.display(), path.display()
    )]
    LegacyFormat {
        /// The file.
        path: PathBuf,
        /// The PEM label.
        label: String,
    },
    /// Some other PEM: a certificate, a public key.
    #[error("{}: holds a \"{label}\", not a private key; check the path", path.display())]
    OtherPem {
        /// The file.
        path: PathBuf,
        /// The PEM label.
        label: String,
    },
    /// The file is as it should be, and the key in it is not.
    #[error(
        "{}: {problem}; make a new one, for example: \
         openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out NEW.pem", path.display()
    )]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong with the key.
        problem: KeyProblem,
    },
    /// A key that came from no file.
    #[error("the private key: {0}")]
    Material(#[from] KeyProblem),
}

impl KeyFileError {
    /// Whose fault it is.
    #[must_use]
    pub const fn fault(&self) -> Fault {
        match self {
            Self::Io {
                kind: io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied, ..
            } => Fault::OurConfiguration,
            Self::Io { .. } | Self::Material(KeyProblem::NotMade) => Fault::OurDependency,
            Self::Exists { .. }
            | Self::NotRegular { .. }
            | Self::Mode { .. }
            | Self::TooLong { .. }
            | Self::NotPem { .. }
            | Self::Damaged { .. }
            | Self::SeveralBlocks { .. }
            | Self::Encrypted { .. }
            | Self::LegacyFormat { .. }
            | Self::OtherPem { .. }
            | Self::Key { .. }
            | Self::Material(_) => Fault::OurConfiguration,
        }
    }
}
