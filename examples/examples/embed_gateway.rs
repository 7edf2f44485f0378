//! A gateway inside a program of one's own: an adapter for one's own CA, an observer that sees every request, a device
//! that enrols over loopback, and a stop that finishes what was begun.
//!
//! Run with `cargo run -p sceptic-examples --example embed_gateway`.

mod house;

use async_trait::async_trait;
use house::House;
use scep_ca::{
    CaError, CanRevoke, Capabilities, CertificateAuthority, Found, IssueError, LocalCa, Recover,
    Wanted,
};
use scep_client::{Answer, Identity, ScepClient, Trust};
use scep_keys::{AwsLc, SoftwareKey};
use scep_ledger::IssuePermit;
use scep_pkcs10::CsrBuilder;
use scep_server::{Gateway, Observer, Outcome, Trace};
use scep_types::{CertificateDer, KeyAlgorithm, Secret, SerialNumber, SignatureScheme};
use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::net::TcpListener;

/// An adapter turns a permit into a certificate, and finds what it has issued. This one signs with a key in memory
/// and keeps a copy; yours calls your CA.
#[derive(Debug)]
struct KeepingCa {
    signs: LocalCa,
    issued: Mutex<Vec<CertificateDer>>,
}

#[async_trait]
impl CertificateAuthority for KeepingCa {
    fn chain(&self) -> &[CertificateDer] {
        self.signs.chain()
    }
    fn capabilities(&self) -> Capabilities {
        Capabilities { revoke: CanRevoke::No, recover: Recover::BySerial }
    }
    fn choose_serial(&self) -> Result<Option<SerialNumber>, CaError> {
        self.signs.choose_serial()
    }
    async fn issue(&self, permit: IssuePermit) -> Result<CertificateDer, IssueError> {
        // From the permit, never from the request. A lost answer would be `IssueError::Unknown`.
        println!("CA        asked for {}", permit.contents().subject);
        let certificate = self.signs.issue_blocking(permit)?;
        self.issued.lock().unwrap_or_else(PoisonError::into_inner).push(certificate.clone());
        Ok(certificate)
    }
    async fn find(&self, wanted: &Wanted<'_>) -> Result<Found, CaError> {
        let issued = self.issued.lock().unwrap_or_else(PoisonError::into_inner);
        let found = issued.iter().find(|c| c.serial().as_ref() == wanted.serial);
        Ok(found.map_or(Found::Nothing, |c| Found::Certificate(c.clone())))
    }
}

/// Sees the trace of every request: for an audit of one's own, beside the log.
#[derive(Debug, Default)]
struct Audit(Mutex<Vec<Outcome>>);

impl Observer for Audit {
    fn observe(&self, trace: &Trace) {
        println!("observer  {}: {:?} at {:?}", trace.operation, trace.outcome, trace.stage);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(trace.outcome);
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let house = House::build()?;
    let root = house.ca.chain().first().ok_or("a CA has a certificate")?.fingerprint();
    let (challenge, subject) = house.challenge("laptop-7")?;
    let now = house.now;

    // The gateway, on a port of the system's choice.
    let folder = tempfile::tempdir()?;
    let audit = Arc::new(Audit::default());
    let ca = Arc::new(KeepingCa { signs: house.ca.clone(), issued: Mutex::default() });
    let gateway = Gateway::new(house.parts(folder.path(), ca.clone(), audit.clone())?)?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/scep", listener.local_addr()?);
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let shutdown = async { drop(stopped.await) };
    let server = tokio::spawn(async move { gateway.run(listener, shutdown).await });

    // A device. The CA's fingerprint came with its profile.
    let client = ScepClient::new(&url)?;
    let server_knows = client.discover(&Trust::Fingerprint(root), now, &AwsLc).await?;
    let key = SoftwareKey::generate(KeyAlgorithm::Rsa(2048))?;
    let request = CsrBuilder {
        subject: subject.clone(),
        challenge_password: Some(Secret::new(challenge)),
        ..CsrBuilder::default()
    }
    .sign(&*key.signer(), SignatureScheme::RsaPkcs1Sha256)?;
    let identity = Identity::self_signed(&subject, key.signer(), key.decryption()?, now, &AwsLc)?;
    let answer = client.enrol(&server_knows, &request, &identity, now, &AwsLc).await?;
    let Answer::Issued(issued) = answer else { return Err("no certificate".into()) };
    println!("device    has {}", issued.certificate.fingerprint());

    // What was begun is finished first.
    stop.send(()).map_err(|()| "the gateway is gone")?;
    server.await??;
    println!("gateway   stopped");

    let kept = ca.issued.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let seen = audit.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
    if kept != [issued.certificate] || seen.last() != Some(&Outcome::Issued) {
        return Err("CA, device and observer do not agree".into());
    }
    Ok(())
}
