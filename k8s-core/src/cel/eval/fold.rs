//! Macros over lists and maps.

use super::{Answer, EvalError, Evaluator, MapBuilder, Value};
use crate::cel::{
    ast::FoldKind,
    code::Fold,
    value::{List, Map},
};

/// What a step over one item costs beside what is evaluated in it.
pub(in crate::cel) const STEP_COST: u64 = 3;
/// The same where the step adds to a list.
pub(in crate::cel) const COLLECT_COST: u64 = 12;

enum Range<'a> {
    List(List<'a>),
    Map(Map<'a>),
}

impl<'a> Range<'a> {
    fn len(&self) -> usize {
        match self {
            Self::List(list) => list.len(),
            Self::Map(map) => map.len(),
        }
    }

    /// Key and value, or index and item.
    fn at(&self, place: usize) -> (Value<'a>, Value<'a>) {
        match self {
            Self::List(list) => (Value::Int(place as i64), list.get(place).unwrap_or_default()),
            Self::Map(map) => map.at(place).unwrap_or_default(),
        }
    }
}

/// What the steps so far came to.
enum State<'a> {
    /// `all` and `exists`: the first error.
    Decided(Option<EvalError>),
    /// `exists_one`
    Found(u64),
    Items(Vec<Value<'a>>),
    Entries(MapBuilder<'a>),
}

impl<'a> Evaluator<'_, 'a> {
    #[inline(never)]
    pub(super) fn fold(&mut self, fold: &'a Fold) -> Answer<'a> {
        let range = match self.value(&fold.range)? {
            Value::List(list) => Range::List(list),
            Value::Map(map) => Range::Map(map),
            Value::Optional(Some(_)) | Value::Optional(None) => return Err(EvalError::no_overload()),
            _ => return Err(EvalError::no_overload()),
        };
        let mut state = match fold.kind {
            FoldKind::All | FoldKind::Exists => State::Decided(None),
            FoldKind::ExistsOne => State::Found(0),
            FoldKind::Filter | FoldKind::List => State::Items(Vec::new()),
            FoldKind::Map | FoldKind::Entries => State::Entries(MapBuilder::default()),
        };
        let before = self.locals.len();
        let mut outcome = Ok(None);
        for place in 0..range.len() {
            let (key, value) = range.at(place);
            let single = if matches!(range, Range::Map(_)) { key.clone() } else { value.clone() };
            if fold.pairs {
                self.locals.extend([key.clone(), value]);
            } else {
                self.locals.push(single.clone());
            }
            outcome = self.step(fold, &mut state, &key, single);
            self.locals.truncate(before);
            if !matches!(outcome, Ok(None)) {
                break;
            }
        }
        match (outcome?, state) {
            (Some(decided), _) => Ok(decided),
            (None, State::Decided(Some(why))) => Err(why),
            (None, State::Decided(None)) => Ok(Value::Bool(fold.kind == FoldKind::All)),
            (None, State::Found(count)) => Ok(Value::Bool(count == 1)),
            (None, State::Items(items)) => Ok(Value::list(items)),
            (None, State::Entries(map)) => map.build(),
        }
    }

    /// One step; gives a value if that decides the whole.
    fn step(
        &mut self,
        fold: &'a Fold,
        state: &mut State<'a>,
        key: &Value<'a>,
        single: Value<'a>,
    ) -> Result<Option<Value<'a>>, EvalError> {
        self.budget.spend(STEP_COST)?;
        if let Some(filter) = &fold.filter {
            match self.value(filter)? {
                Value::Bool(true) => {}
                Value::Bool(false) => return Ok(None),
                _ => return Err(EvalError::no_overload()),
            }
        }
        let result = self.value(&fold.body);
        match state {
            State::Decided(failed) => return decide(fold.kind, result, failed),
            State::Found(count) => match result? {
                Value::Bool(found) => *count += u64::from(found),
                _ => return Err(EvalError::no_overload()),
            },
            State::Items(items) if fold.kind == FoldKind::Filter => match result? {
                Value::Bool(true) => {
                    self.budget.spend(COLLECT_COST)?;
                    items.push(single);
                }
                Value::Bool(false) => {}
                _ => return Err(EvalError::no_overload()),
            },
            State::Items(items) => {
                self.budget.spend(COLLECT_COST)?;
                items.push(result?);
            }
            State::Entries(map) if fold.kind == FoldKind::Map => {
                self.budget.spend(COLLECT_COST)?;
                map.add(key, result?)?;
            }
            State::Entries(map) => {
                self.budget.spend(COLLECT_COST)?;
                let Value::Map(entries) = result? else { return Err(EvalError::no_overload()) };
                for (key, value) in entries.iter() {
                    self.budget.spend(1)?;
                    map.add(&key, value)?;
                }
            }
        }
        Ok(None)
    }
}

/// A step of `all` or `exists`: the item that decides absorbs the errors of the others.
fn decide<'a>(
    kind: FoldKind,
    result: Answer<'a>,
    failed: &mut Option<EvalError>,
) -> Result<Option<Value<'a>>, EvalError> {
    match result {
        Ok(Value::Bool(value)) if value == (kind == FoldKind::Exists) => return Ok(Some(Value::Bool(value))),
        Ok(Value::Bool(_)) => {}
        Ok(_) => _ = failed.get_or_insert(EvalError::no_overload()),
        Err(EvalError::BudgetExceeded) => return Err(EvalError::BudgetExceeded),
        Err(why) => _ = failed.get_or_insert(why),
    }
    Ok(None)
}
