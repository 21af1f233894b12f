//! Acting as somebody else.
//!
//! Follows upstream's impersonation filter: every part of the other identity needs the right to impersonate it.

use k8s_core::{
    request::{Caller, ResourceType, Target},
    status::ApiResult,
};

use super::{Attributes, Authorizer, Subject, check};

/// `other`, if `caller` may act as all that it is: its name, uid, every group and every extra. 403 if not.
pub async fn act_as(authorizer: &dyn Authorizer, caller: &Caller, mut other: Caller) -> ApiResult<Caller> {
    for target in parts(&other) {
        let attributes = Attributes { caller, verb: "impersonate", subject: Subject::Resource(&target), fields: None };
        check(authorizer, &attributes).await?;
    }
    add_implied_groups(&mut other);
    if other.agent.is_empty() {
        other.agent = caller.agent.clone();
    }
    Ok(other)
}

fn parts(other: &Caller) -> Vec<Target> {
    let one = |group: &str, plural: &str, name: &str| Target::one(ResourceType::new(group, "v1", plural), "", name);
    let mut targets = vec![match service_account(other) {
        Some((namespace, name)) => Target::one(ResourceType::new("", "v1", "serviceaccounts"), namespace, name),
        None => one("", "users", &other.name),
    }];
    // Everybody who is known is in this group; it grants nothing to act as it.
    let groups = other.groups.iter().filter(|group| *group != "system:authenticated");
    targets.extend(groups.map(|group| one("", "groups", group)));
    if !other.uid.is_empty() {
        targets.push(one("authentication.k8s.io", "uids", &other.uid));
    }
    for (key, values) in &other.extra {
        let extra = |value| one("authentication.k8s.io", "userextras", value).subresource(key.clone());
        targets.extend(values.iter().map(|value| extra(value.as_str())));
    }
    targets
}

fn service_account(other: &Caller) -> Option<(&str, &str)> {
    other.name.strip_prefix("system:serviceaccount:")?.split_once(':')
}

fn add_implied_groups(other: &mut Caller) {
    if other.groups.is_empty()
        && let Some((namespace, _)) = service_account(other)
    {
        let of_namespace = format!("system:serviceaccounts:{namespace}");
        other.groups = vec!["system:serviceaccounts".into(), of_namespace.into()];
    }
    let implied = if other.name == "system:anonymous" { "system:unauthenticated" } else { "system:authenticated" };
    if !other.is_in(implied) {
        other.groups.push(implied.into());
    }
}
