//! Subresources: status, scale, binding, eviction, finalize, tokens, and the connections to nodes.

use std::sync::Arc;

use k8s_core::{
    doc::Doc,
    object::Object,
    registry::ResourceInfo,
    request::{ApiRequest, ApiResponse, Caller, RequestBody, ResponseBody, Target, Verb},
    status::{ApiError, ApiResult, FieldError, Status},
};
use serde_json::json;

use super::{
    Shared,
    write::{Change, Part, answer, parse, seconds},
};
use crate::{
    admission::AdmissionRequest,
    auth::{TokenClaims, TokenIssuer},
};

impl Shared {
    pub(super) async fn subresource(
        &self,
        caller: &Caller,
        info: &Arc<ResourceInfo>,
        request: ApiRequest,
    ) -> ApiResult<ApiResponse> {
        let name = request.target.subresource.clone();
        let known = info.subresource(&name).ok_or_else(ApiError::no_such_path)?;
        let connects = known.verbs.contains(&Verb::Connect) || name == "log";
        if !known.verbs.contains(&request.verb) && !(connects && request.verb == Verb::Connect) {
            return Err(ApiError::method_not_allowed(request.verb.as_str()));
        }
        match (name.as_str(), request.verb) {
            ("status", Verb::Get) => self.get(info, &request).await,
            ("status", Verb::Update) => self.update(caller, info, request).await,
            ("status", Verb::Patch) => self.patch(caller, info, request).await,
            ("scale", verb) => self.scale(caller, info, verb, request).await,
            ("binding", Verb::Create) => self.bind(caller, info, request).await,
            ("eviction", Verb::Create) => self.evict(caller, info, request).await,
            ("finalize", Verb::Update) => self.finalize(caller, info, request).await,
            ("token", Verb::Create) => self.token(caller, info, request).await,
            (_, Verb::Connect) if info.plural == "pods" => self.connect(info, request).await,
            _ => Err(ApiError::not_implemented(format!("{}/{name}", info.plural))),
        }
    }

    fn found(&self, info: &ResourceInfo, target: &Target) -> ApiResult<Arc<Object>> {
        let found = self.cached(info, target);
        found.ok_or_else(|| ApiError::not_found(&info.plural, &info.group, &target.name))
    }

    /// A scheduler's decision: the pod gets its node, once.
    async fn bind(&self, caller: &Caller, info: &Arc<ResourceInfo>, request: ApiRequest) -> ApiResult<ApiResponse> {
        let RequestBody::Doc(binding) = &request.body else { return Err(no_body("binding")) };
        let node = binding.str_at(&["target", "name"]).to_owned();
        if node.is_empty() {
            let required = FieldError::required("target.name", "");
            return Err(ApiError::invalid("Binding", "", &request.target.name, &[required]));
        }
        let uid = binding.str_at(&["metadata", "uid"]).to_owned();
        let rules = self.rules(info)?;
        let whole = ApiRequest { target: whole(&request.target), body: RequestBody::None, ..request };
        let now = seconds(self.env.now());
        let change = Change { caller, info, rules: &rules, request: &whole, stated: None, part: Part::Server };
        self.change(change, Vec::new(), |old, current| {
            check_bindable(info, old, current, &uid)?;
            let mut doc = current.clone();
            doc.set_at(&["spec", "nodeName"], Doc::String(node.as_str().into()));
            let scheduled = json!({"type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": now});
            set_condition(&mut doc, &scheduled);
            Ok(doc)
        })
        .await?;
        answer(201, ResponseBody::Status(Status { code: 201, ..Status::success() }), Vec::new())
    }

    /// The older form of binding: a `Binding` object named after its pod.
    pub(super) async fn bind_by_name(&self, caller: &Caller, request: ApiRequest) -> ApiResult<ApiResponse> {
        let RequestBody::Doc(binding) = &request.body else { return Err(no_body("binding")) };
        let name = binding.str_at(&["metadata", "name"]).to_owned();
        let pods = k8s_core::request::ResourceType::new("", "v1", "pods");
        let info = self.registry.served(&pods)?.clone();
        let target = Target::one(pods, request.target.namespace.clone(), name).subresource("binding");
        self.bind(caller, &info, ApiRequest { target, ..request }).await
    }

    /// A deletion that disruption budgets may refuse; there are none yet, so it is a deletion.
    async fn evict(&self, caller: &Caller, info: &Arc<ResourceInfo>, request: ApiRequest) -> ApiResult<ApiResponse> {
        let RequestBody::Doc(eviction) = &request.body else { return Err(no_body("eviction")) };
        let mut options = request.options.clone();
        options.grace_period_seconds = eviction.at(&["deleteOptions", "gracePeriodSeconds"]).and_then(Doc::as_i64);
        let uid = eviction.str_at(&["deleteOptions", "preconditions", "uid"]);
        options.precondition_uid = (!uid.is_empty()).then(|| uid.into());
        let target = whole(&request.target);
        let deletion = ApiRequest { verb: Verb::Delete, target, options, body: RequestBody::None, ..request };
        self.delete(caller, info, &deletion).await?;
        answer(201, ResponseBody::Status(Status { code: 201, ..Status::success() }), Vec::new())
    }

    /// Changes `spec.finalizers` of a namespace, which nothing else may.
    async fn finalize(&self, caller: &Caller, info: &Arc<ResourceInfo>, request: ApiRequest) -> ApiResult<ApiResponse> {
        let RequestBody::Doc(sent) = &request.body else { return Err(no_body("namespace")) };
        let finalizers = sent.at(&["spec", "finalizers"]).cloned().unwrap_or(Doc::Array(Vec::new()));
        let rules = self.rules(info)?;
        let inner = ApiRequest { body: RequestBody::None, ..request.clone() };
        let change = Change { caller, info, rules: &rules, request: &inner, stated: None, part: Part::Server };
        self.change(change, Vec::new(), |_, current| {
            let mut doc = current.clone();
            match finalizers.items().is_empty() {
                true => drop(doc.remove_at(&["spec", "finalizers"])),
                false => doc.set_at(&["spec", "finalizers"], finalizers.clone()),
            }
            Ok(doc)
        })
        .await
    }

    async fn token(&self, caller: &Caller, info: &Arc<ResourceInfo>, request: ApiRequest) -> ApiResult<ApiResponse> {
        let RequestBody::Doc(mut wanted) = request.body else { return Err(no_body("token request")) };
        let account = self.found(info, &request.target)?;
        let admission = AdmissionRequest {
            caller,
            verb: Verb::Create,
            info,
            target: &request.target,
            options: &request.options,
            old: None,
            reads: &self.reads,
        };
        for plugin in &self.admission {
            plugin.validate(&admission, Some(&wanted)).await?;
        }
        let claims = self.claims(&account, &wanted)?;
        let (token, expires) = self.issuer()?.issue(&claims)?;
        let expires = k8s_core::env::Timestamp::from_second(expires).map_err(ApiError::internal)?;
        wanted.set_at(&["apiVersion"], Doc::String("authentication.k8s.io/v1".into()));
        wanted.set_at(&["kind"], Doc::String("TokenRequest".into()));
        wanted.set_at(&["status", "token"], Doc::String(token.into()));
        wanted.set_at(&["status", "expirationTimestamp"], Doc::String(expires.to_string().into()));
        answer(201, ResponseBody::Doc(wanted), Vec::new())
    }

    fn claims(&self, account: &Object, wanted: &Doc) -> ApiResult<TokenClaims> {
        let audiences = wanted.at(&["spec", "audiences"]).map(Doc::items).unwrap_or_default();
        let mut claims = TokenClaims {
            namespace: account.meta.namespace.to_string(),
            service_account: account.meta.name.to_string(),
            uid: account.meta.uid.to_string(),
            audiences: audiences.iter().filter_map(Doc::as_str).map(str::to_owned).collect(),
            seconds: wanted.at(&["spec", "expirationSeconds"]).and_then(Doc::as_u64).unwrap_or(3600),
            ..Default::default()
        };
        if claims.seconds < crate::auth::token::MIN_SECONDS {
            let error = FieldError::invalid("spec.expirationSeconds", &claims.seconds.to_string(), "may not specify a duration less than 10 minutes");
            return Err(ApiError::invalid("TokenRequest", "authentication.k8s.io", &claims.service_account, &[error]));
        }
        let Some(bound) = wanted.at(&["spec", "boundObjectRef"]).filter(|bound| bound.as_object().is_some()) else {
            return Ok(claims);
        };
        let (kind, name) = (bound.str_at(&["kind"]), bound.str_at(&["name"]));
        let plural = match kind {
            "Pod" => "pods",
            "Secret" => "secrets",
            "Node" => "nodes",
            other => return Err(ApiError::bad_request(format!("cannot bind token for serviceaccount to object of kind {other:?}"))),
        };
        let namespace = if kind == "Node" { "" } else { &claims.namespace };
        let found = self.reads.object("", plural, namespace, name).ok_or_else(|| ApiError::not_found(plural, "", name))?;
        let uid = bound.str_at(&["uid"]);
        if !uid.is_empty() && uid != found.meta.uid {
            return Err(ApiError::conflict(plural, "", name, format!("the UID in the bound object reference ({uid}) does not match")));
        }
        let reference = Some((found.meta.name.to_string(), found.meta.uid.to_string()));
        match kind {
            "Pod" => {
                claims.pod = reference;
                let node = self.reads.object("", "nodes", "", &found.meta.node_name);
                claims.node = node.map(|node| (node.meta.name.to_string(), node.meta.uid.to_string()));
            }
            "Secret" => claims.secret = reference,
            _ => claims.node = reference,
        }
        Ok(claims)
    }

    /// The size of anything that has one, as a `Scale`.
    async fn scale(
        &self,
        caller: &Caller,
        info: &Arc<ResourceInfo>,
        verb: Verb,
        request: ApiRequest,
    ) -> ApiResult<ApiResponse> {
        self.cache.wait_for_head().await?;
        let object = self.found(info, &request.target)?;
        let present = scale_of(&object, &parse(&object)?);
        let wanted = match (verb, &request.body) {
            (Verb::Get, _) => return answer(200, ResponseBody::Doc(present), Vec::new()),
            (_, RequestBody::Doc(sent)) => sent.clone(),
            (_, RequestBody::Patch(kind, patch)) => k8s_core::patch::apply(*kind, patch, &present, None)?,
            _ => return Err(no_body("scale")),
        };
        let replicas = wanted.at(&["spec", "replicas"]).and_then(Doc::as_i64).unwrap_or(0);
        if replicas < 0 {
            let error = FieldError::invalid("spec.replicas", &replicas.to_string(), "must be greater than or equal to 0");
            return Err(ApiError::invalid("Scale", "autoscaling", &request.target.name, &[error]));
        }
        let stated = wanted.str_at(&["metadata", "resourceVersion"]).parse().ok().filter(|_| verb == Verb::Update);
        let rules = self.rules(info)?;
        let target = whole(&request.target);
        let inner = ApiRequest { verb: Verb::Update, target, body: RequestBody::None, ..request };
        let change = Change { caller, info, rules: &rules, request: &inner, stated, part: Part::Whole };
        let changed = self
            .change(change, Vec::new(), |_, current| {
                let mut doc = current.clone();
                doc.set_at(&["spec", "replicas"], Doc::from(replicas));
                Ok(doc)
            })
            .await?;
        let object = changed.into_object()?;
        answer(200, ResponseBody::Doc(scale_of(&object, &parse(&object)?)), Vec::new())
    }
}

/// The object that a subresource belongs to.
fn whole(target: &Target) -> Target {
    target.clone().subresource("")
}

fn no_body(what: &str) -> ApiError {
    ApiError::bad_request(format!("{what}: the body must be an object"))
}

fn check_bindable(info: &ResourceInfo, old: &Object, current: &Doc, uid: &str) -> ApiResult<()> {
    let conflict = |why: String| Err(ApiError::conflict(&info.plural, "", &old.meta.name, why));
    if !uid.is_empty() && uid != old.meta.uid {
        return conflict(format!("the UID in the precondition ({uid}) does not match the UID in record ({})", old.meta.uid));
    }
    if old.meta.deleted.is_some() {
        return conflict(format!("pod {} is being deleted, cannot be assigned to a host", old.meta.name));
    }
    if !old.meta.node_name.is_empty() {
        return conflict(format!("pod {} is already assigned to node {:?}", old.meta.name, old.meta.node_name));
    }
    let gates = current.at(&["spec", "schedulingGates"]).map(Doc::items).unwrap_or_default();
    if !gates.is_empty() {
        return conflict(format!("pod {} has non-empty .spec.schedulingGates", old.meta.name));
    }
    Ok(())
}

fn set_condition(doc: &mut Doc, condition: &serde_json::Value) {
    let Ok(condition) = Doc::from_serialize(condition) else { return };
    let kind = condition.str_at(&["type"]).to_owned();
    match doc.at_mut(&["status", "conditions"]).and_then(Doc::as_array_mut) {
        Some(list) => {
            list.retain(|known| known.str_at(&["type"]) != kind);
            list.push(condition);
        }
        None => doc.set_at(&["status", "conditions"], Doc::Array(vec![condition])),
    }
}

fn scale_of(object: &Object, doc: &Doc) -> Doc {
    let meta = &object.meta;
    let labels = doc.at(&["spec", "selector", "matchLabels"]).and_then(Doc::as_object);
    let pairs = labels.into_iter().flat_map(|labels| labels.iter());
    let selector: Vec<String> = pairs.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or(""))).collect();
    let count = |path: &[&str]| doc.at(path).and_then(Doc::as_i64).unwrap_or(0);
    let scale = json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1",
        "metadata": {
            "name": meta.name.as_str(), "namespace": meta.namespace.as_str(), "uid": meta.uid.as_str(),
            "resourceVersion": object.revision().to_string(),
            "creationTimestamp": meta.created.map(seconds),
        },
        "spec": {"replicas": count(&["spec", "replicas"])},
        "status": {"replicas": count(&["status", "replicas"]), "selector": selector.join(",")},
    });
    // Invariant: a value of plain strings and numbers always becomes a document.
    Doc::from_serialize(&scale).unwrap_or_default()
}
