//! The expressions of `ValidatingAdmissionPolicy` and `MutatingAdmissionPolicy`: what they may name, and their compiled
//! form. Validation refuses what does not compile here, and admission evaluates it.

mod evaluate;
mod type_check;

pub use evaluate::{Answers, Bound, Denial, variables_of};
pub use type_check::type_warnings;

use crate::{
    cel::{CompileError, Declarations, Program, Type, admission},
    doc::{Doc, Text},
    schema::{Schema, Schemas},
};

/// The name that types of authorizers have in expressions.
const AUTHORIZER: Type = Type::Opaque("kubernetes.authorization.Authorizer");
const RESOURCE_CHECK: Type = Type::Opaque("kubernetes.authorization.ResourceCheck");

/// All expressions of one policy.
#[derive(Debug, Default)]
pub struct Expressions {
    /// `variables`, each of which may name those before it.
    pub variables: Vec<(Text, Program)>,
    /// `matchConditions`
    pub conditions: Vec<(Text, Program)>,
    /// `validations`
    pub validations: Vec<Validation>,
    /// `auditAnnotations`
    pub annotations: Vec<(Text, Program)>,
    /// `mutations`
    pub mutations: Vec<Mutation>,
    /// What `namespaceObject` looks like.
    pub namespace: Option<Schema>,
}

/// One entry of `validations`.
#[derive(Debug)]
pub struct Validation {
    /// What must hold.
    pub rule: Program,
    /// What to say if it does not; empty for the expression itself.
    pub message: Text,
    /// What computes the message.
    pub message_rule: Option<Program>,
    /// The reason of the refusal; empty for the default.
    pub reason: Text,
}

/// One entry of `mutations`.
#[derive(Debug)]
pub enum Mutation {
    /// A configuration that is merged in.
    Apply(Program),
    /// A list of operations.
    Patch(Program),
}

/// An expression that does not compile.
#[derive(Debug)]
pub struct Problem {
    /// Where it stands in the policy.
    pub path: String,
    /// The expression.
    pub expression: String,
    /// Why.
    pub error: CompileError,
}

/// Compiles the expressions of a policy. `object` and `oldObject` have the type `object`, and `params` that of
/// `params`: dynamic, but where types are checked for a kind.
pub fn compile(policy: &Doc, object: &Type, params: &Type) -> (Expressions, Vec<Problem>) {
    let namespace = Schemas::builtin().schema("", "v1", "Namespace");
    let has_params = policy.at(&["spec", "paramKind"]).is_some_and(|kind| !kind.is_null());
    let base = base_declarations(object, has_params.then_some(params));
    let mut compiling = Compiling { problems: Vec::new() };
    let mut compiled = Expressions::default();
    let authorized = authorized(base.clone());
    for (path, condition) in entries(policy, "matchConditions") {
        let program = compiling.one(condition, &path, "expression", &[Type::Bool], &authorized);
        compiled.conditions.extend(program.map(|program| (condition.str_at(&["name"]).into(), program)));
    }
    let named = base.variable_of("namespaceObject", namespace.as_ref().map_or(Type::Dyn, Type::of_schema));
    let mut known: Vec<(Text, Type)> = Vec::new();
    for (path, variable) in entries(policy, "variables") {
        let declared = authorized_with(&named, &known);
        let name: Text = variable.str_at(&["name"]).into();
        let program = compiling.one(variable, &path, "expression", &[], &declared);
        known.push((name.clone(), program.as_ref().map_or(Type::Dyn, |program| program.result_type().clone())));
        compiled.variables.extend(program.map(|program| (name, program)));
    }
    let all = authorized_with(&named, &known);
    let plain = named.variable_of("variables", Type::record("kubernetes.variables", known));
    for (path, validation) in entries(policy, "validations") {
        let rule = compiling.one(validation, &path, "expression", &[Type::Bool], &all);
        let message_rule = match validation.str_at(&["messageExpression"]).is_empty() {
            true => None,
            false => compiling.one(validation, &path, "messageExpression", &[Type::String], &plain),
        };
        compiled.validations.extend(rule.map(|rule| Validation {
            rule,
            message: validation.str_at(&["message"]).into(),
            message_rule,
            reason: validation.str_at(&["reason"]).into(),
        }));
    }
    for (path, annotation) in entries(policy, "auditAnnotations") {
        let wanted = [Type::String, Type::Null];
        let program = compiling.one(annotation, &path, "valueExpression", &wanted, &all);
        compiled.annotations.extend(program.map(|program| (annotation.str_at(&["key"]).into(), program)));
    }
    for (path, mutation) in entries(policy, "mutations") {
        compiled.mutations.extend(compiling.mutation(mutation, &path, &all.clone().with_mutations()));
    }
    compiled.namespace = namespace;
    (compiled, compiling.problems)
}

fn entries<'d>(policy: &'d Doc, list: &str) -> impl Iterator<Item = (String, &'d Doc)> + use<'d> {
    let list = list.to_owned();
    let items = policy.at(&["spec", &list]).map_or(&[][..], Doc::items);
    items.iter().enumerate().map(move |(place, item)| (format!("spec.{list}[{place}]"), item))
}

struct Compiling {
    problems: Vec<Problem>,
}

impl Compiling {
    /// Compiles the expression in a field; it must have one of the types, if there are any.
    fn one(
        &mut self,
        entry: &Doc,
        path: &str,
        field: &str,
        wanted: &[Type],
        declared: &Declarations,
    ) -> Option<Program> {
        let expression = entry.str_at(&[field]);
        let compiled = match wanted {
            [only] => Program::compile_to(expression, only, declared),
            [first, ..] => match Program::compile(expression, declared) {
                Ok(program) if wanted.contains(program.result_type()) => Ok(program),
                Ok(_) => Program::compile_to(expression, first, declared),
                Err(error) => Err(error),
            },
            [] => Program::compile(expression, declared),
        };
        match compiled {
            Ok(program) => Some(program),
            Err(error) => {
                let path = format!("{path}.{field}");
                self.problems.push(Problem { path, expression: expression.into(), error });
                None
            }
        }
    }

    fn mutation(&mut self, mutation: &Doc, path: &str, declared: &Declarations) -> Option<Mutation> {
        match mutation.str_at(&["patchType"]) {
            "ApplyConfiguration" => {
                let entry = mutation.get("applyConfiguration").unwrap_or(&Doc::Null);
                let path = format!("{path}.applyConfiguration");
                let wanted = [Type::Mutation("Object".into())];
                self.one(entry, &path, "expression", &wanted, declared).map(Mutation::Apply)
            }
            "JSONPatch" => {
                let entry = mutation.get("jsonPatch").unwrap_or(&Doc::Null);
                let path = format!("{path}.jsonPatch");
                let wanted = [Type::list(Type::json_patch()), Type::list(Type::Dyn)];
                self.one(entry, &path, "expression", &wanted, declared).map(Mutation::Patch)
            }
            _ => None,
        }
    }
}

fn authorized(declared: Declarations) -> Declarations {
    declared.variable_of("authorizer", AUTHORIZER).variable_of("authorizer.requestResource", RESOURCE_CHECK)
}

fn authorized_with(declared: &Declarations, variables: &[(Text, Type)]) -> Declarations {
    let variables = Type::record("kubernetes.variables", variables.to_vec());
    authorized(declared.clone()).variable_of("variables", variables)
}

/// What every expression may name.
fn base_declarations(object: &Type, params: Option<&Type>) -> Declarations {
    let declared = Declarations::new()
        .variable_of("object", object.clone())
        .variable_of("oldObject", object.clone())
        .variable_of("request", admission::request());
    match params {
        Some(params) => declared.variable_of("params", params.clone()),
        None => declared,
    }
}

#[cfg(test)]
mod tests;
