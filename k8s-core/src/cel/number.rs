//! Arithmetic, whose overflows are errors, and conversions between numbers and text.

use super::{
    Budget, EvalError, Value,
    time::{Span, Timestamp},
};

type Answer<'a> = Result<Value<'a>, EvalError>;

fn overflow() -> EvalError {
    EvalError::new("integer overflow")
}

fn unsigned_overflow() -> EvalError {
    EvalError::new("unsigned integer overflow")
}

/// `a + b`: also of text, bytes, lists, times.
pub(super) fn add<'a>(args: &[Value<'a>], budget: &mut Budget) -> Answer<'a> {
    match (&args[0], &args[1]) {
        (Value::Int(a), Value::Int(b)) => a.checked_add(*b).map(Value::Int).ok_or_else(overflow),
        (Value::Uint(a), Value::Uint(b)) => a.checked_add(*b).map(Value::Uint).ok_or_else(unsigned_overflow),
        (Value::Double(a), Value::Double(b)) => Ok(Value::Double(a + b)),
        (Value::String(a), Value::String(b)) => {
            let mut text = String::with_capacity(a.as_str().len() + b.as_str().len());
            text.push_str(a.as_str());
            text.push_str(b.as_str());
            Ok(Value::text(text))
        }
        (Value::Bytes(a), Value::Bytes(b)) => Ok(Value::Bytes([&a[..], &b[..]].concat().into())),
        (Value::List(a), Value::List(b)) => {
            budget.spend((a.len() + b.len()) as u64)?;
            Ok(Value::List(a.joined(b)))
        }
        (Value::Duration(a), Value::Duration(b)) => span(a.0.checked_add(b.0)),
        (Value::Timestamp(at), Value::Duration(span)) | (Value::Duration(span), Value::Timestamp(at)) => {
            at.plus(*span).map(Value::Timestamp)
        }
        _ => Err(EvalError::no_overload()),
    }
}

fn span<'a>(nanos: Option<i64>) -> Answer<'a> {
    nanos.map(|nanos| Value::Duration(Span(nanos))).ok_or_else(|| EvalError::new("duration overflow"))
}

/// `a - b`
pub(super) fn subtract<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    match (&args[0], &args[1]) {
        (Value::Int(a), Value::Int(b)) => a.checked_sub(*b).map(Value::Int).ok_or_else(overflow),
        (Value::Uint(a), Value::Uint(b)) => a.checked_sub(*b).map(Value::Uint).ok_or_else(unsigned_overflow),
        (Value::Double(a), Value::Double(b)) => Ok(Value::Double(a - b)),
        (Value::Duration(a), Value::Duration(b)) => span(a.0.checked_sub(b.0)),
        (Value::Timestamp(a), Value::Timestamp(b)) => a.since(*b).map(Value::Duration),
        (Value::Timestamp(at), Value::Duration(by)) => {
            let back = by.0.checked_neg().ok_or_else(|| EvalError::new("duration overflow"))?;
            at.plus(Span(back)).map(Value::Timestamp)
        }
        _ => Err(EvalError::no_overload()),
    }
}

/// `a * b`
pub(super) fn multiply<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    match (&args[0], &args[1]) {
        (Value::Int(a), Value::Int(b)) => a.checked_mul(*b).map(Value::Int).ok_or_else(overflow),
        (Value::Uint(a), Value::Uint(b)) => a.checked_mul(*b).map(Value::Uint).ok_or_else(unsigned_overflow),
        (Value::Double(a), Value::Double(b)) => Ok(Value::Double(a * b)),
        _ => Err(EvalError::no_overload()),
    }
}

/// `a / b`
pub(super) fn divide<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    match (&args[0], &args[1]) {
        (Value::Int(_), Value::Int(0)) | (Value::Uint(_), Value::Uint(0)) => Err(EvalError::new("division by zero")),
        (Value::Int(a), Value::Int(b)) => a.checked_div(*b).map(Value::Int).ok_or_else(overflow),
        (Value::Uint(a), Value::Uint(b)) => Ok(Value::Uint(a / b)),
        (Value::Double(a), Value::Double(b)) => Ok(Value::Double(a / b)),
        _ => Err(EvalError::no_overload()),
    }
}

/// `a % b`
pub(super) fn remainder<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    match (&args[0], &args[1]) {
        (Value::Int(_), Value::Int(0)) | (Value::Uint(_), Value::Uint(0)) => Err(EvalError::new("modulus by zero")),
        (Value::Int(a), Value::Int(b)) => a.checked_rem(*b).map(Value::Int).ok_or_else(overflow),
        (Value::Uint(a), Value::Uint(b)) => Ok(Value::Uint(a % b)),
        _ => Err(EvalError::no_overload()),
    }
}

/// `-a`
pub(super) fn negate<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    match &args[0] {
        Value::Int(value) => value.checked_neg().map(Value::Int).ok_or_else(overflow),
        Value::Double(value) => Ok(Value::Double(-value)),
        Value::Duration(value) => span(value.0.checked_neg()),
        _ => Err(EvalError::no_overload()),
    }
}

/// `int(x)`
pub(super) fn to_int<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    let value = match &args[0] {
        Value::Int(value) => Some(*value),
        Value::Uint(value) => i64::try_from(*value).ok(),
        Value::Double(value) => {
            (*value > -9_223_372_036_854_775_808.0 && *value < 9_223_372_036_854_775_808.0).then_some(*value as i64)
        }
        Value::String(text) => {
            let parsed = text.as_str().parse().ok();
            return parsed.map(Value::Int).ok_or_else(|| unreadable(text.as_str(), "int"));
        }
        Value::Timestamp(at) => Some(at.seconds()),
        Value::Duration(span) => Some(span.0),
        _ => return Err(EvalError::no_overload()),
    };
    value.map(Value::Int).ok_or_else(overflow)
}

fn unreadable(text: &str, wanted: &str) -> EvalError {
    let shown: String = text.chars().take(64).collect();
    EvalError::new(format!("type conversion error from '{shown}' to '{wanted}'"))
}

/// `uint(x)`
pub(super) fn to_uint<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    let value = match &args[0] {
        Value::Int(value) => u64::try_from(*value).ok(),
        Value::Uint(value) => Some(*value),
        Value::Double(value) => (*value >= 0.0 && *value < 18_446_744_073_709_551_616.0).then_some(*value as u64),
        Value::String(text) => {
            let parsed = text.as_str().parse().ok();
            return parsed.map(Value::Uint).ok_or_else(|| unreadable(text.as_str(), "uint"));
        }
        _ => return Err(EvalError::no_overload()),
    };
    value.map(Value::Uint).ok_or_else(unsigned_overflow)
}

/// `double(x)`
pub(super) fn to_double<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    Ok(Value::Double(match &args[0] {
        Value::Int(value) => *value as f64,
        Value::Uint(value) => *value as f64,
        Value::Double(value) => *value,
        Value::String(text) => text.as_str().parse().map_err(|_| unreadable(text.as_str(), "double"))?,
        _ => return Err(EvalError::no_overload()),
    }))
}

/// `bool(x)`
pub(super) fn to_bool<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    match &args[0] {
        Value::Bool(value) => Ok(Value::Bool(*value)),
        Value::String(text) => match text.as_str() {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(Value::Bool(true)),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(Value::Bool(false)),
            other => Err(unreadable(other, "bool")),
        },
        _ => Err(EvalError::no_overload()),
    }
}

/// `string(x)`
pub(super) fn to_string<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    match &args[0] {
        Value::String(_) => Ok(args[0].clone()),
        Value::Bytes(bytes) => std::str::from_utf8(bytes)
            .map(Value::text)
            .map_err(|_| EvalError::new("invalid UTF-8 in bytes, cannot convert to string")),
        Value::Null | Value::List(_) | Value::Map(_) | Value::Type(_) | Value::Optional(_) => {
            Err(EvalError::no_overload())
        }
        Value::Made(_) | Value::Fields(_) => Err(EvalError::no_overload()),
        other => Ok(Value::text(other.show())),
    }
}

/// `bytes(x)`
pub(super) fn to_bytes<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    match &args[0] {
        Value::Bytes(_) => Ok(args[0].clone()),
        Value::String(text) => Ok(Value::Bytes(text.as_str().as_bytes().into())),
        _ => Err(EvalError::no_overload()),
    }
}

/// `timestamp(x)`
pub(super) fn to_timestamp<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    let at = match &args[0] {
        Value::Timestamp(at) => Some(*at),
        Value::Int(seconds) => Timestamp::new(*seconds, 0),
        Value::String(text) => {
            let parsed = Timestamp::parse(text.as_str());
            return parsed.map(Value::Timestamp).ok_or_else(|| unreadable(text.as_str(), "google.protobuf.Timestamp"));
        }
        _ => return Err(EvalError::no_overload()),
    };
    at.map(Value::Timestamp).ok_or_else(|| EvalError::new("timestamp overflow"))
}

/// `duration(x)`
pub(super) fn to_duration<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    match &args[0] {
        Value::Duration(_) => Ok(args[0].clone()),
        Value::Int(seconds) => span(seconds.checked_mul(1_000_000_000)),
        Value::String(text) => {
            let parsed = Span::parse(text.as_str());
            parsed.map(Value::Duration).ok_or_else(|| unreadable(text.as_str(), "google.protobuf.Duration"))
        }
        _ => Err(EvalError::no_overload()),
    }
}

/// A float as Go writes it with `%g`: the shortest digits, with an exponent from a million on.
pub(super) fn show_double(value: f64) -> String {
    if value.is_nan() {
        return "NaN".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf".into() } else { "-Inf".into() };
    }
    let scientific = format!("{value:e}");
    // Invariant: Rust writes an `e` in this form.
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..6).contains(&exponent) {
        return format!("{value}");
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}
