//! The kept inputs hold all properties, in the ordinary test run too.

use std::{fs, path::Path};

use fuzz::TARGETS;

#[test]
fn every_kept_input_holds() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let mut folders: Vec<String> = names(&corpus);
    folders.sort();
    let targets: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
    assert_eq!(folders, targets, "every target has a corpus, and every corpus a target");
    let (mut inputs, mut bytes) = (0, 0);
    for target in TARGETS {
        for name in names(&corpus.join(target.name)) {
            let input = fs::read(corpus.join(target.name).join(&name)).unwrap();
            println!("{} {name}", target.name);
            target.check(&input);
            inputs += 1;
            bytes += input.len();
        }
    }
    assert!(inputs > 100, "{inputs} inputs");
    assert!(bytes < 1 << 20, "{bytes} bytes are too many to keep");
}

fn names(folder: &Path) -> Vec<String> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}
