//! The greatest cost that an expression can have, from the bounds that schemas set.
//!
//! What a schema does not bound is bounded by the greatest size of a request: so many items of so small a size fit in
//! it. Loops multiply; a loop in a loop over unbounded lists is beyond every limit, which is what this is for.

mod size;

use super::{
    Declarations,
    ast::{Const, FoldKind, Mode},
    code::{Code, Element, Fold},
};
use crate::schema::{Node, Schema};
pub(super) use size::Shape;

/// The cost at most, and what is known of the value.
struct Estimate {
    cost: u64,
    shape: Shape,
}

/// The greatest number of items or characters of a value at a place of a schema; 1 for what has none.
pub fn greatest_size(schema: &Schema, node: Node<'_>) -> u64 {
    Shape::of_node(schema.arena(), node.def()).size()
}

/// The greatest cost of `code`.
pub(super) fn estimate(code: &Code, declarations: &Declarations) -> u64 {
    Estimator { declarations, locals: Vec::new() }.code(code).cost
}

struct Estimator<'d> {
    declarations: &'d Declarations,
    locals: Vec<Shape>,
}

impl Estimator<'_> {
    fn code(&mut self, code: &Code) -> Estimate {
        match code {
            Code::Const(literal) => free(constant(literal)),
            Code::Type(_) | Code::Format(_) => free(Shape::of_size(1)),
            Code::Global(name) => Estimate { cost: 1, shape: self.declarations.shape(name) },
            Code::Local(place) => {
                Estimate { cost: 1, shape: self.locals.get(*place).cloned().unwrap_or(Shape::unknown()) }
            }
            Code::Select(select) => {
                let operand = self.code(&select.operand);
                let shape = match select.mode {
                    Mode::Test => Shape::of_size(1),
                    Mode::Value | Mode::Optional => operand.shape.field(&select.field),
                };
                Estimate { cost: operand.cost.saturating_add(1), shape }
            }
            Code::Call(function, args) => self.call(function, args),
            Code::Matches(of) => {
                let text = self.code(&of.0);
                let cost = super::budget::Cost::Regex.of(|at| if at == 0 { text.shape.size() } else { of.2 });
                Estimate { cost: text.cost.saturating_add(cost), shape: Shape::of_size(1) }
            }
            Code::And(terms) | Code::Or(terms) => Estimate { cost: self.sum(terms), shape: Shape::of_size(1) },
            Code::Conditional(parts) => {
                let condition = self.code(&parts[0]);
                let (then, otherwise) = (self.code(&parts[1]), self.code(&parts[2]));
                let cost = condition.cost.saturating_add(then.cost.max(otherwise.cost));
                Estimate { cost, shape: then.shape.larger(otherwise.shape) }
            }
            Code::List(items) => self.literal(10, items.iter().map(|item| (None, item))),
            Code::Map(entries) => self.literal(30, entries.iter().map(|(key, item)| (Some(key), item))),
            Code::Struct(literal) => self.literal(40, literal.fields.iter().map(|(_, item)| (None, item))),
            Code::Fold(fold) => self.fold(fold),
            Code::Bind(parts) => self.bound(&parts.0, &parts.1),
            Code::OptMap(of) => self.bound(&of.target, &of.body),
        }
    }

    fn sum(&mut self, terms: &[Code]) -> u64 {
        terms.iter().fold(0, |sum: u64, term| sum.saturating_add(self.code(term).cost))
    }

    fn bound(&mut self, value: &Code, body: &Code) -> Estimate {
        let value = self.code(value);
        self.locals.push(value.shape);
        let body = self.code(body);
        self.locals.pop();
        Estimate { cost: value.cost.saturating_add(body.cost), shape: body.shape }
    }

    fn literal<'c>(&mut self, base: u64, items: impl Iterator<Item = (Option<&'c Code>, &'c Element)>) -> Estimate {
        let mut cost = base;
        let mut count = 0;
        let mut item_shape: Option<Shape> = None;
        for (key, item) in items {
            cost = cost.saturating_add(key.map_or(0, |key| self.code(key).cost));
            let value = self.code(&item.value);
            cost = cost.saturating_add(value.cost);
            item_shape = Some(match item_shape {
                Some(before) => before.larger(value.shape),
                None => value.shape,
            });
            count += 1;
        }
        Estimate { cost, shape: Shape::list(count, item_shape.unwrap_or(Shape::of_size(0))) }
    }

    fn call(&mut self, function: &super::library::Function, args: &[Code]) -> Estimate {
        let estimates: Vec<Estimate> = args.iter().map(|arg| self.code(arg)).collect();
        let own = function.cost.of(|at| estimates.get(at).map_or(0, |estimate| estimate.shape.size()));
        let cost = estimates.iter().fold(own, |sum, estimate| sum.saturating_add(estimate.cost));
        let shapes: Vec<Shape> = estimates.into_iter().map(|estimate| estimate.shape).collect();
        Estimate { cost, shape: size::of_call(function.name, shapes) }
    }

    fn fold(&mut self, fold: &Fold) -> Estimate {
        let range = self.code(&fold.range);
        let count = range.shape.size();
        let before = self.locals.len();
        let (key, value) = range.shape.entries();
        if fold.pairs {
            self.locals.extend([key.clone(), value]);
        } else {
            self.locals.push(range.shape.iterated());
        }
        let filter = fold.filter.as_ref().map_or(0, |filter| self.code(filter).cost);
        let body = self.code(&fold.body);
        self.locals.truncate(before);
        let step = match fold.kind {
            FoldKind::All | FoldKind::Exists | FoldKind::ExistsOne => super::eval::STEP_COST,
            _ => super::eval::STEP_COST + super::eval::COLLECT_COST,
        };
        let each = filter.saturating_add(body.cost).saturating_add(step);
        let cost = range.cost.saturating_add(count.saturating_mul(each));
        let shape = match fold.kind {
            FoldKind::All | FoldKind::Exists | FoldKind::ExistsOne => Shape::of_size(1),
            FoldKind::Filter => Shape::list(count, range.shape.iterated()),
            FoldKind::List => Shape::list(count, body.shape),
            FoldKind::Map => Shape::map(count, key, body.shape),
            FoldKind::Entries => body.shape.times(count),
        };
        Estimate { cost, shape }
    }
}

fn free(shape: Shape) -> Estimate {
    Estimate { cost: 0, shape }
}

fn constant(literal: &Const) -> Shape {
    Shape::of_size(match literal {
        Const::String(text) => text.len() as u64,
        Const::Bytes(bytes) => bytes.len() as u64,
        _ => 1,
    })
}
