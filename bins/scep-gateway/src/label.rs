//! What a key or a certificate of the gateway is, and of which of its CAs.

use core::fmt;
use scep_types::{AuthorityName, SpkiDer, Timestamp};

/// What it is, and of which CA. `RA encryption` is the main CA's, `RA encryption of g2` another's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Label {
    pub(crate) what: &'static str,
    /// Of what is no CA's: the main one.
    pub(crate) authority: AuthorityName,
}

impl Label {
    /// Of a CA.
    pub(crate) fn of(authority: &AuthorityName, what: &'static str) -> Self {
        Self { what, authority: authority.clone() }
    }

    /// Of the gateway as a whole.
    pub(crate) fn of_gateway(what: &'static str) -> Self {
        Self { what, authority: AuthorityName::main() }
    }

    /// The role of a certificate's key.
    pub(crate) fn role(&self) -> Self {
        let what = self.what.strip_suffix(" certificate").unwrap_or(self.what);
        Self { what, authority: self.authority.clone() }
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.authority == AuthorityName::main() {
            return f.pad(self.what);
        }
        f.pad(&format!("{} of {}", self.what, self.authority))
    }
}

/// Keys with their roles.
pub(crate) type Keys = Vec<(Label, SpkiDer)>;
/// What ends, and when.
pub(crate) type Expiries = Vec<(Label, Timestamp)>;
