//! Macros that bind variables.

use super::{Checker, Id, Text, Type, Typed};
use crate::cel::{
    ast::{self, FoldKind},
    code::{Code, Fold, OptMap},
};

impl Checker<'_> {
    /// What the variables of a macro over a value are, with one variable and with two.
    fn iterated(&mut self, id: Id, range: &Type) -> (Type, (Type, Type)) {
        match self.substitution.head(range) {
            Type::List(item) => ((*item).clone(), (Type::Int, (*item).clone())),
            Type::Map(entry) => (entry.0.clone(), (entry.0.clone(), entry.1.clone())),
            Type::Dyn | Type::Param(_) => (Type::Dyn, (Type::Dyn, Type::Dyn)),
            other => {
                let shown = self.shown(&other);
                self.wrong(id, format!("expression of type '{shown}' cannot be range of a comprehension (must be list, map, or dynamic)"));
                (Type::Dyn, (Type::Dyn, Type::Dyn))
            }
        }
    }

    fn condition(&mut self, id: Id) -> Code {
        let (code, found) = self.expression(id);
        if !self.substitution.assignable(&Type::Bool, &found) {
            let shown = self.shown(&found);
            self.wrong(id, format!("expected type 'bool' but found '{shown}'"));
        }
        code
    }

    pub(super) fn fold(&mut self, _: Id, fold: &ast::Fold) -> Typed {
        let (range_code, range) = self.expression(fold.range);
        let (single, pair) = self.iterated(fold.range, &range);
        let before = self.locals.len();
        let key = pair.0.clone();
        match &fold.second {
            None => self.locals.push((fold.first.clone(), single.clone())),
            Some(second) => self.locals.extend([(fold.first.clone(), pair.0), (second.clone(), pair.1)]),
        }
        let filter = fold.filter.map(|filter| self.condition(filter));
        let (body, result) = match fold.kind {
            FoldKind::All | FoldKind::Exists | FoldKind::ExistsOne => (self.condition(fold.body), Type::Bool),
            FoldKind::Filter => (self.condition(fold.body), Type::list(single)),
            FoldKind::List => {
                let (code, found) = self.expression(fold.body);
                (code, Type::list(found))
            }
            FoldKind::Map => {
                let (code, found) = self.expression(fold.body);
                (code, Type::map(key, found))
            }
            FoldKind::Entries => {
                let (code, found) = self.expression(fold.body);
                let (key, value) = (self.substitution.fresh(), self.substitution.fresh());
                let map = Type::map(key, value);
                if !self.substitution.assignable(&map, &found) {
                    let shown = self.shown(&found);
                    self.wrong(fold.body, format!("expected type 'map' but found '{shown}'"));
                }
                (code, map)
            }
        };
        self.locals.truncate(before);
        let pairs = fold.second.is_some();
        (Code::Fold(Box::new(Fold { kind: fold.kind, range: range_code, pairs, filter, body })), result)
    }

    pub(super) fn bind(&mut self, name: &Text, value: Id, body: Id) -> Typed {
        let (value_code, found) = self.expression(value);
        self.locals.push((name.clone(), found));
        let (body_code, result) = self.expression(body);
        self.locals.pop();
        (Code::Bind(Box::new((value_code, body_code))), result)
    }

    pub(super) fn opt_map(&mut self, id: Id, target: Id, name: &Text, body: Id, flat: bool) -> Typed {
        let (target_code, found) = self.expression(target);
        let inner = self.substitution.fresh();
        if !self.substitution.assignable(&Type::optional(inner.clone()), &found) {
            let shown = self.shown(&found);
            let called = if flat { "optFlatMap" } else { "optMap" };
            return self.wrong(id, format!("found no matching overload for '{called}' applied to '{shown}'"));
        }
        self.locals.push((name.clone(), inner));
        let (body_code, result) = self.expression(body);
        self.locals.pop();
        let result = if flat { result } else { Type::optional(result) };
        (Code::OptMap(Box::new(OptMap { target: target_code, body: body_code, flat })), result)
    }
}
