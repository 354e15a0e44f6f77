//! Promise: what `./tools/bench ingest` says follows from what was measured; what was not measured as it should be is called
//! void, and nothing rests on it. `benches/test_ingest.py` shows it on made-up measurements.

use std::path::Path;
use std::process::Command;

/// A step that takes longer hangs.
const SECONDS_MAX: &str = "300";

#[test]
fn nothing_rests_on_what_is_void() {
    let mut tests = Command::new("timeout");
    tests.args([
        SECONDS_MAX,
        "python3",
        "-W",
        "error::ResourceWarning",
        "-m",
        "unittest",
        "-v",
        "test_ingest",
    ]);
    // No compiled files beside the sources.
    tests
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("benches"));
    let output = tests.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains(" ... ok\n"), "{said}");
}
