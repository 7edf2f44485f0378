//! Content encryption: CBC with PKCS #7 padding (RFC 5652, 6.3).

use crate::error::{CmsError, structure};
use crate::oid;
use aes::cipher::{BlockModeDecrypt, BlockModeEncrypt, KeyIvInit, array::Array};
use scep_types::{ObjectIdentifier, Secret};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq, ConstantTimeGreater};

/// Content encryption of an EnvelopedData.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentEncryption {
    /// AES-128-CBC.
    Aes128Cbc,
    /// AES-192-CBC.
    Aes192Cbc,
    /// AES-256-CBC.
    Aes256Cbc,
    /// Three-key 3DES-CBC, on legacy endpoints.
    DesEde3Cbc,
}

impl ContentEncryption {
    const ALL: [Self; 4] = [Self::Aes128Cbc, Self::Aes192Cbc, Self::Aes256Cbc, Self::DesEde3Cbc];

    pub(crate) const fn oid(self) -> ObjectIdentifier {
        match self {
            Self::Aes128Cbc => oid::AES128_CBC,
            Self::Aes192Cbc => oid::AES192_CBC,
            Self::Aes256Cbc => oid::AES256_CBC,
            Self::DesEde3Cbc => oid::DES_EDE3_CBC,
        }
    }

    pub(crate) fn from_oid(oid: &ObjectIdentifier) -> Option<Self> {
        Self::ALL.into_iter().find(|encryption| encryption.oid() == *oid)
    }

    pub(crate) const fn key_len(self) -> usize {
        match self {
            Self::Aes128Cbc => 16,
            Self::Aes192Cbc | Self::DesEde3Cbc => 24,
            Self::Aes256Cbc => 32,
        }
    }

    /// The block's length, which is also the IV's.
    pub(crate) const fn block_len(self) -> usize {
        match self {
            Self::DesEde3Cbc => 8,
            _ => 16,
        }
    }

    /// Pads and encrypts.
    pub(crate) fn encrypt(
        self,
        key: &[u8],
        iv: &[u8],
        plaintext: &[u8],
    ) -> Result<Vec<u8>, CmsError> {
        let block = self.block_len();
        let padding = block.saturating_sub(plaintext.len().checked_rem(block).unwrap_or(0));
        let padded = plaintext.len().saturating_add(padding);
        let mut buffer = Vec::with_capacity(padded);
        buffer.extend_from_slice(plaintext);
        buffer.resize(padded, u8::try_from(padding).unwrap_or(0));
        match self {
            Self::Aes128Cbc => encrypt_blocks::<cbc::Encryptor<aes::Aes128>>(key, iv, &mut buffer),
            Self::Aes192Cbc => encrypt_blocks::<cbc::Encryptor<aes::Aes192>>(key, iv, &mut buffer),
            Self::Aes256Cbc => encrypt_blocks::<cbc::Encryptor<aes::Aes256>>(key, iv, &mut buffer),
            Self::DesEde3Cbc => {
                encrypt_blocks::<cbc::Encryptor<des::TdesEde3>>(key, iv, &mut buffer)
            }
        }?;
        Ok(buffer)
    }

    /// Decrypts and takes the padding off. The ciphertext is of whole blocks, key and IV have the right length:
    /// the caller has checked what is public.
    ///
    /// # Errors
    /// [`CmsError::DoesNotOpen`] when the padding is wrong. The check takes the same time for every padding of the
    /// last block.
    pub(crate) fn decrypt(
        self,
        key: &[u8],
        iv: &[u8],
        ciphertext: &[u8],
    ) -> Result<Secret<Vec<u8>>, CmsError> {
        let mut buffer = Secret::new(ciphertext.to_vec());
        let octets = buffer.expose_mut();
        match self {
            Self::Aes128Cbc => decrypt_blocks::<cbc::Decryptor<aes::Aes128>>(key, iv, octets),
            Self::Aes192Cbc => decrypt_blocks::<cbc::Decryptor<aes::Aes192>>(key, iv, octets),
            Self::Aes256Cbc => decrypt_blocks::<cbc::Decryptor<aes::Aes256>>(key, iv, octets),
            Self::DesEde3Cbc => decrypt_blocks::<cbc::Decryptor<des::TdesEde3>>(key, iv, octets),
        }?;
        let length = unpadded_len(octets, self.block_len()).ok_or(CmsError::DoesNotOpen)?;
        octets.truncate(length);
        Ok(buffer)
    }
}

/// The cipher of a key that is derived from a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WrapCipher {
    Aes128,
    Aes192,
    Aes256,
}

impl WrapCipher {
    /// Of the block and of the IV.
    pub(crate) const BLOCK: usize = 16;

    pub(crate) fn from_oid(oid: &ObjectIdentifier) -> Option<Self> {
        match *oid {
            oid::AES128_CBC => Some(Self::Aes128),
            oid::AES192_CBC => Some(Self::Aes192),
            oid::AES256_CBC => Some(Self::Aes256),
            _ => None,
        }
    }

    pub(crate) const fn key_len(self) -> usize {
        match self {
            Self::Aes128 => 16,
            Self::Aes192 => 24,
            Self::Aes256 => 32,
        }
    }

    /// RFC 3211, 2.3.1: the blocks are encrypted twice, the second time with the last block of the first as IV.
    pub(crate) fn wrap(self, key: &[u8], iv: &[u8], blocks: &mut [u8]) -> Result<(), CmsError> {
        for iv in [Some(iv), None] {
            let last = blocks.last_chunk::<{ Self::BLOCK }>().copied().unwrap_or_default();
            let iv = iv.unwrap_or(&last);
            match self {
                Self::Aes128 => encrypt_blocks::<cbc::Encryptor<aes::Aes128>>(key, iv, blocks),
                Self::Aes192 => encrypt_blocks::<cbc::Encryptor<aes::Aes192>>(key, iv, blocks),
                Self::Aes256 => encrypt_blocks::<cbc::Encryptor<aes::Aes256>>(key, iv, blocks),
            }?;
        }
        Ok(())
    }

    /// RFC 3211, 2.3.2, of two blocks or more, which the caller has checked.
    pub(crate) fn unwrap(self, key: &[u8], iv: &[u8], blocks: &mut [u8]) -> Result<(), CmsError> {
        let (rest, last) = blocks.split_last_chunk_mut::<{ Self::BLOCK }>().ok_or(BAD_KEY)?;
        let before = rest.last_chunk::<{ Self::BLOCK }>().ok_or(BAD_KEY)?;
        let mut inner = *last;
        self.decrypt(key, before, &mut inner)?;
        self.decrypt(key, &inner, blocks)?;
        self.decrypt(key, iv, blocks)
    }

    fn decrypt(self, key: &[u8], iv: &[u8], blocks: &mut [u8]) -> Result<(), CmsError> {
        match self {
            Self::Aes128 => decrypt_blocks::<cbc::Decryptor<aes::Aes128>>(key, iv, blocks),
            Self::Aes192 => decrypt_blocks::<cbc::Decryptor<aes::Aes192>>(key, iv, blocks),
            Self::Aes256 => decrypt_blocks::<cbc::Decryptor<aes::Aes256>>(key, iv, blocks),
        }
    }
}

const BAD_KEY: CmsError = structure("content key or IV of the wrong length", 0);

fn encrypt_blocks<C: BlockModeEncrypt + KeyIvInit>(
    key: &[u8],
    iv: &[u8],
    buffer: &mut [u8],
) -> Result<(), CmsError> {
    let mut cipher = C::new_from_slices(key, iv).map_err(|_| BAD_KEY)?;
    cipher.encrypt_blocks(Array::slice_as_chunks_mut(buffer).0);
    Ok(())
}

fn decrypt_blocks<C: BlockModeDecrypt + KeyIvInit>(
    key: &[u8],
    iv: &[u8],
    buffer: &mut [u8],
) -> Result<(), CmsError> {
    let mut cipher = C::new_from_slices(key, iv).map_err(|_| BAD_KEY)?;
    cipher.decrypt_blocks(Array::slice_as_chunks_mut(buffer).0);
    Ok(())
}

/// The length without padding: the last octet n is 1 to `block`, and so are the last n octets. No branch and no
/// index depends on the octets until the verdict.
fn unpadded_len(octets: &[u8], block: usize) -> Option<usize> {
    let start = octets.len().checked_sub(block)?;
    let last_block = octets.get(start..)?;
    let padding = *last_block.last()?;
    let block = u8::try_from(block).ok()?;
    let mut good: Choice = !padding.ct_eq(&0) & !padding.ct_gt(&block);
    for (from_end, octet) in (0_u8..).zip(last_block.iter().rev()) {
        // Within the padding every octet counts; before it, none.
        good &= octet.ct_eq(&padding) | !padding.ct_gt(&from_end);
    }
    let taken = u8::conditional_select(&0, &padding, good);
    bool::from(good).then(|| octets.len().saturating_sub(usize::from(taken)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_is_one_to_a_block_of_equal_octets() {
        for block in [8_usize, 16] {
            for n in 1..=block {
                let mut octets = vec![0xaa; 2 * block];
                octets[2 * block - n..].fill(u8::try_from(n).unwrap());
                assert_eq!(unpadded_len(&octets, block), Some(2 * block - n));
                for at in 2 * block - n..2 * block - 1 {
                    let mut bad = octets.clone();
                    bad[at] ^= 1;
                    assert_eq!(unpadded_len(&bad, block), None, "octet {at} of {n}");
                }
            }
            for last in [0, u8::try_from(block).unwrap() + 1, 0xff] {
                assert_eq!(unpadded_len(&vec![last; 2 * block], block), None);
            }
        }
        assert_eq!(unpadded_len(&[1; 7], 8), None);
    }

    #[test]
    fn every_cipher_opens_what_it_sealed() {
        for encryption in ContentEncryption::ALL {
            let key = &[7; 32][..encryption.key_len()];
            let iv = &[9; 16][..encryption.block_len()];
            for length in [0, 1, 7, 8, 15, 16, 17, 4096] {
                let plaintext = vec![3; length];
                let ciphertext = encryption.encrypt(key, iv, &plaintext).unwrap();
                assert!(ciphertext.len() > length);
                assert_eq!(ciphertext.len() % encryption.block_len(), 0);
                let opened = encryption.decrypt(key, iv, &ciphertext).unwrap();
                assert_eq!(opened.expose(), &plaintext);
            }
        }
    }
}
