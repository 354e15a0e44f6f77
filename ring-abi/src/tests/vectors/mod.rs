//! The conformance vectors in `vectors/`: made by the real producer, read by the real reader, and what both must come to
//! stands in the scenarios.
//!
//! ```text
//!  scenario ─▶ producer ─▶ NAME.txt ─▶ replay through the reader ─▶ NAME.jsonl
//!      └────── what must come of it (essence, units, status) ──────────▲ compared
//! ```
//! `vectors/regenerate` writes the files; without it the test here holds them against what is made now.

mod configs;
mod counting;
mod ends;
mod events;
mod messages;
mod newer;
mod records;
mod refused;
mod replay;
mod script;
mod units;
mod world;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use world::Vector;

/// Set by `vectors/regenerate`: the files are written, not compared.
const WRITE: &str = "VMS_RING_VECTORS_WRITE";
/// Bytes that all files have together at most.
const BYTES_MAX: usize = 1_000_000;

#[test]
fn committed_vectors_are_what_producer_and_reader_give() {
    let files = files();
    if std::env::var_os(WRITE).is_some() {
        return write(&files);
    }
    for (path, text) in &files {
        let committed = fs::read_to_string(path).unwrap_or_default();
        assert!(committed == *text, "{} is not current: run ring-abi/vectors/regenerate", path.display());
    }
    let known = |path: &PathBuf| files.contains_key(path) || path.ends_with("regenerate");
    let strays: Vec<_> =
        fs::read_dir(root()).unwrap().map(|e| e.unwrap().path()).filter(|p| !known(p)).collect();
    assert!(strays.is_empty(), "nothing makes {strays:?}");
    let bytes: usize = files.values().map(String::len).sum();
    assert!(bytes < BYTES_MAX, "{bytes} bytes");
}

/// The replay reads the committed text, not what was made a moment ago.
#[test]
fn the_reader_prints_what_is_committed() {
    let mut count = 0;
    for entry in fs::read_dir(root()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "txt") {
            let events = replay::replay(&fs::read_to_string(&path).unwrap());
            let printed: String = events.iter().flatten().map(events::Event::to_json).collect();
            let expected = fs::read_to_string(path.with_extension("jsonl")).unwrap();
            assert!(printed == expected, "{}: {printed}", path.display());
            count += 1;
        }
    }
    assert!(count > 100, "{count} vectors");
}

#[test]
fn the_checksum_is_the_common_one() {
    assert_eq!(events::crc32(b"123456789"), 0xcbf4_3926);
}

fn vectors() -> Vec<Vector> {
    [
        units::all(),
        configs::all(),
        counting::all(),
        ends::all(),
        newer::all(),
        refused::all(),
        records::all(),
        messages::all(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Every file of the directory but the script, by its path.
fn files() -> BTreeMap<PathBuf, String> {
    let vectors = vectors();
    let mut files = BTreeMap::new();
    for vector in &vectors {
        let path = root().join(&vector.name);
        let twice = files.insert(path.with_extension("txt"), vector.script.clone());
        assert!(twice.is_none(), "two vectors are called {}", vector.name);
        files.insert(path.with_extension("jsonl"), vector.jsonl.clone());
    }
    let readme = root().join("README.md");
    let text = fs::read_to_string(&readme).unwrap();
    files.insert(readme, with_table(&text, &vectors));
    files
}

/// The README with the table of what each vector shows.
fn with_table(readme: &str, vectors: &[Vector]) -> String {
    let (before, rest) = readme.split_once("<!-- vectors -->\n").unwrap();
    let (_, after) = rest.split_once("<!-- end -->").unwrap();
    let mut table = String::from("| vector | shows |\n|---|---|\n");
    for vector in vectors {
        writeln!(table, "| `{}` | {} |", vector.name, vector.about).unwrap();
    }
    format!("{before}<!-- vectors -->\n{table}<!-- end -->{after}")
}

fn write(files: &BTreeMap<PathBuf, String>) {
    for entry in fs::read_dir(root()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "txt" || extension == "jsonl") {
            fs::remove_file(path).unwrap();
        }
    }
    for (path, text) in files {
        fs::write(path, text).unwrap();
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors")
}
