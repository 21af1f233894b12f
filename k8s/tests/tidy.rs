//! The house rules that a program can check, over every source file of the workspace.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Files longer than this need a reason in [`LONG`].
const MAX_LINES: usize = 800;

/// Files that are long, each with its reason.
const LONG: [(&str, &str); 0] = [];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn sources() -> Vec<(String, String)> {
    let mut found = Vec::new();
    let rooms = fs::read_dir(root()).unwrap().map(|entry| entry.unwrap().path());
    let is_room = |path: &PathBuf| path.is_dir() && path.join("Cargo.toml").exists();
    for room in rooms.filter(is_room) {
        for part in ["src", "tests", "examples", "build.rs"] {
            collect(&room.join(part), &mut found);
        }
    }
    assert!(found.len() > 100, "only {} source files were found: the test looks in the wrong place", found.len());
    found
}

fn collect(path: &Path, found: &mut Vec<(String, String)>) {
    if path.is_dir() {
        let mut entries: Vec<PathBuf> = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
        entries.sort();
        entries.iter().for_each(|entry| collect(entry, found));
    } else if path.exists() && path.extension().is_some_and(|extension| extension == "rs") {
        let name = path.strip_prefix(root()).unwrap().display().to_string();
        found.push((name, fs::read_to_string(path).unwrap()));
    }
}

/// Every offence against a rule, as `file:line`.
fn offences(rule: impl Fn(&str, &str) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    for (name, text) in sources() {
        for (number, line) in text.lines().enumerate() {
            if rule(&name, line) {
                found.push(format!("{name}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    found
}

#[test]
fn every_file_says_what_it_is_for() {
    let silent: Vec<String> =
        sources().into_iter().filter(|(_, text)| !text.starts_with("//!")).map(|(name, _)| name).collect();
    assert!(silent.is_empty(), "files that do not open with `//!`: {silent:#?}");
}

#[test]
fn no_file_is_long_without_a_reason() {
    let excused = |name: &str| LONG.iter().any(|(file, _)| *file == name);
    let long: Vec<String> = sources()
        .into_iter()
        .filter(|(name, text)| text.lines().count() > MAX_LINES && !excused(name))
        .map(|(name, _)| name)
        .collect();
    assert!(long.is_empty(), "files over {MAX_LINES} lines: {long:#?}");
}

#[test]
fn nothing_is_left_unfinished_or_skipped() {
    // Spelled apart, so that this file is no offence itself.
    let words = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("to", "do!("),
        concat!("unimpl", "emented!("),
        concat!("#[ig", "nore"),
    ];
    let found = offences(|_, line| words.iter().any(|word| line.contains(word)));
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn select_takes_its_branches_in_order() {
    let mut found = Vec::new();
    for (name, text) in sources() {
        let lines: Vec<&str> = text.lines().collect();
        for (number, line) in lines.iter().enumerate() {
            let next = lines.get(number + 1).map_or("", |next| next.trim());
            if line.contains(concat!("sel", "ect! {")) && next != "biased;" {
                found.push(format!("{name}:{}", number + 1));
            }
        }
    }
    assert!(found.is_empty(), "`select!` without `biased;` is not the same run twice: {found:#?}");
}

#[test]
fn unsafe_code_stays_in_its_modules() {
    for room in fs::read_dir(root()).unwrap().map(|entry| entry.unwrap().path()) {
        let Ok(text) = fs::read_to_string(room.join("src/lib.rs")) else { continue };
        let guarded = text.contains("#![forbid(unsafe_code)]") || text.contains("#![deny(unsafe_code)]");
        assert!(guarded, "{} neither forbids nor denies unsafe code", room.display());
    }
    let block = concat!("unsafe", " {");
    let mut found = Vec::new();
    for (name, text) in sources() {
        let lines: Vec<&str> = text.lines().collect();
        for (number, line) in lines.iter().enumerate() {
            let explained = (1..=8).any(|back| number >= back && lines[number - back].contains("// SAFETY:"));
            if line.contains(block) && !line.trim_start().starts_with("//") && !explained {
                found.push(format!("{name}:{}", number + 1));
            }
        }
    }
    assert!(found.is_empty(), "unsafe blocks without `// SAFETY:`: {found:#?}");
}

#[test]
fn what_is_not_there_yet_is_written_down() {
    let page = fs::read_to_string(root().join("docs/not-yet.md")).unwrap();
    let registry = k8s::core::registry::Registry::builtin();
    let (served, missing): (Vec<_>, Vec<_>) = registry.all().iter().partition(|info| info.is_served());
    assert!(served.len() > 40, "{} kinds are served, {} are not", served.len(), missing.len());
    let row = |resource: &k8s::core::request::ResourceType| format!("| `{}` |", resource);
    let unwritten = missing.iter().filter(|info| !page.contains(&row(&info.resource())));
    let unwritten: Vec<String> = unwritten.map(|info| info.resource().to_string()).collect();
    assert!(unwritten.is_empty(), "docs/not-yet.md lacks {unwritten:?}");
    let is_inert = |resource: &k8s::core::request::ResourceType| k8s::INERT.contains(&resource.to_string().as_str());
    let untold: Vec<&&str> = k8s::INERT.iter().filter(|name| !page.contains(&format!("| `{name}` |"))).collect();
    assert!(untold.is_empty(), "docs/not-yet.md lacks {untold:?}");
    let is_served_twice = |info: &&_| {
        let resource = k8s::core::registry::ResourceInfo::resource(info);
        !is_inert(&resource) && resource.plural != "componentstatuses" && page.contains(&row(&resource))
    };
    let stale = served.into_iter().map(|info| &**info).filter(is_served_twice);
    // The same plural name may be served in one group's version and not in another.
    let stale: Vec<String> = stale.map(|info| info.resource().to_string()).collect();
    assert!(stale.is_empty(), "docs/not-yet.md still names {stale:?}");
}
