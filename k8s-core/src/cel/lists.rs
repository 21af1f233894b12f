//! Functions of lists and sets, of optionals, comparison, membership and times.

use std::cmp::Ordering;

use super::{Budget, EvalError, Value, number, text::list, time::zone_offset, value::Key};

type Answer<'a> = Result<Value<'a>, EvalError>;

/// `a == b`
pub(super) fn equals<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    Ok(Value::Bool(args[0].equals(&args[1])))
}

/// `a != b`
pub(super) fn differs<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    Ok(Value::Bool(!args[0].equals(&args[1])))
}

fn ordered<'a>(args: &[Value<'a>], wanted: impl Fn(Ordering) -> bool) -> Answer<'a> {
    match args[0].order(&args[1]) {
        Some(order) => Ok(Value::Bool(wanted(order))),
        // What is no number is neither less nor greater than any.
        None if args[0].is_number() && args[1].is_number() => Ok(Value::Bool(false)),
        None => Err(EvalError::no_overload()),
    }
}

pub(super) fn less<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    ordered(args, Ordering::is_lt)
}

pub(super) fn less_or_equal<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    ordered(args, Ordering::is_le)
}

pub(super) fn greater<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    ordered(args, Ordering::is_gt)
}

pub(super) fn greater_or_equal<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    ordered(args, Ordering::is_ge)
}

/// `!a`
pub(super) fn not<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    args[0].as_bool().map(|value| Value::Bool(!value)).ok_or_else(EvalError::no_overload)
}

/// `a in b`: an item of a list, a key of a map.
pub(super) fn contains<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    match &args[1] {
        Value::List(list) => {
            if let Some(found) = args[0].as_str().and_then(|text| list.contains_text(text)) {
                return Ok(Value::Bool(found));
            }
            Ok(Value::Bool(list.iter().any(|item| item.equals(&args[0]))))
        }
        Value::Map(map) => Ok(Value::Bool(Key::of(&args[0]).is_some_and(|key| map.get(&key).is_some()))),
        _ => Err(EvalError::no_overload()),
    }
}

/// An item or an entry, if it is there.
fn lookup<'a>(args: &[Value<'a>]) -> Result<Result<Value<'a>, String>, EvalError> {
    match &args[0] {
        Value::List(list) => {
            let Some(Key::Int(_) | Key::Uint(_)) = Key::of(&args[1]) else { return Err(EvalError::no_overload()) };
            let index = match Key::of(&args[1]) {
                Some(Key::Int(index)) => usize::try_from(index).ok(),
                Some(Key::Uint(index)) => usize::try_from(index).ok(),
                _ => None,
            };
            Ok(index
                .and_then(|index| list.get(index))
                .ok_or_else(|| format!("index out of bounds: {}", args[1].show())))
        }
        Value::Map(map) => {
            let key = Key::of(&args[1]).ok_or_else(EvalError::no_overload)?;
            Ok(map.get(&key).ok_or_else(|| format!("no such key: {}", args[1].show())))
        }
        _ => Err(EvalError::no_overload()),
    }
}

/// `a[b]`
pub(super) fn index<'a>(args: &[Value<'a>], budget: &mut Budget) -> Answer<'a> {
    if matches!(args[0], Value::Optional(_)) {
        return optional_index(args, budget);
    }
    lookup(args)?.map_err(EvalError::new)
}

/// `a[?b]`
pub(super) fn optional_index<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    let found = match &args[0] {
        Value::Optional(None) => return Ok(Value::Optional(None)),
        Value::Optional(Some(inner)) => lookup(&[(**inner).clone(), args[1].clone()])?,
        _ => lookup(args)?,
    };
    Ok(found.map_or(Value::Optional(None), Value::some))
}

/// `type(x)`
pub(super) fn type_of<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    Ok(Value::Type(args[0].type_name().into()))
}

/// `dyn(x)`
pub(super) fn same<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    Ok(args[0].clone())
}

/// `list.isSorted()`
pub(super) fn is_sorted<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    let mut previous: Option<Value<'a>> = None;
    for item in list(args, 0)?.iter() {
        if let Some(previous) = &previous {
            match previous.order(&item) {
                Some(Ordering::Greater) => return Ok(Value::Bool(false)),
                Some(_) => {}
                None => return Err(EvalError::no_overload()),
            }
        }
        previous = Some(item);
    }
    Ok(Value::Bool(true))
}

/// `list.sum()`: of nothing it is zero.
pub(super) fn sum<'a>(args: &[Value<'a>], budget: &mut Budget) -> Answer<'a> {
    let mut total: Option<Value<'a>> = None;
    for item in list(args, 0)?.iter() {
        total = Some(match total {
            None => item,
            Some(total) => number::add(&[total, item], budget)?,
        });
    }
    Ok(total.unwrap_or(Value::Int(0)))
}

fn extreme<'a>(args: &[Value<'a>], wanted: Ordering, name: &str) -> Answer<'a> {
    let mut best: Option<Value<'a>> = None;
    for item in list(args, 0)?.iter() {
        let better = match &best {
            None => true,
            Some(best) => item.order(best).ok_or_else(EvalError::no_overload)? == wanted,
        };
        if better {
            best = Some(item);
        }
    }
    best.ok_or_else(|| EvalError::new(format!("{name} called on empty list")))
}

pub(super) fn min<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    extreme(args, Ordering::Less, "min")
}

pub(super) fn max<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    extreme(args, Ordering::Greater, "max")
}

fn all_in<'a>(part: &Value<'a>, whole: &Value<'a>) -> Result<bool, EvalError> {
    let args = [part.clone(), whole.clone()];
    let (part, whole) = (list(&args, 0)?, list(&args, 1)?);
    Ok(part.iter().all(|item| whole.iter().any(|other| item.equals(&other))))
}

/// `sets.contains(a, b)`: whether all of `b` is in `a`.
pub(super) fn sets_contains<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    all_in(&args[1], &args[0]).map(Value::Bool)
}

/// `sets.equivalent(a, b)`
pub(super) fn sets_equivalent<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    Ok(Value::Bool(all_in(&args[1], &args[0])? && all_in(&args[0], &args[1])?))
}

/// `sets.intersects(a, b)`
pub(super) fn sets_intersects<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    let (a, b) = (list(args, 0)?, list(args, 1)?);
    Ok(Value::Bool(a.iter().any(|item| b.iter().any(|other| item.equals(&other)))))
}

/// `list.first()`, as an optional.
pub(super) fn first<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    Ok(list(args, 0)?.get(0).map_or(Value::Optional(None), Value::some))
}

/// `list.last()`, as an optional.
pub(super) fn last<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    Ok(list(args, 0)?.iter().next_back().map_or(Value::Optional(None), Value::some))
}

/// `list.slice(from, to)`
pub(super) fn slice<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    let list = list(args, 0)?;
    let (Value::Int(from), Value::Int(to)) = (&args[1], &args[2]) else { return Err(EvalError::no_overload()) };
    let range = usize::try_from(*from).ok().zip(usize::try_from(*to).ok());
    let range = range.filter(|(from, to)| from <= to && *to <= list.len());
    let (from, to) =
        range.ok_or_else(|| EvalError::new(format!("cannot slice({from}, {to}), list is length {}", list.len())))?;
    Ok(Value::list((from..to).filter_map(|at| list.get(at)).collect()))
}

pub(super) fn optional_of<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    Ok(Value::some(args[0].clone()))
}

pub(super) fn optional_none<'a>(_: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    Ok(Value::Optional(None))
}

/// `optional.ofNonZeroValue(x)`
pub(super) fn optional_non_zero<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    let zero = match &args[0] {
        Value::Null | Value::Bool(false) | Value::Int(0) | Value::Uint(0) | Value::Optional(None) => true,
        Value::Double(value) => *value == 0.0,
        Value::String(text) => text.as_str().is_empty(),
        Value::Bytes(bytes) => bytes.is_empty(),
        Value::List(list) => list.is_empty(),
        Value::Map(map) => map.is_empty(),
        Value::Duration(span) => span.0 == 0,
        Value::Made(made) => made.fields.is_empty(),
        _ => false,
    };
    Ok(if zero { Value::Optional(None) } else { Value::some(args[0].clone()) })
}

/// `optional.unwrap(list)`, `list.unwrapOpt()`: what is there.
pub(super) fn optional_unwrap<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    let items = list(args, 0)?.iter().filter_map(|item| match item {
        Value::Optional(Some(inner)) => Some((*inner).clone()),
        _ => None,
    });
    Ok(Value::list(items.collect()))
}

pub(super) fn has_value<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    match &args[0] {
        Value::Optional(inner) => Ok(Value::Bool(inner.is_some())),
        _ => Err(EvalError::no_overload()),
    }
}

pub(super) fn optional_value<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    match &args[0] {
        Value::Optional(Some(inner)) => Ok((**inner).clone()),
        Value::Optional(None) => Err(EvalError::new("optional.none() dereference")),
        _ => Err(EvalError::no_overload()),
    }
}

/// `a.or(b)`, both optionals.
pub(super) fn or<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    match &args[0] {
        Value::Optional(Some(_)) => Ok(args[0].clone()),
        Value::Optional(None) => Ok(args[1].clone()),
        _ => Err(EvalError::no_overload()),
    }
}

/// `a.orValue(b)`
pub(super) fn or_value<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    match &args[0] {
        Value::Optional(Some(inner)) => Ok((**inner).clone()),
        Value::Optional(None) => Ok(args[1].clone()),
        _ => Err(EvalError::no_overload()),
    }
}

/// A part of a point in time in a zone, or the whole of a span in a unit.
fn part<'a>(args: &[Value<'a>], of_civil: impl Fn(&super::time::Civil) -> i64, unit: Option<i64>) -> Answer<'a> {
    match (&args[0], unit) {
        (Value::Timestamp(at), _) => {
            let offset = match args.get(1) {
                Some(zone) => zone_offset(zone.as_str().ok_or_else(EvalError::no_overload)?)?,
                None => 0,
            };
            Ok(Value::Int(of_civil(&at.civil(offset))))
        }
        (Value::Duration(span), Some(unit)) if args.len() == 1 => Ok(Value::Int(span.0 / unit)),
        _ => Err(EvalError::no_overload()),
    }
}

macro_rules! parts {
    ($($function:ident |$civil:ident| $of:expr, $unit:expr;)*) => {$(
        pub(super) fn $function<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
            part(args, |$civil| $of, $unit)
        }
    )*};
}

parts! {
    full_year |at| at.year, None;
    month |at| at.month - 1, None;
    date |at| at.day, None;
    day_of_month |at| at.day - 1, None;
    day_of_week |at| at.weekday, None;
    day_of_year |at| at.day_of_year, None;
    hours |at| at.second / 3600, Some(3_600_000_000_000);
    minutes |at| at.second / 60 % 60, Some(60_000_000_000);
    seconds |at| at.second % 60, Some(1_000_000_000);
}

/// `t.getMilliseconds()`: of a point in time those of its second, of a span all those beyond its seconds.
pub(super) fn milliseconds<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    match &args[0] {
        Value::Duration(span) => Ok(Value::Int(span.0 / 1_000_000 % 1000)),
        _ => part(args, |at| at.nanos / 1_000_000, None),
    }
}
