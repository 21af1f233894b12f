//! `quantity(text)`: amounts of resources, and the comparisons that versions share with them.

use std::cmp::Ordering;

use super::{Answer, Budget, EvalError, Opaque, Value, semver, text};
use crate::quantity::{Format, Quantity};

/// `quantity(text)`
pub(in crate::cel) fn quantity<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    let parsed = Quantity::parse(text(args, 0)?);
    let parsed = parsed.map_err(|_| {
        EvalError::new("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")
    })?;
    Ok(Opaque::Quantity(parsed).into())
}

/// `isQuantity(text)`
pub(in crate::cel) fn is_quantity<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    Ok(Value::Bool(Quantity::parse(text(args, 0)?).is_ok()))
}

fn of(args: &[Value<'_>], at: usize) -> Result<Quantity, EvalError> {
    match &args[at] {
        Value::Opaque(Opaque::Quantity(quantity)) => Ok(*quantity),
        Value::Int(value) if at > 0 => Ok(Quantity::new(*value, Format::DecimalSi)),
        _ => Err(EvalError::no_overload()),
    }
}

/// `q.sign()`
pub(in crate::cel) fn sign<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    let quantity = of(args, 0)?;
    Ok(Value::Int(if quantity.is_zero() {
        0
    } else if quantity.is_negative() {
        -1
    } else {
        1
    }))
}

fn is_whole(quantity: Quantity) -> bool {
    Quantity::new(quantity.value(), Format::DecimalSi) == quantity
}

/// `q.isInteger()`
pub(in crate::cel) fn is_integer<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    Ok(Value::Bool(is_whole(of(args, 0)?)))
}

/// `q.asInteger()`
pub(in crate::cel) fn as_integer<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    let quantity = of(args, 0)?;
    if is_whole(quantity) {
        Ok(Value::Int(quantity.value()))
    } else {
        Err(EvalError::new("cannot convert value to integer"))
    }
}

/// `q.asApproximateFloat()`
pub(in crate::cel) fn as_float<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    Ok(Value::Double(of(args, 0)?.as_f64()))
}

/// `q.add(other)`
pub(in crate::cel) fn add<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    Ok(Opaque::Quantity(of(args, 0)? + of(args, 1)?).into())
}

/// `q.sub(other)`
pub(in crate::cel) fn subtract<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    Ok(Opaque::Quantity(of(args, 0)? - of(args, 1)?).into())
}

fn order(args: &[Value<'_>]) -> Result<Ordering, EvalError> {
    match &args[0] {
        Value::Opaque(Opaque::Semver(_)) => semver::order(args),
        _ if matches!(args[1], Value::Int(_)) => Err(EvalError::no_overload()),
        _ => Ok(of(args, 0)?.cmp(&of(args, 1)?)),
    }
}

/// `a.isLessThan(b)`
pub(in crate::cel) fn is_less<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    Ok(Value::Bool(order(args)? == Ordering::Less))
}

/// `a.isGreaterThan(b)`
pub(in crate::cel) fn is_greater<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    Ok(Value::Bool(order(args)? == Ordering::Greater))
}

/// `a.compareTo(b)`: -1, 0 or 1.
pub(in crate::cel) fn compare<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    Ok(Value::Int(order(args)? as i64))
}
