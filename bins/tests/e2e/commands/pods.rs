//! What people type about the pods of their applications: rollouts, shells, logs, files, ports.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdout},
};

use super::{Hand, IMAGE, ask};

impl Hand<'_> {
    pub(super) fn rolls(&self) {
        let status = || self.says(&["rollout", "status", "deployment/web", "--timeout=60s"], "successfully rolled out");
        self.says(&["scale", "deployment", "web", "--current-replicas=2", "--replicas=1"], "scaled");
        status();
        let refused = self.fails(&["scale", "deployment", "web", "--current-replicas=2", "--replicas=3"]);
        assert!(refused.contains("Expected replicas to be 2"), "{refused}");
        self.says(&["set", "env", "deployment/web", "COLOR=red"], "env updated");
        status();
        self.says(&["annotate", "deployment/web", "kubernetes.io/change-cause=red"], "annotated");
        let history = self.k(&["rollout", "history", "deployment/web"]);
        assert!(history.contains("REVISION") && history.lines().any(|line| line.starts_with("2 ")), "{history}");
        let history = self.k(&["rollout", "history", "deployment/web", "--revision=2"]);
        assert!(history.contains("COLOR:\tred"), "{history}");
        self.says(&["rollout", "pause", "deployment/web"], "paused");
        self.says(&["set", "resources", "deployment/web", "--limits=memory=64Mi"], "resource requirements updated");
        self.until(
            &["get", "deployment", "web", "-o", "jsonpath={.status.observedGeneration}={.metadata.generation}"],
            |said| said.split_once('=').is_some_and(|(seen, made)| seen == made),
        );
        assert_eq!(self.k(&["get", "replicasets", "-o", "name"]).lines().count(), 2, "paused, nothing rolls");
        self.says(&["rollout", "resume", "deployment/web"], "resumed");
        status();
        assert_eq!(self.k(&["get", "replicasets", "-o", "name"]).lines().count(), 3);
        self.says(&["rollout", "restart", "deployment/web"], "restarted");
        status();
        self.says(&["rollout", "undo", "deployment/web", "--to-revision=1"], "rolled back");
        status();
        let environment = "jsonpath={.spec.template.spec.containers[0].env}";
        assert_eq!(self.k(&["get", "deployment", "web", "-o", environment]), "");
        self.until(&["get", "pods", "-l", "app=web", "-o", "name"], |said| said.lines().count() == 1);
    }

    pub(super) fn runs_and_attaches(&self) {
        let run = |name: &str, more: &[&str], script: &str, input: &str| {
            let head = ["-n", &self.namespace, "run", name, "--image", IMAGE, "--restart=Never"];
            let all = [&head[..], more, &["--command", "--", "sh", "-c", script]].concat();
            self.kubectl.run_with(&all, input)
        };
        let said = run("talk", &["--rm", "-i"], "read line; echo heard $line", "the news\n");
        assert!(said.contains("heard the news"), "{said}");
        assert!(self.fails(&["get", "pod", "talk"]).contains("NotFound"), "--rm");

        let listen = "while read line; do echo heard $line; done";
        run("ear", &["--stdin", "--leave-stdin-open", "--attach=false"], listen, "");
        self.says(&["wait", "--for=condition=Ready", "pod/ear", "--timeout=60s"], "condition met");
        let (mut attached, mut lines) = self.follows(&["attach", "-i", "ear"]);
        attached.stdin.as_mut().unwrap().write_all(b"something\n").unwrap();
        assert_eq!(next(&mut lines), "heard something");
        end(attached);
        let said = self.k(&["exec", "deploy/web", "--", "sh", "-c", "echo from $(hostname)"]);
        assert!(said.starts_with("from web-"), "{said}");
        let said = self.kubectl.run_with(&["-n", &self.namespace, "exec", "-i", "ear", "--", "wc", "-c"], "seven b");
        assert_eq!(said.trim(), "7");
        if self.minor >= 25 {
            self.k(&["debug", "ear", "--image", IMAGE, "--container=look", "--", "sh", "-c", "echo looked around"]);
            self.until(&["logs", "ear", "-c", "look"], |said| said == "looked around\n");
        }
    }

    pub(super) fn reads_logs_and_events(&self) {
        let script = "echo first; echo second; exit 3";
        self.says(&["run", "crash", "--image", IMAGE, "--command", "--", "sh", "-c", script], "created");
        let path = "jsonpath={.status.containerStatuses[0].restartCount}";
        self.until(&["get", "pod", "crash", "-o", path], |said| said.parse().is_ok_and(|count: u32| count >= 1));
        assert_eq!(self.k(&["logs", "crash", "--previous"]), "first\nsecond\n");
        assert_eq!(self.k(&["logs", "crash", "--previous", "--tail=1"]), "second\n");
        assert_eq!(self.k(&["logs", "crash", "--previous", "--since=1h", "--limit-bytes=5"]), "first");
        let stamped = self.k(&["logs", "crash", "--previous", "--timestamps"]);
        assert!(stamped.lines().all(|line| line.starts_with("20") && line.contains("Z ")), "{stamped}");
        let labelled = self.k(&["logs", "-l", "app=web", "--prefix", "--tail=-1"]);
        assert!(labelled.contains("[pod/web-") && labelled.contains("started on port 8080"), "{labelled}");
        assert!(self.k(&["logs", "deployment/web"]).contains("started on port 8080"));
        let (following, mut lines) = self.follows(&["logs", "-f", "ear"]);
        assert_eq!(next(&mut lines), "heard something");
        end(following);
        self.until(&["get", "events", "--sort-by=.lastTimestamp"], |said| said.contains("BackOff"));
        let crash = "--field-selector=involvedObject.name=crash,type=Warning";
        let warnings = self.k(&["get", "events", crash, "-o", "jsonpath={.items[*].reason}"]);
        assert!(warnings.split_whitespace().all(|reason| reason == "BackOff") && !warnings.is_empty(), "{warnings}");
        if self.minor >= 26 {
            let events = self.k(&["events", "--for", "pod/crash"]);
            assert!(events.contains("Pod/crash") && events.contains("Started"), "{events}");
            assert!(!events.contains("Pod/ear"), "{events}");
        }
    }

    pub(super) fn copies_and_forwards(&self) {
        let folder = self.machine.folder("copies");
        fs::create_dir(&folder).unwrap();
        let text = "a line of it\n".repeat(100_000);
        fs::write(folder.join("out"), &text).unwrap();
        let path = |name: &str| folder.join(name).display().to_string();
        self.k(&["cp", &path("out"), "ear:/tmp/there"]);
        assert_eq!(self.k(&["exec", "ear", "--", "wc", "-l", "/tmp/there"]).split_whitespace().next(), Some("100000"));
        self.k(&["cp", "ear:/tmp/there", &path("back")]);
        assert!(fs::read_to_string(folder.join("back")).unwrap() == text, "what went in comes out");
        for (target, port) in [("service/web", ":80"), ("deployment/web", ":8080")] {
            let (forwarding, mut lines) = self.follows(&["port-forward", target, port]);
            let said = next(&mut lines);
            let address = said.strip_prefix("Forwarding from ").and_then(|said| said.split(" -> ").next());
            let answered = ask(address.unwrap_or_else(|| panic!("{said}")), "/").unwrap();
            assert!(self.pods().contains(answered.trim()), "{answered}");
            end(forwarding);
        }
        let (proxying, mut lines) = self.follows(&["proxy", "--port=0", "--accept-hosts=^web$"]);
        let said = next(&mut lines);
        let address = said.strip_prefix("Starting to serve on ").unwrap_or_else(|| panic!("{said}"));
        assert!(ask(address, "/version").unwrap().contains("gitVersion"));
        end(proxying);
    }

    fn follows(&self, arguments: &[&str]) -> (Child, BufReader<ChildStdout>) {
        let mut child = self.kubectl.start(&[&["-n", &self.namespace], arguments].concat());
        let lines = BufReader::new(child.stdout.take().unwrap());
        (child, lines)
    }
}

fn next(lines: &mut BufReader<ChildStdout>) -> String {
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    line.trim_end().to_owned()
}

fn end(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}
