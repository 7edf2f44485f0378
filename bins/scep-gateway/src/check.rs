//! `check-config`: read everything, say what is there, and stop.

use crate::config::{AuthorityConfig, Challenges, Config};
use crate::error::GatewayError;
use scep_keys::AwsLc;
use scep_message::LegacyAlgorithms;
use scep_server::{
    CaCertForm, Endpoint, ReplyCertificates, ReplyCipher, ReplyDigest, SignerRule, SystemClock,
};
use scep_types::{Clock, CryptoProvider, ProfileId, StringRules};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

/// Where what a CA says is served, and what it has to do with other CAs.
fn services(authority: &AuthorityConfig) -> String {
    let mut text = format!("CRL at {}", authority.crl.path);
    if let Some(ocsp) = &authority.ocsp {
        text.push_str(&format!(", OCSP at {}", ocsp.settings.path));
    }
    if let Some(followed) = &authority.follows {
        text.push_str(&format!(", follows {followed}"));
    }
    if authority.next.is_some() {
        text.push_str(", GetNextCACert");
    }
    text
}

/// How an endpoint behaves.
fn behaviour(endpoint: &Endpoint) -> String {
    let profiles = match &endpoint.profiles {
        None => "all profiles".to_owned(),
        Some(some) => {
            let names: Vec<&str> = some.iter().map(ProfileId::as_str).collect();
            format!("profiles {}", names.join(", "))
        }
    };
    let form = CaCertForm::NAMED.iter().find(|(_, form)| *form == endpoint.ca_cert);
    let mut text = format!(
        "CA {}, {profiles}, preset {}: signer {}, reply {}, ca_cert {}",
        endpoint.authority,
        endpoint.name,
        match endpoint.signer {
            SignerRule::CsrKey => "csr-key",
            SignerRule::Any => "any",
        },
        match endpoint.reply {
            ReplyCertificates::Leaf => "leaf",
            ReplyCertificates::LeafAndCa => "leaf-and-ca",
        },
        form.map_or("of its own", |(name, _)| name),
    );
    for (word, said) in [
        ("SHA-1 and 3DES", endpoint.legacy == LegacyAlgorithms::Accept),
        ("BMPString", endpoint.csr.strings == StringRules::AllowBmp),
        ("answers by SHA-256", endpoint.digest == ReplyDigest::Sha256),
        ("answers in AES-128", endpoint.cipher == ReplyCipher::Aes128),
    ] {
        if said {
            text.push_str(", ");
            text.push_str(word);
        }
    }
    text
}

pub(crate) fn run(path: &Path) -> Result<ExitCode, GatewayError> {
    let now = SystemClock.now();
    let provider: Arc<dyn CryptoProvider> = Arc::new(AwsLc);
    let config = Config::load(path, now, &provider)?;
    if let Some(owned) = config.ended(now) {
        let ended = owned.certificate.not_after();
        return Err(GatewayError::config(owned.what.to_string(), format!("expired at {ended}")));
    }
    println!("{} is complete and consistent.", path.display());
    println!("serves SCEP on {}, health and metrics on {}", config.listen, config.admin_listen);
    println!("ledger   {}", config.ledger);
    for authority in config.authorities() {
        println!("CA       {:30} {}", authority.name.as_str(), services(authority));
    }
    for endpoint in &config.endpoints {
        println!("endpoint {:30} {}", endpoint.path, behaviour(endpoint));
    }
    for (role, key) in &config.keys {
        println!("key      {role:30} {} {}", key.algorithm(), key.key_id());
    }
    for (what, when) in &config.expiries {
        let days = when.since(now).as_secs() / 86_400;
        println!("expires  {what:30} {when} ({days} days)");
    }
    if let Challenges::Issuer(link) = &config.challenges {
        let enrolled = match link.state.read()? {
            Some(state) => format!("enrolled as connector {}", state.connector),
            None => "not enrolled yet: run `scep-gateway enroll`".into(),
        };
        println!("issuer   {} ({enrolled})", link.settings.issuer.as_str());
    }
    println!("site rules {}", config.site_rules.digest());
    Ok(ExitCode::SUCCESS)
}
