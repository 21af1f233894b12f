//! CBOR as documents.

use base64::{Engine, engine::general_purpose::STANDARD};
use k8s_core::doc::{Doc, MAX_DEPTH, Map, Number};

use super::{ARRAY, BYTES, MAP, NEGATIVE, TAG, TEXT, UNSIGNED};

/// How many values a body may hold: a value takes one byte here, and many in memory.
const MAX_VALUES: usize = 1_000_000;
/// Ends what was begun without a length.
const BREAK: u8 = 0xff;

/// The tags that may stand before a value: a time as text, how bytes become text, and that CBOR follows.
const TAG_TIME: u64 = 0;
const TAG_BASE64: u64 = 22;
const TAG_BASE16: u64 = 23;
const TAG_SELF_DESCRIBED: u64 = 55799;

/// Why bytes are no document, and at which byte.
#[derive(Debug, PartialEq, Eq)]
pub struct Fault {
    at: usize,
    why: &'static str,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (at byte {})", self.why, self.at)
    }
}

/// Reads one data item, which must be all there is.
pub fn decode(bytes: &[u8]) -> Result<Doc, Fault> {
    let mut reader = Reader { bytes, at: 0, values: 0 };
    let doc = reader.value(0)?;
    if reader.at < bytes.len() { reader.fault("more than one value") } else { Ok(doc) }
}

/// How the bytes of a byte string are to be understood.
#[derive(Clone, Copy, PartialEq)]
enum As {
    Text,
    Base64,
    Base16,
}

/// Where and how long a string, array or map is.
#[derive(Clone, Copy)]
enum Length {
    Known(u64),
    UntilBreak,
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    values: usize,
}

impl Reader<'_> {
    fn fault<T>(&self, why: &'static str) -> Result<T, Fault> {
        Err(Fault { at: self.at, why })
    }

    fn take(&mut self, count: u64) -> Result<&[u8], Fault> {
        let left = self.bytes.len() - self.at;
        if count > left as u64 {
            return self.fault("it ends too early");
        }
        let from = self.at;
        // Invariant: not more than is left, so it fits.
        self.at += count as usize;
        Ok(&self.bytes[from..self.at])
    }

    fn byte(&mut self) -> Result<u8, Fault> {
        Ok(self.take(1)?[0])
    }

    /// A head: the major type, and its argument as a length.
    fn head(&mut self) -> Result<(u8, u8, Length), Fault> {
        let first = self.byte()?;
        let (major, info) = (first >> 5, first & 31);
        let length = match info {
            0..=23 => Length::Known(u64::from(info)),
            24..=27 => {
                let bytes = self.take(1 << (info - 24))?;
                Length::Known(bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
            }
            31 => Length::UntilBreak,
            _ => return self.fault("a head that means nothing"),
        };
        Ok((major, info, length))
    }

    fn value(&mut self, depth: usize) -> Result<Doc, Fault> {
        self.tagged(depth, As::Text)
    }

    fn tagged(&mut self, depth: usize, as_what: As) -> Result<Doc, Fault> {
        if depth > MAX_DEPTH {
            return self.fault("it is nested too deep");
        }
        self.values += 1;
        if self.values > MAX_VALUES {
            return self.fault("it holds too many values");
        }
        let (major, info, length) = self.head()?;
        match (major, length) {
            (UNSIGNED, Length::Known(value)) => self.integer(i64::try_from(value).ok()),
            (NEGATIVE, Length::Known(value)) => self.integer(i64::try_from(value).ok().map(|value| -1 - value)),
            (BYTES | TEXT, length) => self.string(major, length, as_what).map(|text| Doc::String(text.into())),
            (ARRAY, length) => self.array(length, depth),
            (MAP, length) => self.map(length, depth),
            (TAG, Length::Known(tag)) => self.after_tag(tag, depth),
            (_, Length::Known(value)) => self.simple(info, value),
            (_, Length::UntilBreak) => self.fault("a break where nothing was begun"),
        }
    }

    fn integer(&self, value: Option<i64>) -> Result<Doc, Fault> {
        value.map_or_else(|| self.fault("an integer that 64 bits with a sign do not hold"), |value| Ok(value.into()))
    }

    fn after_tag(&mut self, tag: u64, depth: usize) -> Result<Doc, Fault> {
        let next = self.bytes.get(self.at).map_or(0, |byte| byte >> 5);
        match (tag, next) {
            (TAG_SELF_DESCRIBED, _) => self.tagged(depth + 1, As::Text),
            (TAG_TIME, TEXT | BYTES) => self.tagged(depth + 1, As::Text),
            (TAG_BASE64, BYTES) => self.tagged(depth + 1, As::Base64),
            (TAG_BASE16, BYTES) => self.tagged(depth + 1, As::Base16),
            _ => self.fault("a tag that has no meaning here"),
        }
    }

    fn string(&mut self, major: u8, length: Length, as_what: As) -> Result<String, Fault> {
        let bytes = match length {
            Length::Known(length) => self.take(length)?.to_vec(),
            Length::UntilBreak => self.pieces(major)?,
        };
        match as_what {
            As::Base64 => Ok(STANDARD.encode(bytes)),
            As::Base16 => Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect()),
            As::Text => String::from_utf8(bytes).or_else(|_| self.fault("a string that is no UTF-8")),
        }
    }

    fn pieces(&mut self, major: u8) -> Result<Vec<u8>, Fault> {
        let mut whole = Vec::new();
        while !self.breaks() {
            match self.head()? {
                (found, _, Length::Known(length)) if found == major => whole.extend_from_slice(self.take(length)?),
                _ => return self.fault("a string in pieces of another type"),
            }
        }
        Ok(whole)
    }

    /// Takes the break, if it is next.
    fn breaks(&mut self) -> bool {
        let is_next = self.bytes.get(self.at) == Some(&BREAK);
        self.at += usize::from(is_next);
        is_next
    }

    /// Whether `done` values are not all of them.
    fn goes_on(&mut self, length: Length, done: u64) -> bool {
        match length {
            Length::Known(length) => done < length,
            Length::UntilBreak => !self.breaks(),
        }
    }

    fn array(&mut self, length: Length, depth: usize) -> Result<Doc, Fault> {
        let mut items = Vec::new();
        while self.goes_on(length, items.len() as u64) {
            items.push(self.value(depth + 1)?);
        }
        Ok(Doc::Array(items))
    }

    fn map(&mut self, length: Length, depth: usize) -> Result<Doc, Fault> {
        let mut fields = Map::new();
        while self.goes_on(length, fields.len() as u64) {
            let (major, _, length) = self.head()?;
            if !matches!(major, BYTES | TEXT) {
                return self.fault("a key that is no string");
            }
            let key = self.string(major, length, As::Text)?;
            let value = self.value(depth + 1)?;
            if fields.insert(key, value).is_some() {
                return self.fault("a key that is there twice");
            }
        }
        Ok(Doc::Object(fields))
    }

    fn simple(&self, info: u8, value: u64) -> Result<Doc, Fault> {
        let number = match (info, value) {
            (20, _) => return Ok(Doc::Bool(false)),
            (21, _) => return Ok(Doc::Bool(true)),
            (22, _) => return Ok(Doc::Null),
            (25, half) => from_half(half as u16),
            (26, single) => f64::from(f32::from_bits(single as u32)),
            (27, double) => f64::from_bits(double),
            _ => return self.fault("a simple value that JSON does not have"),
        };
        Number::from_f64(number)
            .map_or_else(|| self.fault("a number that is not finite"), |number| Ok(Doc::Number(number)))
    }
}

/// IEEE 754 binary16.
fn from_half(bits: u16) -> f64 {
    let (exponent, fraction) = (i32::from(bits >> 10 & 31), f64::from(bits & 0x3ff));
    let size = match exponent {
        0 => fraction * 2f64.powi(-24),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (1024.0 + fraction) * 2f64.powi(exponent - 25),
    };
    if bits >> 15 == 1 { -size } else { size }
}
