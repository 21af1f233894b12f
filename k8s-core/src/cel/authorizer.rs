//! The variable `authorizer`: expressions say what they ask, the caller's [`Authorizer`] answers.

use std::rc::Rc;

use super::{Budget, EvalError, Opaque, Value};

/// Answers whether somebody may do something. Called while evaluating, so it must not wait.
pub trait Authorizer {
    /// The answer for one question.
    fn decide(&self, question: &Question) -> Decision;
}

/// What an expression asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Question {
    /// Namespace and name of the service account that is asked about; the request's user if there is none.
    pub service_account: Option<(String, String)>,
    /// A path that is no resource; the other fields but the verb then mean nothing.
    pub path: Option<String>,
    /// The API group.
    pub group: String,
    /// The plural name of the kind.
    pub resource: String,
    /// What hangs below the object.
    pub subresource: String,
    /// The namespace.
    pub namespace: String,
    /// The object's name.
    pub name: String,
    /// The selector of fields.
    pub field_selector: Option<String>,
    /// The selector of labels.
    pub label_selector: Option<String>,
    /// What is to be done.
    pub verb: String,
}

/// An answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// Whether it is allowed.
    pub allowed: bool,
    /// Why.
    pub reason: String,
    /// What went wrong in finding out; empty if nothing did.
    pub error: String,
}

/// A question on its way: the value of `authorizer` and of what is called on it before `check`.
#[derive(Clone)]
pub struct Check<'a> {
    authorizer: Rc<dyn Authorizer + 'a>,
    question: Question,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq)]
enum Stage {
    Whole,
    Path,
    Group,
    Resource,
}

impl<'a> Check<'a> {
    /// The value of `authorizer`.
    pub fn authorizer(authorizer: Rc<dyn Authorizer + 'a>) -> Value<'a> {
        let check = Check { authorizer, question: Question::default(), stage: Stage::Whole };
        Value::Opaque(Opaque::Check(Rc::new(check)))
    }

    /// The value of `authorizer.requestResource`: the resource of the request, without a verb.
    pub fn resource(authorizer: Rc<dyn Authorizer + 'a>, question: Question) -> Value<'a> {
        Value::Opaque(Opaque::Check(Rc::new(Check { authorizer, question, stage: Stage::Resource })))
    }

    pub(super) fn type_name(&self) -> &'static str {
        match self.stage {
            Stage::Whole => "kubernetes.authorization.Authorizer",
            Stage::Path => "kubernetes.authorization.PathCheck",
            Stage::Group => "kubernetes.authorization.GroupCheck",
            Stage::Resource => "kubernetes.authorization.ResourceCheck",
        }
    }

    fn narrowed(&self, stage: Stage, change: impl FnOnce(&mut Question)) -> Value<'a> {
        let mut next = Self { stage, ..self.clone() };
        change(&mut next.question);
        Value::Opaque(Opaque::Check(Rc::new(next)))
    }
}

type Answer<'a> = Result<Value<'a>, EvalError>;

fn check<'v, 'a>(args: &'v [Value<'a>], stage: &[Stage]) -> Result<&'v Check<'a>, EvalError> {
    match &args[0] {
        Value::Opaque(Opaque::Check(check)) if stage.contains(&check.stage) => Ok(check),
        _ => Err(EvalError::no_overload()),
    }
}

fn text(args: &[Value<'_>], at: usize) -> Result<String, EvalError> {
    args[at].as_str().map(str::to_owned).ok_or_else(EvalError::no_overload)
}

pub(super) fn path<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    let path = text(args, 1)?;
    if path.is_empty() {
        return Err(EvalError::new("path must not be empty"));
    }
    Ok(check(args, &[Stage::Whole])?.narrowed(Stage::Path, |question| question.path = Some(path)))
}

pub(super) fn group<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    let group = text(args, 1)?;
    Ok(check(args, &[Stage::Whole])?.narrowed(Stage::Group, |question| question.group = group))
}

pub(super) fn service_account<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    let account = (text(args, 1)?, text(args, 2)?);
    let stages = [Stage::Whole];
    Ok(check(args, &stages)?.narrowed(Stage::Whole, |question| question.service_account = Some(account)))
}

pub(super) fn resource<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    let resource = text(args, 1)?;
    Ok(check(args, &[Stage::Group])?.narrowed(Stage::Resource, |question| question.resource = resource))
}

macro_rules! narrow {
    ($($function:ident => |$question:ident, $value:ident| $set:expr;)*) => {$(
        pub(super) fn $function<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
            let $value = text(args, 1)?;
            Ok(check(args, &[Stage::Resource])?.narrowed(Stage::Resource, |$question| $set))
        }
    )*};
}

narrow! {
    subresource => |question, value| question.subresource = value;
    namespace => |question, value| question.namespace = value;
    name => |question, value| question.name = value;
    field_selector => |question, value| question.field_selector = Some(value);
    label_selector => |question, value| question.label_selector = Some(value);
}

pub(super) fn decide<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    let check = check(args, &[Stage::Path, Stage::Resource])?;
    let question = Question { verb: text(args, 1)?, ..check.question.clone() };
    let decision = check.authorizer.decide(&question);
    Ok(Value::Opaque(Opaque::Decision(Rc::new(decision))))
}

fn decision<'v>(args: &'v [Value<'_>]) -> Result<&'v Decision, EvalError> {
    match &args[0] {
        Value::Opaque(Opaque::Decision(decision)) => Ok(decision),
        _ => Err(EvalError::no_overload()),
    }
}

pub(super) fn allowed<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    Ok(Value::Bool(decision(args)?.allowed))
}

pub(super) fn reason<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    Ok(Value::text(decision(args)?.reason.as_str()))
}

pub(super) fn errored<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    Ok(Value::Bool(!decision(args)?.error.is_empty()))
}

pub(super) fn error<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    Ok(Value::text(decision(args)?.error.as_str()))
}
