//! Keys, certificates and challenges in files.

use crate::cli::{ChallengeOptions, OutputOptions};
use crate::error::DeviceError;
use scep_client::Issued;
use scep_keys::{Backend, SoftwareKey, certificates_pem, read_certificates, write_new_public};
use scep_types::{CertificateDer, KeyAlgorithm, Secret};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

/// Longest challenge text; a blob has at most 16 KiB.
const MAX_CHALLENGE: u64 = 64 * 1024;

/// Reads the key, or makes it where there is none.
pub(crate) fn key_or_new(path: &Path, algorithm: KeyAlgorithm) -> Result<SoftwareKey, DeviceError> {
    if path.exists() {
        return Ok(SoftwareKey::read(path, Backend::AwsLc)?);
    }
    let key = SoftwareKey::generate(algorithm)?;
    key.write_new(path)?;
    Ok(key)
}

/// The first certificate of a file.
pub(crate) fn certificate(path: &Path) -> Result<CertificateDer, DeviceError> {
    let mut all = read_certificates(path)?.into_iter();
    all.next().ok_or_else(|| DeviceError::argument("--cert", "no certificate in it"))
}

/// The challenge, if one was given.
pub(crate) fn challenge(options: &ChallengeOptions) -> Result<Option<Secret<String>>, DeviceError> {
    if let Some(text) = &options.challenge {
        return Ok(Some(Secret::new(text.trim().to_owned())));
    }
    let Some(path) = &options.challenge_file else { return Ok(None) };
    let failed = |source| DeviceError::File { path: path.clone(), source };
    let mut text = String::new();
    if path == Path::new("-") {
        std::io::stdin().take(MAX_CHALLENGE).read_to_string(&mut text).map_err(failed)?;
    } else {
        let file = std::fs::File::open(path).map_err(failed)?;
        file.take(MAX_CHALLENGE).read_to_string(&mut text).map_err(failed)?;
    }
    Ok(Some(Secret::new(text.trim().to_owned())))
}

/// Refuses before anything is sent when the certificate could not be written afterwards.
pub(crate) fn check_output(output: &OutputOptions) -> Result<(), DeviceError> {
    for path in std::iter::once(&output.out).chain(&output.chain_out) {
        if path.exists() {
            return Err(DeviceError::Exists { path: path.clone() });
        }
        let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        if folder.is_some_and(|folder| !folder.is_dir()) {
            return Err(DeviceError::NoFolder { path: path.clone() });
        }
    }
    Ok(())
}

/// Writes what was issued.
pub(crate) fn write_issued(output: &OutputOptions, issued: &Issued) -> Result<(), DeviceError> {
    let leaf = certificates_pem(std::slice::from_ref(&issued.certificate));
    write_new_public(&output.out, &leaf)?;
    if let Some(path) = &output.chain_out {
        write_new_public(path, &certificates_pem(&issued.chain))?;
    }
    Ok(())
}

/// Where the request of a certificate file is kept while it is pending.
pub(crate) fn request_path(out: &Path) -> PathBuf {
    let mut name = out.as_os_str().to_owned();
    name.push(".csr");
    name.into()
}

/// Writes PEM to a new file, or to standard output.
pub(crate) fn print_or_write(out: Option<&Path>, text: &str) -> Result<(), DeviceError> {
    match out {
        Some(path) => Ok(write_new_public(path, text)?),
        None => {
            print!("{text}");
            Ok(())
        }
    }
}

/// Keeps a pending request. It has the challenge in it: for its owner alone.
pub(crate) fn write_request(path: &Path, request: &[u8]) -> Result<(), DeviceError> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    let failed = |source| DeviceError::File { path: path.to_owned(), source };
    let mut file = options.open(path).map_err(failed)?;
    file.write_all(request).map_err(failed)
}
