//! Promise: the three programs of docs/readers.md are complete and do what they say.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use support::{Lab, Process, SOON, program, run};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

#[test]
fn the_page_shows_the_programs_as_they_are() {
    let page = fs::read_to_string(Path::new(ROOT).join("docs/readers.md")).unwrap();
    for (language, file) in [
        ("c", "docs/examples/write_h264.c"),
        ("python", "docs/examples/count_keyframes.py"),
        ("rust", "ring-abi/examples/relay.rs"),
    ] {
        let program = fs::read_to_string(Path::new(ROOT).join(file)).unwrap();
        assert!(
            page.contains(&format!("```{language}\n{program}```")),
            "docs/readers.md does not show {file}"
        );
    }
}

#[test]
fn the_c_program_writes_what_ffmpeg_decodes() {
    let lab = Lab::new("example-c");
    let _daemon = lab.daemon(&[]);
    let cameras = lab.cameras(&["--cameras", "1"]);
    lab.setup("door", &cameras.url("cam0"));
    lab.watch().wait_for_state("door", "streaming");
    let (writer, file) = (lab.path("write_h264"), lab.path("door.h264"));
    run(
        "cc",
        [
            "-std=c11",
            "-Wall",
            "-Wextra",
            "-Wpedantic",
            "-Werror",
            "-O2",
            "-I",
            &format!("{ROOT}/ring-abi/include"),
            "-o",
        ]
        .into_iter()
        .chain([writer.as_str(), &format!("{ROOT}/docs/examples/write_h264.c")]),
    );
    run(&writer, [&lab.ring_socket(), "door", &file, "3"]);
    assert!(frames(&file) >= 50, "three seconds at 25 frames a second");
}

#[test]
fn the_python_program_counts_keyframes() {
    let lab = Lab::new("example-python");
    let _daemon = lab.daemon(&[]);
    let cameras = lab.cameras(&["--cameras", "2"]);
    for (id, path) in [("door", "cam0"), ("yard", "cam1")] {
        lab.setup(id, &cameras.url(path));
    }
    let mut watch = lab.watch();
    ["door", "yard"].iter().for_each(|id| drop(watch.wait_for_state(id, "streaming")));
    let mut command = Command::new("/usr/bin/python3");
    command
        .arg(format!("{ROOT}/docs/examples/count_keyframes.py"))
        .arg(lab.ring_socket())
        .args(["4", "door", "yard"]);
    command.env("PYTHONPATH", format!("{ROOT}/ring-abi/python/src"));
    let mut program = Process::spawn("count_keyframes.py", command);
    assert!(program.wait_for_end(SOON).success(), "{}", program.log());
    let lines = program.rest();
    for (line, id) in lines.iter().zip(["door", "yard"]) {
        let (name, count) = line.split_once(' ').unwrap();
        assert!(name == id && count.parse::<u32>().unwrap() >= 2, "{line}");
    }
    assert_eq!(lines.len(), 2);
}

#[test]
fn the_rust_program_relays_what_ffmpeg_decodes() {
    let lab = Lab::new("example-rust");
    let _daemon = lab.daemon(&[]);
    let cameras = lab.cameras(&["--cameras", "1"]);
    lab.setup("door", &cameras.url("cam0"));
    lab.watch().wait_for_state("door", "streaming");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    run(env!("CARGO"), ["build", "--quiet", "-p", "ring-abi", "--example", "relay"]);
    let mut command = Command::new(program("vms-media").with_file_name("examples").join("relay"));
    command.args([lab.ring_socket(), "door".into(), listener.local_addr().unwrap().to_string()]);
    let relay = Process::spawn("relay", command);
    let (connection, _) = listener.accept().unwrap();
    let mut bytes = Vec::new();
    connection.take(60_000).read_to_end(&mut bytes).unwrap();
    drop(relay);
    let file = lab.path("door.h264");
    fs::write(&file, bytes).unwrap();
    assert!(frames(&file) >= 20, "{} frames", frames(&file));
}

/// Frames that FFmpeg decodes without a complaint.
fn frames(file: &str) -> usize {
    let listing = run("ffmpeg", ["-v", "error", "-i", file, "-f", "framemd5", "-"]);
    String::from_utf8(listing).unwrap().lines().filter(|line| !line.starts_with('#')).count()
}
