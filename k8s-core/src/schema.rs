//! One schema per kind, the same value for built-in and custom kinds.
//!
//! Defaulting, pruning, validation, strategic merge, server-side apply, OpenAPI and the protobuf codec all walk it.
//! A [`Schema`] is a root in an [`Arena`] of structs. What a walk holds is a [`Node`]: a small `Copy` view. Structs may
//! refer to themselves (`JSONSchemaProps` does), so a walk must be driven by the document, never by the schema alone.
//!
//! The built-in structs come from the typed layer's own JSON schemas joined, at build time, with the reviewed overlay
//! files under `schema/`; each struct is decoded when a walk first reaches it.

mod arena;
mod builtin;
mod definitions;
mod lower;
mod rules;
mod structural;
mod text;

use std::sync::Arc;

pub use arena::{Arena, ArenaBuilder, Field, NodeDef, Places, Shape, StructDef, StructId};
pub use builtin::Schemas;
pub use definitions::{Definition, Gvk};
pub use rules::{ListType, PatchStrategy, Rules, SchemaOr};

/// The schema of one kind. Cheap to clone.
#[derive(Clone)]
pub struct Schema {
    arena: Arc<Arena>,
    root: NodeDef,
}

impl Schema {
    /// The schema whose objects are the struct `root` of `arena`.
    pub fn new(arena: Arc<Arena>, root: StructId) -> Self {
        Self { arena, root: NodeDef::from(Shape::Struct(root)) }
    }

    /// The object itself.
    pub fn root(&self) -> Node<'_> {
        Node { arena: &self.arena, def: &self.root }
    }

    /// Where the structs of this schema live; what runs over several kinds compares it by address.
    pub fn arena(&self) -> &Arc<Arena> {
        &self.arena
    }
}

impl std::fmt::Debug for Schema {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Schema({:?})", self.root())
    }
}

/// One place in a schema: what may stand there, and the rules about it.
#[derive(Clone, Copy)]
pub struct Node<'a> {
    arena: &'a Arena,
    def: &'a NodeDef,
}

/// What may stand at a [`Node`].
#[derive(Clone, Copy, Debug)]
pub enum Kind<'a> {
    /// An object with known fields.
    Object(Struct<'a>),
    /// An object with any keys and values of one schema.
    Map(Node<'a>),
    /// A list with items of one schema; see [`Node::list_type`].
    List(Node<'a>),
    /// A string.
    String,
    /// An integer.
    Integer(IntFormat),
    /// A number with a fraction.
    Number,
    /// `true` or `false`.
    Boolean,
    /// An integer (32 bits) or a string.
    IntOrString,
    /// A resource quantity: a string, or a number on the way in.
    Quantity,
    /// A point in time, to the second.
    Time,
    /// A point in time, to the microsecond.
    MicroTime,
    /// Bytes, as base64.
    Bytes,
    /// Any object, kept as it is (`RawExtension`, `FieldsV1`, custom objects without pruning).
    AnyObject,
    /// Any value, kept as it is (`JSON`).
    Any,
}

/// The range of an integer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IntFormat {
    /// 32 bits, signed.
    Int32,
    /// 64 bits, signed.
    Int64,
    /// 64 bits, signed, as custom kinds have it: `3.0` is an integer too, and is read as `3`.
    Whole,
}

impl<'a> Node<'a> {
    /// What may stand here.
    pub fn kind(self) -> Kind<'a> {
        match &self.def.shape {
            Shape::Struct(id) => Kind::Object(Struct { arena: self.arena, def: self.arena.get(*id) }),
            Shape::Map(value) => Kind::Map(Node { arena: self.arena, def: value }),
            Shape::List(item) => Kind::List(Node { arena: self.arena, def: item }),
            Shape::String => Kind::String,
            Shape::Integer(format) => Kind::Integer(*format),
            Shape::Number => Kind::Number,
            Shape::Boolean => Kind::Boolean,
            Shape::IntOrString => Kind::IntOrString,
            Shape::Quantity => Kind::Quantity,
            Shape::Time => Kind::Time,
            Shape::MicroTime => Kind::MicroTime,
            Shape::Bytes => Kind::Bytes,
            Shape::AnyObject => Kind::AnyObject,
            Shape::Any => Kind::Any,
        }
    }

    /// The definition of this place; its numbers of structs are those of the schema's [`Arena`].
    pub fn def(self) -> &'a NodeDef {
        self.def
    }

    /// The fields, if this is an object with known fields.
    pub fn as_struct(self) -> Option<Struct<'a>> {
        match self.kind() {
            Kind::Object(fields) => Some(fields),
            _ => None,
        }
    }

    /// What the field `name` holds: a known field of an object, or any key of a map.
    pub fn field(self, name: &str) -> Option<Node<'a>> {
        match self.kind() {
            Kind::Object(fields) => fields.field(name).map(FieldView::node),
            Kind::Map(value) => Some(value),
            _ => None,
        }
    }

    /// What the items of a list hold.
    pub fn items(self) -> Option<Node<'a>> {
        match self.kind() {
            Kind::List(item) => Some(item),
            _ => None,
        }
    }

    /// What the values of a map hold.
    pub fn values(self) -> Option<Node<'a>> {
        match self.kind() {
            Kind::Map(value) => Some(value),
            _ => None,
        }
    }

    /// The place at the end of `path`; list items are stepped into by any decimal index.
    pub fn at(self, path: &[&str]) -> Option<Node<'a>> {
        path.iter().try_fold(self, |node, step| match node.kind() {
            Kind::List(item) => step.parse::<usize>().ok().map(|_| item),
            _ => node.field(step),
        })
    }

    /// Every rule about this place.
    pub fn rules(self) -> &'a Rules {
        self.def.rules()
    }

    /// How a list is identified and merged by server-side apply; `Atomic` for what is no list.
    pub fn list_type(self) -> ListType {
        self.rules().list
    }

    /// The fields that identify an item of a `Map` list.
    pub fn list_keys(self) -> &'a [crate::doc::Text] {
        &self.rules().keys
    }

    /// How strategic merge patch treats this place.
    pub fn patch(self) -> PatchStrategy {
        self.rules().patch
    }

    /// The field by which strategic merge patch identifies an item of a list.
    pub fn merge_key(self) -> Option<&'a str> {
        self.rules().merge_key.as_deref()
    }

    /// Whether server-side apply owns this object, map or list as a whole.
    pub fn is_atomic(self) -> bool {
        match self.kind() {
            Kind::List(_) => self.rules().list == ListType::Atomic,
            Kind::Object(fields) => self.rules().atomic || (fields.def.atomic && !self.rules().granular),
            Kind::Map(_) => self.rules().atomic,
            _ => true,
        }
    }
}

/// Shows the struct's name or the shape, not what is below.
impl std::fmt::Debug for Node<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.def.shape {
            Shape::Struct(id) => f.write_str(self.arena.name(*id)),
            other => write!(f, "{other:?}"),
        }
    }
}

/// An object with known fields.
#[derive(Clone, Copy)]
pub struct Struct<'a> {
    arena: &'a Arena,
    def: &'a StructDef,
}

impl<'a> Struct<'a> {
    /// Its name, such as `io.k8s.api.core.v1.Container`; a custom kind's nested objects have none.
    pub fn name(self) -> &'a str {
        &self.def.name
    }

    /// The short name that messages use: `Container`.
    pub fn short_name(self) -> &'a str {
        self.name().rsplit('.').next().unwrap_or("")
    }

    /// The field `name`.
    pub fn field(self, name: &str) -> Option<FieldView<'a>> {
        self.def.find(name).map(|field| FieldView { arena: self.arena, field })
    }

    /// The fields in alphabetical order.
    pub fn fields(self) -> impl Iterator<Item = FieldView<'a>> {
        self.def.fields.iter().map(move |field| FieldView { arena: self.arena, field })
    }

    /// How many fields it has.
    pub fn field_count(self) -> usize {
        self.def.fields.len()
    }

    /// The place of the field `name` among [`Struct::fields`].
    pub fn position(self, name: &str) -> Option<usize> {
        self.def.position(name)
    }

    /// The field at a place.
    ///
    /// # Panics
    /// If there are not so many.
    pub fn field_at(self, place: usize) -> FieldView<'a> {
        FieldView { arena: self.arena, field: &self.def.fields[place] }
    }

    /// The places of the fields that have a number in protobuf, in the order in which it writes them: by number, those
    /// inside of one message together.
    pub fn proto_order(self) -> &'a [u16] {
        &self.def.places.in_protobuf
    }

    /// Whether server-side apply owns it as a whole, unless the place says otherwise; see [`Node::is_atomic`].
    pub fn is_atomic(self) -> bool {
        self.def.atomic
    }

    /// Whether it is a built-in struct, where zero values stand for absence as a Go server has it: a required field
    /// must be neither absent nor empty. In a custom kind a required field must only be there.
    pub fn is_typed(self) -> bool {
        !self.def.name.is_empty()
    }

    /// Whether fields that the schema does not know are kept.
    pub fn preserves_unknown(self) -> bool {
        self.def.preserve_unknown
    }

    /// Whether this is an embedded object with `apiVersion`, `kind` and `metadata` of its own.
    pub fn is_embedded_resource(self) -> bool {
        self.def.embedded_resource
    }

    /// The schema of fields that are not listed, where a custom kind gives one beside listed fields.
    pub fn additional(self) -> Option<Node<'a>> {
        self.def.additional.as_ref().map(|def| Node { arena: self.arena, def })
    }

    /// The defaults that are not `null`, by field: what defaulting has to look at in this struct.
    pub fn defaulted(self) -> impl Iterator<Item = FieldView<'a>> {
        self.fields_at(&self.def.places.defaulted)
    }

    /// The fields that must be there or stay as they are: what validation has to look at even where they are missing.
    pub fn required_or_immutable(self) -> impl Iterator<Item = FieldView<'a>> {
        self.fields_at(&self.def.places.required_or_immutable)
    }

    fn fields_at(self, places: &'a [u16]) -> impl Iterator<Item = FieldView<'a>> {
        places.iter().map(move |place| self.field_at(usize::from(*place)))
    }
}

impl std::fmt::Debug for Struct<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// One field of an object.
#[derive(Clone, Copy)]
pub struct FieldView<'a> {
    arena: &'a Arena,
    field: &'a Field,
}

impl<'a> FieldView<'a> {
    /// Its name in JSON.
    pub fn name(self) -> &'a str {
        &self.field.name
    }

    /// What it holds.
    pub fn node(self) -> Node<'a> {
        Node { arena: self.arena, def: &self.field.node }
    }

    /// Whether validation refuses an object without it.
    pub fn required(self) -> bool {
        self.field.required
    }

    /// Its number in protobuf; 0 where unknown (custom kinds have none).
    pub fn proto(self) -> u32 {
        self.field.proto
    }

    /// The numbers of the messages in which protobuf nests what JSON has inline, outermost first; mostly none.
    pub fn proto_inside(self) -> &'a [u32] {
        &self.field.proto_inside
    }

    /// Whether protobuf writes it even where JSON leaves it out, as Go does with what it holds by value.
    pub fn is_value(self) -> bool {
        let rules = self.field.node.rules();
        match self.field.node.shape {
            Shape::List(_) | Shape::Map(_) | Shape::Bytes => false,
            Shape::Struct(_) | Shape::Time | Shape::MicroTime | Shape::AnyObject | Shape::Any => rules.by_value,
            _ => rules.by_value || rules.zero_is_absent || rules.keeps_empty,
        }
    }
}

#[cfg(test)]
mod tests;
