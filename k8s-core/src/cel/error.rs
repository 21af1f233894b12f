//! What can go wrong: in compiling, with a position in the source, and in evaluating.

use std::fmt;

/// Why an expression does not compile: at least one issue, shown as cel-go shows them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompileError {
    source: String,
    issues: Vec<Issue>,
}

/// One thing that is wrong with an expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issue {
    /// Where, in bytes from the beginning; [`usize::MAX`] if it is about the whole.
    pub offset: usize,
    /// What.
    pub message: String,
}

impl Issue {
    pub(super) fn new(offset: usize, message: impl Into<String>) -> Self {
        Self { offset, message: message.into() }
    }
}

impl CompileError {
    /// The issues, which must be at least one, in an expression.
    pub(super) fn new(source: &str, mut issues: Vec<Issue>) -> Self {
        issues.sort_by_key(|issue| issue.offset);
        Self { source: source.to_owned(), issues }
    }

    /// An error about the expression as a whole.
    pub(super) fn plain(source: &str, message: String) -> Self {
        Self { source: source.to_owned(), issues: vec![Issue { offset: usize::MAX, message }] }
    }

    /// What is wrong, in the order of the source.
    pub fn issues(&self) -> &[Issue] {
        &self.issues
    }

    /// Line (from 1), column (from 0, in characters) and the text of the line of a byte offset.
    fn locate(&self, offset: usize) -> (usize, usize, &str) {
        let offset = offset.min(self.source.len());
        let start = self.source[..offset].rfind('\n').map_or(0, |at| at + 1);
        let line = self.source[start..].split('\n').next().unwrap_or("");
        let number = self.source[..start].matches('\n').count() + 1;
        (number, self.source[start..offset].chars().count(), line)
    }
}

/// `ERROR: <input>:LINE:COLUMN: MESSAGE`, the line, and a caret below the place; issues are parted by line breaks.
impl fmt::Display for CompileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, issue) in self.issues.iter().enumerate() {
            if issue.offset == usize::MAX {
                return f.write_str(&issue.message);
            }
            let (line, column, text) = self.locate(issue.offset);
            let separator = if at == 0 { "" } else { "\n" };
            write!(f, "{separator}ERROR: <input>:{line}:{}: {}", column + 1, issue.message)?;
            write!(f, "\n | {}\n | {}^", text.replace('\t', " "), ".".repeat(column))?;
        }
        Ok(())
    }
}

impl std::error::Error for CompileError {}

/// Why an expression has no value.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EvalError {
    /// The values do not allow it: a missing key, an overflow, a division by zero, ...
    Failed(Box<str>),
    /// It costs more than the budget; nothing absorbs it.
    BudgetExceeded,
}

impl EvalError {
    pub(super) fn new(message: impl Into<Box<str>>) -> Self {
        Self::Failed(message.into())
    }

    pub(super) fn no_overload() -> Self {
        Self::new("no such overload")
    }

    /// Whether the budget was the reason.
    pub fn is_budget(&self) -> bool {
        *self == Self::BudgetExceeded
    }
}

impl fmt::Display for EvalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(message) => f.write_str(message),
            Self::BudgetExceeded => f.write_str("operation cancelled: actual cost limit exceeded"),
        }
    }
}

impl std::error::Error for EvalError {}
