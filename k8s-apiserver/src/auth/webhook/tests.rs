//! Another server that is asked, that fails, and that is not asked again.

use bytes::Bytes;
use k8s_core::{
    doc,
    request::{Caller, ResourceType, Target},
    seam::webhook::WebhookError,
};
use parking_lot::Mutex;

use super::*;
use crate::{
    auth::{
        Attributes, Authorizer, Decision, Subject,
        bearer::{Known, TokenAuthenticator},
    },
    server::tests::clock::paused,
};

/// Answers what it is told to, in turn, and keeps what it was asked.
#[derive(Default)]
struct Hook {
    answers: Mutex<Vec<Result<Doc, u16>>>,
    asked: Mutex<Vec<Doc>>,
}

#[async_trait::async_trait]
impl WebhookCaller for Hook {
    async fn post(&self, endpoint: &WebhookEndpoint, _: Duration, body: Bytes) -> Result<Bytes, WebhookError> {
        self.asked.lock().push(Doc::parse(&body).unwrap());
        let url = endpoint.url.clone();
        match self.answers.lock().remove(0) {
            Ok(status) => Ok(doc!({"status": status}).to_json().into()),
            Err(code) => Err(WebhookError::Status { url, code, text: "no".into() }),
        }
    }
}

fn reviewer(answers: Vec<Result<Doc, u16>>) -> (Arc<Hook>, Reviewer, Env) {
    let (hook, env) = (Arc::new(Hook { answers: Mutex::new(answers), ..Hook::default() }), paused());
    let endpoint: Endpoint = Arc::new(|| Ok(WebhookEndpoint { url: "https://hook".into(), ..Default::default() }));
    let limit = Duration::from_secs(30);
    (hook.clone(), Reviewer { env: env.clone(), caller: hook, endpoint, limit }, env)
}

fn us() -> Vec<String> {
    vec!["api".into()]
}

#[tokio::test(start_paused = true)]
async fn a_token_is_asked_about_once_in_a_while() {
    let jane = || {
        Ok(doc!({"authenticated": true, "user": {
            "username": "jane", "uid": "7", "groups": ["devs", "system:authenticated"], "extra": {"scope": ["s"]}}}))
    };
    let (hook, reviewer, env) = reviewer(vec![jane(), Ok(doc!({"authenticated": false})), jane()]);
    let webhook = TokenWebhook::new(reviewer, Duration::from_secs(120));
    for _ in 0..2 {
        let Known { caller, audiences } = webhook.authenticate("t", &us()).await.unwrap().unwrap();
        assert_eq!((caller.name.as_str(), caller.uid.as_str()), ("jane", "7"));
        assert_eq!(caller.groups, ["devs", "system:authenticated"]);
        assert_eq!((caller.extra.len(), audiences.len()), (1, 0));
        assert_eq!(webhook.authenticate("unknown", &us()).await.unwrap(), None);
    }
    assert_eq!(hook.asked.lock().len(), 2, "the second round was answered from memory");
    let asked = hook.asked.lock()[0].clone();
    assert_eq!((asked.str_at(&["kind"]), asked.str_at(&["spec", "token"])), ("TokenReview", "t"));
    assert_eq!(asked.str_at(&["spec", "audiences", "0"]), "api");
    env.sleep(Duration::from_secs(120)).await;
    assert!(webhook.authenticate("t", &us()).await.unwrap().is_some());
    assert_eq!(hook.asked.lock().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_token_for_others_is_no_token_here() {
    let of = |audience: &str| Ok(doc!({"authenticated": true, "user": {"username": "j"}, "audiences": [audience]}));
    let (_, reviewer, _) = reviewer(vec![of("vault"), of("api"), Ok(doc!({"error": "revoked"}))]);
    let webhook = TokenWebhook::new(reviewer, Duration::ZERO);
    assert_eq!(webhook.authenticate("t", &us()).await.unwrap(), None);
    assert_eq!(webhook.authenticate("t", &us()).await.unwrap().unwrap().audiences, us());
    assert_eq!(webhook.authenticate("t", &us()).await.unwrap_err().code(), 401);
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_tried_again_and_not_kept() {
    let (hook, first, env) = reviewer(vec![Err(503), Err(500), Ok(doc!({"authenticated": false}))]);
    let began = env.monotonic();
    let webhook = TokenWebhook::new(first, Duration::from_secs(120));
    assert_eq!(webhook.authenticate("t", &us()).await.unwrap(), None);
    assert_eq!((hook.asked.lock().len(), env.monotonic() - began), (3, Duration::from_millis(1250)));
    let (hook, second, _) = reviewer(vec![Err(403), Err(503), Err(503), Err(503), Err(503), Err(503)]);
    let webhook = TokenWebhook::new(second, Duration::from_secs(120));
    assert_eq!(webhook.authenticate("t", &us()).await.unwrap_err().code(), 503);
    assert_eq!(hook.asked.lock().len(), 1, "it said no: asking again does not help");
    assert_eq!(webhook.authenticate("t", &us()).await.unwrap_err().code(), 503);
    assert_eq!(hook.asked.lock().len(), 6);
}

async fn may(webhook: &AccessWebhook, name: &str) -> Decision {
    let mut caller = Caller::new("jane", &["devs"]);
    caller.extra = vec![("scope".into(), vec!["s".into()])];
    let target = Target::one(ResourceType::new("apps", "v1", "deployments"), "a", name).subresource("scale");
    let fields = "metadata.name=x".parse().unwrap();
    let subject = Subject::Resource(&target);
    webhook.authorize(&Attributes { caller: &caller, verb: "get", subject, fields: Some(&fields) }).await
}

#[tokio::test(start_paused = true)]
async fn a_decision_is_kept_as_long_as_its_kind() {
    let (yes, no) = (|| Ok(doc!({"allowed": true})), || Ok(doc!({"allowed": false, "reason": "because"})));
    let (hook, reviewer, env) = reviewer(vec![yes(), no(), no(), Ok(doc!({"denied": true, "reason": "never"}))]);
    let second = Duration::from_secs;
    let webhook = AccessWebhook::new(reviewer, second(300), second(30), FailurePolicy::NoOpinion);
    let unsure = Decision::NoOpinion("because".into());
    for _ in 0..2 {
        assert_eq!(may(&webhook, "good").await, Decision::Allow);
        assert_eq!(may(&webhook, "bad").await, unsure);
    }
    assert_eq!(hook.asked.lock().len(), 2);
    env.sleep(second(30)).await;
    assert_eq!((may(&webhook, "good").await, may(&webhook, "bad").await), (Decision::Allow, unsure));
    assert_eq!(hook.asked.lock().len(), 3, "the no was asked again, the yes was not");
    assert_eq!(may(&webhook, "other").await, Decision::Deny("never".into()));
    let asked = hook.asked.lock()[0].to_string();
    let expected = concat!(
        r#"{"apiVersion":"authorization.k8s.io/v1","kind":"SubjectAccessReview","spec":{"resourceAttributes":"#,
        r#"{"namespace":"a","verb":"get","group":"apps","version":"v1","resource":"deployments","subresource":"scale","#,
        r#""name":"good","fieldSelector":{"requirements":[{"key":"metadata.name","operator":"In","values":["x"]}]}},"#,
        r#""user":"jane","groups":["devs","system:authenticated"],"extra":{"scope":["s"]}}}"#
    );
    assert_eq!(asked, expected);
}

#[tokio::test(start_paused = true)]
async fn what_a_failure_means_is_configured() {
    for (policy, expected) in [(FailurePolicy::NoOpinion, None), (FailurePolicy::Deny, Some("Post \"https://hook\""))] {
        let (_, reviewer, _) = reviewer(vec![Err(400)]);
        let webhook = AccessWebhook::new(reviewer, Duration::ZERO, Duration::ZERO, policy);
        match (may(&webhook, "x").await, expected) {
            (Decision::NoOpinion(_), None) => {}
            (Decision::Deny(why), Some(start)) => assert!(why.starts_with(start), "{why}"),
            (decision, _) => panic!("{policy:?}: {decision:?}"),
        }
    }
}
