//! The form of a sealed value: `k8s:enc:aesgcm:v1:NAME:`, then nonce, ciphertext and tag.
//!
//! The form and the context (the key of the store) are upstream's. The name says which key opens the value.

use bytes::Bytes;

use super::keys::{EncryptionKey, KeyError, Keys};

/// What every sealed value begins with, whoever sealed it. No JSON does.
const SEALED: &[u8] = b"k8s:enc:";
/// What a value begins with that is sealed by a key of ours.
const AES_GCM: &[u8] = b"k8s:enc:aesgcm:v1:";
/// How much of what should be a key id is shown.
const MAX_SHOWN_BYTES: usize = 120;

/// Which key a value is sealed with, for people: `aesgcm:v1:NAME`. `None` if it is plain.
pub(crate) fn key_id(value: &[u8]) -> Option<String> {
    let rest = value.strip_prefix(SEALED)?;
    // PROVIDER:VERSION:NAME: and then bytes of any kind.
    let mut colons = rest.iter().take(MAX_SHOWN_BYTES).enumerate().filter(|(_, byte)| **byte == b':');
    let end = colons.nth(2).map_or(rest.len().min(MAX_SHOWN_BYTES), |(at, _)| at);
    Some(String::from_utf8_lossy(&rest[..end]).into_owned())
}

/// Whether a value is sealed, by whomever.
pub(crate) fn is_sealed(value: &[u8]) -> bool {
    value.starts_with(SEALED)
}

/// Whether this key has sealed a value.
pub(super) fn is_sealed_by(value: &[u8], key: &EncryptionKey) -> bool {
    let name = value.strip_prefix(AES_GCM).and_then(|rest| rest.strip_prefix(key.name().as_bytes()));
    name.is_some_and(|rest| rest.starts_with(b":"))
}

/// Seals a value that is kept under `context`.
pub(super) fn seal(key: &EncryptionKey, context: &str, plain: &[u8]) -> Result<Bytes, KeyError> {
    let mut out = Vec::with_capacity(AES_GCM.len() + key.name().len() + plain.len() + 64);
    out.extend_from_slice(AES_GCM);
    out.extend_from_slice(key.name().as_bytes());
    out.push(b':');
    key.seal(context, plain, &mut out)?;
    Ok(out.into())
}

/// Opens a sealed value, or says why that cannot be.
pub(super) fn open(keys: &Keys, context: &str, sealed: &[u8]) -> Result<Bytes, String> {
    let id = key_id(sealed).unwrap_or_default();
    let foreign = || format!("it is encrypted as {id}, which this server does not read");
    let rest = sealed.strip_prefix(AES_GCM).ok_or_else(foreign)?;
    let end = rest.iter().position(|byte| *byte == b':').ok_or_else(foreign)?;
    let name = str::from_utf8(&rest[..end]).map_err(|_| foreign())?;
    let Some(key) = keys.find(name) else {
        let there: Vec<&str> = keys.names().collect();
        return Err(format!("it is encrypted with {id}, and the keys given are {}", there.join(", ")));
    };
    let plain = key.open(context, &rest[end + 1..]);
    plain.map(Bytes::from).ok_or_else(|| {
        format!("{id} does not open it: the key is another one of that name, or the value was altered or moved here")
    })
}
