//! Promise: readers in other languages, built from what a stranger would be given, read a live stream exactly as ours does.
//!
//! `VMS_EXTERNAL_SECONDS` says for how long (5 by default; `./tools/test --full` asks for 60).

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use support::{Lab, Process, SOON, Tap, program, run};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// The bit of `flags` that depends on when a reader came.
const BACKFILL: u64 = 1 << 5;
const STRICT: [&str; 6] = ["-std=c11", "-O2", "-Wall", "-Wextra", "-Wpedantic", "-Werror"];

#[test]
fn c_and_python_print_what_vms_tap_prints() {
    let seconds = std::env::var("VMS_EXTERNAL_SECONDS").map_or(5, |text| text.parse().unwrap());
    let lab = Lab::new("external");
    let c_tap = build_from_a_copy(&lab);
    let python = install_in_an_empty_venv(&lab);
    let _daemon = lab.daemon(&[]);
    let cameras = lab.cameras(&["--media", &format!("hd={}:25", encode_1080p(&lab))]);
    lab.setup("door", &cameras.url("hd"));
    lab.watch().wait_for_state("door", "streaming");

    let (socket, duration) = (lab.ring_socket(), seconds.to_string());
    let common = ["--ring-socket", &socket, "door", "--json", "--from", "keyframe", "--duration", &duration];
    let spawn = |name, program: &str, first: &[&str], arguments: &[&str]| -> Tap {
        let mut command = Command::new(program);
        command.args(first).args(arguments);
        Process::spawn(name, command).into()
    };
    let taps = [
        spawn("vms-tap", program("vms-tap").to_str().unwrap(), &[], &common),
        spawn(
            "tap.c",
            &c_tap,
            &[],
            &common.iter().copied().filter(|word| *word != "--json").collect::<Vec<_>>(),
        ),
        spawn("vms_ring tap", &python, &["-m", "vms_ring", "tap"], &common),
    ];
    let [rust, c, python] = taps.map(|mut tap| {
        let status = tap.process.wait_for_end(SOON + Duration::from_secs(seconds));
        assert!(status.success(), "{}", tap.process.log());
        tap.summaries();
        by_seq(tap.history())
    });
    let shared: Vec<u64> =
        rust.keys().filter(|seq| c.contains_key(seq) && python.contains_key(seq)).copied().collect();
    let wanted = usize::try_from(seconds * 20).unwrap();
    assert!(
        shared.len() >= wanted,
        "{} records in common: {} {} {}",
        shared.len(),
        rust.len(),
        c.len(),
        python.len()
    );
    for seq in &shared {
        assert_eq!(rust[seq], c[seq], "C, unit {seq}");
        assert_eq!(rust[seq], python[seq], "Python, unit {seq}");
    }
    println!(
        "{} records, seq {} to {}, equal in Rust, C and Python",
        shared.len(),
        shared[0],
        shared[shared.len() - 1]
    );
}

#[test]
fn the_strangers_reader_reads_what_vms_tap_reads() {
    let lab = Lab::new("stranger");
    let reader = lab.path("reader");
    let source = format!("{ROOT}/ring-abi/tests/stranger/reader.c");
    run("cc", STRICT.into_iter().chain(["-o", &reader, &source]));
    let _daemon = lab.daemon(&[]);
    let cameras = lab.cameras(&["--cameras", "2", "--bitrate", "4M"]);
    let ids = ["cam0", "cam1"];
    ids.iter().for_each(|id| lab.setup(id, &cameras.url(id)));
    let mut watch = lab.watch();
    ids.iter().for_each(|id| drop(watch.wait_for_state(id, "streaming")));

    let mut ours: Tap = lab.tap(&["cam0", "cam1", "--json", "--from", "oldest"]).into();
    ours.take_records(10, SOON);
    let mut command = Command::new(&reader);
    command.arg(lab.ring_socket()).arg("100000").args(ids);
    let mut stranger: Tap = Process::spawn("reader.c", command).into();
    stranger.take_records(100, SOON);
    // Both follow the end of one stream, and then the daemon's.
    assert!(lab.ctl(&["teardown", "cam0"]).status.success());
    stranger.take_records(100, SOON);
    assert!(lab.ctl(&["teardown", "cam1"]).status.success());
    assert!(stranger.process.wait_for_end(SOON).success(), "{}", stranger.process.log());
    assert!(ours.process.wait_for_end(SOON).success());
    ours.summaries();
    let (units, ends): (Vec<Value>, Vec<Value>) = {
        stranger.take_what_is_there();
        stranger.history().iter().cloned().partition(|line| line["seq"].is_u64())
    };
    for id in ids {
        let of = |records: &[Value]| {
            by_seq(&records.iter().filter(|r| r["id"] == id).cloned().collect::<Vec<_>>())
        };
        let (ours, theirs) = (of(ours.history()), of(&units));
        let shared: Vec<u64> = ours.keys().filter(|seq| theirs.contains_key(seq)).copied().collect();
        assert!(shared.len() >= 50, "{id}: {} units in common", shared.len());
        for seq in shared {
            for field in ["pts_ns", "len", "key", "flags", "timeline", "config_id", "crc32"] {
                assert_eq!(ours[&seq][field], theirs[&seq][field], "{id}, unit {seq}, {field}");
            }
        }
        let end = ends.iter().find(|end| end["id"] == id).unwrap();
        assert_eq!((&end["rstate"], &end["reason"]), (&Value::from(2), &Value::from(1)), "{end}");
        assert_eq!(end["accepted"].as_u64().unwrap(), theirs.len() as u64, "{end}");
    }
}

/// `tap` from a copy of `ring-abi/include` and `ring-abi/c`, and nothing else.
fn build_from_a_copy(lab: &Lab) -> String {
    for directory in ["include", "c"] {
        let to = lab.dir.join("copy").join(directory);
        fs::create_dir_all(&to).unwrap();
        for entry in fs::read_dir(format!("{ROOT}/ring-abi/{directory}")).unwrap().flatten() {
            if entry.path().extension().is_some_and(|kind| kind == "h" || kind == "c") {
                fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
            }
        }
    }
    let (include, source, tap) = (lab.path("copy/include"), lab.path("copy/c/tap.c"), lab.path("copy/tap"));
    run("cc", STRICT.into_iter().chain(["-I", &include, "-o", &tap, &source]));
    tap
}

/// The interpreter of a virtual environment that holds the package alone.
fn install_in_an_empty_venv(lab: &Lab) -> String {
    let venv = lab.path("venv");
    run("/usr/bin/python3", ["-m", "venv", &venv]);
    // From a copy: building writes into the tree.
    let copy = lab.path("package");
    run("cp", ["-r", &format!("{ROOT}/ring-abi/python"), &copy]);
    run(format!("{venv}/bin/pip"), ["install", "--quiet", "--disable-pip-version-check", &copy]);
    format!("{venv}/bin/python")
}

fn encode_1080p(lab: &Lab) -> String {
    let file = lab.path("hd.h264");
    let source = "testsrc2=size=1920x1080:rate=25:duration=4";
    let encoder = ["-c:v", "libx264", "-preset", "ultrafast", "-g", "25", "-b:v", "4M", "-f", "h264"];
    run(
        "ffmpeg",
        ["-v", "error", "-f", "lavfi", "-i", source].into_iter().chain(encoder).chain([file.as_str()]),
    );
    assert!(Path::new(&file).exists());
    file
}

/// The records by their number, without what depends on when a reader came.
fn by_seq(records: &[Value]) -> BTreeMap<u64, Value> {
    let mut records = records.to_vec();
    for record in &mut records {
        let flags = record["flags"].as_u64().unwrap() & !BACKFILL;
        record["flags"] = flags.into();
    }
    records.into_iter().map(|record| (record["seq"].as_u64().unwrap(), record)).collect()
}
