//! How long an expression takes: compiled once, then evaluated against a document again and again.
//!
//! ```sh
//! cargo run --release -p k8s-core --example rules
//! ```
//!
//! The aim is at most 3 us for each of these rules. Every rule is measured several times, and the fastest round counts:
//! what disturbs a machine only ever makes it slower.
#![allow(clippy::disallowed_methods)] // It measures.
#![allow(clippy::print_stdout)] // It tells.

use std::time::Instant;

use k8s_core::{
    cel::{Activation, Budget, Declarations, Program, Type, Value},
    doc,
    doc::Doc,
    schema::Schema,
};

/// What a rule may spend, and more than any of these does.
const BUDGET: u64 = 10_000_000;
const ROUNDS: usize = 9;
const EVALUATIONS: u32 = 20_000;

fn main() {
    let schema = Schema::structural(&doc!({"type": "object", "properties": {
        "replicas": {"type": "integer"}, "maxReplicas": {"type": "integer"},
        "items": {"type": "array", "maxItems": 10, "items": {"type": "string", "maxLength": 20}}}}));
    let object = doc!({"replicas": 3, "maxReplicas": 5, "items": ["one", "two", "three", "four", "five", "six"]});
    let typed = Declarations::new().variable_of("self", Type::of_schema(&schema));
    let pod = pod();
    let dynamic = Declarations::new().variable_of("object", Type::Dyn);
    for rule in ["self.replicas <= self.maxReplicas", "self.items.all(x, x.size() < 10)"] {
        let program = Program::compile(rule, &typed).expect("the rule compiles");
        measure(&program, "self", || Value::of_node(&object, schema.root()));
    }
    for rule in [
        "object.spec.containers.all(c, c.image.startsWith('a/'))",
        "object.spec.containers.all(c, has(c.resources.limits) && c.securityContext.runAsNonRoot == true)",
        "has(object.metadata.labels) && 'app' in object.metadata.labels",
    ] {
        let program = Program::compile(rule, &dynamic).expect("the rule compiles");
        measure(&program, "object", || Value::of(&pod));
    }
}

/// A pod of three containers.
fn pod() -> Doc {
    let container = |name: usize| {
        doc!({"name": format!("c{name}"), "image": format!("a/app:v{name}"), "args": ["--flag=value"],
            "resources": {"limits": {"cpu": "1", "memory": "1Gi"}}, "securityContext": {"runAsNonRoot": true}})
    };
    let containers = Doc::Array((0..3).map(container).collect());
    let mut pod = doc!({"metadata": {"name": "p", "labels": {"app": "x", "tier": "y"}}, "spec": {}});
    pod.set_at(&["spec", "containers"], containers);
    pod
}

fn measure<'a>(program: &'a Program, name: &'a str, value: impl Fn() -> Value<'a>) {
    let mut best = f64::INFINITY;
    for _ in 0..ROUNDS {
        let started = Instant::now();
        for _ in 0..EVALUATIONS {
            let variables = Activation::new().bind(name, value());
            let outcome = program.evaluate(&variables, &mut Budget::new(BUDGET));
            assert_eq!(outcome.expect("a value").as_bool(), Some(true), "{}", program.source());
        }
        best = best.min(started.elapsed().as_secs_f64() / f64::from(EVALUATIONS));
    }
    println!("{:7.3} us  {}", best * 1e6, program.source());
}
