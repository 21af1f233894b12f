//! Documents as CBOR.

use k8s_core::doc::{Doc, Map, Number};

use super::{ARRAY, BYTES, MAP, NEGATIVE, SELF_DESCRIBED, SIMPLE, UNSIGNED};

/// A document as one data item.
pub fn encode(doc: &Doc) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    out.extend_from_slice(&SELF_DESCRIBED);
    value(doc, &mut out);
    out
}

/// A watch event as one item of a sequence.
pub fn event(word: &str, object: &Doc) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    out.extend_from_slice(&SELF_DESCRIBED);
    head(MAP, 2, &mut out);
    // The shorter key stands first.
    string("type", &mut out);
    string(word, &mut out);
    string("object", &mut out);
    value(object, &mut out);
    out
}

fn value(doc: &Doc, out: &mut Vec<u8>) {
    match doc {
        Doc::Null => out.push(SIMPLE << 5 | 22),
        Doc::Bool(value) => out.push(SIMPLE << 5 | if *value { 21 } else { 20 }),
        Doc::Number(value) => number(value, out),
        Doc::String(text) => string(text, out),
        Doc::Array(items) => {
            head(ARRAY, items.len() as u64, out);
            items.iter().for_each(|item| value(item, out));
        }
        Doc::Object(fields) => map(fields, out),
    }
}

fn map(fields: &Map, out: &mut Vec<u8>) {
    head(MAP, fields.len() as u64, out);
    let mut sorted: Vec<(&str, &Doc)> = fields.iter().collect();
    // The order of the encoded keys: their length stands first.
    sorted.sort_by(|(a, _), (b, _)| a.len().cmp(&b.len()).then_with(|| a.cmp(b)));
    for (name, field) in sorted {
        string(name, out);
        value(field, out);
    }
}

fn number(number: &Number, out: &mut Vec<u8>) {
    match number.as_i64() {
        Some(value) if value >= 0 => head(UNSIGNED, value as u64, out),
        // Below zero, -1 is written as 0.
        Some(value) => head(NEGATIVE, (-1 - value) as u64, out),
        // Upstream reads no larger integers, either.
        None => {
            out.push(SIMPLE << 5 | 27);
            out.extend_from_slice(&number.as_f64().to_be_bytes());
        }
    }
}

fn string(text: &str, out: &mut Vec<u8>) {
    head(BYTES, text.len() as u64, out);
    out.extend_from_slice(text.as_bytes());
}

/// A major type and its argument, in the fewest bytes.
fn head(major: u8, argument: u64, out: &mut Vec<u8>) {
    let major = major << 5;
    let bytes = argument.to_be_bytes();
    match argument {
        0..=23 => out.push(major | argument as u8),
        24..=0xff => out.extend_from_slice(&[major | 24, bytes[7]]),
        0x100..=0xffff => {
            out.push(major | 25);
            out.extend_from_slice(&bytes[6..]);
        }
        0x1_0000..=0xffff_ffff => {
            out.push(major | 26);
            out.extend_from_slice(&bytes[4..]);
        }
        _ => {
            out.push(major | 27);
            out.extend_from_slice(&bytes);
        }
    }
}
