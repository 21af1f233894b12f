//! Lists: an array of a document, or items made while evaluating.
//!
//! What the schema says of a list holds for what is made of it, too: to a set is added what it does not have, and an item
//! of a map takes the place of the one with its keys. So it is upstream.

use std::{collections::BTreeMap, rc::Rc};

use super::{Doc, Node, Value};
use crate::schema::ListType;

/// A list. Cheap to clone.
#[derive(Clone)]
pub struct List<'a>(Repr<'a>);

#[derive(Clone)]
enum Repr<'a> {
    Docs { items: &'a [Doc], node: Option<Node<'a>> },
    Owned { items: Rc<Vec<Value<'a>>>, node: Option<Node<'a>> },
}

impl<'a> List<'a> {
    pub(super) fn of_docs(items: &'a [Doc], node: Option<Node<'a>>) -> Self {
        Self(Repr::Docs { items, node })
    }

    pub(super) fn owned(items: Vec<Value<'a>>) -> Self {
        Self(Repr::Owned { items: Rc::new(items), node: None })
    }

    /// How many items there are.
    pub fn len(&self) -> usize {
        match &self.0 {
            Repr::Docs { items, .. } => items.len(),
            Repr::Owned { items, .. } => items.len(),
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
            Repr::Owned { items, .. } => items.get(index).cloned(),
        }
    }

    /// All items in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Value<'a>> + ExactSizeIterator + use<'_, 'a> {
        // Invariant: the indexes are below the length.
        (0..self.len()).map(|index| self.get(index).unwrap_or_default())
    }

    /// `self + other`, as the schema of `self` has it.
    pub(in crate::cel) fn joined(&self, other: &Self) -> Self {
        let node = self.node();
        let mut items: Vec<Value<'a>> = Vec::with_capacity(self.len() + other.len());
        items.extend(self.iter());
        if self.list_type() == ListType::Atomic {
            items.extend(other.iter());
        } else {
            let mut places = self.places();
            for item in other.iter() {
                match places.get(&self.identity(&item)) {
                    Some(place) if self.list_type() == ListType::Map => items[*place] = item,
                    Some(_) => {}
                    None => {
                        places.insert(self.identity(&item), items.len());
                        items.push(item);
                    }
                }
            }
        }
        Self(Repr::Owned { items: Rc::new(items), node })
    }

    /// `self == other`, as the schema of `self` has it: in a set and in a map the order does not matter.
    pub(super) fn equals(&self, other: &Self) -> bool {
        if self.len() != other.len() {
            return false;
        }
        if self.list_type() == ListType::Atomic {
            return self.iter().zip(other.iter()).all(|(a, b)| a.equals(&b));
        }
        let places = self.places();
        other.iter().all(|item| {
            let own = places.get(&self.identity(&item)).and_then(|place| self.get(*place));
            own.is_some_and(|own| own.equals(&item))
        })
    }

    fn node(&self) -> Option<Node<'a>> {
        match &self.0 {
            Repr::Docs { node, .. } | Repr::Owned { node, .. } => *node,
        }
    }

    fn list_type(&self) -> ListType {
        self.node().map_or(ListType::Atomic, Node::list_type)
    }

    /// Where each item is, by what tells it from others.
    fn places(&self) -> BTreeMap<String, usize> {
        self.iter().enumerate().map(|(place, item)| (self.identity(&item), place)).collect()
    }

    /// What tells an item from others: its keys in a map, else its value.
    fn identity(&self, item: &Value<'a>) -> String {
        match (self.list_type(), item) {
            (ListType::Map, Value::Map(map)) => {
                let keys = self.node().map_or(&[][..], Node::list_keys).iter();
                let keys =
                    keys.map(|key| map.get_text(key).map(|value| format!("{}:{}", value.type_name(), value.show())));
                format!("{:?}", keys.collect::<Vec<_>>())
            }
            _ => format!("{}:{}", item.type_name(), item.show()),
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
