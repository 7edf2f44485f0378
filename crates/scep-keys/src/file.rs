//! Key files.

use crate::error::KeyFileError;
use der::SecretDocument;
use der::pem::LineEnding;
use scep_types::Secret;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;
use zeroize::Zeroizing;

/// An RSA key of 4096 bits has 3,300 characters; comments before the block are allowed.
const LIMIT: u64 = 64 * 1024;

fn io_error(path: &Path, doing: &'static str) -> impl Fn(io::Error) -> KeyFileError {
    move |error| KeyFileError::Io { path: path.to_owned(), doing, kind: error.kind() }
}

/// A file that only its owner may read, of at most `limit` octets.
pub(crate) fn read_private(path: &Path, limit: u64) -> Result<Zeroizing<Vec<u8>>, KeyFileError> {
    let owned = || path.to_owned();
    // Looked at before it is opened as well: opening a pipe would wait for its writer.
    if !std::fs::metadata(path).map_err(io_error(path, "open"))?.is_file() {
        return Err(KeyFileError::NotRegular { path: owned() });
    }
    let file = File::open(path).map_err(io_error(path, "open"))?;
    check(&file, path)?;
    // Room for all of it from the start, so that no copy is left behind by growing.
    let mut text = Zeroizing::new(Vec::with_capacity(65_537));
    file.take(limit.saturating_add(1)).read_to_end(&mut text).map_err(io_error(path, "read"))?;
    if u64::try_from(text.len()).unwrap_or(u64::MAX) > limit {
        return Err(KeyFileError::TooLong { path: owned(), limit });
    }
    Ok(text)
}

/// The PKCS #8 DER in a key file.
pub(crate) fn read(path: &Path) -> Result<Secret<Vec<u8>>, KeyFileError> {
    let owned = || path.to_owned();
    let text = read_private(path, LIMIT)?;
    let text = str::from_utf8(&text).map_err(|_| KeyFileError::NotPem { path: owned() })?;
    match labels(text).as_slice() {
        [] => Err(KeyFileError::NotPem { path: owned() }),
        ["PRIVATE KEY"] => decode(text).ok_or_else(|| KeyFileError::Damaged { path: owned() }),
        ["ENCRYPTED PRIVATE KEY"] => Err(KeyFileError::Encrypted { path: owned() }),
        // What `openssl ecparam -genkey` writes.
        [label @ "EC PRIVATE KEY"] | ["EC PARAMETERS", label @ "EC PRIVATE KEY"] => {
            Err(KeyFileError::LegacyFormat { path: owned(), label: (*label).to_owned() })
        }
        [label] if label.ends_with("PRIVATE KEY") => {
            Err(KeyFileError::LegacyFormat { path: owned(), label: (*label).to_owned() })
        }
        [label] => Err(KeyFileError::OtherPem { path: owned(), label: (*label).to_owned() }),
        several => Err(KeyFileError::SeveralBlocks { path: owned(), count: several.len() }),
    }
}

/// The labels of all PEM blocks (RFC 7468, 2), so that the error can say what the file holds.
fn labels(text: &str) -> Vec<&str> {
    text.lines()
        .filter_map(|line| line.trim_end().strip_prefix("-----BEGIN ")?.strip_suffix("-----"))
        .collect()
}

/// Decodes without leaving copies of the key in memory. Text around the block is allowed (RFC 7468, 2), and cut off
/// here because the decoder takes none after it.
fn decode(text: &str) -> Option<Secret<Vec<u8>>> {
    const END: &str = "-----END PRIVATE KEY-----";
    let start = text.find("-----BEGIN PRIVATE KEY-----")?;
    let end = text.find(END)?.checked_add(END.len())?;
    let (_, document) = SecretDocument::from_pem(text.get(start..end)?).ok()?;
    Some(Secret::new(document.as_bytes().to_vec()))
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
    let text = der::pem::encode_string("PRIVATE KEY", LineEnding::LF, octets)
        .map(Zeroizing::new)
        .map_err(|_| io_error(path, "write")(io::ErrorKind::InvalidData.into()))?;
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
    let written = file
        .write_all(text.as_bytes())
        .map_err(io_error(path, "write"))
        .and_then(|()| file.sync_all().map_err(io_error(path, "sync")));
    if let Err(error) = written {
        // Half a key would only stand in the way of the next attempt; the first error is the one to report.
        let _ = std::fs::remove_file(path);
        return Err(error);
    }
    sync_directory(path)
}

/// The name is durable only once its directory is.
#[cfg(unix)]
fn sync_directory(path: &Path) -> Result<(), KeyFileError> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(parent).and_then(|dir| dir.sync_all()).map_err(io_error(parent, "sync"))
}

/// Other systems have no such call.
#[cfg(not(unix))]
fn sync_directory(_: &Path) -> Result<(), KeyFileError> {
    Ok(())
}
