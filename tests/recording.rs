//! Promise: what is recorded is every unit that was published, exactly once, in files that are cut at the clock's boundaries; also
//! when the recorder is killed in between.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;
use support::{Lab, Process, SOON, program, run};
use vms_record::catalogue::{Catalogue, Listed};
use vms_record::mkv;

#[test]
fn every_unit_is_recorded_once_through_cuts_and_a_kill_of_the_recorder() {
    let lab = Lab::new("recording");
    let _daemon = lab.daemon(&[]);
    let cameras = lab.cameras(&["--cameras", "4", "--bitrate", "1M"]);
    let ids = ["cam0", "cam1", "cam2", "cam3"];
    for id in &ids[..3] {
        let url = format!("rtsp://{}/{id}", cameras.address);
        assert!(lab.ctl(&["setup", id, &url, "--record"]).status.success());
    }
    assert!(lab.ctl(&["setup", "cam3", &format!("rtsp://{}/cam3", cameras.address)]).status.success());
    let dir = PathBuf::from(lab.path("recordings"));

    let mut recorder = record(&lab, &dir, &[]);
    wait_for_files(&recorder, 6);
    recorder.signal(Signal::KILL);
    recorder.wait_for_end(SOON);
    let mut recorder = record(&lab, &dir, &[]);
    // One is recorded only from here on, another one no longer.
    assert!(lab.ctl(&["update", "cam3", "--record", "continuous"]).status.success());
    assert!(lab.ctl(&["update", "cam2", "--record", "off"]).status.success());
    wait_for_files(&recorder, 9);
    assert!(recorder.terminate().success());

    let catalogue = Catalogue::open(&dir).unwrap();
    for id in ids {
        let listed = catalogue.segments(Some(id), i64::MIN, i64::MAX).unwrap();
        let stamps = stamps(&dir, &listed);
        assert!(stamps.len() >= 50, "{id}: {}", stamps.len());
        let gaps: Vec<_> = stamps.windows(2).filter(|pair| pair[1] != pair[0] + 1).collect();
        assert!(gaps.is_empty(), "{id}: {gaps:?}");
        assert_eq!(catalogue.gaps(Some(id), i64::MIN, i64::MAX).unwrap(), [], "{id}");
        assert!(
            listed.windows(2).all(|pair| pair[1].segment.first_seq == pair[0].segment.last_seq + 1),
            "{id}"
        );
        assert!(listed.iter().all(|file| !file.locked && file.segment.damaged == 0), "{id}");
    }
}

#[test]
fn recordings_are_listed_locked_and_exported() {
    let lab = Lab::new("recordings");
    let _daemon = lab.daemon(&[]);
    let cameras = lab.cameras(&["--cameras", "1"]);
    assert!(lab.ctl(&["setup", "cam0", &cameras.url("cam0"), "--record"]).status.success());
    let dir = PathBuf::from(lab.path("recordings"));
    let recorder = record(&lab, &dir, &[]);
    wait_for_files(&recorder, 3);
    let socket = format!("unix:{}", lab.path("record.sock"));
    let ask = |words: &[&str]| lab.ctl_json(&[words, &["--recorder", &socket]].concat());

    let list = ask(&["recordings", "cam0"]);
    let files = list["recordings"].as_array().unwrap();
    assert!(files.len() >= 3 && list["gaps"].as_array().unwrap().is_empty(), "{list}");
    assert_eq!(
        (&files[0]["codec"], &files[0]["width"], &files[0]["locked"]),
        (&"h264".into(), &640.into(), &false.into())
    );
    let (start, end) = (files[0]["start"].as_str().unwrap(), files[1]["end"].as_str().unwrap());
    assert_eq!(ask(&["lock", "cam0", "--from", start, "--to", end])["recordings"], 2);
    let locked = ask(&["recordings", "cam0"]);
    assert_eq!(
        (&locked["recordings"][1]["locked"], &locked["recordings"][2]["locked"]),
        (&true.into(), &false.into())
    );
    assert_eq!(
        ask(&["unlock", "cam0", "--from", start])["recordings"].as_u64(),
        Some(locked["recordings"].as_array().unwrap().len() as u64)
    );
    assert!(ask(&["recordings", "nobody"])["recordings"].as_array().unwrap().is_empty());

    // From the begin to the begin of the third file: the first two, whole.
    let clip = lab.path("clip.mkv");
    let third = files[2]["start"].as_str().unwrap();
    let exported = ask(&["export", "cam0", "--from", start, "--to", third, "--output", &clip]);
    assert_eq!(exported["bytes"], fs::metadata(&clip).unwrap().len());
    let units = files[0]["units"].as_u64().unwrap() + files[1]["units"].as_u64().unwrap();
    let counted = run(
        "ffprobe",
        ["-v", "error", "-count_frames", "-show_entries", "stream=nb_read_frames", "-of", "csv=p=0", &clip],
    );
    assert_eq!(String::from_utf8_lossy(&counted).trim(), units.to_string(), "all pictures are decoded");
    let words = ["export", "cam0", "--from", start, "--output", &clip, "--recorder", &socket];
    assert!(!lab.ctl(&words).status.success(), "what is there is not written over");
    let refused = lab.ctl(&[
        "export",
        "nobody",
        "--from",
        start,
        "--output",
        &lab.path("no.mkv"),
        "--recorder",
        &socket,
    ]);
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && told.contains("nothing is recorded"), "{told}");
    assert!(!PathBuf::from(lab.path("no.mkv")).exists());
}

#[test]
fn the_oldest_files_go_when_there_are_too_many_and_locked_ones_stay() {
    let lab = Lab::new("retention");
    let _daemon = lab.daemon(&[]);
    let cameras = lab.cameras(&["--cameras", "1", "--bitrate", "1M"]);
    assert!(lab.ctl(&["setup", "cam0", &cameras.url("cam0"), "--record"]).status.success());
    let dir = PathBuf::from(lab.path("recordings"));
    // A file of two seconds has about 270 kB.
    let recorder = record(&lab, &dir, &["--keep-bytes", "900k"]);
    let first = recorder.wait_for_line("a file", SOON, |line| line.contains("\"segment\""));
    let first: serde_json::Value = serde_json::from_str(&first).unwrap();
    let (path, start) = (first["path"].as_str().unwrap(), first["start"].as_str().unwrap());
    let socket = format!("unix:{}", lab.path("record.sock"));
    let locked =
        ["lock", "cam0", "--from", start, "--to", first["end"].as_str().unwrap(), "--recorder", &socket];
    assert_eq!(lab.ctl_json(&locked)["recordings"], 1);
    let mut deleted = Vec::new();
    for _ in 0..2 {
        let line = recorder.wait_for_line("a deleted file", SOON, |line| line.contains("\"deleted\""));
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        deleted.push(line["path"].as_str().unwrap().to_owned());
    }
    assert!(deleted.is_sorted() && !deleted.iter().any(|gone| gone == path), "{deleted:?}");
    assert!(dir.join(path).exists() && deleted.iter().all(|gone| !dir.join(gone).exists()));
    let list = lab.ctl_json(&["recordings", "--recorder", &socket]);
    let bytes: u64 =
        list["recordings"].as_array().unwrap().iter().map(|file| file["bytes"].as_u64().unwrap()).sum();
    assert!(bytes <= 900_000 && list["recordings"][0]["path"] == path, "{list}");
}

fn record(lab: &Lab, dir: &Path, arguments: &[&str]) -> Process {
    let mut command = Command::new(program("vms-record"));
    command
        .args([
            "--server",
            &format!("unix:{}", lab.control_socket()),
            "--ring-socket",
            &lab.ring_socket(),
            "--segment",
            "2s",
            "--json",
        ])
        .args(["--listen", &format!("unix:{}", lab.path("record.sock"))])
        .arg("--dir")
        .arg(dir)
        .args(arguments);
    Process::spawn("vms-record", command)
}

/// Waits until so many files more are finished.
fn wait_for_files(recorder: &Process, count: usize) {
    for _ in 0..count {
        recorder.wait_for_line("a finished file", SOON, |line| line.contains("\"segment\""));
    }
}

/// Counters of the units' stamps, file by file, each unit with the checksum that the camera gave it.
fn stamps(dir: &Path, listed: &[Listed]) -> Vec<u64> {
    let mut stamps = Vec::new();
    for Listed { segment, .. } in listed {
        let file = fs::read(dir.join(&segment.path)).unwrap();
        assert_eq!(file.len() as u64, segment.bytes);
        let before = stamps.len();
        let codec = if segment.codec == "h265" { vms_stamp::Codec::H265 } else { vms_stamp::Codec::H264 };
        for unit in mkv::units(&file).unwrap() {
            let payload = annex_b(unit.payload);
            let stamp = vms_stamp::find(&payload, codec).unwrap();
            assert!(stamp.crc_ok, "{}", segment.path.display());
            stamps.push(stamp.counter);
        }
        assert_eq!((stamps.len() - before) as u64, segment.units, "{}", segment.path.display());
    }
    stamps
}

/// Lengths of four bytes become start codes again.
fn annex_b(payload: &[u8]) -> Vec<u8> {
    let mut payload = payload.to_vec();
    let mut at = 0;
    while at < payload.len() {
        let len = u32::from_be_bytes(payload[at..at + 4].try_into().unwrap());
        payload[at..at + 4].copy_from_slice(&[0, 0, 0, 1]);
        at += 4 + len as usize;
    }
    payload
}
