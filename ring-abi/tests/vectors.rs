//! Promise: the readers in C and Python print for every conformance vector exactly what is committed with it. (The Rust
//! reader's replay stands in `src/tests/vectors/`.)

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A replay that takes longer hangs.
const SECONDS_MAX: &str = "20";

#[test]
fn the_c_reader_prints_what_is_committed() {
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("replay-{}", std::process::id()));
    let warnings = ["-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-O1"];
    let compiled = Command::new("cc")
        .args(warnings)
        .arg("-I")
        .arg(root().join("include"))
        .arg(root().join("c/replay.c"))
        .arg("-o")
        .arg(&program)
        .output()
        .unwrap();
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    let differing = differing(|| Command::new(&program));
    fs::remove_file(program).unwrap();
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}

#[test]
fn the_python_reader_prints_what_is_committed() {
    // The program itself: what stands in its place on the path may take longer to start than it.
    let asked = Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output().unwrap();
    let program = String::from_utf8(asked.stdout).unwrap();
    let differing = differing(|| {
        let mut python = Command::new(program.trim());
        python.args(["-m", "vms_ring.replay"]).env("PYTHONPATH", root().join("python/src"));
        python.env("PYTHONDONTWRITEBYTECODE", "1");
        python
    });
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}

/// What the program that `command` begins prints otherwise than it must, vector by vector.
fn differing(command: impl Fn() -> Command + Sync) -> Vec<String> {
    let mut scripts: Vec<PathBuf> = fs::read_dir(root().join("vectors"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    scripts.sort();
    assert!(scripts.len() > 100, "{} vectors", scripts.len());
    let command = &command;
    let run = move |scripts: &[PathBuf]| -> Vec<String> {
        scripts.iter().filter_map(|script| difference(command(), script)).collect()
    };
    std::thread::scope(|scope| {
        let parts: Vec<_> =
            scripts.chunks(scripts.len() / 4 + 1).map(|part| scope.spawn(move || run(part))).collect();
        parts.into_iter().flat_map(|part| part.join().unwrap()).collect()
    })
}

fn difference(program: Command, script: &Path) -> Option<String> {
    let mut bounded = Command::new("timeout");
    bounded.arg(SECONDS_MAX).arg(program.get_program()).args(program.get_args()).arg(script);
    bounded.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = bounded.output().unwrap();
    let expected = fs::read(script.with_extension("jsonl")).unwrap();
    if output.status.success() && output.stdout == expected {
        return None;
    }
    let name = script.file_stem().unwrap().to_string_lossy();
    let (printed, expected) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&expected));
    let (line, (wrong, right)) = first_difference(&printed, &expected);
    let said = String::from_utf8_lossy(&output.stderr);
    Some(format!("{name}, line {line}, {}\n  printed  {wrong}\n  expected {right}\n{said}", output.status))
}

/// The first line that differs, from 1, in both texts.
fn first_difference<'a>(printed: &'a str, expected: &'a str) -> (usize, (&'a str, &'a str)) {
    let lines = |text: &'a str| text.lines().map(Some).chain(std::iter::repeat(None));
    let pairs = lines(printed).zip(lines(expected));
    let (at, (wrong, right)) = (1..).zip(pairs).find(|(_, (a, b))| a != b || a.is_none()).unwrap();
    (at, (wrong.unwrap_or("(nothing)"), right.unwrap_or("(nothing)")))
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
