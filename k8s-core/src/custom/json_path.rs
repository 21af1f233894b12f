//! The part of JSONPath that custom kinds are described with: fields, items, wildcards, and filters by equality.

use crate::doc::{Doc, Text};

/// A path such as `.status.conditions[?(@.type=="Ready")].status`.
#[derive(Clone, Debug, PartialEq)]
pub struct JsonPath(Vec<Step>);

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Field(Text),
    Index(i64),
    All,
    Filter { path: Vec<Text>, equals: bool, value: Doc },
}

impl JsonPath {
    /// Reads a path; what is wrong with it otherwise.
    pub fn parse(text: &str) -> Result<Self, String> {
        let inner = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap_or(text);
        let mut rest = inner.strip_prefix('$').unwrap_or(inner);
        let mut steps = Vec::new();
        while !rest.is_empty() {
            let (step, after) = match rest.as_bytes()[0] {
                b'.' => name(&rest[1..])?,
                b'[' => bracket(rest)?,
                _ if steps.is_empty() => return Err(format!("{text:?} must begin with a dot")),
                _ => return Err(format!("unexpected {rest:?}")),
            };
            steps.push(step);
            rest = after;
        }
        if steps.is_empty() { Err("is empty".into()) } else { Ok(Self(steps)) }
    }

    /// The fields, if there is nothing else in the path.
    pub fn fields(&self) -> Option<Vec<&str>> {
        let field = |step: &Step| match step {
            Step::Field(name) => Some(name.clone()),
            _ => None,
        };
        let all: Option<Vec<Text>> = self.0.iter().map(field).collect();
        all?;
        Some(
            self.0
                .iter()
                .filter_map(|step| if let Step::Field(name) = step { Some(name.as_str()) } else { None })
                .collect(),
        )
    }

    /// The first value at the path.
    pub fn first<'d>(&self, doc: &'d Doc) -> Option<&'d Doc> {
        find(&self.0, doc)
    }
}

fn find<'d>(steps: &[Step], doc: &'d Doc) -> Option<&'d Doc> {
    let Some((step, rest)) = steps.split_first() else { return Some(doc) };
    match step {
        Step::Field(name) => find(rest, doc.get(name)?),
        Step::Index(at) => {
            let items = doc.items();
            let at = if *at < 0 { items.len().checked_add_signed(*at as isize)? } else { *at as usize };
            find(rest, items.get(at)?)
        }
        Step::All => match doc {
            Doc::Object(map) => map.values().find_map(|value| find(rest, value)),
            other => other.items().iter().find_map(|item| find(rest, item)),
        },
        Step::Filter { path, equals, value } => {
            let steps: Vec<&str> = path.iter().map(Text::as_str).collect();
            let fits = |item: &&Doc| item.at(&steps).is_some_and(|found| (found == value) == *equals);
            doc.items().iter().filter(fits).find_map(|item| find(rest, item))
        }
    }
}

/// A name behind a dot, to the next dot or bracket. A backslash takes the next character as it is.
fn name(text: &str) -> Result<(Step, &str), String> {
    let (mut name, mut escaped, mut end) = (Text::default(), false, text.len());
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => {
                name.push(c);
                escaped = false;
            }
            '\\' => escaped = true,
            '.' | '[' => {
                end = at;
                break;
            }
            c => name.push(c),
        }
    }
    match name.as_str() {
        "" => Err("a name is missing behind a dot".into()),
        "*" => Ok((Step::All, &text[end..])),
        plain if plain.contains(|c: char| c.is_whitespace() || "{}()@?".contains(c)) => {
            Err(format!("unexpected character in {plain:?}"))
        }
        _ => Ok((Step::Field(name), &text[end..])),
    }
}

fn bracket(text: &str) -> Result<(Step, &str), String> {
    let end = closing(text).ok_or_else(|| format!("unterminated array in {text:?}"))?;
    let (inside, rest) = (text[1..end].trim(), &text[end + 1..]);
    if inside == "*" {
        return Ok((Step::All, rest));
    }
    if let Some(name) = quoted(inside) {
        return Ok((Step::Field(name), rest));
    }
    if let Some(filter) = inside.strip_prefix("?(").and_then(|inner| inner.strip_suffix(')')) {
        return Ok((self::filter(filter)?, rest));
    }
    let index = inside.parse().map_err(|_| format!("invalid array index {inside}"))?;
    Ok((Step::Index(index), rest))
}

/// The place of the bracket that closes the first one; quotes hide brackets.
fn closing(text: &str) -> Option<usize> {
    let (mut depth, mut quote) = (0, None);
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (Some(open), c) if open == c => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(c),
            (None, '[') => depth += 1,
            (None, ']') if depth == 1 => return Some(at),
            (None, ']') => depth -= 1,
            _ => {}
        }
    }
    None
}

fn quoted(text: &str) -> Option<Text> {
    let inner = ['\'', '"'].into_iter().find_map(|quote| text.strip_prefix(quote)?.strip_suffix(quote))?;
    Some(inner.into())
}

fn filter(text: &str) -> Result<Step, String> {
    let (equals, (left, right)) = match (text.split_once("=="), text.split_once("!=")) {
        (Some(sides), _) => (true, sides),
        (None, Some(sides)) => (false, sides),
        _ => return Err(format!("filter {text:?}: only == and != are understood")),
    };
    let left = left.trim().strip_prefix('@').ok_or_else(|| format!("filter {text:?} must begin with @"))?;
    let path = JsonPath::parse(left)?.fields().map(|fields| fields.into_iter().map(Text::from).collect());
    let path = path.ok_or_else(|| format!("filter {text:?}: only fields can be compared"))?;
    let right = right.trim();
    let value = match quoted(right) {
        Some(text) => Doc::String(text),
        None => Doc::parse(right.as_bytes()).map_err(|_| format!("filter {text:?}: {right} is no value"))?,
    };
    Ok(Step::Filter { path, equals, value })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doc;

    #[test]
    fn paths_lead_to_values() {
        let doc = doc!({"spec": {"n": 3, "a.b": "dotted", "list": ["x", "y"]},
            "status": {"conditions": [{"type": "Up", "status": "No"}, {"type": "Ready", "status": "True"}]}});
        let found = |path: &str| JsonPath::parse(path).unwrap().first(&doc).map(Doc::to_string);
        assert_eq!(found(".spec.n").as_deref(), Some("3"));
        assert_eq!(found("{.spec.list[-1]}").as_deref(), Some("\"y\""));
        assert_eq!(found(r".spec.a\.b").as_deref(), Some("\"dotted\""));
        assert_eq!(found(".spec['a.b']").as_deref(), Some("\"dotted\""));
        assert_eq!(found(r#".status.conditions[?(@.type=="Ready")].status"#).as_deref(), Some("\"True\""));
        assert_eq!(found(".status.conditions[*].status").as_deref(), Some("\"No\""));
        assert_eq!(found(".spec.none.at.all"), None);
        for wrong in ["", "spec", ".", ".spec.", ".a[", ".a[?(x)]", ".a[b]"] {
            assert!(JsonPath::parse(wrong).is_err(), "{wrong}");
        }
    }
}
