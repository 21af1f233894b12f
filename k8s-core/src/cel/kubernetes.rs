//! The types that Kubernetes adds to the language, and their functions.

pub(super) mod cidr;
pub(super) mod format;
pub(super) mod ip;
pub(super) mod quantity;
pub(super) mod semver;
pub(super) mod url;

use super::{Budget, EvalError, Opaque, Value};

/// What a function answers.
pub(super) type Answer<'a> = Result<Value<'a>, EvalError>;

/// The text of an argument.
fn text<'v>(args: &'v [Value<'_>], at: usize) -> Result<&'v str, EvalError> {
    args[at].as_str().ok_or_else(EvalError::no_overload)
}

/// `jsonpatch.escapeKey(key)`: a key as one step of a JSON pointer.
pub(super) fn escape_key<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    Ok(Value::text(text(args, 0)?.replace('~', "~0").replace('/', "~1")))
}
