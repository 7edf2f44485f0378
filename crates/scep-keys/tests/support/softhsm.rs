//! SoftHSM2 in a folder of a test's own.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// The PIN of every token here.
pub(crate) const PIN: &str = "only a test's";

/// The folder of some tokens; gone when it is dropped.
pub(crate) struct SoftHsm {
    module: PathBuf,
    dir: tempfile::TempDir,
}

/// The library, where SoftHSM2 is installed.
pub(crate) fn module() -> Option<PathBuf> {
    let util = Command::new("softhsm2-util")
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if !util.is_ok_and(|status| status.success()) {
        return None;
    }
    ["/usr/lib/softhsm/libsofthsm2.so", "/usr/local/lib/softhsm/libsofthsm2.so"]
        .into_iter()
        .map(PathBuf::from)
        .find(|path| path.is_file())
}

impl SoftHsm {
    /// Tokens with these labels.
    pub(crate) fn new(module: PathBuf, labels: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("tokens")).unwrap();
        let conf = format!(
            "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\n",
            dir.path().join("tokens").display()
        );
        std::fs::write(dir.path().join("softhsm2.conf"), conf).unwrap();
        let hsm = Self { module, dir };
        hsm.secret("pin", &format!("{PIN}\n"));
        for label in labels {
            hsm.util(&["--init-token", "--free", "--label", label, "--so-pin", PIN, "--pin", PIN]);
        }
        hsm
    }

    /// What programs must have as SOFTHSM2_CONF.
    pub(crate) fn conf(&self) -> PathBuf {
        self.dir.path().join("softhsm2.conf")
    }

    /// The folder.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A file of mode 0600 in the folder.
    pub(crate) fn secret(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        set_mode(&path, 0o600);
        path
    }

    /// A key's URI.
    pub(crate) fn uri(&self, token: &str, object: &str) -> String {
        uri(&self.module, self.dir.path(), token, object)
    }

    /// `softhsm2-util` with these arguments.
    pub(crate) fn util(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new("softhsm2-util");
        let output = command.args(arguments).env("SOFTHSM2_CONF", self.conf()).output().unwrap();
        assert!(output.status.success(), "softhsm2-util {arguments:?}: {output:?}");
        output
    }

    /// Puts the key of a PKCS #8 PEM file on a token.
    pub(crate) fn import(&self, file: &Path, token: &str, object: &str, id: &str) {
        let file = file.to_str().unwrap();
        let name = ["--token", token, "--pin", PIN, "--label", object, "--id", id];
        self.util(&[&["--import", file], name.as_slice()].concat());
    }
}

/// The URI of a key whose PIN is in the file `pin` of a folder.
pub(crate) fn uri(module: &Path, dir: &Path, token: &str, object: &str) -> String {
    format!(
        "pkcs11:token={token};object={object}?module-path={}&pin-source={}",
        module.display(),
        dir.join("pin").display()
    )
}

/// Permission bits.
pub(crate) fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}
