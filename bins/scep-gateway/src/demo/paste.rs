//! Commands to paste, for `--keep-running`.

use super::Stage;
use crate::error::GatewayError;
use std::path::Path;

/// Mints challenges and prints how to use them from other programs.
pub(crate) fn print(stage: &Stage, dir: &Path) -> Result<(), GatewayError> {
    let mint = |device: &str, names: usize| -> Result<String, GatewayError> {
        let mut claims = stage.issuer.claims(device, stage.now, &*stage.provider)?;
        claims.expectation.subject_alt_names.truncate(names);
        stage.issuer.seal(&claims, &*stage.provider)
    };
    let (url, at) = (&stage.url, dir.display());
    println!(
        "\nServing until Ctrl-C. Each challenge below is good for one certificate within the hour."
    );
    println!("\n# 1. scep-device");
    println!(
        "scep-device enrol --url {url} --ca-fingerprint {fingerprint} \\\n  \
         --subject 'C=CH, O=Example, CN=laptop-1' --dns laptop-1.example.org --upn laptop-1@example.org \\\n  \
         --key laptop-1.key.pem --out laptop-1.cert.pem \\\n  --challenge {blob}",
        fingerprint = stage.ca.fingerprint(),
        blob = mint("laptop-1", 2)?
    );
    println!("\n# 2. strongSwan");
    println!("openssl genrsa -out sw.key.pem 2048");
    println!(
        "pki --scep --url {url} --in sw.key.pem --dn 'C=CH, O=Example, CN=laptop-2' \\\n  \
         --san laptop-2.example.org \\\n  \
         --cacert-enc {at}/gateway/ra-encrypt.cert.pem --cacert-sig {at}/gateway/ra-sign.cert.pem \\\n  \
         --cacert {at}/gateway/ca.cert.pem --outform pem \\\n  --password {blob} > sw.cert.pem",
        blob = mint("laptop-2", 1)?
    );
    println!("\n# 3. look at a certificate");
    println!("openssl x509 -in laptop-1.cert.pem -noout -text");
    println!("openssl verify -CAfile {at}/gateway/ca.cert.pem laptop-1.cert.pem");
    Ok(())
}
