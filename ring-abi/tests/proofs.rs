//! Promise: `PROOFS.md` names tests that exist, all models of the memory model among them, and each mutant says how it fails.

#![expect(clippy::unwrap_used, reason = "a test that cannot read the sources has failed")]

use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn every_named_test_exists() {
    let page = page();
    let named: Vec<&str> = named(&page).collect();
    assert!(named.len() > 60, "{} places are named: was the page read?", named.len());
    let missing: Vec<&&str> = named.iter().filter(|name| !exists(name)).collect();
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn every_model_is_named() {
    let page = page();
    for (path, text) in models() {
        for test in tests_of(&text).filter(|test| !test.name.starts_with("mutant_")) {
            let name = format!("{path}::{}", test.name);
            assert!(named(&page).any(|named| named == name), "{name} stands nowhere in PROOFS.md");
        }
    }
}

#[test]
fn every_mutant_has_its_message_and_its_schedule() {
    let mut count = 0;
    for (path, text) in models() {
        assert!(tests_of(&text).any(|test| !test.name.starts_with("mutant_")), "{path} has no model");
        for mutant in tests_of(&text).filter(|test| test.name.starts_with("mutant_")) {
            let about = format!("{path}::{}", mutant.name);
            assert!(mutant.head.contains("#[should_panic(expected = \""), "{about} may fail anyhow");
            assert!(
                mutant.head.contains("/// 1. ") && mutant.head.contains("/// 2. "),
                "{about} has no schedule"
            );
            count += 1;
        }
    }
    assert!(count > 40, "{count} mutants were found");
}

#[test]
fn what_does_not_exist_is_seen() {
    for name in [
        "ring-abi/src/tests/oracle.rs::the_ring_is_not_its_model",
        "ring-abi/src/tests/no_such_file.rs::the_ring_is_its_model",
        // A function, and no test.
        "ring-abi/src/tests/oracle.rs::joins",
        "tests/fuzz/targets/no_such_target.rs",
    ] {
        assert!(!exists(name), "{name}");
    }
}

/// What stands in backquotes and is a path from the root, with or without `::test`.
fn named(page: &str) -> impl Iterator<Item = &str> {
    let quoted = page.split('`').skip(1).step_by(2);
    let is_path = |text: &&str| ["ring-abi/", "src/", "tests/"].iter().any(|folder| text.starts_with(folder));
    quoted.filter(is_path).filter(|text| {
        // The page's own words about itself.
        *text != "tests/proofs.rs"
    })
}

/// Whether the file is there, and the test in it.
fn exists(name: &str) -> bool {
    let (path, test) = name.split_once("::").map_or((name, None), |(path, test)| (path, Some(test)));
    let Ok(text) = fs::read_to_string(root().join(path)) else { return false };
    match test {
        None => true,
        Some(test) if path.ends_with(".py") => text.contains(&format!("def {test}(")),
        Some(test) => tests_of(&text).any(|found| found.name == test),
    }
}

struct Test<'a> {
    name: &'a str,
    /// Its comment and attributes.
    head: String,
}

/// The functions that are marked as tests.
fn tests_of(text: &str) -> impl Iterator<Item = Test<'_>> {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let functions = lines.clone().into_iter().enumerate().filter_map(|(at, line)| {
        let line = line.strip_prefix("async ").unwrap_or(line);
        Some((at, line.strip_prefix("fn ")?.split('(').next()?))
    });
    functions.filter_map(move |(at, name)| {
        let belongs = |line: &&&str| line.starts_with("///") || line.starts_with("#[");
        let mut head: Vec<&str> = lines[..at].iter().rev().take_while(belongs).copied().collect();
        head.reverse();
        let is_test = head.iter().any(|line| *line == "#[test]" || line.starts_with("#[tokio::test"));
        is_test.then(|| Test { name, head: head.join("\n") })
    })
}

/// Path and text of each file of models.
fn models() -> Vec<(String, String)> {
    let folder = "ring-abi/src/loom_tests";
    let files = fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().file_name());
    let files = files.map(|name| name.into_string().unwrap()).filter(|name| name != "mod.rs");
    files
        .map(|name| {
            let path = format!("{folder}/{name}");
            let text = fs::read_to_string(root().join(&path)).unwrap();
            (path, text)
        })
        .collect()
}

fn page() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("PROOFS.md")).unwrap()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}
