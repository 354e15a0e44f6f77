//! Promise: what a camera that is not ours sends arrives whole.
//!
//! GStreamer's RTSP server serves files made by x264 and x265; what `vms-tap --annexb` writes must decode, with
//! FFmpeg, to exactly the frames of the source.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use support::{Lab, Process, SOON, gstreamer_server, run};

/// Frames compared in each case.
const FRAMES: usize = 500;
/// Units read in each case; the files have a few more. A decoder that is not told of the end holds B-frames back, so the
/// last few may be out of order.
const UNITS: usize = FRAMES + 8;

struct Case {
    name: &'static str,
    encoder: &'static [&'static str],
    b_frames: bool,
}

const CASES: &[Case] = &[
    Case {
        name: "h264",
        encoder: &["-c:v", "libx264", "-preset", "ultrafast", "-x264-params", "keyint=50:bframes=0:qp=18"],
        b_frames: false,
    },
    Case {
        name: "h264-bframes-slices",
        encoder: &[
            "-c:v",
            "libx264",
            "-preset",
            "ultrafast",
            "-x264-params",
            "keyint=50:bframes=3:b-adapt=0:slices=4:qp=18",
        ],
        b_frames: true,
    },
    Case {
        name: "h265",
        encoder: &[
            "-c:v",
            "libx265",
            "-preset",
            "ultrafast",
            "-x265-params",
            "log-level=error:keyint=50:bframes=0:qp=18",
        ],
        b_frames: false,
    },
    Case {
        name: "h265-bframes-slices",
        encoder: &[
            "-c:v",
            "libx265",
            "-preset",
            "ultrafast",
            "-x265-params",
            "log-level=error:keyint=50:bframes=3:b-adapt=0:slices=4:qp=18",
        ],
        b_frames: true,
    },
];

#[test]
fn gstreamer_cameras_decode_to_exactly_the_source() {
    let sources: Vec<PathBuf> = CASES.iter().map(encode).collect();
    let lab = Lab::new("real-input");
    let _daemon = lab.daemon(&[]);
    let (_server, port) = gstreamer_server(&sources);

    let taps: Vec<(PathBuf, Process)> = CASES
        .iter()
        .map(|case| {
            lab.setup(case.name, &format!("rtsp://127.0.0.1:{port}/{}", case.name));
            let output = lab.dir.join(case.name);
            let count = UNITS.to_string();
            let annexb = output.to_str().unwrap();
            let tap =
                lab.tap(&[case.name, "--from", "oldest", "--json", "--annexb", annexb, "--count", &count]);
            (output, tap)
        })
        .collect();

    for ((case, source), (output, mut tap)) in CASES.iter().zip(&sources).zip(taps) {
        let status = tap.wait_for_end(SOON + Duration::from_secs(20));
        assert!(status.success(), "{}: vms-tap ended with {status}", case.name);
        check_records(case, &tap.rest());
        let expected = frame_hashes(source, None);
        let actual = frame_hashes(&output, Some(case.name));
        assert!(expected.len() >= FRAMES && actual.len() >= FRAMES, "{} {}", expected.len(), actual.len());
        assert_eq!(actual[..FRAMES], expected[..FRAMES], "{}: frames differ", case.name);
    }
}

fn check_records(case: &Case, lines: &[String]) {
    let records: Vec<Value> = lines
        .iter()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|record| record.get("seq").is_some())
        .collect();
    assert_eq!(records.len(), UNITS, "{}", case.name);
    assert!(records.iter().all(|record| record["gap"] == 0), "{}: units were lost", case.name);
    let largest_key = records
        .iter()
        .filter(|record| record["key"] == true)
        .map(|record| record["len"].as_u64().unwrap())
        .max()
        .unwrap();
    assert!(largest_key > 100 * 1024, "{}: the largest key frame has {largest_key} bytes only", case.name);
}

fn encode(case: &Case) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}.mkv", case.name));
    if !path.exists() {
        let partial = path.with_extension("partial.mkv");
        let picture = "testsrc2=size=640x360:rate=50:duration=10.4,noise=alls=25:allf=t+u";
        let input = ["-v", "error", "-y", "-f", "lavfi", "-i", picture, "-pix_fmt", "yuv420p"];
        run("ffmpeg", input.iter().chain(case.encoder).copied().chain([partial.to_str().unwrap()]));
        std::fs::rename(partial, &path).unwrap();
    }
    let probe =
        ["-v", "error", "-show_entries", "stream=has_b_frames", "-of", "csv=p=0", path.to_str().unwrap()];
    let reordered = String::from_utf8(run("ffprobe", probe)).unwrap().trim() != "0";
    assert_eq!(reordered, case.b_frames, "{}: the encoder did not do as told", case.name);
    path
}

/// MD5 of each decoded frame, in the order of display. Time stamps are left out: an elementary stream has none.
fn frame_hashes(path: &Path, elementary: Option<&str>) -> Vec<String> {
    let format = elementary.map(|name| if name.starts_with("h265") { "hevc" } else { "h264" });
    let input = format.iter().flat_map(|format| ["-f", format]).chain(["-i", path.to_str().unwrap()]);
    let output = ["-fps_mode", "passthrough", "-f", "framemd5", "-"];
    let text = run("ffmpeg", ["-v", "error"].into_iter().chain(input).chain(output));
    String::from_utf8(text)
        .unwrap()
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.rsplit(',').next().unwrap().trim().to_owned())
        .collect()
}
