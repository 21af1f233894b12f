//! Heads of requests: what a head says is said again by the head that is written from it.

use k8s_core::{
    path::{Method, RequestInfo, ResourceRequest, encode, read_delete_options, write_delete_options},
    request::{ApiRequest, Fence, Options, Verb},
};

/// `METHOD path?query`, and in a second line a fence or the options of a deletion.
pub fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let (line, second) = text.split_once('\n').unwrap_or((text, ""));
    fence(second);
    deletion(second);
    let (method, target) = line.split_once(' ').unwrap_or(("GET", line));
    let Ok(method) = Method::parse(method) else { return };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    match RequestInfo::parse(method, path, query) {
        Ok(RequestInfo::Resource(request)) => said_again(*request),
        Ok(RequestInfo::Path(path)) => {
            let again = RequestInfo::parse(method, &path, query);
            assert_eq!(again.ok(), Some(RequestInfo::Path(path)));
        }
        Err(why) => assert!((400..500).contains(&why.code()), "{why}"),
    }
}

fn said_again(said: ResourceRequest) {
    let ResourceRequest { verb, target, options } = said;
    let request = ApiRequest { verb, target, options, ..ApiRequest::default() };
    let head = encode(&request);
    let again = match RequestInfo::parse(head.method, &head.path, &head.query) {
        Ok(RequestInfo::Resource(again)) => *again,
        other => panic!("{request:?} was written as {head:?}, which is {other:?}"),
    };
    assert_eq!((again.verb, &again.target), (request.verb, &request.target), "{head:?}");
    match request.verb {
        // The rest of these travels in the body.
        Verb::Delete | Verb::DeleteCollection => {
            let options = &request.options;
            assert_eq!(again.options.label_selector, options.label_selector, "{head:?}");
            assert_eq!(again.options.field_selector, options.field_selector, "{head:?}");
            assert_eq!(again.options.continue_token, options.continue_token, "{head:?}");
        }
        _ => assert_eq!(again.options, request.options, "{head:?}"),
    }
}

fn fence(text: &str) {
    if let Ok(fence) = text.parse::<Fence>() {
        assert_eq!(fence.to_string().parse::<Fence>().ok(), Some(fence));
    }
}

fn deletion(json: &str) {
    let mut said = Options::default();
    if read_delete_options(&mut said, json.as_bytes()).is_err() {
        return;
    }
    let mut again = Options::default();
    if let Some(written) = write_delete_options(&said) {
        let read = read_delete_options(&mut again, &written);
        assert!(read.is_ok(), "{}: {read:?}", String::from_utf8_lossy(&written));
    }
    assert_eq!(again, said);
}
