//! One message of each type, the same in every run.

use scep_keys::{Backend, SoftwareKey};
use scep_link::*;
use scep_types::*;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(crate) const MINUTE: Duration = Duration::from_secs(60);

pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden")
}

fn block(name: &str) -> Vec<u8> {
    let text = std::fs::read(folder().join("keys").join(format!("{name}.pem"))).unwrap();
    pem::parse(text).unwrap().into_contents()
}

/// On the pure-Rust back end, so that ECDSA signatures are the same in every run.
pub(crate) fn key(name: &str) -> SoftwareKey {
    SoftwareKey::from_pkcs8_der(&block(name), Backend::PureRust).unwrap()
}

pub(crate) fn spki(name: &str) -> SpkiDer {
    key(name).public_key().clone()
}

/// 2026-11-24T08:00:00Z.
pub(crate) fn now() -> Timestamp {
    Timestamp::from_seconds(1_795_507_200)
}

pub(crate) fn tenant() -> TenantId {
    TenantId::new("contoso").unwrap()
}

pub(crate) fn connector() -> ConnectorId {
    ConnectorId::from_hex("0c0ffee0c0ffee0c0ffee0c0ffee0c0f").unwrap()
}

pub(crate) fn nonce() -> CheckInNonce {
    CheckInNonce::from_hex("00112233445566778899aabbccddeeff").unwrap()
}

pub(crate) fn ledger() -> LedgerId {
    LedgerId::from_bytes([0x1e; 16])
}

pub(crate) fn trusted(name: &str) -> TrustedKey {
    TrustedKey {
        key: spki(name),
        not_before: now().minus(24 * 60 * MINUTE),
        not_after: now().plus(365 * 24 * 60 * MINUTE),
    }
}

pub(crate) fn request() -> Pkcs10Der {
    Pkcs10Der::new(block("connector-request")).unwrap()
}

pub(crate) fn chain() -> Vec<CertificateDer> {
    ["connector-certificate", "ca-certificate"]
        .map(|name| CertificateDer::parse(&block(name)).unwrap())
        .to_vec()
}

pub(crate) fn enrol_request() -> EnrolRequest {
    EnrolRequest {
        v: V1,
        token: EnrolmentToken::new("0123456789abcdef0123456789abcdef-TEST").unwrap(),
        gateway: GatewayName::new("gateway-1").unwrap(),
        group: GatewayGroupId::new("zurich").unwrap(),
        certificate_request: request(),
        decryption_key: spki("decryption"),
        ledger: ledger(),
        ledger_kind: LedgerKind::Single,
        software: SoftwareVersion::new("0.1.0").unwrap(),
    }
}

/// With the possession challenge of the golden file: one made anew would be another each time.
pub(crate) fn enrol_response(possession_challenge: PossessionChallenge) -> EnrolResponse {
    EnrolResponse {
        v: V1,
        code: Success,
        connector: connector(),
        tenant: tenant(),
        group: GatewayGroupId::new("zurich").unwrap(),
        membership: Membership::AwaitingOperator,
        certificate_chain: chain(),
        tls_pins: vec![SpkiHash::from_bytes([0x71; 32])],
        signer_keys: vec![trusted("signer")],
        command_keys: vec![trusted("command")],
        last_sequence: 41,
        possession_challenge,
    }
}

pub(crate) fn check_in_request(possession: Vec<PossessionProof>) -> CheckInRequest {
    CheckInRequest {
        v: V1,
        connector: connector(),
        nonce: nonce(),
        last_sequence: 41,
        denial_cursor: 8,
        wait_seconds: 30,
        software: SoftwareVersion::new("0.1.0").unwrap(),
        challenge_version: 1,
        health: Health::Degraded,
        refused: Some(CommandReason::CommandsExpired),
        queue_depth: 3,
        certificates: vec![CertificateExpiry {
            purpose: CertificatePurpose::RaSigning,
            thumbprint_sha256: CertificateFingerprint::from_bytes([0xfe; 32]),
            not_after: now().plus(30 * 24 * 60 * MINUTE),
        }],
        counters: Counters { issued: 1201, delivered: 1199, reported: 1198 },
        ledger: ledger(),
        outbox_high_mark: 1207,
        possession,
    }
}

pub(crate) fn commands() -> Commands {
    Commands {
        v: V1,
        tenant: tenant(),
        connector: connector(),
        nonce: nonce(),
        sequence: 42,
        issued_at: now(),
        expires_at: now().plus(5 * MINUTE),
        signer_keys: KeyChanges {
            add: vec![trusted("signer")],
            retire: vec![KeyId::from_bytes([0x0d; 20])],
        },
        command_keys: KeyChanges::default(),
        denials: DenialChanges {
            from: 8,
            to: 11,
            added: vec![
                DenialSubject::Device(DeviceId::new("device-7").unwrap()),
                DenialSubject::User(UserId::new("ada@contoso.example").unwrap()),
            ],
            removed: vec![DenialSubject::Profile(ProfileId::new("wifi").unwrap())],
            complete: true,
        },
        revocations: vec![RevocationOrder {
            order: OrderId::from_bytes([0xa1; 16]),
            issuer: NameHash::of(chain()[1].subject_der()),
            serial: SerialNumber::from_content(&[0, 0x9a, 0x01]).unwrap(),
            reason: RevocationReason::KeyCompromise,
        }],
        renewals: vec![RenewalOrder {
            order: OrderId::from_bytes([0xa2; 16]),
            subject: RenewalSubject::Authentication,
            by: now().plus(7 * 24 * 60 * MINUTE),
        }],
        log_level: Some(LogLevel::Debug),
        outbox_acknowledged: 1204,
        ledger: LedgerBinding::This,
    }
}

pub(crate) fn event(sequence: u64) -> Event {
    let key = format!("issued:{sequence}");
    let body = format!(r#"{{"idempotency_key":"{key}","recovered":false,"serial":"9A01"}}"#);
    Event {
        sequence,
        idempotency_key: IdempotencyKey::new(key).unwrap(),
        kind: EventKind::new("issued").unwrap(),
        tenant: Some(tenant()),
        device: Some(DeviceId::new("device-7").unwrap()),
        at: now(),
        body: Body::parse(&body).unwrap(),
    }
}

pub(crate) fn reports() -> ReportBatch {
    let of_the_ledger = Event {
        kind: EventKind::new("brake-engaged").unwrap(),
        tenant: None,
        device: None,
        ..event(1206)
    };
    ReportBatch {
        v: V1,
        connector: connector(),
        ledger: ledger(),
        events: vec![event(1205), of_the_ledger],
    }
}

pub(crate) fn acknowledgement() -> Acknowledgement {
    Acknowledgement { v: V1, code: Success, ledger: ledger(), acknowledged: 1206 }
}

pub(crate) fn revocation_results() -> RevocationResults {
    RevocationResults {
        v: V1,
        connector: connector(),
        ledger: ledger(),
        results: vec![
            RevocationResult {
                order: OrderId::from_bytes([0xa1; 16]),
                state: RevocationState::Published,
                at: now(),
            },
            RevocationResult {
                order: OrderId::from_bytes([0xa3; 16]),
                state: RevocationState::NotIssuedHere,
                at: now(),
            },
        ],
    }
}

pub(crate) fn revocation_recorded() -> RevocationRecorded {
    RevocationRecorded { v: V1, code: Success, recorded: 2 }
}

pub(crate) fn renew_request() -> RenewRequest {
    renew_authentication(&tenant(), connector(), request(), &*key("connector").signer(), now())
        .unwrap()
}

pub(crate) fn renew_decryption_request() -> RenewRequest {
    let present = key("connector").signer();
    renew_decryption(&tenant(), connector(), spki("decryption"), &*present, now()).unwrap()
}

pub(crate) fn renew_response() -> RenewResponse {
    RenewResponse {
        v: V1,
        code: Success,
        renewed: Renewed::Authentication { certificate_chain: chain() },
    }
}

pub(crate) fn renew_decryption_response(challenge: PossessionChallenge) -> RenewResponse {
    RenewResponse {
        v: V1,
        code: Success,
        renewed: Renewed::Decryption {
            key: spki("decryption").key_id(),
            possession_challenge: challenge,
        },
    }
}
