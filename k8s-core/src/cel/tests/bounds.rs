//! No input panics, nothing runs for long, and what could is refused before.

use proptest::prelude::*;

use super::{dynamic, outcome_of};
use crate::{
    cel::{
        Activation, Budget, CALL_BUDGET, Declarations, EXPRESSION_COST_LIMIT, EvalError, OBJECT_BUDGET, Program, Type,
        Value,
    },
    doc,
    doc::Doc,
    schema::Schema,
};

#[test]
fn deep_nesting_is_refused() {
    let shapes = [
        format!("{}1{}", "(".repeat(50_000), ")".repeat(50_000)),
        "[".repeat(90_000),
        "-".repeat(90_000) + "1",
        "!".repeat(90_001) + "true",
        "a.".repeat(40_000) + "b",
        "1+".repeat(40_000) + "1",
        "x[0]".to_owned() + &"[0]".repeat(30_000),
        "true ? 1 : ".repeat(8_000) + "1",
        "{1:".repeat(30_000),
        "[1].map(x,".repeat(9_000),
    ];
    for source in shapes {
        let _ = Program::compile(&source, &dynamic(&["a", "x"]));
    }
    let long = "true && ".repeat(10_000) + "true";
    assert_eq!(outcome_of(&long, &Declarations::new(), &[]), "true");
    let refused = Program::compile(&" ".repeat(100_001), &Declarations::new()).unwrap_err();
    assert!(refused.to_string().contains("expression code point size exceeds limit: size: 100001, limit 100000"));
}

#[test]
fn the_deepest_that_is_allowed_is_evaluated() {
    let nested = "(".repeat(150) + "1" + &")".repeat(150);
    assert_eq!(outcome_of(&nested, &Declarations::new(), &[]), "1");
    let sum = "1".to_owned() + &" + 1".repeat(150);
    assert_eq!(outcome_of(&sum, &Declarations::new(), &[]), "151");
    let mut deep = String::from("[1]");
    for _ in 0..50 {
        deep = format!("[{deep}].map(x, x)[0]");
    }
    assert_eq!(outcome_of(&deep, &Declarations::new(), &[]), "[1]");
}

#[test]
fn the_budget_ends_every_evaluation() {
    let items: Vec<Doc> = (0..50_000).map(Doc::from).collect();
    let object = doc!({"items": Doc::Array(items), "text": "a".repeat(1 << 20)});
    let rules = [
        "object.items.all(x, object.items.all(y, object.items.all(z, x + y + z >= 0)))",
        "object.items.map(x, object.items.map(y, y)).size() > 0",
        "object.items.filter(x, object.items.exists(y, y == -1)).size() == 0",
        "object.items.all(x, !object.text.contains('b'))",
        "object.items.all(x, object.text.matches('^(a+)+$'))",
        "object.items.map(x, object.text + object.text).size() > 0",
        "cel.bind(a, object.text + object.text, cel.bind(b, a + a, cel.bind(c, b + b, cel.bind(d, c + c, d + d)))).size() > 0",
        "sets.contains(object.items, object.items)",
        "object.text.replace('a', object.text).size() > 0",
        "object.items.transformMap(i, v, object.text.split('')).size() > 0",
    ];
    for rule in rules {
        let program = Program::compile(rule, &dynamic(&["object"])).unwrap();
        let variables = Activation::new().bind("object", Value::of(&object));
        let mut budget = Budget::new(OBJECT_BUDGET);
        let outcome = program.evaluate(&variables, &mut budget);
        assert_eq!(outcome.err(), Some(EvalError::BudgetExceeded), "{rule}");
        assert!(budget.spent() <= CALL_BUDGET, "{rule}");
    }
}

#[test]
fn one_budget_serves_several_evaluations() {
    let items: Vec<Doc> = (0..10_000).map(Doc::from).collect();
    let object = Doc::Array(items);
    let program = Program::compile("object.all(x, x >= 0)", &dynamic(&["object"])).unwrap();
    let variables = Activation::new().bind("object", Value::of(&object));
    let mut budget = Budget::new(100_000);
    assert!(program.evaluate(&variables, &mut budget).is_ok());
    let once = budget.spent();
    assert!((40_000..80_000).contains(&once), "{once}");
    assert_eq!(program.evaluate(&variables, &mut budget).err(), Some(EvalError::BudgetExceeded));
    assert_eq!(budget.remaining(), 0);
}

fn estimate(schema: &Doc, rule: &str) -> u64 {
    let schema = Schema::from_json_schema(schema);
    let declared = Declarations::new().variable_of("self", Type::of_schema(&schema));
    Program::compile(rule, &declared).unwrap_or_else(|why| panic!("{why}")).estimate()
}

#[test]
fn estimates_follow_the_bounds_of_the_schema() {
    let list = |most: Option<i64>| {
        let mut items = doc!({"type": "array", "items": {"type": "integer"}});
        if let Some(most) = most {
            items.set_at(&["maxItems"], most.into());
        }
        doc!({"type": "object", "properties": {"spec": {"type": "object", "properties": {"items": items,
            "name": {"type": "string", "maxLength": 100}, "text": {"type": "string"}}}}})
    };
    let nested = "self.spec.items.all(x, self.spec.items.all(y, x == y || x != y))";
    let single = "self.spec.items.all(x, x > 0)";
    assert!(estimate(&list(None), nested) > EXPRESSION_COST_LIMIT);
    assert!(estimate(&list(None), "self.spec.items.all(x, [1, 2].exists(y, x > y))") > EXPRESSION_COST_LIMIT);
    assert!(estimate(&list(None), single) > 1_000_000);
    assert!(estimate(&list(None), "self.spec.name.size() < 10 && self.spec.name.contains('x')") < 1_000);
    assert!(estimate(&list(None), "self.spec.text.contains('x')") < EXPRESSION_COST_LIMIT);
    assert!(estimate(&list(None), "self.spec.items.all(x, self.spec.text.contains('x'))") > EXPRESSION_COST_LIMIT);
}

#[test]
fn hostile_texts_do_no_harm() {
    for source in [
        "'%.99999999999f'.format([1.0])",
        "'%.1000f'.format([1.0]).size()",
        "'a'.matches('((((a{1000}){1000}){1000}){1000})')",
        "'a'.find('[')",
        "timestamp('2023-13-01T00:00:00Z')",
        "timestamp(9223372036854775807)",
        "duration('9999999999999999999999h')",
        "duration(9223372036854775807)",
        "'x'.substring(-9223372036854775808, 9223372036854775807)",
        "'é'.lastIndexOf('é', 1)",
        "'aé'.lastIndexOf('é', 0)",
        "int(-9223372036854775808.0)",
        "quantity('9999999999999999999999999999E').add(9223372036854775807).sign()",
        "semver('99999999999999999999.0.0').major()",
        "semver('18446744073709551615.0.0').major()",
        "cidr('::/0').masked().containsCIDR('::/128')",
        "cidr('1.2.3.4/256')",
        "url('%').getHost()",
        "url('http://%zz/').getHost()",
        "url('/?%ff=%ff').getQuery()",
        "url('http://a?é%').getQuery()",
        "b'\\400'",
        "'\\ud800'",
        "[1].slice(-1, 1)",
        "{1.5: 1}",
        "timestamp('2023-01-01T00:00:00Z').getHours('é')",
        "timestamp('2023-01-01T00:00:00Z').getHours('-é')",
    ] {
        let _ = outcome_of(source, &Declarations::new(), &[]);
    }
}

/// Pieces of which random expressions are made: more of them compile than of random characters.
const PIECES: [&str; 58] = [
    "1",
    "0",
    "-1",
    "2u",
    "1.5",
    "'a'",
    "'é'",
    "b'x'",
    "true",
    "false",
    "null",
    "object",
    "object.a",
    "object.list",
    "x",
    "y",
    "[",
    "]",
    "(",
    ")",
    "{",
    "}",
    ",",
    ":",
    "?",
    ".",
    " + ",
    " - ",
    " * ",
    " / ",
    " % ",
    " == ",
    " != ",
    " < ",
    " >= ",
    " && ",
    " || ",
    " in ",
    "!",
    "-",
    ".all(x, ",
    ".map(x, ",
    ".exists(x, y, ",
    ".filter(x, ",
    "size(",
    "has(",
    ".size()",
    ".split('')",
    ".format([",
    "optional.of(",
    ".?a",
    "[?",
    ".orValue(",
    "duration('1s')",
    "timestamp(0)",
    ".transformMap(x, y, ",
    "type(",
    "cel.bind(x, ",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn no_text_panics(source in "\\PC{0,60}") {
        let _ = outcome_of(&source, &dynamic(&["object"]), &[]);
    }

    #[test]
    fn no_expression_panics(pieces in prop::collection::vec(0..PIECES.len(), 1..24)) {
        let source: String = pieces.iter().map(|at| PIECES[*at]).collect();
        let object = doc!({"a": 1, "list": [1, "x", null, {"b": 2}]});
        let _ = outcome_of(&source, &dynamic(&["object", "x", "y"]), &[("object", &object)]);
    }

    #[test]
    fn no_call_panics(function in 0..FUNCTIONS.len(), args in prop::collection::vec(0..VALUES.len(), 1..4)) {
        let args: Vec<String> = args.iter().map(|at| format!("dyn({})", VALUES[*at])).collect();
        for source in [
            format!("{}({})", FUNCTIONS[function], args.join(", ")),
            format!("{}.{}({})", args[0], FUNCTIONS[function], args[1..].join(", ")),
        ] {
            let _ = outcome_of(&source, &Declarations::new(), &[]);
        }
    }
}

const FUNCTIONS: [&str; 60] = [
    "size",
    "startsWith",
    "contains",
    "matches",
    "find",
    "findAll",
    "charAt",
    "indexOf",
    "lastIndexOf",
    "join",
    "replace",
    "split",
    "substring",
    "trim",
    "reverse",
    "format",
    "isSorted",
    "sum",
    "min",
    "max",
    "slice",
    "first",
    "last",
    "sets.contains",
    "sets.equivalent",
    "optional.of",
    "value",
    "or",
    "orValue",
    "getFullYear",
    "getHours",
    "getMilliseconds",
    "url",
    "getHost",
    "getQuery",
    "quantity",
    "sign",
    "asInteger",
    "add",
    "sub",
    "compareTo",
    "semver",
    "major",
    "ip",
    "family",
    "cidr",
    "containsIP",
    "containsCIDR",
    "masked",
    "format.named",
    "validate",
    "int",
    "uint",
    "double",
    "string",
    "bytes",
    "timestamp",
    "duration",
    "type",
    "isGlobalUnicast",
];

const VALUES: [&str; 26] = [
    "0",
    "-1",
    "9223372036854775807",
    "-9223372036854775807 - 1",
    "1u",
    "18446744073709551615u",
    "1e300",
    "0.0/0.0",
    "''",
    "'é'",
    "'a,b'",
    "'10.0.0.1'",
    "'10.0.0.0/8'",
    "'1.2.3'",
    "'1Gi'",
    "'2023-01-01T00:00:00Z'",
    "b'\\xff'",
    "[]",
    "[1, 2]",
    "['a', 'b']",
    "{}",
    "{'a': 1}",
    "null",
    "true",
    "timestamp('9999-12-31T23:59:59Z')",
    "duration('-1s')",
];
