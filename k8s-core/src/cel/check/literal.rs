//! Lists, maps and structures that the expression spells out.

use super::{Checker, Id, Type, Typed};
use crate::{
    cel::{
        ast::Item,
        code::{Code, Element, Literal},
    },
    doc::Text,
};

impl Checker<'_> {
    /// An element's code, and the type of what it puts there.
    fn element(&mut self, item: &Item) -> (Element, Type) {
        let (value, found) = self.expression(item.value);
        if !item.optional {
            return (Element { value, optional: false }, found);
        }
        let inner = self.substitution.fresh();
        if !self.substitution.assignable(&Type::optional(inner.clone()), &found) {
            let shown = self.shown(&found);
            self.wrong(item.value, format!("expected type 'optional_type' but found '{shown}'"));
        }
        (Element { value, optional: true }, inner)
    }

    fn joined(&mut self, before: Option<Type>, next: Type) -> Option<Type> {
        Some(match before {
            Some(before) => self.substitution.join(&before, &next),
            None => next,
        })
    }

    pub(super) fn list(&mut self, items: &[Item]) -> Typed {
        let mut joined = None;
        let mut elements = Vec::with_capacity(items.len());
        for item in items {
            let (element, found) = self.element(item);
            elements.push(element);
            joined = self.joined(joined, found);
        }
        let item = joined.unwrap_or_else(|| self.substitution.fresh());
        (Code::List(elements.into()), Type::list(item))
    }

    pub(super) fn map(&mut self, id: Id, entries: &[(Id, Item)]) -> Typed {
        let (mut keys, mut values) = (None, None);
        let mut code = Vec::with_capacity(entries.len());
        for (key, item) in entries {
            let (key_code, found) = self.expression(*key);
            let head = self.substitution.head(&found);
            let allowed =
                matches!(head, Type::Bool | Type::Int | Type::Uint | Type::String | Type::Dyn | Type::Param(_));
            if !allowed {
                let shown = self.shown(&found);
                self.wrong(id, format!("unsupported map key type '{shown}'"));
            }
            keys = self.joined(keys, found);
            let (element, found) = self.element(item);
            values = self.joined(values, found);
            code.push((key_code, element));
        }
        let key = keys.unwrap_or_else(|| self.substitution.fresh());
        let value = values.unwrap_or_else(|| self.substitution.fresh());
        (Code::Map(code.into()), Type::map(key, value))
    }

    pub(super) fn structure(&mut self, id: Id, name: &Text, fields: &[(Text, Item)]) -> Typed {
        let declared = self.declarations.makes(name);
        let Some(declared) = declared else { return self.undeclared(id, name) };
        let mut code = Vec::with_capacity(fields.len());
        for (field, item) in fields {
            let (element, found) = self.element(item);
            code.push((field.clone(), element));
            let Some(wanted) = self.field(id, &declared, field) else { continue };
            if !self.substitution.assignable(&wanted, &found) {
                let (wanted, found) = (self.shown(&wanted), self.shown(&found));
                self.wrong(
                    item.value,
                    format!("expected type of field '{field}' is '{wanted}' but provided type is '{found}'"),
                );
            }
        }
        (Code::Struct(Box::new(Literal { name: name.clone(), fields: code })), declared)
    }
}
