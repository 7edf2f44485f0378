//! Files of what is not secret: public keys and certificates, PEM.

use der::pem::LineEnding;
use scep_types::{CertificateDer, CertificateError, Fault, SpkiDer, SpkiError};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Hundreds of certificates; a private key or a log given by mistake is seldom longer.
const LIMIT: u64 = 1024 * 1024;

/// Why a file of public keys or certificates could not be read or written.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PublicFileError {
    /// The file system refused.
    #[error("{}: cannot {doing}: {kind}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// What the system said.
        kind: io::ErrorKind,
    },
    /// Over 1 MiB.
    #[error("{}: longer than 1 MiB; check the path", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
    },
    /// Not PEM, or no block with the label that was expected.
    #[error("{}: no PEM block \"{expected}\" in it", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// The label.
        expected: &'static str,
    },
    /// More than one public key: which of them is meant is not ours to guess.
    #[error("{}: {count} blocks \"{expected}\" where one is expected", path.display())]
    Several {
        /// The file.
        path: PathBuf,
        /// The label.
        expected: &'static str,
        /// How many.
        count: usize,
    },
    /// A folder that should be new has something in it.
    #[error("{}: not empty; choose another folder, as nothing is ever overwritten", path.display())]
    NotEmpty {
        /// The folder.
        path: PathBuf,
    },
    /// A block that is no key.
    #[error("{}: {error}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// Why.
        error: SpkiError,
    },
    /// A block that is no certificate.
    #[error("{}: {error}", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// Why.
        error: CertificateError,
    },
}

impl PublicFileError {
    /// Whose fault it is.
    #[must_use]
    pub const fn fault(&self) -> Fault {
        match self {
            Self::Io {
                kind: io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied, ..
            } => Fault::OurConfiguration,
            Self::Io { .. } => Fault::OurDependency,
            Self::TooLong { .. }
            | Self::Missing { .. }
            | Self::Several { .. }
            | Self::NotEmpty { .. }
            | Self::Key { .. }
            | Self::Certificate { .. } => Fault::OurConfiguration,
        }
    }
}

fn io_error(path: &Path, doing: &'static str) -> impl Fn(io::Error) -> PublicFileError {
    move |error| PublicFileError::Io { path: path.to_owned(), doing, kind: error.kind() }
}

/// The contents of all blocks with this label.
fn blocks(path: &Path, label: &'static str) -> Result<Vec<Vec<u8>>, PublicFileError> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(io_error(path, "open"))?;
    file.take(LIMIT.saturating_add(1)).read_to_end(&mut bytes).map_err(io_error(path, "read"))?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > LIMIT {
        return Err(PublicFileError::TooLong { path: path.to_owned() });
    }
    let missing = || PublicFileError::Missing { path: path.to_owned(), expected: label };
    let blocks: Vec<Vec<u8>> = pem::parse_many(&bytes)
        .map_err(|_| missing())?
        .into_iter()
        .filter(|block| block.tag() == label)
        .map(pem::Pem::into_contents)
        .collect();
    if blocks.is_empty() { Err(missing()) } else { Ok(blocks) }
}

/// Reads the one public key of a PEM file (`-----BEGIN PUBLIC KEY-----`).
///
/// # Errors
/// When the file cannot be read or does not hold exactly one key that we know.
pub fn read_public_key(path: &Path) -> Result<SpkiDer, PublicFileError> {
    let expected = "PUBLIC KEY";
    let blocks = blocks(path, expected)?;
    match blocks.as_slice() {
        [der] => SpkiDer::parse(der)
            .map_err(|error| PublicFileError::Key { path: path.to_owned(), error }),
        several => {
            Err(PublicFileError::Several { path: path.to_owned(), expected, count: several.len() })
        }
    }
}

/// Reads the certificates of a PEM file, in its order, at least one.
///
/// # Errors
/// When the file cannot be read, or holds none, or one that cannot be parsed.
pub fn read_certificates(path: &Path) -> Result<Vec<CertificateDer>, PublicFileError> {
    blocks(path, "CERTIFICATE")?
        .iter()
        .map(|der| {
            CertificateDer::parse(der)
                .map_err(|error| PublicFileError::Certificate { path: path.to_owned(), error })
        })
        .collect()
}

/// A public key as PEM text.
#[must_use]
pub fn public_key_pem(key: &SpkiDer) -> String {
    pem_text("PUBLIC KEY", key.as_der())
}

/// Certificates as PEM text, in the order given.
#[must_use]
pub fn certificates_pem(certificates: &[CertificateDer]) -> String {
    certificates.iter().map(|c| pem_text("CERTIFICATE", c.as_der())).collect()
}

/// A CRL as PEM text.
#[must_use]
pub fn crl_pem(der: &[u8]) -> String {
    pem_text("X509 CRL", der)
}

fn pem_text(label: &'static str, der: &[u8]) -> String {
    // Fails for a label or a length that PEM cannot have, which neither of these is.
    der::pem::encode_string(label, LineEnding::LF, der).unwrap_or_default()
}

/// Writes text to a new file; an existing one is never overwritten.
///
/// # Errors
/// When the file exists or cannot be written.
pub fn write_new_public(path: &Path, text: &str) -> Result<(), PublicFileError> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(path)
        .map_err(io_error(path, "create"))?;
    file.write_all(text.as_bytes()).map_err(io_error(path, "write"))?;
    file.sync_all().map_err(io_error(path, "sync"))
}

/// Makes a folder for its owner alone, with those above it; takes an existing one only if it is empty.
///
/// # Errors
/// When it cannot be made, or has something in it.
pub fn new_private_folder(path: &Path) -> Result<(), PublicFileError> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt;
        builder.mode(0o700);
    }
    builder.create(path).map_err(io_error(path, "create"))?;
    let mut entries = std::fs::read_dir(path).map_err(io_error(path, "read"))?;
    match entries.next() {
        Some(_) => Err(PublicFileError::NotEmpty { path: path.to_owned() }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SoftwareKey;
    use scep_types::KeyAlgorithm;

    #[test]
    fn public_keys_survive_their_file_and_other_files_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.pub.pem");
        let key = SoftwareKey::generate(KeyAlgorithm::P256).unwrap();
        write_new_public(&path, &public_key_pem(key.public_key())).unwrap();
        assert_eq!(&read_public_key(&path).unwrap(), key.public_key());
        let again = write_new_public(&path, "").unwrap_err();
        assert!(matches!(again, PublicFileError::Io { doing: "create", .. }), "{again}");
        assert_eq!(
            read_certificates(&path).unwrap_err(),
            PublicFileError::Missing { path: path.clone(), expected: "CERTIFICATE" }
        );
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, format!("{text}{text}")).unwrap();
        let several =
            PublicFileError::Several { path: path.clone(), expected: "PUBLIC KEY", count: 2 };
        assert_eq!(read_public_key(&path).unwrap_err(), several);
    }
}
