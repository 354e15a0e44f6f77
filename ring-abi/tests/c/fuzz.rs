//! Random damage to segments and messages: nothing faults, nothing out of bounds comes out.

use std::fs;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;

use ring_abi::join::{From, Join};
use ring_abi::layout::{Class, Codec, Flags, TrackKind};
use ring_abi::producer::{Configuration, Producer, ReaderRing, Session, TrackSpec, Unit};

use crate::hostile::bytes_of;
use crate::programs::{Running, number, sanitized};
use crate::support::commit_as;

/// A few seconds. `VMS_RING_FUZZ_TIMES` and `VMS_RING_FUZZ_SEED` say otherwise.
const TIMES: &str = "4000";

#[test]
fn random_segments_and_messages_never_fault() {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("dumps-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    let (stream, ring) = (directory.join("stream"), directory.join("ring"));
    let dumps = dumps();
    fs::write(&stream, &dumps.0).unwrap();
    fs::write(&ring, &dumps.1).unwrap();
    let setting = |name: &str, default: &str| std::env::var(name).unwrap_or_else(|_| default.to_owned());
    let (seed, times) = (setting("VMS_RING_FUZZ_SEED", "1"), setting("VMS_RING_FUZZ_TIMES", TIMES));
    let mut command = Command::new(sanitized("tests/c/fuzz.c"));
    let fuzz = Running::start(command.arg(stream).arg(ring).args([&seed, &times]));
    let (status, lines, said) = fuzz.finish();
    assert!(status.success(), "seed {seed}: {status}\n{said}");
    let times: u64 = times.parse().unwrap();
    for kind in ["opened", "accepted", "rejected", "skipped", "lost", "broken", "ended", "messages"] {
        // Each kind of outcome came up, so each was looked at.
        assert!(number(&lines[0], kind) > times / 1000, "{kind}: {}", lines[0]);
    }
    fs::remove_dir_all(directory).unwrap();
}

/// A stream of two tracks with configurations, and a ring of 16 records that has ended.
fn dumps() -> (Vec<u8>, Vec<u8>) {
    let data = TrackSpec { kind: TrackKind::Data, timescale: 1000, arena_len: 64 * 1024, units_max: 64 };
    let mut producer = Producer::create(1, 7, &[TrackSpec::video(64 * 1024), data]).unwrap();
    let session = Session::create(1, 7, 1).unwrap();
    for n in 0..12u8 {
        let configuration = Configuration {
            codec: Codec::H265,
            data: &[n / 4; 100],
            profile: 1,
            level: 93,
            width: 640,
            height: 360,
            frame_rate: (25, 1),
        };
        let config_id = producer.configure(0, &configuration).unwrap();
        let flags = if n % 4 == 0 { Flags::KEY } else { Flags(0) };
        commit_as(&mut producer, 500, flags, config_id);
        producer.begin(1);
        producer.append(1, &[n; 20]).unwrap();
        producer.commit(1, &Unit::default(), &[], 0).unwrap();
    }
    let join = Join { ring_slots: 16, ..Join::new(Class::Archive, From::Oldest) };
    let (reader, ring) = ReaderRing::create(1, 7, &join, &session, 0).unwrap();
    producer.attach(reader, 0);
    producer.finish();
    (bytes_of(producer.fd().as_fd()), bytes_of(ring.as_fd()))
}
