//! `semver(text)`: semantic versions and their order.

use std::{cmp::Ordering, fmt, rc::Rc};

use super::{Answer, Budget, EvalError, Opaque, Value, text};

/// A version.
#[derive(Clone, Debug)]
pub struct Semver {
    numbers: [u64; 3],
    prerelease: Vec<String>,
    build: String,
}

impl Semver {
    fn parse(text: &str) -> Result<Self, String> {
        let (text, build) = text.split_once('+').unwrap_or((text, ""));
        let (core, prerelease) = match text.split_once('-') {
            Some((core, prerelease)) => (core, Some(prerelease)),
            None => (text, None),
        };
        let parts: Vec<&str> = core.split('.').collect();
        let [major, minor, patch] = parts[..] else { return Err("No Major.Minor.Patch elements found".into()) };
        let numbers = [number(major)?, number(minor)?, number(patch)?];
        let prerelease: Vec<String> =
            prerelease.map_or_else(Vec::new, |text| text.split('.').map(str::to_owned).collect());
        let identifier =
            |part: &String| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        let numeric_zero =
            |part: &String| part.len() > 1 && part.starts_with('0') && part.bytes().all(|b| b.is_ascii_digit());
        if !prerelease.iter().all(identifier) || prerelease.iter().any(numeric_zero) {
            return Err("Invalid character(s) found in prerelease".into());
        }
        Ok(Self { numbers, prerelease, build: build.into() })
    }

    /// The order of precedence; what was built does not matter.
    pub(in crate::cel) fn order(&self, other: &Self) -> Ordering {
        self.numbers.cmp(&other.numbers).then_with(|| match (self.prerelease.is_empty(), other.prerelease.is_empty()) {
            (true, true) => Ordering::Equal,
            (true, false) => Ordering::Greater,
            (false, true) => Ordering::Less,
            (false, false) => order_parts(&self.prerelease, &other.prerelease),
        })
    }
}

fn number(text: &str) -> Result<u64, String> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("Invalid character(s) found in version number \"{text}\""));
    }
    if text.len() > 1 && text.starts_with('0') {
        return Err(format!("version number must not contain leading zeroes \"{text}\""));
    }
    text.parse().map_err(|_| "version number out of range".to_owned())
}

fn order_parts(a: &[String], b: &[String]) -> Ordering {
    for (a, b) in a.iter().zip(b) {
        let order = match (a.parse::<u64>(), b.parse::<u64>()) {
            (Ok(a), Ok(b)) => a.cmp(&b),
            (Ok(_), Err(_)) => Ordering::Less,
            (Err(_), Ok(_)) => Ordering::Greater,
            (Err(_), Err(_)) => a.cmp(b),
        };
        if order != Ordering::Equal {
            return order;
        }
    }
    a.len().cmp(&b.len())
}

/// Takes off a leading `v` and leading zeros, and fills up to three numbers.
fn normalize(text: &str) -> String {
    let text = text.strip_prefix('v').unwrap_or(text);
    let end = text.find(['-', '+']).unwrap_or(text.len());
    let (core, rest) = text.split_at(end);
    let mut parts: Vec<String> = core
        .split('.')
        .map(|part| {
            let stripped = part.trim_start_matches('0');
            if stripped.is_empty() && !part.is_empty() { "0".into() } else { stripped.into() }
        })
        .collect();
    if rest.is_empty() {
        while parts.len() < 3 {
            parts.push("0".into());
        }
    }
    format!("{}{rest}", parts.join("."))
}

impl fmt::Display for Semver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [major, minor, patch] = self.numbers;
        write!(f, "{major}.{minor}.{patch}")?;
        if !self.prerelease.is_empty() {
            write!(f, "-{}", self.prerelease.join("."))?;
        }
        if self.build.is_empty() { Ok(()) } else { write!(f, "+{}", self.build) }
    }
}

fn read(args: &[Value<'_>]) -> Result<Result<Semver, String>, EvalError> {
    let text = text(args, 0)?;
    let lenient = match args.get(1) {
        Some(value) => value.as_bool().ok_or_else(EvalError::no_overload)?,
        None => false,
    };
    Ok(if lenient { Semver::parse(&normalize(text)) } else { Semver::parse(text) })
}

/// `semver(text)`, `semver(text, normalize)`
pub(in crate::cel) fn semver<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    match read(args)? {
        Ok(version) => Ok(Opaque::Semver(Rc::new(version)).into()),
        Err(why) => Err(EvalError::new(why)),
    }
}

/// `isSemver(text)`, `isSemver(text, normalize)`
pub(in crate::cel) fn is_semver<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    Ok(Value::Bool(read(args)?.is_ok()))
}

fn of<'v>(args: &'v [Value<'_>], at: usize) -> Result<&'v Semver, EvalError> {
    match &args[at] {
        Value::Opaque(Opaque::Semver(version)) => Ok(version),
        _ => Err(EvalError::no_overload()),
    }
}

macro_rules! numbers {
    ($($function:ident $place:literal;)*) => {$(
        pub(in crate::cel) fn $function<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
            let number = i64::try_from(of(args, 0)?.numbers[$place]);
            number.map(Value::Int).map_err(|_| EvalError::new("integer overflow"))
        }
    )*};
}

numbers! {
    major 0;
    minor 1;
    patch 2;
}

/// The order of two versions.
pub(in crate::cel) fn order(args: &[Value<'_>]) -> Result<Ordering, EvalError> {
    Ok(of(args, 0)?.order(of(args, 1)?))
}
