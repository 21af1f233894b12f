//! Policies that change.

use async_trait::async_trait;
use k8s_core::{
    admission_policy::{Denial, Mutation},
    apply,
    doc::Doc,
    patch,
    request::PatchKind,
    schema::Schema,
    status::ApiResult,
    structure::{self, Mode},
};

use super::{Case, Judging, matching::namespace_of, params, parsed, validating::refusal};
use crate::admission::{
    Admission, AdmissionRequest,
    webhook::{configuration::OnFailure, shown},
};

const NAME: &str = "MutatingAdmissionPolicy";

/// Lets policies change what is written, one after the other.
pub struct MutatingPolicies(pub Judging);

#[async_trait]
impl Admission for MutatingPolicies {
    fn name(&self) -> &'static str {
        NAME
    }

    fn handles(&self, request: &AdmissionRequest<'_>) -> bool {
        self.0.handles(request) && request.object().is_some()
    }

    async fn admit(&self, request: &mut AdmissionRequest<'_>) -> ApiResult<()> {
        let namespace = namespace_of(request).await?;
        request.reinvocation(|rounds, object| rounds.begin(NAME, object));
        let cases = self.0.cases(request, namespace.as_deref());
        let namespace = if cases.is_empty() { Doc::Null } else { parsed(namespace.as_deref()) };
        for case in cases {
            let id = format!("{}/{}", case.policy.name, case.binding.name);
            if request.reinvocation(|rounds, _| rounds.is_due(NAME, &id)) {
                self.run(request, &case, &namespace, &id).await?;
            }
        }
        request.reinvocation(|rounds, object| rounds.end(NAME, object));
        Ok(())
    }
}

impl MutatingPolicies {
    async fn run(&self, request: &mut AdmissionRequest<'_>, case: &Case, namespace: &Doc, id: &str) -> ApiResult<()> {
        let changed = self.change(request, case, namespace).await;
        if case.policy.reinvocable {
            request.reinvocation(|rounds, _| rounds.asked(NAME, id));
        }
        match changed {
            Ok(true) => request.reinvocation(|rounds, _| rounds.changed(NAME)),
            Ok(false) => {}
            Err(why) if case.policy.on_failure == OnFailure::Ignore => {
                tracing::warn!(policy = %case.policy.name, %why, "a policy failed, failing open");
            }
            Err(why) => {
                let (policy, binding) = (&case.policy.name, &case.binding.name);
                let message = format!("policy '{policy}' with binding '{binding}' denied request: {why}");
                return Err(refusal(request, message, &Denial::failure(why)));
            }
        }
        Ok(())
    }

    /// Applies the mutations for every set of parameters. Answers whether that changed anything; a failure leaves the
    /// object as it was.
    async fn change(&self, request: &mut AdmissionRequest<'_>, case: &Case, namespace: &Doc) -> Result<bool, String> {
        if let Some(why) = &case.policy.broken {
            return Err(format!("failed to configure policy: {why}"));
        }
        let converting = self.0.converting(request.cluster);
        let found = params::find(request, &case.policy, &case.binding, &converting).await;
        let found = found.map_err(|why| format!("failed to configure binding: {why}"))?;
        let mut scene = self.0.scene(request, &case.form, namespace).await.map_err(|why| why.to_string())?;
        let before = scene.object.clone();
        for params in &found {
            let matches = self.0.evaluate(request, case, &scene, params, |answers| answers.matches())?;
            if !matches {
                continue;
            }
            for (place, mutation) in case.policy.expressions.mutations.iter().enumerate() {
                // Each mutation sees what those before it made.
                let made = self.0.evaluate(request, case, &scene, params, |answers| answers.mutation(place))?;
                let schema = request.cluster.schema(&case.form);
                scene.object = apply_one(mutation, made, &scene.object, schema.as_ref())?;
            }
        }
        if scene.object == before {
            return Ok(false);
        }
        let new = shown::turned_back(request, &case.form, scene.object, &converting).await;
        shown::take(request, new.map_err(|why| why.to_string())?).map_err(|why| why.to_string())?;
        Ok(true)
    }
}

fn apply_one(mutation: &Mutation, mut made: Doc, object: &Doc, schema: Option<&Schema>) -> Result<Doc, String> {
    if let Mutation::Patch(_) = mutation {
        let patched = patch::apply(PatchKind::Json, &made, object, None);
        return patched.map_err(|why| format!("error applying JSON patch: {}", why.status().message));
    }
    let schema = schema.ok_or("ApplyConfiguration is not possible for a kind without a schema")?;
    for field in
        [&["apiVersion"][..], &["kind"], &["metadata", "name"], &["metadata", "namespace"], &["metadata", "uid"]]
    {
        if made.at(field).is_some() {
            return Err(format!("invalid ApplyConfiguration: may not mutate .{}", field.join(".")));
        }
    }
    let report = structure::check(schema, &mut made, Mode::Partial);
    if let Some(wrong) = report.wrong.first() {
        return Err(format!("error applying patch: {}", wrong.to_field_error().message()));
    }
    if let Some(unknown) = report.unknown.first() {
        return Err(format!("error applying patch: .{unknown}: field not declared in schema"));
    }
    apply::merge_configuration(object, &made, schema).map_err(|why| why.status().message.clone())
}
