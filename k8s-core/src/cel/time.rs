//! Points in time and spans of time, in the proleptic calendar and without a clock.

use std::fmt;

use super::EvalError;

const NANOS: i64 = 1_000_000_000;
/// 0001-01-01T00:00:00Z and the last second of the year 9999, between which every point in time lies.
const FIRST: i64 = -62_135_596_800;
const LAST: i64 = 253_402_300_799;

/// A point in time to the nanosecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp {
    seconds: i64,
    /// Invariant: below a second.
    nanos: u32,
}

/// A span of time in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub i64);

/// A point in time as the calendar of one offset has it.
pub(super) struct Civil {
    pub year: i64,
    /// From 1.
    pub month: i64,
    /// From 1.
    pub day: i64,
    /// From 0.
    pub day_of_year: i64,
    /// From 0, which is Sunday.
    pub weekday: i64,
    /// Since midnight.
    pub second: i64,
    pub nanos: i64,
}

impl Timestamp {
    /// Seconds since 1970 and nanoseconds; `None` outside of the years 1 to 9999.
    pub fn new(seconds: i64, nanos: u32) -> Option<Self> {
        (FIRST..=LAST).contains(&seconds).then_some(Self { seconds, nanos })
    }

    /// Reads RFC 3339.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        let number = |range: std::ops::Range<usize>| -> Option<i64> {
            let digits = bytes.get(range)?;
            digits.iter().try_fold(0, |sum, digit| digit.is_ascii_digit().then(|| sum * 10 + i64::from(digit - b'0')))
        };
        let sign_at = |at: usize, wanted: &[u8]| bytes.get(at).is_some_and(|byte| wanted.contains(byte));
        if !(sign_at(4, b"-") && sign_at(7, b"-") && sign_at(10, b"Tt") && sign_at(13, b":") && sign_at(16, b":")) {
            return None;
        }
        let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
        let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
        if !(1..=12).contains(&month)
            || day < 1
            || day > days_in(year, month)
            || hour > 23
            || minute > 59
            || second > 59
        {
            return None;
        }
        let (nanos, at) = fraction(bytes, 19)?;
        let offset = match bytes.get(at)? {
            b'Z' | b'z' if at + 1 == bytes.len() => 0,
            b'+' | b'-' if at + 6 == bytes.len() && bytes[at + 3] == b':' => {
                let (hours, minutes) = (number(at + 1..at + 3)?, number(at + 4..at + 6)?);
                if hours > 23 || minutes > 59 {
                    return None;
                }
                (hours * 3600 + minutes * 60) * if bytes[at] == b'-' { -1 } else { 1 }
            }
            _ => return None,
        };
        let days = days_from_civil(year, month, day);
        Self::new(days * 86400 + hour * 3600 + minute * 60 + second - offset, nanos)
    }

    /// Seconds since 1970.
    pub fn seconds(self) -> i64 {
        self.seconds
    }

    /// Later by a span.
    pub(super) fn plus(self, span: Span) -> Result<Self, EvalError> {
        let total = i128::from(self.seconds) * i128::from(NANOS) + i128::from(self.nanos) + i128::from(span.0);
        let seconds = i64::try_from(total.div_euclid(i128::from(NANOS))).unwrap_or(i64::MAX);
        let nanos = total.rem_euclid(i128::from(NANOS)) as u32;
        Self::new(seconds, nanos).ok_or_else(|| EvalError::new("timestamp overflow"))
    }

    /// How long after another.
    pub(super) fn since(self, other: Self) -> Result<Span, EvalError> {
        let seconds = i128::from(self.seconds) - i128::from(other.seconds);
        let nanos = seconds * i128::from(NANOS) + i128::from(self.nanos) - i128::from(other.nanos);
        i64::try_from(nanos).map(Span).map_err(|_| EvalError::new("duration overflow"))
    }

    /// The calendar at an offset in seconds.
    pub(super) fn civil(self, offset: i64) -> Civil {
        let local = self.seconds + offset;
        let days = local.div_euclid(86400);
        let (year, month, day) = civil_from_days(days);
        Civil {
            year,
            month,
            day,
            day_of_year: days - days_from_civil(year, 1, 1),
            weekday: (days + 4).rem_euclid(7),
            second: local.rem_euclid(86400),
            nanos: i64::from(self.nanos),
        }
    }
}

/// The digits behind a dot as nanoseconds, and where they end.
fn fraction(bytes: &[u8], mut at: usize) -> Option<(u32, usize)> {
    if bytes.get(at) != Some(&b'.') {
        return Some((0, at));
    }
    at += 1;
    let (start, mut nanos, mut scale) = (at, 0u32, 100_000_000u32);
    while let Some(digit) = bytes.get(at).filter(|byte| byte.is_ascii_digit()) {
        nanos += u32::from(digit - b'0') * scale;
        scale /= 10;
        at += 1;
    }
    (at > start).then_some((nanos, at))
}

fn days_in(year: i64, month: i64) -> i64 {
    let leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970 of a date: years begin in March, eras have 400 of them.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// The date of a number of days since 1970.
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year + era * 400 + i64::from(month <= 2), month, day)
}

/// RFC 3339, with as many decimals as are needed.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.civil(0);
        let (hour, minute, second) = (at.second / 3600, at.second / 60 % 60, at.second % 60);
        write!(f, "{:04}-{:02}-{:02}T{hour:02}:{minute:02}:{second:02}", at.year, at.month, at.day)?;
        if self.nanos > 0 {
            write!(f, ".{}", format!("{:09}", self.nanos).trim_end_matches('0'))?;
        }
        f.write_str("Z")
    }
}

impl Span {
    /// Reads Go's form: `1h30m`, `-1.5s`, `100ms`.
    pub fn parse(text: &str) -> Option<Self> {
        let (negative, mut rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        if rest == "0" {
            return Some(Self(0));
        }
        if rest.is_empty() {
            return None;
        }
        let mut total: i128 = 0;
        while !rest.is_empty() {
            let (nanos, after) = part(rest)?;
            total += nanos;
            if total > i128::from(i64::MAX) + 1 {
                return None;
            }
            rest = after;
        }
        i64::try_from(if negative { -total } else { total }).ok().map(Self)
    }
}

/// The first number with its unit, in nanoseconds, and what follows it.
fn part(text: &str) -> Option<(i128, &str)> {
    let end = text.find(|next: char| !next.is_ascii_digit()).unwrap_or(text.len());
    let (whole, rest) = text.split_at(end);
    let (decimals, rest) = match rest.strip_prefix('.') {
        Some(rest) => rest.split_at(rest.find(|next: char| !next.is_ascii_digit()).unwrap_or(rest.len())),
        None => ("", rest),
    };
    if (whole.is_empty() && decimals.is_empty()) || whole.len() > 19 {
        return None;
    }
    let unit_end = rest.find(|next: char| next.is_ascii_digit() || next == '.').unwrap_or(rest.len());
    let (unit, rest) = rest.split_at(unit_end);
    let unit: i128 = match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    };
    let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let mut nanos = whole * unit;
    let mut scale = unit;
    for digit in decimals.bytes().take(18) {
        scale /= 10;
        nanos += i128::from(digit - b'0') * scale;
    }
    Some((nanos, rest))
}

/// Seconds: `90s`, `1.5s`.
impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = self.0.unsigned_abs();
        let (seconds, nanos) = (size / NANOS as u64, size % NANOS as u64);
        let sign = if self.0 < 0 { "-" } else { "" };
        if nanos == 0 {
            return write!(f, "{sign}{seconds}s");
        }
        write!(f, "{sign}{seconds}.{}s", format!("{nanos:09}").trim_end_matches('0'))
    }
}

/// The offset of a time zone in seconds: `UTC`, or hours and minutes such as `-02:30`.
pub(super) fn zone_offset(zone: &str) -> Result<i64, EvalError> {
    if matches!(zone, "" | "UTC" | "Z" | "Etc/UTC" | "GMT") {
        return Ok(0);
    }
    let (sign, rest) = match zone.as_bytes()[0] {
        b'-' => (-1, &zone[1..]),
        b'+' => (1, &zone[1..]),
        _ => (1, zone),
    };
    let parsed = rest.split_once(':').and_then(|(hours, minutes)| {
        let hours: u8 = hours.parse().ok()?;
        let minutes: u8 = minutes.parse().ok()?;
        (hours < 24 && minutes < 60).then(|| i64::from(hours) * 3600 + i64::from(minutes) * 60)
    });
    parsed.map(|offset| sign * offset).ok_or_else(|| EvalError::new(format!("unknown time zone {zone}")))
}
