//! What people type: each command of `kubectl`, with the answer that they are used to.

mod pods;

use std::{collections::BTreeSet, fs, os::unix::fs::PermissionsExt};

use super::{
    kubectl::Kubectl,
    machine::Machine,
    scenario::{IMAGE, ask},
};

/// Somebody at a terminal, in a namespace of their own.
pub struct Hand<'a> {
    kubectl: Kubectl,
    machine: &'a Machine,
    namespace: String,
    /// The minor version of `kubectl`: older ones lack commands.
    minor: u32,
}

impl<'a> Hand<'a> {
    /// `version` is such as `1.37`.
    pub fn new(kubectl: Kubectl, machine: &'a Machine, version: &str) -> Self {
        let minor = version.split_once('.').and_then(|(_, minor)| minor.parse().ok()).expect("a version");
        Self { kubectl, machine, namespace: format!("hand-{minor}"), minor }
    }

    /// Types them all.
    pub fn types_everything(&self) {
        let Self { kubectl, namespace, .. } = self;
        assert_eq!(kubectl.run(&["create", "namespace", namespace]), format!("namespace/{namespace} created\n"));
        self.asks_what_there_is();
        self.creates();
        self.shows();
        self.edits();
        self.marks();
        self.rolls();
        self.runs_and_attaches();
        self.reads_logs_and_events();
        self.copies_and_forwards();
        self.asks_what_is_allowed();
        self.tends_nodes();
        self.deletes();
    }

    fn asks_what_there_is(&self) {
        let version: serde_json::Value = serde_json::from_str(&self.kubectl.run(&["version", "-o", "json"])).unwrap();
        assert_eq!(version["serverVersion"]["minor"], "37", "{version}");
        let named = self.kubectl.run(&["api-resources", "--namespaced=true", "-o", "name"]);
        assert!(named.lines().any(|line| line == "deployments.apps"), "{named}");
        let wide = self.kubectl.run(&["api-resources", "--api-group=apps", "--no-headers"]);
        assert!(wide.lines().any(|line| line.starts_with("deployments ") && line.contains("deploy")), "{wide}");
        let versions = self.kubectl.run(&["api-versions"]);
        assert!(versions.lines().any(|line| line == "apps/v1"), "{versions}");
        let explained = self.kubectl.run(&["explain", "deployment.spec.replicas"]);
        assert!(explained.contains("<integer>") && explained.contains("Number of desired pods"), "{explained}");
        let explained = self.kubectl.run(&["explain", "pods", "--recursive"]);
        assert!(explained.contains("terminationGracePeriodSeconds"), "{explained}");
        assert!(self.kubectl.run(&["cluster-info"]).contains("is running at"));
    }

    fn creates(&self) {
        self.says(&["create", "configmap", "settings", "--from-literal=a=1", "--from-literal=b=2"], "created");
        self.says(&["create", "secret", "generic", "key", "--from-literal=password=hunter2"], "created");
        self.says(&["create", "serviceaccount", "robot"], "created");
        let deployment = ["create", "deployment", "web", "--image", IMAGE, "--port=8080", "--replicas=2"];
        let drafted = self.k(&[&deployment, &["--dry-run=client", "-o", "yaml"][..]].concat());
        // A shell's server hears no polite signal: it need not have long.
        let grace = "    spec:\n      terminationGracePeriodSeconds: 1\n      containers:";
        let drafted = drafted.replace("    spec:\n      containers:", grace);
        self.kubectl.run_with(&["-n", &self.namespace, "create", "-f", "-"], &drafted);
        let again = self.fails(&deployment);
        assert!(again.contains("already exists"), "{again}");
        let dry = self.k(&["create", "deployment", "dry", "--image", IMAGE, "--dry-run=server", "-o", "name"]);
        assert_eq!(dry, "deployment.apps/dry\n");
        assert!(self.fails(&["get", "deployment", "dry"]).contains("NotFound"));
        self.says(&["expose", "deployment", "web", "--port=80", "--target-port=8080"], "service/web exposed");
        self.says(&["wait", "--for=condition=Available", "deployment/web", "--timeout=60s"], "condition met");
        self.says(&["wait", "--for=condition=Ready", "pod", "-l", "app=web", "--timeout=60s"], "condition met");
        let address = self.k(&["get", "service", "web", "-o", "jsonpath={.spec.clusterIP}"]);
        let pods = self.pods();
        super::kubectl::eventually("the service answers", || {
            let said = ask(&format!("{address}:80"), "/")?;
            if pods.contains(said.trim()) { Ok(()) } else { Err(said) }
        });
    }

    fn shows(&self) {
        let pods: Vec<String> = self.pods().into_iter().collect();
        let wide = self.k(&["get", "pods", "-o", "wide"]);
        assert!(wide.lines().next().is_some_and(|head| head.contains(" IP ") && head.contains(" NODE ")), "{wide}");
        assert!(wide.contains("10.244."), "{wide}");
        let yaml = self.k(&["get", "configmap", "settings", "-o", "yaml"]);
        assert!(yaml.contains("kind: ConfigMap") && yaml.contains("  a: \"1\""), "{yaml}");
        let json: serde_json::Value = serde_json::from_str(&self.k(&["get", "pods", "-o", "json"])).unwrap();
        assert_eq!((json["kind"].as_str(), json["items"].as_array().map(Vec::len)), (Some("List"), Some(2)));
        let names = self.k(&["get", "pods", "-o", "name", "--sort-by=.metadata.name"]);
        assert_eq!(names, pods.iter().map(|pod| format!("pod/{pod}\n")).collect::<String>());
        let columns = "custom-columns=NAME:.metadata.name,IMAGE:.spec.containers[0].image";
        let columns = self.k(&["get", "pods", "-o", columns, "--sort-by=.metadata.name"]);
        let rows: Vec<Vec<&str>> = columns.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(rows, [["NAME", "IMAGE"], [&pods[0], IMAGE], [&pods[1], IMAGE]]);
        let template = "go-template={{range .items}}{{.metadata.name}} {{end}}";
        assert_eq!(self.k(&["get", "pods", "-o", template]).split_whitespace().count(), 2);
        let named = ["get", "pods", "-o", "name", "--field-selector", &format!("metadata.name={}", pods[0])];
        assert_eq!(self.k(&named), format!("pod/{}\n", pods[0]));
        assert_eq!(self.k(&["get", "pods", "-o", "name", "-l", "app in (web,other)"]).lines().count(), 2);
        assert_eq!(self.k(&["get", "pods", "-o", "name", "-l", "app notin (web)"]), "");
        let labels = self.k(&["get", "pods", "--show-labels", "-L", "app"]);
        assert!(
            labels.contains("LABELS") && labels.contains(" APP") && labels.contains("pod-template-hash="),
            "{labels}"
        );
        let several = self.k(&["get", "all,configmaps", "-o", "name"]);
        for name in ["pod/", "service/web", "deployment.apps/web", "replicaset.apps/web-", "configmap/settings"] {
            assert!(several.contains(name), "{several}");
        }
        let everywhere = self.kubectl.run(&["get", "pods", "-A", "--no-headers"]);
        assert!(everywhere.lines().filter(|line| line.starts_with(&self.namespace)).count() == 2, "{everywhere}");
        for (what, words) in [
            (format!("pod/{}", pods[0]), &["Successfully assigned", "Controlled By:  ReplicaSet/web-"][..]),
            ("deployment/web".to_owned(), &["RollingUpdateStrategy:", "2 desired", "Scaled up replica set"]),
            ("service/web".to_owned(), &["TargetPort:", "Endpoints:"]),
            ("configmap/settings".to_owned(), &["settings"]),
            ("secret/key".to_owned(), &["password:  7 bytes"]),
        ] {
            let described = self.k(&["describe", &what]);
            words.iter().for_each(|word| assert!(described.contains(word), "no {word:?} in {described}"));
        }
        let node = self.node();
        let described = self.kubectl.run(&["describe", "node", &node]);
        assert!(described.contains("Allocated resources:") && described.contains(&pods[0]), "{described}");
    }

    fn edits(&self) {
        let manifest = self.k(&["get", "configmap", "settings", "-o", "yaml"]);
        let changed = manifest.replace("a: \"1\"", "a: \"2\"");
        let named = &["-n", &self.namespace][..];
        let with = |arguments: &[&str], input: &str| self.kubectl.run_with(&[named, arguments].concat(), input);
        assert!(with(&["replace", "-f", "-"], &changed).contains("replaced"));
        let stale =
            self.kubectl.try_run_with(&[named, &["replace", "-f", "-"]].concat(), &changed.replace("\"2\"", "\"9\""));
        let said = String::from_utf8_lossy(&stale.stderr).into_owned();
        assert!(said.contains("Conflict") && said.contains("has been modified"), "a stale copy is refused: {said}");

        let settings =
            |a: &str| format!("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: applied\ndata:\n  a: \"{a}\"\n");
        assert!(with(&["apply", "-f", "-"], &settings("1")).contains("created"));
        assert_eq!(with(&["diff", "-f", "-"], &settings("1")), "");
        let differs = self.kubectl.try_run_with(&[named, &["diff", "-f", "-"]].concat(), &settings("2"));
        let said = String::from_utf8_lossy(&differs.stdout).into_owned();
        assert!(
            differs.status.code() == Some(1) && said.contains("-  a: \"1\"") && said.contains("+  a: \"2\""),
            "{said}"
        );
        assert!(with(&["apply", "-f", "-"], &settings("2")).contains("configured"));
        let owned =
            with(&["apply", "--server-side", "--field-manager=other", "--force-conflicts", "-f", "-"], &settings("3"));
        assert_eq!(owned, "configmap/applied serverside-applied\n");
        let arguments = [named, &["apply", "--server-side", "--field-manager=third", "-f", "-"]].concat();
        let conflict = self.kubectl.try_run_with(&arguments, &settings("4"));
        let said = String::from_utf8_lossy(&conflict.stderr).into_owned();
        assert!(!conflict.status.success() && said.contains("conflict with \"other\""), "{said}");

        let editor = self.machine.folder("editor");
        fs::write(&editor, "#!/bin/sh\nsed -i 's/a: \"3\"/a: \"edited\"/' \"$1\"\n").unwrap();
        fs::set_permissions(&editor, fs::Permissions::from_mode(0o755)).unwrap();
        let edited = self.kubectl.edit(&editor, &[named, &["edit", "configmap", "applied"]].concat());
        assert!(edited.contains("configmap/applied edited"), "{edited}");
        assert_eq!(self.data("applied", "a"), "edited");

        self.says(&["patch", "configmap", "applied", "-p", r#"{"data":{"b":"strategic"}}"#], "patched");
        self.says(
            &["patch", "configmap", "applied", "--type=merge", "-p", r#"{"data":{"a":null,"c":"merge"}}"#],
            "patched",
        );
        let operations =
            r#"[{"op":"test","path":"/data/b","value":"strategic"},{"op":"move","from":"/data/b","path":"/data/d"}]"#;
        self.says(&["patch", "configmap", "applied", "--type=json", "-p", operations], "patched");
        assert_eq!(
            self.k(&["get", "configmap", "applied", "-o", "jsonpath={.data}"]),
            r#"{"c":"merge","d":"strategic"}"#
        );
        let again = self.fails(&["patch", "configmap", "applied", "--type=json", "-p", operations]);
        assert!(again.contains("invalid"), "{again}");
        let replaced = with(&["replace", "--force", "-f", "-"], &settings("new"));
        assert!(replaced.contains("deleted") && replaced.contains("replaced"), "{replaced}");
        assert_eq!(self.data("applied", "a"), "new");
    }

    fn marks(&self) {
        self.says(&["label", "configmap", "applied", "tier=front"], "labeled");
        let refused = self.fails(&["label", "configmap", "applied", "tier=back"]);
        assert!(refused.contains("already has a value"), "{refused}");
        self.says(&["label", "configmap", "applied", "tier=back", "--overwrite"], "labeled");
        assert_eq!(self.k(&["get", "configmaps", "-l", "tier=back", "-o", "name"]), "configmap/applied\n");
        self.k(&["label", "configmap", "applied", "tier-"]);
        assert_eq!(self.k(&["get", "configmaps", "-l", "tier", "-o", "name"]), "");
        self.says(&["annotate", "configmap", "applied", "example.com/owner=me"], "annotated");
        let path = "jsonpath={.metadata.annotations.example\\.com/owner}";
        assert_eq!(self.k(&["get", "configmap", "applied", "-o", path]), "me");
        self.k(&["annotate", "configmap", "applied", "example.com/owner-"]);
        assert_eq!(self.k(&["get", "configmap", "applied", "-o", path]), "");
    }

    fn asks_what_is_allowed(&self) {
        let robot = format!("system:serviceaccount:{}:robot", self.namespace);
        let given = format!("--serviceaccount={}:robot", self.namespace);
        assert_eq!(self.k(&["auth", "can-i", "delete", "nodes"]).trim(), "yes");
        let asked = ["auth", "can-i", "list", "pods", "--as", &robot];
        let no = self.kubectl.try_run(&[&["-n", &self.namespace], &asked[..]].concat());
        assert_eq!((no.status.code(), String::from_utf8_lossy(&no.stdout).trim()), (Some(1), "no"));
        self.says(&["create", "role", "reader", "--verb=get,list", "--resource=pods"], "created");
        self.says(&["create", "rolebinding", "reader", "--role=reader", &given], "created");
        self.until(&asked, |said| said.trim() == "yes");
        let list = self.k(&["auth", "can-i", "--list", "--as", &robot]);
        assert!(list.lines().any(|line| line.starts_with("pods ") && line.contains("[get list]")), "{list}");
        assert!(self.k(&["get", "pods", "--as", &robot]).contains("ear"));
        assert!(self.fails(&["get", "secrets", "--as", &robot]).contains("Forbidden"));
        if self.minor >= 28 {
            let who = self.k(&["auth", "whoami", "--as", &robot, "-o", "jsonpath={.status.userInfo.username}"]);
            assert_eq!(who, robot);
            assert_eq!(self.k(&["create", "token", "robot"]).trim().split('.').count(), 3);
        }
    }

    fn tends_nodes(&self) {
        let node = self.node();
        let k = |arguments: &[&str]| self.kubectl.run(arguments);
        let taints = "jsonpath={.spec.taints[*].key}";
        assert!(k(&["taint", "nodes", &node, "example.com/busy=yes:NoSchedule"]).contains("tainted"));
        assert_eq!(k(&["get", "node", &node, "-o", taints]), "example.com/busy");
        assert!(k(&["taint", "nodes", &node, "example.com/busy-"]).contains("untainted"));
        assert!(k(&["cordon", &node]).contains("cordoned"));
        assert!(k(&["get", "nodes"]).contains("Ready,SchedulingDisabled"));
        let ours = format!("kubernetes.io/metadata.name={}", self.namespace);
        assert_eq!(k(&["get", "namespaces", "-l", &ours, "-o", "name"]), format!("namespace/{}\n", self.namespace));
        let before = self.pods();
        let drained = k(&["drain", &node, "--pod-selector=app=web", "--ignore-daemonsets", "--delete-emptydir-data"]);
        assert!(drained.contains("evicted"), "{drained}");
        self.until(&["get", "pods", "-l", "app=web", "--field-selector=status.phase=Pending", "-o", "name"], |said| {
            said.lines().count() == 1
        });
        assert!(k(&["uncordon", &node]).contains("uncordoned"));
        self.says(&["rollout", "status", "deployment/web", "--timeout=60s"], "successfully rolled out");
        assert!(self.pods().is_disjoint(&before), "the evicted pod was replaced");
    }

    fn deletes(&self) {
        self.says(&["delete", "configmap", "settings", "applied"], "configmap \"settings\" deleted");
        self.says(&["delete", "pod", "ear", "--now", "--wait=false"], "deleted");
        self.k(&["wait", "--for=delete", "pod/ear", "--timeout=60s"]);
        self.says(&["delete", "pod", "crash", "--grace-period=0", "--force"], "deleted");
        self.says(&["delete", "deployment", "web", "--cascade=orphan"], "deleted");
        assert_eq!(self.pods().len(), 1, "orphans stay");
        self.says(&["delete", "replicasets", "-l", "app=web"], "deleted");
        self.until(&["get", "pods", "-o", "name"], str::is_empty);
        self.says(&["delete", "secrets,serviceaccounts,roles,rolebindings", "--all", "--wait=false"], "deleted");
        self.kubectl.run(&["delete", "namespace", &self.namespace, "--timeout=60s"]);
    }

    fn k(&self, arguments: &[&str]) -> String {
        self.kubectl.run(&[&["-n", &self.namespace], arguments].concat())
    }

    fn says(&self, arguments: &[&str], word: &str) {
        let said = self.k(arguments);
        assert!(said.contains(word), "kubectl {arguments:?} said: {said}");
    }

    /// It must not succeed; answers its complaint.
    fn fails(&self, arguments: &[&str]) -> String {
        let output = self.kubectl.try_run(&[&["-n", &self.namespace], arguments].concat());
        assert!(!output.status.success(), "kubectl {arguments:?} must fail");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    fn until(&self, arguments: &[&str], is_right: impl Fn(&str) -> bool) -> String {
        self.kubectl.until(&[&["-n", &self.namespace], arguments].concat(), is_right)
    }

    fn pods(&self) -> BTreeSet<String> {
        let said = self.k(&["get", "pods", "-l", "app=web", "-o", "jsonpath={.items[*].metadata.name}"]);
        said.split_whitespace().map(str::to_owned).collect()
    }

    fn data(&self, name: &str, key: &str) -> String {
        self.k(&["get", "configmap", name, "-o", &format!("jsonpath={{.data.{key}}}")])
    }

    fn node(&self) -> String {
        self.kubectl.run(&["get", "nodes", "-o", "jsonpath={.items[0].metadata.name}"])
    }
}
