//! Keys, key files, upstream's configuration, sealed values.

use k8s_core::registry::Registry;

use super::{key, keys, secrets};
use crate::storage::{Encryption, Keys, envelope};

const KEY: &str = "/registry/secrets/n/s";

#[test]
fn a_sealed_value_says_its_key_and_opens_with_it_where_it_belongs() {
    let all = keys(&[("new", 1), ("old", 2)]);
    for (name, byte) in [("new", 1), ("old", 2)] {
        let sealed = envelope::seal(&key(name, byte), KEY, b"plain").unwrap();
        assert!(sealed.starts_with(format!("k8s:enc:aesgcm:v1:{name}:").as_bytes()));
        assert_eq!(envelope::key_id(&sealed), Some(format!("aesgcm:v1:{name}")));
        assert_eq!(envelope::open(&all, KEY, &sealed).as_deref(), Ok(&b"plain"[..]));
        assert_eq!(sealed.len(), "k8s:enc:aesgcm:v1:new:".len() + 12 + 5 + 16, "nonce, text, tag: as upstream");
    }
    let (one, two) = (key("k", 1), key("k", 1));
    assert_ne!(envelope::seal(&one, KEY, b"x").unwrap(), envelope::seal(&two, KEY, b"x").unwrap(), "no nonce twice");
}

#[test]
fn what_was_altered_moved_or_sealed_otherwise_does_not_open() {
    let sealed = envelope::seal(&key("k", 1), KEY, b"plain").unwrap();
    let mine = keys(&[("k", 1)]);
    let why = |keys: &Keys, context: &str, value: &[u8]| envelope::open(keys, context, value).unwrap_err();
    for place in 0..sealed.len() {
        let mut altered = sealed.to_vec();
        altered[place] ^= 1;
        assert!(envelope::open(&mine, KEY, &altered).is_err(), "byte {place}");
    }
    for length in 0..sealed.len() {
        assert!(envelope::open(&mine, KEY, &sealed[..length]).is_err(), "{length} bytes");
    }
    assert!(why(&mine, "/registry/secrets/n/t", &sealed).contains("moved"));
    assert!(why(&keys(&[("k", 9)]), KEY, &sealed).contains("aesgcm:v1:k does not open it"));
    let other = why(&keys(&[("a", 1), ("b", 1)]), KEY, &sealed);
    assert_eq!(other, "it is encrypted with aesgcm:v1:k, and the keys given are a, b");
    assert!(why(&mine, KEY, b"k8s:enc:secretbox:v1:x:12345").contains("secretbox:v1:x"));
}

#[test]
fn key_files_read_back_and_errors_name_the_line_and_never_show_it() {
    let generated = Keys::generate().unwrap();
    let text = format!("\n# comment\n{}old AAAAAAAAAAAAAAAAAAAAAA==\n", generated.to_text());
    let read = Keys::parse(&text).unwrap();
    let first = generated.first().unwrap().name().to_owned();
    assert_eq!(read.names().collect::<Vec<_>>(), [first.as_str(), "old"]);
    let sealed = envelope::seal(generated.first().unwrap(), KEY, b"x").unwrap();
    assert_eq!(envelope::open(&read, KEY, &sealed).as_deref(), Ok(&b"x"[..]));
    assert_eq!(format!("{generated:?}"), format!("Keys([EncryptionKey({first:?})])"));
    for (text, expected) in [
        ("", "encryption keys: there is none"),
        ("a\n", "line 1: a name and"),
        ("\na c2VjcmV0\n", "line 2: encryption key \"a\": it has 6 bytes; 16, 24 or 32 are expected"),
        ("a c2VjcmV0LW\n", "line 1: a name and 16, 24 or 32 bytes in base64 are expected"),
        ("a:b AAAAAAAAAAAAAAAAAAAAAA==", "its name must be"),
        ("a AAAAAAAAAAAAAAAAAAAAAA==\na AAAAAAAAAAAAAAAAAAAAAA==", "two are called \"a\""),
    ] {
        let error = Keys::parse(text).unwrap_err().to_string();
        assert!(error.contains(expected), "{text:?}: {error}");
        assert!(!error.contains("c2VjcmV0"), "{error}");
    }
}

fn configuration(resources: &str) -> Result<Encryption, String> {
    let text =
        format!("apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n{resources}");
    Encryption::from_configuration(&text, &Registry::builtin()).map_err(|error| error.to_string())
}

const AESGCM: &str = "aesgcm: {keys: [{name: k1, secret: AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=}]}";

#[test]
fn upstreams_configuration_is_read() {
    let text = format!("- resources: [secrets, deployments.apps]\n  providers: [{{{AESGCM}}}, {{identity: {{}}}}]\n");
    let encryption = configuration(&text).unwrap();
    let sealed = encryption.seal(KEY, b"x").unwrap().unwrap();
    assert_eq!(
        secrets(&[("k1", 1)]).open(KEY, &sealed).unwrap().as_deref(),
        Some(&b"x"[..]),
        "the key is the one given"
    );
    assert!(encryption.seal("/registry/deployments/n/d", b"x").unwrap().is_some());
    assert!(encryption.seal("/registry/configmaps/n/c", b"x").unwrap().is_none());
    assert!(encryption.is_stale(KEY, b"{}") && !encryption.is_stale(KEY, &sealed));

    // Identity first: nothing is encrypted any more, and what is can still be read.
    let off =
        configuration(&format!("- resources: ['*.']\n  providers: [{{identity: {{}}}}, {{{AESGCM}}}]\n")).unwrap();
    assert!(off.seal(KEY, b"x").unwrap().is_none());
    assert_eq!(off.open(KEY, &sealed).unwrap().as_deref(), Some(&b"x"[..]));
    assert!(off.is_stale(KEY, &sealed) && !off.is_stale(KEY, b"{}"));
    let all = configuration(&format!("- resources: ['*.*']\n  providers: [{{{AESGCM}}}]\n")).unwrap();
    assert!(all.seal("/registry/leases/n/l", b"x").unwrap().is_some());
}

#[test]
fn what_of_upstreams_configuration_is_not_supported_is_refused_by_name() {
    let with =
        |provider: &str| configuration(&format!("- resources: [secrets]\n  providers: [{provider}]\n")).unwrap_err();
    assert_eq!(
        with("{kms: {name: x, endpoint: y}}"),
        "resources[0].providers[0].kms: this provider is not supported; aesgcm and identity are"
    );
    assert!(with("{identity: {}}, {secretbox: {keys: []}}").starts_with("resources[0].providers[1].secretbox:"));
    assert!(with("{aescbc: {keys: []}}").contains("aescbc"));
    assert!(with("{aesgcm: {keys: []}}").contains("at least one"));
    assert!(with("").contains("providers: at least one"));
    let bad = with("{aesgcm: {keys: [{name: k, secret: c2VjcmV0}]}}");
    assert!(bad.contains("aesgcm.keys[0]: encryption key \"k\": it has 6 bytes"), "{bad}");
    let unread = with("{aesgcm: {keys: [{name: k, sekret: c2VjcmV0}]}}");
    assert!(unread.contains("near line") && !unread.contains("c2VjcmV0"), "{unread}");
    let unknown = configuration(&format!("- resources: [sekrets]\n  providers: [{{{AESGCM}}}]\n")).unwrap_err();
    assert_eq!(unknown, "resources[0].resources[0]: \"sekrets\" is no kind that is stored");
    let other = Encryption::from_configuration("{apiVersion: v1, kind: Pod}", &Registry::builtin());
    assert!(other.unwrap_err().to_string().contains("not Pod of v1"));
}
