//! The C programs beside our own reader at a live producer.

use std::io::Read;
use std::path::Path;
use std::process::Command;

use ring_abi::consumer::{Counts, Event, Options, Reader, StreamKey};
use ring_abi::join::{From, Join};
use ring_abi::layout::{Class, Codec, Flags};
use ring_abi::producer::Configuration;
use rustix::process::{Signal, kill_process};

use crate::programs::{Running, number, sanitized};
use crate::support::{BOUND, Server, commit_as, now_ns, payload, socket_path};

const ARENA: u64 = 1 << 20;

/// What a scan of ours promises: each call goes on behind the stream that had something last, also when streams come and go.
#[test]
fn our_reader_serves_the_streams_in_turn() {
    let ids = ["a", "b", "c", "d"];
    let server = Server::start(&socket_path("turns"), &ids.map(|id| (id, ARENA)));
    let mut reader = Reader::connect(server.path(), &Options::default()).unwrap();
    let join = Join::new(Class::Archive, From::Live);
    let [a, b, c, d] = ids.map(|id| reader.attach(id, &join).unwrap().0);
    ids.iter().for_each(|id| server.publish(id, 10, 100));
    assert_eq!(turns(&mut reader, 6), [a, b, c, d, a, b]);
    reader.detach(a).unwrap();
    assert_eq!(turns(&mut reader, 4), [c, d, b, c], "the stream whose turn it is stays so");
    let (again, _) = reader.attach("a", &Join::new(Class::Archive, From::Keyframe)).unwrap();
    assert_eq!(reader.streams().collect::<Vec<_>>(), [b, c, d, again]);
    assert_eq!(turns(&mut reader, 5), [d, again, b, c, d]);
    reader.detach(d).unwrap();
    assert_eq!(turns(&mut reader, 3), [again, b, c]);
}

fn turns(reader: &mut Reader, count: usize) -> Vec<StreamKey> {
    let turn = |_| match reader.next(Some(BOUND)) {
        Event::Unit(unit) => unit.stream,
        other @ (Event::Ended(_) | Event::Timeout | Event::ProducerGone) => panic!("{other:?}"),
    };
    (0..count).map(turn).collect()
}

#[test]
fn every_unit_of_many_streams_is_the_one_that_our_reader_sees() {
    let ids = ["one", "two", "thrée"];
    let server = Server::start(&socket_path("many"), &ids.map(|id| (id, ARENA)));
    for waits in [&[] as &[&str], &["--notify"]] {
        let before = server.with("one", |producer| producer.last_seq());
        for id in ids {
            server.publish(id, 30, 100);
        }
        let mut ours = Reader::connect(server.path(), &Options::default()).unwrap();
        let from = From::After { epoch: 0, seq: 0 };
        let streams = ids.map(|id| ours.attach(id, &Join::new(Class::Archive, from)).unwrap().0);
        let attached = if waits.is_empty() { 6 } else { 12 };
        let tap = tap(
            &server,
            &ids,
            &[waits, &["--from", "after=0:0", "--count", &(3 * (before + 130)).to_string()]],
        );
        server.wait_for_attached(attached);
        for n in 0..100 {
            ids.iter().for_each(|id| server.publish(id, 1, 1 + n * 57));
        }

        let mut expected = Vec::new();
        while (expected.len() as u64) < 3 * (before + 130) {
            let Event::Unit(unit) = ours.next(Some(BOUND)) else {
                panic!("no unit after {}", expected.len())
            };
            let at = streams.iter().position(|stream| *stream == unit.stream).unwrap();
            expected.push((at, line(ids[at], unit.descriptor, crc32fast::hash(unit.payload))));
        }
        let mut lines = tap.rest();
        let summary = lines.pop().unwrap();
        // Both take turns, but not in step with each other: the order within a stream is what counts.
        for (at, id) in ids.iter().enumerate() {
            let own = format!("{{\"id\":\"{id}\",");
            let theirs: Vec<_> =
                lines.iter().filter(|line| line.starts_with(&own)).map(String::as_str).collect();
            let expected: Vec<_> =
                expected.iter().filter(|(n, _)| *n == at).map(|(_, line)| line.as_str()).collect();
            assert_eq!(theirs, expected);
        }
        assert_eq!(summary.matches("\"balance\":true").count(), 3, "{summary}");
        let (status, _, said) = tap.finish();
        assert!(status.success() && said.is_empty(), "{status}: {said}");
    }
}

#[test]
fn counts_balance_at_the_end_of_a_stream() {
    let server = Server::start(&socket_path("end"), &[("cam", ARENA)]);
    let tap = tap(&server, &["cam"], &[&["--from", "oldest"]]);
    server.wait_for_attached(1);
    server.publish("cam", 20, 500);
    server.with("cam", |producer| producer.close(0, now_ns()));
    let lines = tap.rest();
    let summary = lines.last().unwrap();
    assert_eq!(lines.len(), 21);
    let counts = Counts { first_seq: 1, last_seq: 20, accepted: 20, ..Counts::default() };
    assert_eq!(
        (number(summary, "first_seq"), number(summary, "last_seq")),
        (counts.first_seq, counts.last_seq)
    );
    assert!(counts.balance() && summary.contains("\"balance\":true"));
    let (status, _, said) = tap.finish();
    assert!(status.success());
    assert_eq!(said, "cam: the ring ended: state 2, reason 1\n");
}

/// Its ring is full, the arena goes round many times; when it goes on, it says what it missed and begins at a keyframe.
#[test]
fn a_stopped_reader_gets_a_gap_and_then_a_keyframe() {
    let server = Server::start(&socket_path("stopped"), &[("cam", 64 * 1024)]);
    let tap = tap(&server, &["cam"], &[&["--from", "live"]]);
    server.wait_for_attached(1);
    server.publish("cam", 1, 1000);
    assert_eq!(number(&tap.line().unwrap(), "seq"), 1);
    kill_process(tap.pid(), Signal::STOP).unwrap();
    server.publish("cam", 1000, 1000);
    kill_process(tap.pid(), Signal::CONT).unwrap();
    // It has read what its ring held, and the producer has given it what is retained.
    server.wait_until_read("cam", |producer| producer.readers().iter().all(|reader| !reader.is_behind()));
    server.with("cam", |producer| producer.close(0, now_ns()));
    let lines = tap.rest();
    let (summary, records) = lines.split_last().unwrap();
    let mut last_seq = 1;
    for record in records {
        let (seq, gap) = (number(record, "seq"), number(record, "gap"));
        assert_eq!(seq, last_seq + 1 + gap, "{record}");
        assert!(gap == 0 || record.contains("\"key\":true"), "{record}");
        let crc32 = u64::from(crc32fast::hash(&payload(seq, 1000)));
        assert_eq!(number(record, "crc32"), crc32, "what was overwritten is not given out: {record}");
        last_seq = seq;
    }
    assert!(records.iter().any(|record| number(record, "gap") > 100), "{records:?}");
    let missed = number(summary, "lost") + number(summary, "rejected") + number(summary, "skipped");
    assert_eq!(missed + number(summary, "units"), 1001, "{summary}");
    assert!(summary.contains("\"balance\":true"), "{summary}");
    assert!(tap.finish().0.success());
}

#[test]
fn a_reader_resumes_behind_the_unit_it_names() {
    let server = Server::start(&socket_path("resume"), &[("cam", ARENA)]);
    server.publish("cam", 60, 300);
    let epoch = server.with("cam", |producer| producer.epoch());
    // Unit 34 is no keyframe; with another epoch it begins at the oldest one.
    for (from, first, lost) in [(epoch, 34, 0), (epoch + 1, 1, 0)] {
        let from = format!("after={from}:33");
        let tap = tap(&server, &["cam"], &[&["--from", &from, "--idle-exit", "0.2"]]);
        let lines = tap.rest();
        let (summary, records) = lines.split_last().unwrap();
        let seqs: Vec<_> = records.iter().map(|record| number(record, "seq")).collect();
        assert_eq!(seqs, (first..=60).collect::<Vec<_>>());
        assert_eq!((number(summary, "first_seq"), number(summary, "lost")), (first, lost));
        assert!(tap.finish().0.success());
    }
}

#[test]
fn a_reader_follows_a_stream_into_another_segment() {
    let server = Server::start(&socket_path("rotate"), &[("cam", ARENA)]);
    let configuration = Configuration {
        codec: Codec::H264,
        data: b"\0\0\0\x01parameter sets",
        profile: 100,
        level: 31,
        width: 640,
        height: 360,
        frame_rate: (25, 1),
    };
    let config_id = server.with("cam", |producer| producer.configure(0, &configuration)).unwrap();
    let tap = tap(&server, &["cam"], &[&["--from", "live"]]);
    server.wait_for_attached(1);
    let publish = |key: bool| {
        let flags = if key { Flags::KEY } else { Flags::default() };
        server.with("cam", |producer| commit_as(producer, 777, flags, config_id))
    };
    let mut seqs = Vec::new();
    for round in 0..4 {
        seqs.extend((0..5).map(|n| publish(round == 0 && n == 0)));
        server.rotate("cam", ARENA);
        seqs.extend((0..5).map(|_| publish(false)));
        server.wait_for_attached(round + 2);
    }
    server.with("cam", |producer| producer.close(0, now_ns()));
    let lines = tap.rest();
    let (summary, records) = lines.split_last().unwrap();
    assert_eq!(records.iter().map(|record| number(record, "seq")).collect::<Vec<_>>(), seqs);
    assert!(records.iter().all(|record| number(record, "gap") == 0));
    assert_eq!((number(summary, "units"), number(summary, "lost"), number(summary, "skipped")), (40, 0, 0));
    assert_eq!((number(summary, "first_seq"), number(summary, "last_seq")), (1, 40), "counts go on");
    assert!(summary.contains("\"balance\":true"), "{summary}");
    server.wait_for_detached(5);
    assert!(tap.finish().0.success());
}

/// The stream is gone when the reader would follow: it says so, once, and what it had counts.
#[test]
fn a_reader_that_may_not_follow_is_told_why() {
    let server = Server::start(&socket_path("revoked"), &[("cam", ARENA), ("other", ARENA)]);
    let tap = tap(&server, &["cam"], &[&["--from", "live"]]);
    server.wait_for_attached(1);
    server.publish("cam", 1, 100);
    tap.line().unwrap();
    server.rotate_away("cam");
    let (status, lines, said) = tap.finish();
    assert!(status.success() && lines.last().unwrap().contains("\"balance\":true"));
    assert_eq!(said, "cam: the ring ended: state 3, reason 5, refused: no such stream\n");
}

#[test]
fn an_event_loop_in_cpp_waits_on_the_notify_descriptor() {
    let server = Server::start(&socket_path("loop"), &[("one", ARENA), ("two", ARENA)]);
    server.publish("one", 1, 10);
    let reader =
        Running::start(Command::new(sanitized("tests/c/loop.cc")).arg(server.path()).args(["one", "two"]));
    assert_eq!(reader.line().unwrap(), "1 10 0 ok");
    for seq in 1..100 {
        server.publish("two", 1, 20);
        assert_eq!(reader.line().unwrap(), format!("{seq} 20 0 ok"));
    }
    server.with("one", |producer| producer.close(0, now_ns()));
    server.with("two", |producer| producer.close(0, now_ns()));
    assert_eq!(reader.line().unwrap(), "done");
    let (status, _, said) = reader.finish();
    assert!(status.success() && said.is_empty(), "{status}: {said}");
}

#[test]
fn a_killed_producer_is_noticed_and_what_it_published_is_read() {
    for waits in [&[] as &[&str], &["--notify"]] {
        let path = socket_path(&format!("killed{}", waits.len()));
        let mut producer = Running::start(
            Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "live::producer_process", "--nocapture"])
                .env(ROLE, &path),
        );
        while producer.line().unwrap() != "ready" {}
        let tap = Running::start(
            Command::new(sanitized("c/tap.c"))
                .arg("--ring-socket")
                .arg(&path)
                .args(["cam", "--from", "oldest"])
                .args(waits),
        );
        assert_eq!(number(&tap.line().unwrap(), "seq"), 1);
        producer.kill();
        let (status, lines, said) = tap.finish();
        assert_eq!(status.code(), Some(1));
        assert_eq!(lines.len(), 50, "units 2 to 50 and the summary");
        assert_eq!(said, "tap: the producer closed the connection\n");
        std::fs::remove_file(path).unwrap();
    }
}

/// No test: the process that the test above kills.
#[test]
fn producer_process() {
    let Some(path) = std::env::var_os(ROLE) else { return };
    let server = Server::start(Path::new(&path), &[("cam", ARENA)]);
    server.publish("cam", 50, 100);
    println!("\nready");
    // Its input ends when the test does.
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}

const ROLE: &str = "VMS_RING_TEST_PRODUCER";

fn tap(server: &Server, ids: &[&str], options: &[&[&str]]) -> Running {
    let mut command = Command::new(sanitized("c/tap.c"));
    command.arg("--ring-socket").arg(server.path()).args(ids);
    command.args(options.iter().copied().flatten());
    Running::start(&mut command)
}

/// The line that `vms-tap --json` prints of a unit without a gap before it.
fn line(id: &str, d: &ring_abi::layout::Descriptor, crc32: u32) -> String {
    format!(
        "{{\"id\":\"{id}\",\"seq\":{},\"pts_ns\":{},\"media_ticks\":{},\"rtp_ts\":{},\"recv_mono_ns\":{},\"pub_mono_ns\":{},\
         \"wall_utc_ns\":{},\"len\":{},\"key\":{},\"flags\":{},\"gap\":0,\"timeline\":{},\"config_id\":{},\"crc32\":{crc32},\
         \"lost_packets\":{}}}",
        d.seq,
        d.pts_ns,
        d.media_ticks,
        d.rtp_ts,
        d.recv_mono_ns,
        d.pub_mono_ns,
        d.wall_utc_ns,
        d.len,
        d.has(Flags::KEY),
        d.flags,
        d.timeline,
        d.config_id,
        d.lost_packets,
    )
}
