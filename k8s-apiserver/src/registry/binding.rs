//! Binding a pod to a node.

use k8s_core::{
    doc,
    doc::Doc,
    request::{ApiResponse, ResourceType, ResponseBody, Verb},
    status::{ApiError, ApiResult, FieldError, Status},
    structure::Mode,
};

use super::{
    operation::{Operation, accept_type, metadata},
    status::set_condition,
    time::rfc3339,
    update::{Base, Part},
};
impl Operation<'_> {
    /// Binds the target pod as a `Binding` says: once, and only while it is not being deleted.
    pub async fn bind(&mut self, mut binding: Doc) -> ApiResult<ApiResponse> {
        accept_type(&mut binding, &ResourceType::new("", "v1", "bindings"), "Binding")?;
        let schema = self.server.kinds.now().schemas().schema("", "v1", "Binding");
        let schema = schema.ok_or_else(|| ApiError::internal("the kind Binding has no schema"))?;
        self.check(&schema, &mut binding, Mode::Whole)?;
        self.check_place(&mut binding)?;
        self.check_binding(&binding)?;
        let target = self.target().clone();
        let mut request = self.admission_request(Verb::Create, &target).with(None, Some(binding));
        self.server.admission.admit(&mut request).await?;
        self.server.admission.validate(&request).await?;
        self.warnings.append(&mut request.take_warnings());
        let binding = request.into_object().unwrap_or_default();
        self.change(Part::Server, |base, this| this.bound(base, &binding), |_, _, _| {}).await?;
        Ok(ApiResponse::created(ResponseBody::Status(Status { code: 201, ..Status::success() })))
    }

    fn check_binding(&self, binding: &Doc) -> ApiResult<()> {
        let mut errors = Vec::new();
        let kind = binding.str_at(&["target", "kind"]);
        if !matches!(kind, "" | "Node") {
            errors.push(FieldError::not_supported("target.kind", kind, &["Node", "<empty>"]));
        }
        if binding.str_at(&["target", "name"]).is_empty() {
            errors.push(FieldError::required("target.name", ""));
        }
        if errors.is_empty() { Ok(()) } else { Err(ApiError::invalid("Binding", "", &self.target().name, &errors)) }
    }

    /// The pod as the binding makes it.
    fn bound(&self, base: &Base, binding: &Doc) -> ApiResult<Doc> {
        let (name, node) = (&self.target().name, binding.str_at(&["target", "name"]));
        let uid = metadata(binding, "uid");
        if !uid.is_empty() && uid != base.object.meta.uid {
            let found = &base.object.meta.uid;
            let why = format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {found}");
            return Err(self.conflict(why));
        }
        if base.object.meta.deleted.is_some() {
            return Err(self.conflict(format!("pod {name} is being deleted, cannot be assigned to a host")));
        }
        if !base.object.meta.node_name.is_empty() {
            let why = format!("pod {name} is already assigned to node {:?}", base.object.meta.node_name);
            return Err(self.conflict(why));
        }
        if base.doc.at(&["spec", "schedulingGates"]).is_some_and(|gates| !gates.items().is_empty()) {
            return Err(self.conflict(format!("pod {name} has non-empty .spec.schedulingGates")));
        }
        let mut new = base.doc.clone();
        new.set_at(&["spec", "nodeName"], node.into());
        let annotations = binding.at(&["metadata", "annotations"]).and_then(Doc::as_object);
        for (key, value) in annotations.into_iter().flat_map(|map| map.iter()) {
            new.set_at(&["metadata", "annotations", key], value.clone());
        }
        let labels = binding.at(&["metadata", "labels"]).and_then(Doc::as_object);
        for (key, value) in labels.into_iter().flat_map(|map| map.iter()) {
            new.set_at(&["metadata", "labels", key], value.clone());
        }
        set_scheduled(&mut new, &rfc3339(self.server.env.now()));
        match metadata(binding, "resourceVersion") {
            "" => drop(new.remove_at(&["metadata", "resourceVersion"])),
            version => new.set_at(&["metadata", "resourceVersion"], version.into()),
        }
        Ok(new)
    }
}

/// Sets the condition `PodScheduled`.
fn set_scheduled(pod: &mut Doc, now: &str) {
    set_condition(pod, doc!({"type": "PodScheduled", "status": "True", "lastTransitionTime": now}));
}
