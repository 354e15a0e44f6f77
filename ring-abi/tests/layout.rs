//! Promise: one table, `layout.toml`, says where everything is; Rust, the C header, the Python package and SPEC.md agree
//! with it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Each file that is made from the table.
const MADE: [&str; 4] =
    ["src/layout/table.rs", "include/vms_ring_layout.h", "python/src/vms_ring/_layout.py", "SPEC.md"];

#[test]
fn what_is_made_from_the_table_is_current() {
    let output = check(Path::new(env!("CARGO_MANIFEST_DIR")));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn a_number_that_differs_anywhere_is_named() {
    let copy = copy_of_the_crate();
    for file in MADE {
        let path = copy.join(file);
        let good = fs::read_to_string(&path).unwrap();
        // `write_pos` of a track entry, in each file's own words.
        let (from, to) = [
            ("TrackEntry, write_pos) == 128", "TrackEntry, write_pos) == 136"),
            ("vms_ring_track_entry, write_pos) == 128", "vms_ring_track_entry, write_pos) == 136"),
            ("TRACK_ENTRY_WRITE_POS: Final = 128", "TRACK_ENTRY_WRITE_POS: Final = 136"),
            ("| 128 | u64 | write_pos |", "| 136 | u64 | write_pos |"),
        ]
        .into_iter()
        .find(|(from, _)| good.contains(from))
        .unwrap();
        fs::write(&path, good.replace(from, to)).unwrap();
        let output = check(&copy);
        assert!(!output.status.success(), "{file} may differ");
        assert!(String::from_utf8_lossy(&output.stdout).contains(file), "{output:?}");
        fs::write(&path, good).unwrap();
    }
    fs::remove_dir_all(copy).unwrap();
}

fn check(root: &Path) -> Output {
    Command::new("python3").arg(root.join("layout.py")).arg("--check").output().unwrap()
}

/// The table, its script and what is made of it, in a directory of their own.
fn copy_of_the_crate() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let copy = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("layout-{}", std::process::id()));
    for file in MADE.iter().chain(&["layout.toml", "layout.py"]) {
        let to = copy.join(file);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(root.join(file), to).unwrap();
    }
    copy
}
