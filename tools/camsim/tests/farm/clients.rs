//! Clients that do not behave, and cameras that do not: what the farm does to whom.

use std::io::{ErrorKind, Read, Write};
use std::time::Duration;

use crate::support::{Client, Farm, config, misbehaving};
use vms_camsim::Config;

#[test]
fn a_client_that_does_not_read_loses_whole_units_and_nobody_else_does() {
    let farm = Farm::start(Config { bitrate: Some(40_000_000), ..config() });
    let mut slow = Client::play(&farm, "h264");
    let mut quick = Client::play(&farm, "h265");
    // Four seconds: sockets and backlog hold less than the 20 MB.
    quick.frames_until(|frames| frames.units == 100);
    let frames = slow.frames_until(|frames| frames.units == 20);
    assert!(frames.sequence_is_whole(), "framing and sequence hold across dropped units");
    let stats = farm.stop();
    assert!(stats.cameras["h264"].dropped > 10, "{stats:?}");
    assert_eq!((stats.cameras["h265"].dropped, stats.connects), (0, 2));
}

#[test]
fn close_after() {
    let farm = Farm::start(misbehaving(&["close-after=3"]));
    let frames = Client::play(&farm, "h264").frames_until(|_| false);
    assert_eq!((frames.units, frames.closed), (3, true));
}

#[test]
fn stall_after_keeps_the_connection() {
    let farm = Farm::start(misbehaving(&["stall-after=2"]));
    let mut client = Client::play(&farm, "h264");
    client.frames_until(|frames| frames.units == 2);
    let answer = client.request("GET_PARAMETER", "/h264/", "");
    assert!(answer.starts_with("RTSP/1.0 200"), "{answer}");
    client.socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let silence = client.socket.read(&mut [0; 16]).unwrap_err();
    assert!(matches!(silence.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut));
}

#[test]
fn once_ends_with_bye() {
    let farm = Farm::start(Config { once: true, ..config() });
    let frames = Client::play(&farm, "h264").frames_until(|_| false);
    assert_eq!((frames.units, frames.closed), (100, true));
    let (channel, packet) = frames.packets.last().unwrap();
    assert_eq!((*channel, packet[9]), (1, 203), "an empty report, then BYE");
    let (channel, report) = frames.packets.first().unwrap();
    assert_eq!((*channel, report[1]), (1, 200), "a sender report comes first");
}

#[test]
fn floods_have_no_end_and_do_not_disturb_others() {
    for fault in ["huge-body", "endless-header", "endless-fu"] {
        let farm = Farm::start(misbehaving(&[fault]));
        let mut client = Client::connect(&farm);
        if fault == "endless-fu" {
            client = Client::play(&farm, "h264");
        } else {
            client.send("DESCRIBE", "/h264", "");
        }
        let mut buffer = vec![0; 1 << 20];
        let mut received = 0;
        while received < 32 << 20 {
            received += client.socket.read(&mut buffer).unwrap();
        }
        assert!(
            Client::connect(&farm).request("OPTIONS", "/h264", "").starts_with("RTSP/1.0 200"),
            "{fault}"
        );
    }
}

#[test]
fn garbage_stands_between_frames_and_units_stay_whole() {
    let farm = Farm::start(misbehaving(&["garbage"]));
    let mut client = Client::play(&farm, "h264");
    let mut bytes = Vec::new();
    let mut buffer = [0; 65536];
    // The ninth unit comes behind the first garbage.
    while bytes.windows(STAMP.len()).filter(|window| window == &STAMP).count() < 9 {
        let count = client.socket.read(&mut buffer).unwrap();
        bytes.extend_from_slice(&buffer[..count]);
    }
    let mut rest = &bytes[..];
    while let [b'$', 0 | 1, high, low, behind @ ..] = rest {
        rest = &behind[usize::from(u16::from_be_bytes([*high, *low])).min(behind.len())..];
    }
    assert!(!rest.is_empty(), "the frames run on without garbage");
}

#[test]
fn a_request_of_the_camera_may_be_answered() {
    let farm = Farm::start(misbehaving(&["server-request"]));
    let mut client = Client::play(&farm, "h264");
    let mut bytes = Vec::new();
    while !bytes.windows(11).any(|window| window == b"OPTIONS * R") {
        let mut buffer = [0; 4096];
        let count = client.socket.read(&mut buffer).unwrap();
        bytes.extend_from_slice(&buffer[..count]);
    }
    client.socket.write_all(b"RTSP/1.0 200 OK\r\nCSeq: 1\r\n\r\n").unwrap();
    client.send("TEARDOWN", "/h264/", "");
    client.socket.read_to_end(&mut bytes).unwrap();
    assert!(bytes.ends_with(format!("{}\r\n", client.session).as_bytes()), "TEARDOWN is answered last");
}

#[test]
fn nonsense_and_endless_requests_end_the_connection() {
    let farm = Farm::start(config());
    for nonsense in [b"GET / HTTP/1.1\r\n\r\n".to_vec(), vec![b'x'; 64 << 10]] {
        let mut client = Client::connect(&farm);
        // The farm may close before it has all.
        let _ = client.socket.write_all(&nonsense);
        let closed = client.socket.read(&mut [0; 16]);
        assert!(closed.map_or_else(|error| error.kind() == ErrorKind::ConnectionReset, |count| count == 0));
    }
}

#[test]
fn a_client_that_asks_and_never_reads_is_let_go() {
    let farm = Farm::start(config());
    let mut client = Client::connect(&farm);
    let line = format!("DESCRIBE rtsp://{}/h264 RTSP/1.0\r\nCSeq: 1\r\n\r\n", farm.address);
    let requests = line.repeat(1000);
    // 400 MB of answers; sockets and the farm's own memory hold a tenth of it.
    let refused = (0..1000).any(|_| client.socket.write_all(requests.as_bytes()).is_err());
    assert!(refused);
}

const STAMP: &[u8] = b"vms-media/stamp1";
