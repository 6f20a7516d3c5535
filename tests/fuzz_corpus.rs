//! Every committed input of the fuzz targets, once through the very bodies that the targets run:
//! what was found once stays found, without the fuzzer.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test; its figures are its output")]

use std::path::Path;

#[path = "../fuzz/src/lib.rs"]
pub mod targets;

/// Names and bytes of the inputs of one target.
fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    entries
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.display().to_string(), std::fs::read(&path).unwrap()))
        .collect()
}

#[test]
fn every_corpus_input_passes_its_target() {
    for (target, body) in targets::TARGETS {
        let inputs = corpus(target);
        assert!(inputs.len() >= 5, "{target}: only {} inputs", inputs.len());
        for (name, input) in &inputs {
            if std::panic::catch_unwind(|| body(input)).is_err() {
                panic!("{target} fails with {name}");
            }
        }
        println!("{target}: {} inputs", inputs.len());
    }
}

#[test]
fn corpus_and_targets_are_the_same_set() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    let mut folders: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let mut names = targets::TARGETS.map(|(name, _)| name.to_owned());
    folders.sort();
    names.sort();
    assert_eq!(folders, names);
    let manifest = include_str!("../fuzz/Cargo.toml");
    let binaries = manifest.matches("[[bin]]").count();
    assert_eq!(binaries, names.len());
    assert!(names.iter().all(|name| manifest.contains(&format!("path = \"targets/{name}.rs\""))));
}
