//! The definitions as they were read, and the table of kinds that follows from them.

use std::{collections::BTreeMap, sync::Arc};

use k8s_core::{
    custom::kinds_of,
    doc::{Doc, Text},
    object::Object,
    registry::{Registry, ResourceInfo},
    status::{ApiError, ApiResult},
};

use super::status;
use crate::cache::State;

/// What is served, and by which definitions.
pub(crate) struct Served {
    /// The kinds that are there from the start.
    pub(super) base: Arc<Registry>,
    known: BTreeMap<Text, Known>,
    /// Whether the table of kinds still shows kinds whose definition is gone.
    gone: bool,
}

struct Known {
    revision: u64,
    doc: Doc,
    /// What `kinds` were made of: uid, `spec` and accepted names.
    made_of: Option<[Doc; 3]>,
    kinds: Vec<Arc<ResourceInfo>>,
}

impl Served {
    /// Nothing but what is there from the start.
    pub(crate) fn new(base: Arc<Registry>) -> Self {
        Self { base, known: BTreeMap::new(), gone: false }
    }

    /// Takes over the definitions of a moment. Those that did not change are not read again.
    pub(super) fn read(&mut self, state: &State) -> ApiResult<()> {
        self.take(state.iter().map(|(_, object)| object.clone()))
    }

    /// The table of kinds of the definitions that are stored, as they say themselves.
    pub(crate) fn stored(&mut self, objects: impl Iterator<Item = Arc<Object>>) -> ApiResult<Arc<Registry>> {
        self.take(objects)?;
        let statuses: Vec<Doc> = self.definitions().map(|doc| doc.get("status").cloned().unwrap_or_default()).collect();
        Ok(self.registry(&statuses).unwrap_or_else(|| self.base.clone()))
    }

    fn take(&mut self, objects: impl Iterator<Item = Arc<Object>>) -> ApiResult<()> {
        let mut before = std::mem::take(&mut self.known);
        for object in objects {
            let name = object.meta.name.clone();
            let known = match before.remove(&name) {
                Some(known) if known.revision == object.revision() => known,
                other => {
                    let doc = Doc::parse(&object.to_json())
                        .map_err(|why| ApiError::internal(format!("stored definition {name}: {why}")))?;
                    let (made_of, kinds) = other.map_or((None, Vec::new()), |known| (known.made_of, known.kinds));
                    Known { revision: object.revision(), doc, made_of, kinds }
                }
            };
            self.known.insert(name, known);
        }
        self.gone |= before.values().any(|known| !known.kinds.is_empty());
        Ok(())
    }

    /// The definitions, by name.
    pub(super) fn definitions(&self) -> impl Iterator<Item = &Doc> {
        self.known.values().map(|known| &known.doc)
    }

    /// The table of kinds under these statuses, one for each definition; `None` if it is what it was.
    pub(super) fn registry(&mut self, statuses: &[Doc]) -> Option<Arc<Registry>> {
        let mut changed = std::mem::take(&mut self.gone);
        for (known, status) in self.known.values_mut().zip(statuses) {
            let made_of = status::is_established(status).then(|| {
                let part = |path: &[&str]| known.doc.at(path).cloned().unwrap_or_default();
                [part(&["metadata", "uid"]), part(&["spec"]), status.get("acceptedNames").cloned().unwrap_or_default()]
            });
            if known.made_of == made_of {
                continue;
            }
            let mut definition = known.doc.clone();
            definition.set_at(&["status"], status.clone());
            known.kinds = match &made_of {
                Some(_) => kinds_of(&definition).into_iter().map(Arc::new).collect(),
                None => Vec::new(),
            };
            known.made_of = made_of;
            changed = true;
        }
        let kinds = self.known.values().flat_map(|known| &known.kinds).cloned();
        changed.then(|| Arc::new(kinds.fold(Registry::clone(&self.base), Registry::with_shared)))
    }
}
