//! Evaluates the expressions of one policy for one request. Pure: what it looks at is handed in.

use std::{
    cell::{Cell, RefCell},
    rc::{Rc, Weak},
};

use super::{Expressions, Mutation, Validation};
use crate::{
    cel::{
        Activation, Budget, EvalError, Fields, MATCH_CONDITIONS_BUDGET, OBJECT_BUDGET, Program, Value,
        authorizer::{Authorizer, Check, Question},
    },
    doc::{Doc, Text},
};

/// How deep variables may name one another.
const MAX_DEPTH: u32 = 32;
/// The longest message that an expression may compute, and the longest value of an annotation, in bytes.
const MAX_MESSAGE: usize = 5 * 1024;
const MAX_ANNOTATION: usize = 10 * 1024;

/// What the variables of expressions stand for in one request.
#[derive(Clone)]
pub struct Bound<'a> {
    /// The object as it shall be, or `null`.
    pub object: &'a Doc,
    /// The object as it was, or `null`.
    pub old: &'a Doc,
    /// The request.
    pub request: &'a Doc,
    /// The namespace, or `null`.
    pub namespace: &'a Doc,
    /// The parameters, or `null`.
    pub params: &'a Doc,
    /// Who is asked about permissions.
    pub authorizer: Rc<dyn Authorizer + 'a>,
    /// What the request itself would ask, without the verb.
    pub question: Question,
}

/// A validation that does not hold, or that could not be evaluated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// What to tell.
    pub message: String,
    /// The reason; empty for the default.
    pub reason: Text,
    /// Which validation, or nothing if it is about the policy as a whole.
    pub place: Option<usize>,
    /// Whether evaluating failed, so that the failure policy decides.
    pub failed: bool,
}

impl Denial {
    /// A failure that is about the policy as a whole.
    pub fn failure(message: impl Into<String>) -> Self {
        Self { message: message.into(), reason: Text::default(), place: None, failed: true }
    }
}

/// The evaluation of one policy for one request and one set of parameters.
pub struct Answers<'a> {
    expressions: &'a Expressions,
    variables: Activation<'a>,
    budget: Budget,
}

/// What the variables are bound to.
pub fn variables_of<'a>(bound: &Bound<'a>) -> Activation<'a> {
    Activation::new()
        .bind("object", Value::of(bound.object))
        .bind("oldObject", Value::of(bound.old))
        .bind("request", Value::of(bound.request))
        .bind("params", Value::of(bound.params))
        .bind("authorizer", Check::authorizer(bound.authorizer.clone()))
        .bind("authorizer.requestResource", Check::resource(bound.authorizer.clone(), bound.question.clone()))
}

impl<'a> Answers<'a> {
    /// Nothing is evaluated yet.
    pub fn new(expressions: &'a Expressions, bound: &Bound<'a>) -> Self {
        let mut variables = variables_of(bound);
        let namespace = match &expressions.namespace {
            Some(schema) => Value::of_node(bound.namespace, schema.root()),
            None => Value::of(bound.namespace),
        };
        variables.set("namespaceObject", namespace);
        let lazy = Rc::new_cyclic(|own: &Weak<Lazy<'a>>| Lazy {
            programs: &expressions.variables,
            base: variables.clone(),
            found: RefCell::new(vec![None; expressions.variables.len()]),
            depth: Cell::new(0),
            own: own.clone(),
        });
        variables.set("variables", Value::Fields(lazy));
        Self { expressions, variables, budget: Budget::new(OBJECT_BUDGET) }
    }

    /// Whether all match conditions hold. One that is false decides, whatever fails beside it.
    pub fn matches(&self) -> Result<bool, String> {
        let mut budget = Budget::new(MATCH_CONDITIONS_BUDGET);
        let mut failed = None;
        for (name, condition) in &self.expressions.conditions {
            match condition.evaluate(&self.variables, &mut budget) {
                Ok(Value::Bool(true)) => {}
                Ok(Value::Bool(false)) => return Ok(false),
                Ok(_) => failed = failed.or(Some(format!("match condition {name:?}: {}", not_bool(condition)))),
                Err(why) => failed = failed.or(Some(format!("match condition {name:?}: {}", told(condition, &why)))),
            }
        }
        failed.map_or(Ok(true), Err)
    }

    /// The validations that do not hold.
    pub fn denials(&mut self) -> Vec<Denial> {
        let mut denials = Vec::new();
        let expressions = self.expressions;
        for (place, validation) in expressions.validations.iter().enumerate() {
            let outcome = validation.rule.evaluate(&self.variables, &mut self.budget);
            let denial = match outcome {
                Ok(Value::Bool(true)) => continue,
                Ok(Value::Bool(false)) => {
                    let message = self.message(validation);
                    Denial { message, reason: validation.reason.clone(), place: Some(place), failed: false }
                }
                Ok(_) => Denial { place: Some(place), ..Denial::failure(not_bool(&validation.rule)) },
                Err(why) => Denial { place: Some(place), ..Denial::failure(told(&validation.rule, &why)) },
            };
            denials.push(denial);
        }
        denials
    }

    /// What to tell of a validation that does not hold.
    fn message(&mut self, validation: &'a Validation) -> String {
        let computed = validation.message_rule.as_ref().and_then(|rule| {
            let value = rule.evaluate(&self.variables, &mut self.budget).ok()?;
            let text = value.as_str()?.trim();
            let usable = !text.is_empty() && !text.contains('\n') && text.len() <= MAX_MESSAGE;
            usable.then(|| text.to_owned())
        });
        match computed {
            Some(message) => message,
            None if !validation.message.trim().is_empty() => validation.message.trim().to_owned(),
            None => format!("failed expression: {}", validation.rule.source().trim()),
        }
    }

    /// The annotations for the audit log, by key; what could not be evaluated is a denial.
    pub fn annotations(&mut self) -> Vec<(Text, Result<String, Denial>)> {
        let expressions = self.expressions;
        let mut annotations = Vec::new();
        for (key, rule) in &expressions.annotations {
            let value = match rule.evaluate(&self.variables, &mut self.budget) {
                Ok(Value::String(text)) if text.as_str().trim().is_empty() => continue,
                Ok(Value::String(text)) => {
                    let text = text.as_str();
                    let end = (0..=text.len().min(MAX_ANNOTATION)).rev().find(|at| text.is_char_boundary(*at));
                    Ok(text[..end.unwrap_or(0)].to_owned())
                }
                Ok(Value::Null) => continue,
                Ok(other) => {
                    let message = format!("valueExpression {:?} gave a {}", rule.source(), other.type_name());
                    Err(Denial::failure(message))
                }
                Err(why) => Err(Denial::failure(told(rule, &why))),
            };
            annotations.push((key.clone(), value));
        }
        annotations
    }

    /// What the mutation at a place comes to: a configuration, or a list of operations.
    pub fn mutation(&mut self, place: usize) -> Result<Doc, String> {
        let mutation = self.expressions.mutations.get(place).ok_or_else(|| "no such mutation".to_owned())?;
        let (Mutation::Apply(program) | Mutation::Patch(program)) = mutation;
        let value = program.evaluate(&self.variables, &mut self.budget).map_err(|why| told(program, &why))?;
        if let Mutation::Apply(_) = mutation {
            check_names(&value, "Object")?;
        }
        value.to_doc().map_err(|why| told(program, &why))
    }
}

/// Every structure of a configuration must be named as the field that it stands in.
fn check_names(value: &Value<'_>, wanted: &str) -> Result<(), String> {
    match value {
        Value::Made(made) if made.name != wanted => Err(format!(
            "unexpected type name {:?}, expected {wanted:?}, which matches field name path from root Object type",
            made.name
        )),
        Value::Made(made) => {
            made.fields.iter().try_for_each(|(field, value)| check_names(value, &format!("{wanted}.{field}")))
        }
        Value::List(list) => list.iter().try_for_each(|item| check_names(&item, wanted)),
        Value::Map(map) => map.iter().try_for_each(|(_, value)| check_names(&value, wanted)),
        _ => Ok(()),
    }
}

fn told(program: &Program, why: &EvalError) -> String {
    format!("expression '{}' resulted in error: {why}", program.source())
}

fn not_bool(program: &Program) -> String {
    format!("expression '{}' resulted in error: it gave no bool", program.source())
}

/// The `variables` of a policy: each is evaluated when it is first asked for.
struct Lazy<'a> {
    programs: &'a [(Text, Program)],
    base: Activation<'a>,
    found: RefCell<Vec<Option<Result<Value<'a>, EvalError>>>>,
    depth: Cell<u32>,
    own: Weak<Lazy<'a>>,
}

impl<'a> Fields<'a> for Lazy<'a> {
    fn field(&self, name: &str, budget: &mut Budget) -> Option<Result<Value<'a>, EvalError>> {
        let place = self.programs.iter().position(|(known, _)| known == name)?;
        if let Some(found) = self.found.borrow()[place].clone() {
            return Some(found);
        }
        let mut variables = self.base.clone();
        if let Some(own) = self.own.upgrade() {
            variables.set("variables", Value::Fields(own));
        }
        if self.depth.get() == MAX_DEPTH {
            return Some(Err(EvalError::Failed("variables name one another too deeply".into())));
        }
        self.depth.set(self.depth.get() + 1);
        let found = self.programs[place].1.evaluate(&variables, budget);
        self.depth.set(self.depth.get() - 1);
        self.found.borrow_mut()[place] = Some(found.clone());
        Some(found)
    }

    fn type_name(&self) -> &str {
        "kubernetes.variables"
    }
}
