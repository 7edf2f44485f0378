//! Any message that can be written is read back as it was; whatever else is read does no harm.

use crate::samples::*;
use proptest::prelude::*;
use scep_keys::AwsLc;
use scep_link::*;
use scep_types::*;

fn word(max: usize) -> impl Strategy<Value = String> {
    proptest::string::string_regex(&format!("[A-Za-z0-9._:@-]{{1,{max}}}")).unwrap()
}

fn instant() -> impl Strategy<Value = Timestamp> {
    (0..=Timestamp::MAX.seconds()).prop_map(Timestamp::from_seconds)
}

fn serial() -> impl Strategy<Value = SerialNumber> {
    prop::collection::vec(any::<u8>(), 1..=20)
        .prop_filter_map("a serial number", |octets| SerialNumber::from_content(&octets).ok())
}

fn denial() -> impl Strategy<Value = DenialSubject> {
    prop_oneof![
        word(128).prop_map(|id| DenialSubject::Device(DeviceId::new(id).unwrap())),
        word(128).prop_map(|id| DenialSubject::User(UserId::new(id).unwrap())),
        word(64).prop_map(|id| DenialSubject::Profile(ProfileId::new(id).unwrap())),
    ]
}

fn order() -> impl Strategy<Value = RevocationOrder> {
    let reason = prop::sample::select(RevocationReason::ALL);
    (any::<[u8; 16]>(), any::<[u8; 32]>(), serial(), reason).prop_map(
        |(order, issuer, serial, reason)| RevocationOrder {
            order: OrderId::from_bytes(order),
            issuer: NameHash::from_bytes(issuer),
            serial,
            reason,
        },
    )
}

prop_compose! {
    fn any_commands()(
        tenant in word(64),
        connector in any::<[u8; 16]>(),
        nonce in any::<[u8; 16]>(),
        numbers in any::<[u64; 3]>(),
        issued_at in instant(),
        lifetime in 1_u64..=600,
        denials in prop::collection::btree_set(denial(), 0..8),
        revocations in prop::collection::vec(order(), 0..5),
        log_level in prop::option::of(prop::sample::select(
            &[LogLevel::Error, LogLevel::Warn, LogLevel::Info, LogLevel::Debug][..])),
        complete in any::<bool>(),
    ) -> Commands {
        let [sequence, cursor, outbox_acknowledged] = numbers;
        let mut added: Vec<_> = denials.into_iter().collect();
        let removed = added.split_off(added.len() / 2);
        Commands {
            v: V1,
            tenant: TenantId::new(tenant).unwrap(),
            connector: ConnectorId::from_bytes(connector),
            nonce: CheckInNonce::from_bytes(nonce),
            sequence: sequence.max(1),
            issued_at: issued_at.min(Timestamp::MAX.minus(20 * MINUTE)),
            expires_at: issued_at
                .min(Timestamp::MAX.minus(20 * MINUTE))
                .plus(std::time::Duration::from_secs(lifetime)),
            denials: DenialChanges { from: cursor / 2, to: cursor, added, removed, complete },
            revocations,
            log_level,
            outbox_acknowledged,
            ..commands()
        }
    }
}

fn json(depth: u32) -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<u64>().prop_map(Into::into),
        any::<String>().prop_map(Into::into),
    ];
    leaf.prop_recursive(depth, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            prop::collection::btree_map(any::<String>(), inner, 0..4)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

prop_compose! {
    fn any_batch()(
        first in 1_u64..u64::MAX - 10,
        bodies in prop::collection::vec(
            prop::collection::btree_map(any::<String>(), json(4), 0..4), 1..6),
        kind in "[a-z-]{1,32}",
        key in "[!-~]{1,200}",
        tenant in prop::option::of(word(64)),
        device in prop::option::of(word(128)),
        at in instant(),
    ) -> ReportBatch {
        let events = (first..).zip(bodies).map(|(sequence, body)| Event {
            sequence,
            idempotency_key: IdempotencyKey::new(format!("{key}{sequence}")).unwrap(),
            kind: EventKind::new(kind.clone()).unwrap(),
            tenant: tenant.clone().map(|id| TenantId::new(id).unwrap()),
            device: device.clone().map(|id| DeviceId::new(id).unwrap()),
            at,
            body: Body::parse(&serde_json::to_string(&body).unwrap()).unwrap(),
        }).collect();
        ReportBatch { events, ..reports() }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn commands_are_read_as_they_were_written(commands in any_commands()) {
        let bytes = write(&commands).unwrap();
        prop_assert_eq!(&read::<Commands>(&bytes).unwrap(), &commands);
    }

    #[test]
    fn commands_open_as_they_were_sealed(commands in any_commands()) {
        let command_key = key("command");
        let pinned = TrustedKey {
            not_before: Timestamp::EPOCH,
            not_after: Timestamp::MAX,
            ..trusted("command")
        };
        let verifier = CommandVerifier::new(
            commands.tenant.clone(), commands.connector, vec![pinned], MINUTE).unwrap();
        let bytes = seal_commands(&commands, &*command_key.signer()).unwrap();
        let (nonce, last, now) = (commands.nonce, commands.sequence - 1, commands.issued_at);
        let opened = verifier.open(&bytes, nonce, last, now, &AwsLc).unwrap();
        prop_assert_eq!(opened.commands(), &commands);
    }

    #[test]
    fn batches_are_read_as_they_were_written(batch in any_batch()) {
        let bytes = write(&batch).unwrap();
        prop_assert_eq!(&read::<ReportBatch>(&bytes).unwrap(), &batch);
    }

    #[test]
    fn check_ins_are_read_as_they_were_written(
        nonce in any::<[u8; 16]>(),
        numbers in any::<[u64; 7]>(),
        software in "[A-Za-z0-9._+-]{1,64}",
        not_after in instant(),
    ) {
        let [last_sequence, denial_cursor, queue_depth, issued, delivered, reported, outbox_high_mark] = numbers;
        let mut request = check_in_request(vec![]);
        request.nonce = CheckInNonce::from_bytes(nonce);
        request.software = SoftwareVersion::new(software).unwrap();
        request.certificates[0].not_after = not_after;
        let request = CheckInRequest {
            last_sequence, denial_cursor, queue_depth, outbox_high_mark,
            counters: Counters { issued, delivered, reported },
            ..request
        };
        let bytes = write(&request).unwrap();
        prop_assert_eq!(&read::<CheckInRequest>(&bytes).unwrap(), &request);
    }

    #[test]
    fn what_is_read_can_be_written_again(
        at in any::<prop::sample::Index>(), with in any::<u8>(), which in 0..3,
    ) {
        fn through<M: Message>(message: &M, at: prop::sample::Index, with: u8) {
            let mut bytes = write(message).unwrap();
            let at = at.index(bytes.len());
            bytes[at] = with;
            if let Ok(message) = read::<M>(&bytes) {
                let again = write(&message).unwrap();
                assert_eq!(write(&read::<M>(&again).unwrap()).unwrap(), again);
            }
        }
        match which {
            0 => through(&commands(), at, with),
            1 => through(&reports(), at, with),
            _ => through(&enrol_request(), at, with),
        }
    }

    #[test]
    fn no_octets_are_commands(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        let verifier =
            CommandVerifier::new(tenant(), connector(), vec![trusted("command")], MINUTE).unwrap();
        prop_assert!(verifier.open(&bytes, nonce(), 0, now(), &AwsLc).is_err());
    }
}
