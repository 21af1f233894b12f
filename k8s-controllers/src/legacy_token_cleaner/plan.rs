//! What is to be done with one Secret.

use std::time::Duration;

use k8s_core::{
    api::api::core::v1::{Pod, Secret, ServiceAccount},
    doc::Doc,
    env::Timestamp,
    token_secret::{INVALID_SINCE, LAST_USED},
};

use crate::service_account_tokens::plan::account;

/// How long a token may go unused, and how long it is then marked before it is deleted, unless somebody says otherwise.
pub const CLEAN_UP_PERIOD: Duration = Duration::from_secs(365 * 24 * 3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    /// Nothing.
    Leave,
    /// It is marked as invalid.
    Mark,
    /// It goes.
    Delete,
}

/// How time stands.
#[derive(Debug, Clone, Copy)]
pub struct Times<'a> {
    /// Now.
    pub now: Timestamp,
    /// The day since which uses are noted, as the API server says; whatever happened before nobody knows.
    pub tracked_since: &'a str,
    /// See [`CLEAN_UP_PERIOD`].
    pub period: Duration,
}

impl Times<'_> {
    /// Whether something is longer ago than the period.
    fn is_past(&self, time: Timestamp) -> bool {
        self.now.checked_sub(self.period).is_ok_and(|limit| time < limit)
    }

    /// The same of all of a day. What is no day is not past.
    fn is_day_past(&self, day: &str) -> bool {
        let begin = format!("{day}T00:00:00Z").parse::<Timestamp>();
        begin.ok().and_then(|begin| begin.checked_add(DAY).ok()).is_some_and(|end| self.is_past(end))
    }
}

/// Whether a Secret is old enough that more has to be known.
pub fn may_be_due(secret: &Secret, now: Timestamp, period: Duration) -> bool {
    let times = Times { now, tracked_since: "", period };
    let created = secret.metadata.creation_timestamp.as_ref();
    account(secret).is_some()
        && secret.metadata.deletion_timestamp.is_none()
        && created.is_some_and(|created| times.is_past(created.0))
}

/// What is to be done with a Secret whose account is this one. Only what the account refers to was made by the cluster:
/// what people made is theirs to delete.
pub fn plan(secret: &Secret, owner: Option<&ServiceAccount>, is_in_use: bool, times: Times<'_>) -> Plan {
    let label = |name: &str| secret.metadata.labels.as_ref().and_then(|labels| labels.get(name)).map(String::as_str);
    let is_same = |owner: &&ServiceAccount| {
        account(secret).is_some_and(|(_, uid)| uid.is_none() || uid == owner.metadata.uid.as_deref())
    };
    let referred = owner
        .filter(is_same)
        .is_some_and(|owner| owner.secrets.iter().flatten().any(|reference| reference.name == secret.metadata.name));
    let is_unused = label(LAST_USED).is_none_or(|day| times.is_day_past(day));
    let due = may_be_due(secret, times.now, times.period)
        && times.is_day_past(times.tracked_since)
        && referred
        && !is_in_use
        && is_unused;
    match label(INVALID_SINCE) {
        _ if !due => Plan::Leave,
        None => Plan::Mark,
        Some(day) if times.is_day_past(day) => Plan::Delete,
        Some(_) => Plan::Leave,
    }
}

/// Whether a pod may use a Secret: its name stands somewhere in the spec. Rather too often than not often enough.
pub fn mentions(pod: &Pod, secret: &str) -> bool {
    pod.spec.as_ref().and_then(|spec| Doc::from_serialize(spec).ok()).is_none_or(|spec| says(&spec, secret))
}

fn says(doc: &Doc, text: &str) -> bool {
    match doc {
        Doc::String(said) => said == text,
        Doc::Array(items) => items.iter().any(|item| says(item, text)),
        Doc::Object(fields) => fields.iter().any(|(_, value)| says(value, text)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, from_value, json};

    use super::*;

    const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);

    fn secret(labels: Value) -> Secret {
        from_value(json!({
            "metadata": {"name": "s", "namespace": "n", "labels": labels, "creationTimestamp": "2026-01-01T00:00:00Z",
                "annotations": {"kubernetes.io/service-account.name": "a", "kubernetes.io/service-account.uid": "1"}},
            "type": "kubernetes.io/service-account-token"
        }))
        .unwrap()
    }

    fn owner(uid: &str, secrets: Value) -> ServiceAccount {
        from_value(json!({"metadata": {"name": "a", "namespace": "n", "uid": uid}, "secrets": secrets})).unwrap()
    }

    fn at(now: &str) -> Times<'static> {
        Times { now: now.parse().unwrap(), tracked_since: "2026-01-01", period: WEEK }
    }

    #[test]
    fn what_nobody_uses_is_marked_and_goes_a_period_later() {
        let owner = owner("1", json!([{"name": "s"}]));
        let cases = [
            (json!({}), "2026-01-09T00:00:00Z", Plan::Leave),
            (json!({}), "2026-01-09T00:00:01Z", Plan::Mark),
            (json!({LAST_USED: "2026-01-05"}), "2026-01-13T00:00:00Z", Plan::Leave),
            (json!({LAST_USED: "2026-01-05"}), "2026-01-13T00:00:01Z", Plan::Mark),
            (json!({LAST_USED: "some day"}), "2026-03-01T00:00:00Z", Plan::Leave),
            (json!({INVALID_SINCE: "2026-01-20"}), "2026-01-28T00:00:00Z", Plan::Leave),
            (json!({INVALID_SINCE: "2026-01-20"}), "2026-01-28T00:00:01Z", Plan::Delete),
            (json!({INVALID_SINCE: "some day"}), "2026-03-01T00:00:00Z", Plan::Leave),
            // Somebody took the mark away and uses it again.
            (json!({LAST_USED: "2026-01-27", INVALID_SINCE: "2026-01-10"}), "2026-01-28T00:00:01Z", Plan::Leave),
        ];
        for (labels, now, expected) in cases {
            assert_eq!(plan(&secret(labels.clone()), Some(&owner), false, at(now)), expected, "{labels} {now}");
        }
    }

    #[test]
    fn what_is_used_or_made_by_hand_or_known_too_little_of_stays() {
        let (due, times) = (secret(json!({})), at("2026-03-01T00:00:00Z"));
        let ours = owner("1", json!([{"name": "s"}]));
        assert_eq!(plan(&due, Some(&ours), false, times), Plan::Mark);
        assert_eq!(plan(&due, Some(&ours), true, times), Plan::Leave, "a pod uses it");
        assert_eq!(plan(&due, Some(&owner("1", json!([{"name": "t"}]))), false, times), Plan::Leave, "made by hand");
        assert_eq!(plan(&due, Some(&owner("2", json!([{"name": "s"}]))), false, times), Plan::Leave, "another account");
        assert_eq!(plan(&due, None, false, times), Plan::Leave);
        for tracked_since in ["", "2026-02-28", "some day"] {
            assert_eq!(
                plan(&due, Some(&ours), false, Times { tracked_since, ..times }),
                Plan::Leave,
                "{tracked_since}"
            );
        }
        let mut other = due.clone();
        other.type_ = Some("Opaque".into());
        assert_eq!(plan(&other, Some(&ours), false, times), Plan::Leave);
        let mut ending = due.clone();
        ending.metadata.deletion_timestamp = from_value(json!("2026-01-02T00:00:00Z")).unwrap();
        assert_eq!(plan(&ending, Some(&ours), false, times), Plan::Leave);
    }

    #[test]
    fn a_pod_that_names_a_secret_anywhere_uses_it() {
        let pod = |spec: Value| from_value::<Pod>(json!({"spec": spec})).unwrap();
        let reference = json!({"name": "T", "valueFrom": {"secretKeyRef": {"name": "s", "key": "token"}}});
        for spec in [
            json!({"containers": [], "volumes": [{"name": "v", "secret": {"secretName": "s"}}]}),
            json!({"containers": [], "imagePullSecrets": [{"name": "s"}]}),
            json!({"containers": [{"name": "c", "env": [reference]}]}),
        ] {
            assert!(mentions(&pod(spec.clone()), "s"), "{spec}");
            assert!(!mentions(&pod(spec.clone()), "other"), "{spec}");
        }
    }
}
