//! Programs in the same process that say who they are.

use http_body_util::{BodyExt, Full};
use tower::ServiceExt;

use super::{super::*, fake::*};

async fn code(insider: &Insider, build: impl FnOnce(http::request::Builder) -> http::request::Builder) -> u16 {
    let request = build(Request::get(format!("{CONFIG_MAPS}/none")));
    let answer = insider.clone().oneshot(request.body(Full::new(bytes::Bytes::new())).unwrap()).await;
    let answer = answer.unwrap_or_else(|never| match never {});
    let code = answer.status().as_u16();
    answer.into_body().collect().await.unwrap();
    code
}

#[tokio::test]
async fn an_insider_is_who_it_is_whatever_its_requests_bring() {
    let (outer, door) = outer();
    let known = outer.as_caller(Caller::new("embedder", &["testers"]).with_agent("own"));
    assert_eq!(code(&known, |request| request).await, 404);
    let (caller, asked) = door.last();
    assert_eq!((caller.name.as_str(), caller.agent.as_str()), ("embedder", "own"));
    assert_eq!(asked.caller, None);
    let with_token = |request: http::request::Builder| {
        request.header("authorization", "Bearer bad").header("user-agent", "other/1").header("impersonate-user", "one")
    };
    assert_eq!(code(&known, with_token).await, 404, "a token that nobody knows is not looked at");
    let (caller, asked) = door.last();
    assert_eq!((caller.name.as_str(), caller.agent.as_str()), ("embedder", "other/1"));
    assert_eq!(asked.caller.unwrap().name, "one", "and it may ask to act as somebody else");
}

#[tokio::test]
async fn nobody_in_particular_is_turned_away() {
    let (outer, door) = outer();
    assert_eq!(code(&outer.as_caller(Caller::anonymous()), |request| request).await, 403);
    assert!(door.seen.lock().is_empty());
}
