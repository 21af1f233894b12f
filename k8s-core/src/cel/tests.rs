//! Tables of expressions with what they come to, and what no input may do.

mod bounds;
mod compile;
mod kubernetes;
mod language;
mod objects;
mod speed;

use super::{Activation, Budget, Declarations, OBJECT_BUDGET, Program, Type, Value};
use crate::doc::Doc;

/// What an expression comes to: its value as shown, `error: ...`, or `compile: ...`.
fn outcome(source: &str) -> String {
    outcome_of(source, &Declarations::new().with_mutations(), &[])
}

/// The same with variables.
fn outcome_of(source: &str, declarations: &Declarations, variables: &[(&str, &Doc)]) -> String {
    let program = match Program::compile(source, declarations) {
        Ok(program) => program,
        Err(why) => return format!("compile: {}", why.issues()[0].message),
    };
    let mut activation = Activation::new();
    for (name, doc) in variables {
        activation.set(name, Value::of(doc));
    }
    shown(program.evaluate(&activation, &mut Budget::new(OBJECT_BUDGET)))
}

fn shown(outcome: Result<Value<'_>, super::EvalError>) -> String {
    match outcome {
        Ok(value) => format!("{value:?}"),
        Err(why) => format!("error: {why}"),
    }
}

/// Compares a table of expressions with their outcomes, and tells all that differ.
fn check(table: &[(&str, &str)]) {
    check_with(table, outcome);
}

fn check_with(table: &[(&str, &str)], outcome: impl Fn(&str) -> String) {
    let wrong: Vec<String> = table
        .iter()
        .map(|(source, wanted)| (source, wanted, outcome(source)))
        .filter(|(_, wanted, found)| *wanted != found)
        .map(|(source, wanted, found)| format!("{source}\n    wanted {wanted}\n    found  {found}"))
        .collect();
    assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), table.len(), wrong.join("\n"));
}

/// Any variable that is dynamic.
fn dynamic(names: &[&str]) -> Declarations {
    names.iter().fold(Declarations::new(), |declared, name| declared.variable_of(*name, Type::Dyn))
}
