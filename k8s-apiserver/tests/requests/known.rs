//! Objects that the server has, as far as its answers tell.

use std::collections::BTreeMap;

use serde_json::Value;

/// The objects of a collection that are remembered.
const REMEMBERED: usize = 8;

/// Objects and page tokens, by their collection.
#[derive(Default)]
pub struct Known {
    objects: BTreeMap<String, Vec<Value>>,
    tokens: BTreeMap<String, String>,
}

impl Known {
    /// The objects of a collection, oldest first.
    pub fn objects(&self, collection: &str) -> &[Value] {
        self.objects.get(collection).map_or(&[], Vec::as_slice)
    }

    /// Remembers an object as it now is.
    pub fn note(&mut self, collection: &str, object: Value) {
        let objects = self.objects.entry(collection.to_owned()).or_default();
        objects.retain(|known| known["metadata"]["name"] != object["metadata"]["name"]);
        if objects.len() == REMEMBERED {
            objects.remove(0);
        }
        objects.push(object);
    }

    /// An object is gone, or `None`: all of them.
    pub fn forget(&mut self, collection: &str, name: Option<&str>) {
        if let Some(objects) = self.objects.get_mut(collection) {
            objects.retain(|known| name.is_some_and(|name| known["metadata"]["name"] != name));
        }
    }

    /// Where the next page of a collection begins.
    pub fn note_token(&mut self, collection: &str, token: &str) {
        self.tokens.insert(collection.to_owned(), token.to_owned());
    }

    /// Takes that token: it is good for one page.
    pub fn take_token(&mut self, collection: &str) -> Option<String> {
        self.tokens.remove(collection).filter(|token| !token.is_empty())
    }
}
