//! Evaluates checked code. Nesting is bounded by the parser, loops by the budget.

mod fold;

pub(super) use fold::{COLLECT_COST, STEP_COST};

use super::{
    Activation, Budget, EvalError, Value,
    ast::{Const, Mode},
    budget::Cost,
    code::{Code, Element, Literal, OptMap, Select},
    library::Function,
    value::{Made, MapBuilder, Opaque, Str},
};

const LIST_COST: u64 = 10;
const MAP_COST: u64 = 30;
const STRUCT_COST: u64 = 40;

/// An evaluation under way.
pub(super) struct Evaluator<'r, 'a> {
    pub activation: &'r Activation<'a>,
    pub budget: &'r mut Budget,
    /// The variables of the macros around the code.
    pub locals: Vec<Value<'a>>,
}

type Answer<'a> = Result<Value<'a>, EvalError>;

impl<'a> Evaluator<'_, 'a> {
    pub fn value(&mut self, code: &'a Code) -> Answer<'a> {
        match code {
            Code::Const(literal) => Ok(constant(literal)),
            Code::Global(name) => self.global(name),
            Code::Local(place) => {
                self.budget.spend(1)?;
                // Invariant: the checker counted the variables as the evaluator binds them.
                Ok(self.locals.get(*place).cloned().unwrap_or_default())
            }
            Code::Type(name) => Ok(Value::Type(name.clone())),
            Code::Format(format) => Ok(Value::Opaque(Opaque::Format(*format))),
            Code::Select(select) => self.select(select),
            Code::Call(function, args) => self.call(function, args),
            Code::Matches(of) => self.matches(&of.0, &of.1, of.2),
            Code::And(terms) => self.all_of(terms, true),
            Code::Or(terms) => self.all_of(terms, false),
            Code::Conditional(parts) => match self.value(&parts[0])? {
                Value::Bool(true) => self.value(&parts[1]),
                Value::Bool(false) => self.value(&parts[2]),
                _ => Err(EvalError::no_overload()),
            },
            Code::List(items) => self.list(items),
            Code::Map(entries) => self.map(entries),
            Code::Struct(literal) => self.structure(literal),
            Code::Fold(fold) => self.fold(fold),
            Code::Bind(parts) => self.bind(&parts.0, &parts.1),
            Code::OptMap(of) => self.opt_map(of),
        }
    }

    fn global(&mut self, name: &str) -> Answer<'a> {
        self.budget.spend(1)?;
        let found = self.activation.get(name);
        found.cloned().ok_or_else(|| EvalError::new(format!("no such attribute(s): {name}")))
    }

    /// `&&` of terms, or `||`: the term that decides absorbs the errors of the others.
    #[inline(never)]
    fn all_of(&mut self, terms: &'a [Code], neutral: bool) -> Answer<'a> {
        let mut failed = None;
        for term in terms {
            match self.value(term) {
                Ok(Value::Bool(value)) if value == neutral => {}
                Ok(Value::Bool(decided)) => return Ok(Value::Bool(decided)),
                Ok(_) => failed = failed.or(Some(EvalError::no_overload())),
                Err(EvalError::BudgetExceeded) => return Err(EvalError::BudgetExceeded),
                Err(why) => failed = failed.or(Some(why)),
            }
        }
        match failed {
            Some(why) => Err(why),
            None => Ok(Value::Bool(neutral)),
        }
    }

    #[inline(never)]
    fn select(&mut self, select: &'a Select) -> Answer<'a> {
        let operand = self.value(&select.operand)?;
        self.budget.spend(1)?;
        let (found, optional) = match operand {
            Value::Optional(None) => (None, true),
            Value::Optional(Some(inner)) => (self.field(&inner, &select.field)?, true),
            other => (self.field(&other, &select.field)?, false),
        };
        match (select.mode, optional) {
            (Mode::Test, _) => Ok(Value::Bool(found.is_some())),
            (Mode::Optional, _) | (Mode::Value, true) => Ok(found.map_or(Value::Optional(None), Value::some)),
            (Mode::Value, false) => found.ok_or_else(|| EvalError::new(format!("no such key: {}", select.field))),
        }
    }

    fn field(&mut self, of: &Value<'a>, name: &str) -> Result<Option<Value<'a>>, EvalError> {
        match of {
            Value::Map(map) => Ok(map.select(name)),
            Value::Fields(fields) => fields.field(name, self.budget).transpose(),
            Value::Made(made) => {
                Ok(made.fields.iter().find(|(field, _)| *field == name).map(|(_, value)| value.clone()))
            }
            _ => Err(EvalError::no_overload()),
        }
    }

    #[inline(never)]
    fn call(&mut self, function: &'static Function, args: &'a [Code]) -> Answer<'a> {
        match args {
            [a] => {
                let args = [self.value(a)?];
                self.native(function, &args)
            }
            [a, b] => {
                let args = [self.value(a)?, self.value(b)?];
                self.native(function, &args)
            }
            args => {
                let args = args.iter().map(|arg| self.value(arg)).collect::<Result<Vec<_>, _>>()?;
                self.native(function, &args)
            }
        }
    }

    fn native(&mut self, function: &'static Function, args: &[Value<'a>]) -> Answer<'a> {
        let cost = function.cost.of(|at| args.get(at).map_or(0, Value::size));
        self.budget.spend(cost)?;
        (function.native)(args, self.budget)
    }

    fn matches(&mut self, text: &'a Code, pattern: &'a regex::Regex, size: u64) -> Answer<'a> {
        let text = self.value(text)?;
        self.budget.spend(Cost::Regex.of(|at| if at == 0 { text.size() } else { size }))?;
        text.as_str().map(|text| Value::Bool(pattern.is_match(text))).ok_or_else(EvalError::no_overload)
    }

    /// An element; `None` if it is an optional that is none.
    fn element(&mut self, element: &'a Element) -> Result<Option<Value<'a>>, EvalError> {
        let value = self.value(&element.value)?;
        if !element.optional {
            return Ok(Some(value));
        }
        match value {
            Value::Optional(inner) => Ok(inner.map(|inner| (*inner).clone())),
            _ => Err(EvalError::no_overload()),
        }
    }

    #[inline(never)]
    fn list(&mut self, items: &'a [Element]) -> Answer<'a> {
        self.budget.spend(LIST_COST)?;
        let mut list = Vec::with_capacity(items.len());
        for item in items {
            list.extend(self.element(item)?);
        }
        Ok(Value::list(list))
    }

    #[inline(never)]
    fn map(&mut self, entries: &'a [(Code, Element)]) -> Answer<'a> {
        self.budget.spend(MAP_COST)?;
        let mut map = MapBuilder::default();
        for (key, element) in entries {
            let key = self.value(key)?;
            if let Some(value) = self.element(element)? {
                map.add(&key, value)?;
            }
        }
        map.build()
    }

    #[inline(never)]
    fn structure(&mut self, literal: &'a Literal) -> Answer<'a> {
        self.budget.spend(STRUCT_COST)?;
        let mut fields = Vec::with_capacity(literal.fields.len());
        for (name, element) in &literal.fields {
            if let Some(value) = self.element(element)? {
                fields.push((name.as_str(), value));
            }
        }
        Ok(Value::Made(Made { name: &literal.name, fields }.into()))
    }

    #[inline(never)]
    fn bind(&mut self, value: &'a Code, body: &'a Code) -> Answer<'a> {
        let value = self.value(value)?;
        self.locals.push(value);
        let result = self.value(body);
        self.locals.pop();
        result
    }

    #[inline(never)]
    fn opt_map(&mut self, of: &'a OptMap) -> Answer<'a> {
        let inner = match self.value(&of.target)? {
            Value::Optional(Some(inner)) => (*inner).clone(),
            Value::Optional(None) => return Ok(Value::Optional(None)),
            _ => return Err(EvalError::no_overload()),
        };
        self.locals.push(inner);
        let result = self.value(&of.body);
        self.locals.pop();
        if of.flat { result } else { result.map(Value::some) }
    }
}

fn constant(literal: &Const) -> Value<'_> {
    match literal {
        Const::Null => Value::Null,
        Const::Bool(value) => Value::Bool(*value),
        Const::Int(value) => Value::Int(*value),
        Const::Uint(value) => Value::Uint(*value),
        Const::Double(value) => Value::Double(*value),
        Const::String(text) => Value::String(Str::Borrowed(text)),
        Const::Bytes(bytes) => Value::Bytes((**bytes).into()),
    }
}
