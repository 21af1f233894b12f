//! The syntax tree: nodes in a table, macros already expanded into nodes of their own.

use crate::doc::Text;

/// The place of a node in its [`Ast`].
pub(super) type Id = u32;

/// A parsed expression.
#[derive(Debug)]
pub(super) struct Ast {
    pub nodes: Vec<Node>,
    pub root: Id,
}

impl Ast {
    pub fn get(&self, id: Id) -> &Node {
        // Invariant: ids come from the parser that filled the table.
        &self.nodes[id as usize]
    }
}

/// An expression and where its operator (or its first token) stands.
#[derive(Debug)]
pub(super) struct Node {
    pub offset: usize,
    /// How many nodes lie below it in the deepest branch; bounded, so that walks may recurse.
    pub depth: u16,
    pub expr: Expr,
}

/// A literal.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Const {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(Box<str>),
    Bytes(Box<[u8]>),
}

/// An expression.
#[derive(Debug)]
pub(super) enum Expr {
    Const(Const),
    Ident(Text),
    Select {
        operand: Id,
        field: Text,
        mode: Mode,
    },
    Call {
        function: Text,
        target: Option<Id>,
        args: Vec<Id>,
    },
    And(Vec<Id>),
    Or(Vec<Id>),
    Conditional([Id; 3]),
    List(Vec<Item>),
    Map(Vec<(Id, Item)>),
    Struct {
        name: Text,
        fields: Vec<(Text, Item)>,
    },
    Fold(Fold),
    /// `cel.bind(name, value, body)`.
    Bind {
        name: Text,
        value: Id,
        body: Id,
    },
    /// `target.optMap(name, body)`; flat if the body is an optional itself.
    OptMap {
        target: Id,
        name: Text,
        body: Id,
        flat: bool,
    },
}

/// How a field is selected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// `a.b`
    Value,
    /// `has(a.b)`
    Test,
    /// `a.?b`
    Optional,
}

/// An element of a literal; an optional one (`?`) is left out where it is none.
#[derive(Clone, Copy, Debug)]
pub(super) struct Item {
    pub value: Id,
    pub optional: bool,
}

/// A macro over a list or a map.
#[derive(Debug)]
pub(super) struct Fold {
    pub kind: FoldKind,
    pub range: Id,
    pub first: Text,
    /// The second variable, where the macro has two.
    pub second: Option<Text>,
    pub filter: Option<Id>,
    pub body: Id,
}

/// Which macro.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FoldKind {
    All,
    Exists,
    ExistsOne,
    Filter,
    /// `map` and `transformList`.
    List,
    /// `transformMap`: the keys stay.
    Map,
    /// `transformMapEntry`: the body is a map of one entry.
    Entries,
}

impl Expr {
    /// Calls `visit` with every direct child.
    pub fn children(&self, mut visit: impl FnMut(Id)) {
        match self {
            Self::Const(_) | Self::Ident(_) => {}
            Self::Select { operand, .. } => visit(*operand),
            Self::Call { target, args, .. } => target.iter().chain(args).copied().for_each(visit),
            Self::And(items) | Self::Or(items) => items.iter().copied().for_each(visit),
            Self::Conditional(parts) => parts.iter().copied().for_each(visit),
            Self::List(items) => items.iter().for_each(|item| visit(item.value)),
            Self::Map(entries) => entries.iter().for_each(|(key, item)| {
                visit(*key);
                visit(item.value);
            }),
            Self::Struct { fields, .. } => fields.iter().for_each(|(_, item)| visit(item.value)),
            Self::Fold(fold) => [fold.range, fold.body].into_iter().chain(fold.filter).for_each(visit),
            Self::Bind { value, body, .. } => [*value, *body].into_iter().for_each(visit),
            Self::OptMap { target, body, .. } => [*target, *body].into_iter().for_each(visit),
        }
    }
}
