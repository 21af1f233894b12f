//! One struct as a text record: the form in which the build script hands built-in structs over.
//!
//! The first line is the struct, the others its fields: name, shape and rules, separated by tabs.
//!
//! | Shape | Meaning |
//! |---|---|
//! | `#N` | the struct with number N |
//! | `[]SHAPE`, `{}SHAPE` | a list, a map |
//! | `string`, `int32`, `int64`, `number`, `boolean`, `bytes`, `intOrString`, `quantity`, `time`, `microTime` | scalars |
//! | `object`, `any` | any object, any value |
//! | `schemaOrBool`, `schemaOrSchemas`, `schemaOrNames` | any value, which has a form of its own in protobuf |
//!
//! | Rule | Meaning |
//! |---|---|
//! | `N`, `N.M` | the number in protobuf; `N.M` is number M of the message that is field N, inline in JSON |
//! | `value` | Go holds it by value: protobuf writes it even if it is absent (`zero` and `kept` text and numbers need no word) |
//! | `required` | validation refuses an object without the field |
//! | `default=JSON` | what defaulting sets (JSON without spaces) |
//! | `enum=A,B` | the permitted strings |
//! | `min=N`, `max=N` | the range of a number |
//! | `immutable` | updates may not change it |
//! | `zero` | the zero value (`""`, `0`, `false`) is the same as absence |
//! | `kept` | written out even if it is an empty list or map |
//! | `list=atomic/set/map`, `keys=A,B` | server-side apply |
//! | `atomic` | an object or map that server-side apply owns as a whole |
//! | `granular` | an object that is owned field by field here, although its struct is `atomic` |
//! | `patch=merge,replace,retainKeys`, `key=A` | strategic merge patch |

use super::{Field, IntFormat, ListType, NodeDef, Rules, SchemaOr, Shape, StructDef, StructId};
use crate::doc::{Doc, Text};

/// Reads one record.
pub(super) fn parse(record: &str) -> Result<StructDef, String> {
    let mut lines = record.lines();
    let (name, _, rules) = columns(lines.next().unwrap_or(""))?;
    let mut def = StructDef { name: name.into(), ..StructDef::default() };
    for word in rules.split_whitespace() {
        match word {
            "atomic" => def.atomic = true,
            other => return Err(format!("unknown rule {other} about a struct")),
        }
    }
    def.fields = lines.map(|line| field(line).map_err(|why| format!("{line}: {why}"))).collect::<Result<_, _>>()?;
    def.fields.sort_by(|a, b| a.name.cmp(&b.name));
    def.settle();
    Ok(def)
}

fn columns(line: &str) -> Result<(&str, &str, &str), String> {
    let mut parts = line.split('\t');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(name), Some(shape), Some(rules), None) => Ok((name, shape, rules)),
        _ => Err(format!("expected three columns in {line:?}")),
    }
}

fn field(line: &str) -> Result<Field, String> {
    let (name, written, words) = columns(line)?;
    let mut field =
        Field { name: name.into(), node: node(written)?, required: false, proto: 0, proto_inside: Box::default() };
    let mut rules = field.node.rules.take().map_or_else(Rules::default, |rules| *rules);
    for word in words.split_whitespace() {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        match (key, value) {
            ("required", "") => field.required = true,
            (numbers, "") if numbers.starts_with(|first: char| first.is_ascii_digit()) => {
                let mut path = numbers.split('.').map(str::parse::<u32>).collect::<Result<Vec<_>, _>>();
                field.proto = path.as_mut().ok().and_then(Vec::pop).ok_or_else(|| format!("{numbers} is no number"))?;
                field.proto_inside = path.unwrap_or_default().into();
            }
            _ => rule(&mut rules, key, value)?,
        }
    }
    if rules != Rules::default() {
        field.node.rules = Some(Box::new(rules));
    }
    Ok(field)
}

/// A shape, with the rule that some shapes bring.
fn node(written: &str) -> Result<NodeDef, String> {
    let other = match written {
        "schemaOrBool" => SchemaOr::Bool,
        "schemaOrSchemas" => SchemaOr::Schemas,
        "schemaOrNames" => SchemaOr::Names,
        _ => return shape(written).map(NodeDef::from),
    };
    let mut any = NodeDef::from(Shape::Any);
    any.rules_mut().schema_or = Some(other);
    Ok(any)
}

fn shape(written: &str) -> Result<Shape, String> {
    if let Some(item) = written.strip_prefix("[]") {
        return Ok(Shape::List(Box::new(node(item)?)));
    }
    if let Some(value) = written.strip_prefix("{}") {
        return Ok(Shape::Map(Box::new(node(value)?)));
    }
    if let Some(number) = written.strip_prefix('#') {
        return number.parse().map(|number| Shape::Struct(StructId(number))).map_err(|why| format!("{written}: {why}"));
    }
    Ok(match written {
        "string" => Shape::String,
        "int32" => Shape::Integer(IntFormat::Int32),
        "int64" => Shape::Integer(IntFormat::Int64),
        "number" => Shape::Number,
        "boolean" => Shape::Boolean,
        "bytes" => Shape::Bytes,
        "intOrString" => Shape::IntOrString,
        "quantity" => Shape::Quantity,
        "time" => Shape::Time,
        "microTime" => Shape::MicroTime,
        "object" => Shape::AnyObject,
        "any" => Shape::Any,
        other => return Err(format!("unknown shape {other}")),
    })
}

fn rule(rules: &mut Rules, key: &str, value: &str) -> Result<(), String> {
    let names = || value.split(',').map(Text::from).collect::<Vec<Text>>();
    let number = || value.parse::<f64>().map(Some).map_err(|why| format!("{key}={value}: {why}"));
    match (key, value) {
        ("default", json) => {
            let default = Doc::parse(json.as_bytes()).map_err(|why| format!("default={json}: {why}"))?;
            rules.default = Some(default);
        }
        ("enum", _) => rules.allowed = names().into_iter().map(Doc::from).collect(),
        ("min", _) => rules.min = number()?,
        ("max", _) => rules.max = number()?,
        ("immutable", "") => rules.immutable = true,
        ("zero", "") => rules.zero_is_absent = true,
        ("kept", "") => rules.keeps_empty = true,
        ("value", "") => rules.by_value = true,
        ("atomic", "") => rules.atomic = true,
        ("granular", "") => rules.granular = true,
        ("list", "atomic") => rules.list = ListType::Atomic,
        ("list", "set") => rules.list = ListType::Set,
        ("list", "map") => rules.list = ListType::Map,
        ("keys", _) => rules.keys = names(),
        ("key", _) => rules.merge_key = Some(value.into()),
        ("patch", _) => {
            for strategy in value.split(',') {
                match strategy {
                    "merge" => rules.patch.merge = true,
                    "replace" => rules.patch.replace = true,
                    "retainKeys" => rules.patch.retain_keys = true,
                    other => return Err(format!("unknown patch strategy {other}")),
                }
            }
        }
        _ => return Err(format!("unknown rule {key}={value}")),
    }
    Ok(())
}
