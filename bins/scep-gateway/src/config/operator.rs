//! `admin_token`: what operators' programs show on the loopback listener.

use super::ledger::private_line;
use crate::error::GatewayError;
use core::fmt;
use scep_server::OperatorToken;
use scep_types::Secret;
use std::path::Path;

/// The token, read and found to be one.
pub(crate) struct AdminToken(Secret<String>);

impl AdminToken {
    /// From the first line of a file that nobody else may read.
    pub(super) fn read(path: &Path) -> Result<Self, GatewayError> {
        let key = format!("admin_token ({})", path.display());
        let wrong = |error: &dyn fmt::Display| GatewayError::config(&key, error);
        let line = private_line("admin_token", path)?;
        let text = String::from_utf8(line).map_err(|error| wrong(&error.utf8_error()))?;
        let token = Self(Secret::new(text));
        OperatorToken::new(Secret::new(token.0.expose().clone())).map_err(|e| wrong(&e))?;
        Ok(token)
    }

    /// For the listener.
    pub(crate) fn operators(&self) -> Option<OperatorToken> {
        // `read` has seen that it is one.
        OperatorToken::new(Secret::new(self.0.expose().clone())).ok()
    }

    /// For a request to it.
    pub(crate) const fn expose(&self) -> &String {
        self.0.expose()
    }
}

impl fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AdminToken(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_stands_in_a_private_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("admin.token");
        let token = "0123456789abcdef0123456789abcdef";
        std::fs::write(&file, format!("{token}\n")).unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let set = |mode| {
                std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
            };
            for mode in [0o640, 0o604, 0o644] {
                set(mode);
                let error = AdminToken::read(&file).unwrap_err().to_string();
                assert!(error.contains("admin_token") && error.contains("has mode"), "{error}");
            }
            set(0o600);
        }
        let read = AdminToken::read(&file).unwrap();
        assert_eq!(read.expose(), token);
        assert!(read.operators().is_some());
        assert!(!format!("{read:?}").contains("0123"));
        std::fs::write(&file, "short\n").unwrap();
        let error = AdminToken::read(&file).unwrap_err().to_string();
        assert!(error.contains("32 to 256 visible ASCII characters"), "{error}");
        let missing = AdminToken::read(&folder.path().join("missing")).unwrap_err();
        assert!(missing.to_string().contains("missing"));
    }
}
