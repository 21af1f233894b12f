//! `x-kubernetes-validations`: rules about the values of a custom kind, as expressions.
//!
//! A rule stands at a place of the schema and speaks of the value there as `self`; one that names `oldSelf` speaks of a
//! change, and is asked only where a value can be told from its former self. Follows upstream's limits of cost, when a
//! definition is written and when an object is.

mod compile;

use std::collections::BTreeMap;

use crate::{
    cel::{Activation, Budget, EvalError, OBJECT_BUDGET, Program, Value},
    doc::{Doc, Text},
    schema::{Node, Schema},
    status::{FieldError, FieldErrorKind},
    structure::path::Path,
};

/// The rules of one version of a custom kind.
#[derive(Debug, Default)]
pub struct Rules {
    root: Place,
}

/// The rules at one place, and below it.
#[derive(Debug, Default)]
struct Place {
    rules: Vec<Rule>,
    fields: BTreeMap<Text, Place>,
    /// The items of a list, or the values of a map.
    each: Option<Box<Place>>,
    /// What tells an item of a list from others, wherever it stands.
    keys: Vec<Text>,
    kind: Text,
}

#[derive(Debug)]
struct Rule {
    program: Program,
    text: String,
    message: String,
    message_expression: Option<Program>,
    reason: FieldErrorKind,
    /// Below the place of the rule.
    field_path: String,
    old: Old,
}

/// What a rule says about the former value.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Old {
    /// Nothing.
    Unused,
    /// It needs one: without, the rule does not apply.
    Needed,
    /// It may be none.
    Optional,
}

impl Rules {
    /// Compiles the rules of a structural schema; what is wrong with them, with paths below `path`.
    pub fn compile(written: &Doc, schema: &Schema, path: &str) -> (Self, Vec<FieldError>) {
        compile::compile(written, schema, path)
    }

    /// The broken rules of an object; `old` is its former state on updates.
    pub fn validate(&self, schema: &Schema, doc: &Doc, old: Option<&Doc>) -> Vec<FieldError> {
        let mut run = Run { budget: Budget::new(OBJECT_BUDGET), errors: Vec::new(), is_spent: false };
        self.root.walk(schema.root(), doc, old, &Path::ROOT, &mut run);
        run.errors
    }
}

struct Run {
    budget: Budget,
    errors: Vec<FieldError>,
    is_spent: bool,
}

impl Place {
    fn is_empty(&self) -> bool {
        self.rules.is_empty() && self.fields.is_empty() && self.each.is_none()
    }

    fn walk(&self, node: Node<'_>, doc: &Doc, old: Option<&Doc>, path: &Path<'_>, run: &mut Run) {
        if doc.is_null() || run.is_spent {
            return;
        }
        for rule in &self.rules {
            if run.is_spent {
                return;
            }
            rule.ask(self, node, doc, old, path, run);
        }
        match doc {
            Doc::Object(map) => {
                for (name, value) in map.iter() {
                    let place = self.fields.get(name).or(self.each.as_deref());
                    if let (Some(place), Some(below)) = (place, node.field(name)) {
                        place.walk(below, value, old.and_then(|old| old.get(name)), &path.field(name), run);
                    }
                }
            }
            Doc::Array(items) => {
                let (Some(each), Some(below)) = (&self.each, node.items()) else { return };
                let before = old.map_or(&[][..], Doc::items);
                for (at, item) in items.iter().enumerate() {
                    each.walk(below, item, self.former(item, before), &path.index(at), run);
                }
            }
            _ => {}
        }
    }

    /// The former self of an item, found by its keys.
    fn former<'d>(&self, item: &Doc, before: &'d [Doc]) -> Option<&'d Doc> {
        if self.keys.is_empty() {
            return None;
        }
        before.iter().find(|other| self.keys.iter().all(|key| other.get(key) == item.get(key)))
    }
}

impl Rule {
    fn ask(&self, place: &Place, node: Node<'_>, doc: &Doc, old: Option<&Doc>, path: &Path<'_>, run: &mut Run) {
        let mut variables = Activation::new().bind("self", Value::of_node(doc, node));
        match (self.old, old) {
            // What did not change is not judged again.
            (Old::Unused, Some(old)) if old == doc => return,
            (Old::Unused, _) => {}
            (Old::Needed, None) => return,
            (Old::Needed, Some(old)) => variables.set("oldSelf", Value::of_node(old, node)),
            (Old::Optional, old) => {
                let old = old.map(|old| Value::of_node(old, node));
                variables.set("oldSelf", old.map_or(Value::Optional(None), Value::some));
            }
        }
        let kind = format!("{:?}", place.kind.as_str());
        let invalid = |detail: String| FieldError::new(FieldErrorKind::Invalid, shown(path, ""), kind.clone(), detail);
        match self.program.evaluate(&variables, &mut run.budget) {
            Ok(value) if value.as_bool() == Some(true) => {}
            Ok(_) => {
                let detail = self.said(&variables, &mut run.budget);
                let value = if self.reason == FieldErrorKind::Required { String::new() } else { kind };
                run.errors.push(FieldError::new(self.reason, shown(path, &self.field_path), value, detail));
            }
            Err(EvalError::BudgetExceeded) => {
                run.is_spent = true;
                let detail =
                    "validation failed due to running out of cost budget, no further validation rules will be run";
                run.errors.push(invalid(detail.into()));
            }
            Err(error) => run.errors.push(invalid(format!("{error} evaluating rule: {}", self.named()))),
        }
    }

    /// What is told of a broken rule: what its expression says, its message, or the rule itself.
    fn said<'a>(&'a self, variables: &Activation<'a>, budget: &mut Budget) -> String {
        let expressed = self.message_expression.as_ref().and_then(|program| {
            let value = program.evaluate(variables, budget).ok()?;
            value.as_str().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty() && !text.contains('\n'))
        });
        expressed.unwrap_or_else(|| self.named())
    }

    fn named(&self) -> String {
        if self.message.is_empty() { format!("failed rule: {}", self.text) } else { self.message.clone() }
    }
}

/// A path as messages have it; the object itself has none.
fn shown(path: &Path<'_>, below: &str) -> String {
    let text = format!("{}{below}", path.dotted());
    let text = text.strip_prefix('.').map(str::to_owned).unwrap_or(text);
    if text.is_empty() { "<nil>".into() } else { text }
}

#[cfg(test)]
mod tests;
