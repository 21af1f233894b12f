//! Compiling rules, and what is wrong with them.

use super::{Old, Place, Rule, Rules};
use crate::{
    cel::{Declarations, EXPRESSION_COST_LIMIT, KIND_COST_LIMIT, Program, Type, greatest_size},
    custom::JsonPath,
    doc::{Doc, Map, Text},
    schema::{Node, Schema},
    status::{FieldError, FieldErrorKind},
};

/// Compiles every rule of a schema.
pub(super) fn compile(written: &Doc, schema: &Schema, path: &str) -> (Rules, Vec<FieldError>) {
    let mut compiler = Compiler { schema, errors: Vec::new(), total: 0 };
    let root = compiler.place(written, schema.root(), path, At { times: 1, is_correlatable: true });
    if compiler.total > KIND_COST_LIMIT {
        let detail = format!(
            "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema exceeds budget by factor of \
             {} (try simplifying the rules, or adding maxItems, maxProperties, and maxLength where arrays, maps, and \
             strings are declared)",
            factor(compiler.total, KIND_COST_LIMIT)
        );
        compiler.errors.push(FieldError::forbidden(path, detail));
    }
    (Rules { root }, compiler.errors)
}

struct Compiler<'s> {
    schema: &'s Schema,
    errors: Vec<FieldError>,
    total: u64,
}

/// How often a place may be there in one object, and whether it can be told from its former self.
#[derive(Clone, Copy)]
struct At {
    times: u64,
    is_correlatable: bool,
}

impl Compiler<'_> {
    fn place(&mut self, written: &Doc, node: Node<'_>, path: &str, at: At) -> Place {
        let texts = |name: &str| -> Vec<Text> {
            let items = written.get(name).map_or(&[][..], Doc::items);
            items.iter().filter_map(|item| item.as_str().map(Text::from)).collect()
        };
        let mut place = Place {
            kind: written.str_at(&["type"]).into(),
            keys: texts("x-kubernetes-list-map-keys"),
            ..Place::default()
        };
        let rules = written.get("x-kubernetes-validations").map_or(&[][..], Doc::items);
        for (number, rule) in rules.iter().enumerate() {
            let path = format!("{path}.x-kubernetes-validations[{number}]");
            place.rules.extend(self.rule(rule, written, node, &path, at));
        }
        for (name, property) in written.get("properties").and_then(Doc::as_object).into_iter().flat_map(Map::iter) {
            let Some(below) = node.field(name) else { continue };
            let below = self.place(property, below, &format!("{path}.properties[{name}]"), at);
            if !below.is_empty() {
                place.fields.insert(name.into(), below);
            }
        }
        let times = at.times.saturating_mul(greatest_size(self.schema, node).max(1));
        let each = match (written.get("items"), written.get("additionalProperties")) {
            (Some(items @ Doc::Object(_)), _) => {
                let is_map = written.str_at(&["x-kubernetes-list-type"]) == "map";
                let at = At { times, is_correlatable: at.is_correlatable && is_map };
                node.items().map(|below| self.place(items, below, &format!("{path}.items"), at))
            }
            (_, Some(values @ Doc::Object(_))) => {
                let path = format!("{path}.additionalProperties");
                node.values().map(|below| self.place(values, below, &path, At { times, ..at }))
            }
            _ => None,
        };
        place.each = each.filter(|each| !each.is_empty()).map(Box::new);
        place
    }

    fn rule(&mut self, rule: &Doc, written: &Doc, node: Node<'_>, path: &str, at: At) -> Option<Rule> {
        let text = rule.str_at(&["rule"]).trim().to_owned();
        if text.is_empty() {
            self.errors.push(FieldError::required(format!("{path}.rule"), "rule is not specified"));
            return None;
        }
        let message = rule.str_at(&["message"]);
        if message.contains('\n') {
            let detail = "message must not contain line breaks";
            self.errors.push(FieldError::invalid(format!("{path}.message"), message, detail));
        }
        if message.is_empty() && text.contains('\n') && rule.str_at(&["messageExpression"]).is_empty() {
            let detail = "message must be specified if rule contains line breaks";
            self.errors.push(FieldError::required(format!("{path}.message"), detail));
        }
        let is_optional = rule.get("optionalOldSelf").and_then(Doc::as_bool) == Some(true);
        let (program, declarations, old) = match self.program(&text, node, is_optional) {
            Ok(compiled) => compiled,
            Err(why) => {
                self.errors.push(FieldError::invalid(
                    format!("{path}.rule"),
                    &text,
                    format!("compilation failed: {why}"),
                ));
                return None;
            }
        };
        if old != Old::Unused && !at.is_correlatable {
            let detail = "oldSelf cannot be used on the uncorrelatable portion of the schema";
            self.errors.push(FieldError::invalid(format!("{path}.rule"), &text, detail));
        }
        self.cost(&program, at, &format!("{path}.rule"));
        let message_expression = self.message(rule, &declarations, path, at);
        Some(Rule {
            message: message.trim().to_owned(),
            reason: self.reason(rule, path),
            field_path: self.field_path(rule, written, path),
            program,
            text,
            message_expression,
            old,
        })
    }

    /// A rule that compiles without `oldSelf` does not use it.
    fn program(&self, text: &str, node: Node<'_>, is_optional: bool) -> Result<(Program, Declarations, Old), String> {
        let declarations = Declarations::new().variable_at("self", self.schema, node);
        let first = Program::compile_to(text, &Type::Bool, &declarations);
        if !is_optional && let Ok(program) = first {
            return Ok((program, declarations, Old::Unused));
        }
        let (declarations, old) = if is_optional {
            let of = Type::of(self.schema.arena(), node.def());
            (declarations.variable_of("oldSelf", Type::optional(of)), Old::Optional)
        } else {
            (declarations.variable_at("oldSelf", self.schema, node), Old::Needed)
        };
        let program = Program::compile_to(text, &Type::Bool, &declarations).map_err(|why| why.to_string())?;
        Ok((program, declarations, old))
    }

    fn message(&mut self, rule: &Doc, declarations: &Declarations, path: &str, at: At) -> Option<Program> {
        let text = rule.get("messageExpression").and_then(Doc::as_str)?.trim();
        let path = format!("{path}.messageExpression");
        if text.is_empty() {
            let detail = "messageExpression must be non-empty if specified";
            self.errors.push(FieldError::required(path, detail));
            return None;
        }
        match Program::compile_to(text, &Type::String, declarations) {
            Ok(program) => {
                self.cost(&program, at, &path);
                Some(program)
            }
            Err(why) => {
                let detail = format!("messageExpression compilation failed: {why}");
                self.errors.push(FieldError::invalid(path, text, detail));
                None
            }
        }
    }

    fn cost(&mut self, program: &Program, at: At, path: &str) {
        let cost = program.estimate().saturating_mul(at.times);
        self.total = self.total.saturating_add(cost);
        if cost > EXPRESSION_COST_LIMIT {
            let detail = format!(
                "estimated rule cost exceeds budget by factor of {} (try simplifying the rule, or adding maxItems, \
                 maxProperties, and maxLength where arrays, maps, and strings are declared)",
                factor(cost, EXPRESSION_COST_LIMIT)
            );
            self.errors.push(FieldError::forbidden(path, detail));
        }
    }

    fn reason(&mut self, rule: &Doc, path: &str) -> FieldErrorKind {
        const REASONS: [&str; 4] =
            ["FieldValueRequired", "FieldValueInvalid", "FieldValueForbidden", "FieldValueDuplicate"];
        match rule.str_at(&["reason"]) {
            "" | "FieldValueInvalid" => FieldErrorKind::Invalid,
            "FieldValueRequired" => FieldErrorKind::Required,
            "FieldValueForbidden" => FieldErrorKind::Forbidden,
            "FieldValueDuplicate" => FieldErrorKind::Duplicate,
            other => {
                self.errors.push(FieldError::not_supported(format!("{path}.reason"), other, &REASONS));
                FieldErrorKind::Invalid
            }
        }
    }

    /// The path that a rule names must be one of the schema's.
    fn field_path(&mut self, rule: &Doc, written: &Doc, path: &str) -> String {
        let Some(text) = rule.get("fieldPath").and_then(Doc::as_str) else { return String::new() };
        let fields = JsonPath::parse(text).ok();
        let fields = fields.as_ref().and_then(JsonPath::fields);
        let step = |at: Option<&Doc>, name: &&str| -> Option<Doc> {
            let at = at?;
            at.at(&["properties", name]).or_else(|| at.get("additionalProperties")).cloned()
        };
        let found = fields
            .as_ref()
            .and_then(|fields| fields.iter().try_fold(written.clone(), |at, name| step(Some(&at), name)));
        if found.is_none() {
            let detail = "fieldPath must be a valid path: it does not refer to a field of the schema";
            self.errors.push(FieldError::invalid(format!("{path}.fieldPath"), text, detail));
        }
        fields.unwrap_or_default().iter().map(|name| format!(".{name}")).collect()
    }
}

/// How far beyond a limit something is, as people say it.
fn factor(cost: u64, limit: u64) -> String {
    let times = cost as f64 / limit as f64;
    if times > 100.0 { "more than 100x".into() } else { format!("{times:.1}x") }
}
