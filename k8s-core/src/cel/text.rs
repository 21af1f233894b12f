//! Functions of text.

mod printf;

use regex::{Regex, RegexBuilder};

pub(super) use printf::format;

use super::{Budget, EvalError, Value, value::List};

type Answer<'a> = Result<Value<'a>, EvalError>;

fn text<'v>(args: &'v [Value<'_>], at: usize) -> Result<&'v str, EvalError> {
    args[at].as_str().ok_or_else(EvalError::no_overload)
}

fn int(args: &[Value<'_>], at: usize) -> Result<i64, EvalError> {
    match &args[at] {
        Value::Int(value) => Ok(*value),
        _ => Err(EvalError::no_overload()),
    }
}

/// A place in a text of so many characters, which may be its end.
fn place(index: i64, length: usize) -> Result<usize, EvalError> {
    usize::try_from(index)
        .ok()
        .filter(|index| *index <= length)
        .ok_or_else(|| EvalError::new(format!("index out of range: {index}")))
}

/// `size(x)`, `x.size()`
pub(super) fn size<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    let size = match &args[0] {
        Value::String(text) => text.as_str().chars().count(),
        Value::Bytes(bytes) => bytes.len(),
        Value::List(list) => list.len(),
        Value::Map(map) => map.len(),
        _ => return Err(EvalError::no_overload()),
    };
    Ok(Value::Int(size as i64))
}

pub(super) fn starts_with<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    Ok(Value::Bool(text(args, 0)?.starts_with(text(args, 1)?)))
}

pub(super) fn ends_with<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    Ok(Value::Bool(text(args, 0)?.ends_with(text(args, 1)?)))
}

pub(super) fn contains<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    Ok(Value::Bool(text(args, 0)?.contains(text(args, 1)?)))
}

/// A regular expression, bounded in size.
pub(super) fn compile(pattern: &str) -> Result<Regex, EvalError> {
    let compiled = RegexBuilder::new(pattern).size_limit(1 << 20).dfa_size_limit(1 << 20).nest_limit(64).build();
    compiled.map_err(|why| {
        let why = why.to_string();
        let line = why.lines().last().unwrap_or("").trim_start_matches("error: ");
        EvalError::new(format!("error parsing regexp: {line}: `{pattern}`"))
    })
}

/// `matches(text, pattern)`; patterns that are literals were compiled before.
pub(super) fn matches<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    Ok(Value::Bool(compile(text(args, 1)?)?.is_match(text(args, 0)?)))
}

/// `t.find(pattern)`: the first match, or nothing.
pub(super) fn find<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    let found = compile(text(args, 1)?)?.find(text(args, 0)?).map_or("", |found| found.as_str());
    Ok(Value::text(found))
}

/// `t.findAll(pattern)`, `t.findAll(pattern, limit)`
pub(super) fn find_all<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    let limit = if args.len() > 2 { int(args, 2)? } else { -1 };
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let pattern = compile(text(args, 1)?)?;
    let found = pattern.find_iter(text(args, 0)?).take(limit).map(|found| Value::text(found.as_str()));
    Ok(Value::list(found.collect()))
}

/// `t.charAt(index)`
pub(super) fn char_at<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    let text = text(args, 0)?;
    let at = place(int(args, 1)?, text.chars().count())?;
    Ok(Value::text(text.chars().nth(at).map(String::from).unwrap_or_default()))
}

/// `t.indexOf(part)`, `t.indexOf(part, from)`; of lists too.
pub(super) fn index_of<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    if let Value::List(list) = &args[0] {
        let found = list.iter().position(|item| item.equals(&args[1]));
        return Ok(Value::Int(found.map_or(-1, |at| at as i64)));
    }
    let (text, part) = (text(args, 0)?, text(args, 1)?);
    let from = if args.len() > 2 { place(int(args, 2)?, text.chars().count())? } else { 0 };
    let start = byte_of(text, from);
    Ok(Value::Int(match text[start..].find(part) {
        Some(at) => (from + text[start..start + at].chars().count()) as i64,
        None => -1,
    }))
}

/// `t.lastIndexOf(part)`, `t.lastIndexOf(part, to)`; of lists too.
pub(super) fn last_index_of<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    if let Value::List(list) = &args[0] {
        let found = list.iter().rposition(|item| item.equals(&args[1]));
        return Ok(Value::Int(found.map_or(-1, |at| at as i64)));
    }
    let (text, part) = (text(args, 0)?, text(args, 1)?);
    let end = if args.len() > 2 {
        // The part may begin there at the latest.
        let last = byte_of(text, place(int(args, 2)?, text.chars().count())?);
        text.len().min(last + part.len())
    } else {
        text.len()
    };
    let end = (end..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
    Ok(Value::Int(text[..end].rfind(part).map_or(-1, |at| text[..at].chars().count() as i64)))
}

/// Where the character of an index begins.
fn byte_of(text: &str, index: usize) -> usize {
    text.char_indices().nth(index).map_or(text.len(), |(at, _)| at)
}

/// `list.join()`, `list.join(separator)`
pub(super) fn join<'a>(args: &[Value<'a>], budget: &mut Budget) -> Answer<'a> {
    let Value::List(list) = &args[0] else { return Err(EvalError::no_overload()) };
    let separator = if args.len() > 1 { text(args, 1)? } else { "" };
    let mut out = String::new();
    for (at, item) in list.iter().enumerate() {
        if at > 0 {
            out.push_str(separator);
        }
        let item = item.as_str().ok_or_else(EvalError::no_overload)?;
        budget.spend(((item.len() + separator.len()) / 10) as u64)?;
        out.push_str(item);
    }
    Ok(Value::text(out))
}

pub(super) fn lower_ascii<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    Ok(Value::text(text(args, 0)?.to_ascii_lowercase()))
}

pub(super) fn upper_ascii<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    Ok(Value::text(text(args, 0)?.to_ascii_uppercase()))
}

/// `t.replace(old, new)`, `t.replace(old, new, count)`
pub(super) fn replace<'a>(args: &[Value<'a>], budget: &mut Budget) -> Answer<'a> {
    let (text, old, new) = (text(args, 0)?, text(args, 1)?, text(args, 2)?);
    let count = if args.len() > 3 { int(args, 3)? } else { -1 };
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    let found = text.matches(old).take(count).count() as u64;
    budget.spend(found.saturating_mul(new.len() as u64) / 10)?;
    Ok(Value::text(text.replacen(old, new, count)))
}

/// `t.split(separator)`, `t.split(separator, limit)`
pub(super) fn split<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    let (text, separator) = (text(args, 0)?, text(args, 1)?);
    let limit = if args.len() > 2 { int(args, 2)? } else { -1 };
    if limit == 0 {
        return Ok(Value::list(Vec::new()));
    }
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    if !separator.is_empty() {
        return Ok(Value::list(text.splitn(limit, separator).map(Value::text).collect()));
    }
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        if parts.len() + 1 == limit {
            parts.push(Value::text(rest));
            return Ok(Value::list(parts));
        }
        let (one, after) = rest.split_at(next.len_utf8());
        parts.push(Value::text(one));
        rest = after;
    }
    Ok(Value::list(parts))
}

/// `t.substring(from)`, `t.substring(from, to)`
pub(super) fn substring<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    let text = text(args, 0)?;
    let length = text.chars().count();
    let from = place(int(args, 1)?, length)?;
    let to = if args.len() > 2 { place(int(args, 2)?, length)? } else { length };
    if from > to {
        return Err(EvalError::new(format!("invalid substring range. start: {from}, end: {to}")));
    }
    Ok(Value::text(&text[byte_of(text, from)..byte_of(text, to)]))
}

pub(super) fn trim<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    Ok(Value::text(text(args, 0)?.trim()))
}

/// `t.reverse()`; of lists too.
pub(super) fn reverse<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    match &args[0] {
        Value::List(list) => Ok(Value::list(list.iter().rev().collect())),
        _ => Ok(Value::text(text(args, 0)?.chars().rev().collect::<String>())),
    }
}

/// `strings.quote(t)`
pub(super) fn quote<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    let mut out = String::from("\"");
    for next in text(args, 0)?.chars() {
        match next {
            '\x07' => out.push_str("\\a"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x0b' => out.push_str("\\v"),
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            other => out.push(other),
        }
    }
    out.push('"');
    Ok(Value::text(out))
}

/// The items of a list that is an argument.
pub(super) fn list<'v, 'a>(args: &'v [Value<'a>], at: usize) -> Result<&'v List<'a>, EvalError> {
    match &args[at] {
        Value::List(list) => Ok(list),
        _ => Err(EvalError::no_overload()),
    }
}
