//! The farm against FFmpeg, a client that we did not write: what arrives is what the clip holds.
//!
//! Needs `ffmpeg` in the PATH.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a failing test may panic anywhere")]

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::thread::JoinHandle;

use vms_camsim::{Access, Config, Scheme, Server, Stats, WriteMode};
use vms_stamp::{Codec, annexb};

const H264: &[u8] = include_bytes!("../../../tests/media/testsrc2.h264");
const H265: &[u8] = include_bytes!("../../../tests/media/testsrc2.h265");

#[test]
fn without_stamps_every_nal_unit_of_the_clip_arrives_unchanged() {
    let farm = Running::start(Config { stamp: false, ..config() });
    let received = both(|name, format| farm.receive(name, &["-c", "copy", "-f", format]));
    for (received, clip) in received.iter().zip([H264, H265]) {
        assert!(annexb::nals(received).eq(annexb::nals(clip)));
    }
    let stats = farm.stop();
    assert_eq!(stats.cameras.values().map(|camera| camera.units).collect::<Vec<_>>(), [100, 100]);
}

#[test]
fn stamps_arrive_whole_and_in_order() {
    let farm = Running::start(Config { bitrate: Some(2_000_000), write: WriteMode::Segment, ..config() });
    let received = both(|name, format| farm.receive(name, &["-c", "copy", "-f", format]));
    assert_stamped(&received[0], H264, Codec::H264);
    assert_stamped(&received[1], H265, Codec::H265);
}

#[test]
fn stamps_and_padding_do_not_change_the_pictures() {
    let farm = Running::start(Config { bitrate: Some(1_000_000), ..config() });
    let received = both(|name, _| farm.receive(name, &["-f", "rawvideo"]));
    for (received, clip) in received.iter().zip(["testsrc2.h264", "testsrc2.h265"]) {
        let path = format!("{}/../../tests/media/{clip}", env!("CARGO_MANIFEST_DIR"));
        let expected = ffmpeg(&["-i", &path, "-f", "rawvideo"]);
        assert_eq!(crc32fast::hash(received), crc32fast::hash(&expected), "{clip}");
        assert_eq!(received.len(), 100 * 640 * 360 * 3 / 2);
    }
}

#[test]
fn ffmpeg_proves_who_it_is() {
    for scheme in [Scheme::Basic, Scheme::DigestMd5] {
        let access =
            Access { user: "admin".into(), password: "p:w?".into(), scheme, nonce_lifetime_s: Some(60) };
        let farm = Running::start(Config { access: Some(access), stamp: false, ..config() });
        let url = format!("rtsp://admin:p%3Aw%3F@{}/h264", farm.address);
        let received =
            ffmpeg(&["-rtsp_transport", "tcp", "-i", &url, "-frames:v", "3", "-c", "copy", "-f", "h264"]);
        assert!(annexb::nals(&received).eq(annexb::nals(H264).take(annexb::nals(&received).count())));
        assert!(!received.is_empty());
    }
}

/// Each access unit of `clip` stands in `received` with one stamp, counted from 0, and its checksum holds.
fn assert_stamped(received: &[u8], clip: &[u8], codec: Codec) {
    // A stamp's checksum holds when the last NAL unit of its access unit is there, and not before.
    let nals: Vec<&[u8]> = annexb::nals(received).collect();
    let mut stamps = 0;
    let mut start = 0;
    for end in 1..=nals.len() {
        let unit: Vec<u8> = nals[start..end].iter().flat_map(|nal| [&[0, 0, 0, 1], *nal].concat()).collect();
        if let Some(stamp) = vms_stamp::find(&unit, codec).filter(|stamp| stamp.crc_ok) {
            assert_eq!(stamp.counter, stamps);
            stamps += 1;
            start = end;
        }
    }
    assert_eq!((stamps, start), (100, nals.len()));
    let original = annexb::nals(clip).count();
    assert!(nals.len() >= original + 100, "stamps and padding come on top of {original} NAL units");
}

fn config() -> Config {
    Config { once: true, ..Config::new(([127, 0, 0, 1], 0).into()) }
}

/// Both built-in cameras at the same time.
fn both(receive: impl Fn(&'static str, &'static str) -> Vec<u8> + Sync) -> [Vec<u8>; 2] {
    std::thread::scope(|scope| {
        let h264 = scope.spawn(|| receive("h264", "h264"));
        let h265 = receive("h265", "hevc");
        [h264.join().unwrap(), h265]
    })
}

/// A farm on a thread of its own.
struct Running {
    address: std::net::SocketAddr,
    stop: UnixStream,
    thread: JoinHandle<Stats>,
}

impl Running {
    fn start(config: Config) -> Self {
        let mut server = Server::bind(config).unwrap();
        let address = server.local_addr();
        let (stop, stopped) = UnixStream::pair().unwrap();
        let thread = std::thread::spawn(move || {
            server.run(stopped.as_fd()).unwrap();
            server.stats()
        });
        Self { address, stop, thread }
    }

    fn receive(&self, name: &str, output: &[&str]) -> Vec<u8> {
        let url = format!("rtsp://{}/{name}", self.address);
        ffmpeg(&[&["-rtsp_transport", "tcp", "-i", &url], output].concat())
    }

    fn stop(self) -> Stats {
        drop(self.stop);
        self.thread.join().unwrap()
    }
}

/// Runs FFmpeg and gives what it wrote to its standard output.
fn ffmpeg(arguments: &[&str]) -> Vec<u8> {
    let quiet = ["-hide_banner", "-loglevel", "error", "-nostdin"];
    let output = Command::new("ffmpeg")
        .args(quiet)
        .args(arguments)
        .arg("pipe:1")
        .stdin(Stdio::null())
        .output()
        .expect("this test needs the program `ffmpeg` in the PATH");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}
