//! The `scale` subresource: how many replicas, without knowing the kind.

use k8s_core::{
    apply::{self, Operation as How},
    custom::ScalePaths,
    doc,
    doc::{Doc, Text},
    patch,
    request::{ApiResponse, PatchKind, ResourceType, ResponseBody},
    schema::Schema,
    selector::LabelSelector,
    status::{ApiError, ApiResult},
    structure::Mode,
};

use super::{
    create::Outcome,
    operation::{Operation, accept_type, metadata},
    patch::broken,
    update::{Base, Part},
};

const REPLICAS: [&str; 2] = ["spec", "replicas"];

/// Where an object says how many replicas there are.
#[derive(Clone)]
struct Paths(Option<ScalePaths>);

impl Operation<'_> {
    /// The scale of the target.
    pub async fn get_scale(&mut self) -> ApiResult<ApiResponse> {
        let base = Base::new(self.existing().await?)?;
        Ok(ApiResponse::ok(ResponseBody::Doc(self.paths().scale(&base.doc)?)))
    }

    /// Replaces the scale of the target.
    pub async fn update_scale(&mut self, mut body: Doc) -> ApiResult<ApiResponse> {
        self.accept_scale(&mut body)?;
        let outcome = self.rescale(|_, _| Ok(body.clone())).await?;
        self.scaled(outcome)
    }

    /// Patches the scale of the target.
    pub async fn patch_scale(&mut self, kind: PatchKind, patch: Doc) -> ApiResult<ApiResponse> {
        let schema = self.scale_schema()?;
        let outcome = self
            .rescale(|base, this| {
                let before = this.paths().scale(&base.doc)?;
                let mut body = patch::apply(kind, &patch, &before, Some(&schema))?;
                this.accept_scale(&mut body)?;
                if metadata(&body, "resourceVersion") == metadata(&before, "resourceVersion") {
                    body.remove_at(&["metadata", "resourceVersion"]);
                }
                Ok(body)
            })
            .await?;
        self.scaled(outcome)
    }

    fn paths(&self) -> Paths {
        Paths(self.info.custom.as_ref().and_then(|custom| custom.scale.clone()))
    }

    fn scaled(&self, outcome: Outcome) -> ApiResult<ApiResponse> {
        let doc = match outcome {
            Outcome::Done(object) => Base::new(object)?.doc,
            Outcome::WouldBe(doc) => doc,
        };
        Ok(ApiResponse::ok(ResponseBody::Doc(self.paths().scale(&doc)?)))
    }

    fn scale_schema(&self) -> ApiResult<Schema> {
        let schema = self.server.kinds.now().schemas().schema("autoscaling", "v1", "Scale");
        schema.ok_or_else(|| ApiError::internal("the kind Scale has no schema"))
    }

    fn accept_scale(&mut self, body: &mut Doc) -> ApiResult<()> {
        accept_type(body, &ResourceType::new("autoscaling", "v1", "scales"), "Scale")?;
        let schema = self.scale_schema()?;
        self.check(&schema, body, Mode::Whole)?;
        let name = metadata(body, "name");
        if !name.is_empty() && *name != *self.target().name {
            let message =
                format!("the name of the object ({name}) does not match the name on the URL ({})", self.target().name);
            return Err(ApiError::bad_request(message));
        }
        let replicas = replicas(body);
        if replicas < 0 {
            let error = broken("spec.replicas", replicas, "must be greater than or equal to 0");
            return Err(ApiError::invalid("Scale", "autoscaling", &self.target().name, &[error]));
        }
        Ok(())
    }

    async fn rescale(
        &mut self,
        wanted: impl Fn(&Base, &mut Self) -> ApiResult<Doc> + Send + Sync,
    ) -> ApiResult<Outcome> {
        let manager = self.manager(How::Update);
        self.change(
            Part::Main,
            |base, this| {
                let wanted = wanted(base, this)?;
                let mut new = base.doc.clone();
                new.set_at(&this.paths().spec(), replicas(&wanted).into());
                new.set_at(&["metadata", "resourceVersion"], metadata(&wanted, "resourceVersion").into());
                Ok(new)
            },
            |old, new, this| apply::track_update(Some(old), new, &this.kind.schema, &manager),
        )
        .await
    }
}

fn replicas(doc: &Doc) -> i64 {
    doc.at(&REPLICAS).and_then(Doc::as_i64).unwrap_or(0)
}

impl Paths {
    fn spec(&self) -> Vec<&str> {
        self.0.as_ref().map_or_else(|| REPLICAS.to_vec(), |paths| steps(&paths.spec))
    }

    /// The scale of a workload. 500 for a custom object that does not say how many replicas it wants.
    fn scale(&self, doc: &Doc) -> ApiResult<Doc> {
        let Some(paths) = &self.0 else { return Ok(scale(doc)) };
        let wanted = doc.at(&steps(&paths.spec)).and_then(Doc::as_i64).ok_or_else(|| {
            let path = paths.spec.join(".");
            ApiError::internal(format!("the spec replicas field \".{path}\" does not exist"))
        })?;
        let mut scale = scale(&doc!({"metadata": doc.get("metadata").cloned().unwrap_or_default()}));
        scale.set_at(&REPLICAS, wanted.into());
        let there = doc.at(&steps(&paths.status)).and_then(Doc::as_i64).unwrap_or(0);
        scale.set_at(&["status", "replicas"], there.into());
        let selector = doc.at(&steps(&paths.selector)).and_then(Doc::as_str).filter(|_| !paths.selector.is_empty());
        if let Some(selector) = selector {
            scale.set_at(&["status", "selector"], selector.into());
        }
        Ok(scale)
    }
}

fn steps(path: &[Text]) -> Vec<&str> {
    path.iter().map(Text::as_str).collect()
}

/// The scale of a built-in workload.
pub(crate) fn scale(doc: &Doc) -> Doc {
    let mut scale = doc!({
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {},
        "spec": {"replicas": replicas(doc)},
        "status": {"replicas": doc.at(&["status", "replicas"]).and_then(Doc::as_i64).unwrap_or(0)}
    });
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = doc.at(&["metadata", field]) {
            scale.set_at(&["metadata", field], value.clone());
        }
    }
    if let Some(selector) = LabelSelector::of_workload(doc) {
        scale.set_at(&["status", "selector"], selector.to_string().into());
    }
    scale
}
