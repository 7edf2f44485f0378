//! Renews the gateway's own certificates while it runs, and says when they end.

use crate::ca::Ca;
use crate::cli::RenewRaOptions;
use crate::config::{AuthorityConfig, Config};
use crate::connector::SharedOwn;
use crate::error::GatewayError;
use crate::label::{Expiries, Keys, Label};
use crate::renewal::{Owned, PREVIOUS_ENCRYPTION, PREVIOUS_SIGNING, Ra, RaFiles, Renewed};
use core::time::Duration;
use scep_connector::Connector;
use scep_keys::AwsLc;
use scep_server::{Gateway, SystemClock};
use scep_types::{AuthorityName, Clock, CryptoProvider, Timestamp};
use std::process::ExitCode;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// How often renewals are looked for.
const DAILY: Duration = Duration::from_secs(86_400);
/// How often the RA's files are looked at, and the list of what expires is made anew: an operator and the connector renew
/// too.
const LIST: Duration = Duration::from_secs(20);

/// Watches over the certificates.
#[derive(Debug)]
pub(crate) struct Keeper {
    pub(crate) gateway: Gateway,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) authorities: Vec<Kept>,
    pub(crate) own: SharedOwn,
    pub(crate) connector: Option<Connector>,
    /// Keys of the configuration that are the issuer's, and when they end.
    pub(crate) pinned: Expiries,
}

/// A CA whose RA is watched over.
#[derive(Debug)]
pub(crate) struct Kept {
    name: AuthorityName,
    ca: Ca,
    files: RaFiles,
}

impl Kept {
    pub(crate) fn of(authority: &AuthorityConfig) -> Self {
        let AuthorityConfig { name, ca, ra_files, .. } = authority;
        Self { name: name.clone(), ca: ca.clone(), files: ra_files.clone() }
    }
}

/// Renews what is due among the files of a configuration; whether anything was.
pub(crate) fn renew_at_start(config: &Config, now: Timestamp) -> bool {
    let renew = |one: &AuthorityConfig| one.ra_files.renew(&one.ca, now);
    let renewed: Vec<Renewed> = config.authorities().flat_map(renew).collect();
    tell(&renewed);
    renewed.iter().any(|one| one.outcome.is_ok())
}

/// `renew-ra`.
pub(crate) fn renew_now(options: &RenewRaOptions) -> Result<ExitCode, GatewayError> {
    let provider: Arc<dyn CryptoProvider> = Arc::new(AwsLc);
    let (path, now) = (&options.config, SystemClock.now());
    let made = Config::make_ra(path, options.ca.as_deref(), now, &provider)?;
    if !made.is_empty() {
        for Renewed { what, outcome } in made {
            println!("{what}: first key, until {}", outcome?);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let config = Config::load(path, now, &provider)?;
    let chosen = match &options.ca {
        Some(name) => vec![config.authority(name)?],
        None => config.authorities().collect(),
    };
    // One that cannot be renewed now keeps no other from it.
    let mut first = None;
    for authority in chosen {
        let renewed = authority.ra_files.renew_now(&authority.ca, now);
        let renewed = renewed.map_err(|error| error.of_authority(&authority.name));
        let renewed = renewed.and_then(|renewed| {
            renewed.into_iter().try_for_each(|Renewed { what, outcome }| {
                outcome.map(|until| println!("{what}: new key, until {until}"))
            })
        });
        if let Err(error) = renewed {
            first.get_or_insert(error);
        }
    }
    if let Some(error) = first {
        return Err(error);
    }
    println!(
        "a gateway that runs takes them within a minute; a group's others need the same files, .previous too"
    );
    Ok(ExitCode::SUCCESS)
}

fn tell(renewed: &[Renewed]) {
    for Renewed { what, outcome } in renewed {
        match outcome {
            Ok(until) => tracing::info!(target: "scep", %what, %until, "renewed with a new key"),
            Err(error) => tracing::error!(
                target: "scep", %what, %error,
                "cannot be renewed; the present one is used on and this is tried again tomorrow"
            ),
        }
    }
}

/// Fails for a certificate that has ended: no device would take an answer.
pub(crate) fn not_expired(config: &Config, now: Timestamp) -> Result<(), GatewayError> {
    match config.ended(now) {
        None => Ok(()),
        Some(owned) => Err(GatewayError::config(
            owned.what.to_string(),
            format!("expired at {}, and could not be renewed", owned.certificate.not_after()),
        )),
    }
}

impl Keeper {
    /// Until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let keeper = Arc::new(self);
        let mut looked = keeper.clock.now();
        loop {
            keeper.list();
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LIST) => {}
            }
            let now = keeper.clock.now();
            // By the clock and not by a timer: one that was asleep with its machine looks as soon as it wakes.
            let due = now.since(looked) >= DAILY;
            if due {
                looked = now;
            }
            let round = Arc::clone(&keeper);
            // RSA keys take their time.
            let work = move || if due { round.renew(now) } else { round.reread(now) };
            if tokio::task::spawn_blocking(work).await.is_err() {
                tracing::error!(target: "scep", "the renewal of certificates was lost");
            }
        }
    }

    /// Renews what is due, and has the gateway use it from the next request on.
    pub(crate) fn renew(&self, now: Timestamp) {
        for one in &self.authorities {
            tell(&one.files.renew(&one.ca, now));
        }
        self.reread(now);
    }

    /// Takes what lies in the files: renewed here or by an operator, or without a previous key whose time is over.
    fn reread(&self, now: Timestamp) {
        for one in &self.authorities {
            match one.files.read(&one.ca, now) {
                Ok(ra) if self.known(&one.name) == ra.keys() => {}
                Ok(ra) => self.take(ra),
                Err(error) => tracing::error!(
                    target: "scep", ca = %one.name, %error,
                    "the RA's files cannot be read; what was read before is used on"
                ),
            }
        }
    }

    /// The keys of the RA that is in use.
    fn known(&self, authority: &AuthorityName) -> Keys {
        let mut keys = self.own.keys();
        keys.retain(|(role, _)| role.authority == *authority && role.what.contains("RA"));
        keys
    }

    fn take(&self, ra: Ra) {
        let Some(authority) = self.gateway.authority(&ra.authority) else { return };
        tracing::info!(target: "scep", ca = %ra.authority, "the RA's files have changed, and are taken");
        let (mut keys, mut certificates) = (self.own.keys(), self.own.certificates());
        let roles: Vec<Label> = ra.certificates.iter().map(Owned::role).collect();
        let previous =
            [PREVIOUS_ENCRYPTION, PREVIOUS_SIGNING].map(|role| Label::of(&ra.authority, role));
        let theirs = |role: &Label| roles.contains(role) || previous.contains(role);
        keys.retain(|(role, _)| !theirs(role));
        keys.extend(ra.keys());
        certificates.retain(|owned| !theirs(&owned.role()));
        certificates.extend(ra.certificates);
        self.own.set(keys, certificates);
        authority
            .set_previous_ras(ra.previous.into_iter().map(|previous| previous.identity).collect());
        authority.set_ra(ra.identity);
        self.list();
    }

    /// Tells the gateway what expires when.
    fn list(&self) {
        let mut list: Vec<(String, Timestamp)> = Vec::new();
        for owned in self.own.certificates() {
            list.push((owned.what.to_string(), owned.certificate.not_after()));
        }
        list.extend(self.pinned.iter().map(|(what, until)| (what.to_string(), *until)));
        if let Some(connector) = &self.connector {
            let certificate = connector.status().certificate;
            list.push((CONNECTOR.to_owned(), certificate.not_after()));
            list.extend(last_signer(&connector.trust()).map(|until| (SIGNERS.to_owned(), until)));
        }
        self.gateway.set_expiries(list);
    }
}

/// The connector's certificate, in lists.
pub(crate) const CONNECTOR: &str = "connector certificate";
/// The keys of the issuer that sign challenges, in lists.
pub(crate) const SIGNERS: &str = "issuer signing keys";

/// When the last key of the issuer ends: one that another overlaps may end in peace.
pub(crate) fn last_signer(trust: &scep_connector::Trust) -> Option<Timestamp> {
    trust.signers.iter().map(|signer| signer.not_after).max()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connector::SharedOwn;
    use crate::init::{KnownIssuer, NewRa, Plan, make};
    use scep_challenge::{
        ApprovalMode, ChallengeClaims, DemandUsages, Expectation, Purpose, Renewal, seal,
    };
    use scep_client::{Answer, Identity, ScepClient, Server, Trust};
    use scep_keys::{AwsLc, SoftwareKey, read_certificates, read_public_key};
    use scep_pkcs10::CsrBuilder;
    use scep_server::{Preset, SystemClock};
    use scep_testkit::keys;
    use scep_types::{
        CertificateDer, ChallengeId, CryptoProvider, DeviceId, ExtendedKeyUsages, GatewayGroupId,
        KeyAlgorithm, KeyUsages, ProfileId, Secret, SignatureScheme, TenantId,
    };
    use std::path::Path;

    /// Enrols one device by what is known of the server, whenever that was.
    async fn enrol(
        dir: &Path,
        client: &ScepClient,
        server: &Server,
        device: &str,
    ) -> CertificateDer {
        let (issuer, now) = (keys::p256(1), SystemClock.now());
        let recipient = read_public_key(&dir.join("challenge.pub.pem")).unwrap();
        let mut id = [0; 16];
        AwsLc.random(&mut id).unwrap();
        let client_auth = ExtendedKeyUsages::purpose("clientAuth").unwrap();
        let claims = ChallengeClaims {
            challenge_id: ChallengeId::from_bytes(id),
            tenant: TenantId::new("contoso").unwrap(),
            issuer_key: issuer.public_key().key_id(),
            audience: GatewayGroupId::new("main").unwrap(),
            recipient_key: recipient.key_id(),
            profile: ProfileId::new("wifi").unwrap(),
            device: DeviceId::new(device).unwrap(),
            user: None,
            issued_at: now,
            expires_at: now.plus(Duration::from_secs(3_600)),
            purpose: Purpose::Enrol,
            expectation: Expectation {
                subject: format!("CN={device}").parse().unwrap(),
                subject_alt_names: Vec::new(),
                key_usage: KeyUsages::DIGITAL_SIGNATURE,
                extended_key_usages: ExtendedKeyUsages::new(vec![client_auth]).unwrap(),
                demand_usages: DemandUsages::No,
                key_algorithms: vec![KeyAlgorithm::P256],
                spki_hash: None,
                validity: DAILY * 30,
                extensions: Vec::new(),
                renewal: Renewal::Blob,
                approval: ApprovalMode::Automatic,
            },
        };
        let blob = seal(&claims, &*issuer.signer(), &recipient, &AwsLc).unwrap();
        let request = CsrBuilder {
            subject: claims.expectation.subject.clone(),
            challenge_password: Some(Secret::new(blob)),
            ..CsrBuilder::default()
        };
        let key = SoftwareKey::generate(KeyAlgorithm::P256).unwrap();
        let request = request.sign(&*key.signer(), SignatureScheme::EcdsaSha256).unwrap();
        let signer = keys::rsa2048(2);
        let (name, opens) = ("CN=device".parse().unwrap(), signer.decryption().unwrap());
        let identity = Identity::self_signed(&name, signer.signer(), opens, now, &AwsLc).unwrap();
        match client.enrol(server, &request, &identity, now, &AwsLc).await.unwrap() {
            Answer::Issued(issued) => issued.certificate,
            Answer::Pending(pending) => panic!("{pending:?}"),
        }
    }

    fn plan(dir: &Path, ca_name: &str) -> Plan {
        Plan {
            dir: dir.to_path_buf(),
            tenant: TenantId::new("contoso").unwrap(),
            group: GatewayGroupId::new("main").unwrap(),
            issuer: KnownIssuer::Key(keys::p256(1).public_key().clone()),
            suffixes: vec!["example.org".into()],
            listen: ([127, 0, 0, 1], 0).into(),
            admin_listen: ([127, 0, 0, 1], 0).into(),
            crl_url: None,
            ocsp_url: None,
            ca_key: KeyAlgorithm::P256,
            challenge_key: KeyAlgorithm::P256,
            ca_name: ca_name.parse().unwrap(),
            preset: &Preset::GENERIC,
            ra: NewRa::Split,
        }
    }

    /// Another CA, in a folder beside.
    const OTHER: &str = r#"
[[authorities]]
name = "other"
ca = { kind = "local", key = "../other/ca.key.pem", certificate = "../other/ca.cert.pem" }

[authorities.ra]
signing_key = "../other/ra-sign.key.pem"
signing_certificate = "../other/ra-sign.cert.pem"
encryption_key = "../other/ra-encrypt.key.pem"
encryption_certificate = "../other/ra-encrypt.cert.pem"
"#;

    #[tokio::test]
    async fn the_ra_of_one_ca_is_taken_and_that_of_another_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let now = SystemClock.now();
        make(&plan(&folder.path().join("other"), "CN=Other"), now).unwrap();
        let path = make(&plan(&folder.path().join("gw"), "CN=CA"), now).unwrap();
        let text = std::fs::read_to_string(&path).unwrap() + OTHER;
        std::fs::write(&path, text).unwrap();
        let provider: Arc<dyn CryptoProvider> = Arc::new(AwsLc);
        let config = Config::load(&path, now, &provider).unwrap();
        let own = SharedOwn::of(&config);
        let authorities = config.authorities().map(Kept::of).collect();
        let gateway = crate::serve::assemble(config, provider, None).await.unwrap();
        let keeper = Keeper {
            gateway: gateway.clone(),
            clock: Arc::new(SystemClock),
            authorities,
            own: own.clone(),
            connector: None,
            pinned: Vec::new(),
        };
        let before = own.keys();
        keeper.reread(now);
        assert_eq!(own.keys(), before);
        // As an operator's `renew-ra --ca other` does it beside the gateway.
        let other = &keeper.authorities[1];
        let renewed = other.files.renew_now(&other.ca, now.plus(DAILY)).unwrap();
        assert!(renewed.len() == 2 && renewed.iter().all(|one| one.outcome.is_ok()), "{renewed:?}");
        keeper.reread(now.plus(DAILY));
        let gone: Vec<String> = before
            .iter()
            .filter(|key| !own.keys().contains(key))
            .map(|(role, _)| role.to_string())
            .collect();
        assert_eq!(gone, ["RA encryption of other", "RA signing of other"]);
        let new: Vec<String> = own
            .keys()
            .iter()
            .filter(|key| !before.contains(key))
            .map(|(role, _)| role.to_string())
            .collect();
        let previous = ["previous RA encryption of other", "previous RA signing of other"];
        assert_eq!(new[..2], ["RA encryption of other", "RA signing of other"]);
        assert_eq!(new[2..], previous);
        let certificates = own.certificates();
        assert_eq!(certificates.len(), 6, "{certificates:?}");
        // What ends when is said of both, by name.
        let ends: Vec<String> = gateway.expiries().iter().map(|one| one.name.clone()).collect();
        for name in ["RA signing certificate", "RA signing certificate of other"] {
            assert_eq!(ends.iter().filter(|end| *end == name).count(), 1, "{ends:?}");
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_running_gateway_takes_its_renewed_ra_and_still_opens_for_the_old_one() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("gw");
        let plan = plan(&dir, "CN=CA");
        let now = SystemClock.now();
        let provider: Arc<dyn CryptoProvider> = Arc::new(AwsLc);
        let config = Config::load(&make(&plan, now).unwrap(), now, &provider).unwrap();
        let own = SharedOwn::of(&config);
        let authorities = config.authorities().map(Kept::of).collect();
        let gateway = crate::serve::assemble(config, provider, None).await.unwrap();
        let listener = crate::serve::listen(plan.listen).await.unwrap();
        let url = format!("http://{}/certsrv/mscep/mscep.dll", listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        let (running, stopped) = (gateway.clone(), stop.clone().cancelled_owned());
        let server = tokio::spawn(async move { running.run(listener, stopped).await });
        let keeper = Keeper {
            gateway: gateway.clone(),
            clock: Arc::new(SystemClock),
            authorities,
            own: own.clone(),
            connector: None,
            pinned: vec![(Label::of_gateway(SIGNERS), now.plus(DAILY * 1_000))],
        };

        let client = ScepClient::new(&url).unwrap();
        let root = read_certificates(&dir.join("ca.cert.pem")).unwrap().remove(0);
        let trust = Trust::Certificate(root);
        let before = client.discover(&trust, now, &AwsLc).await.unwrap();
        enrol(&dir, &client, &before, "a").await;
        keeper.renew(now.plus(DAILY * 100));
        let same = client.discover(&trust, now, &AwsLc).await.unwrap();
        assert_eq!(format!("{same:?}"), format!("{before:?}"), "renewed too early");

        let roles =
            |own: &SharedOwn| -> Vec<&str> { own.keys().iter().map(|k| k.0.what).collect() };
        assert_eq!(roles(&own).iter().filter(|role| **role == PREVIOUS_ENCRYPTION).count(), 0);
        let later = now.plus(DAILY * 250);
        keeper.renew(later);
        let after = client.discover(&trust, now.plus(DAILY), &AwsLc).await;
        // What the new one is good for begins at its renewal, which is not now.
        assert!(after.is_err() || format!("{after:?}") != format!("{before:?}"));
        assert_eq!(roles(&own).iter().filter(|role| **role == PREVIOUS_ENCRYPTION).count(), 1);
        let ends: Vec<Timestamp> = gateway.expiries().iter().map(|e| e.not_after).collect();
        assert!(ends.iter().filter(|end| **end > later.plus(DAILY * 300)).count() >= 3, "{ends:?}");
        // Whoever asked for the RA's certificates before the renewal is served.
        enrol(&dir, &client, &before, "b").await;

        stop.cancel();
        server.await.unwrap().unwrap();
    }
}
