//! The native runtime with real containers. Needs root, as the runtime does.

mod support;

use k8s_node::runtime::*;
use support::*;

#[tokio::test]
async fn a_container_runs_and_its_end_is_known() {
    let node = Node::start().await;
    node.sandbox().await;
    let exit = node.run(node.script("c1", "echo hi; echo bad >&2; exit 3")).await;
    assert_eq!((exit.code, exit.reason.as_str(), exit.signal), (3, "Error", None));
    assert!(exit.started_at <= exit.finished_at);
    let text = std::fs::read_to_string(node.log_path("c1")).unwrap();
    let words: Vec<_> = text.lines().map(|line| line.split_once(' ').unwrap().1).collect();
    assert!(words.contains(&"stdout F hi") && words.contains(&"stderr F bad"), "{text}");
    node.finish().await;
}
