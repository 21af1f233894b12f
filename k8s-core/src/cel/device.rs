//! The variable of expressions that select devices (`resource.k8s.io`): `device`.

use super::{Declarations, Program, Type};

/// What a selector may name, with upstream's types. Attributes and capacities are kept by domain and then by name.
pub fn declarations() -> Declarations {
    let by_name = |of: Type| Type::map(Type::String, Type::map(Type::String, of));
    let device = [
        ("driver", Type::String),
        ("attributes", by_name(Type::Dyn)),
        ("capacity", by_name(Type::Opaque("kubernetes.Quantity"))),
        ("allowMultipleAllocations", Type::Bool),
    ];
    Declarations::new().variable_of("device", Type::record("kubernetes.DRADevice", device))
}

/// Compiles a selector. The error is worded as upstream's.
pub fn compile(expression: &str) -> Result<Program, String> {
    let program = Program::compile(expression, &declarations()).map_err(|why| format!("compilation failed: {why}"))?;
    match program.result_type() {
        Type::Bool | Type::Dyn => Ok(program),
        other => Err(format!("must evaluate to bool or the unknown type, not {other}")),
    }
}

#[cfg(test)]
mod tests {
    use super::compile;

    #[test]
    fn what_upstream_documents_compiles_and_what_is_wrong_is_told() {
        for expression in [
            "device.driver == 'gpu.example.com'",
            "device.attributes['gpu.example.com'].model == 'a100'",
            "'gpu.example.com' in device.attributes && device.attributes['gpu.example.com'].shared",
            "device.capacity['gpu.example.com'].memory.compareTo(quantity('10Gi')) >= 0",
            "cel.bind(dra, device.attributes['dra.example.com'], dra.someBool && dra.anotherBool)",
            "device.attributes['dra.example.com'].version.isGreaterThan(semver('1.2.3'))",
            "device.attributes['dra.example.com'].flag",
        ] {
            assert!(compile(expression).is_ok(), "{expression}: {}", compile(expression).unwrap_err());
        }
        let said = |expression: &str| compile(expression).unwrap_err();
        assert!(said("device.driver ==").starts_with("compilation failed: "));
        assert!(said("device.colour == 'red'").starts_with("compilation failed: "));
        assert_eq!(said("device.driver"), "must evaluate to bool or the unknown type, not string");
    }
}
