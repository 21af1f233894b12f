//! Rules about lists: how long, what is in them, and what may be there only once.

use std::collections::BTreeMap;

use super::{Path, Rule, brief, shown};
use crate::{
    doc::{Doc, Map},
    schema::ListType,
    status::{FieldError, FieldErrorKind},
};

impl Rule {
    pub(super) fn elements(&self, items: &[Doc], old: Option<&Doc>, path: &Path<'_>, errors: &mut Vec<FieldError>) {
        let length = items.len() as u64;
        if let Some(most) = self.max_items.filter(|most| length > *most) {
            let detail = format!("must have at most {most} items");
            errors.push(FieldError::new(FieldErrorKind::TooMany, shown(path), length.to_string(), detail));
        }
        if let Some(least) = self.min_items.filter(|least| length < *least) {
            let detail = format!("{} in body should have at least {least} items", shown(path));
            errors.push(FieldError::new(FieldErrorKind::Invalid, shown(path), length.to_string(), detail));
        }
        self.uniqueness(items, path, errors);
        let Some(rule) = &self.items else { return };
        let old = self.by_identity(old.map_or(&[][..], Doc::items));
        for (place, item) in items.iter().enumerate() {
            let before = self.identity(item).and_then(|identity| old.get(&identity).copied());
            rule.walk(item, before, &path.index(place), errors);
        }
    }

    fn uniqueness(&self, items: &[Doc], path: &Path<'_>, errors: &mut Vec<FieldError>) {
        if self.list == ListType::Atomic && !self.unique_items {
            return;
        }
        let mut seen = BTreeMap::new();
        for (place, item) in items.iter().enumerate() {
            let identity = self.identity(item).unwrap_or_else(|| item.to_string());
            if seen.insert(identity, place).is_none() {
                continue;
            }
            if self.list == ListType::Atomic {
                let detail = format!("{} in body shouldn't contain duplicates", shown(path));
                errors.push(FieldError::new(FieldErrorKind::Invalid, shown(path), "", detail));
                return;
            }
            let value = match self.list {
                ListType::Map => self.shown_keys(item),
                _ => brief(item),
            };
            errors.push(FieldError::new(FieldErrorKind::Duplicate, path.index(place).dotted(), value, ""));
        }
    }

    /// What makes an item the same one as before; `None` if only its place does.
    fn identity(&self, item: &Doc) -> Option<String> {
        match self.list {
            ListType::Atomic => None,
            ListType::Set => Some(item.to_string()),
            ListType::Map => Some(self.shown_keys(item)),
        }
    }

    fn shown_keys(&self, item: &Doc) -> String {
        let mut fields = Map::new();
        for key in &self.keys {
            if let Some(value) = item.get(key) {
                fields.insert(key.clone(), value.clone());
            }
        }
        Doc::Object(fields).to_string()
    }

    fn by_identity<'d>(&self, items: &'d [Doc]) -> BTreeMap<String, &'d Doc> {
        items.iter().filter_map(|item| Some((self.identity(item)?, item))).collect()
    }
}
