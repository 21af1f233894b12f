//! Messages written by hand, as upstream's encoder writes them.

mod golden;
mod round_trip;

use k8s_core::{doc, doc::Doc, schema::Schemas};

use super::*;

/// A number in seven bits a byte.
fn number(mut value: usize) -> Vec<u8> {
    let mut out = Vec::new();
    while value > 0x7f {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

/// A length-delimited field.
fn bytes(field: usize, value: &[u8]) -> Vec<u8> {
    [number(field << 3 | 2), number(value.len()), value.to_vec()].concat()
}

fn varint_field(field: usize, value: usize) -> Vec<u8> {
    [number(field << 3), number(value)].concat()
}

fn enveloped(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
    let type_meta = [bytes(1, api_version.as_bytes()), bytes(2, kind.as_bytes())].concat();
    [MAGIC.to_vec(), bytes(1, &type_meta), bytes(2, raw), bytes(3, b""), bytes(4, b"")].concat()
}

fn decoded(api_version: &str, kind: &str, raw: &[u8]) -> Doc {
    decode(&enveloped(api_version, kind, raw), &Schemas::builtin()).unwrap()
}

/// `ObjectMeta` as Go writes it: with every empty string and an empty creation time.
fn metadata(name: &str) -> Vec<u8> {
    let label = [bytes(1, b"app"), bytes(2, b"web")].concat();
    let fields = [bytes(1, name.as_bytes()), bytes(2, b""), bytes(3, b""), bytes(4, b""), bytes(5, b"")].concat();
    [fields, bytes(6, b""), varint_field(7, 0), bytes(8, b""), bytes(11, &label)].concat()
}

#[test]
fn a_config_map_and_its_empty_fields() {
    let data = [bytes(1, b"k"), bytes(2, b"v")].concat();
    let binary = [bytes(1, b"b"), bytes(2, b"\x00\xff")].concat();
    let raw = [bytes(1, &metadata("a")), bytes(2, &data), bytes(3, &binary)].concat();
    let expected = doc!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "a", "labels": {"app": "web"}},
        "data": {"k": "v"},
        "binaryData": {"b": "AP8="}
    });
    assert_eq!(decoded("v1", "ConfigMap", &raw), expected);
}

#[test]
fn a_deployment_with_everything_that_is_written_in_its_own_way() {
    // requests: {cpu: 100m}; a probe with httpGet inline, its port by name; a volume with its source inline.
    let quantity = [bytes(1, b"cpu"), bytes(2, &bytes(1, b"100m"))].concat();
    let port = [varint_field(1, 1), varint_field(2, 0), bytes(3, b"http")].concat();
    let get = [bytes(1, b"/"), bytes(2, &port)].concat();
    let probe = [bytes(1, &bytes(2, &get)), varint_field(2, 5)].concat();
    let container = [bytes(1, b"c"), bytes(2, b"i"), bytes(8, &bytes(2, &quantity)), bytes(10, &probe)].concat();
    let volume = [bytes(1, b"v"), bytes(2, &bytes(2, &bytes(1, b"Memory")))].concat();
    let pod = [bytes(1, &volume), bytes(2, &container)].concat();
    let template = [bytes(1, &metadata("")), bytes(2, &pod)].concat();
    let update = [varint_field(1, 0), varint_field(2, 3)].concat();
    let strategy = [bytes(1, b"RollingUpdate"), bytes(2, &bytes(2, &update))].concat();
    let spec = [varint_field(1, 2), bytes(3, &template), bytes(4, &strategy)].concat();
    let raw = [bytes(1, &metadata("web")), bytes(2, &spec), bytes(3, &[])].concat();
    let got = decoded("apps/v1", "Deployment", &raw);
    let container = doc!({
        "name": "c",
        "image": "i",
        "resources": {"requests": {"cpu": "100m"}},
        "livenessProbe": {"httpGet": {"path": "/", "port": "http"}, "initialDelaySeconds": 5}
    });
    assert_eq!(got.at(&["spec", "replicas"]), Some(&2.into()));
    assert_eq!(got.at(&["spec", "strategy", "rollingUpdate", "maxSurge"]), Some(&3.into()));
    assert_eq!(got.at(&["spec", "template", "spec", "containers"]), Some(&Doc::Array(vec![container])));
    let volume = doc!([{"name": "v", "emptyDir": {"medium": "Memory"}}]);
    assert_eq!(got.at(&["spec", "template", "spec", "volumes"]), Some(&volume));
}

#[test]
fn times_and_extras_and_negative_numbers() {
    let time = [varint_field(1, 61), varint_field(2, 7)].concat();
    let extra = [bytes(1, b"scope"), bytes(2, &[bytes(1, b"x"), bytes(1, b"y")].concat())].concat();
    let user = [bytes(1, b"u"), bytes(4, &extra)].concat();
    let status = [varint_field(1, 1), bytes(2, &user)].concat();
    let got = decoded("authentication.k8s.io/v1", "TokenReview", &bytes(3, &status));
    assert_eq!(got.at(&["status", "user", "extra"]), Some(&doc!({"scope": ["x", "y"]})));
    let lease = decoded("coordination.k8s.io/v1", "Lease", &bytes(2, &[bytes(1, b"h"), bytes(3, &time)].concat()));
    assert_eq!(lease.str_at(&["spec", "acquireTime"]), "1970-01-01T00:01:01.000000Z");
    let mut minus_one = vec![1 << 3];
    minus_one.extend([0xff; 9]);
    minus_one.push(1);
    let options = decoded("apps/v1", "DeleteOptions", &minus_one);
    assert_eq!(options.at(&["gracePeriodSeconds"]), Some(&Doc::from(-1)));
}

#[test]
fn what_is_no_message_is_refused_and_nothing_panics() {
    let schemas = Schemas::builtin();
    let good = enveloped("v1", "ConfigMap", &bytes(1, &metadata("a")));
    assert!(decode(&good, &schemas).is_ok());
    assert!(matches!(decode(b"{}", &schemas), Err(Fault::Malformed(_))));
    let custom = enveloped("example.com/v1", "Wheel", &[]);
    assert!(matches!(decode(&custom, &schemas), Err(Fault::UnknownKind(_))));
    let mut refused = 0;
    for at in 4..good.len() {
        refused += usize::from(decode(&good[..at], &schemas).is_err());
        for bit in 0..8 {
            let mut flipped = good.clone();
            flipped[at] ^= 1 << bit;
            refused += usize::from(decode(&flipped, &schemas).is_err());
        }
    }
    assert!(refused > good.len(), "{refused} of the damaged messages were refused");
}

/// A message nested in itself: field `number` of field `number` of ...
fn nested(path: &[usize], mut inner: Vec<u8>) -> Vec<u8> {
    for field in path.iter().rev() {
        inner = bytes(*field, &inner);
    }
    inner
}

#[test]
fn nesting_has_an_end_however_it_is_made() {
    let schemas = Schemas::builtin();
    // spec, versions, schema, openAPIV3Schema; then `not`, which is a message, or `properties`, whose entries hold one.
    let (start, not, property) = ([2, 7, 4, 1], [28].as_slice(), [29, 2].as_slice());
    let mut refused = 0;
    for first in [0, 1] {
        for (step, depth) in [(not, 5), (not, 100), (property, 5), (property, 31), (property, 100), (property, 5000)] {
            let mut path = start.to_vec();
            path.extend(not.repeat(first));
            path.extend(step.repeat(depth));
            let raw = nested(&path, Vec::new());
            let body = enveloped("apiextensions.k8s.io/v1", "CustomResourceDefinition", &raw);
            match decode(&body, &schemas) {
                Ok(_) => assert!(depth < 50),
                Err(fault) => {
                    assert_eq!(fault, Fault::Malformed("nested too deeply"));
                    refused += 1;
                }
            }
        }
    }
    assert!(refused >= 6, "{refused}");
}

#[test]
fn a_field_number_of_zero_is_refused() {
    let body = enveloped("v1", "ConfigMap", &[2, 1, b'x']);
    assert!(matches!(decode(&body, &Schemas::builtin()), Err(Fault::Malformed(_))));
}

#[test]
fn schemas_of_custom_kinds() {
    let all = doc!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {}, "spec": {
        "group": "g", "scope": "Cluster", "names": {"plural": "ws", "kind": "W"}, "versions": [{
            "name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                "items": {"type": "string"},
                "additionalProperties": true,
                "properties": {"a": {"items": [{"type": "integer"}]}, "b": {"additionalProperties": {"type": "string"}}},
                "dependencies": {"x": ["y", "z"], "y": {"type": "object"}},
                "default": {"k": [1, null]},
                "maximum": 1.5
            }}
        }]
    }});
    let schemas = Schemas::builtin();
    let message = Message::of(&schemas, &all).unwrap();
    let read = decode(&message.object(&all.to_json()).unwrap(), &schemas).unwrap();
    let at = ["spec", "versions", "0", "schema", "openAPIV3Schema"];
    let schema = |doc: &Doc| doc.at(&at).cloned().unwrap();
    assert_eq!(schema(&read), schema(&all));
}
