//! Selectors: what is printed reads back as the same, and chooses the same.

use std::{collections::BTreeMap, fmt::Display, str::FromStr};

use k8s_core::selector::{FieldSelector, LabelSelector, Operator};

pub fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Some(labels) = round_trip::<LabelSelector>(text) {
        choose(&labels);
    }
    round_trip::<FieldSelector>(text);
}

fn round_trip<S: FromStr + Display + PartialEq + std::fmt::Debug>(text: &str) -> Option<S>
where
    S::Err: Display,
{
    let read = text.parse::<S>().ok()?;
    let printed = read.to_string();
    match printed.parse::<S>() {
        Ok(again) => assert_eq!(again, read, "it was printed as {printed:?}"),
        Err(why) => panic!("{printed:?} was printed, but {why}"),
    }
    Some(read)
}

/// Labels that have the first value of every requirement meet all of them but those that want something else.
fn choose(selector: &LabelSelector) {
    let mut labels = BTreeMap::new();
    for requirement in selector.requirements() {
        if let Operator::In(values) = &requirement.operator {
            labels.extend(values.first().map(|value| (requirement.key.clone(), value.clone())));
        }
    }
    for requirement in selector.requirements() {
        let present = labels.get(&requirement.key);
        let expected = match (&requirement.operator, present) {
            (Operator::In(values), Some(value)) => values.contains(value),
            (Operator::NotIn(values), Some(value)) => !values.contains(value),
            (Operator::Exists, present) => present.is_some(),
            (Operator::DoesNotExist | Operator::NotIn(_), present) => present.is_none(),
            _ => continue,
        };
        assert_eq!(requirement.matches(&labels), expected, "{requirement} of {labels:?}");
    }
}
