//! PasswordRecipientInfo (RFC 5652, 6.2.4): a content key under a key derived from a password.

use crate::algorithm::{Algorithm, NULL};
use crate::enveloped::envelope;
use crate::error::{CmsError, structure};
use crate::limits::LegacyAlgorithms;
use crate::oid;
use crate::symmetric::{ContentEncryption, WrapCipher};
use scep_types::tlv::{self, Reader, Tlv, tag};
use scep_types::{CryptoProvider, Secret};
use sha2::{Sha256, Sha384, Sha512};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

/// The tag of `pwri [3] PasswordRecipientInfo` in a RecipientInfo.
pub(crate) const RECIPIENT: u8 = tag::context_constructed(3);

/// Of what is sealed here. SCEP's passwords are challenges of high entropy (RFC 8894, 6.1), which nobody guesses at
/// any number of iterations; this many also suit whoever uses a word.
const ITERATIONS: u32 = 10_000;
const SALT: usize = 16;
const SALTS: core::ops::RangeInclusive<usize> = 8..=64;
/// RFC 8018, 4.2.
const FEWEST_ITERATIONS: u64 = 1_000;

const KEY_DERIVATION: &str = "key derivation";
const KEY_ENCRYPTION: &str = "key encryption by a password";

/// The hash of PBKDF2's HMAC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Prf {
    Sha1,
    Sha256,
    Sha384,
    Sha512,
}

impl Prf {
    fn read(algorithm: &Algorithm<'_>) -> Result<Self, CmsError> {
        let prf = match algorithm.oid {
            oid::HMAC_SHA1 => Self::Sha1,
            oid::HMAC_SHA256 => Self::Sha256,
            oid::HMAC_SHA384 => Self::Sha384,
            oid::HMAC_SHA512 => Self::Sha512,
            _ => return Err(algorithm.unsupported(KEY_DERIVATION)),
        };
        algorithm.no_parameters()?;
        Ok(prf)
    }

    fn derive(self, password: &Secret<String>, salt: &[u8], iterations: u32, key: &mut [u8]) {
        let password = password.expose().as_bytes();
        match self {
            Self::Sha1 => pbkdf2::pbkdf2_hmac::<sha1::Sha1>(password, salt, iterations, key),
            Self::Sha256 => pbkdf2::pbkdf2_hmac::<Sha256>(password, salt, iterations, key),
            Self::Sha384 => pbkdf2::pbkdf2_hmac::<Sha384>(password, salt, iterations, key),
            Self::Sha512 => pbkdf2::pbkdf2_hmac::<Sha512>(password, salt, iterations, key),
        }
    }
}

/// PBKDF2-params (RFC 8018, A.2), within bounds.
#[derive(Debug)]
struct Derivation<'a> {
    salt: &'a [u8],
    iterations: u32,
    key_len: Option<u64>,
    prf: Prf,
}

impl<'a> Derivation<'a> {
    fn read(
        algorithm: &Algorithm<'a>,
        max_iterations: u64,
        legacy: LegacyAlgorithms,
    ) -> Result<Self, CmsError> {
        if algorithm.oid != oid::PBKDF2 {
            return Err(algorithm.unsupported(KEY_DERIVATION));
        }
        let parameters = algorithm.parameters()?;
        if parameters.tag != tag::SEQUENCE {
            return Err(structure("algorithm parameters that are no SEQUENCE", parameters.at));
        }
        let mut fields = parameters.reader();
        let salt = fields.expect(tag::OCTET_STRING)?;
        if !SALTS.contains(&salt.value.len()) {
            return Err(structure("salt that is not of 8 to 64 octets", salt.at));
        }
        let count = fields.expect(tag::INTEGER)?;
        let iterations = iterations(&count, max_iterations)?;
        let key_len =
            fields.optional(tag::INTEGER)?.map(|length| length.small_int()).transpose()?;
        // Left out, it is HMAC with SHA-1.
        let prf = match fields.optional(tag::SEQUENCE)? {
            None => Prf::Sha1,
            Some(algorithm) => Prf::read(&Algorithm::read(&algorithm)?)?,
        };
        fields.finish()?;
        if (prf, legacy) == (Prf::Sha1, LegacyAlgorithms::Refuse) {
            let name = oid::name(&oid::HMAC_SHA1);
            return Err(CmsError::Algorithm { role: KEY_DERIVATION, name });
        }
        Ok(Self { salt: salt.value, iterations, key_len, prf })
    }
}

/// A count of iterations. Whoever asks for too many is told so, whatever the number's length.
fn iterations(count: &Tlv<'_>, max: u64) -> Result<u32, CmsError> {
    const TOO_MANY: &str = "iterations of the key derivation";
    let limit =
        || CmsError::Limit { what: TOO_MANY, max: usize::try_from(max).unwrap_or(usize::MAX) };
    let octets = count.unsigned()?;
    // Without leading zeros: DER has none.
    if octets.len() > size_of::<u64>() {
        return Err(limit());
    }
    let number = octets.iter().fold(0, |number: u64, octet| (number << 8) | u64::from(*octet));
    if number > max {
        return Err(limit());
    }
    if number < FEWEST_ITERATIONS {
        return Err(structure("key derivation of fewer than 1000 iterations", count.at));
    }
    u32::try_from(number).map_err(|_| limit())
}

/// A wrapped content key, with everything that is needed to unwrap it but the password.
#[derive(Debug)]
pub(crate) struct WrappedKey<'a> {
    derivation: Derivation<'a>,
    cipher: WrapCipher,
    iv: &'a [u8],
    encrypted: &'a [u8],
    at: usize,
}

/// Reads the one PasswordRecipientInfo of an envelope whose content key has this length. Offsets are from its start.
pub(crate) fn read(
    der: &[u8],
    content_key_len: usize,
    max_iterations: u64,
    legacy: LegacyAlgorithms,
) -> Result<WrappedKey<'_>, CmsError> {
    let info = Reader::new(der).only(RECIPIENT)?;
    let mut fields = info.reader();
    let version = fields.any()?;
    if version.small_int()? != 0 {
        return Err(structure("PasswordRecipientInfo of unknown version", version.at));
    }
    // Optional in RFC 5652 for keys that are no passwords.
    let derivation = fields.expect(tag::context_constructed(0))?;
    let derivation = Derivation::read(&Algorithm::read_as(&derivation)?, max_iterations, legacy)?;
    let algorithm = Algorithm::read(&fields.expect(tag::SEQUENCE)?)?;
    let encrypted = fields.expect(tag::OCTET_STRING)?;
    fields.finish()?;

    if algorithm.oid != oid::PWRI_KEK {
        return Err(algorithm.unsupported(KEY_ENCRYPTION));
    }
    let inner = Algorithm::read(algorithm.parameters()?)?;
    let cipher =
        WrapCipher::from_oid(&inner.oid).ok_or_else(|| inner.unsupported(KEY_ENCRYPTION))?;
    let iv = inner.parameters()?;
    if iv.tag != tag::OCTET_STRING || iv.value.len() != WrapCipher::BLOCK {
        return Err(structure("IV that is not of the block's length", iv.at));
    }
    if derivation.key_len.is_some_and(|len| usize::try_from(len) != Ok(cipher.key_len())) {
        return Err(structure("derived key that is not of the cipher's length", info.at));
    }
    if encrypted.value.len() != wrapped_len(content_key_len) {
        return Err(structure("wrapped key that is not of the content key's length", encrypted.at));
    }
    Ok(WrappedKey {
        derivation,
        cipher,
        iv: iv.value,
        encrypted: encrypted.value,
        at: encrypted.at,
    })
}

/// Length, three octets of check, key: whole blocks, and two at least.
const fn wrapped_len(content_key_len: usize) -> usize {
    let length = content_key_len.saturating_add(4).next_multiple_of(WrapCipher::BLOCK);
    if length < 2 * WrapCipher::BLOCK { 2 * WrapCipher::BLOCK } else { length }
}

/// An empty password would encrypt nothing.
fn not_empty(password: &Secret<String>, at: usize) -> Result<(), CmsError> {
    if password.expose().is_empty() { Err(structure("empty password", at)) } else { Ok(()) }
}

impl WrappedKey<'_> {
    /// The content key; a random one where the password is wrong or the wrapped key was altered.
    pub(crate) fn unwrap(
        &self,
        password: &Secret<String>,
        content_key_len: usize,
        provider: &dyn CryptoProvider,
    ) -> Result<Secret<Vec<u8>>, CmsError> {
        not_empty(password, self.at)?;
        let mut content_key = Secret::new(vec![0; content_key_len]);
        provider.random(content_key.expose_mut())?;
        let Derivation { salt, iterations, prf, .. } = self.derivation;
        let mut key = Secret::new(vec![0; self.cipher.key_len()]);
        prf.derive(password, salt, iterations, key.expose_mut());
        let mut blocks = Secret::new(self.encrypted.to_vec());
        self.cipher.unwrap(key.expose(), self.iv, blocks.expose_mut())?;

        let expected = u8::try_from(content_key_len).unwrap_or(0);
        let mut octets = blocks.expose().iter();
        let mut next = || octets.next().copied().unwrap_or(0);
        let mut good: Choice = next().ct_eq(&expected);
        let check = Secret::new([next(), next(), next()]);
        let found =
            Secret::new(core::iter::repeat_with(next).take(content_key_len).collect::<Vec<u8>>());
        for (check, octet) in check.expose().iter().zip(found.expose()) {
            good &= (!check).ct_eq(octet);
        }
        for (out, octet) in content_key.expose_mut().iter_mut().zip(found.expose()) {
            out.conditional_assign(octet, good);
        }
        Ok(content_key)
    }
}

/// Encrypts to a password, which is its only recipient: PBKDF2 with HMAC-SHA-256, 10,000 iterations and a salt of
/// 16 octets, AES-256-CBC for the content key, content type id-data. Returns the ContentInfo's DER.
///
/// The password's octets are those of its UTF-8. How hard it is to guess, is all that protects the content.
///
/// # Errors
/// [`CmsError::Structure`] when the password is empty; [`CmsError::Key`] when randomness failed.
pub fn seal_with_password(
    provider: &dyn CryptoProvider,
    password: &Secret<String>,
    encryption: ContentEncryption,
    plaintext: &[u8],
) -> Result<Vec<u8>, CmsError> {
    not_empty(password, 0)?;
    let cipher = WrapCipher::Aes256;
    let mut content_key = Secret::new(vec![0; encryption.key_len()]);
    provider.random(content_key.expose_mut())?;
    let mut iv = vec![0; encryption.block_len()];
    provider.random(&mut iv)?;
    let (mut salt, mut key_iv) = ([0; SALT], [0; WrapCipher::BLOCK]);
    provider.random(&mut salt)?;
    provider.random(&mut key_iv)?;
    let mut key = Secret::new(vec![0; cipher.key_len()]);
    Prf::Sha256.derive(password, &salt, ITERATIONS, key.expose_mut());

    // RFC 3211, 2.3.1: the length, the complement of the first three octets, the key, random octets.
    let mut blocks = Secret::new(vec![0; wrapped_len(encryption.key_len())]);
    provider.random(blocks.expose_mut())?;
    let length = u8::try_from(encryption.key_len()).unwrap_or(0);
    let check = content_key.expose().iter().take(3).map(|octet| !octet);
    let octets = core::iter::once(length).chain(check).chain(content_key.expose().iter().copied());
    for (out, octet) in blocks.expose_mut().iter_mut().zip(octets) {
        *out = octet;
    }
    cipher.wrap(key.expose(), &key_iv, blocks.expose_mut())?;

    let parameters = tlv::sequence(&[
        &tlv::encode(tag::OCTET_STRING, &salt),
        &tlv::small_int(u64::from(ITERATIONS)),
        &tlv::sequence(&[&tlv::oid(&oid::HMAC_SHA256), NULL]),
    ]);
    let derivation =
        tlv::construct(tag::context_constructed(0), &[&tlv::oid(&oid::PBKDF2), &parameters]);
    let wrapping = tlv::sequence(&[
        &tlv::oid(&oid::PWRI_KEK),
        &tlv::sequence(&[&tlv::oid(&oid::AES256_CBC), &tlv::encode(tag::OCTET_STRING, &key_iv)]),
    ]);
    let info = tlv::construct(
        RECIPIENT,
        &[
            &tlv::small_int(0),
            &derivation,
            &wrapping,
            &tlv::encode(tag::OCTET_STRING, blocks.expose()),
        ],
    );
    // RFC 5652, 6.1: version 3 where a recipient has a password.
    envelope(3, vec![info], encryption, &content_key, &iv, plaintext)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn derived(prf: Prf, password: &str, salt: &str, iterations: u32, length: usize) -> String {
        let mut key = vec![0; length];
        prf.derive(&Secret::new(password.to_owned()), salt.as_bytes(), iterations, &mut key);
        key.iter().map(|octet| format!("{octet:02x}")).collect()
    }

    #[test]
    fn keys_are_derived_as_rfc_7914_and_6070_show() {
        let key = derived(Prf::Sha256, "passwd", "salt", 1, 64);
        assert_eq!(
            key,
            "55ac046e56e3089fec1691c22544b605f94185216dde0465e68b9d57c20dacbc\
             49ca9cccf179b645991664b39d77ef317c71b845b1e30bd509112041d3a19783"
        );
        let key = derived(Prf::Sha1, "password", "salt", 4096, 20);
        assert_eq!(key, "4b007901b765489abead49d926f721d065a429c1");
    }

    /// What comes out of a wrapped key of 16 octets that was made by hand.
    fn unwrapped(plain: [u8; 32]) -> Vec<u8> {
        let password = Secret::new("challenge".to_owned());
        let derivation =
            Derivation { salt: &[1; 8], iterations: 1000, key_len: None, prf: Prf::Sha256 };
        let mut key = [0; 32];
        Prf::Sha256.derive(&password, derivation.salt, derivation.iterations, &mut key);
        let mut encrypted = plain;
        let cipher = WrapCipher::Aes256;
        cipher.wrap(&key, &[9; 16], &mut encrypted).unwrap();
        let wrapped = WrappedKey { derivation, cipher, iv: &[9; 16], encrypted: &encrypted, at: 0 };
        wrapped.unwrap(&password, 16, &scep_keys::AwsLc).unwrap().expose().clone()
    }

    #[test]
    fn attack_21_length_and_check_decide_between_the_key_and_a_random_one() {
        let mut good = [3; 32];
        good[..20]
            .copy_from_slice(&[16, !7, !8, !9, 7, 8, 9, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]);
        assert_eq!(unwrapped(good), good[4..20]);
        for octet in 0..4 {
            for bit in 0..8 {
                let mut bad = good;
                bad[octet] ^= 1 << bit;
                assert_ne!(unwrapped(bad), good[4..20], "bit {bit} of octet {octet}");
            }
        }
        // The padding is random.
        good[20..].fill(0xff);
        assert_eq!(unwrapped(good), good[4..20]);
    }

    #[test]
    fn a_wrapped_key_is_two_blocks_or_three() {
        assert_eq!([16, 24, 32].map(wrapped_len), [32, 32, 48]);
    }

    #[test]
    fn every_cipher_unwraps_what_it_wrapped() {
        for cipher in [WrapCipher::Aes128, WrapCipher::Aes192, WrapCipher::Aes256] {
            let key = &[7; 32][..cipher.key_len()];
            for length in [32, 48] {
                let plain: Vec<u8> = (0..length).collect();
                let mut blocks = plain.clone();
                cipher.wrap(key, &[9; 16], &mut blocks).unwrap();
                assert_ne!(blocks, plain);
                cipher.unwrap(key, &[9; 16], &mut blocks).unwrap();
                assert_eq!(blocks, plain);
            }
            assert!(cipher.unwrap(key, &[9; 16], &mut [0; 16]).is_err());
        }
    }
}
