//! The files that `init` writes.

use scep_types::Timestamp;
use std::net::SocketAddr;

/// What stands in a new configuration.
pub(crate) struct NewConfig<'a> {
    pub(crate) tenant: &'a str,
    pub(crate) group: &'a str,
    pub(crate) listen: SocketAddr,
    pub(crate) admin_listen: SocketAddr,
    pub(crate) crl_url: Option<&'a str>,
    pub(crate) ocsp_url: Option<&'a str>,
    pub(crate) issuer: Issuer<'a>,
    /// `[ca]` of a CA that is not here.
    pub(crate) remote_ca: Option<&'a str>,
    /// Of the RA: what signs and what opens, without endings; the same twice where one key does both.
    pub(crate) ra_files: [&'a str; 2],
    /// Of the endpoint `/`.
    pub(crate) preset: &'a str,
}

/// How the gateway knows its issuer.
pub(crate) enum Issuer<'a> {
    /// By its key, in a file.
    Key {
        /// From when on it counts.
        from: Timestamp,
        /// Until when.
        until: Timestamp,
    },
    /// By the address of its service.
    Service {
        /// The address.
        url: &'a str,
        /// The proxy to it.
        proxy: Option<&'a str>,
        /// Of the decryption key that `enroll` makes.
        challenge_key: String,
    },
}

impl Issuer<'_> {
    fn to_toml(&self) -> String {
        match self {
            Self::Key { from, until } => format!(
                r#"[challenge]
decryption_key = "challenge.key.pem"

[[challenge.signers]]
public_key = "issuer.pub.pem"
not_before = "{from}"
not_after = "{until}"
"#
            ),
            Self::Service { url, proxy, challenge_key } => {
                let proxy =
                    proxy.map_or(String::new(), |proxy| format!("proxy = {}\n", quoted(proxy)));
                format!(
                    r#"[connector]
issuer = {url}
{proxy}state = "connector/state.json"
challenge_key = "{challenge_key}"
offline = "refuse-after"
status_folder = "status"
"#,
                    url = quoted(url),
                )
            }
        }
    }
}

/// As a TOML string.
pub(crate) fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

impl NewConfig<'_> {
    /// The configuration's text.
    pub(crate) fn to_toml(&self) -> String {
        let Self {
            tenant, group, listen, admin_listen, crl_url, ocsp_url, issuer, remote_ca, ..
        } = self;
        let ([ra_sign, ra_encrypt], preset) = (self.ra_files, self.preset);
        let issuer = issuer.to_toml();
        let crl_urls = crl_url.map_or(String::new(), |url| format!("crl_urls = [\"{url}\"]\n"));
        let ocsp_urls = ocsp_url.map_or(String::new(), |url| format!("ocsp_urls = [\"{url}\"]\n"));
        let local_ca = || {
            format!(
                "[ca]\nkind = \"local\"\nkey = \"ca.key.pem\"\n\
                 certificate = \"ca.cert.pem\"\n{crl_urls}{ocsp_urls}"
            )
        };
        let ca = remote_ca.map_or_else(local_ca, str::to_owned);
        let ocsp = ocsp_url.map_or("", |_| "\n[ocsp]\npath = \"/ocsp\"\nvalidity = \"1h\"\n");
        format!(
            r#"# Every key is explained in config.example.toml.
tenant = "{tenant}"
gateway_group = "{group}"
listen = "{listen}"
admin_listen = "{admin_listen}"
admin_token = "admin.token"
ledger = "ledger.sqlite"
site_rules = "site-rules.toml"

{ca}
[crl]
path = "/crl"
validity = "7d"
{ocsp}
[ra]
signing_key = "{ra_sign}.key.pem"
signing_certificate = "{ra_sign}.cert.pem"
encryption_key = "{ra_encrypt}.key.pem"
encryption_certificate = "{ra_encrypt}.cert.pem"

{issuer}
[[endpoints]]
path = "/"
preset = "{preset}"

[[endpoints]]
path = "/certsrv/mscep/mscep.dll"
preset = "windows"
"#
        )
    }
}

/// OCSP of a next CA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NextOcsp {
    /// The present CA has none.
    No,
    /// As the present CA's.
    Yes,
    /// It would need a key on the token.
    NeedsKey,
}

/// What stands in a configuration about a CA that is to take over.
pub(crate) struct NextAuthority<'a> {
    pub(crate) name: &'a str,
    /// The present one.
    pub(crate) follows: &'a str,
    /// Where its files are.
    pub(crate) folder: &'a str,
    pub(crate) ca_key: &'a str,
    /// Whether there are CAs above it.
    pub(crate) chain: bool,
    pub(crate) urls: &'a scep_ca::LocalCaSettings,
    pub(crate) ocsp: NextOcsp,
    /// Of the RA: signing, encryption.
    pub(crate) ra_keys: [&'a str; 2],
    /// The file with what GetNextCACert answers.
    pub(crate) answer: &'a str,
}

impl NextAuthority<'_> {
    /// The lines to add.
    pub(crate) fn to_toml(&self) -> String {
        let Self { name, follows, folder, ca_key, chain, urls, ocsp, ra_keys, answer } = self;
        let list = |key: &str, urls: &[String]| {
            let quoted: Vec<String> = urls.iter().map(|url| quoted(url)).collect();
            if quoted.is_empty() {
                String::new()
            } else {
                format!("{key} = [{}]\n", quoted.join(", "))
            }
        };
        let chain =
            if *chain { format!("chain = \"{folder}/chain.pem\"\n") } else { String::new() };
        let (crl_urls, ocsp_urls) =
            (list("crl_urls", &urls.crl_urls), list("ocsp_urls", &urls.ocsp_urls));
        let ocsp = match ocsp {
            NextOcsp::No => String::new(),
            NextOcsp::Yes => "\n[authorities.ocsp]\n".to_owned(),
            NextOcsp::NeedsKey => {
                "\n# OCSP needs a key beside the CA's: scep-gateway token-key --for ocsp\n\
                                   # [authorities.ocsp]\n# key = \"pkcs11:...\"\n"
                    .to_owned()
            }
        };
        let rollover = if *follows == "main" {
            format!("[rollover]\nnext = {}\nnext_answer = \"{folder}/{answer}\"\n", quoted(name))
        } else {
            format!(
                "# And these two lines in the [[authorities]] of {follows}:\n\
                 # next = {}\n# next_answer = \"{folder}/{answer}\"\n",
                quoted(name)
            )
        };
        let [ra_signing, ra_encryption] = ra_keys.map(quoted);
        format!(
            r#"[[authorities]]
name = {name}
follows = {follows}

[authorities.ca]
kind = "local"
key = {ca_key}
certificate = "{folder}/ca.cert.pem"
{chain}{crl_urls}{ocsp_urls}{ocsp}
[authorities.ra]
signing_key = {ra_signing}
signing_certificate = "{folder}/ra-sign.cert.pem"
encryption_key = {ra_encryption}
encryption_certificate = "{folder}/ra-encrypt.cert.pem"

{rollover}"#,
            name = quoted(name),
            follows = quoted(follows),
            ca_key = quoted(ca_key),
        )
    }
}

/// The site rules of a new gateway: these suffixes, client certificates, a year.
pub(crate) fn site_rules(suffixes: &[String]) -> String {
    let list: Vec<String> = suffixes.iter().map(|s| format!("{s:?}")).collect();
    let list = list.join(", ");
    format!(
        r#"# What this site certifies at most, whatever a challenge says. Rules only narrow.
# Every rule is explained in site-rules.example.toml of the crate scep-policy.

issuance_per_hour = 10000
max_validity_days = 398

rsa_min_bits = 2048
curves = ["p256", "p384"]

extended_key_usages = ["clientAuth"]

san_kinds = ["dns", "email", "upn"]
dns_suffixes = [{list}]
email_suffixes = [{list}]
upn_suffixes = [{list}]
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use scep_policy::SiteRules;

    #[test]
    fn new_site_rules_are_rules() {
        let text = site_rules(&["example.org".into(), "example.net".into()]);
        SiteRules::from_toml(&text).unwrap();
        assert!(SiteRules::from_toml(&site_rules(&["not a suffix".into()])).is_err());
    }
}
