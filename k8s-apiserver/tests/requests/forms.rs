//! Bodies in the forms that servers read.

use k8s_apiserver::outer::protobuf::Message;
use k8s_core::{doc::Doc, schema::Schemas};
use serde_json::Value;

/// JSON.
pub const JSON: &str = "application/json";
/// CBOR.
pub const CBOR: &str = "application/cbor";
/// Protobuf in its envelope.
pub const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

/// A body in the form of a media type; `None` if what it says has no such form.
pub fn encode(schemas: &Schemas, body: &Value, media_type: &str) -> Option<Vec<u8>> {
    let text = || serde_json::to_vec(body).ok();
    match media_type {
        CBOR => {
            // The tag by which CBOR is told from anything else.
            let mut out = vec![0xd9, 0xd9, 0xf7];
            cbor(body, &mut out);
            Some(out)
        }
        PROTOBUF => {
            let text = text()?;
            let doc = Doc::parse(&text).ok()?;
            Message::of(schemas, &doc)?.object(&text).ok()
        }
        // What is JSON is YAML, too.
        _ => text(),
    }
}

fn cbor(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.push(0xf6),
        Value::Bool(value) => out.push(0xf4 + u8::from(*value)),
        Value::Number(number) => match (number.as_u64(), number.as_i64()) {
            (Some(number), _) => head(0, number, out),
            (None, Some(number)) => head(1, !number as u64, out),
            (None, None) => {
                out.push(0xfb);
                out.extend(number.as_f64().unwrap_or_default().to_be_bytes());
            }
        },
        Value::String(text) => {
            // Texts are byte strings in the form that servers write.
            head(2, text.len() as u64, out);
            out.extend(text.as_bytes());
        }
        Value::Array(items) => {
            head(4, items.len() as u64, out);
            items.iter().for_each(|item| cbor(item, out));
        }
        Value::Object(fields) => {
            head(5, fields.len() as u64, out);
            for (name, value) in fields {
                head(2, name.len() as u64, out);
                out.extend(name.as_bytes());
                cbor(value, out);
            }
        }
    }
}

/// A major type and its argument, in the fewest bytes.
fn head(major: u8, argument: u64, out: &mut Vec<u8>) {
    let major = major << 5;
    match argument {
        0..24 => out.push(major | argument as u8),
        24..0x100 => out.extend([major | 24, argument as u8]),
        0x100..0x1_0000 => {
            out.push(major | 25);
            out.extend((argument as u16).to_be_bytes());
        }
        0x1_0000..0x1_0000_0000 => {
            out.push(major | 26);
            out.extend((argument as u32).to_be_bytes());
        }
        _ => {
            out.push(major | 27);
            out.extend(argument.to_be_bytes());
        }
    }
}
