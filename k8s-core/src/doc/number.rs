//! Numbers as they were written, without loss until somebody asks for a type.

use std::fmt;

use super::Text;

/// A JSON number: its exact source text.
///
/// Invariant: the text follows the number grammar of RFC 8259, so that it can be written out as it is.
#[derive(Clone)]
pub struct Number(Text);

impl Number {
    /// Wraps text that the parser has checked.
    pub(super) fn from_checked(text: &str) -> Self {
        Self(text.into())
    }

    /// Any text that is a JSON number.
    pub fn from_text(text: &str) -> Option<Self> {
        let end = super::parse::number_end(text.as_bytes(), 0).ok()?;
        (end == text.len()).then(|| Self(text.into()))
    }

    /// The shortest text that reads back as `value`, as Go writes it (`1`, not `1.0`); `None` if it is not finite.
    pub fn from_f64(value: f64) -> Option<Self> {
        if !value.is_finite() {
            return None;
        }
        let size = value.abs();
        let plain = size == 0.0 || (1e-6..1e21).contains(&size);
        let text = if plain { format!("{value}") } else { format!("{value:e}") };
        Some(Self(text.into()))
    }

    /// The source text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is written without fraction and exponent.
    pub fn is_integer(&self) -> bool {
        !self.0.bytes().any(|byte| matches!(byte, b'.' | b'e' | b'E'))
    }

    /// The value, if it is written as an integer (no fraction, no exponent) in the range of `i64`.
    pub fn as_i64(&self) -> Option<i64> {
        self.0.parse().ok()
    }

    /// The value, if it is written as an integer in the range of `u64`.
    pub fn as_u64(&self) -> Option<u64> {
        // `-0` is an integer that Rust's parser of unsigned numbers refuses.
        self.0.parse().ok().or_else(|| (self.0 == "-0").then_some(0))
    }

    /// The nearest `f64`; infinite where the number is too large for one.
    pub fn as_f64(&self) -> f64 {
        // Invariant: the text is a JSON number, all of which Rust's parser reads.
        self.0.parse().unwrap_or(f64::NAN)
    }
}

/// Equal values, however written. Integers compare exactly; what no `i64` holds compares by text, then as `f64`
/// where that is finite and one of the two has a fraction or an exponent.
impl PartialEq for Number {
    fn eq(&self, other: &Self) -> bool {
        if self.0 == other.0 {
            return true;
        }
        if let (Some(a), Some(b)) = (self.as_i64(), other.as_i64()) {
            return a == b;
        }
        if self.is_integer() && other.is_integer() {
            return false;
        }
        let (a, b) = (self.as_f64(), other.as_f64());
        a.is_finite() && a == b
    }
}

impl From<i64> for Number {
    fn from(value: i64) -> Self {
        let mut text = Text::const_new("");
        push_display(&mut text, value);
        Self(text)
    }
}

impl From<u64> for Number {
    fn from(value: u64) -> Self {
        let mut text = Text::const_new("");
        push_display(&mut text, value);
        Self(text)
    }
}

fn push_display(text: &mut Text, value: impl fmt::Display) {
    // Writing to a string cannot fail.
    let _ = fmt::Write::write_fmt(text, format_args!("{value}"));
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
