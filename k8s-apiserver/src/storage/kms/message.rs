//! The messages of upstream's KMS v2 protocol, and of what it leaves in the store, as protobuf.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::outer::protobuf::{
    Fault,
    wire::{Records, put_bytes, put_head, put_number},
};

/// What is shown with an encrypted key, in plain text: whatever the plugin wants to see again.
pub(crate) type Annotations = BTreeMap<String, Bytes>;

/// The longest key id, and the largest encrypted key.
const MAX_KEY_BYTES: usize = 1024;
/// What annotations may hold in all.
const MAX_ANNOTATIONS_BYTES: usize = 32 * 1024;

/// An encrypted key or seed, as it stands in every value that it seals.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Source {
    /// Which key of the service encrypted it.
    pub key_id: String,
    /// The encrypted key or seed.
    pub encrypted: Bytes,
    pub annotations: Annotations,
    pub derives: Derives,
}

/// How the key of a value follows from what was encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Derives {
    /// It is the key (`AES_GCM_KEY`).
    Itself,
    /// It is a seed, from which each value has a key of its own (`HKDF_SHA256_XNONCE_AES_GCM_SEED`).
    PerValue,
}

/// What a value holds that is kept under `k8s:enc:kms:v2:NAME:`.
pub(crate) struct EncryptedObject {
    pub source: Source,
    pub data: Bytes,
}

/// What the plugin says of itself.
pub(crate) struct Status {
    pub version: String,
    pub healthz: String,
    pub key_id: String,
}

impl Source {
    /// What is wrong with it, by upstream's rules.
    pub fn validate(&self) -> Result<(), String> {
        if self.encrypted.is_empty() {
            return Err("encrypted DEK source is empty".into());
        }
        if self.encrypted.len() > MAX_KEY_BYTES {
            return Err(too_large("encrypted DEK source", self.encrypted.len(), MAX_KEY_BYTES));
        }
        validate_key_id(&self.key_id)?;
        let sizes = self.annotations.iter().map(|(name, value)| name.len() + value.len());
        let size = sizes.sum();
        if size > MAX_ANNOTATIONS_BYTES {
            return Err(too_large("total size of annotations", size, MAX_ANNOTATIONS_BYTES));
        }
        let is_name = |name: &&String| name.contains('.') && k8s_core::names::dns_subdomain(name).is_empty();
        match self.annotations.keys().find(|name| !is_name(name)) {
            Some(name) => Err(format!("annotation {name:?} should be a fully qualified domain name")),
            None => Ok(()),
        }
    }
}

pub(crate) fn validate_key_id(key_id: &str) -> Result<(), String> {
    match key_id.len() {
        0 => Err("keyID is empty".into()),
        length if length > MAX_KEY_BYTES => Err(too_large("keyID", length, MAX_KEY_BYTES)),
        _ => Ok(()),
    }
}

fn too_large(what: &str, bytes: usize, limit: usize) -> String {
    format!("{what} is {bytes} bytes, which exceeds the max size of {limit}")
}

impl EncryptedObject {
    /// Appends it, fields in their order.
    pub fn write(source: &Source, data: &[u8], out: &mut Vec<u8>) {
        put_bytes(out, 1, data);
        put_bytes(out, 2, source.key_id.as_bytes());
        put_bytes(out, 3, &source.encrypted);
        put_annotations(out, 4, &source.annotations);
        if source.derives == Derives::PerValue {
            put_number(out, 5, 1);
        }
    }

    /// Reads it, and says what is wrong with it.
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        let (mut data, mut derives) = (Bytes::new(), 0);
        let mut source = Source {
            key_id: String::new(),
            encrypted: Bytes::new(),
            annotations: Annotations::new(),
            derives: Derives::Itself,
        };
        for record in Records(bytes) {
            let (number, value) = record.map_err(malformed)?;
            match number {
                1 => data = Bytes::copy_from_slice(value.bytes().map_err(malformed)?),
                2 => source.key_id = text(value.bytes().map_err(malformed)?)?,
                3 => source.encrypted = Bytes::copy_from_slice(value.bytes().map_err(malformed)?),
                4 => read_annotation(value.bytes().map_err(malformed)?, &mut source.annotations)?,
                5 => derives = value.number().map_err(malformed)?,
                _ => {}
            }
        }
        source.derives = match derives {
            0 => Derives::Itself,
            1 => Derives::PerValue,
            other => return Err(format!("unknown encryptedDEKSourceType: {other}")),
        };
        if data.is_empty() {
            return Err("encrypted data is empty".into());
        }
        source.validate()?;
        Ok(Self { source, data })
    }
}

impl Status {
    /// Reads a `StatusResponse`.
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        let mut status = Self { version: String::new(), healthz: String::new(), key_id: String::new() };
        for record in Records(bytes) {
            let (number, value) = record.map_err(malformed)?;
            match number {
                1 => status.version = text(value.bytes().map_err(malformed)?)?,
                2 => status.healthz = text(value.bytes().map_err(malformed)?)?,
                3 => status.key_id = text(value.bytes().map_err(malformed)?)?,
                _ => {}
            }
        }
        Ok(status)
    }
}

/// An `EncryptRequest`.
pub(crate) fn encrypt_request(plain: &[u8], uid: &str) -> Bytes {
    let mut out = Vec::new();
    put_bytes(&mut out, 1, plain);
    put_bytes(&mut out, 2, uid.as_bytes());
    out.into()
}

/// Reads an `EncryptResponse` for a seed.
pub(crate) fn encrypt_response(bytes: &[u8]) -> Result<Source, String> {
    let mut source = Source {
        key_id: String::new(),
        encrypted: Bytes::new(),
        annotations: Annotations::new(),
        derives: Derives::PerValue,
    };
    for record in Records(bytes) {
        let (number, value) = record.map_err(malformed)?;
        match number {
            1 => source.encrypted = Bytes::copy_from_slice(value.bytes().map_err(malformed)?),
            2 => source.key_id = text(value.bytes().map_err(malformed)?)?,
            3 => read_annotation(value.bytes().map_err(malformed)?, &mut source.annotations)?,
            _ => {}
        }
    }
    source.validate()?;
    Ok(source)
}

/// A `DecryptRequest`.
pub(crate) fn decrypt_request(source: &Source, uid: &str) -> Bytes {
    let mut out = Vec::new();
    put_bytes(&mut out, 1, &source.encrypted);
    put_bytes(&mut out, 2, uid.as_bytes());
    put_bytes(&mut out, 3, source.key_id.as_bytes());
    put_annotations(&mut out, 4, &source.annotations);
    out.into()
}

/// Reads a `DecryptResponse`.
pub(crate) fn decrypt_response(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let mut plain = Vec::new();
    for record in Records(bytes) {
        let (number, value) = record.map_err(malformed)?;
        if number == 1 {
            plain = value.bytes().map_err(malformed)?.to_vec();
        }
    }
    Ok(plain)
}

fn put_annotations(out: &mut Vec<u8>, number: u32, annotations: &Annotations) {
    for (name, value) in annotations {
        let mut entry = Vec::with_capacity(name.len() + value.len() + 8);
        put_bytes(&mut entry, 1, name.as_bytes());
        put_bytes(&mut entry, 2, value);
        put_head(out, number, entry.len());
        out.extend_from_slice(&entry);
    }
}

fn read_annotation(entry: &[u8], annotations: &mut Annotations) -> Result<(), String> {
    let (mut name, mut value) = (String::new(), Bytes::new());
    for record in Records(entry) {
        let (number, part) = record.map_err(malformed)?;
        match number {
            1 => name = text(part.bytes().map_err(malformed)?)?,
            2 => value = Bytes::copy_from_slice(part.bytes().map_err(malformed)?),
            _ => {}
        }
    }
    annotations.insert(name, value);
    Ok(())
}

fn text(bytes: &[u8]) -> Result<String, String> {
    str::from_utf8(bytes).map(str::to_owned).map_err(|_| "a text is no UTF-8".into())
}

fn malformed(fault: Fault) -> String {
    match fault {
        Fault::Malformed(why) => why.into(),
        Fault::UnknownKind(kind) => kind,
    }
}
