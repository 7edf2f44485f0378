//! The connector's private keys as files: PKCS #8 PEM of mode 0600 in a folder of their own, named by key id.

use crate::error::GatewayError;
use scep_connector::{KeySlot, KeyStore, KeyStoreError, OwnKey, StateFile};
use scep_keys::{Backend, SoftwareKey};
use scep_types::{KeyAlgorithm, KeyId};
use std::io;
use std::path::{Path, PathBuf};

/// What the names of key files end with.
const SUFFIX: &str = ".key.pem";

/// The folder of the connector's keys.
#[derive(Clone, Debug)]
pub(crate) struct KeyFolder {
    dir: PathBuf,
    /// Of new decryption keys. Authentication keys are P-256.
    decryption: KeyAlgorithm,
    /// Says which keys are in use.
    state: StateFile,
}

impl KeyFolder {
    pub(crate) const fn new(dir: PathBuf, decryption: KeyAlgorithm, state: StateFile) -> Self {
        Self { dir, decryption, state }
    }

    /// Makes the folder, for its owner alone; one that is there stays as it is.
    pub(crate) fn make(&self) -> Result<(), GatewayError> {
        private_folder(&self.dir).map_err(GatewayError::file(&self.dir))
    }

    /// Where a key lies, or would lie.
    pub(crate) fn path(&self, slot: KeySlot, id: KeyId) -> PathBuf {
        self.dir.join(format!("{}-{id}{SUFFIX}", name(slot)))
    }

    fn mark(&self) -> PathBuf {
        self.dir.join("next")
    }

    /// The decryption key that the next enrolment or renewal is to take: imported, or made for it. `None` once it is in
    /// use, and when it was destroyed since.
    pub(crate) fn next(&self) -> Result<Option<KeyId>, GatewayError> {
        let path = self.mark();
        let id = match std::fs::read_to_string(&path) {
            Ok(text) => KeyId::from_hex(text.trim()).ok_or_else(|| {
                let error = io::Error::new(io::ErrorKind::InvalidData, "not a key id");
                GatewayError::file(path)(error)
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(GatewayError::file(path)(error)),
        };
        let used = self
            .state
            .read()?
            .is_some_and(|state| state.trust.decryption.iter().any(|held| held.key.key_id() == id));
        Ok(Some(id).filter(|_| !used && self.path(KeySlot::Decryption, id).exists()))
    }

    /// Says which decryption key is the next.
    pub(crate) fn set_next(&self, id: KeyId) -> Result<(), GatewayError> {
        let path = self.mark();
        let written = std::fs::write(&path, format!("{id}\n"));
        written.and_then(|()| sync_folder(&self.dir)).map_err(GatewayError::file(path))
    }

    /// Reads a key; the file must hold the one that its name says.
    pub(crate) fn read(&self, slot: KeySlot, id: KeyId) -> Result<SoftwareKey, KeyStoreError> {
        let path = self.path(slot, id);
        let key = SoftwareKey::read(&path, Backend::AwsLc).map_err(failed(slot))?;
        if key.public_key().key_id() == id {
            Ok(key)
        } else {
            Err(failed(slot)(format!("{}: holds another key than its name says", path.display())))
        }
    }
}

const fn name(slot: KeySlot) -> &'static str {
    match slot {
        KeySlot::Authentication => "authentication",
        KeySlot::Decryption => "decryption",
    }
}

fn failed<E: ToString>(slot: KeySlot) -> impl Fn(E) -> KeyStoreError {
    move |why| KeyStoreError { slot, why: why.to_string() }
}

fn own(slot: KeySlot, key: &SoftwareKey) -> Result<OwnKey, KeyStoreError> {
    Ok(match slot {
        KeySlot::Authentication => OwnKey::Authentication(key.signer()),
        KeySlot::Decryption => OwnKey::Decryption(key.decryption().map_err(failed(slot))?),
    })
}

impl KeyStore for KeyFolder {
    fn generate(&self, slot: KeySlot) -> Result<OwnKey, KeyStoreError> {
        let algorithm = match slot {
            KeySlot::Authentication => KeyAlgorithm::P256,
            KeySlot::Decryption => self.decryption,
        };
        if slot == KeySlot::Decryption
            && let Some(next) = self.next().map_err(failed(slot))?
        {
            return self.load(slot, next);
        }
        private_folder(&self.dir).map_err(failed(slot))?;
        let key = SoftwareKey::generate(algorithm).map_err(failed(slot))?;
        key.write_new(&self.path(slot, key.public_key().key_id())).map_err(failed(slot))?;
        own(slot, &key)
    }

    fn load(&self, slot: KeySlot, id: KeyId) -> Result<OwnKey, KeyStoreError> {
        own(slot, &self.read(slot, id)?)
    }

    fn destroy(&self, slot: KeySlot, id: KeyId) -> Result<(), KeyStoreError> {
        let path = self.path(slot, id);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed
                .and_then(|()| sync_folder(&self.dir))
                .map_err(|error| failed(slot)(format!("{}: {error}", path.display()))),
        }
    }
}

/// Makes a folder for its owner alone, if it is not there.
pub(crate) fn private_folder(path: &Path) -> io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt;
        builder.mode(0o700);
    }
    builder.create(path)
}

/// Makes what was renamed, made or removed in a folder durable.
#[cfg(unix)]
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    std::fs::File::open(path)?.sync_all()
}

/// Other systems have no such call.
#[cfg(not(unix))]
pub(crate) fn sync_folder(_: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> (tempfile::TempDir, KeyFolder) {
        let dir = tempfile::tempdir().unwrap();
        let state = StateFile::at(&dir.path().join("connector/state.json"));
        let keys = KeyFolder::new(dir.path().join("connector"), KeyAlgorithm::P256, state);
        (dir, keys)
    }

    #[test]
    fn a_key_is_found_by_its_id_until_it_is_destroyed() {
        let (_dir, keys) = folder();
        let made = keys.generate(KeySlot::Decryption).unwrap();
        let id = made.public_key().key_id();
        assert!(matches!(made, OwnKey::Decryption(_)));
        let loaded = keys.load(KeySlot::Decryption, id).unwrap();
        assert_eq!(loaded.public_key(), made.public_key());
        // A key has one purpose.
        keys.load(KeySlot::Authentication, id).unwrap_err();
        keys.destroy(KeySlot::Decryption, id).unwrap();
        assert!(!keys.path(KeySlot::Decryption, id).exists());
        let error = keys.load(KeySlot::Decryption, id).unwrap_err().to_string();
        assert!(error.contains(&id.to_string()), "{error}");
        keys.destroy(KeySlot::Decryption, id).unwrap();
    }

    #[test]
    fn a_key_that_was_laid_ready_is_taken_instead_of_a_new_one() {
        let (_dir, keys) = folder();
        let new = || keys.generate(KeySlot::Decryption).unwrap().public_key().key_id();
        assert_eq!(keys.next().unwrap(), None);
        let id = new();
        assert_ne!(new(), id);
        keys.set_next(id).unwrap();
        assert_eq!((keys.next().unwrap(), new()), (Some(id), id));
        // Authentication keys are never shared.
        keys.generate(KeySlot::Authentication).unwrap();
        keys.destroy(KeySlot::Decryption, id).unwrap();
        assert_eq!(keys.next().unwrap(), None);
        assert_ne!(new(), id);
        std::fs::write(keys.mark(), "nothing").unwrap();
        keys.next().unwrap_err();
    }

    #[cfg(unix)]
    #[test]
    fn keys_are_for_their_owner_alone() {
        use std::os::unix::fs::PermissionsExt;
        let (_dir, keys) = folder();
        let id = keys.generate(KeySlot::Authentication).unwrap().public_key().key_id();
        let path = keys.path(KeySlot::Authentication, id);
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let error = keys.load(KeySlot::Authentication, id).unwrap_err().to_string();
        assert!(error.contains("640"), "{error}");
    }

    #[test]
    fn a_file_with_another_key_than_its_name_says_is_refused() {
        let (_dir, keys) = folder();
        let [a, b] = [(); 2].map(|()| keys.generate(KeySlot::Decryption).unwrap());
        let [a, b] = [a, b].map(|key| key.public_key().key_id());
        let path = |id| keys.path(KeySlot::Decryption, id);
        std::fs::rename(path(a), path(b)).unwrap();
        let error = keys.load(KeySlot::Decryption, b).unwrap_err().to_string();
        assert!(error.contains("another key"), "{error}");
    }
}
