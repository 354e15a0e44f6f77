//! Promise: the Python package reads what SPEC.md says, by tests of its own against a producer of its own; and installs into an
//! empty environment.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::{Path, PathBuf};
use std::process::Command;

/// A step that takes longer hangs.
const SECONDS_MAX: &str = "300";

#[test]
fn the_package_passes_its_tests() {
    let package = package();
    let mut tests = bounded("python3");
    tests.args([
        "-W",
        "error::ResourceWarning",
        "-m",
        "unittest",
        "discover",
        "-q",
        "-t",
        ".",
        "-s",
        "tests",
    ]);
    run(tests.current_dir(&package).env("PYTHONPATH", package.join("src")));
}

/// Needs Debian's `python3-venv` and `python3-pip`, and a package index; `./tools/test` runs it.
#[test]
#[ignore = "it downloads build tools, numpy and mypy"]
fn the_package_installs_into_an_empty_environment() {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("python-{}", std::process::id()));
    // The build leaves files beside the sources.
    let copy = place.join("package");
    run(bounded("mkdir").arg("-p").arg(&place));
    run(bounded("cp").arg("-r").arg(package()).arg(&copy));
    run(bounded("python3").args(["-m", "venv"]).arg(place.join("venv")));
    let python = place.join("venv/bin/python");
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
    run(bounded(&python).args(pip).arg(&copy));
    let installed = "import vms_ring, pathlib; assert 'site-packages' in vms_ring.__file__; \
                     assert pathlib.Path(vms_ring.__file__).with_name('py.typed').exists()";
    run(bounded(&python).args(["-c", installed]).current_dir("/"));
    run(bounded(&python).args(pip).args(["numpy", "mypy"]));
    let mut tests = bounded(&python);
    run(tests
        .args(["-m", "unittest", "-q", "tests.test_programs"])
        .current_dir(&copy)
        .env("VMS_RING_NUMPY", "1"));
    run(bounded(&python).args(["-m", "mypy", "--strict", "src"]).current_dir(&copy));
    std::fs::remove_dir_all(place).unwrap();
}

fn package() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("python")
}

/// A program with a bound, that leaves no compiled files beside the sources.
fn bounded(program: impl AsRef<Path>) -> Command {
    let mut command = Command::new("timeout");
    command.arg(SECONDS_MAX).arg(program.as_ref()).env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{command:?}\n{}{}", text(&output.stdout), text(&output.stderr));
}
