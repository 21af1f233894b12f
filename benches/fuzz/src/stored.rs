//! What is read back from a store or from beside it: objects, sealed values, keys, the encryption's configuration.

use std::sync::{Arc, OnceLock};

use k8s_apiserver::storage::{Encrypted, Encryption, EncryptionKey, Keys};
use k8s_core::{doc::Doc, object::Object, registry::Registry};
use k8s_store::{Memory, Store, Transaction};

use crate::quiet::Quiet;

const KEY: &str = "/registry/secrets/n/a";

/// A letter says what the bytes are.
pub fn run(input: &[u8]) {
    let [what, bytes @ ..] = input else { return };
    match what {
        b'o' => object(bytes),
        b's' => sealed(bytes),
        b'k' => keys(bytes),
        _ => configuration(bytes),
    }
}

fn object(bytes: &[u8]) {
    // What is not looked at may be nested more deeply than we read, and hold half a character.
    let is_ours = Doc::parse(bytes).is_ok();
    let Ok(object) = Object::from_json(bytes.to_vec().into(), Some(7)) else { return };
    if !is_ours {
        return;
    }
    let shown = object.to_json();
    let doc = Doc::parse(&shown).unwrap_or_else(|why| panic!("{}: {why}", String::from_utf8_lossy(&shown)));
    assert_eq!(doc.str_at(&["metadata", "resourceVersion"]), "7", "{doc}");
    assert_eq!(doc.str_at(&["metadata", "name"]), object.meta.name, "{doc}");
    assert_eq!(doc.str_at(&["metadata", "uid"]), object.meta.uid, "{doc}");
    let mut again = doc.clone();
    let encoded = Object::from_doc(&mut again, 7).unwrap_or_else(|why| panic!("{doc} was shown, but {why}"));
    assert_eq!(Doc::parse(&encoded.to_json()).ok(), Some(doc));
    assert_eq!(encoded.meta.name, object.meta.name);
}

/// Nobody makes up a value that our key opens.
fn sealed(bytes: &[u8]) {
    let key = EncryptionKey::new("one", &[7; 32]).and_then(|key| Keys::new(vec![key]));
    let Ok(keys) = key else { panic!("a sound key was refused") };
    let quiet = Quiet::new();
    let below: Arc<dyn Store> = Arc::new(Memory::new(quiet.env.clone()));
    let above = Encrypted::new(below.clone(), Encryption::of_secrets(keys));
    quiet.run(async {
        let written = below.commit(Transaction::new().put(KEY, bytes.to_vec())).await;
        assert!(written.is_ok() || bytes.len() > 1 << 20, "{written:?}");
        let read = above.get(&KEY.into()).await;
        if bytes.starts_with(b"k8s:enc:") {
            assert!(read.is_err(), "somebody made up a sealed value: {read:?}");
        } else if let Ok(Some(entry)) = read {
            assert_eq!(entry.value, bytes, "a plain value is read as it is");
        }
    });
}

fn keys(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(keys) = Keys::parse(text) else { return };
    let written = keys.to_text();
    let again = Keys::parse(&written).unwrap_or_else(|why| panic!("keys were written, but {why}"));
    assert_eq!(again.to_text(), written);
    assert!(keys.names().eq(again.names()));
}

fn configuration(bytes: &[u8]) {
    static REGISTRY: OnceLock<Registry> = OnceLock::new();
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    // It may fail, and says why.
    if let Err(why) = Encryption::from_configuration(text, REGISTRY.get_or_init(Registry::builtin)) {
        assert!(!why.to_string().is_empty());
    }
}
