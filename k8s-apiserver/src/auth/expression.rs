//! Expressions of the configuration files of authentication and authorization: over one variable, each within a budget.

use std::sync::Arc;

use k8s_core::{
    cel::{Activation, Budget, CALL_BUDGET, Declarations, Program, Type, Value},
    doc::Doc,
};

/// An expression over one variable. Two are equal if they are written the same.
#[derive(Clone, Debug)]
pub struct Expression {
    variable: &'static str,
    program: Arc<Program>,
}

impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.variable == other.variable && self.program.source() == other.program.source()
    }
}

impl Expression {
    /// Compiles an expression over `variable`, whose fields are known when it is evaluated. The error says where it is
    /// wrong.
    pub fn compile(variable: &'static str, source: &str, result: Option<&Type>) -> Result<Self, String> {
        let declarations = Declarations::new().variable_of(variable, Type::map(Type::String, Type::Dyn));
        let program = match result {
            Some(result) => Program::compile_to(source, result, &declarations),
            None => Program::compile(source, &declarations),
        };
        let program = program.map_err(|why| why.to_string())?;
        Ok(Self { variable, program: Arc::new(program) })
    }

    /// As it is written.
    pub fn source(&self) -> &str {
        self.program.source()
    }

    /// Whether it holds.
    pub fn holds(&self, of: &Doc) -> Result<bool, String> {
        self.read(of, |value| value.as_bool().ok_or_else(|| wrong(self.source(), value, "bool")))
    }

    /// A text; `None` for `null`.
    pub fn text(&self, of: &Doc) -> Result<Option<String>, String> {
        self.read(of, |value| match value {
            Value::Null => Ok(None),
            value => {
                value.as_str().map(|text| Some(text.to_owned())).ok_or_else(|| wrong(self.source(), value, "string"))
            }
        })
    }

    /// A text or a list of texts. `null` and the empty text are no texts.
    pub fn texts(&self, of: &Doc) -> Result<Vec<String>, String> {
        let one = |value: &Value<'_>| match value {
            Value::Null => Ok(None),
            value => {
                let text = value.as_str().ok_or_else(|| wrong(self.source(), value, "string or a list of strings"))?;
                Ok((!text.is_empty()).then(|| text.to_owned()))
            }
        };
        self.read(of, |value| match value {
            Value::List(list) => list.iter().filter_map(|item| one(&item).transpose()).collect(),
            value => Ok(one(value)?.into_iter().collect()),
        })
    }

    fn read<T>(&self, of: &Doc, read: impl FnOnce(&Value<'_>) -> Result<T, String>) -> Result<T, String> {
        let variables = Activation::new().bind(self.variable, Value::of(of));
        let value = self.program.evaluate(&variables, &mut Budget::new(CALL_BUDGET));
        read(&value.map_err(|why| format!("expression {:?}: {why}", self.source()))?)
    }
}

fn wrong(source: &str, value: &Value<'_>, wanted: &str) -> String {
    format!("expression {source:?}: it gave {}, not {wanted}", value.type_name())
}

#[cfg(test)]
mod tests {
    use k8s_core::doc;

    use super::*;

    fn expression(source: &str) -> Expression {
        Expression::compile("claims", source, None).unwrap()
    }

    #[test]
    fn values_are_of_the_type_that_is_wanted() {
        let claims = doc!({"sub": "jane", "roles": ["a", "", "b"], "n": 1});
        assert_eq!(expression("claims.sub").text(&claims), Ok(Some("jane".into())));
        assert_eq!(expression("'x:' + claims.sub").texts(&claims), Ok(vec!["x:jane".into()]));
        assert_eq!(expression("claims.roles").texts(&claims), Ok(vec!["a".into(), "b".into()]));
        assert_eq!(expression("claims.roles.map(role, 'r:' + role)").texts(&claims).unwrap()[2], "r:b");
        assert_eq!(expression("claims.n > 0").holds(&claims), Ok(true));
        assert!(expression("claims.n").text(&claims).unwrap_err().contains("it gave int"));
        assert!(expression("claims.none").text(&claims).is_err());
        assert!(Expression::compile("claims", "1 + 'a'", None).is_err());
        assert!(Expression::compile("claims", "'a'", Some(&Type::Bool)).unwrap_err().contains("must evaluate to bool"));
    }
}
