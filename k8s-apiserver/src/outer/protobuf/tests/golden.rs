//! Bytes written out by hand from the numbers of upstream's `generated.proto` and the rules of its generator: fields by
//! number, entries by key, and what Go holds by value also when it is empty.

use super::*;

/// The message of an object, out of its envelope.
fn written(api_version: &str, kind: &str, object: Doc) -> Vec<u8> {
    let message = Message::builtin(&Schemas::builtin(), api_version, kind).unwrap();
    let all = message.object(&object.to_json()).unwrap();
    let type_meta = [bytes(1, api_version.as_bytes()), bytes(2, kind.as_bytes())].concat();
    let head = [b"k8s\0".to_vec(), bytes(1, &type_meta)].concat();
    let rest = all.strip_prefix(head.as_slice()).expect("the envelope names the kind");
    let rest = rest.strip_suffix(&[0x1a, 0, 0x22, 0]).expect("no content encoding, no content type");
    // Field 2 and its length, in one byte or two.
    assert_eq!(rest[0], 0x12);
    let (length, raw) = match rest[1] {
        short @ 0..0x80 => (usize::from(short), &rest[2..]),
        low => (usize::from(low & 0x7f) | usize::from(rest[2]) << 7, &rest[3..]),
    };
    assert_eq!(raw.len(), length);
    raw.to_vec()
}

/// `ObjectMeta` of a name and nothing else, but for `more` behind it.
fn meta(name: &str, more: &[u8]) -> Vec<u8> {
    let mut out = bytes(1, name.as_bytes());
    for empty in 2..=6 {
        out.extend(bytes(empty, b""));
    }
    out.extend(varint_field(7, 0));
    out.extend(bytes(8, b""));
    out.extend_from_slice(more);
    out
}

#[test]
fn a_config_map_byte_by_byte() {
    let object = doc!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "data": {"z": "1", "a": ""},
        "binaryData": {"b": "AP8="},
        "metadata": {"labels": {"app": "web"}, "name": "m", "creationTimestamp": "1970-01-01T00:01:01Z"}
    });
    let expected = b"\x0a\x21\
        \x0a\x01m\x12\x00\x1a\x00\x22\x00\x2a\x00\x32\x00\x38\x00\
        \x42\x04\x08\x3d\x10\x00\
        \x5a\x0a\x0a\x03app\x12\x03web\
        \x12\x05\x0a\x01a\x12\x00\
        \x12\x06\x0a\x01z\x12\x011\
        \x1a\x07\x0a\x01b\x12\x02\x00\xff";
    assert_eq!(written("v1", "ConfigMap", object), expected);
}

#[test]
fn a_service_with_ports_by_number_and_by_name() {
    let object = doc!({
        "metadata": {"name": "s"},
        "spec": {"ports": [
            {"port": 80, "protocol": "TCP", "targetPort": "http"},
            {"port": 443, "targetPort": 8443, "nodePort": 30000}
        ]}
    });
    let by_name = [varint_field(1, 1), varint_field(2, 0), bytes(3, b"http")].concat();
    // 8443 is 0x20fb: seven bits, then the rest.
    let by_number = [varint_field(1, 0), vec![2 << 3, 0xfb, 0x41], bytes(3, b"")].concat();
    // 30000 is 0x7530.
    let first = [bytes(1, b""), bytes(2, b"TCP"), varint_field(3, 80), bytes(4, &by_name), varint_field(5, 0)].concat();
    let second =
        [bytes(1, b""), bytes(2, b""), vec![3 << 3, 0xbb, 0x03], bytes(4, &by_number), vec![5 << 3, 0xb0, 0xea, 0x01]]
            .concat();
    // clusterIP, type, sessionAffinity, loadBalancerIP, externalName, externalTrafficPolicy, healthCheckNodePort and
    // publishNotReadyAddresses are held by value; sessionAffinityConfig, ipFamilyPolicy, allocateLoadBalancerNodePorts,
    // loadBalancerClass, internalTrafficPolicy and trafficDistribution are pointers.
    let empty =
        [(3, b""), (4, b""), (7, b""), (8, b""), (10, b""), (11, b"")].map(|(number, text)| bytes(number, text));
    let numbers = [varint_field(12, 0), varint_field(13, 0)].concat();
    let spec = [bytes(1, &first), bytes(1, &second), empty.concat(), numbers].concat();
    let status = bytes(1, b"");
    let expected = [bytes(1, &meta("s", b"")), bytes(2, &spec), bytes(3, &status)].concat();
    assert_eq!(written("v1", "Service", object), expected);
}

#[test]
fn a_lease_and_its_times() {
    let object = doc!({
        "metadata": {"name": "l"},
        "spec": {"renewTime": "1970-01-01T00:01:01.000007Z", "holderIdentity": "h", "leaseDurationSeconds": 15}
    });
    // 7 microseconds are 7000 nanoseconds: 0x1b58.
    let time = [varint_field(1, 61), vec![2 << 3, 0xd8, 0x36]].concat();
    let spec = [bytes(1, b"h"), varint_field(2, 15), bytes(4, &time)].concat();
    let expected = [bytes(1, &meta("l", b"")), bytes(2, &spec)].concat();
    assert_eq!(written("coordination.k8s.io/v1", "Lease", object), expected);
}

#[test]
fn a_container_with_quantities_and_a_probe() {
    let object = doc!({
        "template": {"metadata": {"name": ""}, "spec": {
            "containers": [{
                "name": "c",
                "resources": {"limits": {"memory": "1Gi", "cpu": "500m"}},
                "livenessProbe": {"httpGet": {"port": 80}, "periodSeconds": 5}
            }],
            "volumes": [{"name": "v", "emptyDir": {}}]
        }}
    });
    let quantity = |name: &[u8], value: &[u8]| bytes(1, &[bytes(1, name), bytes(2, &bytes(1, value))].concat());
    let resources = [quantity(b"cpu", b"500m"), quantity(b"memory", b"1Gi")].concat();
    let port = [varint_field(1, 0), varint_field(2, 80), bytes(3, b"")].concat();
    let get = [bytes(1, b""), bytes(2, &port), bytes(3, b""), bytes(4, b"")].concat();
    let counts = [2, 3, 4, 5, 6].map(|number| varint_field(number, if number == 4 { 5 } else { 0 })).concat();
    let probe = [bytes(1, &bytes(2, &get)), counts].concat();
    let container = [
        bytes(1, b"c"),
        bytes(2, b""),
        bytes(5, b""),
        bytes(8, &resources),
        bytes(10, &probe),
        bytes(13, b""),
        bytes(14, b""),
        varint_field(16, 0),
        varint_field(17, 0),
        varint_field(18, 0),
        bytes(20, b""),
    ]
    .concat();
    let volume = [bytes(1, b"v"), bytes(2, &bytes(2, &bytes(1, b"")))].concat();
    let spec_head = [bytes(1, &volume), bytes(2, &container)].concat();
    let got = written("v1", "PodTemplate", object);
    let found = got.windows(spec_head.len()).any(|window| window == spec_head);
    assert!(found, "{got:?}\nhas no\n{spec_head:?}");
}
