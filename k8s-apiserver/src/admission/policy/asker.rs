//! The authorizer as expressions know it: it answers at once or not at all.

use futures::FutureExt;
use k8s_core::{
    cel::authorizer::{self, Question},
    request::{Caller, ResourceType, Target},
};

use crate::auth::{Attributes, Authorizer, Decision, Subject};

/// Asks the server's authorizer on behalf of a request's caller.
pub struct Asker<'a> {
    /// Who is asked.
    pub authorizer: &'a dyn Authorizer,
    /// Who wants to know.
    pub caller: &'a Caller,
}

impl authorizer::Authorizer for Asker<'_> {
    fn decide(&self, question: &Question) -> authorizer::Decision {
        let account = question.service_account.as_ref().map(|(namespace, name)| {
            let groups = ["system:serviceaccounts", &format!("system:serviceaccounts:{namespace}")];
            Caller::new(format!("system:serviceaccount:{namespace}:{name}"), &groups)
        });
        let caller = account.as_ref().unwrap_or(self.caller);
        // The version does not matter to rules.
        let resource = ResourceType::new(question.group.as_str(), "*", question.resource.as_str());
        let target = Target::one(resource, question.namespace.as_str(), question.name.as_str())
            .subresource(question.subresource.as_str());
        let subject = match &question.path {
            Some(path) => Subject::Path(path),
            None => Subject::Resource(&target),
        };
        let attributes = Attributes { caller, verb: &question.verb, subject, fields: None };
        match self.authorizer.authorize(&attributes).now_or_never() {
            Some(Decision::Allow) => authorizer::Decision { allowed: true, ..Default::default() },
            Some(Decision::Deny(reason) | Decision::NoOpinion(reason)) => {
                authorizer::Decision { reason, ..Default::default() }
            }
            None => {
                authorizer::Decision { error: "the authorizer did not answer at once".to_owned(), ..Default::default() }
            }
        }
    }
}
