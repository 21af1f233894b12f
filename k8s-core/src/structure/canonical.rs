//! The form in which a typed server writes scalars. Each function answers with the new value if it differs.

use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::{Timestamp, tz::Offset};

use crate::{
    doc::{Doc, Number},
    quantity::Quantity,
    schema::IntFormat,
};

/// `Ok(None)`: as it should be; `Err`: what was found instead.
pub(super) type Verdict = Result<Option<Doc>, String>;

/// An integer in range, written without fraction and exponent.
pub(super) fn integer(format: IntFormat, number: &Number) -> Verdict {
    match (format, number.as_i64()) {
        (IntFormat::Int32, Some(value)) if i32::try_from(value).is_ok() => Ok(None),
        (IntFormat::Int64 | IntFormat::Whole, Some(_)) => Ok(None),
        (IntFormat::Whole, None) if whole(number.as_f64()) => Ok(Some(Doc::from(number.as_f64() as i64))),
        // A number of a million digits helps nobody.
        _ => Err(format!("number {:.40}", number.as_str())),
    }
}

/// Whether a float is a whole number that it holds exactly.
fn whole(value: f64) -> bool {
    value.fract() == 0.0 && value.abs() <= (1u64 << 53) as f64
}

/// A quantity, canonically.
pub(super) fn quantity(text: &str) -> Verdict {
    let canonical = Quantity::parse(text.trim()).map_err(|why| why.to_string())?.to_string();
    Ok((canonical != text).then(|| Doc::from(canonical)))
}

/// A quantity that was written as a number.
pub(super) fn quantity_number(number: &Number) -> Verdict {
    let quantity = Quantity::parse(number.as_str()).map_err(|why| why.to_string())?;
    Ok(Some(Doc::from(quantity.to_string())))
}

/// A time in UTC, to the second or to the microsecond.
pub(super) fn time(text: &str, micros: bool) -> Verdict {
    let wrong = || format!("string {text:.40?}");
    let fraction = fraction_digits(text).ok_or_else(wrong)?;
    let time: Timestamp = text.parse().map_err(|_| wrong())?;
    let utc = text.ends_with('Z');
    if utc && fraction == if micros { 6 } else { 0 } {
        return Ok(None);
    }
    let form = if micros { "%Y-%m-%dT%H:%M:%S.%6fZ" } else { "%Y-%m-%dT%H:%M:%SZ" };
    let floor = floor(time, if micros { 1000 } else { 1_000_000_000 });
    Ok(Some(Doc::from(Offset::UTC.to_datetime(floor).strftime(form).to_string())))
}

/// The last instant not after `time` that is a multiple of `unit` nanoseconds.
fn floor(time: Timestamp, unit: i128) -> Timestamp {
    let nanos = time.as_nanosecond();
    Timestamp::from_nanosecond(nanos - nanos.rem_euclid(unit)).unwrap_or(time)
}

/// How many digits of a second an RFC 3339 text has; `None` if it has another form.
fn fraction_digits(text: &str) -> Option<usize> {
    const FORM: &[u8] = b"0000-00-00T00:00:00";
    let (head, tail) = text.split_at_checked(FORM.len())?;
    let fits = |byte: &u8, form: &u8| if *form == b'0' { byte.is_ascii_digit() } else { byte == form };
    // The leap second is none that Go's clock knows.
    if !head.bytes().zip(FORM).all(|(byte, form)| fits(&byte, form)) || &head[17..] > "59" {
        return None;
    }
    let zone_at = tail.find(['Z', '+', '-'])?;
    let (fraction, zone) = tail.split_at(zone_at);
    let digits = if fraction.is_empty() { "" } else { fraction.strip_prefix('.').filter(|d| !d.is_empty())? };
    let zone_fits = zone == "Z" || (zone.len() == 6 && zone[1..].bytes().zip(b"00:00").all(|(b, f)| fits(&b, f)));
    (zone_fits && digits.bytes().all(|byte| byte.is_ascii_digit())).then_some(digits.len())
}

/// Base64 with padding; line ends are allowed and dropped.
pub(super) fn bytes(text: &str) -> Verdict {
    let wrong = |_| "string that is no base64".to_owned();
    if text.contains(['\r', '\n']) {
        let joined: String = text.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
        STANDARD.decode(&joined).map_err(wrong)?;
        return Ok(Some(Doc::from(joined)));
    }
    STANDARD.decode(text).map_err(wrong)?;
    Ok(None)
}
