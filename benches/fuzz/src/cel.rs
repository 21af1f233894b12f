//! Expressions: what compiles is evaluated within its budget, twice to the same.

use k8s_core::{
    cel::{Activation, Budget, CALL_BUDGET, Declarations, EvalError, Program, Type, Value},
    doc::Doc,
};

use crate::samples::sample;

/// A letter chooses the type of `object`, dynamic or that of a sample; then come an expression and perhaps an object.
pub fn run(input: &[u8]) {
    let [choice, rest @ ..] = input else { return };
    let parts = crate::parts(rest);
    let Ok(source) = std::str::from_utf8(parts[0]) else { return };
    let sample = sample(*choice);
    let is_typed = choice.is_ascii_digit();
    let given = parts.get(1).filter(|_| !is_typed).and_then(|text| Doc::parse(text).ok());
    let object = given.as_ref().unwrap_or(&sample.object);
    let of = if is_typed { Type::of_schema(&sample.schema) } else { Type::Dyn };
    let declarations = Declarations::new().variable_of("object", of);
    let program = match Program::compile(source, &declarations) {
        Ok(program) => program,
        Err(why) => {
            assert!(!why.issues().is_empty() && !why.to_string().is_empty());
            return;
        }
    };
    let again = Program::compile(source, &declarations);
    assert!(again.is_ok_and(|again| again.estimate() == program.estimate()), "it compiles in two ways");
    let value = if is_typed { Value::of_node(object, sample.schema.root()) } else { Value::of(object) };
    let variables = Activation::new().bind("object", value);
    let (once, twice) = (evaluated(&program, &variables), evaluated(&program, &variables));
    assert_eq!(once, twice, "two evaluations");
}

/// What a value is, as far as it can be compared, and what it cost.
#[derive(Debug, PartialEq)]
struct Outcome {
    spent: u64,
    boolean: Option<bool>,
    text: Option<String>,
    failed: Option<EvalError>,
}

fn evaluated<'a>(program: &'a Program, variables: &Activation<'a>) -> Outcome {
    let mut budget = Budget::new(2 * CALL_BUDGET);
    let result = program.evaluate(variables, &mut budget);
    let spent = budget.spent();
    assert!(spent <= CALL_BUDGET, "it cost {spent}");
    let value = result.as_ref().ok();
    Outcome {
        spent,
        boolean: value.and_then(Value::as_bool),
        text: value.and_then(Value::as_str).map(str::to_owned),
        failed: result.as_ref().err().cloned(),
    }
}
