//! Checks types and resolves names: an [`Ast`] becomes [`Code`] with a type, or a list of what is wrong.

mod fold;
mod literal;

use super::{
    Declarations,
    ast::{Ast, Const, Expr, Id, Mode},
    code::{Code, Select},
    error::Issue,
    escape,
    kubernetes::format::Format,
    library::{self, Function},
    text,
    types::Type,
    unify::Substitution,
};
use crate::doc::Text;

/// How many issues are told at once.
const MAX_ISSUES: usize = 100;

/// The code and its type.
pub(super) fn check(ast: &Ast, declarations: &Declarations) -> Result<(Code, Type), Vec<Issue>> {
    let mut checker =
        Checker { ast, declarations, locals: Vec::new(), substitution: Substitution::default(), issues: Vec::new() };
    let (code, found) = checker.expression(ast.root);
    if checker.issues.is_empty() {
        let found = checker.substitution.whole(&found);
        return Ok((code, found));
    }
    checker.issues.truncate(MAX_ISSUES);
    Err(checker.issues)
}

struct Checker<'a> {
    ast: &'a Ast,
    declarations: &'a Declarations,
    locals: Vec<(Text, Type)>,
    substitution: Substitution,
    issues: Vec<Issue>,
}

/// Code with its type. After an issue both stand for anything.
type Typed = (Code, Type);

impl<'a> Checker<'a> {
    fn wrong(&mut self, id: Id, message: impl Into<String>) -> Typed {
        self.issues.push(Issue::new(self.ast.get(id).offset, message));
        (Code::Const(Const::Null), Type::Dyn)
    }

    fn undeclared(&mut self, id: Id, name: &str) -> Typed {
        self.wrong(id, format!("undeclared reference to '{name}' (in container '')"))
    }

    fn shown(&self, of: &Type) -> String {
        self.substitution.whole(of).to_string()
    }

    fn expression(&mut self, id: Id) -> Typed {
        let ast = self.ast;
        match &ast.get(id).expr {
            Expr::Const(literal) => (Code::Const(literal.clone()), type_of(literal)),
            Expr::Ident(name) => self.ident(id, name),
            Expr::Select { operand, field, mode } => self.select(id, *operand, field, *mode),
            Expr::Call { function, target, args } => self.call(id, function, *target, args),
            Expr::And(terms) => (Code::And(self.conditions(terms, "_&&_")), Type::Bool),
            Expr::Or(terms) => (Code::Or(self.conditions(terms, "_||_")), Type::Bool),
            Expr::Conditional(parts) => self.conditional(parts),
            Expr::List(items) => self.list(items),
            Expr::Map(entries) => self.map(id, entries),
            Expr::Struct { name, fields } => self.structure(id, name, fields),
            Expr::Fold(fold) => self.fold(id, fold),
            Expr::Bind { name, value, body } => self.bind(name, *value, *body),
            Expr::OptMap { target, name, body, flat } => self.opt_map(id, *target, name, *body, *flat),
        }
    }

    fn ident(&mut self, id: Id, name: &str) -> Typed {
        if let Some(place) = self.locals.iter().rposition(|(local, _)| local == name) {
            return (Code::Local(place), self.locals[place].1.clone());
        }
        if let Some(declared) = self.declarations.variable(name) {
            return (Code::Global(name.into()), declared.clone());
        }
        match library::type_named(name) {
            Some(named) => (Code::Type(named.bare_name()), Type::Type(named.into())),
            None => self.undeclared(id, name),
        }
    }

    /// The name that a chain of selections spells, such as `google.protobuf.Timestamp`.
    fn qualified(&self, id: Id) -> Option<String> {
        match &self.ast.get(id).expr {
            Expr::Ident(name) if !self.locals.iter().any(|(local, _)| local == name) => {
                self.declarations.variable(name).is_none().then(|| name.to_string())
            }
            Expr::Select { operand, field, mode: Mode::Value } => {
                Some(format!("{}.{field}", self.qualified(*operand)?))
            }
            _ => None,
        }
    }

    fn select(&mut self, id: Id, operand: Id, field: &str, mode: Mode) -> Typed {
        if mode == Mode::Value
            && let Some(named) = self.qualified(id).and_then(|name| library::type_named(&name))
        {
            return (Code::Type(named.bare_name()), Type::Type(named.into()));
        }
        let before = self.issues.len();
        let (operand_code, found) = self.expression(operand);
        if self.issues.len() > before {
            return (operand_code, Type::Dyn);
        }
        let (through_optional, found) = match self.substitution.head(&found) {
            Type::Optional(inner) => (true, self.substitution.head(&inner)),
            other => (false, other),
        };
        let Some(selected) = self.field(id, &found, field) else { return (operand_code, Type::Dyn) };
        let result = match mode {
            Mode::Test => Type::Bool,
            Mode::Optional => Type::optional(selected),
            Mode::Value if through_optional => Type::optional(selected),
            Mode::Value => selected,
        };
        (Code::Select(Box::new(Select { operand: operand_code, field: field.into(), mode })), result)
    }

    fn field(&mut self, id: Id, of: &Type, field: &str) -> Option<Type> {
        let found = match of {
            Type::Dyn | Type::Param(_) => Some(Type::Dyn),
            Type::Map(entry) => Some(entry.1.clone()),
            Type::Struct(object) => escape::unescape(field).and_then(|name| object.field(&name)),
            Type::Record(record) => record.fields.iter().find(|(name, _)| name == field).map(|(_, of)| of.clone()),
            Type::Mutation(_) => Some(Type::Dyn),
            other => {
                self.wrong(id, format!("type '{}' does not support field selection", self.shown(other)));
                return None;
            }
        };
        if found.is_none() {
            self.wrong(id, format!("undefined field '{field}'"));
        }
        found
    }

    fn call(&mut self, id: Id, name: &str, target: Option<Id>, args: &[Id]) -> Typed {
        if target.is_none()
            && args.is_empty()
            && let Some(format) = name.strip_prefix("format.").and_then(Format::named)
        {
            return (Code::Format(format), Type::Opaque("kubernetes.NamedFormat"));
        }
        let before = self.issues.len();
        let function = library::find(name, target.is_some());
        let (code, types): (Vec<Code>, Vec<Type>) =
            target.into_iter().chain(args.iter().copied()).map(|arg| self.expression(arg)).unzip();
        let Some(function) = function else {
            if library::find(name, target.is_none()).is_some() {
                return self.no_overload(id, name, target.is_some(), &types);
            }
            return self.undeclared(id, name);
        };
        // What was told about an argument is not told again about the call.
        if self.issues.len() > before {
            return (Code::Const(Const::Null), Type::Dyn);
        }
        match self.resolve(function, &types) {
            Some(result) => (self.called(id, function, code), result),
            None => self.no_overload(id, name, target.is_some(), &types),
        }
    }

    /// The code of a call; a literal pattern is compiled once, here.
    fn called(&mut self, id: Id, function: &'static Function, mut code: Vec<Code>) -> Code {
        if let ("matches", [_, Code::Const(Const::String(pattern))]) = (function.name, code.as_slice()) {
            let size = pattern.len() as u64;
            match text::compile(pattern) {
                Ok(regex) => return Code::Matches(Box::new((code.swap_remove(0), regex, size))),
                Err(why) => return self.wrong(id, why.to_string()).0,
            }
        }
        Code::Call(function, code.into())
    }

    /// The type of a call: that of the overload that fits, or dynamic if several do that differ.
    fn resolve(&mut self, function: &Function, args: &[Type]) -> Option<Type> {
        let mut result: Option<Type> = None;
        let mark = self.substitution.mark();
        let mut first = None;
        for (place, (wanted, gives)) in function.overloads.iter().enumerate() {
            if wanted.len() != args.len() {
                continue;
            }
            self.substitution.undo(mark);
            let params = library::params(&mut self.substitution);
            let fits = wanted.iter().zip(args).all(|(want, arg)| {
                let want = want.instantiate(&params);
                self.substitution.assignable(&want, arg)
            });
            if !fits {
                continue;
            }
            first.get_or_insert(place);
            let gives = self.substitution.whole(&gives.instantiate(&params));
            result = Some(match result {
                Some(before) if before != gives => Type::Dyn,
                _ => gives,
            });
        }
        self.substitution.undo(mark);
        // What the only fitting overload says about the arguments stays known.
        let (wanted, gives) = function.overloads.get(first?)?;
        if result.as_ref().is_some_and(|result| *result != Type::Dyn) || function.overloads.len() == 1 {
            let params = library::params(&mut self.substitution);
            for (want, arg) in wanted.iter().zip(args) {
                let want = want.instantiate(&params);
                self.substitution.assignable(&want, arg);
            }
            return Some(gives.instantiate(&params));
        }
        result
    }

    fn no_overload(&mut self, id: Id, name: &str, member: bool, types: &[Type]) -> Typed {
        let shown: Vec<String> = types.iter().map(|of| self.shown(of)).collect();
        let applied = match (member, shown.split_first()) {
            (true, Some((target, rest))) => format!("{target}.({})", rest.join(", ")),
            _ => format!("({})", shown.join(", ")),
        };
        self.wrong(id, format!("found no matching overload for '{name}' applied to '{applied}'"))
    }

    fn conditions(&mut self, terms: &[Id], name: &str) -> Box<[Code]> {
        let mut code = Vec::with_capacity(terms.len());
        for term in terms {
            let (term_code, found) = self.expression(*term);
            if !self.substitution.assignable(&Type::Bool, &found) {
                let shown = self.shown(&found);
                let message = format!("expected type 'bool' but found '{shown}' in an operand of '{name}'");
                self.wrong(*term, message);
            }
            code.push(term_code);
        }
        code.into()
    }

    fn conditional(&mut self, [condition, then, otherwise]: &[Id; 3]) -> Typed {
        let (condition_code, found) = self.expression(*condition);
        if !self.substitution.assignable(&Type::Bool, &found) {
            let shown = self.shown(&found);
            self.wrong(*condition, format!("expected type 'bool' but found '{shown}'"));
        }
        let (then_code, then_type) = self.expression(*then);
        let (else_code, else_type) = self.expression(*otherwise);
        let mark = self.substitution.mark();
        let joined = if self.substitution.assignable(&then_type, &else_type) {
            self.substitution.join(&then_type, &else_type)
        } else {
            self.substitution.undo(mark);
            let (then_shown, else_shown) = (self.shown(&then_type), self.shown(&else_type));
            let message =
                format!("found no matching overload for '_?_:_' applied to '(bool, {then_shown}, {else_shown})'");
            self.wrong(*condition, message).1
        };
        (Code::Conditional(Box::new([condition_code, then_code, else_code])), joined)
    }
}

fn type_of(literal: &Const) -> Type {
    match literal {
        Const::Null => Type::Null,
        Const::Bool(_) => Type::Bool,
        Const::Int(_) => Type::Int,
        Const::Uint(_) => Type::Uint,
        Const::Double(_) => Type::Double,
        Const::String(_) => Type::String,
        Const::Bytes(_) => Type::Bytes,
    }
}
