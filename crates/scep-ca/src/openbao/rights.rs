//! What the adapter's token may do, for an operator who sets it up.

use super::http::{Ask, Failure};
use super::{OpenBao, Shape, SignBy, answer, plain};
use crate::error::CaError;
use core::fmt;
use serde::Deserialize;
use serde_json::json;
use std::collections::HashMap;

/// A right that the adapter needs: a line of its policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Right {
    /// The path as a policy names it, with `+` for the issuer.
    pub path: String,
    /// The capability.
    pub capability: &'static str,
    /// One such path, to ask about.
    example: String,
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "path {:?} {{ capabilities = [{:?}] }}", self.path, self.capability)
    }
}

/// What the server says about paths: lists of capabilities, by path. What else it says stands beside them.
#[derive(Deserialize)]
struct Rights {
    #[serde(flatten)]
    by_path: HashMap<String, serde_json::Value>,
}

impl OpenBao {
    /// Every right that the adapter needs, and those to sign by these further roles.
    ///
    /// # Errors
    /// When a role's name cannot be one.
    pub fn rights(&self, roles: &[&str]) -> Result<Vec<Right>, CaError> {
        let mount = &self.settings.mount;
        let mut all = Vec::new();
        let signing = |call: &str| Right {
            path: format!("{mount}/issuer/+/{call}"),
            capability: "update",
            example: format!("{mount}/issuer/{}/{call}", self.settings.issuer),
        };
        all.push(match &self.settings.sign_by {
            SignBy::Verbatim(None) => signing("sign-verbatim"),
            SignBy::Verbatim(Some(role)) => signing(&format!("sign-verbatim/{role}")),
            SignBy::Role(role) => signing(&format!("sign/{role}")),
        });
        for role in roles {
            plain("role", role, false)?;
            all.push(signing(&format!("sign/{role}")));
        }
        for (path, capability) in
            [(format!("{mount}/revoke"), "update"), (format!("{mount}/certs"), "list")]
        {
            all.push(Right { example: path.clone(), path, capability });
        }
        Ok(all)
    }

    /// Whether the engine has this role. Asks for a certificate without a request, which issues nothing; the engine
    /// looks for the role first.
    ///
    /// # Errors
    /// When the server cannot be asked, or the token has no right to sign by this role.
    pub async fn knows_role(&self, role: &str) -> Result<bool, CaError> {
        plain("role", role, false)?;
        let Shape { mount, issuer, .. } = &self.settings;
        let path = format!("{mount}/issuer/{issuer}/sign/{role}");
        match self.call("roles", &path, Ask::Post(&json!({ "csr": "" }))).await {
            Err(Failure::Refused { status: 400, why }) => Ok(!why.contains("unknown role")),
            Err(failure) => Err(failure.for_later()),
            Ok(_) => Ok(true),
        }
    }

    /// Those of these rights that the token lacks, as the server says. Needs `sys/capabilities-self`, which the server's
    /// policy `default` allows.
    ///
    /// # Errors
    /// When the server cannot be asked or does not say.
    pub async fn missing(&self, needed: Vec<Right>) -> Result<Vec<Right>, CaError> {
        let paths: Vec<&str> = needed.iter().map(|right| right.example.as_str()).collect();
        let body = json!({ "paths": paths });
        let asked = self.call("rights", "sys/capabilities-self", Ask::Post(&body)).await;
        let body = asked.map_err(Failure::for_later)?;
        let said: Rights = answer::data(&body).map_err(|why| CaError::Answer { why })?;
        let has = |right: &Right| {
            let listed = said.by_path.get(&right.example).and_then(|value| value.as_array());
            listed.is_some_and(|all| {
                let mut all = all.iter().filter_map(|one| one.as_str());
                all.any(|one| one == right.capability || one == "root")
            })
        };
        Ok(needed.into_iter().filter(|right| !has(right)).collect())
    }
}
