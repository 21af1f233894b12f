//! `"...".format([...])`.

use super::super::{Budget, EvalError, Value, number::show_double};

/// `t.format(list)`
pub(in crate::cel) fn format<'a>(args: &[Value<'a>], budget: &mut Budget) -> Result<Value<'a>, EvalError> {
    let template = super::text(args, 0)?;
    let mut items = super::list(args, 1)?.iter();
    let mut out = String::with_capacity(template.len());
    let mut rest = template;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('%') {
            out.push('%');
            rest = after;
            continue;
        }
        let (precision, after) = precision(rest)?;
        let verb = after.chars().next().ok_or_else(|| EvalError::new("unexpected end of string"))?;
        rest = &after[verb.len_utf8()..];
        let index = super::list(args, 1)?.len() - items.len();
        let item = items.next().ok_or_else(|| EvalError::new(format!("index {index} out of range")))?;
        budget.spend(1 + item.size() / 10)?;
        out.push_str(&clause(verb, precision, &item)?);
    }
    out.push_str(rest);
    Ok(Value::text(out))
}

/// The digits behind a dot, if there are any, and what follows.
fn precision(text: &str) -> Result<(Option<usize>, &str), EvalError> {
    let Some(rest) = text.strip_prefix('.') else { return Ok((None, text)) };
    let end = rest.find(|next: char| !next.is_ascii_digit()).unwrap_or(rest.len());
    let (digits, rest) = rest.split_at(end);
    // What is more exact than a float is noise.
    let precision = digits.parse::<usize>().ok().filter(|digits| *digits <= 1000);
    precision
        .map(|digits| (Some(digits), rest))
        .ok_or_else(|| EvalError::new("error while converting precision to integer"))
}

fn clause(verb: char, precision: Option<usize>, item: &Value<'_>) -> Result<String, EvalError> {
    let wrong = |verbs: &str| {
        EvalError::new(format!("error during formatting: {verbs} clause cannot be used on {}", item.type_name()))
    };
    match (verb, item) {
        ('s', Value::Fields(_) | Value::Opaque(_) | Value::Optional(_)) => Err(wrong("string")),
        ('s', _) => Ok(item.show()),
        ('d', Value::Int(_) | Value::Uint(_)) => Ok(item.show()),
        ('d', _) => Err(wrong("decimal")),
        ('f', Value::Double(value)) => Ok(fixed(*value, precision)),
        ('f', Value::Int(value)) => Ok(fixed(*value as f64, precision)),
        ('f', Value::Uint(value)) => Ok(fixed(*value as f64, precision)),
        ('f', _) => Err(wrong("fixed-point")),
        ('e', Value::Double(value)) => Ok(scientific(*value, precision)),
        ('e', Value::Int(value)) => Ok(scientific(*value as f64, precision)),
        ('e', Value::Uint(value)) => Ok(scientific(*value as f64, precision)),
        ('e', _) => Err(wrong("scientific")),
        ('b', Value::Int(value)) => Ok(signed(*value, |size| format!("{size:b}"))),
        ('b', Value::Uint(value)) => Ok(format!("{value:b}")),
        ('b', Value::Bool(value)) => Ok(if *value { "1" } else { "0" }.into()),
        ('b', _) => Err(wrong("binary")),
        ('o', Value::Int(value)) => Ok(signed(*value, |size| format!("{size:o}"))),
        ('o', Value::Uint(value)) => Ok(format!("{value:o}")),
        ('o', _) => Err(wrong("octal")),
        ('x' | 'X', _) => {
            hex(item).map(|text| if verb == 'X' { text.to_uppercase() } else { text }).ok_or_else(|| wrong("hex"))
        }
        _ => Err(EvalError::new(format!("unrecognized formatting clause \"{verb}\""))),
    }
}

fn fixed(value: f64, precision: Option<usize>) -> String {
    if !value.is_finite() {
        return show_double(value);
    }
    format!("{value:.*}", precision.unwrap_or(6))
}

fn scientific(value: f64, precision: Option<usize>) -> String {
    if !value.is_finite() {
        return show_double(value);
    }
    let text = format!("{value:.*e}", precision.unwrap_or(6));
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    format!("{digits}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
}

fn signed(value: i64, show: impl Fn(u64) -> String) -> String {
    format!("{}{}", if value < 0 { "-" } else { "" }, show(value.unsigned_abs()))
}

fn hex(item: &Value<'_>) -> Option<String> {
    let of_bytes = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    match item {
        Value::Int(value) => Some(signed(*value, |size| format!("{size:x}"))),
        Value::Uint(value) => Some(format!("{value:x}")),
        Value::String(text) => Some(of_bytes(text.as_str().as_bytes())),
        Value::Bytes(bytes) => Some(of_bytes(bytes)),
        _ => None,
    }
}
