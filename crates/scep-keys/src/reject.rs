//! Implicit rejection: whatever a key transport ciphertext decrypts to, a content key comes out.

use scep_types::KeyError;
#[cfg(feature = "pkcs11")]
use sha2::Digest;
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

/// Copies the leading octets of `candidate` over `key` when `accept`, touching the same memory either way.
/// `candidate` is at least as long as `key`; octets it lacks leave the key as it is.
pub(crate) fn select(key: &mut [u8], candidate: &[u8], accept: Choice) {
    for (to, from) in key.iter_mut().zip(candidate) {
        to.conditional_assign(from, accept);
    }
}

/// Whether `em` is `00 02 PS 00 M` (RFC 8017, 7.2.2) with an M of exactly `len` octets. All octets are looked
/// at whatever they are. Where M starts follows from `len`, which is public, so there is no search for the
/// separator whose length could leak; a message of another length has a non-zero octet where the separator must
/// be, or a zero one in PS.
pub(crate) fn pkcs1_has_message_of(em: &[u8], len: usize) -> Choice {
    let Some((head, _)) = em.len().checked_sub(len).and_then(|at| em.split_at_checked(at)) else {
        return Choice::from(0);
    };
    // 7.2.1: PS has at least eight octets.
    if head.len() < 11 {
        return Choice::from(0);
    }
    let [first, second, padding @ .., separator] = head else {
        return Choice::from(0);
    };
    let zero = padding.iter().fold(Choice::from(0), |any, octet| any | octet.ct_eq(&0));
    first.ct_eq(&0) & second.ct_eq(&2) & !zero & separator.ct_eq(&0)
}

/// Whether `em` is `00 maskedSeed maskedDB` (RFC 8017, 7.1.2) of an OAEP message of exactly `len` octets with an empty
/// label; unmasks in place, so that the message stands at the end of `em` when it is. As above every octet is looked at
/// and there is no search. What is hashed has lengths that follow from the modulus alone.
#[cfg(feature = "pkcs11")]
pub(crate) fn oaep_has_message_of<D: Digest>(em: &mut [u8], len: usize) -> Choice {
    let digest = <D as Digest>::output_size();
    let Some((first, rest)) = em.split_first_mut() else { return Choice::from(0) };
    let Some((seed, db)) = rest.split_at_mut_checked(digest) else { return Choice::from(0) };
    mask::<D>(seed, db);
    mask::<D>(db, seed);
    let Some((head, _)) = db.len().checked_sub(len).and_then(|at| db.split_at_checked(at)) else {
        return Choice::from(0);
    };
    let Some((hash, [padding @ .., separator])) = head.split_at_checked(digest) else {
        return Choice::from(0);
    };
    let zero = padding.iter().fold(Choice::from(1), |all, octet| all & octet.ct_eq(&0));
    first.ct_eq(&0) & hash.ct_eq(&D::digest([])) & zero & separator.ct_eq(&1)
}

/// Adds MGF1 (RFC 8017, B.2.1) of `from` to `to`.
#[cfg(feature = "pkcs11")]
fn mask<D: Digest>(to: &mut [u8], from: &[u8]) {
    for (counter, block) in (0_u32..).zip(to.chunks_mut(<D as Digest>::output_size())) {
        let hash = D::new().chain_update(from).chain_update(counter.to_be_bytes()).finalize();
        for (to, from) in block.iter_mut().zip(hash) {
            *to ^= from;
        }
    }
}

/// The one thing about a ciphertext that is told apart: its length, which is public.
pub(crate) const fn wrong_length() -> KeyError {
    KeyError::Rejected { why: "the ciphertext has not the length of the modulus" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn padded(message: &[u8]) -> Vec<u8> {
        let mut em = vec![0x5a; 256];
        em[..2].copy_from_slice(&[0, 2]);
        let at = 256 - message.len();
        em[at - 1] = 0;
        em[at..].copy_from_slice(message);
        em
    }

    #[test]
    fn attack_21_one_wrong_octet_of_the_padding_is_refused() {
        let good = padded(&[7; 16]);
        assert_eq!(pkcs1_has_message_of(&good, 16).unwrap_u8(), 1);
        for at in 0..240 {
            let mut bad = good.clone();
            bad[at] = if at < 2 || at == 239 { 0xff } else { 0 };
            assert_eq!(pkcs1_has_message_of(&bad, 16).unwrap_u8(), 0, "octet {at}");
        }
        for len in [0, 1, 15, 17, 24, 32, 245, 246, 256, 257] {
            assert_eq!(pkcs1_has_message_of(&good, len).unwrap_u8(), 0, "length {len}");
        }
    }

    #[test]
    fn the_message_itself_may_be_anything() {
        for octet in [0, 2, 0xff] {
            assert_eq!(pkcs1_has_message_of(&padded(&[octet; 32]), 32).unwrap_u8(), 1);
        }
        // 245 octets leave the eight octets of PS that the standard demands, 246 do not.
        assert_eq!(pkcs1_has_message_of(&padded(&[1; 245]), 245).unwrap_u8(), 1);
        assert_eq!(pkcs1_has_message_of(&padded(&[1; 246]), 246).unwrap_u8(), 0);
    }

    /// An OAEP encoding for 256 octets, of what is given as DB.
    #[cfg(feature = "pkcs11")]
    fn masked<D: Digest>(first: u8, db: &[u8]) -> Vec<u8> {
        let digest = <D as Digest>::output_size();
        let mut em = vec![0x77; 256];
        em[0] = first;
        em[1 + digest..].copy_from_slice(db);
        let (seed, db) = em[1..].split_at_mut(digest);
        mask::<D>(db, seed);
        mask::<D>(seed, db);
        em
    }

    #[cfg(feature = "pkcs11")]
    fn one_wrong_octet<D: Digest>() {
        let digest = <D as Digest>::output_size();
        let len = 255 - digest;
        let mut good = vec![0; len];
        good[..digest].copy_from_slice(&D::digest([]));
        good[len - 17] = 1;
        good[len - 16..].fill(7);
        let accepts = |first: u8, db: &[u8], message: usize| {
            let mut em = masked::<D>(first, db);
            let accepted = oaep_has_message_of::<D>(&mut em, message).unwrap_u8() == 1;
            assert!(!accepted || em[256 - message..] == db[len - message..]);
            accepted
        };
        assert!(accepts(0, &good, 16));
        assert!(!accepts(1, &good, 16));
        for at in 0..len - 16 {
            let mut bad = good.clone();
            bad[at] ^= 2;
            assert!(!accepts(0, &bad, 16), "octet {at}");
        }
        for message in [0, 1, 15, 17, 32, len - digest - 1, len - digest, len, 255, 256, 300] {
            assert!(!accepts(0, &good, message), "length {message}");
        }
        // The longest message leaves no zeros, and is one.
        let mut longest = good;
        longest[digest] = 1;
        assert!(accepts(0, &longest, len - digest - 1));
    }

    #[cfg(feature = "pkcs11")]
    #[test]
    fn attack_21_one_wrong_octet_of_an_oaep_encoding_is_refused() {
        one_wrong_octet::<sha1::Sha1>();
        one_wrong_octet::<sha2::Sha256>();
        one_wrong_octet::<sha2::Sha512>();
    }

    #[test]
    fn selection_is_all_or_nothing() {
        let mut key = [1; 4];
        select(&mut key, &[9; 8], Choice::from(0));
        assert_eq!(key, [1; 4]);
        select(&mut key, &[9; 8], Choice::from(1));
        assert_eq!(key, [9; 4]);
    }
}
