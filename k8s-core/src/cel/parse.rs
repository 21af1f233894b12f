//! Parses tokens into an [`Ast`]. Nesting is bounded, so that neither it nor any walk over the tree runs out of stack.

mod macros;

use super::{
    ast::{Ast, Const, Expr, Id, Item, Mode, Node},
    error::Issue,
    token::{Spanned, Token, tokens},
};
use crate::doc::Text;

/// The greatest number of characters in an expression.
pub(super) const MAX_CHARACTERS: usize = 100_000;

/// How deep expressions may nest.
const MAX_DEPTH: u16 = 160;

/// What the grammar keeps for itself.
pub(super) const RESERVED: [&str; 18] = [
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "in",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

const EXPECTED: &str = "{'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, \
                        BYTES, IDENTIFIER}";

/// Parses an expression.
pub(super) fn parse(source: &str) -> Result<Ast, Issue> {
    if source.len() > MAX_CHARACTERS && source.chars().count() > MAX_CHARACTERS {
        let size = source.chars().count();
        let message = format!("expression code point size exceeds limit: size: {size}, limit {MAX_CHARACTERS}");
        return Err(Issue::new(0, message));
    }
    let mut parser = Parser { source, tokens: tokens(source)?, at: 0, nodes: Vec::new(), depth: 0 };
    let root = parser.expression()?;
    if parser.token() != &Token::End {
        return Err(parser.unexpected("<EOF>"));
    }
    Ok(Ast { nodes: parser.nodes, root })
}

struct Parser<'s> {
    source: &'s str,
    tokens: Vec<Spanned<'s>>,
    at: usize,
    nodes: Vec<Node>,
    depth: u16,
}

type Parsed<T = Id> = Result<T, Issue>;

/// The operators of one level of precedence; those of the first bind weakest.
const LEVELS: [&[&str]; 5] =
    [&["||"], &["&&"], &["<", "<=", ">=", ">", "==", "!=", "in"], &["+", "-"], &["*", "/", "%"]];

impl<'s> Parser<'s> {
    fn token(&self) -> &Token<'s> {
        // Invariant: the last token is `End`, and nothing steps over it.
        &self.tokens[self.at].token
    }

    fn offset(&self) -> usize {
        self.tokens[self.at].offset
    }

    fn step(&mut self) {
        self.at = (self.at + 1).min(self.tokens.len() - 1);
    }

    /// Steps over an operator if it is next.
    fn eat(&mut self, op: &str) -> bool {
        let found = matches!(self.token(), Token::Op(next) if *next == op);
        if found {
            self.step();
        }
        found
    }

    fn expect(&mut self, op: &str) -> Parsed<()> {
        if self.eat(op) { Ok(()) } else { Err(self.unexpected(&format!("'{op}'"))) }
    }

    fn unexpected(&self, expected: &str) -> Issue {
        let next = &self.tokens[self.at];
        let text = match next.token {
            Token::End => "<EOF>",
            _ => &self.source[next.offset..next.end],
        };
        let shown: String = text.chars().take(40).collect();
        Issue::new(next.offset, format!("Syntax error: mismatched input '{shown}' expecting {expected}"))
    }

    fn push(&mut self, offset: usize, expr: Expr) -> Parsed {
        let mut depth = 0;
        expr.children(|child| depth = depth.max(self.nodes[child as usize].depth + 1));
        if depth > MAX_DEPTH {
            return Err(too_deep(offset));
        }
        self.nodes.push(Node { offset, depth, expr });
        Ok(self.nodes.len() as Id - 1)
    }

    fn call(&mut self, offset: usize, function: &str, args: Vec<Id>) -> Parsed {
        self.push(offset, Expr::Call { function: function.into(), target: None, args })
    }

    fn expression(&mut self) -> Parsed {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(too_deep(self.offset()));
        }
        let condition = self.binary(0)?;
        let offset = self.offset();
        let parsed = if self.eat("?") {
            let then = self.binary(0)?;
            self.expect(":")?;
            let otherwise = self.expression()?;
            self.push(offset, Expr::Conditional([condition, then, otherwise]))?
        } else {
            condition
        };
        self.depth -= 1;
        Ok(parsed)
    }

    /// The next operator with its level, if that is at least `least`.
    fn operator(&self, least: usize) -> Option<(usize, &'static str)> {
        let next = match self.token() {
            Token::Op(op) => *op,
            Token::Ident("in") => "in",
            _ => return None,
        };
        let level = LEVELS.iter().position(|ops| ops.contains(&next))?;
        (level >= least).then_some((level, next))
    }

    /// Operators of `least` and of the levels that bind stronger.
    fn binary(&mut self, least: usize) -> Parsed {
        let mut left = self.unary()?;
        while let Some((level, op)) = self.operator(least) {
            let offset = self.offset();
            if level < 2 {
                left = self.chain(left, level)?;
                continue;
            }
            self.step();
            let right = self.binary(level + 1)?;
            let name = if op == "in" { "@in".into() } else { format!("_{op}_") };
            left = self.call(offset, &name, vec![left, right])?;
        }
        Ok(left)
    }

    /// A chain of `&&` or of `||` is one node, so that it does not nest.
    fn chain(&mut self, first: Id, level: usize) -> Parsed {
        let offset = self.offset();
        let mut terms = vec![first];
        while self.operator(level).is_some_and(|(next, _)| next == level) {
            self.step();
            terms.push(self.binary(level + 1)?);
        }
        self.push(offset, if level == 0 { Expr::Or(terms) } else { Expr::And(terms) })
    }

    fn unary(&mut self) -> Parsed {
        let op = match self.token() {
            Token::Op("!") => "!",
            Token::Op("-") => "-",
            _ => return self.member(),
        };
        let offset = self.offset();
        let mut count = 0usize;
        while matches!(self.token(), Token::Op(next) if *next == op) {
            self.step();
            count += 1;
        }
        // The literal of the least integer has no positive counterpart.
        if op == "-"
            && count == 1
            && let Some(literal) = self.negative()?
        {
            let literal = self.push(offset, Expr::Const(literal))?;
            return self.suffixes(literal);
        }
        let operand = self.member()?;
        if count.is_multiple_of(2) {
            return Ok(operand);
        }
        self.call(offset, if op == "!" { "!_" } else { "-_" }, vec![operand])
    }

    fn negative(&mut self) -> Parsed<Option<Const>> {
        let literal = match self.token().clone() {
            Token::Int(digits, base) => Const::Int(self.integer(&format!("-{digits}"), base)?),
            Token::Double(value) => Const::Double(-value),
            _ => return Ok(None),
        };
        self.step();
        Ok(Some(literal))
    }

    fn integer(&self, digits: &str, base: u32) -> Parsed<i64> {
        i64::from_str_radix(digits, base).map_err(|_| Issue::new(self.offset(), "Syntax error: invalid int literal"))
    }

    fn member(&mut self) -> Parsed {
        let operand = self.primary()?;
        self.suffixes(operand)
    }

    fn suffixes(&mut self, mut operand: Id) -> Parsed {
        loop {
            let offset = self.offset();
            if self.eat(".") {
                operand = self.after_dot(operand, offset)?;
            } else if self.eat("[") {
                let optional = self.eat("?");
                let index = self.expression()?;
                self.expect("]")?;
                operand = self.call(offset, if optional { "_[?_]" } else { "_[_]" }, vec![operand, index])?;
            } else {
                return Ok(operand);
            }
        }
    }

    fn after_dot(&mut self, operand: Id, offset: usize) -> Parsed {
        let optional = self.eat("?");
        let name_at = self.offset();
        let field: Text = match self.token() {
            Token::Ident(name) if *name != "in" && !matches!(*name, "true" | "false" | "null") => (*name).into(),
            Token::Quoted(name) => (*name).into(),
            _ => return Err(self.unexpected("IDENTIFIER")),
        };
        let quoted = matches!(self.token(), Token::Quoted(_));
        self.step();
        let paren = self.offset();
        if !optional && !quoted && self.eat("(") {
            return self.method(operand, &field, name_at, paren);
        }
        let mode = if optional { Mode::Optional } else { Mode::Value };
        self.push(offset, Expr::Select { operand, field, mode })
    }

    fn primary(&mut self) -> Parsed {
        let offset = self.offset();
        let literal = match self.token().clone() {
            Token::Int(digits, base) => Const::Int(self.integer(digits, base)?),
            Token::Uint(digits, base) => Const::Uint(
                u64::from_str_radix(digits, base)
                    .map_err(|_| Issue::new(offset, "Syntax error: invalid uint literal"))?,
            ),
            Token::Double(value) => Const::Double(value),
            Token::String(text) => Const::String(text.into()),
            Token::Bytes(bytes) => Const::Bytes(bytes.into()),
            Token::Ident("true") => Const::Bool(true),
            Token::Ident("false") => Const::Bool(false),
            Token::Ident("null") => Const::Null,
            Token::Ident(name) => return self.name(name, offset),
            Token::Op(op) => return self.bracketed(op, offset),
            Token::Quoted(_) | Token::End => return Err(self.unexpected(EXPECTED)),
        };
        self.step();
        self.push(offset, Expr::Const(literal))
    }

    fn bracketed(&mut self, op: &str, offset: usize) -> Parsed {
        match op {
            "(" => {
                self.step();
                let inner = self.expression()?;
                self.expect(")")?;
                Ok(inner)
            }
            "[" => {
                self.step();
                let items = self.items("]", Self::item)?;
                self.push(offset, Expr::List(items))
            }
            "{" => {
                self.step();
                let entries = self.items("}", Self::entry)?;
                self.push(offset, Expr::Map(entries))
            }
            // A leading dot names the root container, in which everything is.
            "." => {
                self.step();
                match self.token().clone() {
                    Token::Ident(name) => self.name(name, offset),
                    _ => Err(self.unexpected("IDENTIFIER")),
                }
            }
            _ => Err(self.unexpected(EXPECTED)),
        }
    }

    /// Things parted by commas up to a closing bracket; a trailing comma is allowed.
    fn items<T>(&mut self, close: &str, mut one: impl FnMut(&mut Self) -> Parsed<T>) -> Parsed<Vec<T>> {
        let mut items = Vec::new();
        loop {
            if self.eat(close) {
                return Ok(items);
            }
            items.push(one(self)?);
            if !self.eat(",") {
                self.expect(close)?;
                return Ok(items);
            }
        }
    }

    fn item(&mut self) -> Parsed<Item> {
        let optional = self.eat("?");
        Ok(Item { value: self.expression()?, optional })
    }

    fn entry(&mut self) -> Parsed<(Id, Item)> {
        let optional = self.eat("?");
        let key = self.expression()?;
        self.expect(":")?;
        Ok((key, Item { value: self.expression()?, optional }))
    }

    fn field(&mut self) -> Parsed<(Text, Item)> {
        let optional = self.eat("?");
        let name: Text = match self.token() {
            Token::Ident(name) => (*name).into(),
            Token::Quoted(name) => (*name).into(),
            _ => return Err(self.unexpected("IDENTIFIER")),
        };
        self.step();
        self.expect(":")?;
        Ok((name, Item { value: self.expression()?, optional }))
    }

    fn arguments(&mut self) -> Parsed<Vec<Id>> {
        let mut args = Vec::new();
        if self.eat(")") {
            return Ok(args);
        }
        loop {
            args.push(self.expression()?);
            if !self.eat(",") {
                self.expect(")")?;
                return Ok(args);
            }
        }
    }

    /// A variable, a call, or the literal of a structure.
    fn name(&mut self, name: &str, offset: usize) -> Parsed {
        if RESERVED.contains(&name) {
            return Err(Issue::new(offset, format!("reserved identifier: {name}")));
        }
        self.step();
        let paren = self.offset();
        if self.eat("(") {
            return self.function(name, paren);
        }
        if let Some(qualified) = self.structure_name(name) {
            let brace = self.offset();
            self.expect("{")?;
            let fields = self.items("}", Self::field)?;
            return self.push(brace, Expr::Struct { name: qualified, fields });
        }
        self.push(offset, Expr::Ident(name.into()))
    }

    /// If `{` follows the name and further names behind dots, the whole of them, which are then stepped over.
    fn structure_name(&mut self, first: &str) -> Option<Text> {
        let mut qualified = Text::from(first);
        let mut at = self.at;
        loop {
            match &self.tokens[at].token {
                Token::Op("{") => break,
                Token::Op(".") => match &self.tokens[at + 1].token {
                    Token::Ident(name) => {
                        qualified.push('.');
                        qualified.push_str(name);
                        at += 2;
                    }
                    _ => return None,
                },
                _ => return None,
            }
        }
        self.at = at;
        Some(qualified)
    }

    fn function(&mut self, name: &str, paren: usize) -> Parsed {
        let args = self.arguments()?;
        if name == "has" {
            return self.has(paren, &args);
        }
        self.call(paren, name, args)
    }
}

fn too_deep(offset: usize) -> Issue {
    Issue::new(offset, format!("expression recursion limit exceeded: {MAX_DEPTH}"))
}
