//! Which types may stand for which, and what that says about types not yet found.

use std::sync::Arc;

use super::types::Type;

/// What is known of the types not yet found.
#[derive(Default)]
pub(super) struct Substitution {
    found: Vec<Option<Type>>,
    /// Which were set since when, to take them back.
    trail: Vec<u32>,
}

impl Substitution {
    /// A type not yet found.
    pub fn fresh(&mut self) -> Type {
        self.found.push(None);
        Type::Param(self.found.len() as u32 - 1)
    }

    /// A point to come back to.
    pub fn mark(&self) -> usize {
        self.trail.len()
    }

    /// Forgets what was found since a mark.
    pub fn undo(&mut self, mark: usize) {
        for param in self.trail.drain(mark..) {
            self.found[param as usize] = None;
        }
    }

    /// A type with what was found filled in one level deep.
    pub fn head(&self, of: &Type) -> Type {
        let mut at = of;
        while let Type::Param(param) = at {
            match &self.found[*param as usize] {
                Some(found) => at = found,
                None => break,
            }
        }
        at.clone()
    }

    /// A type with everything filled in; what was not found is dynamic.
    pub fn whole(&self, of: &Type) -> Type {
        match self.head(of) {
            Type::Param(_) => Type::Dyn,
            Type::List(item) => Type::list(self.whole(&item)),
            Type::Map(entry) => Type::map(self.whole(&entry.0), self.whole(&entry.1)),
            Type::Optional(inner) => Type::optional(self.whole(&inner)),
            Type::Type(inner) => Type::Type(Arc::new(self.whole(&inner))),
            other => other,
        }
    }

    /// Whether a value of type `from` may stand where `to` is wanted.
    pub fn assignable(&mut self, to: &Type, from: &Type) -> bool {
        match (self.head(to), self.head(from)) {
            (Type::Param(a), Type::Param(b)) if a == b => true,
            (Type::Param(param), other) | (other, Type::Param(param)) => self.set(param, other),
            (Type::Dyn, _) | (_, Type::Dyn) => true,
            (Type::Nullable(a), Type::Nullable(b)) => a == b,
            (Type::Nullable(inner), other) | (other, Type::Nullable(inner)) => other == Type::Null || *inner == other,
            (
                Type::Struct(_)
                | Type::Record(_)
                | Type::Timestamp
                | Type::Duration
                | Type::Opaque(_)
                | Type::Mutation(_),
                Type::Null,
            )
            | (
                Type::Null,
                Type::Struct(_)
                | Type::Record(_)
                | Type::Timestamp
                | Type::Duration
                | Type::Opaque(_)
                | Type::Mutation(_),
            ) => true,
            (Type::List(a), Type::List(b)) | (Type::Optional(a), Type::Optional(b)) => self.assignable(&a, &b),
            (Type::Map(a), Type::Map(b)) => self.assignable(&a.0, &b.0) && self.assignable(&a.1, &b.1),
            (Type::Type(_), Type::Type(_)) => true,
            (a, b) => a == b,
        }
    }

    fn set(&mut self, param: u32, to: Type) -> bool {
        // Dynamic says nothing about the rest.
        if self.contains(&to, param) {
            return false;
        }
        self.found[param as usize] = Some(to);
        self.trail.push(param);
        true
    }

    fn contains(&self, of: &Type, param: u32) -> bool {
        match self.head(of) {
            Type::Param(found) => found == param,
            Type::List(inner) | Type::Optional(inner) | Type::Type(inner) => self.contains(&inner, param),
            Type::Map(entry) => self.contains(&entry.0, param) || self.contains(&entry.1, param),
            _ => false,
        }
    }

    /// The type of both, as of the items of a list: one of them if the other fits it, else dynamic.
    pub fn join(&mut self, a: &Type, b: &Type) -> Type {
        let mark = self.mark();
        let (head_a, head_b) = (self.head(a), self.head(b));
        if head_a == Type::Null && !matches!(head_b, Type::Null) && self.assignable(b, a) {
            return b.clone();
        }
        if matches!(head_a, Type::Dyn) || matches!(head_b, Type::Dyn) {
            return Type::Dyn;
        }
        if self.assignable(a, b) {
            return a.clone();
        }
        self.undo(mark);
        Type::Dyn
    }
}
