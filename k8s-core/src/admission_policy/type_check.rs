//! What a policy's expressions would fail with for the kinds that it names: the warnings of its status.

use super::{Problem, compile};
use crate::{
    cel::Type,
    doc::Doc,
    registry::{Registry, ResourceInfo},
    request::ResourceType,
};

/// At most so many kinds are looked at.
const MAX_KINDS: usize = 10;

/// Warnings by the place of the expression, each of them naming the kinds that it is about. Kinds that a rule names by
/// `*`, and kinds that are not served, are not looked at.
pub fn type_warnings(policy: &Doc, registry: &Registry) -> Vec<(String, String)> {
    let params = params_type(policy, registry);
    let mut warnings: Vec<(String, Vec<String>)> = Vec::new();
    for info in kinds(policy, registry) {
        let Some(schema) = registry.schema(info) else { continue };
        let (_, problems) = compile(policy, &Type::of_schema(&schema), &params);
        for Problem { path, error, .. } in problems {
            let warning = format!("{}, Kind={}: {error}", info.api_version(), info.kind);
            match warnings.iter_mut().find(|(known, _)| *known == path) {
                Some((_, all)) => all.push(warning),
                None => warnings.push((path, vec![warning])),
            }
        }
    }
    warnings.into_iter().map(|(path, all)| (path, all.join("\n"))).collect()
}

fn params_type(policy: &Doc, registry: &Registry) -> Type {
    let version = policy.str_at(&["spec", "paramKind", "apiVersion"]);
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    let info = registry.find_kind(group, version, policy.str_at(&["spec", "paramKind", "kind"]));
    info.and_then(|info| registry.schema(info)).map_or(Type::Dyn, |schema| Type::of_schema(&schema))
}

/// The kinds that the rules name.
fn kinds<'r>(policy: &Doc, registry: &'r Registry) -> Vec<&'r ResourceInfo> {
    let texts = |rule: &Doc, field: &str| -> Vec<String> {
        let items = rule.get(field).map_or(&[][..], Doc::items);
        items.iter().filter_map(Doc::as_str).filter(|text| !text.contains('*')).map(str::to_owned).collect()
    };
    let mut found: Vec<&ResourceInfo> = Vec::new();
    for rule in policy.at(&["spec", "matchConstraints", "resourceRules"]).map_or(&[][..], Doc::items) {
        for group in texts(rule, "apiGroups") {
            for version in texts(rule, "apiVersions") {
                for resource in texts(rule, "resources").iter().filter(|resource| !resource.contains('/')) {
                    let wanted = ResourceType::new(group.as_str(), version.as_str(), resource.as_str());
                    let info = registry.find(&wanted).filter(|info| info.is_served());
                    let new = info.filter(|info| found.iter().all(|known| known.resource() != info.resource()));
                    found.extend(new.map(|info| &**info));
                }
            }
        }
    }
    found.truncate(MAX_KINDS);
    found
}
