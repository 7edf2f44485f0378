//! Key files.

use crate::error::KeyFileError;
use der::pem::LineEnding;
use scep_types::Secret;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// An RSA key of 4096 bits has 3,300 characters; comments before the block are allowed.
const LIMIT: u64 = 64 * 1024;

fn io_error(path: &Path, doing: &'static str) -> impl Fn(io::Error) -> KeyFileError {
    move |error| KeyFileError::Io { path: path.to_owned(), doing, kind: error.kind() }
}

/// The PKCS #8 DER in a key file.
pub(crate) fn read(path: &Path) -> Result<Secret<Vec<u8>>, KeyFileError> {
    let owned = || path.to_owned();
    // Looked at before it is opened as well: opening a pipe would wait for its writer.
    if !std::fs::metadata(path).map_err(io_error(path, "open"))?.is_file() {
        return Err(KeyFileError::NotRegular { path: owned() });
    }
    let file = File::open(path).map_err(io_error(path, "open"))?;
    check(&file, path)?;
    // Room for all of it from the start, so that no copy is left behind by growing.
    let mut text = Zeroizing::new(Vec::with_capacity(65_537));
    file.take(LIMIT.saturating_add(1)).read_to_end(&mut text).map_err(io_error(path, "read"))?;
    if u64::try_from(text.len()).unwrap_or(u64::MAX) > LIMIT {
        return Err(KeyFileError::TooLong { path: owned(), limit: LIMIT });
    }
    let blocks = pem::parse_many(text.as_slice())
        .map_err(|_| KeyFileError::NotPem { path: owned() })?
        .into_iter()
        // openssl ecparam -genkey puts the curve before the key; it says nothing that the key does not.
        .filter(|block| block.tag() != "EC PARAMETERS")
        .map(|block| (block.tag().to_owned(), Secret::new(block.into_contents())))
        .collect::<Vec<_>>();
    let count = blocks.len();
    let mut blocks = blocks.into_iter();
    match (blocks.next(), count) {
        (None, _) => Err(KeyFileError::NotPem { path: owned() }),
        (Some((label, der)), 1) => match label.as_str() {
            "PRIVATE KEY" => Ok(der),
            "ENCRYPTED PRIVATE KEY" => Err(KeyFileError::Encrypted { path: owned() }),
            _ if label.ends_with("PRIVATE KEY") => {
                Err(KeyFileError::LegacyFormat { path: owned(), label })
            }
            _ => Err(KeyFileError::OtherPem { path: owned(), label }),
        },
        _ => Err(KeyFileError::SeveralBlocks { path: owned(), count }),
    }
}

/// Kind and mode of the file that was opened, not of what has its name by now.
fn check(file: &File, path: &Path) -> Result<(), KeyFileError> {
    let metadata = file.metadata().map_err(io_error(path, "open"))?;
    if !metadata.is_file() {
        return Err(KeyFileError::NotRegular { path: path.to_owned() });
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = metadata.permissions().mode() & 0o7777;
        if mode & 0o177 != 0 {
            return Err(KeyFileError::Mode { path: path.to_owned(), mode });
        }
    }
    Ok(())
}

/// Writes a new key file and makes it durable.
pub(crate) fn write_new(path: &Path, octets: &[u8]) -> Result<(), KeyFileError> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    let mut file = options.open(path).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => KeyFileError::Exists { path: path.to_owned() },
        _ => io_error(path, "create")(error),
    })?;
    let text = der::pem::encode_string("PRIVATE KEY", LineEnding::LF, octets)
        .map(Zeroizing::new)
        .map_err(|_| io_error(path, "write")(io::ErrorKind::InvalidData.into()))?;
    file.write_all(text.as_bytes()).map_err(io_error(path, "write"))?;
    file.sync_all().map_err(io_error(path, "sync"))?;
    sync_directory(path)
}

/// The name is durable only once its directory is. Windows has no such call, and needs none.
fn sync_directory(path: &Path) -> Result<(), KeyFileError> {
    #[cfg(unix)]
    {
        let parent = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        File::open(&parent).and_then(|dir| dir.sync_all()).map_err(io_error(&parent, "sync"))?;
    }
    Ok(())
}
