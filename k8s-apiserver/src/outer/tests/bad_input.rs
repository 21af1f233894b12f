//! What nobody should send: each row gets its answer, and the door is not asked.

use futures::StreamExt;

use super::{super::*, fake::*};

async fn refused(outer: &Outer, door: &FakeDoor, name: &str, request: Request<Body>, code: u16) {
    let before = door.seen.lock().len();
    let got = call(outer, request).await;
    assert_eq!(got.code, code, "{name}: {}", got.body);
    assert_eq!(got.json().str_at(&["kind"]), "Status", "{name}");
    assert_eq!(got.json().at(&["code"]).and_then(|code| code.as_i64()), Some(i64::from(code)), "{name}");
    assert_eq!(door.seen.lock().len(), before, "{name}: the door was asked");
    assert_eq!(get(outer, CONFIG_MAPS).await.code, 200, "{name}: the next request is served");
}

fn post(text: impl Into<bytes::Bytes>) -> Request<Body> {
    request("POST", CONFIG_MAPS).header("content-type", JSON).body(body::full(text)).unwrap()
}

#[tokio::test]
async fn bodies() {
    let (outer, door) = outer();
    let two = format!("{0}{0}", config_map("a"));
    let mut cut = config_map("a").into_bytes();
    cut.extend_from_slice(b"\xff");
    let rows: Vec<(&str, bytes::Bytes, u16)> = vec![
        ("empty", "".into(), 400),
        ("trailing bytes", format!("{}x", config_map("a")).into(), 400),
        ("two objects", two.into(), 400),
        ("invalid UTF-8", cut.into(), 400),
        ("lone surrogate", r#"{"metadata":{"name":"\ud800"}}"#.into(), 400),
        ("byte order mark", format!("\u{feff}{}", config_map("a")).into(), 400),
        ("an array", "[]".into(), 400),
        ("deep nesting", "[".repeat(1_000_000).into(), 400),
        ("one byte too many", " ".repeat(MAX_BODY_BYTES + 1).into(), 413),
    ];
    for (name, text, code) in rows {
        refused(&outer, &door, name, post(text), code).await;
    }
}

#[tokio::test]
async fn a_body_without_end_is_cut_at_the_limit() {
    let (outer, door) = outer();
    let sent = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counter = sent.clone();
    let endless = futures::stream::repeat_with(move || {
        counter.fetch_add(64 * 1024, std::sync::atomic::Ordering::Relaxed);
        Ok::<_, Infallible>(bytes::Bytes::from_static(&[b' '; 64 * 1024]))
    });
    let request = request("POST", CONFIG_MAPS).header("content-type", JSON).body(body::stream(endless)).unwrap();
    refused(&outer, &door, "endless", request, 413).await;
    assert!(sent.load(std::sync::atomic::Ordering::Relaxed) <= MAX_BODY_BYTES + 128 * 1024);
}

#[tokio::test]
async fn a_body_that_ends_early_is_told_apart() {
    let (outer, door) = outer();
    let broken = futures::stream::iter([Ok(bytes::Bytes::from_static(b"{")), Err("reset")]).boxed();
    let request = request("POST", CONFIG_MAPS).header("content-type", JSON).body(body::stream(broken)).unwrap();
    refused(&outer, &door, "cut off", request, 400).await;
}

#[tokio::test]
async fn yaml_that_explodes_is_refused_quickly() {
    let (outer, door) = outer();
    let mut bomb = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x]\n");
    for n in 1..30 {
        let of = vec![format!("*a{}", n - 1); 9].join(",");
        bomb.push_str(&format!("a{n}: &a{n} [{of}]\n"));
    }
    let quadratic = format!("a: {}", "{".repeat(200_000));
    for (name, text) in [("billion laughs", bomb), ("quadratic", quadratic)] {
        let env = k8s_wire::env::System::current();
        let began = env.monotonic();
        let request = request("POST", CONFIG_MAPS).header("content-type", "application/yaml");
        refused(&outer, &door, name, request.body(body::full(text)).unwrap(), 400).await;
        let took = env.monotonic() - began;
        assert!(took < Duration::from_secs(5), "{name} took {took:?}");
    }
}

#[tokio::test]
async fn media_types() {
    let (outer, door) = outer();
    let rows = [
        ("POST", "text/plain", 415),
        ("POST", "application/vnd.kubernetes.protobuf", 400),
        ("PATCH", "application/vnd.kubernetes.protobuf", 415),
        ("POST", "application/merge-patch+json", 415),
        ("PUT", "application/xml", 415),
        ("PATCH", "application/json", 415),
        ("PATCH", "", 415),
        ("DELETE", "text/plain", 415),
    ];
    for (method, media_type, code) in rows {
        let path = if method == "POST" { CONFIG_MAPS.to_owned() } else { format!("{CONFIG_MAPS}/a") };
        let request = request(method, &path).header("content-type", media_type).body(body::full("{}")).unwrap();
        refused(&outer, &door, &format!("{method} {media_type}"), request, code).await;
    }
    let compressed = request("POST", CONFIG_MAPS).header("content-encoding", "gzip").body(body::full("x")).unwrap();
    refused(&outer, &door, "gzip", compressed, 415).await;
    let accept = request("GET", CONFIG_MAPS).header("accept", "image/png").body(body::empty()).unwrap();
    refused(&outer, &door, "accept", accept, 406).await;
}

#[tokio::test]
async fn heads() {
    let (outer, door) = outer();
    let long = format!("{CONFIG_MAPS}?labelSelector={}", "a".repeat(60_000));
    refused(&outer, &door, "long URI", request("GET", &long).body(body::empty()).unwrap(), 414).await;
    let mut many = request("GET", CONFIG_MAPS);
    for n in 0..600 {
        many = many.header(format!("x-{n}"), "y");
    }
    refused(&outer, &door, "many headers", many.body(body::empty()).unwrap(), 431).await;
    let large = request("GET", CONFIG_MAPS).header("x-a", "a".repeat(200_000)).body(body::empty()).unwrap();
    refused(&outer, &door, "large header", large, 431).await;
    for path in ["/api/v1/namespaces/%2e%2e/pods", "/api/v1/namespaces/a%2fb/pods", "/api/v1/namespaces/n/pods/a%00b"] {
        refused(&outer, &door, path, request("GET", path).body(body::empty()).unwrap(), 400).await;
        let watched = format!("{path}?watch=true");
        refused(&outer, &door, &watched, request("GET", &watched).body(body::empty()).unwrap(), 400).await;
    }
    let selector = format!("{CONFIG_MAPS}?labelSelector=a%20in%20(");
    refused(&outer, &door, "selector", request("GET", &selector).body(body::empty()).unwrap(), 400).await;
    let fence = request("DELETE", &format!("{CONFIG_MAPS}/a")).header("k8s-fence", "nonsense").body(body::empty());
    refused(&outer, &door, "fence", fence.unwrap(), 400).await;
    refused(&outer, &door, "method", request("BREW", CONFIG_MAPS).body(body::empty()).unwrap(), 405).await;
    for method in ["POST", "DELETE"] {
        let everywhere = request(method, "/api/v1/configmaps").body(body::full(config_map("a"))).unwrap();
        refused(&outer, &door, "all namespaces at once", everywhere, 405).await;
    }
    for nowhere in [
        "/apis/nothing.io/v1/things",
        "/api/v1/namespaces/n/namespaces/x",
        "/apis/example.com/v1/namespaces/n/roads/x",
        "/api/v1/configmaps/x",
        "/api/v1/namespaces/n/configmaps/x/status",
    ] {
        refused(&outer, &door, nowhere, request("GET", nowhere).body(body::empty()).unwrap(), 404).await;
    }
}

#[tokio::test]
async fn identities() {
    let (outer, door) = outer();
    let bad_token = Request::get(CONFIG_MAPS).header("authorization", "Bearer bad").body(body::empty()).unwrap();
    refused(&outer, &door, "unknown token", bad_token, 401).await;
    let groups = request("GET", CONFIG_MAPS).header("impersonate-group", "system:masters").body(body::empty()).unwrap();
    refused(&outer, &door, "group without user", groups, 400).await;
    let twice = request("GET", CONFIG_MAPS).header("impersonate-user", "a").header("impersonate-user", "b");
    refused(&outer, &door, "repeated user", twice.body(body::empty()).unwrap(), 400).await;
    let remote = Request::get(CONFIG_MAPS).header("x-remote-user", "root").body(body::empty()).unwrap();
    refused(&outer, &door, "X-Remote-User", remote, 403).await;
    let (gone, garbage) = ("/apis/nothing.io/v1/things", body::full("garbage"));
    refused(&outer, &door, "what is not there", Request::get(gone).body(body::empty()).unwrap(), 403).await;
    refused(&outer, &door, "a bad body", Request::post(CONFIG_MAPS).body(garbage).unwrap(), 403).await;
}
