//! The schemas of the built-in kinds, from the records made at build time.

use std::sync::Arc;

use super::{Arena, Definition, Schema, StructDef, StructId, definitions, text};

mod index {
    include!(concat!(env!("OUT_DIR"), "/index.rs"));
}

static STRUCTS: &str = include_str!(concat!(env!("OUT_DIR"), "/structs.txt"));

/// The schemas of all built-in kinds. Cheap to make and to clone: a struct is decoded when first reached.
#[derive(Clone)]
pub struct Schemas {
    arena: Arc<Arena>,
}

impl Schemas {
    /// The built-in kinds at the version that this workspace serves.
    pub fn builtin() -> Self {
        Self { arena: Arc::new(Arena::builtin(index::NAMES.len())) }
    }

    /// The schema of a kind; `group` is empty for the core.
    pub fn schema(&self, group: &str, version: &str, kind: &str) -> Option<Schema> {
        let wanted = (group, version, kind);
        let at = index::KINDS.binary_search_by(|&(g, v, k, _)| (g, v, k).cmp(&wanted)).ok()?;
        Some(Schema::new(self.arena.clone(), StructId(index::KINDS[at].3)))
    }

    /// The schema of a struct by its full name, such as `io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta`.
    pub fn named(&self, name: &str) -> Option<Schema> {
        Some(Schema::new(self.arena.clone(), self.id(name)?))
    }

    /// The number of a struct by its full name, for an [`super::ArenaBuilder`] on top of [`Schemas::arena`].
    pub fn id(&self, name: &str) -> Option<StructId> {
        Some(StructId(index::NAMES.binary_search(&name).ok()? as u32))
    }

    /// Where the built-in structs live.
    pub fn arena(&self) -> &Arc<Arena> {
        &self.arena
    }

    /// Group, version and kind of every built-in kind, sorted.
    pub fn kinds(&self) -> impl ExactSizeIterator<Item = (&'static str, &'static str, &'static str)> {
        index::KINDS.iter().map(|&(group, version, kind, _)| (group, version, kind))
    }

    /// The full name of every built-in struct, sorted.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &'static str> {
        index::NAMES.iter().copied()
    }

    /// Every definition with its descriptions, for the OpenAPI document. Unpacks megabytes: call it once and keep
    /// what is made of it.
    pub fn definitions(&self) -> Vec<Definition> {
        definitions::unpack()
    }
}

/// Decodes one struct's record.
pub(super) fn decode(id: StructId) -> StructDef {
    let at = id.0 as usize;
    let record = &STRUCTS[index::OFFSETS[at] as usize..index::OFFSETS[at + 1] as usize];
    // Invariant: the records are well-formed, which a test over all of them shows.
    text::parse(record).unwrap_or_else(|why| unreachable!("{}: {why}", index::NAMES[at]))
}
