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

const REFUSED_PLUGINS: [(&str, &str); 12] = [
    ("{name: a, endpoint: 'unix:///a'}", "apiVersion: version v1 of KMS is deprecated and off; v2 is expected"),
    ("{apiVersion: v1, name: a}", "apiVersion: version v1 of KMS is deprecated and off; v2 is expected"),
    ("{apiVersion: v3, name: a}", "apiVersion: unsupported version \"v3\"; v2 is expected"),
    ("{apiVersion: v2}", "name: name is a mandatory field for a provider"),
    ("{apiVersion: v2, name: 'a:b'}", "name: invalid KMS provider name a:b, must not contain ':'"),
    ("{apiVersion: v2, name: a, timeout: 0s}", "timeout: timeout should be a positive value"),
    ("{apiVersion: v2, name: a, timeout: -3s}", "timeout: timeout should be a positive value"),
    ("{apiVersion: v2, name: a, timeout: soon}", "timeout: \"soon\" is no duration such as 1h30m, 15s or 500ms"),
    ("{apiVersion: v2, name: a}", "endpoint: endpoint is a mandatory field for a kms"),
    (
        "{apiVersion: v2, name: a, endpoint: 'tcp://127.0.0.1:1'}",
        "endpoint: unsupported scheme \"tcp\" for KMS provider, only unix is supported",
    ),
    ("{apiVersion: v2, name: a, endpoint: 'unix://'}", "endpoint: the path of a socket is expected behind unix://"),
    ("{apiVersion: v2, name: a, endpoint: 'unix:///a', cachesize: 9}", "cachesize: cachesize is not supported in v2"),
];

#[test]
fn what_of_upstreams_configuration_is_not_supported_is_refused_by_name() {
    let with =
        |provider: &str| configuration(&format!("- resources: [secrets]\n  providers: [{provider}]\n")).unwrap_err();
    for (provider, expected) in REFUSED_PLUGINS {
        let said = with(&format!("{{kms: {provider}}}"));
        assert_eq!(said, format!("resources[0].providers[0].kms.{expected}"), "{provider}");
    }
    let twice = "{kms: {apiVersion: v2, name: a, endpoint: 'unix:///a'}}";
    let said = with(&format!("{twice}, {twice}"));
    assert!(said.starts_with("resources[0].providers[1].kms.name: duplicate KMS provider name a"), "{said}");
    assert!(with("{identity: {}, aesgcm: {keys: []}}").contains("providers[0]: more than one provider"));
    assert!(with("{}").contains("providers[0]: one of the providers kms, aesgcm, aescbc, secretbox and identity"));
    assert!(with("{identity: {}}, {secretbox: {keys: []}}").starts_with("resources[0].providers[1].secretbox.keys:"));
    let short = with("{secretbox: {keys: [{name: k, secret: AAAAAAAAAAAAAAAAAAAAAA==}]}}");
    assert!(short.ends_with("it has 16 bytes; 32 are expected"), "{short}");
    assert!(with("{aescbc: {keys: [{secret: AAAA}]}}").contains("aescbc.keys[0].name: it is mandatory"));
    assert!(with("{aescbc: {keys: []}}").contains("aescbc"));
    assert!(with("{aesgcm: {keys: []}}").contains("at least one"));
    assert!(with("").contains("providers: at least one"));
    let bad = with("{aesgcm: {keys: [{name: k, secret: c2VjcmV0}]}}");
    assert!(bad.contains("aesgcm.keys[0]: encryption key \"k\": it has 6 bytes"), "{bad}");
    let unread = with("{aesgcm: {keys: [{name: k, sekret: c2VjcmV0}]}}");
    assert!(unread.contains("near line") && !unread.contains("c2VjcmV0"), "{unread}");
    let unknown = configuration(&format!("- resources: [sekrets]\n  providers: [{{{AESGCM}}}]\n")).unwrap_err();
    assert_eq!(unknown, "resources[0].resources[0]: \"sekrets\" is no kind that is stored");
    for (names, expected) in [
        ("[]", "resources: at least one"),
        ("[Secrets]", "resources[0]: resource name should not contain capital letters"),
        ("['*']", "resources[0]: use '*.'"),
        ("[secrets, serviceipallocations]", "resources[1]: resources which do not have REST API/s"),
        ("[events.events.k8s.io]", "resources[0]: Events are kept with those of the core group"),
        ("[ingresses.extensions]", "resources[0]: 'extensions' group has been removed"),
        ("['secrets.*']", "resources[0]: encrypting the same resource across groups"),
        ("[deploymentz.apps]", "resources[0]: \"deploymentz.apps\" is no kind that is stored"),
        ("[secrets, secrets]", "resources: the same resource cannot be specified multiple times"),
        ("[secrets, '*.']", "resources: using overlapping resources"),
        ("[deployments.apps, '*.*']", "resources: using overlapping resources"),
    ] {
        let said = configuration(&format!("- resources: {names}\n  providers: [{{{AESGCM}}}]\n")).unwrap_err();
        assert!(said.starts_with(&format!("resources[0].{expected}")), "{names}: {said}");
    }
    let empty = "{apiVersion: apiserver.config.k8s.io/v1, kind: EncryptionConfiguration, resources: []}";
    let empty = Encryption::from_configuration(empty, &Registry::builtin());
    assert_eq!(empty.unwrap_err().to_string(), "resources: at least one is expected");
    let other = Encryption::from_configuration("{apiVersion: v1, kind: Pod}", &Registry::builtin());
    assert!(other.unwrap_err().to_string().contains("not Pod of v1"));
}

/// Values as other implementations write them: OpenSSL for CBC, and Python's `cryptography` and the papers' formulas
/// for `secretbox`. The plain text is [`PLAIN`], the key 32 bytes of 1.
const WRITTEN_ELSEWHERE: [(&str, &str); 2] = [
    (
        "secretbox",
        "000102030405060708090a0b0c0d0e0f1011121314151617bab75b19b4a9b95ff88f26cac4145e54f535ff157a6782964fa0145bda9fbc\
         e023",
    ),
    ("aescbc", "000102030405060708090a0b0c0d0e0f97cef43f098c19cf6866cd19400e8acd2ee7d0cd61a164bd38006818da0c10c4"),
];
pub(super) const PLAIN: &[u8] = b"{\"kind\":\"Secret\"}";

pub(super) fn unhex(text: &str) -> Vec<u8> {
    let byte = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(byte).collect()
}

#[test]
fn what_others_wrote_is_read_and_what_is_written_has_their_form() {
    for (provider, written) in WRITTEN_ELSEWHERE {
        let of = |byte: &str| {
            let secret = byte.repeat(10);
            configuration(&format!(
                "- resources: [secrets]\n  providers: [{{{provider}: {{keys: [{{name: k, secret: {secret}{}=}}]}}}}]\n",
                &byte[..3]
            ))
            .unwrap()
        };
        let (right, wrong) = (of("AQEB"), of("AgIC"));
        let prefix = format!("k8s:enc:{provider}:v1:k:");
        let stored = [prefix.as_bytes(), &unhex(written)].concat();
        assert_eq!(right.open(KEY, &stored).unwrap().as_deref(), Some(PLAIN), "{provider}");
        assert!(wrong.open(KEY, &stored).is_err(), "{provider}");
        assert!(!right.is_stale(KEY, &stored), "{provider}");
        let sealed = right.seal(KEY, PLAIN).unwrap().unwrap();
        assert!(sealed.starts_with(prefix.as_bytes()) && sealed.len() == stored.len(), "{provider}");
        assert_ne!(sealed, stored, "{provider}: no nonce twice");
        assert_eq!(right.open(KEY, &sealed).unwrap().as_deref(), Some(PLAIN), "{provider}");
        for length in 0..stored.len() {
            assert!(right.open(KEY, &stored[..length]).unwrap_or_default().is_none(), "{provider}: {length} bytes");
        }
        if provider == "secretbox" {
            for place in prefix.len()..stored.len() {
                let mut altered = stored.clone();
                altered[place] ^= 1;
                assert!(right.open(KEY, &altered).is_err(), "byte {place}");
            }
        }
    }
}

#[test]
fn keys_of_all_providers_read_and_the_first_writes() {
    let order = ["secretbox", "aescbc", "aesgcm"];
    let of = |first: usize| {
        let element = |name: &str| format!("{{{name}: {{keys: [{{name: k, secret: {}AQE=}}]}}}}", "AQEB".repeat(10));
        let all: Vec<String> = (0..3).map(|at| element(order[(first + at) % 3])).collect();
        configuration(&format!("- resources: [secrets]\n  providers: [{}, {{identity: {{}}}}]\n", all.join(", ")))
            .unwrap()
    };
    for (number, name) in order.into_iter().enumerate() {
        let sealed = of(number).seal(KEY, PLAIN).unwrap().unwrap();
        assert!(sealed.starts_with(format!("k8s:enc:{name}:v1:k:").as_bytes()));
        for (other, by) in order.into_iter().enumerate() {
            assert_eq!(of(other).open(KEY, &sealed).unwrap().as_deref(), Some(PLAIN), "{name} by {by}");
            assert_eq!(of(other).is_stale(KEY, &sealed), other != number);
        }
    }
}

#[test]
fn custom_kinds_are_named_before_they_are_there() {
    let with = |names: &str| configuration(&format!("- resources: {names}\n  providers: [{{{AESGCM}}}]\n")).unwrap();
    let sealed = |encryption: &Encryption, key: &str| encryption.seal(key, b"x").unwrap().is_some();
    let (one, group, all) = (with("[vaults.example.com]"), with("['*.example.com']"), with("['*.*']"));
    for (key, expected) in [
        ("/registry/example.com/vaults/n/v", [true, true, true]),
        ("/registry/example.com/vaults/v", [true, true, true]),
        ("/registry/example.com/doors/n/d", [false, true, true]),
        ("/registry/other.example.com/vaults/n/v", [false, false, true]),
        ("/registry/apiextensions.k8s.io/customresourcedefinitions/vaults.example.com", [false, false, true]),
        ("/registry/secrets/example.com/vaults", [false, false, true]),
        ("/registry/watch-cache/rebuilt", [false, false, false]),
    ] {
        assert_eq!([&one, &group, &all].map(|encryption| sealed(encryption, key)), expected, "{key}");
    }
}
