//! `kube-scheduler --config`: a KubeSchedulerConfiguration of `kubescheduler.config.k8s.io/v1`.

use std::{collections::BTreeSet, path::Path};

use k8s::sched::{
    Profile,
    plugins::{self, FILTERS, SCORERS},
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    component::{ClientConnection, LeaderElection},
    config_file::{self, Form},
    program::Failure,
};

/// What is acted on.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct SchedulerConfiguration {
    /// Where the cluster is.
    pub client_connection: ClientConnection,
    /// How the scheduler is elected.
    pub leader_election: LeaderElection,
    profiles: Vec<ProfileConfiguration>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
struct ProfileConfiguration {
    scheduler_name: Option<String>,
    plugins: Plugins,
    plugin_config: Vec<PluginArguments>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
struct Plugins {
    multi_point: PluginSet,
    filter: PluginSet,
    score: PluginSet,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct PluginSet {
    enabled: Vec<Plugin>,
    disabled: Vec<Plugin>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Plugin {
    name: String,
    #[serde(default)]
    weight: i64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PluginArguments {
    name: String,
    args: Value,
}

/// Plugins of upstream's that here are no plugins but how the scheduler works.
const ALWAYS: [&str; 3] = ["SchedulingGates", "PrioritySort", "DefaultBinder"];

const POINT: &str =
    "the plugins of this point work always, as upstream by default; filter, score and multiPoint can be set";

const FORM: Form = Form {
    api_version: "kubescheduler.config.k8s.io/v1",
    kind: "KubeSchedulerConfiguration",
    refused: &[
        ("parallelism", &["16"], "pods are decided on one after the other"),
        ("percentageOfNodesToScore", &["0", "100"], "all feasible nodes are scored"),
        ("profiles[].percentageOfNodesToScore", &["0", "100"], "all feasible nodes are scored"),
        ("podInitialBackoffSeconds", &["1"], "the first back-off is 1 s"),
        ("podMaxBackoffSeconds", &["10"], "the longest back-off is 10 s"),
        ("delayCacheUntilActive", &["false", "true"], "caches are filled once the scheduler leads"),
        ("enableProfiling", &["false", "true"], "there is no profiling"),
        ("enableContentionProfiling", &["false", "true"], "there is no profiling"),
        ("extenders", &["[]"], "there are no extenders"),
        ("clientConnection.qps", &["50", "50.0"], "requests are not slowed down by the client"),
        ("clientConnection.burst", &["100"], "requests are not slowed down by the client"),
        ("clientConnection.acceptContentTypes", &["\"\"", "\"application/json\""], "the client speaks JSON"),
        ("clientConnection.contentType", &["\"\"", "\"application/json\""], "the client speaks JSON"),
        ("leaderElection.resourceLock", &["\"leases\""], "the lock is a Lease"),
        ("profiles[].plugins.preEnqueue", &["{}"], POINT),
        ("profiles[].plugins.queueSort", &["{}"], POINT),
        ("profiles[].plugins.preFilter", &["{}"], POINT),
        ("profiles[].plugins.postFilter", &["{}"], POINT),
        ("profiles[].plugins.preScore", &["{}"], POINT),
        ("profiles[].plugins.reserve", &["{}"], POINT),
        ("profiles[].plugins.permit", &["{}"], POINT),
        ("profiles[].plugins.preBind", &["{}"], POINT),
        ("profiles[].plugins.bind", &["{}"], POINT),
        ("profiles[].plugins.postBind", &["{}"], POINT),
    ],
};

impl SchedulerConfiguration {
    /// Reads a file; answers it with its profiles, of which there is at least one.
    pub fn load(path: &Path) -> Result<(Self, Vec<Profile>), Failure> {
        let file: Self = config_file::load(path, &FORM)?;
        let profiles = file.profiles().map_err(|why| format!("{}: {why}", path.display()))?;
        Ok((file, profiles))
    }

    fn profiles(&self) -> Result<Vec<Profile>, String> {
        if self.profiles.is_empty() {
            return Ok(vec![Profile::default()]);
        }
        let mut names = BTreeSet::new();
        let mut profiles = Vec::new();
        for (index, profile) in self.profiles.iter().enumerate() {
            let at = format!("profiles[{index}]");
            let name = profile.scheduler_name.as_deref().unwrap_or("default-scheduler");
            if name.is_empty() || !names.insert(name) {
                return Err(format!("{at}.schedulerName: {name:?} must be set, and differ from the other profiles'"));
            }
            profiles.push(profile.resolve(name, &at)?);
        }
        Ok(profiles)
    }
}

impl ProfileConfiguration {
    fn resolve(&self, scheduler_name: &str, at: &str) -> Result<Profile, String> {
        for (index, plugin) in self.plugin_config.iter().enumerate() {
            plugin.check(&format!("{at}.pluginConfig[{index}]"))?;
        }
        let mut filters: Vec<&str> = FILTERS.to_vec();
        let mut scorers: Vec<(&str, i64)> = SCORERS.to_vec();
        let Plugins { multi_point, filter, score } = &self.plugins;
        let at = format!("{at}.plugins");
        let everything: Vec<&str> =
            FILTERS.iter().copied().chain(SCORERS.iter().map(|(name, _)| *name)).chain(ALWAYS).collect();
        let scoring: Vec<&str> = SCORERS.iter().map(|(name, _)| *name).collect();
        multi_point.check(&format!("{at}.multiPoint"), &everything)?;
        filter.check(&format!("{at}.filter"), &FILTERS)?;
        score.check(&format!("{at}.score"), &scoring)?;
        multi_point.keep_always(&format!("{at}.multiPoint"))?;
        for set in [multi_point, filter] {
            filters.retain(|name| !set.disables(name));
        }
        for set in [multi_point, score] {
            scorers.retain(|(name, _)| !set.disables(name));
        }
        for plugin in multi_point.enabled.iter().chain(&filter.enabled) {
            if let Some(name) = FILTERS.iter().find(|name| **name == plugin.name)
                && !filters.contains(name)
            {
                filters.push(name);
            }
        }
        for plugin in multi_point.enabled.iter().chain(&score.enabled) {
            let Some((name, usual)) = SCORERS.iter().find(|(name, _)| *name == plugin.name) else { continue };
            let weight = if plugin.weight == 0 { *usual } else { plugin.weight };
            match scorers.iter_mut().find(|(known, _)| known == name) {
                Some(scorer) => scorer.1 = weight,
                None => scorers.push((name, weight)),
            }
        }
        // Invariant: the names come from the lists of all plugins.
        plugins::profile(scheduler_name, &filters, &scorers).ok_or_else(|| format!("{at}: plugins are missing"))
    }
}

impl PluginSet {
    fn disables(&self, name: &str) -> bool {
        self.disabled.iter().any(|plugin| plugin.name == "*" || plugin.name == name)
    }

    fn check(&self, at: &str, known: &[&str]) -> Result<(), String> {
        let named = |list: &str, index: usize| format!("{at}.{list}[{index}]");
        for (index, plugin) in self.enabled.iter().enumerate() {
            if !known.contains(&plugin.name.as_str()) {
                let list = known.join(", ");
                return Err(format!(
                    "{}.name: there is no plugin {:?}; there are {list}",
                    named("enabled", index),
                    plugin.name
                ));
            }
            if !(0..=100).contains(&plugin.weight) {
                return Err(format!("{}.weight: {} is not from 0 to 100", named("enabled", index), plugin.weight));
            }
        }
        let unknown =
            self.disabled.iter().position(|plugin| plugin.name != "*" && !known.contains(&plugin.name.as_str()));
        match unknown {
            Some(index) => {
                Err(format!("{}.name: there is no plugin {:?}", named("disabled", index), self.disabled[index].name))
            }
            None => Ok(()),
        }
    }

    fn keep_always(&self, at: &str) -> Result<(), String> {
        let enables = |name: &str| self.enabled.iter().any(|plugin| plugin.name == name);
        match ALWAYS.iter().find(|name| self.disables(name) && !enables(name)) {
            Some(name) => Err(format!("{at}.disabled: {name} works always; enable it beside")),
            None => Ok(()),
        }
    }
}

impl PluginArguments {
    /// No argument of a plugin can be set; those that say what holds anyway are let through.
    fn check(&self, at: &str) -> Result<(), String> {
        let mut args = self.args.clone();
        let Some(fields) = args.as_object_mut() else { return Err(format!("{at}.args: it is no mapping")) };
        fields.retain(|name, _| !matches!(name.as_str(), "apiVersion" | "kind"));
        let both = json!([{"name": "cpu", "weight": 1}, {"name": "memory", "weight": 1}]);
        let usual = match self.name.as_str() {
            "NodeResourcesFit" => json!({"scoringStrategy": {"type": "LeastAllocated", "resources": both},
                "ignoredResources": [], "ignoredResourceGroups": []}),
            "NodeResourcesBalancedAllocation" => json!({"resources": both}),
            "NodeAffinity" => json!({}),
            other => return Err(format!("{at}.name: there is no plugin {other:?} with arguments")),
        };
        match fields.iter().find(|(name, value)| usual.get(name.as_str()) != Some(*value)) {
            Some((name, _)) => {
                Err(format!("{at}.args.{name}: it is not supported: the plugin works with its defaults"))
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s::{
        core::api::api::core::v1::{Node, Pod},
        sched::{Decision, PodInfo, Snapshot, schedule_one},
    };

    use super::*;

    #[test]
    fn plugins_that_are_disabled_do_not_decide() {
        let node: Node = serde_json::from_value(json!({
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}, "spec": {"unschedulable": true},
            "status": {"allocatable": {"cpu": "1", "memory": "1Gi", "pods": "9"}},
        }))
        .unwrap();
        let pod: Pod = serde_json::from_value(json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "n", "uid": "u"},
            "spec": {"containers": []},
        }))
        .unwrap();
        let mut snapshot = Snapshot::default();
        snapshot.set_node(&node);
        let all = "{multiPoint: {disabled: [{name: '*'}], \
                   enabled: [{name: SchedulingGates}, {name: PrioritySort}, {name: DefaultBinder}, {name: ImageLocality}]}}";
        let cases = [
            ("{}", false),
            (
                "{filter: {disabled: [{name: NodeUnschedulable}]}, score: {enabled: [{name: NodeAffinity, weight: 9}]}}",
                true,
            ),
            ("{filter: {disabled: [{name: '*'}], enabled: [{name: NodeUnschedulable}]}}", false),
            (all, true),
        ];
        for (plugins, fits) in cases {
            let profile: ProfileConfiguration = serde_saphyr::from_str(&format!("plugins: {plugins}")).unwrap();
            let profile = profile.resolve("default-scheduler", "profiles[0]").unwrap();
            let decision = schedule_one(&snapshot, &PodInfo::new(&pod), &profile, 0);
            assert_eq!(matches!(decision, Decision::Node { .. }), fits, "{plugins}");
        }
    }
}
