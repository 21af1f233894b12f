//! Tags, lengths and numbers: what every protobuf message is made of.

use super::Fault;

/// What stands behind a tag.
#[derive(Clone, Copy)]
pub enum Value<'a> {
    Varint(u64),
    Fixed64(u64),
    Fixed32(u32),
    Bytes(&'a [u8]),
}

impl<'a> Value<'a> {
    /// A message, text or bytes.
    pub fn bytes(self) -> Result<&'a [u8], Fault> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            _ => Err(Fault::Malformed("a number where a message or text must be")),
        }
    }

    /// A whole number.
    pub fn number(self) -> Result<u64, Fault> {
        match self {
            Self::Varint(value) => Ok(value),
            _ => Err(Fault::Malformed("a message or text where a number must be")),
        }
    }

    /// The bits of a double; a float is widened.
    pub fn fixed(self) -> Result<u64, Fault> {
        match self {
            Self::Fixed64(bits) => Ok(bits),
            Self::Fixed32(bits) => Ok(f64::from(f32::from_bits(bits)).to_bits()),
            _ => Err(Fault::Malformed("no fraction where one must be")),
        }
    }
}

/// The fields of a message as they stand: number and value.
pub struct Records<'a>(pub &'a [u8]);

impl<'a> Iterator for Records<'a> {
    type Item = Result<(u32, Value<'a>), Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let record = self.record();
        if record.is_err() {
            self.0 = &[];
        }
        Some(record)
    }
}

impl<'a> Records<'a> {
    fn record(&mut self) -> Result<(u32, Value<'a>), Fault> {
        let tag = varint(&mut self.0)?;
        let number = u32::try_from(tag >> 3).ok().filter(|number| *number > 0);
        let number = number.ok_or(Fault::Malformed("a field number out of range"))?;
        let value = match tag & 7 {
            0 => Value::Varint(varint(&mut self.0)?),
            1 => Value::Fixed64(u64::from_le_bytes(self.take()?)),
            2 => {
                let length = varint(&mut self.0)?;
                let length = usize::try_from(length).ok().filter(|length| *length <= self.0.len());
                let (bytes, rest) = self.0.split_at(length.ok_or(CUT)?);
                self.0 = rest;
                Value::Bytes(bytes)
            }
            5 => Value::Fixed32(u32::from_le_bytes(self.take()?)),
            _ => return Err(Fault::Malformed("an unknown wire type")),
        };
        Ok((number, value))
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or(CUT)?;
        self.0 = rest;
        Ok(*bytes)
    }
}

const CUT: Fault = Fault::Malformed("the message is cut off");

/// Reads a number of up to 64 bits.
pub fn varint(bytes: &mut &[u8]) -> Result<u64, Fault> {
    let mut value = 0u64;
    for shift in (0..70).step_by(7) {
        let (byte, rest) = bytes.split_first().ok_or(CUT)?;
        *bytes = rest;
        let bits = u64::from(byte & 0x7f);
        if shift == 63 && bits > 1 {
            break;
        }
        value |= bits << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(Fault::Malformed("a number longer than 64 bits"))
}

/// Appends a number.
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a field that is a number.
pub fn put_number(out: &mut Vec<u8>, number: u32, value: u64) {
    put_varint(out, u64::from(number) << 3);
    put_varint(out, value);
}

/// Appends the tag and the length of a field whose bytes follow.
pub fn put_head(out: &mut Vec<u8>, number: u32, length: usize) {
    put_varint(out, u64::from(number) << 3 | 2);
    put_varint(out, length as u64);
}

/// Appends a field that is text or bytes.
pub fn put_bytes(out: &mut Vec<u8>, number: u32, value: &[u8]) {
    put_head(out, number, value.len());
    out.extend_from_slice(value);
}
