//! The Common Expression Language as Kubernetes uses it: rules of custom kinds, admission policies, match conditions.
//!
//! An expression is compiled once against the [`Declarations`] of its variables, which checks every type and every
//! field, and is then evaluated as often as wanted against values that are read where they lie, in [`Doc`]s. Nothing
//! here does I/O or knows a clock; every evaluation spends from a [`Budget`], and no input makes it panic.
//!
//! ```
//! use k8s_core::{cel::{Activation, Budget, Declarations, Program, Type, Value}, doc};
//! let declarations = Declarations::new().variable_of("object", Type::Dyn);
//! let rule = Program::compile("object.spec.replicas <= 5", &declarations)?;
//! let object = doc!({"spec": {"replicas": 3}});
//! let variables = Activation::new().bind("object", Value::of(&object));
//! assert_eq!(rule.evaluate(&variables, &mut Budget::new(1_000_000)).unwrap().as_bool(), Some(true));
//! # Ok::<(), k8s_core::cel::CompileError>(())
//! ```
//!
//! [`Doc`]: crate::doc::Doc

pub mod admission;
mod ast;
pub mod authorizer;
mod budget;
mod check;
mod code;
mod declarations;
pub mod device;
mod error;
mod escape;
mod estimate;
mod eval;
mod kubernetes;
mod library;
mod lists;
mod number;
mod parse;
mod text;
mod time;
mod token;
mod types;
mod unify;
mod value;

pub use budget::{Budget, CALL_BUDGET, EXPRESSION_COST_LIMIT, KIND_COST_LIMIT, MATCH_CONDITIONS_BUDGET, OBJECT_BUDGET};
pub use declarations::{Activation, Declarations};
pub use error::{CompileError, EvalError, Issue};
pub use escape::escape;
pub use estimate::greatest_size;
pub use time::{Span, Timestamp};
pub use types::{Record, StructType, Type};
pub use value::{Fields, Key, List, Made, Map, MapBuilder, Opaque, Str, Value};

/// A compiled expression. Shared freely among threads.
pub struct Program {
    code: code::Code,
    result: Type,
    source: Box<str>,
    estimate: u64,
}

impl Program {
    /// Compiles an expression: its syntax, its types, and the names that it uses.
    pub fn compile(source: &str, declarations: &Declarations) -> Result<Self, CompileError> {
        let ast = parse::parse(source).map_err(|issue| CompileError::new(source, vec![issue]))?;
        let (code, result) = check::check(&ast, declarations).map_err(|issues| CompileError::new(source, issues))?;
        let estimate = estimate::estimate(&code, declarations);
        Ok(Self { code, result, source: source.into(), estimate })
    }

    /// As [`Program::compile`], and the result must have this type, or be dynamic. The error says which type was
    /// expected, as upstream words it: `must evaluate to bool`.
    pub fn compile_to(source: &str, wanted: &Type, declarations: &Declarations) -> Result<Self, CompileError> {
        let program = Self::compile(source, declarations)?;
        if program.result == *wanted || program.result == Type::Dyn {
            return Ok(program);
        }
        Err(CompileError::plain(source, format!("must evaluate to {wanted}")))
    }

    /// The type of the result, as far as it is known before evaluating.
    pub fn result_type(&self) -> &Type {
        &self.result
    }

    /// The expression.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The greatest cost of one evaluation, from the bounds of the declared schemas. See [`EXPRESSION_COST_LIMIT`].
    pub fn estimate(&self) -> u64 {
        self.estimate
    }

    /// The value of the expression for these variables.
    ///
    /// It may spend [`CALL_BUDGET`], and no more than what remains of the budget.
    pub fn evaluate<'a>(&'a self, variables: &Activation<'a>, budget: &mut Budget) -> Result<Value<'a>, EvalError> {
        let around = budget.begin();
        let mut evaluator = eval::Evaluator { activation: variables, budget, locals: Vec::new() };
        let result = evaluator.value(&self.code);
        budget.resume(around);
        result
    }
}

impl std::fmt::Debug for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Program({:?}: {})", self.source, self.result)
    }
}

#[cfg(test)]
mod tests;
