//! Macros: calls that the parser turns into nodes of their own, since they bind variables or ask about fields.

use super::{
    super::ast::{Fold, FoldKind},
    Expr, Id, Issue, Mode, Parsed, Parser, Text,
};

impl Parser<'_> {
    /// `has(a.b)`.
    pub(super) fn has(&mut self, offset: usize, args: &[Id]) -> Parsed {
        let [argument] = args else {
            return Err(Issue::new(offset, "invalid argument to has() macro"));
        };
        match &self.nodes[*argument as usize].expr {
            Expr::Select { operand, field, mode: Mode::Value } => {
                let (operand, field) = (*operand, field.clone());
                self.push(offset, Expr::Select { operand, field, mode: Mode::Test })
            }
            _ => Err(Issue::new(self.nodes[*argument as usize].offset, "invalid argument to has() macro")),
        }
    }

    /// A call on a target, be it a macro or not.
    pub(super) fn method(&mut self, target: Id, name: &str, name_at: usize, paren: usize) -> Parsed {
        let args = self.arguments()?;
        let kind = match (name, args.len()) {
            ("all", 2 | 3) => FoldKind::All,
            ("exists", 2 | 3) => FoldKind::Exists,
            ("exists_one" | "existsOne", 2 | 3) => FoldKind::ExistsOne,
            ("filter", 2) => FoldKind::Filter,
            ("map", 2 | 3) => FoldKind::List,
            ("transformList", 3 | 4) => FoldKind::List,
            ("transformMap", 3 | 4) => FoldKind::Map,
            ("transformMapEntry", 3 | 4) => FoldKind::Entries,
            ("bind", 3) if self.is_ident(target, "cel") => {
                let name = self.variable(args[0])?;
                return self.push(paren, Expr::Bind { name, value: args[1], body: args[2] });
            }
            ("optMap" | "optFlatMap", 2) => {
                let flat = name == "optFlatMap";
                let name = self.variable(args[0])?;
                return self.push(paren, Expr::OptMap { target, name, body: args[1], flat });
            }
            _ => {
                let function = self.qualified(target, name);
                let target = if function.is_some() { None } else { Some(target) };
                let function = function.unwrap_or_else(|| name.into());
                return self.push(paren, Expr::Call { function, target, args });
            }
        };
        self.fold(kind, name, target, &args, (name_at, paren))
    }

    fn fold(&mut self, kind: FoldKind, name: &str, range: Id, args: &[Id], at: (usize, usize)) -> Parsed {
        let single =
            matches!((name, args.len()), ("filter" | "map", _) | ("all" | "exists" | "exists_one" | "existsOne", 2));
        let first = self.variable(args[0])?;
        let (second, rest) = if single { (None, &args[1..]) } else { (Some(self.variable(args[1])?), &args[2..]) };
        if second.as_ref() == Some(&first) {
            let offset = self.nodes[args[1] as usize].offset;
            return Err(Issue::new(offset, "duplicate variable name: ".to_owned() + &first));
        }
        let (filter, body) = match rest {
            [body] => (None, *body),
            [filter, body] => (Some(*filter), *body),
            _ => return Err(Issue::new(at.0, format!("invalid arguments to {name}() macro"))),
        };
        self.push(at.1, Expr::Fold(Fold { kind, range, first, second, filter, body }))
    }

    fn variable(&self, id: Id) -> Result<Text, Issue> {
        let node = &self.nodes[id as usize];
        match &node.expr {
            Expr::Ident(name) => Ok(name.clone()),
            _ => Err(Issue::new(node.offset, "argument must be a simple name")),
        }
    }

    fn is_ident(&self, id: Id, name: &str) -> bool {
        matches!(&self.nodes[id as usize].expr, Expr::Ident(found) if found == name)
    }

    /// The names of functions that have a namespace: `sets.contains`, `ip.isCanonical`, ...
    fn qualified(&self, target: Id, name: &str) -> Option<Text> {
        let Expr::Ident(space) = &self.nodes[target as usize].expr else { return None };
        let known = matches!(
            (space.as_str(), name),
            ("sets", "contains" | "equivalent" | "intersects")
                | ("optional", "of" | "ofNonZeroValue" | "none" | "unwrap")
                | ("ip", "isCanonical")
                | ("jsonpatch", "escapeKey")
                | ("strings", "quote")
        );
        let format = space == "format" && (name == "named" || super::super::library::is_format(name));
        (known || format).then(|| format!("{space}.{name}").into())
    }
}
