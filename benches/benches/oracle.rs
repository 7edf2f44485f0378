//! Whether the time of a refusal tells why an envelope did not open: requests of each kind, one after another in random
//! order, through `SignedRequest::decrypt` and through a whole gateway, and tests for a difference.
//!
//! `ORACLE_RUNS` is how many of each kind go through either (20,000).

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::arithmetic_side_effects,
    reason = "a bench: what does not fit is a failed bench, and its message says what"
)]

use scep_challenge::ChallengeClaims;
use scep_cms::{SignerId, ToSign, seal, sign};
use scep_message::{ContentEncryption, LegacyAlgorithms, Limits, PkiMessage, SignedRequest};
use scep_server::Gateway;
use scep_testkit::house::{device_certificate, sign_csr};
use scep_testkit::{House, keys};
use scep_types::tlv::{self, tag};
use scep_types::{
    CertificateDer, ChallengeId, CryptoProvider, EphemeralAgreement, KeyError, ObjectIdentifier,
    RsaPadding, SignatureInvalid, SignatureScheme, SpkiDer,
};
use std::hint::black_box;
use std::time::Instant;

const RUNS: usize = 20_000;
/// Different messages of each kind, so that none is special.
const MESSAGES: usize = 32;
/// In a random order that is the same each time.
const SEED: u64 = 0x5ce9_71c0_0bad_5eed;

/// What is in an envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Valid,
    BadRsaPadding,
    WrongKeyLength,
    BadCbcPadding,
    /// Opens, and is no SEQUENCE.
    Garbage,
    /// Opens, and is a SEQUENCE that is no PKCS #10 request.
    GarbageCsr,
    /// Opens to a PKCS #10 request with a wrong signature.
    UnprovenCsr,
}

impl Kind {
    const ALL: [Self; 7] = [
        Self::Valid,
        Self::BadRsaPadding,
        Self::WrongKeyLength,
        Self::BadCbcPadding,
        Self::Garbage,
        Self::GarbageCsr,
        Self::UnprovenCsr,
    ];

    /// What must look alike from outside. A wrong signature is found later than these, and takes longer.
    const REFUSED: [Self; 6] = [
        Self::BadRsaPadding,
        Self::WrongKeyLength,
        Self::BadCbcPadding,
        Self::Garbage,
        Self::GarbageCsr,
        Self::UnprovenCsr,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::BadRsaPadding => "bad RSA padding",
            Self::WrongKeyLength => "wrong key length",
            Self::BadCbcPadding => "bad CBC padding",
            Self::Garbage => "no SEQUENCE",
            Self::GarbageCsr => "garbage CSR",
            Self::UnprovenCsr => "CSR with a wrong signature",
        }
    }
}

/// A provider that spoils the transport of the content key.
#[derive(Debug)]
struct Spoiling<'a> {
    honest: &'a dyn CryptoProvider,
    kind: Kind,
}

impl CryptoProvider for Spoiling<'_> {
    fn verify(
        &self,
        key: &SpkiDer,
        scheme: SignatureScheme,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), SignatureInvalid> {
        self.honest.verify(key, scheme, message, signature)
    }

    fn rsa_encrypt(
        &self,
        key: &SpkiDer,
        padding: RsaPadding,
        plaintext: &[u8],
    ) -> Result<Vec<u8>, KeyError> {
        match self.kind {
            // A random number below the modulus: padded rightly with a chance of 1 in 100,000.
            Kind::BadRsaPadding => {
                let mut number = vec![0; key.rsa().map_or(0, |parts| parts.modulus.len())];
                self.honest.random(&mut number)?;
                if let Some(first) = number.first_mut() {
                    *first = 0;
                }
                Ok(number)
            }
            Kind::WrongKeyLength => {
                let shorter = plaintext.get(8..).unwrap_or_default();
                self.honest.rsa_encrypt(key, padding, shorter)
            }
            _ => self.honest.rsa_encrypt(key, padding, plaintext),
        }
    }

    fn ephemeral_agree(&self, peer: &SpkiDer) -> Result<EphemeralAgreement, KeyError> {
        self.honest.ephemeral_agree(peer)
    }

    fn random(&self, out: &mut [u8]) -> Result<(), KeyError> {
        self.honest.random(out)
    }
}

/// One device that makes messages of every kind, all of one length.
struct Device<'a> {
    house: &'a House,
    certificate: CertificateDer,
    claims: ChallengeClaims,
}

impl Device<'_> {
    fn message(&self, kind: Kind) -> Vec<u8> {
        let (provider, key) = (&*self.house.provider, keys::rsa2048(2));
        // Nothing but the challenge's number differs, or some messages would be longer than others.
        let mut id = [0; 16];
        provider.random(&mut id).expect("randomness");
        let claims =
            ChallengeClaims { challenge_id: ChallengeId::from_bytes(id), ..self.claims.clone() };
        let mut csr = sign_csr(&House::csr(&claims, &self.house.seal(&claims)), &key);
        match kind {
            Kind::Garbage => csr.fill(0x5a),
            // The header stays.
            Kind::GarbageCsr => csr.iter_mut().skip(4).for_each(|octet| *octet = 0x5a),
            Kind::UnprovenCsr => {
                if let Some(last) = csr.last_mut() {
                    *last ^= 1;
                }
            }
            _ => {}
        }
        let spoiling = Spoiling { honest: provider, kind };
        let recipient = self.house.ra.recipients.first().expect("a recipient");
        let (padding, cipher) = (RsaPadding::Pkcs1v15, ContentEncryption::Aes256Cbc);
        let mut envelope =
            seal(&spoiling, &[&recipient.certificate], padding, cipher, &csr).expect("an envelope");
        if kind == Kind::BadCbcPadding {
            // The ciphertext is the envelope's end; its last block but one changes the padding, and nothing else of
            // the last block.
            let at = envelope.len() - 17;
            envelope[at] ^= 0x80;
        }
        let mut nonce = [0; 16];
        provider.random(&mut nonce).expect("randomness");
        let text = |text: &str| tlv::encode(tag::PRINTABLE_STRING, text.as_bytes());
        let id: String = nonce.iter().map(|octet| format!("{octet:02X}")).collect();
        let oid = |text| ObjectIdentifier::new_unwrap(text);
        let attributes = [
            (oid("2.16.840.1.113733.1.9.7"), text(&id)),
            (oid("2.16.840.1.113733.1.9.2"), text("19")),
            (oid("2.16.840.1.113733.1.9.5"), tlv::encode(tag::OCTET_STRING, &nonce)),
        ];
        let what = ToSign {
            content_type: oid("1.2.840.113549.1.7.1"),
            content: &envelope,
            attributes: &attributes,
            certificates: &[],
            signer_id: SignerId::Certificate(&self.certificate),
            scheme: SignatureScheme::RsaPkcs1Sha256,
        };
        sign(&*key.signer(), &what).expect("a message")
    }
}

/// xorshift64*: nobody has to be unable to guess it.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(high).expect("31 bits") % n
    }
}

/// Microseconds of each run, for each kind: `runs` rounds, in each of them every kind once, in random order.
fn measure(runs: usize, mut run: impl FnMut(Kind, usize) -> f64) -> Vec<Vec<f64>> {
    let mut dice = Dice(SEED);
    let mut samples = vec![Vec::with_capacity(runs); Kind::ALL.len()];
    let mut order: Vec<usize> = (0..Kind::ALL.len()).collect();
    for _ in 0..runs {
        for at in (1..order.len()).rev() {
            order.swap(at, dice.below(at + 1));
        }
        for kind in &order {
            samples[*kind].push(run(Kind::ALL[*kind], dice.below(MESSAGES)));
        }
    }
    samples
}

fn mean_and_variance(samples: &[f64]) -> (f64, f64) {
    let n = samples.len() as f64;
    let mean = samples.iter().sum::<f64>() / n;
    let squares = samples.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>();
    (mean, squares / (n - 1.0).max(1.0))
}

/// Welch's t.
fn welch(a: &[f64], b: &[f64]) -> f64 {
    let ((mean_a, var_a), (mean_b, var_b)) = (mean_and_variance(a), mean_and_variance(b));
    (mean_a - mean_b) / (var_a / a.len() as f64 + var_b / b.len() as f64).sqrt()
}

/// The Mann-Whitney test's z: above 0 when `a` is mostly the slower.
fn mann_whitney(a: &[f64], b: &[f64]) -> f64 {
    let mut all: Vec<(f64, bool)> =
        a.iter().map(|x| (*x, true)).chain(b.iter().map(|x| (*x, false))).collect();
    all.sort_by(|x, y| x.0.total_cmp(&y.0));
    let mut ranks = 0.0;
    let mut at = 0;
    while at < all.len() {
        let equal = all[at..].iter().take_while(|x| x.0 == all[at].0).count();
        let rank = at as f64 + (equal as f64 + 1.0) / 2.0;
        ranks += rank * all[at..at + equal].iter().filter(|x| x.1).count() as f64;
        at += equal;
    }
    let (n, m) = (a.len() as f64, b.len() as f64);
    let u = ranks - n * (n + 1.0) / 2.0;
    (u - n * m / 2.0) / (n * m * (n + m + 1.0) / 12.0).sqrt()
}

fn quantile(sorted: &[f64], of: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * of) as usize]
}

/// What interrupts a run has nothing to do with it: everything above the nine tenths of all is left out.
fn report(title: &str, samples: &[Vec<f64>]) {
    let mut all = samples.concat();
    all.sort_by(f64::total_cmp);
    let limit = quantile(&all, 0.9);
    let kept: Vec<Vec<f64>> =
        samples.iter().map(|one| one.iter().copied().filter(|x| *x <= limit).collect()).collect();
    println!("\n{title}\n");
    println!("| kind | n | kept | median µs | mean µs of those kept |");
    println!("| --- | ---: | ---: | ---: | ---: |");
    let medians: Vec<f64> = samples.iter().map(|one| median(one)).collect();
    for (kind, one) in Kind::ALL.iter().zip(&kept) {
        let at = *kind as usize;
        let (mean, _) = mean_and_variance(one);
        let (n, kept, median) = (samples[at].len(), one.len(), medians[at]);
        println!("| {} | {n} | {kept} | {median:.2} | {mean:.2} |", kind.name());
    }
    println!("\nKept: what took at most {limit:.0} µs, nine tenths of all.\n");
    println!("| | against | medians, ns | Welch's t | Mann-Whitney z |");
    println!("| --- | --- | ---: | ---: | ---: |");
    for (at, one) in Kind::REFUSED.iter().enumerate() {
        for other in Kind::REFUSED.iter().skip(at + 1) {
            let (a, b) = (*one as usize, *other as usize);
            println!(
                "| {} | {} | {:.0} | {:.1} | {:.1} |",
                one.name(),
                other.name(),
                (medians[a] - medians[b]) * 1e3,
                welch(&kept[a], &kept[b]),
                mann_whitney(&samples[a], &samples[b]),
            );
        }
    }
}

fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    quantile(&sorted, 0.5)
}

fn verified(message: &[u8], provider: &dyn CryptoProvider) -> SignedRequest {
    PkiMessage::parse(message, &Limits::default())
        .and_then(|message| message.verify(provider, LegacyAlgorithms::Refuse))
        .expect("a good message")
}

fn main() {
    // `cargo test --benches` only asks whether it runs.
    let test = std::env::args().any(|argument| argument == "--test");
    let runs = std::env::var("ORACLE_RUNS").ok().and_then(|runs| runs.parse().ok());
    let runs = if test { 3 } else { runs.unwrap_or(RUNS) };
    let house = House::new();
    let certificate = device_certificate(&keys::rsa2048(2));
    let device = Device { house: &house, certificate, claims: house.claims() };
    let messages: Vec<Vec<Vec<u8>>> = Kind::ALL
        .iter()
        .map(|kind| (0..MESSAGES).map(|_| device.message(*kind)).collect())
        .collect();
    let message = |kind: Kind, n: usize| &messages[kind as usize][n];

    let provider = &*house.provider;
    let samples = measure(runs, |kind, n| {
        let signed = verified(message(kind, n), provider);
        let start = Instant::now();
        let (request, context) = black_box(signed.decrypt(&house.ra, provider));
        let elapsed = start.elapsed();
        let opens = matches!(kind, Kind::Valid | Kind::GarbageCsr | Kind::UnprovenCsr);
        assert_eq!(request.is_ok(), opens, "{kind:?}");
        drop(context);
        elapsed.as_secs_f64() * 1e6
    });
    report("SignedRequest::decrypt", &samples);

    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut parts = house.parts(folder.path());
    // One challenge is repeated all the time here.
    (parts.limits.retry_burst, parts.limits.challenge_burst) = (u32::MAX, u32::MAX);
    let gateway = Gateway::new(parts).expect("a gateway");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    // The first of each valid message writes into the ledger; what is measured is its retry.
    for n in 0..MESSAGES {
        let answer = runtime.block_on(gateway.answer("/", message(Kind::Valid, n).clone()));
        assert!(answer.is_some(), "an answer");
    }
    let mut lengths = vec![Vec::new(); Kind::ALL.len()];
    let samples = measure(runs, |kind, n| {
        let message = message(kind, n).clone();
        let start = Instant::now();
        let answer = black_box(runtime.block_on(gateway.answer("/", message)));
        let elapsed = start.elapsed();
        let length = answer.map_or(0, |answer| answer.len());
        let seen: &mut Vec<usize> = &mut lengths[kind as usize];
        if !seen.contains(&length) {
            seen.push(length);
        }
        elapsed.as_secs_f64() * 1e6
    });
    report("Gateway::answer", &samples);
    println!();
    for (kind, lengths) in Kind::ALL.iter().zip(&lengths) {
        println!("{}: answers of {lengths:?} octets", kind.name());
    }
}
