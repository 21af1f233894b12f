//! `--controllers`: which of the built-in controllers run.

use k8s::controllers::start::CONTROLLERS;

/// Upstream's names of old, with today's.
const ALIASES: [(&str, &str); 15] = [
    ("deployment", "deployment-controller"),
    ("replicaset", "replicaset-controller"),
    ("replicationcontroller", "replicationcontroller-controller"),
    ("endpoint", "endpoints-controller"),
    ("endpointslice", "endpointslice-controller"),
    ("nodelifecycle", "node-lifecycle-controller"),
    ("podgc", "pod-garbage-collector-controller"),
    ("disruption", "disruption-controller"),
    ("garbagecollector", "garbage-collector-controller"),
    ("namespace", "namespace-controller"),
    ("serviceaccount", "serviceaccount-controller"),
    ("serviceaccount-token", "serviceaccount-token-controller"),
    ("legacy-service-account-token-cleaner", "legacy-serviceaccount-token-cleaner-controller"),
    ("clusterrole-aggregation", "clusterrole-aggregation-controller"),
    ("root-ca-cert-publisher", "root-ca-certificate-publisher-controller"),
];

/// The controllers that the words of the flag enable: a name enables one, `-name` disables one, and `*` stands for all
/// that are not named. A name counts more than `*`, and the first word about a name more than later ones.
pub fn enabled(words: &[String]) -> Result<Vec<&'static str>, String> {
    let named = |word: &str| {
        let name = ALIASES.iter().find(|(alias, _)| *alias == word).map_or(word, |(_, name)| name);
        CONTROLLERS.iter().map(|(known, _)| *known).find(|known| *known == name)
    };
    for word in words.iter().filter(|word| *word != "*") {
        let name = word.strip_prefix('-').unwrap_or(word);
        if named(name).is_none() {
            let all: Vec<&str> = CONTROLLERS.iter().map(|(name, _)| *name).collect();
            return Err(format!("--controllers: there is no controller {name:?}; there are {}", all.join(", ")));
        }
    }
    let is_on = |name: &&'static str| {
        let word = words.iter().find(|word| named(word.strip_prefix('-').unwrap_or(word)) == Some(*name));
        word.map_or_else(|| words.iter().any(|word| word == "*"), |word| !word.starts_with('-'))
    };
    Ok(CONTROLLERS.iter().map(|(name, _)| *name).filter(is_on).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<&'static str>, String> {
        enabled(&text.split(',').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn names_count_more_than_all() {
        assert_eq!(read("*").unwrap().len(), CONTROLLERS.len());
        let without = read("-deployment-controller,*,-podgc").unwrap();
        assert_eq!(without.len(), CONTROLLERS.len() - 2);
        assert!(!without.contains(&"deployment-controller") && !without.contains(&"pod-garbage-collector-controller"));
        assert_eq!(read("namespace,replicaset-controller").unwrap(), ["replicaset-controller", "namespace-controller"]);
        assert_eq!(read("-namespace").unwrap(), [""; 0]);
        let error = read("*,-no-such-controller").unwrap_err();
        assert!(
            error.starts_with("--controllers: there is no controller \"no-such-controller\"; there are "),
            "{error}"
        );
    }
}
