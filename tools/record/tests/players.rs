//! What others make of our files: MKVToolNix has nothing to say against them, and FFmpeg decodes the source's pictures at the source's
//! times, seeks to the right keyframe, and plays a file that is still being written.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use ring_abi::layout::Codec;
use vms_record::mkv::{Finished, Frame, Header, Muxer, Payload, VideoTrack};

struct Case {
    name: &'static str,
    codec: Codec,
    encoder: &'static str,
}

const CASES: [Case; 5] = [
    Case { name: "h264", codec: Codec::H264, encoder: "-c:v libx264 -preset veryfast -bf 0 -g 25" },
    Case {
        name: "h264-b",
        codec: Codec::H264,
        encoder: "-c:v libx264 -preset veryfast -bf 3 -g 25 -x264-params b-pyramid=normal",
    },
    Case {
        name: "h264-vfr",
        codec: Codec::H264,
        encoder: "-vf setpts='if(eq(mod(N,3),0),N/25/TB,(N+0.4)/25/TB)' -fps_mode passthrough -c:v libx264 -preset veryfast -bf 2 -g 25",
    },
    Case {
        name: "h265",
        codec: Codec::H265,
        encoder: "-c:v libx265 -preset ultrafast -g 25 -x265-params bframes=0:log-level=error:pools=1",
    },
    Case {
        name: "h265-b",
        codec: Codec::H265,
        encoder: "-c:v libx265 -preset fast -g 25 -x265-params open-gop=0:bframes=3:log-level=error:pools=1",
    },
];

#[test]
fn files_are_whole_for_mkvtoolnix_and_ffmpeg() {
    for case in &CASES {
        let source = Source::make(case);
        let (bytes, finished) = source.mux(usize::MAX);
        let file = source.dir.join("finished.mkv");
        fs::write(&file, with_header(&bytes, &finished)).unwrap();
        assert_no_complaint(&file);

        assert_eq!(pictures(&file), pictures(&source.mp4), "{}", case.name);
        let duration: f64 = probe(&file, "format=duration").parse().unwrap();
        #[expect(clippy::cast_precision_loss, reason = "seconds")]
        let truth = source.duration_ns() as f64 / 1e9;
        assert!((duration - truth).abs() <= 0.04, "{}: {duration}, not {truth}", case.name);

        assert_times(&source, &file);
        assert_seeks(&source, &file);
    }
}

#[test]
fn a_file_that_is_being_written_plays() {
    for case in &CASES {
        let source = Source::make(case);
        let (bytes, _) = source.mux(60);
        let file = source.dir.join("growing.mkv");
        fs::write(&file, &bytes).unwrap();
        let of_source = pictures(&source.mp4);
        let read = pictures(&file);
        // What is shown behind the last unit that is there is not there yet.
        assert!(read.len() >= 55, "{}: {}", case.name, read.len());
        assert_eq!(read[..50], of_source[..50], "{}", case.name);
    }
}

/// An encoded clip: packets in decoding order.
struct Source {
    dir: PathBuf,
    mp4: PathBuf,
    codec: Codec,
    parameter_sets: Vec<u8>,
    /// Presentation time in ns, keyframe, Annex B.
    packets: Vec<(i64, bool, Vec<u8>)>,
}

impl Source {
    fn make(case: &Case) -> Self {
        let dir =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{}", case.name, std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let mp4 = dir.join("source.mp4");
        let args = format!(
            "-v error -y -f lavfi -i testsrc2=size=320x180:rate=25 -t 4 -pix_fmt yuv420p {} -video_track_timescale 90000",
            case.encoder
        );
        run("ffmpeg", args.split_whitespace().chain([mp4.to_str().unwrap()]));
        let first = run_bytes(
            "ffmpeg",
            [
                "-v",
                "error",
                "-i",
                mp4.to_str().unwrap(),
                "-c",
                "copy",
                "-frames:v",
                "1",
                "-f",
                raw_format(case.codec),
                "-",
            ],
        );
        let entries = "packet=pts,flags,pos,size";
        let listing = run(
            "ffprobe",
            [
                "-v",
                "error",
                "-select_streams",
                "v",
                "-show_entries",
                entries,
                "-of",
                "csv=p=0",
                mp4.to_str().unwrap(),
            ],
        );
        let file = fs::read(&mp4).unwrap();
        let packets = listing.lines().map(|line| packet(line, &file)).collect();
        Self { dir, mp4, codec: case.codec, parameter_sets: first, packets }
    }

    /// The file of the first `count` packets, with a checkpoint every 20.
    fn mux(&self, count: usize) -> (Vec<u8>, Finished) {
        let track =
            VideoTrack { codec: self.codec, parameter_sets: &self.parameter_sets(), width: 320, height: 180 };
        let header =
            Header::new(track, 1234, "yard", 1_700_000_000_000_000_000).unwrap().tag("STREAM_ID", "yard");
        let mut bytes = Vec::new();
        let mut muxer = Muxer::begin(&header, 1, self.first_ns(), &mut bytes);
        for (n, (pts_ns, is_key, payload)) in self.packets.iter().take(count).enumerate() {
            let frame = Frame {
                payload: Payload::AnnexB { bytes: payload, nal_ends: &[] },
                pts_ns: *pts_ns,
                is_key: *is_key,
                is_disposable: false,
                seq: n as u64 + 1,
            };
            muxer.unit(&frame, &mut bytes);
            if n % 20 == 19 {
                muxer.checkpoint(&mut bytes);
            }
        }
        let len = bytes.len();
        let finished = muxer.finish(&mut bytes);
        if count < self.packets.len() {
            bytes.truncate(len);
        }
        (bytes, finished)
    }

    /// The parameter sets in front of the first picture.
    fn parameter_sets(&self) -> Vec<u8> {
        let is_set = |unit: &[u8]| match self.codec {
            Codec::H264 => matches!(unit[0] & 0x1F, 7 | 8),
            Codec::H265 => matches!(unit[0] >> 1 & 0x3F, 32..=34),
            Codec::Unknown => false,
        };
        let mut sets = Vec::new();
        for unit in units(&self.parameter_sets).into_iter().filter(|unit| is_set(unit)) {
            sets.extend([0, 0, 0, 1]);
            sets.extend(unit);
        }
        sets
    }

    fn first_ns(&self) -> i64 {
        self.packets.iter().map(|(pts_ns, ..)| *pts_ns).min().unwrap()
    }

    fn duration_ns(&self) -> i64 {
        self.packets.iter().map(|(pts_ns, ..)| *pts_ns).max().unwrap() - self.first_ns() + 40_000_000
    }
}

/// A packet of an MP4 file, whose NAL units stand behind lengths of four bytes.
fn packet(line: &str, file: &[u8]) -> (i64, bool, Vec<u8>) {
    // `pts,size,pos,flags` is the order in which it prints them.
    let fields: Vec<&str> = line.split(',').collect();
    let [pts, size, pos, flags] = fields[..4] else { panic!("{line}") };
    let pts: i64 = pts.parse().unwrap();
    let (pos, size): (usize, usize) = (pos.parse().unwrap(), size.parse().unwrap());
    let mut payload = file[pos..pos + size].to_vec();
    let mut at = 0;
    while at < payload.len() {
        let len = u32::from_be_bytes(payload[at..at + 4].try_into().unwrap());
        payload[at..at + 4].copy_from_slice(&[0, 0, 0, 1]);
        at += 4 + len as usize;
    }
    (pts * 100_000 / 9, flags.contains('K'), payload)
}

/// NAL units behind start codes of three or four bytes.
fn units(annex_b: &[u8]) -> Vec<&[u8]> {
    let starts: Vec<usize> =
        (0..annex_b.len().saturating_sub(3)).filter(|at| annex_b[*at..].starts_with(&[0, 0, 1])).collect();
    let ends = starts.iter().skip(1).copied().chain([annex_b.len()]);
    let unit = |(start, end): (&usize, usize)| {
        let unit = &annex_b[start + 3..end];
        unit.strip_suffix(&[0]).unwrap_or(unit)
    };
    starts.iter().zip(ends).map(unit).collect()
}

const fn raw_format(codec: Codec) -> &'static str {
    match codec {
        Codec::H264 => "h264",
        Codec::H265 => "hevc",
        Codec::Unknown => "data",
    }
}

fn with_header(bytes: &[u8], finished: &Finished) -> Vec<u8> {
    assert_eq!(bytes.len() as u64, finished.len);
    [&finished.header, &bytes[finished.header.len()..]].concat()
}

/// Neither program says a word of warning.
fn assert_no_complaint(file: &Path) {
    let file = file.to_str().unwrap();
    for output in [run("mkvinfo", ["-v", "-v", file]), run("mkvmerge", ["-i", file])] {
        let lower = output.to_lowercase();
        assert!(!lower.contains("warning") && !lower.contains("error"), "{output}");
        assert!(!lower.contains("unknown element"), "{output}");
    }
    assert_eq!(run("ffprobe", ["-v", "warning", file]), "");
}

/// Checksums of all pictures, in the order in which they are shown.
fn pictures(file: &Path) -> Vec<String> {
    let file = file.to_str().unwrap();
    let listing =
        run("ffmpeg", ["-v", "error", "-i", file, "-fps_mode", "passthrough", "-f", "framemd5", "-"]);
    let rows = listing.lines().filter(|line| !line.starts_with('#'));
    rows.map(|line| line.rsplit(',').next().unwrap().trim().to_owned()).collect()
}

/// Each packet's time is the source's, to a tick.
fn assert_times(source: &Source, file: &Path) {
    let listing = probe(file, "packet=pts_time");
    let times: Vec<f64> = listing.lines().map(|line| line.trim_end_matches(',').parse().unwrap()).collect();
    assert_eq!(times.len(), source.packets.len());
    for (time, (pts_ns, ..)) in times.iter().zip(&source.packets) {
        #[expect(clippy::cast_precision_loss, reason = "seconds")]
        let truth = (pts_ns - source.first_ns()) as f64 / 1e9;
        assert!((time - truth).abs() <= 0.000_06, "{time}, not {truth}");
    }
}

/// Who seeks into a group of pictures gets its keyframe, and from there the picture that was asked for.
fn assert_seeks(source: &Source, file: &Path) {
    let all = pictures(file);
    for (seconds, index) in [("2.5", None), ("3", Some(75))] {
        let listing = run(
            "ffmpeg",
            [
                "-v",
                "error",
                "-ss",
                seconds,
                "-i",
                file.to_str().unwrap(),
                "-fps_mode",
                "passthrough",
                "-f",
                "framemd5",
                "-",
            ],
        );
        let first =
            listing.lines().find(|line| !line.starts_with('#')).unwrap().rsplit(',').next().unwrap().trim();
        let at = all.iter().position(|picture| picture == first).unwrap();
        assert!(index.is_none_or(|index| index == at), "{:?}: {seconds} s is picture {at}", source.codec);
        assert!((60..=75).contains(&at), "{:?}: {seconds} s is picture {at}", source.codec);
    }
    // By the index, and not by reading the file from its begin.
    let interval = run(
        "ffprobe",
        [
            "-v",
            "error",
            "-read_intervals",
            "2.5%+0.01",
            "-show_entries",
            "packet=pts_time,flags",
            "-of",
            "csv=p=0",
            file.to_str().unwrap(),
        ],
    );
    assert!(interval.starts_with("2.0"), "{interval}");
}

fn probe(file: &Path, entries: &str) -> String {
    run("ffprobe", ["-v", "error", "-show_entries", entries, "-of", "csv=p=0", file.to_str().unwrap()])
        .trim()
        .to_owned()
}

fn run<'a>(program: &str, args: impl IntoIterator<Item = &'a str>) -> String {
    String::from_utf8(run_bytes(program, args)).unwrap()
}

fn run_bytes<'a>(program: &str, args: impl IntoIterator<Item = &'a str>) -> Vec<u8> {
    let args: Vec<&str> = args.into_iter().collect();
    let output =
        Command::new(program).args(&args).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {text}{}", String::from_utf8_lossy(&output.stdout));
    output.stdout
}
