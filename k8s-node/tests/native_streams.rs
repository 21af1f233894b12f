//! Streams into and out of real containers: commands, attaching, logs, connections. Needs root.

mod support;

use std::time::Duration;

use futures::StreamExt;
use k8s_node::runtime::*;
use k8s_wire::env::System;
use support::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

async fn node(script: &str) -> Node {
    let node = Node::start().await;
    node.sandbox().await;
    node.begin(node.script("c1", script)).await;
    node
}

fn command(words: &[&str]) -> ExecSpec {
    let command = words.iter().map(|word| (*word).to_owned()).collect();
    ExecSpec { container: "c1".to_owned(), command, stdout: true, stderr: true, ..ExecSpec::default() }
}

async fn exec(node: &Node, spec: ExecSpec) -> Session {
    node.runtime().exec().unwrap().exec(spec).await.unwrap()
}

async fn text(stream: &mut Option<impl AsyncReadExt + Unpin>) -> String {
    let mut text = String::new();
    within(stream.as_mut().unwrap().read_to_string(&mut text)).await.unwrap();
    text
}

#[tokio::test]
async fn commands_run_as_the_container_does() {
    let node = Node::start().await;
    node.sandbox().await;
    let mut spec = node.script("c1", "sleep 1000");
    spec.env.push(("NAME".to_owned(), "value".to_owned()));
    spec.working_dir = Some("/tmp".to_owned());
    spec.user.uid = Some(1000);
    spec.security.drop_capabilities.push("ALL".to_owned());
    node.begin(spec).await;
    let look = "echo $NAME; pwd; id -u; id -G; hostname; grep CapBnd /proc/self/status; cat /proc/self/cgroup | grep -c c1; \
        ps -o pid,comm | grep -c sleep; echo oops >&2; exit 9";
    let mut session = exec(&node, command(&["sh", "-c", look])).await;
    let (out, err) = (text(&mut session.stdout).await, text(&mut session.stderr).await);
    assert_eq!(out, "value\n/tmp\n1000\n1000 2000\nweb-0\nCapBnd:\t0000000000000000\n0\n1\n");
    assert_eq!(err, "oops\n");
    assert_eq!(within(session.exit).await, Ok(9));
    node.finish().await;
}

#[tokio::test]
async fn input_goes_in_and_its_end_is_seen() {
    let node = node("sleep 1000").await;
    let mut session = exec(&node, ExecSpec { stdin: true, ..command(&["sh", "-c", "cat; echo end"]) }).await;
    let mut stdin = session.stdin.take().unwrap();
    let big = "line\n".repeat(100_000);
    let write = async {
        stdin.write_all(big.as_bytes()).await.unwrap();
        stdin.shutdown().await.unwrap();
    };
    let (out, ()) = tokio::join!(text(&mut session.stdout), write);
    assert_eq!(out, big + "end\n");
    assert_eq!(within(session.exit).await, Ok(0));
    node.finish().await;
}

#[tokio::test]
async fn a_terminal_has_a_size_and_echoes() {
    let node = node("sleep 1000").await;
    let spec = ExecSpec { tty: true, stdin: true, ..command(&["sh", "-c", "tty; read x; stty size; echo got $x"]) };
    let mut session = exec(&node, spec).await;
    assert!(session.stderr.is_none());
    session.terminal.as_ref().unwrap().resize(TerminalSize { width: 99, height: 33 });
    let mut stdin = session.stdin.take().unwrap();
    stdin.write_all(b"word\n").await.unwrap();
    let out = text(&mut session.stdout).await;
    // The echo of what is typed may come before what the command prints.
    assert!(
        out.contains("/dev/pts/0\r\n") && out.contains("word\r\n") && out.ends_with("33 99\r\ngot word\r\n"),
        "{out:?}"
    );
    assert_eq!(within(session.exit).await, Ok(0));
    node.finish().await;
}

#[tokio::test]
async fn a_dropped_session_kills_its_command() {
    let node = node("sleep 1000").await;
    let mut session = exec(&node, command(&["sh", "-c", "echo here; sleep 2000"])).await;
    let mut buffer = [0; 5];
    within(session.stdout.as_mut().unwrap().read_exact(&mut buffer)).await.unwrap();
    let mut stdout = session.stdout.take();
    drop(session);
    assert_eq!(text(&mut stdout).await, "", "the pipe closes when the command is dead");
    let (runtime, env) = (node.runtime().exec().unwrap(), System::current());
    let slow = run_to_end(runtime, &*env, "c1", vec!["sleep".into(), "3000".into()], Duration::from_millis(50), 10)
        .await
        .unwrap();
    assert_eq!(slow.code, None);
    let fast = run_to_end(runtime, &*env, "c1", vec!["echo".into(), "0123456789".into()], Duration::from_secs(20), 4)
        .await
        .unwrap();
    assert_eq!(fast, ExecOutput { code: Some(0), output: b"0123".to_vec() });
    let leaves = vec!["sh".into(), "-c".into(), "sleep 4000 & echo left".into()];
    let left = run_to_end(runtime, &*env, "c1", leaves, Duration::from_secs(20), 10).await.unwrap();
    assert_eq!(left, ExecOutput { code: Some(0), output: b"left\n".to_vec() });
    node.finish().await;
}

#[tokio::test]
async fn a_missing_command_is_named() {
    let node = node("sleep 1000").await;
    let error = node.runtime().exec().unwrap().exec(command(&["foo"])).await.map(|_| ()).unwrap_err();
    assert_eq!(error.to_string(), "exec: \"foo\": executable file not found in $PATH");
    node.finish().await;
}

#[tokio::test]
async fn attaching_joins_all_streams() {
    let node = Node::start().await;
    node.sandbox().await;
    let mut spec = node.script("c1", "while read x; do echo out $x; echo err $x >&2; done; exit 4");
    (spec.stdin, spec.stdin_once) = (true, true);
    node.begin(spec).await;
    let attach = node.runtime().attach().unwrap();
    let all = AttachSpec { container: "c1".to_owned(), stdin: true, stdout: true, stderr: true };
    let mut watcher = attach.attach(AttachSpec { stdin: false, stderr: false, ..all.clone() }).await.unwrap();
    let mut session = attach.attach(all).await.unwrap();
    let mut stdin = session.stdin.take().unwrap();
    stdin.write_all(b"one\ntwo\n").await.unwrap();
    stdin.shutdown().await.unwrap();
    assert_eq!(text(&mut session.stdout).await, "out one\nout two\n");
    assert_eq!(text(&mut session.stderr).await, "err one\nerr two\n");
    assert_eq!(within(session.exit).await, Ok(4));
    assert_eq!(text(&mut watcher.stdout).await, "out one\nout two\n");
    assert_eq!(node.exit("c1").await.code, 4);
    node.finish().await;
}

#[tokio::test]
async fn attaching_to_a_terminal() {
    let node = Node::start().await;
    node.sandbox().await;
    let mut spec = node.script("c1", "tty; echo $TERM; read x; stty size; echo bye $x");
    (spec.tty, spec.stdin) = (true, true);
    node.begin(spec).await;
    let all = AttachSpec { container: "c1".to_owned(), stdin: true, stdout: true, stderr: true };
    let mut session = node.runtime().attach().unwrap().attach(all).await.unwrap();
    session.terminal.as_ref().unwrap().resize(TerminalSize { width: 70, height: 20 });
    // Sizes go before input in the order in which they are sent; the answer shows both arrived.
    let mut stdin = session.stdin.take().unwrap();
    stdin.write_all(b"all\n").await.unwrap();
    let out = text(&mut session.stdout).await;
    assert!(out.ends_with("20 70\r\nbye all\r\n"), "{out:?}");
    assert_eq!(within(session.exit).await, Ok(0));
    let log = log(&node, LogOptions::default()).await;
    assert!(log.contains("/dev/pts/0\r\n") && log.contains("xterm\r\n"), "{log:?}");
    node.finish().await;
}

async fn log(node: &Node, options: LogOptions) -> String {
    let logs = node.runtime().logs().unwrap();
    let chunks: Vec<_> = within(logs.read("c1", options).await.unwrap().collect()).await;
    chunks.into_iter().map(|chunk| String::from_utf8(chunk.unwrap().to_vec()).unwrap()).collect()
}

#[tokio::test]
async fn logs_are_followed_to_the_end_and_across_rotation() {
    let node = node("echo one; while [ ! -e /go ]; do sleep 0.01; done; echo two; printf three").await;
    let follow = LogOptions { follow: true, ..LogOptions::default() };
    let mut stream = node.runtime().logs().unwrap().read("c1", follow).await.unwrap();
    assert_eq!(within(stream.next()).await.unwrap().unwrap(), "one\n");
    std::fs::rename(node.log_path("c1"), node.log_path("c1.old")).unwrap();
    node.runtime().logs().unwrap().reopen("c1").await.unwrap();
    let session = exec(&node, command(&["touch", "/go"])).await;
    assert_eq!(within(session.exit).await, Ok(0));
    let mut rest = String::new();
    while let Some(chunk) = within(stream.next()).await {
        rest.push_str(std::str::from_utf8(&chunk.unwrap()).unwrap());
    }
    assert_eq!(rest, "two\nthree");
    assert_eq!(node.exit("c1").await.code, 0);
    let all = LogOptions::default();
    assert!(log(&node, all.clone()).await.ends_with("two\nthree"));
    assert_eq!(log(&node, LogOptions { tail_lines: Some(1), ..all.clone() }).await, "three");
    assert_eq!(log(&node, LogOptions { tail_lines: Some(0), ..all.clone() }).await, "");
    assert_eq!(log(&node, LogOptions { stream: Some(LogStream::Stderr), ..all }).await, "");
    node.finish().await;
}

#[tokio::test]
async fn much_output_arrives_whole() {
    let node = node("seq 1 200000").await;
    assert_eq!(node.exit("c1").await.code, 0);
    let expected: String = (1..=200_000).map(|n| format!("{n}\n")).collect();
    assert!(log(&node, LogOptions::default()).await == expected);
    let limit = LogOptions { limit_bytes: Some(3), ..LogOptions::default() };
    assert_eq!(log(&node, limit).await, "1\n2");
    node.finish().await;
}

#[tokio::test]
async fn connections_reach_into_the_pod() {
    let node = node("echo hello | nc -l -p 8080 127.0.0.1; echo done").await;
    let forward = node.runtime().port_forward().unwrap();
    let refused = forward.connect("pod", 1).await.map(|_| ()).unwrap_err();
    assert!(refused.to_string().starts_with("connect to port 1 in sandbox pod: Connection refused"), "{refused}");
    let mut stream = loop {
        // The program needs a moment until it listens.
        match forward.connect("pod", 8080).await {
            Ok(stream) => break stream,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    let mut text = String::new();
    within(stream.read_to_string(&mut text)).await.unwrap();
    assert_eq!(text, "hello\n");
    drop(stream);
    node.finish().await;
}
