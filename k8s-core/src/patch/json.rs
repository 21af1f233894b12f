//! JSON patch, RFC 6902: a list of operations on places named by JSON pointers (RFC 6901).

use super::{MAX_COPIED_BYTES, MAX_OPERATIONS};
use crate::{
    doc::{Doc, MAX_DEPTH, Map},
    status::{ApiError, ApiResult, Reason},
};

/// Applies every operation in turn; the first that fails fails the whole.
pub(super) fn apply(patch: &Doc, current: &Doc) -> ApiResult<Doc> {
    let Doc::Array(operations) = patch else {
        return Err(ApiError::bad_request("a JSON patch is a list of operations"));
    };
    if operations.len() > MAX_OPERATIONS {
        let count = operations.len();
        return Err(ApiError::too_large(format!("the patch has {count} operations, at most {MAX_OPERATIONS} may be")));
    }
    let mut patching = Patching { doc: current.clone(), copied: 0 };
    for (index, operation) in operations.iter().enumerate() {
        patching.run(operation).map_err(|fault| fault.into_error(index))?;
    }
    Ok(patching.doc)
}

/// Why an operation fails.
enum Fault {
    /// The operation itself is wrong.
    Malformed(String),
    /// It does not fit this object.
    Unfit(String),
    /// It would grow the object too far.
    TooLarge(String),
}

impl Fault {
    fn into_error(self, index: usize) -> ApiError {
        match self {
            Self::Malformed(why) => ApiError::bad_request(format!("JSON patch operation {index}: {why}")),
            Self::Unfit(why) => ApiError::new(422, Reason::Invalid, format!("JSON patch operation {index}: {why}")),
            Self::TooLarge(why) => ApiError::too_large(format!("JSON patch operation {index}: {why}")),
        }
    }
}

type Done<T> = Result<T, Fault>;

struct Patching {
    doc: Doc,
    copied: usize,
}

impl Patching {
    fn run(&mut self, operation: &Doc) -> Done<()> {
        let Doc::Object(fields) = operation else {
            return Err(Fault::Malformed("not an object".into()));
        };
        let path = pointer(fields, "path")?;
        match fields.get("op").and_then(Doc::as_str).unwrap_or("") {
            "add" => self.add(&path, value(fields)?.clone()),
            "remove" => self.remove(&path).map(drop),
            "replace" => self.replace(&path, value(fields)?.clone()),
            "move" => {
                let from = pointer(fields, "from")?;
                if path.len() > from.len() && path.0.starts_with(&from.0) {
                    return Err(Fault::Malformed(format!("{from} cannot move into itself")));
                }
                let moved = self.remove(&from)?;
                self.add(&path, moved)
            }
            "copy" => self.copy(&pointer(fields, "from")?, &path),
            "test" => self.test(&path, value(fields)?),
            other => Err(Fault::Malformed(format!("unknown operation {other:?}"))),
        }
    }

    fn add(&mut self, path: &Pointer, value: Doc) -> Done<()> {
        check_depth(path, &value)?;
        let Some((last, parents)) = path.split_last() else {
            self.doc = value;
            return Ok(());
        };
        match self.place(parents).ok_or_else(|| missing(path))? {
            Doc::Object(fields) => {
                fields.insert(last.as_str(), value);
                Ok(())
            }
            Doc::Array(items) => {
                let at = if last == "-" { Some(items.len()) } else { index(last) };
                let at = at.filter(|at| *at <= items.len()).ok_or_else(|| missing(path))?;
                items.insert(at, value);
                Ok(())
            }
            _ => Err(missing(path)),
        }
    }

    fn replace(&mut self, path: &Pointer, value: Doc) -> Done<()> {
        check_depth(path, &value)?;
        *self.place(&path.0).ok_or_else(|| missing(path))? = value;
        Ok(())
    }

    fn remove(&mut self, path: &Pointer) -> Done<Doc> {
        let Some((last, parents)) = path.split_last() else {
            return Err(Fault::Unfit("the whole object cannot be removed".into()));
        };
        let removed = match self.place(parents) {
            Some(Doc::Object(fields)) => fields.remove(last),
            Some(Doc::Array(items)) => index(last).filter(|at| *at < items.len()).map(|at| items.remove(at)),
            _ => None,
        };
        removed.ok_or_else(|| missing(path))
    }

    fn copy(&mut self, from: &Pointer, path: &Pointer) -> Done<()> {
        let copy = self.place(&from.0).ok_or_else(|| missing(from))?.clone();
        self.copied += copy.to_json().len();
        if self.copied > MAX_COPIED_BYTES {
            return Err(Fault::TooLarge(format!("the patch copies more than {MAX_COPIED_BYTES} bytes")));
        }
        self.add(path, copy)
    }

    /// A place that is not there counts as `null`.
    fn test(&mut self, path: &Pointer, expected: &Doc) -> Done<()> {
        let found = self.place(&path.0).map_or(&Doc::Null, |found| found);
        if found == expected {
            return Ok(());
        }
        Err(Fault::Unfit(format!("testing value {path} failed")))
    }

    fn place(&mut self, path: &[String]) -> Option<&mut Doc> {
        path.iter().try_fold(&mut self.doc, |doc, step| match doc {
            Doc::Object(fields) => fields.get_mut(step),
            Doc::Array(items) => items.get_mut(index(step)?),
            _ => None,
        })
    }
}

/// The steps of a JSON pointer.
struct Pointer(Vec<String>);

impl Pointer {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn split_last(&self) -> Option<(&String, &[String])> {
        self.0.split_last()
    }
}

impl std::fmt::Display for Pointer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|step| write!(f, "/{}", step.replace('~', "~0").replace('/', "~1")))
    }
}

fn pointer(operation: &Map, name: &str) -> Done<Pointer> {
    let Some(text) = operation.get(name).and_then(Doc::as_str) else {
        return Err(Fault::Malformed(format!("{name:?} must be a JSON pointer")));
    };
    if text.is_empty() {
        return Ok(Pointer(Vec::new()));
    }
    let steps = text.strip_prefix('/').and_then(|rest| rest.split('/').map(unescape).collect());
    steps.map(Pointer).ok_or_else(|| Fault::Malformed(format!("{text:?} is not a JSON pointer")))
}

/// `~1` is `/` and `~0` is `~`; nothing else may follow a tilde.
fn unescape(step: &str) -> Option<String> {
    let (mut text, mut letters) = (String::with_capacity(step.len()), step.chars());
    while let Some(letter) = letters.next() {
        text.push(match letter {
            '~' => match letters.next()? {
                '0' => '~',
                '1' => '/',
                _ => return None,
            },
            other => other,
        });
    }
    Some(text)
}

fn value(operation: &Map) -> Done<&Doc> {
    operation.get("value").ok_or_else(|| Fault::Malformed("\"value\" is missing".into()))
}

/// Decimal without leading zeros or sign.
fn index(step: &str) -> Option<usize> {
    let plain = step == "0" || (!step.starts_with('0') && step.bytes().all(|byte| byte.is_ascii_digit()));
    plain.then(|| step.parse().ok())?
}

fn missing(path: &Pointer) -> Fault {
    Fault::Unfit(format!("path {path} does not exist"))
}

/// Copies into copies would nest without end; what cannot be parsed must not be made either.
fn check_depth(path: &Pointer, value: &Doc) -> Done<()> {
    if path.len() + depth(value) > MAX_DEPTH {
        return Err(Fault::TooLarge(format!("the object would be nested more than {MAX_DEPTH} deep")));
    }
    Ok(())
}

fn depth(value: &Doc) -> usize {
    match value {
        Doc::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Doc::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}
