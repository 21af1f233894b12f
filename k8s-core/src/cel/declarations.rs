//! What an expression may name: the variables with their types before evaluating, with their values then.

use super::{Type, Value, estimate::Shape};
use crate::{
    doc::Text,
    schema::{Node, Schema},
};

/// The variables that an expression may use.
#[derive(Clone, Default)]
pub struct Declarations {
    variables: Vec<(Text, Type)>,
    /// What the schema says of sizes, of the variables that stand for a place in one.
    shapes: Vec<(Text, Shape)>,
    mutations: bool,
}

impl Declarations {
    /// No variables.
    pub fn new() -> Self {
        Self::default()
    }

    /// Also this variable; it hides an earlier one of its name.
    pub fn variable_of(mut self, name: impl Into<Text>, of: Type) -> Self {
        self.variables.push((name.into(), of));
        self
    }

    /// Also this variable, which stands for a place in a schema: its bounds bound the cost of expressions over it.
    pub fn variable_at(mut self, name: impl Into<Text>, schema: &Schema, node: Node<'_>) -> Self {
        let name = name.into();
        self.shapes.push((name.clone(), Shape::of_node(schema.arena(), node.def())));
        self.variable_of(name, Type::of(schema.arena(), node.def()))
    }

    /// What is known of the size of a variable.
    pub(super) fn shape(&self, name: &str) -> Shape {
        let at = self.shapes.iter().rev().find(|(declared, _)| declared == name).map(|(_, shape)| shape.clone());
        at.unwrap_or_else(|| self.variable(name).map_or(Shape::unknown(), Shape::of_type))
    }

    /// Also the structures of mutations: `Object{...}`, `Object.spec{...}`, `JSONPatch{...}`.
    pub fn with_mutations(mut self) -> Self {
        self.mutations = true;
        self
    }

    /// The type of a variable.
    pub fn variable(&self, name: &str) -> Option<&Type> {
        self.variables.iter().rev().find(|(declared, _)| declared == name).map(|(_, of)| of)
    }

    /// The type of the structure that `NAME{...}` makes.
    pub(super) fn makes(&self, name: &str) -> Option<Type> {
        if !self.mutations {
            return None;
        }
        match name {
            "JSONPatch" => Some(json_patch()),
            "Object" => Some(Type::Mutation(name.into())),
            _ if name.starts_with("Object.") => Some(Type::Mutation(name.into())),
            _ => None,
        }
    }
}

/// The type of one operation of a JSON patch.
fn json_patch() -> Type {
    let text = |name| (name, Type::String);
    Type::record("JSONPatch", [text("op"), text("path"), text("from"), ("value", Type::Dyn)])
}

impl Type {
    /// The type of one operation of a JSON patch, such as `JSONPatch{op: "add", ...}` makes.
    pub fn json_patch() -> Self {
        json_patch()
    }
}

/// The values of the variables of one evaluation.
#[derive(Clone, Default)]
pub struct Activation<'a> {
    values: Vec<(&'a str, Value<'a>)>,
}

impl<'a> Activation<'a> {
    /// No values.
    pub fn new() -> Self {
        Self::default()
    }

    /// Also this value; it hides an earlier one of its name.
    pub fn bind(mut self, name: &'a str, value: Value<'a>) -> Self {
        self.set(name, value);
        self
    }

    /// Also this value; it takes the place of an earlier one of its name.
    pub fn set(&mut self, name: &'a str, value: Value<'a>) {
        match self.values.iter_mut().find(|(bound, _)| *bound == name) {
            Some((_, before)) => *before = value,
            None => self.values.push((name, value)),
        }
    }

    /// The value of a variable.
    pub fn get(&self, name: &str) -> Option<&Value<'a>> {
        self.values.iter().find(|(bound, _)| *bound == name).map(|(_, value)| value)
    }
}
