//! Equality and order of values. Numbers compare by value, whatever their types.

use std::cmp::Ordering;

use super::{Map, Opaque, Value};

impl<'a> Value<'a> {
    /// Whether two values are equal; values of different types are not, but for numbers.
    pub fn equals(&self, other: &Value<'a>) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::String(a), Self::String(b)) => a.as_str() == b.as_str(),
            (Self::Bytes(a), Self::Bytes(b)) => a == b,
            (Self::Timestamp(a), Self::Timestamp(b)) => a == b,
            (Self::Duration(a), Self::Duration(b)) => a == b,
            (Self::List(a), Self::List(b)) => a.equals(b),
            (Self::Map(a), Self::Map(b)) => maps_equal(a, b),
            (Self::Type(a), Self::Type(b)) => a == b,
            (Self::Optional(a), Self::Optional(b)) => match (a, b) {
                (Some(a), Some(b)) => a.equals(b),
                (None, None) => true,
                _ => false,
            },
            (Self::Opaque(a), Self::Opaque(b)) => a.equals(b),
            (Self::Made(a), Self::Made(b)) => {
                a.name == b.name
                    && a.fields.len() == b.fields.len()
                    && a.fields.iter().all(|(name, value)| {
                        b.fields.iter().any(|(theirs, their_value)| name == theirs && value.equals(their_value))
                    })
            }
            _ => self.number_order(other) == Some(Ordering::Equal),
        }
    }

    /// The order of two numbers, times, texts, ...; `None` where there is none.
    pub fn order(&self, other: &Value<'a>) -> Option<Ordering> {
        match (self, other) {
            (Self::Bool(a), Self::Bool(b)) => Some(a.cmp(b)),
            (Self::String(a), Self::String(b)) => Some(a.as_str().cmp(b.as_str())),
            (Self::Bytes(a), Self::Bytes(b)) => Some(a.cmp(b)),
            (Self::Timestamp(a), Self::Timestamp(b)) => Some(a.cmp(b)),
            (Self::Duration(a), Self::Duration(b)) => Some(a.cmp(b)),
            _ => self.number_order(other),
        }
    }

    fn number_order(&self, other: &Value<'a>) -> Option<Ordering> {
        match (self, other) {
            (Self::Double(a), Self::Double(b)) => a.partial_cmp(b),
            (Self::Double(a), b) => Some(order_with_double(b.as_integer()?, *a)?.reverse()),
            (a, Self::Double(b)) => order_with_double(a.as_integer()?, *b),
            (a, b) => Some(a.as_integer()?.cmp(&b.as_integer()?)),
        }
    }

    /// Whether it is a number.
    pub(in crate::cel) fn is_number(&self) -> bool {
        matches!(self, Self::Int(_) | Self::Uint(_) | Self::Double(_))
    }

    fn as_integer(&self) -> Option<i128> {
        match self {
            Self::Int(value) => Some(i128::from(*value)),
            Self::Uint(value) => Some(i128::from(*value)),
            _ => None,
        }
    }
}

fn order_with_double(a: i128, b: f64) -> Option<Ordering> {
    if b.is_nan() {
        return None;
    }
    // Beyond the range of both kinds of integers the float decides.
    if b >= 1.9e19 {
        return Some(Ordering::Less);
    }
    if b <= -9.3e18 {
        return Some(Ordering::Greater);
    }
    let whole = b.trunc();
    let order = a.cmp(&(whole as i128));
    let rest = b - whole;
    Some(order.then_with(|| 0.0f64.partial_cmp(&rest).unwrap_or(Ordering::Equal)))
}

fn maps_equal<'a>(a: &Map<'a>, b: &Map<'a>) -> bool {
    a.len() == b.len()
        && a.iter().all(|(key, value)| {
            let other = super::Key::of(&key).and_then(|key| b.get(&key));
            other.is_some_and(|other| value.equals(&other))
        })
}

impl Opaque<'_> {
    fn equals(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Quantity(a), Self::Quantity(b)) => a == b,
            (Self::Url(a), Self::Url(b)) => a == b,
            (Self::Ip(a), Self::Ip(b)) => a == b,
            (Self::Cidr(a), Self::Cidr(b)) => a == b,
            (Self::Semver(a), Self::Semver(b)) => a.order(b) == Ordering::Equal,
            (Self::Format(a), Self::Format(b)) => a == b,
            _ => false,
        }
    }
}
