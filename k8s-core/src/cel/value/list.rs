//! Lists: an array of a document, or items made while evaluating.

use std::rc::Rc;

use super::{Doc, Node, Value};
use crate::schema::ListType;

/// A list. Cheap to clone.
#[derive(Clone)]
pub struct List<'a>(Repr<'a>);

#[derive(Clone)]
enum Repr<'a> {
    Docs { items: &'a [Doc], node: Option<Node<'a>> },
    Owned(Rc<Vec<Value<'a>>>),
}

impl<'a> List<'a> {
    pub(super) fn of_docs(items: &'a [Doc], node: Option<Node<'a>>) -> Self {
        Self(Repr::Docs { items, node })
    }

    pub(super) fn owned(items: Vec<Value<'a>>) -> Self {
        Self(Repr::Owned(Rc::new(items)))
    }

    /// How many items there are.
    pub fn len(&self) -> usize {
        match &self.0 {
            Repr::Docs { items, .. } => items.len(),
            Repr::Owned(items) => items.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// An item.
    pub fn get(&self, index: usize) -> Option<Value<'a>> {
        match &self.0 {
            Repr::Docs { items, node } => items.get(index).map(|item| Value::read(item, node.and_then(Node::items))),
            Repr::Owned(items) => items.get(index).cloned(),
        }
    }

    /// All items in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Value<'a>> + ExactSizeIterator + use<'_, 'a> {
        // Invariant: the indexes are below the length.
        (0..self.len()).map(|index| self.get(index).unwrap_or_default())
    }

    /// Whether the schema says that the order does not matter.
    pub(super) fn is_unordered(&self) -> bool {
        match &self.0 {
            Repr::Docs { node: Some(node), .. } => matches!(node.list_type(), ListType::Set | ListType::Map),
            _ => false,
        }
    }

    /// The text of the items, if all are text: a way around reading them one by one.
    pub(in crate::cel) fn contains_text(&self, wanted: &str) -> Option<bool> {
        match &self.0 {
            Repr::Docs { items, node: None } => {
                Some(items.iter().any(|item| matches!(item, Doc::String(text) if text == wanted)))
            }
            _ => None,
        }
    }
}
