//! What the checker refuses, and how it says so.

use super::{check, dynamic};
use crate::cel::{Declarations, Program, Type};

#[test]
fn messages_show_the_place() {
    let told = |source: &str| Program::compile(source, &dynamic(&["object"])).unwrap_err().to_string();
    assert_eq!(
        told("foo == 1"),
        "ERROR: <input>:1:1: undeclared reference to 'foo' (in container '')\n | foo == 1\n | ^"
    );
    assert_eq!(
        told("1 + 'a'"),
        "ERROR: <input>:1:3: found no matching overload for '_+_' applied to '(int, string)'\n | 1 + 'a'\n | ..^"
    );
    assert_eq!(
        told("object.x == 1 &&\n  nope(2)"),
        "ERROR: <input>:2:7: undeclared reference to 'nope' (in container '')\n |   nope(2)\n | ......^"
    );
    assert_eq!(
        told("a == 1 || b == 2"),
        "ERROR: <input>:1:1: undeclared reference to 'a' (in container '')\n | a == 1 || b == 2\n | ^\n\
         ERROR: <input>:1:11: undeclared reference to 'b' (in container '')\n | a == 1 || b == 2\n | ..........^"
    );
    assert!(
        told("object.").starts_with("ERROR: <input>:1:8: Syntax error: mismatched input '<EOF>' expecting IDENTIFIER")
    );
}

#[test]
fn syntax() {
    let expecting = "{'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, \
                     BYTES, IDENTIFIER}";
    let end = format!("compile: Syntax error: mismatched input '<EOF>' expecting {expecting}");
    let plus = format!("compile: Syntax error: mismatched input '+' expecting {expecting}");
    check(&[
        ("", &end),
        ("1 +", &end),
        ("+ 1", &plus),
        ("1 2", "compile: Syntax error: mismatched input '2' expecting <EOF>"),
        ("(1", "compile: Syntax error: mismatched input '<EOF>' expecting ')'"),
        ("[1", "compile: Syntax error: mismatched input '<EOF>' expecting ']'"),
        ("{'a' 1}", "compile: Syntax error: mismatched input '1' expecting ':'"),
        ("a = 1", "compile: Syntax error: token recognition error at: '='"),
        ("1 # 2", "compile: Syntax error: token recognition error at: '#'"),
        ("'a", "compile: Syntax error: token recognition error at: ''a'"),
        (r"'\q'", "compile: Syntax error: invalid escape sequence"),
        ("for", "compile: reserved identifier: for"),
        ("true ? 1", "compile: Syntax error: mismatched input '<EOF>' expecting ':'"),
        ("'a'.matches('(')", "compile: error parsing regexp: unclosed group: `(`"),
        ("Foo{a: 1}", "compile: undeclared reference to 'Foo' (in container '')"),
        ("JSONPatch{op: 'add', path: '/a', value: 1}", "JSONPatch{op: add, path: /a, value: 1}"),
        ("JSONPatch{op: 1}", "compile: expected type of field 'op' is 'string' but provided type is 'int'"),
        ("JSONPatch{nope: 1}", "compile: undefined field 'nope'"),
        ("Object{spec: Object.spec{replicas: 3}}", "Object{spec: Object.spec{replicas: 3}}"),
        ("Object.spec{replicas: 3}.replicas", "3"),
    ]);
}

#[test]
fn results_have_types() {
    let declared = dynamic(&["object"]).variable_of("names", Type::list(Type::String));
    let table = [
        ("1", "int"),
        ("1 == 1", "bool"),
        ("object.a", "dyn"),
        ("object.a == 1", "bool"),
        ("names", "list(string)"),
        ("names[0]", "string"),
        ("names.map(n, n.size())", "list(int)"),
        ("names.filter(n, true)", "list(string)"),
        ("[]", "list(dyn)"),
        ("[1, 'a']", "list(dyn)"),
        ("{'a': 1}", "map(string, int)"),
        ("{'a': 1}.?a", "optional_type(int)"),
        ("optional.none().orValue(1)", "int"),
        ("[] + [1]", "list(int)"),
        ("true ? [] : ['a']", "list(string)"),
        ("url('/')", "kubernetes.URL"),
        ("timestamp(0) - timestamp(0)", "duration"),
        ("type(1)", "type(int)"),
        ("cel.bind(x, names, x.size())", "int"),
        ("names.transformMap(i, v, v)", "map(int, string)"),
        ("object + 1", "int"),
        ("object + object", "dyn"),
        ("dyn(1)", "dyn"),
    ];
    for (source, wanted) in table {
        let program = Program::compile(source, &declared).unwrap_or_else(|why| panic!("{why}"));
        assert_eq!(program.result_type().to_string(), wanted, "{source}");
    }
}

#[test]
fn a_wanted_type_is_demanded() {
    let declared = Declarations::new();
    assert!(Program::compile_to("true", &Type::Bool, &declared).is_ok());
    assert!(Program::compile_to("dyn(1)", &Type::Bool, &declared).is_ok());
    let refused = Program::compile_to("'a'", &Type::Bool, &declared).unwrap_err();
    assert_eq!(refused.to_string(), "must evaluate to bool");
}
