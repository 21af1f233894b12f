//! The variables of expressions that admission asks: `object`, `oldObject`, `request` and `authorizer`.

use super::{Declarations, Type};

/// What match conditions of webhooks and policies may name, with upstream's types. Objects are dynamic: their fields are
/// looked up when the expression is evaluated.
pub fn declarations() -> Declarations {
    Declarations::new()
        .variable_of("object", Type::Dyn)
        .variable_of("oldObject", Type::Dyn)
        .variable_of("request", request())
        .variable_of("authorizer", Type::Opaque("kubernetes.authorization.Authorizer"))
        .variable_of("authorizer.requestResource", Type::Opaque("kubernetes.authorization.ResourceCheck"))
}

/// The type of `request`: an `AdmissionRequest` without its objects.
pub fn request() -> Type {
    let texts = |name: &str, fields: [&'static str; 3]| Type::record(name, fields.map(|field| (field, Type::String)));
    let kind = || texts("kubernetes.GroupVersionKind", ["group", "version", "kind"]);
    let resource = || texts("kubernetes.GroupVersionResource", ["group", "version", "resource"]);
    let user = Type::record(
        "kubernetes.UserInfo",
        [
            ("username", Type::String),
            ("uid", Type::String),
            ("groups", Type::list(Type::String)),
            ("extra", Type::map(Type::String, Type::list(Type::String))),
        ],
    );
    let fields = [
        ("kind", kind()),
        ("resource", resource()),
        ("subResource", Type::String),
        ("requestKind", kind()),
        ("requestResource", resource()),
        ("requestSubResource", Type::String),
        ("name", Type::String),
        ("namespace", Type::String),
        ("operation", Type::String),
        ("userInfo", user),
        ("dryRun", Type::Bool),
        ("options", Type::Dyn),
    ];
    Type::record("kubernetes.AdmissionRequest", fields)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cel::Program;

    #[test]
    fn what_upstream_documents_compiles_and_what_is_wrong_is_told() {
        for expression in [
            "object.metadata.name != 'skip-me'",
            "!(request.resource.group == 'coordination.k8s.io' && request.resource.resource == 'leases')",
            "!('system:nodes' in request.userInfo.groups)",
            "request.resource.group != 'rbac.authorization.k8s.io'",
            "authorizer.group('').resource('pods').namespace(request.namespace).check('get').allowed()",
            "authorizer.requestResource.check('breakglass').allowed()",
            "oldObject == null || has(object.spec)",
        ] {
            let compiled = Program::compile_to(expression, &Type::Bool, &declarations());
            assert!(compiled.is_ok(), "{expression}: {}", compiled.unwrap_err());
        }
        for expression in ["object.metadata.name ==", "request.nothing == ''", "nobody.name == ''", "request.name"] {
            assert!(Program::compile_to(expression, &Type::Bool, &declarations()).is_err(), "{expression}");
        }
    }
}
