//! No key has two roles.

use crate::ConnectorError;
use scep_link::TrustedKey;
use scep_types::SpkiDer;

/// Every key of the issuer, once each and suitable for what it does, and every key of ours, by role. Two keys of ours are
/// the gateway's to compare, as it knows which may be one.
pub(crate) fn check(
    signers: &[TrustedKey],
    commands: &[TrustedKey],
    own: &[(String, SpkiDer)],
) -> Result<(), ConnectorError> {
    let signers = signers.iter().map(|key| ("a challenge signing", &key.key));
    let commands = commands.iter().map(|key| ("a command", &key.key));
    let theirs: Vec<_> = signers.chain(commands).collect();
    for (at, (role, key)) in theirs.iter().enumerate() {
        if !scep_link::is_suitable(key.algorithm()) {
            return Err(ConnectorError::Contradiction {
                what: "a key of the issuer is neither P-256 nor RSA of 2,048 to 4,096 bits",
            });
        }
        let others = theirs.iter().take(at).map(|(role, key)| (*role, *key));
        let own = own.iter().map(|(role, key)| (role.as_str(), key));
        if let Some((other, _)) = others.chain(own).find(|(_, other)| same(other, key)) {
            return Err(ConnectorError::SharedKey {
                one: format!("{role} key"),
                other: format!("{other} key"),
            });
        }
    }
    Ok(())
}

/// By the bits of the key: parameters written otherwise do not make it another one.
fn same(one: &SpkiDer, other: &SpkiDer) -> bool {
    one.key_id() == other.key_id()
}
