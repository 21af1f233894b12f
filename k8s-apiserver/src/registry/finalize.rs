//! The `finalize` subresource of namespaces: the only way to change the finalizers of their spec.

use k8s_core::{
    apply::{self, Operation as How},
    doc::Doc,
    request::ApiResponse,
    status::ApiResult,
};

use super::{
    operation::{Operation, metadata},
    update::Part,
};

const FINALIZERS: [&str; 2] = ["spec", "finalizers"];

impl Operation<'_> {
    /// Replaces the finalizers of the spec. When none is left of a namespace that is being deleted, it is gone.
    pub async fn finalize(&mut self, mut body: Doc) -> ApiResult<ApiResponse> {
        self.accept(&mut body)?;
        self.check_place(&mut body)?;
        let manager = self.manager(How::Update);
        let outcome = self
            .change(
                Part::Server,
                |base, _| {
                    let mut new = base.doc.clone();
                    match body.at(&FINALIZERS) {
                        Some(finalizers) => new.set_at(&FINALIZERS, finalizers.clone()),
                        None => drop(new.remove_at(&FINALIZERS)),
                    }
                    new.set_at(&["metadata", "resourceVersion"], metadata(&body, "resourceVersion").into());
                    Ok(new)
                },
                |old, new, this| apply::track_update(Some(old), new, &this.kind.schema, &manager),
            )
            .await?;
        Ok(ApiResponse::ok(outcome.into_body()))
    }
}
