//! Label and field selectors: parsed once, matched often.
//!
//! Follows apimachinery's `labels.Selector` and `fields.Selector`: the same grammar, the same meaning of absence.

use std::{collections::BTreeSet, fmt, str::FromStr};

use crate::{api::apimachinery::pkg::apis::meta::v1 as meta, doc::Doc, status::ApiError};

/// The longest selector text that is parsed; longer ones are refused.
pub const MAX_SELECTOR_BYTES: usize = 64 * 1024;

/// A conjunction of requirements on labels. The default matches everything.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct LabelSelector {
    requirements: Vec<Requirement>,
}

/// One requirement on one label.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Requirement {
    /// The label's key.
    pub key: String,
    /// What its value must be.
    pub operator: Operator,
}

/// What a label's value must be. As upstream, `NotIn` also holds where the label is absent.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operator {
    /// One of these.
    In(BTreeSet<String>),
    /// None of these, or absent.
    NotIn(BTreeSet<String>),
    /// Present.
    Exists,
    /// Absent.
    DoesNotExist,
    /// Present, an integer, and greater (only node selectors and the text form say this).
    GreaterThan(i64),
    /// Present, an integer, and less.
    LessThan(i64),
}

/// Where a selector looks labels up.
pub trait Labels {
    /// The value of `key`, if present.
    fn label(&self, key: &str) -> Option<&str>;
}

impl Labels for std::collections::BTreeMap<String, String> {
    fn label(&self, key: &str) -> Option<&str> {
        self.get(key).map(String::as_str)
    }
}

impl<L: Labels> Labels for Option<L> {
    fn label(&self, key: &str) -> Option<&str> {
        self.as_ref().and_then(|labels| labels.label(key))
    }
}

impl<L: Labels> Labels for &L {
    fn label(&self, key: &str) -> Option<&str> {
        (*self).label(key)
    }
}

impl<L: Labels> Labels for std::sync::Arc<L> {
    fn label(&self, key: &str) -> Option<&str> {
        (**self).label(key)
    }
}

/// Sorted pairs, as objects in flight carry them.
impl<T: AsRef<str>> Labels for [(T, T)] {
    fn label(&self, key: &str) -> Option<&str> {
        let found = self.binary_search_by(|(k, _)| k.as_ref().cmp(key)).ok()?;
        Some(self[found].1.as_ref())
    }
}

impl LabelSelector {
    /// A selector of exactly these requirements.
    pub fn new(mut requirements: Vec<Requirement>) -> Self {
        requirements.sort();
        Self { requirements }
    }

    /// Every pair must be present with its value.
    pub fn equal<K: Into<String>, V: Into<String>>(pairs: impl IntoIterator<Item = (K, V)>) -> Self {
        let one = |(key, value): (K, V)| Requirement {
            key: key.into(),
            operator: Operator::In(BTreeSet::from([value.into()])),
        };
        Self::new(pairs.into_iter().map(one).collect())
    }

    /// `spec.selector` of a workload: `matchLabels` and `matchExpressions`, or, of a ReplicationController, plain
    /// pairs. `None` where there is none that can be read.
    pub fn of_workload(doc: &Doc) -> Option<Self> {
        let selector = doc.at(&["spec", "selector"]).filter(|selector| !selector.is_null())?;
        if doc.str_at(&["kind"]) == "ReplicationController" {
            let pairs = selector.as_object()?.iter();
            return Some(Self::equal(pairs.map(|(key, value)| (key.to_string(), value.as_str().unwrap_or("")))));
        }
        Self::try_from(&selector.deserialize::<meta::LabelSelector>().ok()?).ok()
    }

    /// Whether everything matches.
    pub fn is_everything(&self) -> bool {
        self.requirements.is_empty()
    }

    /// The requirements, sorted by key.
    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }

    /// Whether labels meet every requirement.
    pub fn matches<L: Labels + ?Sized>(&self, labels: &L) -> bool {
        self.requirements.iter().all(|requirement| requirement.matches(labels))
    }
}

impl Requirement {
    /// Whether labels meet this requirement.
    pub fn matches<L: Labels + ?Sized>(&self, labels: &L) -> bool {
        let value = labels.label(&self.key);
        match &self.operator {
            Operator::In(values) => value.is_some_and(|v| values.contains(v)),
            Operator::NotIn(values) => value.is_none_or(|v| !values.contains(v)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::GreaterThan(bound) => value.and_then(|v| v.parse().ok()).is_some_and(|v: i64| v > *bound),
            Operator::LessThan(bound) => value.and_then(|v| v.parse().ok()).is_some_and(|v: i64| v < *bound),
        }
    }
}

/// `spec.selector` of the workload kinds. An empty one matches everything, as upstream's conversion does.
impl TryFrom<&meta::LabelSelector> for LabelSelector {
    type Error = ApiError;

    fn try_from(selector: &meta::LabelSelector) -> Result<Self, ApiError> {
        let mut requirements = Self::equal(selector.match_labels.iter().flatten()).requirements;
        for expression in selector.match_expressions.iter().flatten() {
            let values: BTreeSet<String> = expression.values.iter().flatten().cloned().collect();
            let operator = match expression.operator.as_str() {
                "In" if !values.is_empty() => Operator::In(values),
                "NotIn" if !values.is_empty() => Operator::NotIn(values),
                "Exists" if values.is_empty() => Operator::Exists,
                "DoesNotExist" if values.is_empty() => Operator::DoesNotExist,
                other => {
                    let count = values.len();
                    let message = format!("label selector: operator {other:?} does not take {count} values");
                    return Err(ApiError::bad_request(message));
                }
            };
            requirements.push(Requirement { key: expression.key.clone(), operator });
        }
        Ok(Self::new(requirements))
    }
}

impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, requirement) in self.requirements.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            requirement.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = &self.key;
        let list = |values: &BTreeSet<String>| values.iter().map(String::as_str).collect::<Vec<_>>().join(",");
        match &self.operator {
            Operator::In(values) if values.len() == 1 => write!(f, "{key}={}", list(values)),
            Operator::In(values) => write!(f, "{key} in ({})", list(values)),
            Operator::NotIn(values) if values.len() == 1 => write!(f, "{key}!={}", list(values)),
            Operator::NotIn(values) => write!(f, "{key} notin ({})", list(values)),
            Operator::Exists => f.write_str(key),
            Operator::DoesNotExist => write!(f, "!{key}"),
            Operator::GreaterThan(bound) => write!(f, "{key}>{bound}"),
            Operator::LessThan(bound) => write!(f, "{key}<{bound}"),
        }
    }
}

/// Parses the text form of the `labelSelector` query parameter.
impl FromStr for LabelSelector {
    type Err = ApiError;

    fn from_str(text: &str) -> Result<Self, ApiError> {
        if text.len() > MAX_SELECTOR_BYTES {
            return Err(ApiError::bad_request(format!("labelSelector: longer than {MAX_SELECTOR_BYTES} bytes")));
        }
        let mut requirements = Vec::new();
        for part in split_outside_parentheses(text) {
            let part = part.trim();
            if part.is_empty() {
                if text.trim().is_empty() {
                    continue;
                }
                return Err(malformed(text, "an empty requirement"));
            }
            requirements.push(parse_requirement(part).map_err(|why| malformed(text, &why))?);
        }
        Ok(Self::new(requirements))
    }
}

fn malformed(text: &str, why: &str) -> ApiError {
    let shown: String = text.chars().take(200).collect();
    ApiError::bad_request(format!("unable to parse labelSelector {shown:?}: {why}"))
}

fn split_outside_parentheses(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut depth) = (Vec::new(), 0, 0usize);
    for (index, byte) in text.bytes().enumerate() {
        match byte {
            b'(' => depth += 1,
            b')' => depth = depth.saturating_sub(1),
            b',' if depth == 0 => {
                parts.push(&text[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

fn parse_requirement(part: &str) -> Result<Requirement, String> {
    let one = |value: &str| BTreeSet::from([value.trim().to_owned()]);
    let number = |text: &str| text.trim().parse::<i64>().map_err(|_| format!("{text:?} is not an integer"));
    let (key, operator) = if let Some(key) = part.strip_prefix('!') {
        (key, Operator::DoesNotExist)
    } else if let Some((key, value)) = part.split_once("!=") {
        (key, Operator::NotIn(one(value)))
    } else if let Some((key, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
        (key, Operator::In(one(value)))
    } else if let Some((key, value)) = part.split_once('>') {
        (key, Operator::GreaterThan(number(value)?))
    } else if let Some((key, value)) = part.split_once('<') {
        (key, Operator::LessThan(number(value)?))
    } else if let Some((head, list)) = part.split_once('(') {
        let list = list.strip_suffix(')').ok_or("a set without its closing parenthesis")?;
        let values: BTreeSet<String> = list.split(',').map(|value| value.trim().to_owned()).collect();
        match head.trim().rsplit_once(char::is_whitespace) {
            Some((key, "in")) => (key, Operator::In(values)),
            Some((key, "notin")) => (key, Operator::NotIn(values)),
            _ => return Err(format!("{part:?} is neither `key in (...)` nor `key notin (...)`")),
        }
    } else {
        (part, Operator::Exists)
    };
    let key = key.trim();
    check_key(key)?;
    if let Operator::In(values) | Operator::NotIn(values) = &operator {
        values.iter().try_for_each(|value| check_value(value))?;
    }
    Ok(Requirement { key: key.to_owned(), operator })
}

fn check_key(key: &str) -> Result<(), String> {
    let (prefix, name) = key.split_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    let prefix_is_fine = prefix.is_none_or(|p| {
        !p.is_empty()
            && p.len() <= 253
            && p.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.')
    });
    if prefix_is_fine && !name.is_empty() && is_label_text(name) {
        Ok(())
    } else {
        Err(format!("{key:?} is not a label key"))
    }
}

fn check_value(value: &str) -> Result<(), String> {
    if value.is_empty() || is_label_text(value) { Ok(()) } else { Err(format!("{value:?} is not a label value")) }
}

fn is_label_text(text: &str) -> bool {
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    bytes.len() <= 63
        && edge(bytes.first())
        && edge(bytes.last())
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// A conjunction of `path = value` and `path != value` terms. The default matches everything.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct FieldSelector {
    /// The terms, in the order given.
    pub terms: Vec<FieldTerm>,
}

/// One term of a [`FieldSelector`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FieldTerm {
    /// The field's path, such as `spec.nodeName`.
    pub path: String,
    /// The value compared with; an absent field reads as the empty string.
    pub value: String,
    /// Whether the field must differ from the value.
    pub negated: bool,
}

impl FieldSelector {
    /// `path = value`.
    pub fn equal(path: impl Into<String>, value: impl Into<String>) -> Self {
        Self { terms: vec![FieldTerm { path: path.into(), value: value.into(), negated: false }] }
    }

    /// Whether everything matches.
    pub fn is_everything(&self) -> bool {
        self.terms.is_empty()
    }

    /// The value that `path` must have, if a term pins it.
    pub fn pinned(&self, path: &str) -> Option<&str> {
        let pins = |term: &&FieldTerm| !term.negated && term.path == path;
        self.terms.iter().find(pins).map(|term| term.value.as_str())
    }

    /// Whether an object whose fields `read` gives meets every term.
    pub fn matches<'a>(&self, read: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.terms.iter().all(|term| (read(&term.path).unwrap_or("") == term.value) != term.negated)
    }
}

impl fmt::Display for FieldSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, term) in self.terms.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            let operator = if term.negated { "!=" } else { "=" };
            write!(f, "{comma}{}{operator}{}", term.path, escape(&term.value))?;
        }
        Ok(())
    }
}

/// Parses the text form of the `fieldSelector` query parameter; `\` escapes `,`, `=` and itself.
impl FromStr for FieldSelector {
    type Err = ApiError;

    fn from_str(text: &str) -> Result<Self, ApiError> {
        if text.len() > MAX_SELECTOR_BYTES {
            return Err(ApiError::bad_request(format!("fieldSelector: longer than {MAX_SELECTOR_BYTES} bytes")));
        }
        let mut terms = Vec::new();
        for part in split_unescaped(text).into_iter().filter(|part| !part.is_empty()) {
            terms.push(parse_term(&part).ok_or_else(|| {
                ApiError::bad_request(format!("unable to parse fieldSelector {text:?}: {part:?} is not `path=value`"))
            })?);
        }
        Ok(Self { terms })
    }
}

fn parse_term(part: &str) -> Option<FieldTerm> {
    let at = part.find('=')?;
    let (path, negated) = match part[..at].strip_suffix('!') {
        Some(path) => (path, true),
        None => (&part[..at], false),
    };
    let value = part[at + 1..].strip_prefix('=').unwrap_or(&part[at + 1..]);
    (!path.is_empty()).then(|| FieldTerm { path: path.to_owned(), value: unescape(value), negated })
}

fn split_unescaped(text: &str) -> Vec<String> {
    let (mut parts, mut current, mut escaped) = (Vec::new(), String::new(), false);
    for letter in text.chars() {
        if letter == ',' && !escaped {
            parts.push(std::mem::take(&mut current));
        } else {
            current.push(letter);
        }
        escaped = letter == '\\' && !escaped;
    }
    parts.push(current);
    parts
}

fn escape(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for letter in value.chars() {
        if matches!(letter, '\\' | ',' | '=') {
            text.push('\\');
        }
        text.push(letter);
    }
    text
}

fn unescape(value: &str) -> String {
    let (mut text, mut letters) = (String::with_capacity(value.len()), value.chars());
    while let Some(letter) = letters.next() {
        text.push(if letter == '\\' { letters.next().unwrap_or('\\') } else { letter });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A selector, labels, and whether it selects them.
    type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], bool);

    fn labels(pairs: &[(&str, &str)]) -> std::collections::BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn label_selectors_mean_what_upstream_means() {
        let cases: &[Case<'_>] = &[
            ("", &[], true),
            ("app=web", &[("app", "web")], true),
            ("app == web", &[("app", "api")], false),
            ("app!=web", &[], true),
            ("app!=web", &[("app", "web")], false),
            ("app in (web, api),tier", &[("app", "api"), ("tier", "")], true),
            ("app in (web,api),tier", &[("app", "api")], false),
            ("app notin (web)", &[], true),
            ("!app", &[], true),
            ("!app", &[("app", "web")], false),
            ("n>3", &[("n", "4")], true),
            ("n>3", &[("n", "x")], false),
            ("example.com/name=a.b-c_d", &[("example.com/name", "a.b-c_d")], true),
        ];
        for (text, pairs, expected) in cases {
            let selector: LabelSelector = text.parse().unwrap();
            assert_eq!(selector.matches(&labels(pairs)), *expected, "{text} on {pairs:?}");
            let again: LabelSelector = selector.to_string().parse().unwrap();
            assert_eq!(again, selector, "{text} prints as {selector}");
        }
    }

    #[test]
    fn malformed_label_selectors_are_refused() {
        for text in ["a,,b", "=x", "a in b", "a in (b", "-a=b", "a=b=c d", "a>x", &"x".repeat(70_000)] {
            assert_eq!(text.parse::<LabelSelector>().unwrap_err().code(), 400, "{text}");
        }
    }

    #[test]
    fn field_selectors_round_trip_and_match() {
        let selector: FieldSelector = r"metadata.name=a\,b,status.phase!=Running".parse().unwrap();
        assert_eq!(selector.to_string(), r"metadata.name=a\,b,status.phase!=Running");
        let read = |path: &str| (path == "metadata.name").then_some("a,b");
        assert!(selector.matches(read));
        assert_eq!(selector.pinned("metadata.name"), Some("a,b"));
        assert_eq!("nonsense".parse::<FieldSelector>().unwrap_err().code(), 400);
    }
}
