//! Rules as data: what compiles, what it costs, and what breaks it.

use super::*;
use crate::doc;

fn compiled(fields: Doc, rules: Doc) -> (Schema, Rules, Vec<String>) {
    let written = doc!({"type": "object", "properties": {"spec": {
        "type": "object", "properties": fields, "x-kubernetes-validations": rules}}});
    let schema = Schema::structural(&written);
    let (rules, errors) = Rules::compile(&written, &schema, "s");
    (schema, rules, errors.iter().map(ToString::to_string).collect())
}

fn said((schema, rules, errors): &(Schema, Rules, Vec<String>), new: Doc, old: Option<Doc>) -> Vec<String> {
    assert_eq!(errors, &Vec::<String>::new());
    let (new, old) = (doc!({"spec": new}), old.map(|old| doc!({"spec": old})));
    rules.validate(schema, &new, old.as_ref()).iter().map(ToString::to_string).collect()
}

#[test]
fn broken_rules_say_so() {
    let fields =
        doc!({"n": {"type": "integer"}, "most": {"type": "integer"}, "name": {"type": "string", "maxLength": 10}});
    let rules = compiled(
        fields,
        doc!([
            {"rule": "self.n <= self.most", "message": "n is too large", "fieldPath": ".n", "reason": "FieldValueForbidden"},
            {"rule": "!has(self.name) || self.name != 'x'", "messageExpression": "'not ' + self.name"},
            {"rule": "self.n != 7"}
        ]),
    );
    assert_eq!(said(&rules, doc!({"n": 1, "most": 2}), None), Vec::<String>::new());
    assert_eq!(
        said(&rules, doc!({"n": 7, "most": 2, "name": "x"}), None),
        [
            "spec.n: Forbidden: \"object\": n is too large",
            "spec: Invalid value: \"object\": not x",
            "spec: Invalid value: \"object\": failed rule: self.n != 7"
        ]
    );
}

#[test]
fn transition_rules_are_asked_of_changes_alone() {
    let rules = compiled(
        doc!({"n": {"type": "integer"}}),
        doc!([{"rule": "self.n >= oldSelf.n", "message": "n may not fall"}]),
    );
    assert_eq!(said(&rules, doc!({"n": 1}), None), Vec::<String>::new());
    assert_eq!(said(&rules, doc!({"n": 1}), Some(doc!({"n": 2}))), ["spec: Invalid value: \"object\": n may not fall"]);
    let optional = compiled(
        doc!({"n": {"type": "integer"}}),
        doc!([{"rule": "oldSelf.hasValue() || self.n == 0", "message": "begin at 0", "optionalOldSelf": true}]),
    );
    assert_eq!(said(&optional, doc!({"n": 1}), None), ["spec: Invalid value: \"object\": begin at 0"]);
    assert_eq!(said(&optional, doc!({"n": 1}), Some(doc!({"n": 0}))), Vec::<String>::new());
}

#[test]
fn items_are_compared_where_they_can_be_told_apart() {
    let items = |list_type: &str| {
        doc!({"items": {"type": "array", "maxItems": 5, "x-kubernetes-list-type": list_type, "x-kubernetes-list-map-keys": ["k"],
            "items": {"type": "object", "properties": {"k": {"type": "string"}, "v": {"type": "integer"}},
                "x-kubernetes-validations": [{"rule": "self.v >= oldSelf.v", "message": "may not fall"}]}}})
    };
    let rules = compiled(items("map"), doc!([]));
    let old = doc!({"items": [{"k": "a", "v": 1}, {"k": "b", "v": 5}]});
    let new = doc!({"items": [{"k": "b", "v": 4}, {"k": "c", "v": 0}, {"k": "a", "v": 2}]});
    assert_eq!(said(&rules, new, Some(old)), ["spec.items[0]: Invalid value: \"object\": may not fall"]);
    let (_, _, errors) = compiled(items("atomic"), doc!([]));
    assert!(errors[0].contains("oldSelf cannot be used on the uncorrelatable portion"), "{errors:?}");
}

#[test]
fn what_does_not_compile_or_costs_too_much_is_refused() {
    let text = |bound: Doc| {
        let mut list = doc!({"type": "array", "items": {"type": "string", "maxLength": 10}});
        if !bound.is_null() {
            list.set_at(&["maxItems"], bound);
        }
        doc!({"list": list, "n": {"type": "integer"}})
    };
    let quadratic = "self.list.all(x, self.list.exists(y, x == y))";
    let cases = [
        (doc!({"rule": "self.nothing == 1"}), "compilation failed"),
        (doc!({"rule": "self.n + 1"}), "must evaluate to bool"),
        (doc!({"rule": ""}), "rule is not specified"),
        (doc!({"rule": "true", "messageExpression": "1"}), "messageExpression compilation failed"),
        (doc!({"rule": "true", "reason": "Odd"}), "Unsupported value: \"Odd\""),
        (doc!({"rule": "true", "fieldPath": ".odd"}), "s.properties[spec].x-kubernetes-validations[0].fieldPath"),
        (doc!({"rule": quadratic}), "estimated rule cost exceeds budget by factor of more than 100x"),
    ];
    for (rule, expected) in cases {
        let (_, _, errors) = compiled(text(Doc::Null), Doc::Array(vec![rule]));
        assert!(errors.iter().any(|error| error.contains(expected)), "{expected}: {errors:?}");
    }
    let (_, _, errors) = compiled(text(20.into()), doc!([{"rule": quadratic}]));
    assert_eq!(errors, Vec::<String>::new());
}

#[test]
fn rules_on_lists_and_text_know_their_bounds() {
    let fields = doc!({"list": {"type": "array", "maxItems": 50, "items": {"type": "string", "maxLength": 20},
        "x-kubernetes-validations": [{"rule": "self.all(x, x.startsWith('a'))", "message": "all begin with a"}]},
        "text": {"type": "string", "maxLength": 20, "x-kubernetes-validations": [{"rule": "self.contains('b')"}]}});
    let rules = compiled(fields, doc!([]));
    assert_eq!(
        said(&rules, doc!({"list": ["ab", "b"], "text": "c"}), None),
        [
            "spec.list: Invalid value: \"array\": all begin with a",
            "spec.text: Invalid value: \"string\": failed rule: self.contains('b')"
        ]
    );
}
