//! Match conditions: expressions by which a webhook says which requests it wants to see.

use std::rc::Rc;

use futures::FutureExt;
use k8s_core::{
    cel::{
        Activation, Budget, MATCH_CONDITIONS_BUDGET, Program, Type, Value, admission,
        authorizer::{self, Check, Question},
    },
    doc::Doc,
    request::{Caller, ResourceType, Target},
};

use crate::auth::{Attributes, Authorizer, Decision, Subject};

/// The conditions of one webhook, compiled. All must hold.
#[derive(Debug, Default)]
pub struct Conditions(Vec<Condition>);

#[derive(Debug)]
struct Condition {
    name: String,
    /// Or why there is none: validation lets no such configuration in, but another server's may have.
    program: Result<Program, String>,
}

/// What conditions are asked about.
pub struct Case<'a> {
    /// The object as it shall be.
    pub object: &'a Doc,
    /// The object as it was.
    pub old: &'a Doc,
    /// The review's request, without its objects.
    pub request: &'a Doc,
    /// Who asks.
    pub caller: &'a Caller,
    /// What is asked about: `authorizer.requestResource`.
    pub target: &'a Target,
    /// Answers what expressions ask.
    pub authorizer: &'a dyn Authorizer,
}

/// The resource of a request, as expressions ask about it.
pub fn question(target: &Target) -> Question {
    Question {
        group: target.resource.group.to_string(),
        resource: target.resource.plural.to_string(),
        subresource: target.subresource.to_string(),
        namespace: target.namespace.to_string(),
        name: target.name.to_string(),
        ..Question::default()
    }
}

impl Conditions {
    /// Compiles the `matchConditions` of a webhook.
    pub fn of(webhook: &Doc) -> Self {
        let conditions = webhook.get("matchConditions").map_or(&[][..], Doc::items);
        let declarations = admission::declarations();
        let compile = |condition: &Doc| Condition {
            name: condition.str_at(&["name"]).to_owned(),
            program: Program::compile_to(condition.str_at(&["expression"]), &Type::Bool, &declarations)
                .map_err(|why| why.to_string()),
        };
        Self(conditions.iter().map(compile).collect())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether all hold. One that does not counts more than one that cannot be told, which is the error.
    pub fn hold(&self, case: &Case<'_>) -> Result<bool, String> {
        let asking: Rc<dyn authorizer::Authorizer + '_> =
            Rc::new(Asking { caller: case.caller, authorizer: case.authorizer });
        let variables = Activation::new()
            .bind("object", Value::of(case.object))
            .bind("oldObject", Value::of(case.old))
            .bind("request", Value::of(case.request))
            .bind("authorizer.requestResource", Check::resource(asking.clone(), question(case.target)))
            .bind("authorizer", Check::authorizer(asking));
        let (mut budget, mut unknown) = (Budget::new(MATCH_CONDITIONS_BUDGET), Vec::new());
        for Condition { name, program } in &self.0 {
            let value = match program {
                Ok(program) => program.evaluate(&variables, &mut budget).map_err(|why| why.to_string()),
                Err(why) => Err(why.clone()),
            };
            match value.map(|value| value.as_bool()) {
                Ok(Some(true)) => {}
                Ok(Some(false)) => return Ok(false),
                Ok(None) => unknown.push(format!("{name}: no bool")),
                Err(why) => unknown.push(format!("{name}: {why}")),
            }
        }
        if unknown.is_empty() { Ok(true) } else { Err(unknown.join(", ")) }
    }
}

/// Answers expressions with the server's authorizer.
pub struct Asking<'a> {
    /// Who wants to know, unless the question is about a service account.
    pub caller: &'a Caller,
    /// Who is asked.
    pub authorizer: &'a dyn Authorizer,
}

impl authorizer::Authorizer for Asking<'_> {
    fn decide(&self, question: &Question) -> authorizer::Decision {
        let account = question.service_account.as_ref();
        let account = account.map(|(namespace, name)| Caller::service_account(namespace, name));
        let caller = account.as_ref().unwrap_or(self.caller);
        let resource = ResourceType::new(question.group.as_str(), "*", question.resource.as_str());
        let target = Target::one(resource, question.namespace.as_str(), question.name.as_str());
        let target = target.subresource(question.subresource.as_str());
        let subject = match &question.path {
            Some(path) => Subject::Path(path),
            None => Subject::Resource(&target),
        };
        let attributes = Attributes { caller, verb: &question.verb, subject, fields: None };
        // An expression cannot wait; who has to ask elsewhere first says so.
        match self.authorizer.authorize(&attributes).now_or_never() {
            Some(Decision::Allow) => authorizer::Decision { allowed: true, ..Default::default() },
            Some(Decision::Deny(reason) | Decision::NoOpinion(reason)) => {
                authorizer::Decision { reason, ..Default::default() }
            }
            None => {
                authorizer::Decision { error: "the authorizer did not answer at once".into(), ..Default::default() }
            }
        }
    }
}
