//! What evaluating may cost, in the units of upstream's cost model: about one for every step.

use super::EvalError;

/// The greatest estimated cost of one expression of a custom kind.
pub const EXPRESSION_COST_LIMIT: u64 = 10_000_000;
/// The greatest estimated cost of all expressions of a custom kind together.
pub const KIND_COST_LIMIT: u64 = 100_000_000;
/// What one evaluation of one expression may cost.
pub const CALL_BUDGET: u64 = 1_000_000;
/// What all evaluations for one object or one policy may cost together.
pub const OBJECT_BUDGET: u64 = 10_000_000;
/// What all match conditions of one request may cost together.
pub const MATCH_CONDITIONS_BUDGET: u64 = OBJECT_BUDGET / 4;

/// What remains to be spent by the evaluations for one object.
#[derive(Clone, Debug)]
pub struct Budget {
    remaining: u64,
    /// What the evaluation under way may spend.
    call: u64,
    started: u64,
}

impl Budget {
    /// A budget for several evaluations, each of which may spend [`CALL_BUDGET`].
    pub fn new(total: u64) -> Self {
        Self { remaining: total, call: CALL_BUDGET.min(total), started: total }
    }

    /// What was spent so far.
    pub fn spent(&self) -> u64 {
        self.started - self.remaining
    }

    /// What remains.
    pub fn remaining(&self) -> u64 {
        self.remaining
    }

    /// Begins an evaluation and says what the one around it had left, for [`Budget::resume`].
    pub(super) fn begin(&mut self) -> u64 {
        std::mem::replace(&mut self.call, CALL_BUDGET.min(self.remaining))
    }

    /// Goes back to the evaluation around the one that ended.
    pub(super) fn resume(&mut self, call: u64) {
        self.call = call.min(self.remaining);
    }

    /// Takes off what a step costs.
    pub fn spend(&mut self, cost: u64) -> Result<(), EvalError> {
        if cost > self.call {
            self.remaining -= self.call;
            self.call = 0;
            return Err(EvalError::BudgetExceeded);
        }
        self.call -= cost;
        self.remaining -= cost;
        Ok(())
    }
}

/// How the cost of a function follows from the sizes of its arguments; the table of functions says which.
#[derive(Clone, Copy, Debug)]
pub(super) enum Cost {
    /// As much whatever they are.
    Fixed(u64),
    /// Walks over the text (or bytes) of the first argument.
    Text,
    /// Walks over the text of both arguments, as comparing and concatenating do.
    Texts,
    /// Looks for the text of the second argument in that of the first.
    Search,
    /// Matches the text of the first argument against the expression that is the second.
    Regex,
    /// Visits every item of the first argument.
    Items,
    /// Visits every item of the second argument: `in`.
    Contains,
    /// Compares every item of one list with every item of another.
    Product,
    /// Compares at most the smaller of both.
    Smaller,
}

impl Cost {
    /// The cost for arguments of these sizes.
    pub fn of(self, sizes: impl Fn(usize) -> u64) -> u64 {
        // A tenth per character, as upstream counts.
        let text = |size: u64| size.saturating_add(9) / 10;
        match self {
            Self::Fixed(cost) => cost,
            Self::Text => text(sizes(0)).saturating_add(1),
            Self::Texts => text(sizes(0).saturating_add(sizes(1))).saturating_add(1),
            Self::Search => text(sizes(0)).saturating_mul(text(sizes(1)).max(1)).saturating_add(1),
            Self::Regex => {
                text(sizes(0).saturating_add(1)).saturating_mul(sizes(1).saturating_add(3) / 4).saturating_add(1)
            }
            Self::Items => 1u64.saturating_add(sizes(0)),
            Self::Contains => 1u64.saturating_add(sizes(1)),
            Self::Product => 1u64.saturating_add(sizes(0).saturating_mul(sizes(1))),
            Self::Smaller => 1u64.saturating_add(text(sizes(0).min(sizes(1)))),
        }
    }
}
