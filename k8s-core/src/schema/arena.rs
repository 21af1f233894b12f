//! Where structs live: a table of them, each decoded when first reached, so that structs may refer to one another.

use std::sync::{Arc, OnceLock};

use super::{IntFormat, Rules};
use crate::doc::Text;

/// The number of a struct in its [`Arena`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StructId(pub(super) u32);

/// What may stand at a place; see [`super::Kind`] for the meaning of each.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)] // As `Kind`.
pub enum Shape {
    Struct(StructId),
    Map(Box<NodeDef>),
    List(Box<NodeDef>),
    String,
    Integer(IntFormat),
    Number,
    Boolean,
    IntOrString,
    Quantity,
    Time,
    MicroTime,
    Bytes,
    AnyObject,
    Any,
}

/// A shape with its rules.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeDef {
    /// What may stand here.
    pub shape: Shape,
    /// The rules, if there are any.
    pub rules: Option<Box<Rules>>,
}

impl NodeDef {
    /// The rules; [`Rules::default`] if there are none.
    pub fn rules(&self) -> &Rules {
        self.rules.as_deref().unwrap_or(Rules::NONE)
    }

    /// The rules, to change.
    pub fn rules_mut(&mut self) -> &mut Rules {
        self.rules.get_or_insert_default()
    }
}

impl From<Shape> for NodeDef {
    fn from(shape: Shape) -> Self {
        Self { shape, rules: None }
    }
}

/// One field of a struct.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    /// Its name in JSON.
    pub name: Text,
    /// What it holds.
    pub node: NodeDef,
    /// Whether validation refuses an object without it.
    pub required: bool,
    /// Its number in protobuf; 0 where it has none.
    pub proto: u32,
    /// The numbers of the messages in which protobuf nests what JSON has inline, outermost first.
    pub proto_inside: Box<[u32]>,
}

/// An object with known fields.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StructDef {
    /// Its name, such as `io.k8s.api.core.v1.Container`, or empty.
    pub name: Text,
    /// Invariant: sorted by name, each name once.
    pub fields: Vec<Field>,
    /// Whether server-side apply owns it as a whole.
    pub atomic: bool,
    /// Whether unknown fields are kept.
    pub preserve_unknown: bool,
    /// Whether it is an embedded object with `apiVersion`, `kind` and `metadata` of its own.
    pub embedded_resource: bool,
    /// The schema of the fields that are not listed.
    pub additional: Option<NodeDef>,
    /// Where which fields are. The arena sets it.
    pub places: Places,
}

/// What is found out about the fields of a struct once, so that no walk over an object has to look at all of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Places {
    /// The first bytes of every name, as a number that sorts as they do.
    beginnings: Box<[u64]>,
    /// The fields that have a number in protobuf, in the order of these numbers (of the messages that they are inside
    /// of, first).
    pub(super) in_protobuf: Box<[u16]>,
    /// The fields that have a default.
    pub(super) defaulted: Box<[u16]>,
    /// The fields that must be there or stay as they are.
    pub(super) required_or_immutable: Box<[u16]>,
}

impl Places {
    fn of(fields: &[Field]) -> Self {
        let which = |wanted: fn(&Field) -> bool| -> Box<[u16]> {
            (0u16..).zip(fields).filter(|(_, field)| wanted(field)).map(|(place, _)| place).collect()
        };
        let mut in_protobuf = which(|field| field.proto > 0);
        in_protobuf.sort_by_key(|place| {
            let field = &fields[usize::from(*place)];
            [&field.proto_inside[..], &[field.proto]].concat()
        });
        Self {
            beginnings: fields.iter().map(|field| beginning(&field.name)).collect(),
            in_protobuf,
            defaulted: which(|field| field.node.rules().default.is_some()),
            required_or_immutable: which(|field| field.required || field.node.rules().immutable),
        }
    }
}

/// The first eight bytes of a name.
fn beginning(name: &str) -> u64 {
    let mut bytes = [0; 8];
    let length = name.len().min(8);
    bytes[..length].copy_from_slice(&name.as_bytes()[..length]);
    u64::from_be_bytes(bytes)
}

impl StructDef {
    /// Finds out where which fields are, once they stand where they stay.
    pub(super) fn settle(&mut self) {
        self.places = Places::of(&self.fields);
    }

    /// The place of the field `name`.
    pub(super) fn position(&self, name: &str) -> Option<usize> {
        let (beginnings, wanted) = (&self.places.beginnings, beginning(name));
        let first = beginnings.partition_point(|other| *other < wanted);
        let alike = beginnings[first..].iter().take_while(|other| **other == wanted).count();
        (first..first + alike).find(|place| self.fields[*place].name == name)
    }

    /// The field `name`.
    pub fn find(&self, name: &str) -> Option<&Field> {
        self.position(name).map(|at| &self.fields[at])
    }
}

/// The structs of one schema, or of all built-in ones.
///
/// A custom kind's arena stands on the built-in one, whose structs (`ObjectMeta`, for one) it may name.
pub struct Arena {
    base: Option<Arc<Arena>>,
    first: u32,
    slots: Vec<OnceLock<StructDef>>,
    source: Source,
}

/// Where structs that were not reached yet come from.
pub(super) enum Source {
    /// The blob made at build time.
    Builtin,
    /// Nowhere: all are there.
    Complete,
}

impl Arena {
    pub(super) fn builtin(count: usize) -> Self {
        let slots = (0..count).map(|_| OnceLock::new()).collect();
        Self { base: None, first: 0, slots, source: Source::Builtin }
    }

    /// The struct with this number.
    ///
    /// # Panics
    /// If the number comes from another arena.
    pub fn get(&self, id: StructId) -> &StructDef {
        match &self.base {
            Some(base) if id.0 < self.first => base.get(id),
            _ => {
                let place = id.0 - self.first;
                self.slots[place as usize].get_or_init(|| match self.source {
                    Source::Builtin => super::builtin::decode(id),
                    // Invariant: `ArenaBuilder::finish` fills every slot of a complete arena.
                    Source::Complete => StructDef::default(),
                })
            }
        }
    }

    /// The name of a struct.
    pub fn name(&self, id: StructId) -> &str {
        &self.get(id).name
    }

    fn end(&self) -> u32 {
        self.first + self.slots.len() as u32
    }
}

/// Builds the arena of a custom kind.
pub struct ArenaBuilder {
    base: Option<Arc<Arena>>,
    first: u32,
    structs: Vec<StructDef>,
}

impl ArenaBuilder {
    /// An empty arena on top of `base`, whose struct numbers stay valid in it.
    pub fn new(base: Option<Arc<Arena>>) -> Self {
        let first = base.as_ref().map_or(0, |base| base.end());
        Self { base, first, structs: Vec::new() }
    }

    /// Adds a struct; its fields are put in order. Of fields with one name the last is kept.
    pub fn add(&mut self, mut def: StructDef) -> StructId {
        def.fields.reverse();
        def.fields.sort_by(|a, b| a.name.cmp(&b.name));
        def.fields.dedup_by(|a, b| a.name == b.name);
        def.settle();
        self.structs.push(def);
        StructId(self.first + self.structs.len() as u32 - 1)
    }

    /// The finished arena.
    pub fn finish(self) -> Arc<Arena> {
        let slots = self.structs.into_iter().map(OnceLock::from).collect();
        Arc::new(Arena { base: self.base, first: self.first, slots, source: Source::Complete })
    }
}
