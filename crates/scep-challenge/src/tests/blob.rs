use super::*;
use crate::seal::{AUTH_ENVELOPED_DATA, sign_content, sign_envelope};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use scep_keys::AwsLc;
use scep_types::tlv::{TlvError, tag};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const HOUR: Duration = Duration::from_secs(3600);
const SKEW: Duration = Duration::from_secs(300);
const SECOND: Duration = Duration::from_secs(1);
/// Where the SignerInfos are in a blob's DER, and the parts of an AuthEnvelopedData.
const SIGNER_INFOS: [usize; 3] = [1, 0, 3];
const RECIPIENTS: usize = 1;
const CONTENT: usize = 2;
const TAG: usize = 3;

/// A decryption key that counts what is asked of it.
#[derive(Debug)]
struct Counting {
    inner: DecryptionKey,
    operations: AtomicUsize,
}

impl EcdhKey for Counting {
    fn public_key(&self) -> &SpkiDer {
        self.inner.public_key()
    }
    fn agree(&self, peer_point: &[u8]) -> Result<Secret<Vec<u8>>, KeyError> {
        self.operations.fetch_add(1, Ordering::Relaxed);
        match &self.inner {
            DecryptionKey::Ec(key) => key.agree(peer_point),
            DecryptionKey::Rsa(_) => panic!("asked for an agreement with an RSA key"),
        }
    }
}

impl RsaDecryptionKey for Counting {
    fn public_key(&self) -> &SpkiDer {
        self.inner.public_key()
    }
    fn decrypt_key(
        &self,
        padding: RsaPadding,
        ciphertext: &[u8],
        key: &mut Secret<Vec<u8>>,
    ) -> Result<(), KeyError> {
        self.operations.fetch_add(1, Ordering::Relaxed);
        assert_eq!(padding, RsaPadding::Oaep(OaepHash::Sha256), "PKCS#1 v1.5 must not be tried");
        match &self.inner {
            DecryptionKey::Rsa(inner) => inner.decrypt_key(padding, ciphertext, key),
            DecryptionKey::Ec(_) => panic!("asked for key transport to an EC key"),
        }
    }
}

/// A signer that says it is another one.
#[derive(Debug)]
struct Impostor {
    key: Arc<dyn Signer>,
    victim: SpkiDer,
}

impl Signer for Impostor {
    fn public_key(&self) -> &SpkiDer {
        &self.victim
    }
    fn sign(&self, scheme: SignatureScheme, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        self.key.sign(scheme, message)
    }
}

struct World {
    issuer: SoftwareKey,
    gateway: SoftwareKey,
    counting: Arc<Counting>,
}

fn world() -> World {
    World::new("p256", "p256")
}

impl World {
    fn new(issuer: &str, gateway: &str) -> Self {
        let gateway = key(&format!("gateway-{gateway}"));
        let counting =
            Counting { inner: gateway.decryption().unwrap(), operations: AtomicUsize::new(0) };
        Self { issuer: key(&format!("issuer-{issuer}")), gateway, counting: Arc::new(counting) }
    }

    fn claims(&self) -> ChallengeClaims {
        claims(self.issuer.public_key().key_id(), self.gateway.public_key().key_id())
    }

    fn pinned(&self) -> PinnedSigner {
        PinnedSigner {
            key: self.issuer.public_key().clone(),
            not_before: NOW.minus(HOUR),
            not_after: NOW.plus(2 * HOUR),
        }
    }

    fn opening(&self) -> OpeningKey {
        let key = match self.counting.inner {
            DecryptionKey::Ec(_) => DecryptionKey::Ec(self.counting.clone()),
            DecryptionKey::Rsa(_) => DecryptionKey::Rsa(self.counting.clone()),
        };
        OpeningKey { key, not_after: None }
    }

    fn opener_with(&self, signers: Vec<PinnedSigner>, keys: Vec<OpeningKey>) -> Opener {
        let claims = self.claims();
        Opener::new(claims.tenant, claims.audience, signers, keys, HOUR, SKEW).unwrap()
    }

    fn opener(&self) -> Opener {
        self.opener_with(vec![self.pinned()], vec![self.opening()])
    }

    fn blob(&self) -> String {
        seal(&self.claims(), &*self.issuer.signer(), self.gateway.public_key(), &AwsLc).unwrap()
    }

    fn envelope(&self, plaintext: &[u8]) -> Vec<u8> {
        scep_cms::seal_auth(&AwsLc, self.gateway.public_key(), plaintext).unwrap()
    }

    fn signed(&self, envelope: &[u8]) -> String {
        sign_envelope(envelope, &*self.issuer.signer()).unwrap()
    }

    /// A blob by the issuer with any plaintext.
    fn forged(&self, plaintext: &[u8]) -> String {
        self.signed(&self.envelope(plaintext))
    }

    /// A blob by the issuer with the good claims and one change, checked by nobody.
    fn changed(&self, change: impl FnOnce(&mut ChallengeClaims)) -> String {
        let mut claims = self.claims();
        change(&mut claims);
        self.forged(&codec::encode(&claims))
    }

    /// A blob whose envelope has one change, with a good signature over it.
    fn changed_envelope(&self, path: &[usize], change: &dyn Fn(&[u8]) -> Vec<u8>) -> String {
        let envelope = self.envelope(&self.claims().to_der().unwrap());
        self.signed(&edit(&envelope, path, change))
    }

    fn error(&self, text: &str) -> OpenError {
        self.opener().open(text, NOW, &AwsLc).unwrap_err()
    }

    fn refusal(&self, text: &str) -> Refusal {
        match self.error(text) {
            OpenError::Refused { why, .. } => why,
            other => panic!("refused too early: {other:?}"),
        }
    }

    fn operations(&self) -> usize {
        self.counting.operations.load(Ordering::Relaxed)
    }
}

fn other_issuer() -> SoftwareKey {
    key("other-issuer-p256")
}

/// A blob's text with one change in its DER.
fn reworked(text: &str, path: &[usize], change: &dyn Fn(&[u8]) -> Vec<u8>) -> String {
    STANDARD.encode(edit(&STANDARD.decode(text).unwrap(), path, change))
}

fn flip_last(der: &[u8]) -> Vec<u8> {
    let mut der = der.to_vec();
    *der.last_mut().unwrap() ^= 1;
    der
}

#[test]
fn what_was_sealed_opens_with_every_kind_of_key() {
    for (issuer, gateway) in
        [("p256", "p256"), ("rsa2048", "rsa2048"), ("p256", "rsa2048"), ("rsa2048", "p256")]
    {
        let world = World::new(issuer, gateway);
        let text = world.blob();
        assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b"+/=".contains(&b)));
        let verified = world.opener().open(&text, NOW, &AwsLc).unwrap();
        assert_eq!(*verified.claims(), world.claims());
        assert_eq!(world.operations(), 1, "{issuer} to {gateway}");
    }
}

#[test]
fn two_blobs_of_the_same_claims_have_nothing_secret_in_common() {
    let world = world();
    let (a, b) = (world.blob(), world.blob());
    assert_ne!(a, b);
}

#[test]
fn attack_04_a_blank_challenge_is_none() {
    for blank in ["", " ", "\r\n\t", "\0"] {
        assert_eq!(world().error(blank), OpenError::Blank);
    }
    assert_eq!(OpenError::Blank.reason(), Reason::ChallengePasswordMissing);
}

#[test]
fn attack_13_two_signers_are_refused() {
    let world = world();
    let text = reworked(&world.blob(), &SIGNER_INFOS, &|set| {
        let one = &parts(set)[0];
        tlv::encode(tag::SET, &[&one[..], one].concat())
    });
    let error = world.error(&text);
    assert!(matches!(error, OpenError::Outer(_)), "{error:?}");
    assert_eq!(world.operations(), 0);
}

#[test]
fn attack_16_only_the_pinned_issuer_counts() {
    let world = world();
    let envelope = world.envelope(&world.claims().to_der().unwrap());
    // Signed anew by somebody else, openly.
    let text = sign_envelope(&envelope, &*other_issuer().signer()).unwrap();
    assert_eq!(world.error(&text), OpenError::SignerNotPinned);
    assert_eq!(world.error(&text).reason(), Reason::SigningCertThumbprintMismatch);
    // Signed anew by somebody else, in the issuer's name.
    let impostor =
        Impostor { key: other_issuer().signer(), victim: world.issuer.public_key().clone() };
    let text = sign_envelope(&envelope, &impostor).unwrap();
    assert_eq!(world.error(&text), OpenError::SignatureInvalid);
    assert_eq!(world.error(&text).reason(), Reason::SignatureValidationFailed);
    // The signature stripped.
    let text = reworked(&world.blob(), &SIGNER_INFOS, &|_| vec![tag::SET, 0]);
    assert!(matches!(world.error(&text), OpenError::Outer(_)));
    // The layer stripped: the bare envelope.
    let error = world.error(&STANDARD.encode(&envelope));
    assert!(matches!(error, OpenError::Outer(_)), "{error:?}");
    // The content exchanged under a good signature.
    let other = world.envelope(&world.claims().to_der().unwrap());
    let text =
        reworked(&world.blob(), &[1, 0, 2, 1, 0], &|_| tlv::encode(tag::OCTET_STRING, &other));
    assert_eq!(world.error(&text), OpenError::SignatureInvalid);
    assert_eq!(world.operations(), 0, "an outsider has used the decryption key");
    // Another key that is pinned too, around the first one's envelope: the claims name their signer.
    let second = PinnedSigner { key: other_issuer().public_key().clone(), ..world.pinned() };
    let opener = world.opener_with(vec![world.pinned(), second], vec![world.opening()]);
    let text = sign_envelope(&envelope, &*other_issuer().signer()).unwrap();
    let error = opener.open(&text, NOW, &AwsLc).unwrap_err();
    assert!(matches!(error, OpenError::Refused { why: Refusal::IssuerKey, .. }), "{error:?}");
    assert_eq!(error.reason(), Reason::SigningCertThumbprintMismatch);
}

#[test]
fn attack_17_a_blob_is_for_one_gateway_group_of_one_tenant() {
    let world = world();
    let text = world.changed(|c| c.tenant = TenantId::new("another-tenant").unwrap());
    assert_eq!(world.refusal(&text), Refusal::Tenant);
    assert_eq!(world.error(&text).reason(), Reason::BadTenantIdInChallenge);
    let text = world.changed(|c| c.audience = GatewayGroupId::new("gateways-bern").unwrap());
    assert_eq!(world.refusal(&text), Refusal::Audience);
    assert_eq!(world.error(&text).reason(), Reason::BadAudienceInChallenge);
    let text = world.changed(|c| c.issuer_key = other_issuer().public_key().key_id());
    assert_eq!(world.refusal(&text), Refusal::IssuerKey);
    // Decrypted elsewhere, and encrypted anew to us.
    let text = world.changed(|c| c.recipient_key = other_issuer().public_key().key_id());
    assert_eq!(world.refusal(&text), Refusal::RecipientKey);
    assert_eq!(world.error(&text).reason(), Reason::BadAudienceInChallenge);
    // Encrypted to somebody else.
    let before = world.operations();
    let other = other_issuer();
    let der = world.claims().to_der().unwrap();
    let envelope = scep_cms::seal_auth(&AwsLc, other.public_key(), &der).unwrap();
    let key = other.public_key().key_id();
    assert_eq!(world.error(&world.signed(&envelope)), OpenError::RecipientUnknown { key });
    assert_eq!(world.operations(), before);
}

#[test]
fn attack_18_every_check_is_always_on() {
    let world = world();
    let claims = world.claims();
    let new = |signers, keys, max_lifetime, skew| {
        let (tenant, audience) = (claims.tenant.clone(), claims.audience.clone());
        Opener::new(tenant, audience, signers, keys, max_lifetime, skew).unwrap_err()
    };
    let (signers, keys) = (|| vec![world.pinned()], || vec![world.opening()]);
    assert_eq!(new(vec![], keys(), HOUR, SKEW), OpenerConfigError::NoSigners);
    assert_eq!(new(signers(), vec![], HOUR, SKEW), OpenerConfigError::NoKeys);
    for got in [Duration::ZERO, 24 * HOUR + SECOND] {
        let error = OpenerConfigError::Lifetime { got, max: 24 * HOUR };
        assert_eq!(new(signers(), keys(), got, Duration::ZERO), error);
    }
    for (lifetime, got) in [(HOUR, SKEW + SECOND), (SKEW, SKEW), (SECOND, SECOND)] {
        let error = OpenerConfigError::Skew { got, max: SKEW };
        assert_eq!(new(signers(), keys(), lifetime, got), error);
    }
    let never = PinnedSigner { not_after: NOW.minus(HOUR), ..world.pinned() };
    let error = OpenerConfigError::NeverValid {
        key: never.key.key_id(),
        not_before: never.not_before,
        not_after: never.not_after,
    };
    assert_eq!(new(vec![never], keys(), HOUR, SKEW), error);
    let twice = new([signers(), signers()].concat(), keys(), HOUR, SKEW);
    let key = world.issuer.public_key().key_id();
    assert_eq!(twice, OpenerConfigError::DuplicateKey { role: KeyRole::Signer, key });
    let twice = new(signers(), [keys(), keys()].concat(), HOUR, SKEW);
    let key = world.gateway.public_key().key_id();
    assert_eq!(twice, OpenerConfigError::DuplicateKey { role: KeyRole::Recipient, key });
}

#[test]
fn attack_19_times_are_checked_to_the_second() {
    let world = world();
    let opener = world.opener();
    let claims = world.claims();
    let (issued_at, expires_at) = (claims.issued_at, claims.expires_at);
    let text = world.blob();
    let at = |now| opener.open(&text, now, &AwsLc);
    let last = expires_at.plus(SKEW).minus(SECOND);
    assert!(at(last).is_ok());
    let now = last.plus(SECOND);
    let expired = at(now).unwrap_err();
    let why = Refusal::Expired { issued_at, expires_at, now };
    assert_eq!(expired, OpenError::Refused { claims: Box::new(world.claims()), why });
    assert_eq!(expired.reason(), Reason::ChallengeExpired);

    assert!(at(issued_at.minus(SKEW)).is_ok());
    let now = issued_at.minus(SKEW).minus(SECOND);
    let future = at(now).unwrap_err();
    let why = Refusal::IssuedInFuture { issued_at, now };
    assert_eq!(future, OpenError::Refused { claims: Box::new(world.claims()), why });
    assert_eq!(future.reason(), Reason::ChallengeInvalidTimestamp);

    let text = world.changed(|c| c.expires_at = expires_at.plus(SECOND));
    let why = Refusal::LivesTooLong { lifetime: HOUR + SECOND, max: HOUR };
    assert_eq!(world.refusal(&text), why);
    assert_eq!(world.error(&text).reason(), Reason::ChallengeInvalidTimestamp);

    let text = world.changed(|c| c.expires_at = c.issued_at);
    let error = ClaimsError::Times { issued_at, expires_at: issued_at };
    assert_eq!(world.error(&text), OpenError::Claims(error));
    assert_eq!(world.error(&text).reason(), Reason::ChallengeInvalidTimestamp);
}

#[test]
fn quirk_56_an_expired_challenge_can_be_reported_with_its_device() {
    let world = world();
    let later = NOW.plus(Duration::from_secs(2 * 3600 - 1));
    let error = world.opener().open(&world.blob(), later, &AwsLc).unwrap_err();
    assert_eq!(error.reason(), Reason::ChallengeExpired);
    assert_eq!(error.claims().unwrap().device, world.claims().device);
    assert_eq!(OpenError::Base64.claims(), None);
}

#[test]
fn attack_20_weak_keys_are_not_pinned() {
    let world = world();
    let claims = world.claims();
    let new = |signers, keys| {
        let (tenant, audience) = (claims.tenant.clone(), claims.audience.clone());
        Opener::new(tenant, audience, signers, keys, HOUR, SKEW).unwrap_err()
    };
    let mut modulus = vec![0xff; 128];
    let rsa1024 = SpkiDer::from_rsa_parts(&modulus, &[1, 0, 1]).unwrap();
    modulus.resize(513, 0xff);
    let rsa4104 = SpkiDer::from_rsa_parts(&modulus, &[1, 0, 1]).unwrap();
    let p384 = SpkiDer::from_ec_point(&[&[4][..], &[7; 96]].concat()).unwrap();
    for weak in [rsa1024, rsa4104, p384] {
        let (key, algorithm) = (weak.key_id(), weak.algorithm());
        let pinned = PinnedSigner { key: weak, ..world.pinned() };
        let error = OpenerConfigError::UnsuitableKey { role: KeyRole::Signer, key, algorithm };
        assert_eq!(new(vec![pinned], vec![world.opening()]), error);
    }
}

#[test]
fn attack_21_outsiders_cannot_use_the_decryption_key() {
    for kind in ["p256", "rsa2048"] {
        let world = World::new(kind, kind);
        let text = world.blob();
        let wrong = reworked(&text, &[1, 0, 3, 0, 5], &flip_last);
        assert_eq!(world.error(&wrong), OpenError::SignatureInvalid, "{kind}");
        let envelope = world.envelope(b"whatever");
        let stranger = sign_envelope(&envelope, &*other_issuer().signer()).unwrap();
        assert_eq!(world.error(&stranger), OpenError::SignerNotPinned);
        assert_eq!(world.operations(), 0);
        assert!(world.opener().open(&text, NOW, &AwsLc).is_ok());
        assert_eq!(world.operations(), 1, "the counter counts");
    }
}

#[test]
fn attack_22_every_failure_to_decrypt_is_one() {
    for kind in ["p256", "rsa2048"] {
        let world = World::new(kind, kind);
        for path in [&[TAG][..], &[CONTENT, 2]] {
            let text = world.changed_envelope(path, &flip_last);
            assert_eq!(world.error(&text), OpenError::DoesNotOpen, "{kind} {path:?}");
        }
        // The encrypted content key.
        let recipient =
            if kind == "p256" { &[RECIPIENTS, 0, 3, 0, 1][..] } else { &[RECIPIENTS, 0, 3] };
        let text = world.changed_envelope(recipient, &flip_last);
        assert_eq!(world.error(&text), OpenError::DoesNotOpen, "{kind}");
        assert_eq!(world.error(&text).reason(), Reason::ChallengeDecryptionError);
    }
}

#[test]
fn attack_23_two_recipients_are_refused_before_the_key_is_used() {
    let world = world();
    let text = world.changed_envelope(&[RECIPIENTS], &|set| {
        let one = &parts(set)[0];
        tlv::encode(tag::SET, &[&one[..], one].concat())
    });
    let error = world.error(&text);
    assert!(matches!(error, OpenError::Inner(_)), "{error:?}");
    assert_eq!(error.reason(), Reason::ChallengeDecodingError);
    assert_eq!(world.operations(), 0);
}

#[test]
fn attack_24_the_content_is_never_cbc() {
    let world = world();
    // aes256-GCM (…1.46) becomes aes256-CBC (…1.42), under a good signature.
    let text = world.changed_envelope(&[CONTENT, 1, 0], &|oid| {
        let mut oid = oid.to_vec();
        assert_eq!(oid.last(), Some(&46));
        *oid.last_mut().unwrap() = 42;
        oid
    });
    let error = world.error(&text);
    assert!(matches!(error, OpenError::Inner(_)), "{error:?}");
    // EnvelopedData and plain data, signed by the issuer.
    for got in ["1.2.840.113549.1.7.3", "1.2.840.113549.1.7.1"] {
        let got = ObjectIdentifier::new(got).unwrap();
        let envelope = world.envelope(&world.claims().to_der().unwrap());
        let text = sign_content(got, &envelope, &*world.issuer.signer()).unwrap();
        assert_eq!(world.error(&text), OpenError::ContentType { got });
    }
    assert_eq!(world.operations(), 0);
}

#[test]
fn attack_25_one_key_in_two_roles_is_refused() {
    let world = world();
    let claims = world.claims();
    let pinned = PinnedSigner { key: world.gateway.public_key().clone(), ..world.pinned() };
    let key = world.gateway.public_key().key_id();
    let keys = vec![world.opening()];
    let error = Opener::new(claims.tenant, claims.audience, vec![pinned], keys, HOUR, SKEW);
    assert_eq!(error.unwrap_err(), OpenerConfigError::SharedKey { key });
    let mut same = world.claims();
    same.recipient_key = same.issuer_key;
    let issuer = &world.issuer;
    let error = seal(&same, &*issuer.signer(), issuer.public_key(), &AwsLc).unwrap_err();
    assert_eq!(error, SealError::SharedKey);
}

#[test]
fn attack_26_a_pinned_key_counts_in_its_time_only() {
    let world = world();
    let text = world.blob();
    let open = |not_before, not_after| {
        let pinned = PinnedSigner { not_before, not_after, ..world.pinned() };
        let opener = world.opener_with(vec![pinned], vec![world.opening()]);
        opener.open(&text, NOW, &AwsLc).map(|_| ())
    };
    let (past, future) = (NOW.minus(HOUR), NOW.plus(HOUR));
    assert_eq!(open(past, NOW), Ok(()));
    assert_eq!(open(NOW, future), Ok(()));
    let key = world.issuer.public_key().key_id();
    for (not_before, not_after) in [(past, NOW.minus(SECOND)), (NOW.plus(SECOND), future)] {
        let error = open(not_before, not_after).unwrap_err();
        assert_eq!(error, OpenError::SignerNotValid { key, not_before, not_after, now: NOW });
        assert_eq!(error.reason(), Reason::SigningCertThumbprintMismatch);
    }
    assert_eq!(world.operations(), 2);
}

#[test]
fn attack_27_the_previous_key_opens_until_its_end() {
    let world = world();
    let present = OpeningKey { key: key("gateway-rsa2048").decryption().unwrap(), not_after: None };
    let previous = OpeningKey { not_after: Some(NOW), ..world.opening() };
    let opener = world.opener_with(vec![world.pinned()], vec![present, previous]);
    let text = world.blob();
    assert!(opener.open(&text, NOW, &AwsLc).is_ok());
    let now = NOW.plus(SECOND);
    let error = opener.open(&text, now, &AwsLc).unwrap_err();
    let key = world.gateway.public_key().key_id();
    assert_eq!(error, OpenError::RecipientRetired { key, not_after: NOW, now });
    assert_eq!(error.reason(), Reason::BadAudienceInChallenge);
    assert_eq!(world.operations(), 1);
}

#[test]
fn attack_28_one_challenge_has_one_text() {
    let world = world();
    // Long enough to need padding, whatever the length of the signature.
    let text = (0..99).map(|_| world.blob()).find(|text| text.ends_with('=')).unwrap();
    let url_safe = text.replace('+', "-").replace('/', "_");
    let wrapped = format!("{}\n{}", &text[..64], &text[64..]);
    for bad in [
        text.trim_end_matches('=').to_owned(),
        format!("{text}="),
        format!("{text}\n"),
        format!(" {text}"),
        format!("{text}\0"),
        wrapped,
        url_safe,
        "not base64!".to_owned(),
    ] {
        assert_eq!(world.error(&bad), OpenError::Base64, "{bad}");
    }
    // Bytes after the DER.
    let mut der = STANDARD.decode(&text).unwrap();
    let at = der.len();
    der.push(0);
    let error = world.error(&STANDARD.encode(&der));
    assert!(matches!(error, OpenError::Outer(_)), "{error:?} {at}");
    // Lengths that are not minimal: BER is not read here.
    let inner = der[4..at].to_vec();
    let mut long = vec![0x30, 0x83, 0];
    long.extend_from_slice(&der[2..4]);
    long.extend_from_slice(&inner);
    assert_eq!(der[..2], [0x30, 0x82]);
    let error = world.error(&STANDARD.encode(&long));
    assert!(matches!(error, OpenError::Outer(_)), "{error:?}");
    // Claims that are not canonical, trailing bytes after the claims, and no claims at all.
    let plain = world.claims().to_der().unwrap();
    let printable =
        edit(&plain, &[12, 0, 2, 0, 1], &|s| tlv::encode(tag::PRINTABLE_STRING, &s[2..]));
    let error = world.error(&world.forged(&printable));
    assert_eq!(error, OpenError::Claims(ClaimsError::NotCanonical));
    assert_eq!(error.reason(), Reason::ChallengeDeserializationError);
    let trailing = [&plain[..], &[0]].concat();
    let at = plain.len();
    let expected = ClaimsError::Malformed(TlvError::Trailing { at });
    assert_eq!(world.error(&world.forged(&trailing)), OpenError::Claims(expected));
    let expected = ClaimsError::Malformed(TlvError::Truncated { at: 0 });
    assert_eq!(world.error(&world.forged(&[])), OpenError::Claims(expected));
}

#[test]
fn attack_29_a_blob_is_small_and_never_compressed() {
    let world = world();
    let got = MAX_TEXT + 4;
    let error = world.error(&"A".repeat(got));
    assert_eq!(error, OpenError::TooLong { got, max: 16_384 });
    assert_eq!(error.reason(), Reason::ChallengeDecodingError);
    let error = world.error(&"A".repeat(MAX_TEXT));
    assert!(matches!(error, OpenError::Outer(_)), "{error:?}");
    let got = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.1.9");
    let text = sign_content(got, &[0x30, 0], &*world.issuer.signer()).unwrap();
    assert_eq!(world.error(&text), OpenError::ContentType { got });
    let mut large = world.claims();
    large.expectation.subject_alt_names =
        (0..12).map(|i| GeneralName::dns(&format!("{i}.{}", "a".repeat(1000))).unwrap()).collect();
    let error = seal(&large, &*world.issuer.signer(), world.gateway.public_key(), &AwsLc);
    assert!(matches!(error, Err(SealError::TooLong { max: 16_384, .. })), "{error:?}");
}

#[test]
fn a_blob_is_made_only_between_the_keys_it_names() {
    let world = world();
    let (signer, recipient) = (world.issuer.signer(), world.gateway.public_key());
    let other = other_issuer();
    let actual = other.public_key().key_id();
    let claims = world.claims();
    assert_eq!(
        seal(&claims, &*other.signer(), recipient, &AwsLc).unwrap_err(),
        SealError::OtherKey { role: KeyRole::Signer, claimed: claims.issuer_key, actual }
    );
    assert_eq!(
        seal(&claims, &*signer, other.public_key(), &AwsLc).unwrap_err(),
        SealError::OtherKey { role: KeyRole::Recipient, claimed: claims.recipient_key, actual }
    );
    let p384 = SpkiDer::from_ec_point(&[&[4][..], &[7; 96]].concat()).unwrap();
    let mut odd = world.claims();
    odd.recipient_key = p384.key_id();
    assert_eq!(
        seal(&odd, &*signer, &p384, &AwsLc).unwrap_err(),
        SealError::UnsuitableKey { role: KeyRole::Recipient, algorithm: KeyAlgorithm::P384 }
    );
    let mut bad = world.claims();
    bad.expires_at = bad.issued_at;
    let error = seal(&bad, &*signer, recipient, &AwsLc).unwrap_err();
    assert_eq!(error.fault(), Fault::OurConfiguration);
    assert!(matches!(error, SealError::Claims(ClaimsError::Times { .. })), "{error:?}");
}

#[test]
fn the_text_of_a_typical_profile_is_short() {
    let mut lengths = Vec::new();
    for (kind, max) in [("p256", 1_400), ("rsa2048", 1_900)] {
        let world = World::new(kind, kind);
        let claims = world.claims();
        assert_eq!(claims.expectation.subject.rdns().len(), 3);
        assert_eq!(claims.expectation.subject_alt_names.len(), 2);
        assert_eq!(claims.expectation.extended_key_usages.purposes().len(), 1);
        let length = world.blob().len();
        println!(
            "{kind}: {} octets of claims, {length} characters",
            claims.to_der().unwrap().len()
        );
        assert!(length <= max, "{kind}: {length} characters");
        lengths.push(length);
    }
    assert!(lengths[0] < lengths[1]);
}

#[test]
fn the_content_type_is_the_registered_one() {
    assert_eq!(AUTH_ENVELOPED_DATA.to_string(), "1.2.840.113549.1.9.16.1.23");
}
