//! Names of fields that are no identifiers, as Kubernetes escapes them in expressions: `a-b` is `a__dash__b`.

use std::borrow::Cow;

use super::parse::RESERVED;

const SEQUENCES: [(&str, &str); 4] =
    [("__underscores__", "__"), ("__dot__", "."), ("__dash__", "-"), ("__slash__", "/")];

/// Whether a name is a word of the grammar, which as the name of a field stands between double underscores.
fn is_word(name: &str) -> bool {
    RESERVED.contains(&name) || matches!(name, "true" | "false" | "null")
}

/// The field's name in the object; `None` if the text is no escaped name.
pub(super) fn unescape(name: &str) -> Option<Cow<'_, str>> {
    if !name.contains("__") {
        return Some(Cow::Borrowed(name));
    }
    let inner = name.strip_prefix("__").and_then(|rest| rest.strip_suffix("__"));
    if let Some(word) = inner.filter(|word| is_word(word)) {
        return Some(Cow::Owned(word.to_owned()));
    }
    let mut out = String::with_capacity(name.len());
    let mut rest = name;
    while !rest.is_empty() {
        if let Some((sequence, plain)) = SEQUENCES.iter().find(|(sequence, _)| rest.starts_with(sequence)) {
            out.push_str(plain);
            rest = &rest[sequence.len()..];
            continue;
        }
        if rest.starts_with("__") {
            return None;
        }
        let next = rest.chars().next()?;
        out.push(next);
        rest = &rest[next.len_utf8()..];
    }
    Some(Cow::Owned(out))
}

/// How a field is named in expressions; `None` if it cannot be.
pub fn escape(name: &str) -> Option<String> {
    if is_word(name) {
        return Some(format!("__{name}__"));
    }
    let mut out = String::with_capacity(name.len());
    let mut rest = name;
    while let Some(next) = rest.chars().next() {
        if let Some(after) = rest.strip_prefix("__") {
            out.push_str("__underscores__");
            rest = after;
            continue;
        }
        match next {
            '.' => out.push_str("__dot__"),
            '-' => out.push_str("__dash__"),
            '/' => out.push_str("__slash__"),
            '_' => out.push('_'),
            _ if next.is_ascii_alphanumeric() => out.push(next),
            _ => return None,
        }
        rest = &rest[next.len_utf8()..];
    }
    if out.starts_with(|first: char| first.is_ascii_digit()) { None } else { Some(out) }
}
