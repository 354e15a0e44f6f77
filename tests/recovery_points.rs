//! Promise: a reader enters a stream whose camera sends recovery points and, but for the first picture, no IDRs; and
//! one that has not even these, if it wants everything.
//!
//! GStreamer's RTSP server serves files made by x264 and x265; what a reader who came late wrote must decode to pictures
//! of the source, without a hole.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::path::{Path, PathBuf};

use ring_abi::layout::Flags;
use support::{Lab, SOON, Tap, gstreamer_server, run};

/// Units from one entry point to the next.
const PERIOD: usize = 20;
/// Units that a late reader reads: some periods, so that the picture is clean long before the end.
const UNITS: usize = 4 * PERIOD;
/// Frames that must come out of them. An intra refresh takes a period until the picture is clean, and a decoder that
/// is not told of the end keeps some back.
const FRAMES: usize = 2 * PERIOD;

/// Name and what x264 is told.
const CASES: &[(&str, &str)] = &[
    ("h264-open-gop", "keyint=20:open-gop=1:bframes=2:b-adapt=0"),
    ("h264-intra-refresh", "keyint=20:intra-refresh=1:bframes=0"),
];
/// x265 refreshes as x264 does, and says so nowhere.
const WITHOUT_ENTRY: (&str, &str) =
    ("h265-intra-refresh", "log-level=error:keyint=20:intra-refresh=1:bframes=0");

#[test]
fn late_readers_enter_at_recovery_points() {
    let sources: Vec<PathBuf> = CASES.iter().map(|(name, options)| encode(name, options)).collect();
    let lab = Lab::new("recovery-points");
    let _daemon = lab.daemon(&[]);
    let (_server, port) = gstreamer_server(&sources);
    let mut early: Vec<Tap> = CASES
        .iter()
        .map(|(name, _)| {
            lab.setup(name, &format!("rtsp://127.0.0.1:{port}/{name}"));
            lab.tap(&[name, "--from", "oldest", "--json"]).into()
        })
        .collect();

    for ((name, _), early) in CASES.iter().zip(&mut early) {
        let records = early.take_records(3 * PERIOD, SOON);
        let idrs = records.iter().filter(|one| one["key"] == true && !is_recovery_point(one)).count();
        assert_eq!(idrs, 1, "{name}: the encoder did not do as told");
    }
    let late: Vec<(usize, String, Tap)> = [(0, "live"), (0, "keyframe"), (1, "live"), (1, "keyframe")]
        .map(|(case, from)| {
            let name = CASES[case].0;
            let output = lab.path(&format!("{name}-{from}.h264"));
            let count = UNITS.to_string();
            let options = [name, "--from", from, "--json", "--annexb", &output, "--count", &count];
            (case, output.clone(), lab.tap(&options).into())
        })
        .into();
    for (case, output, mut tap) in late {
        let first = &tap.take_records(UNITS, SOON)[0];
        assert!(first["seq"].as_u64().unwrap() > 1, "{output} begins with the only IDR: {first}");
        assert!(first["key"] == true && is_recovery_point(first), "{output}: {first}");
        assert!(tap.process.wait_for_end(SOON).success());
        check_frames(&frame_hashes(Path::new(&output)), &frame_hashes(&sources[case]), &output);
    }
}

#[test]
fn a_stream_without_entry_points_is_read_by_who_wants_everything() {
    let (name, options) = WITHOUT_ENTRY;
    let source = encode(name, options);
    let lab = Lab::new("no-entry-points");
    let _daemon = lab.daemon(&[]);
    let (_server, port) = gstreamer_server(std::slice::from_ref(&source));
    lab.setup(name, &format!("rtsp://127.0.0.1:{port}/{name}"));
    let mut early: Tap = lab.tap(&[name, "--from", "oldest", "--json"]).into();
    early.take_records(PERIOD, SOON);

    let mut waiting: Tap = lab.tap(&[name, "--from", "live", "--json"]).into();
    let count = UNITS.to_string();
    let mut late: Tap =
        lab.tap(&[name, "--from", "live", "--everything", "--json", "--count", &count]).into();
    let records = late.take_records(UNITS, SOON);
    assert!(records[0]["seq"].as_u64().unwrap() > 1);
    assert!(
        records.iter().all(|one| one["key"] == false && one["gap"] == 0),
        "the encoder did not do as told"
    );
    assert!(late.process.wait_for_end(SOON).success());
    assert_eq!(waiting.take_what_is_there(), 0, "there is a keyframe after all");
}

fn is_recovery_point(record: &serde_json::Value) -> bool {
    record["flags"].as_u64().unwrap() & u64::from(Flags::RECOVERY_POINT.0) != 0
}

/// What was decoded last, the very end excepted, is a piece of the source.
fn check_frames(decoded: &[String], source: &[String], name: &str) {
    // The last ones may be out of order: the decoder did not know that the pictures between would not come.
    let end = decoded.len() - 4;
    assert!(end >= FRAMES, "{name}: {} frames", decoded.len());
    let piece = &decoded[end - FRAMES..end];
    assert!(source.windows(FRAMES).any(|frames| frames == piece), "{name}: frames differ");
}

fn encode(name: &str, options: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.mkv"));
    if !path.exists() {
        let partial = path.with_extension("partial.mkv");
        let picture = "testsrc2=size=320x180:rate=50:duration=12,noise=alls=10:allf=t+u";
        let input = ["-v", "error", "-y", "-f", "lavfi", "-i", picture, "-pix_fmt", "yuv420p"];
        let (library, parameters) =
            if name.starts_with("h265") { ("libx265", "-x265-params") } else { ("libx264", "-x264-params") };
        let encoder = ["-c:v", library, "-preset", "ultrafast", parameters, options];
        run("ffmpeg", input.into_iter().chain(encoder).chain([partial.to_str().unwrap()]));
        std::fs::rename(partial, &path).unwrap();
    }
    path
}

/// MD5 of each decoded frame, in the order of display.
fn frame_hashes(path: &Path) -> Vec<String> {
    let output = ["-fps_mode", "passthrough", "-f", "framemd5", "-"];
    let text = run("ffmpeg", ["-v", "quiet", "-i", path.to_str().unwrap()].into_iter().chain(output));
    let text = String::from_utf8(text).unwrap();
    let frames = text.lines().filter(|line| !line.starts_with('#'));
    frames.map(|line| line.rsplit(',').next().unwrap().trim().to_owned()).collect()
}
