//! How long a rule takes: printed, and held to a bound that only a gross mistake breaks.
#![allow(clippy::disallowed_methods)] // It measures.

use std::time::Instant;

use super::dynamic;
use crate::{
    cel::{Activation, Budget, Program, Value},
    doc::Doc,
};

fn pod() -> Doc {
    let container = |name: usize| {
        format!(
            r#"{{"name":"c{name}","image":"registry.example.com/team/app:v{name}","args":["--flag=value","--other=thing"],
            "env":[{{"name":"A","value":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}},{{"name":"B","value":"bbbbbbbbbbbbbbbbbbbbbbbbbb"}}],
            "resources":{{"requests":{{"cpu":"100m","memory":"128Mi"}},"limits":{{"cpu":"1","memory":"1Gi"}}}},
            "securityContext":{{"runAsNonRoot":true,"allowPrivilegeEscalation":false}},
            "volumeMounts":[{{"name":"data","mountPath":"/var/lib/data/with/a/long/path"}}]}}"#
        )
    };
    let containers: Vec<String> = (0..12).map(container).collect();
    let text = format!(
        r#"{{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"p","namespace":"n","labels":{{"app":"x","tier":"y"}}}},
        "spec":{{"containers":[{}],"nodeSelector":{{"a":"b"}}}}}}"#,
        containers.join(",")
    );
    assert!(text.len() > 5_500, "{}", text.len());
    Doc::parse(text.as_bytes()).unwrap()
}

#[test]
fn a_simple_rule_takes_microseconds() {
    let pod = pod();
    let mut slowest = 0.0f64;
    for rule in [
        "object.metadata.name.size() <= 63",
        "has(object.metadata.labels) && 'app' in object.metadata.labels",
        "object.spec.containers.all(c, c.image.startsWith('registry.example.com/'))",
        "object.spec.containers.all(c, has(c.resources.limits) && c.securityContext.runAsNonRoot == true)",
    ] {
        let started = Instant::now();
        for _ in 0..100 {
            Program::compile(rule, &dynamic(&["object"])).unwrap();
        }
        let compile = started.elapsed().as_secs_f64() * 1e6 / 100.0;
        let program = Program::compile(rule, &dynamic(&["object"])).unwrap();
        let rounds = 2_000;
        let started = Instant::now();
        for _ in 0..rounds {
            let variables = Activation::new().bind("object", Value::of(&pod));
            let outcome = program.evaluate(&variables, &mut Budget::new(1_000_000));
            assert_eq!(outcome.unwrap().as_bool(), Some(true));
        }
        let each = started.elapsed().as_secs_f64() * 1e6 / f64::from(rounds);
        println!("{compile:7.1} us to compile, {each:6.2} us to evaluate (unoptimized): {rule}");
        slowest = slowest.max(each);
    }
    assert!(slowest < 2_000.0, "{slowest} us");
}
