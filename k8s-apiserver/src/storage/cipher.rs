//! The ciphers of upstream's key providers, and what they write.
//!
//! | Provider | Stored bytes | Good for |
//! |---|---|---|
//! | `aesgcm` | nonce (12), text, tag (16); the storage key is authenticated, too | 2^32 values per key |
//! | `aescbc` | vector (16), text padded by PKCS#7 | nothing is authenticated: only to read what upstream wrote |
//! | `secretbox` | nonce (24), tag (16), text: XSalsa20 and Poly1305 | any number of values |

use aws_lc_rs::{
    aead::{AES_128_GCM, AES_192_GCM, AES_256_GCM, Aad, Algorithm, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    cipher::{
        AES_128, AES_192, AES_256, AES_CBC_IV_LEN, DecryptionContext, EncryptionContext, PaddedBlockDecryptingKey,
        PaddedBlockEncryptingKey, UnboundCipherKey,
    },
    iv::FixedLength,
    rand,
};
use crypto_secretbox::{KeyInit, XSalsa20Poly1305, aead::AeadInPlace};

/// The nonce and the tag of `secretbox`.
const BOX_NONCE: usize = 24;
const BOX_TAG: usize = 16;

/// A sort of keys, as an `EncryptionConfiguration` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Provider {
    AesGcm,
    AesCbc,
    Secretbox,
}

/// A key made ready.
pub(super) enum Cipher {
    AesGcm(LessSafeKey),
    AesCbc(Box<(PaddedBlockEncryptingKey, PaddedBlockDecryptingKey)>),
    Secretbox(Box<XSalsa20Poly1305>),
}

/// A value cannot be sealed: the operating system gives no randomness, or the cipher does not take it.
#[derive(Debug)]
pub(super) struct NotSealed;

impl Provider {
    pub const ALL: [Self; 3] = [Self::AesGcm, Self::AesCbc, Self::Secretbox];

    /// What stored values call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::AesGcm => "aesgcm",
            Self::AesCbc => "aescbc",
            Self::Secretbox => "secretbox",
        }
    }

    /// How many bytes its keys may have, for people.
    pub fn lengths(self) -> &'static str {
        match self {
            Self::AesGcm | Self::AesCbc => "16, 24 or 32",
            Self::Secretbox => "32",
        }
    }

    /// Makes a key ready; `None` if it has a wrong number of bytes.
    pub fn cipher(self, bytes: &[u8]) -> Option<Cipher> {
        match self {
            Self::AesGcm => gcm(bytes).map(Cipher::AesGcm),
            Self::AesCbc => {
                let algorithm = match bytes.len() {
                    16 => &AES_128,
                    24 => &AES_192,
                    32 => &AES_256,
                    _ => return None,
                };
                let key = || UnboundCipherKey::new(algorithm, bytes).ok();
                let encrypting = PaddedBlockEncryptingKey::cbc_pkcs7(key()?).ok()?;
                let decrypting = PaddedBlockDecryptingKey::cbc_pkcs7(key()?).ok()?;
                Some(Cipher::AesCbc(Box::new((encrypting, decrypting))))
            }
            Self::Secretbox => XSalsa20Poly1305::new_from_slice(bytes).ok().map(|key| Cipher::Secretbox(Box::new(key))),
        }
    }
}

/// A key for AES-GCM; `None` if it has a wrong number of bytes.
pub(super) fn gcm(bytes: &[u8]) -> Option<LessSafeKey> {
    let algorithm: &'static Algorithm = match bytes.len() {
        16 => &AES_128_GCM,
        24 => &AES_192_GCM,
        32 => &AES_256_GCM,
        _ => return None,
    };
    UnboundKey::new(algorithm, bytes).ok().map(LessSafeKey::new)
}

/// Appends nonce, ciphertext and tag.
pub(super) fn seal_gcm(key: &LessSafeKey, context: &str, plain: &[u8], out: &mut Vec<u8>) -> Result<(), NotSealed> {
    let nonce = random::<NONCE_LEN>()?;
    out.reserve(NONCE_LEN + plain.len() + key.algorithm().tag_len());
    out.extend_from_slice(&nonce);
    let start = out.len();
    out.extend_from_slice(plain);
    let nonce = Nonce::assume_unique_for_key(nonce);
    let sealed = key.seal_in_place_separate_tag(nonce, Aad::from(context.as_bytes()), &mut out[start..]);
    out.extend_from_slice(sealed.map_err(|_| NotSealed)?.as_ref());
    Ok(())
}

/// What [`seal_gcm`] was given; `None` if another key or context sealed it, or if it was altered.
pub(super) fn open_gcm(key: &LessSafeKey, context: &str, sealed: &[u8]) -> Option<Vec<u8>> {
    let (nonce, sealed) = sealed.split_first_chunk::<NONCE_LEN>()?;
    let nonce = Nonce::assume_unique_for_key(*nonce);
    let mut bytes = sealed.to_vec();
    let length = key.open_in_place(nonce, Aad::from(context.as_bytes()), &mut bytes).ok()?.len();
    bytes.truncate(length);
    Some(bytes)
}

fn random<const N: usize>() -> Result<[u8; N], NotSealed> {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).map_err(|_| NotSealed)?;
    Ok(bytes)
}

impl Cipher {
    /// Appends what is stored of `plain`. Only `aesgcm` heeds the context.
    pub fn seal(&self, context: &str, plain: &[u8], out: &mut Vec<u8>) -> Result<(), NotSealed> {
        match self {
            Self::AesGcm(key) => seal_gcm(key, context, plain, out),
            Self::AesCbc(keys) => {
                let vector = random::<AES_CBC_IV_LEN>()?;
                let mut text = plain.to_vec();
                let context = EncryptionContext::Iv128(FixedLength::from(&vector));
                keys.0.less_safe_encrypt(&mut text, context).map_err(|_| NotSealed)?;
                out.extend_from_slice(&vector);
                out.extend_from_slice(&text);
                Ok(())
            }
            Self::Secretbox(key) => {
                let (nonce, mut text) = (random::<BOX_NONCE>()?, plain.to_vec());
                let tag = key.encrypt_in_place_detached(&nonce.into(), b"", &mut text).map_err(|_| NotSealed)?;
                out.extend_from_slice(&nonce);
                out.extend_from_slice(&tag);
                out.extend_from_slice(&text);
                Ok(())
            }
        }
    }

    /// What [`Self::seal`] was given; `None` if another key sealed it, or if it was altered (`aescbc` may not notice).
    pub fn open(&self, context: &str, sealed: &[u8]) -> Option<Vec<u8>> {
        match self {
            Self::AesGcm(key) => open_gcm(key, context, sealed),
            Self::AesCbc(keys) => {
                let (vector, sealed) = sealed.split_first_chunk::<AES_CBC_IV_LEN>()?;
                let mut text = sealed.to_vec();
                let context = DecryptionContext::Iv128(FixedLength::from(vector));
                let length = keys.1.decrypt(&mut text, context).ok()?.len();
                text.truncate(length);
                Some(text)
            }
            Self::Secretbox(key) => {
                let (nonce, sealed) = sealed.split_first_chunk::<BOX_NONCE>()?;
                let (tag, sealed) = sealed.split_first_chunk::<BOX_TAG>()?;
                let mut text = sealed.to_vec();
                key.decrypt_in_place_detached(&(*nonce).into(), b"", &mut text, &(*tag).into()).ok()?;
                Some(text)
            }
        }
    }
}
