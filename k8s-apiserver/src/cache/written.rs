//! What a writer hands to the readers of the same process, so that nobody decodes what was just encoded.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use k8s_core::{
    object::{Meta, Object},
    registry::ResourceInfo,
};
use parking_lot::Mutex;

/// An encoded object whose revision the store has yet to say.
pub struct Written {
    kind: Arc<ResourceInfo>,
    parts: Mutex<Option<(Bytes, usize, Meta)>>,
    object: OnceLock<Arc<Object>>,
}

impl Written {
    /// An object as [`Object::from_parts`] takes it, but for the revision. `kind` is what it was written as.
    pub fn new(kind: Arc<ResourceInfo>, json: Bytes, splice: usize, meta: Meta) -> Self {
        Self { kind, parts: Mutex::new(Some((json, splice, meta))), object: OnceLock::new() }
    }

    /// What it was written as.
    pub fn kind(&self) -> &Arc<ResourceInfo> {
        &self.kind
    }

    /// The object, at the revision at which it was committed: the same one for everybody who asks.
    pub fn object(&self, revision: u64) -> Arc<Object> {
        let make = || {
            // Invariant: the parts are taken here only, and this runs once.
            let (json, splice, meta) = self.parts.lock().take().unwrap_or_else(|| unreachable!("made once"));
            Arc::new(Object::from_parts(json, splice, revision, meta))
        };
        let object = self.object.get_or_init(make);
        if object.revision() == revision { object.clone() } else { Arc::new(object.at_revision(revision)) }
    }
}
