//! Resource quantities: exact fixed-point numbers with suffixes (`500m`, `1.5Gi`, `1e3`).
//!
//! What upstream's `resource.Quantity` promises: no floating point, a canonical form that remembers the kind of suffix,
//! and rounding away from zero below the smallest unit (a billionth).

use std::{cmp::Ordering, fmt, ops, str::FromStr};

/// Billionths in one.
const NANOS: i128 = 1_000_000_000;

/// The greatest quantity; what is larger is capped.
const MAX: i128 = i64::MAX as i128 * NANOS;

/// Exponents and numbers of decimals beyond these bounds are refused, be the digits what they may.
const MAX_EXPONENT: i32 = 30;
const MAX_DECIMALS: i32 = 18;

/// A quantity: a number of billionths, and the kind of suffix it is written with.
///
/// Equality and order are by value: `1Ki` equals `1024`.
#[derive(Clone, Copy, Default)]
pub struct Quantity {
    nanos: i128,
    format: Format,
}

/// Which suffixes a quantity is written with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// `n`, `u`, `m`, none, `k`, `M`, `G`, `T`, `P`, `E`.
    #[default]
    DecimalSi,
    /// `Ki`, `Mi`, `Gi`, `Ti`, `Pi`, `Ei`.
    BinarySi,
    /// `e3`, `E-3`.
    DecimalExponent,
}

/// Why a text is no quantity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuantityError {
    text: String,
    reason: &'static str,
}

impl fmt::Display for QuantityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A text of megabytes helps nobody.
        let shown: String = self.text.chars().take(64).collect();
        write!(f, "{shown:?} is no quantity: {}", self.reason)
    }
}

impl std::error::Error for QuantityError {}

impl Quantity {
    /// Nothing.
    pub const ZERO: Self = Self { nanos: 0, format: Format::DecimalSi };

    /// A whole number.
    pub const fn new(value: i64, format: Format) -> Self {
        Self { nanos: value as i128 * NANOS, format }
    }

    /// A number of thousandths.
    pub const fn from_milli(milli: i64, format: Format) -> Self {
        Self { nanos: milli as i128 * (NANOS / 1000), format }
    }

    /// Reads a text; see the module's documentation for the form.
    pub fn parse(text: &str) -> Result<Self, QuantityError> {
        parse(text).map_err(|reason| QuantityError { text: text.to_owned(), reason })
    }

    /// The value, rounded away from zero to a whole number.
    pub fn value(self) -> i64 {
        clamp(div_away(self.nanos, NANOS))
    }

    /// The value in thousandths, rounded away from zero.
    pub fn milli_value(self) -> i64 {
        clamp(div_away(self.nanos, NANOS / 1000))
    }

    /// The value as the nearest float, for scores and ratios alone.
    pub fn as_f64(self) -> f64 {
        self.nanos as f64 / NANOS as f64
    }

    /// Which suffixes it is written with.
    pub fn format(self) -> Format {
        self.format
    }

    /// Whether the value is zero.
    pub fn is_zero(self) -> bool {
        self.nanos == 0
    }

    /// Whether the value is below zero.
    pub fn is_negative(self) -> bool {
        self.nanos < 0
    }

    /// The value rounded away from zero to thousandths, as resource lists keep it.
    pub fn round_up_to_milli(self) -> Self {
        let milli = NANOS / 1000;
        Self { nanos: div_away(self.nanos, milli) * milli, ..self }
    }
}

/// Keeps the suffixes of the left side, or takes the right side's if the left is zero.
impl ops::Add for Quantity {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        let format = if self.is_zero() { other.format } else { self.format };
        Self { nanos: (self.nanos + other.nanos).clamp(-MAX, MAX), format }
    }
}

impl ops::Neg for Quantity {
    type Output = Self;
    fn neg(self) -> Self {
        Self { nanos: -self.nanos, ..self }
    }
}

impl ops::Sub for Quantity {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        self + -other
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

impl FromStr for Quantity {
    type Err = QuantityError;
    fn from_str(text: &str) -> Result<Self, QuantityError> {
        Self::parse(text)
    }
}

impl TryFrom<&crate::api::apimachinery::pkg::api::resource::Quantity> for Quantity {
    type Error = QuantityError;
    fn try_from(text: &crate::api::apimachinery::pkg::api::resource::Quantity) -> Result<Self, QuantityError> {
        Self::parse(&text.0)
    }
}

impl From<Quantity> for crate::api::apimachinery::pkg::api::resource::Quantity {
    fn from(quantity: Quantity) -> Self {
        Self(quantity.to_string())
    }
}

/// The canonical form: no fraction, and the largest suffix that loses nothing.
impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = self.nanos % NANOS == 0;
        let large = self.nanos.abs() >= 1024 * NANOS;
        match self.format {
            Format::BinarySi if whole && large => binary(f, self.nanos / NANOS),
            Format::DecimalExponent => decimal(f, self.nanos, true),
            Format::BinarySi | Format::DecimalSi => decimal(f, self.nanos, false),
        }
    }
}

impl fmt::Debug for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

const BINARY: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
const DECIMAL: [&str; 10] = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];

fn binary(f: &mut fmt::Formatter<'_>, mut value: i128) -> fmt::Result {
    let mut power = 0;
    while value % 1024 == 0 && power + 1 < BINARY.len() {
        value /= 1024;
        power += 1;
    }
    write!(f, "{value}{}", BINARY[power])
}

fn decimal(f: &mut fmt::Formatter<'_>, mut value: i128, exponent: bool) -> fmt::Result {
    if value == 0 {
        return f.write_str("0");
    }
    let mut power = 0;
    while value % 1000 == 0 && power + 1 < DECIMAL.len() {
        value /= 1000;
        power += 1;
    }
    match power as i32 * 3 - 9 {
        0 => write!(f, "{value}"),
        ten if exponent => write!(f, "{value}e{ten}"),
        _ => write!(f, "{value}{}", DECIMAL[power]),
    }
}

fn clamp(value: i128) -> i64 {
    value.clamp(i64::MIN.into(), i64::MAX.into()) as i64
}

/// Divides, rounding away from zero.
fn div_away(value: i128, unit: i128) -> i128 {
    let quotient = value / unit;
    if value % unit == 0 { quotient } else { quotient + value.signum() }
}

const FORM: &str = "expected a number with an optional suffix, such as 500m, 1.5Gi or 1e3";
const RANGE: &str = "the number is out of range";

fn parse(text: &str) -> Result<Quantity, &'static str> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
    let (number, suffix) = unsigned.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return Err(FORM);
    }
    let (format, base, power) = read_suffix(suffix)?;
    let fraction = fraction.trim_end_matches('0');
    let decimals = i32::try_from(fraction.len()).map_err(|_| RANGE)?;
    let below = if base == 10 { decimals - power } else { decimals };
    if below > MAX_DECIMALS {
        return Err(RANGE);
    }
    let shrinks = if base == 10 { usize::try_from(-power).unwrap_or(0) } else { 0 };
    let digits = digits(whole, fraction, shrinks);
    let nanos = match (digits, base) {
        (None, _) => MAX,
        (Some(0), _) => 0,
        (Some(digits), 10) => scale_ten(digits, power - decimals + 9),
        (Some(digits), _) => scale_ten(digits.saturating_mul(1 << power), 9 - decimals),
    };
    let nanos = nanos.min(MAX);
    // Small binary numbers read better in decimal, and keep their fraction.
    let format = if format == Format::BinarySi && 0 < nanos && nanos < NANOS { Format::DecimalSi } else { format };
    Ok(Quantity { nanos: if text.starts_with('-') { -nanos } else { nanos }, format })
}

/// The digits as one number; `None` if it is larger than any quantity also after the suffix takes `shrinks` digits off.
fn digits(whole: &str, fraction: &str, shrinks: usize) -> Option<i128> {
    let whole = whole.trim_start_matches('0');
    if whole.len() > 19 + shrinks {
        return None;
    }
    // Invariant: `shrinks` and the fraction's digits are together at most `MAX_DECIMALS`, so these are at most 19 + 18
    // digits, which i128 holds.
    whole
        .bytes()
        .chain(fraction.bytes())
        .try_fold(0i128, |sum, digit| sum.checked_mul(10)?.checked_add(i128::from(digit - b'0')))
}

/// `digits` times ten to the `power`, rounded up, capped.
fn scale_ten(digits: i128, power: i32) -> i128 {
    if power >= 0 {
        (0..power).fold(digits, |sum, _| sum.saturating_mul(10))
    } else {
        // Invariant: `parse` bounds the decimals, so the divisor fits.
        10i128.checked_pow(power.unsigned_abs()).map_or(1, |unit| div_away(digits, unit))
    }
}

/// Format, base and exponent of a suffix.
fn read_suffix(suffix: &str) -> Result<(Format, u32, i32), &'static str> {
    if let Some(place) = DECIMAL.iter().position(|known| *known == suffix) {
        return Ok((Format::DecimalSi, 10, place as i32 * 3 - 9));
    }
    if let Some(place) = BINARY.iter().position(|known| *known == suffix) {
        return Ok((Format::BinarySi, 2, place as i32 * 10));
    }
    let exponent = suffix.strip_prefix(['e', 'E']).ok_or(FORM)?;
    let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(FORM);
    }
    let exponent: i32 = exponent.parse().map_err(|_| RANGE)?;
    if exponent.abs() > MAX_EXPONENT { Err(RANGE) } else { Ok((Format::DecimalExponent, 10, exponent)) }
}

#[cfg(test)]
mod tests;
