//! Cron schedules: what `spec.schedule` of a CronJob may say.
//!
//! Five fields (minute, hour, day of month, month, day of week) or a descriptor such as `@hourly` or `@every 90m`, as
//! upstream's parser takes them.

/// The bounds of a field, and the names that stand for its values, if any.
struct Unit {
    name: &'static str,
    min: u32,
    max: u32,
    names: &'static [&'static str],
}

const UNITS: [Unit; 5] = [
    Unit { name: "minute", min: 0, max: 59, names: &[] },
    Unit { name: "hour", min: 0, max: 23, names: &[] },
    Unit { name: "day of month", min: 1, max: 31, names: &[] },
    Unit {
        name: "month",
        min: 1,
        max: 12,
        names: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
    },
    Unit { name: "day of week", min: 0, max: 6, names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"] },
];

/// Checks a schedule; the error says what is wrong with it.
pub(super) fn check(schedule: &str) -> Result<(), String> {
    if let Some(descriptor) = schedule.strip_prefix('@') {
        return check_descriptor(schedule, descriptor);
    }
    let fields: Vec<&str> = schedule.split_whitespace().collect();
    if fields.len() != UNITS.len() {
        return Err(format!("expected exactly 5 fields, found {}: {fields:?}", fields.len()));
    }
    fields.iter().zip(&UNITS).try_for_each(|(field, unit)| field.split(',').try_for_each(|part| check_part(part, unit)))
}

fn check_descriptor(schedule: &str, descriptor: &str) -> Result<(), String> {
    match descriptor {
        "yearly" | "annually" | "monthly" | "weekly" | "daily" | "midnight" | "hourly" => Ok(()),
        other => match other.strip_prefix("every ") {
            Some(duration) if is_duration(duration) => Ok(()),
            Some(_) => Err(format!("failed to parse duration {schedule}")),
            None => Err(format!("unrecognized descriptor: {schedule}")),
        },
    }
}

/// `90m`, `1h30m`, `1.5h`: Go's durations, not negative.
fn is_duration(text: &str) -> bool {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return true;
    }
    let mut parts = 0;
    while !rest.is_empty() {
        let digits =
            rest.len() - rest.trim_start_matches(|letter: char| letter.is_ascii_digit() || letter == '.').len();
        let (number, after) = rest.split_at(digits);
        if number.parse::<f64>().is_err() {
            return false;
        }
        let Some(unit) =
            ["ns", "us", "µs", "ms", "s", "m", "h"].iter().filter(|u| after.starts_with(**u)).max_by_key(|u| u.len())
        else {
            return false;
        };
        rest = &after[unit.len()..];
        parts += 1;
    }
    parts > 0
}

/// `*`, `?`, a value or a range, each with an optional step.
fn check_part(part: &str, unit: &Unit) -> Result<(), String> {
    let (range, step) = match part.split_once('/') {
        Some((_, step)) if step.contains('/') => return Err(format!("too many slashes: {part}")),
        Some((range, step)) => (range, Some(step)),
        None => (part, None),
    };
    if let Some(step) = step
        && number(step)? == 0
    {
        return Err(format!("step of range should be a positive number: {part}"));
    }
    if matches!(range, "*" | "?") {
        return Ok(());
    }
    let (start, end) = match range.split_once('-') {
        Some((_, end)) if end.contains('-') => return Err(format!("too many hyphens: {part}")),
        Some((start, end)) => (value(start, unit)?, value(end, unit)?),
        None => {
            let value = value(range, unit)?;
            (value, value)
        }
    };
    let Unit { name, min, max, .. } = unit;
    if start < *min {
        return Err(format!("beginning of range ({start}) below minimum ({min}) of {name}: {part}"));
    }
    if end > *max {
        return Err(format!("end of range ({end}) above maximum ({max}) of {name}: {part}"));
    }
    if start > end {
        return Err(format!("beginning of range ({start}) beyond end of range ({end}): {part}"));
    }
    Ok(())
}

fn value(text: &str, unit: &Unit) -> Result<u32, String> {
    match unit.names.iter().position(|name| name.eq_ignore_ascii_case(text)) {
        Some(place) => Ok(place as u32 + unit.min),
        None => number(text),
    }
}

fn number(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| format!("failed to parse int from {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules() {
        let good = [
            "* * * * *",
            "*/5 0-23/2 1,15 jan-JUN ?",
            "0 0 31 12 sat",
            "@hourly",
            "@every 1h30m",
            "@every 1.5h",
            "@midnight",
            "5/15 * * * 1-5",
        ];
        for schedule in good {
            assert_eq!(check(schedule), Ok(()), "{schedule}");
        }
        let bad = [
            "",
            "* * * *",
            "* * * * * *",
            "60 * * * *",
            "* 24 * * *",
            "* * 0 * *",
            "* * * 13 *",
            "* * * * 7",
            "5-1 * * * *",
            "*/0 * * * *",
            "1/2/3 * * * *",
            "1-2-3 * * * *",
            "a * * * *",
            "@every",
            "@every x",
            "@sometimes",
            "-1 * * * *",
        ];
        for schedule in bad {
            assert!(check(schedule).is_err(), "{schedule}");
        }
    }
}
