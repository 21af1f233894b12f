//! The checked form of an expression, as the evaluator walks it.

use regex::Regex;

use super::{
    ast::{Const, FoldKind, Mode},
    kubernetes::format::Format,
    library::Function,
};
use crate::doc::Text;

/// A checked expression.
pub(super) enum Code {
    Const(Const),
    /// A variable of the caller, by its name.
    Global(Text),
    /// A variable of a macro: how many variables were bound before it.
    Local(usize),
    Type(Text),
    Select(Box<Select>),
    Call(&'static Function, Box<[Code]>),
    /// `matches` with a literal pattern.
    Matches(Box<(Code, Regex, u64)>),
    Format(Format),
    And(Box<[Code]>),
    Or(Box<[Code]>),
    Conditional(Box<[Code; 3]>),
    List(Box<[Element]>),
    Map(Box<[(Code, Element)]>),
    Struct(Box<Literal>),
    Fold(Box<Fold>),
    Bind(Box<(Code, Code)>),
    OptMap(Box<OptMap>),
}

/// A field of an object.
pub(super) struct Select {
    pub operand: Code,
    pub field: Text,
    pub mode: Mode,
}

/// An element of a literal.
pub(super) struct Element {
    pub value: Code,
    pub optional: bool,
}

/// A structure that the expression makes.
pub(super) struct Literal {
    pub name: Text,
    pub fields: Vec<(Text, Element)>,
}

/// A macro over a list or a map.
pub(super) struct Fold {
    pub kind: FoldKind,
    pub range: Code,
    /// Whether two variables are bound.
    pub pairs: bool,
    pub filter: Option<Code>,
    pub body: Code,
}

/// `optMap` and `optFlatMap`.
pub(super) struct OptMap {
    pub target: Code,
    pub body: Code,
    pub flat: bool,
}
