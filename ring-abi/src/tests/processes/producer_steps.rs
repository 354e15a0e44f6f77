//! The producer's process is stopped behind every access that it makes to shared memory, then killed or let go on.
//!
//! Two readers are attached: one has read all before the first step, the other reads nothing until the producer is dead.

use std::os::fd::AsFd;
use std::time::Duration;

use rustix::event::PollFlags;

use super::daemon::{Guest, Listener, PATIENCE_MS, admit, ring_bells, wait};
use super::{Peer, said_last};
use crate::consumer::{Event, Options, Reader, StreamKey, Unit};
use crate::join::{Filters, From, Join};
use crate::layout::{Class, Codec, EndReason, Flags, StreamState};
use crate::producer::{Configuration, Producer, TrackSpec, Unit as NewUnit};
use crate::tests::{payload, steps};

/// Units that are there before the first step; the next but one laps the first two.
const UNITS_BEFORE: u64 = 5;
/// Units that the steps bring.
const UNITS: u64 = UNITS_BEFORE + 4;
/// Records that fit a ring: the reader that does not read misses the last unit.
const RING_SLOTS: u64 = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Killed,
    Continued,
}

#[test]
fn a_producer_may_die_behind_any_step() {
    let steps = through_all_steps(Fate::Killed);
    assert!(steps > 200, "{steps}");
}

#[test]
fn a_producer_may_be_stopped_behind_any_step() {
    through_all_steps(Fate::Continued);
}

/// Runs the script once for each step; how many there are.
fn through_all_steps(fate: Fate) -> u64 {
    let mut memfds = Vec::new();
    let mut step = 1;
    while run(step, fate, &mut memfds) {
        step += 1;
    }
    assert_eq!(leftovers(&memfds), Vec::<String>::new(), "shared memory that outlived its processes");
    step - 1
}

/// One run; false when the script has fewer steps.
fn run(step: u64, fate: Fate, memfds: &mut Vec<u64>) -> bool {
    let listener = Listener::new();
    let socket = listener.socket.try_clone().unwrap();
    let mut peer = Peer::start("stepped producer", step, listener.path(), Some(socket));
    let mut early = Watched::attach(&listener);
    let mut late = Watched::attach(&listener);
    assert!(peer.wait_stopped(), "it waits for its readers");
    early.take_all();
    peer.go_on();
    let stopped = peer.wait_stopped();
    if stopped {
        memfds.extend(memfds_of(peer.pid().as_raw_nonzero().get()));
        // A producer that does nothing does not stop a reader from taking what is there.
        early.take_all();
        if fate == Fate::Killed { peer.kill() } else { peer.go_on() }
    }
    let (status, said) = peer.end();
    let committed = said_last(&said, "committed ").unwrap_or(UNITS_BEFORE);
    early.take_to_the_end();
    late.take_to_the_end();
    let about = format!("step {step}, {fate:?}, {committed} committed: {said}");
    if stopped && fate == Fate::Killed {
        assert!(!status.success(), "{about}");
        // The unit whose commit was under way may have come, to both, one or none.
        let came = |last: u64, of: u64| last == of.min(committed) || last == of.min(committed + 1);
        assert!(came(early.last_seq, UNITS), "{} {about}", early.last_seq);
        assert!(came(late.last_seq, RING_SLOTS), "{} {about}", late.last_seq);
    } else {
        assert!(status.success(), "{about}");
        assert_eq!((early.last_seq, early.ended, late.ended), (UNITS, true, true), "{about}");
        assert_eq!((early.counts().lost, early.counts().rejected), (0, 0), "{about}");
        assert!(early.counts().balance() && late.counts().balance(), "{about}");
    }
    stopped
}

/// A reader, and what it saw.
struct Watched {
    reader: Reader,
    stream: StreamKey,
    last_seq: u64,
    ended: bool,
}

impl Watched {
    fn attach(listener: &Listener) -> Self {
        let mut reader = Reader::connect(listener.path(), &Options::default()).unwrap();
        let filters = Filters { everything: true, ..Filters::of_class(Class::Archive) };
        let ring_slots = u32::try_from(RING_SLOTS).unwrap();
        let join = Join { filters, ring_slots, ..Join::new(Class::Archive, From::Oldest) };
        let (stream, _) = reader.attach("steps", &join).unwrap();
        Self { reader, stream, last_seq: 0, ended: false }
    }

    /// Takes what is there; whether the producer's death was told.
    fn take_all(&mut self) -> bool {
        loop {
            let configuration = match self.reader.next(Some(Duration::from_millis(1))) {
                Event::Unit(unit) => {
                    self.last_seq = check(&unit, self.last_seq);
                    unit.descriptor.config_id
                }
                Event::Ended(ended) => {
                    assert_eq!(ended.reason, EndReason::StreamClosed);
                    self.ended = true;
                    continue;
                }
                Event::Timeout => return false,
                Event::ProducerGone => return true,
            };
            let found = self.reader.configuration(self.stream, 0).unwrap();
            assert_eq!((found.id, &found.data), (configuration, &parameter_sets(configuration)));
        }
    }

    /// The producer's process is dead: the socket says so, and the reader tells it behind all that was in the ring.
    fn take_to_the_end(&mut self) {
        assert!(wait(self.reader.as_fd(), PollFlags::HUP, PATIENCE_MS), "no hang-up");
        assert!(self.take_all(), "the reader does not notice");
    }

    fn counts(&self) -> crate::consumer::Counts {
        self.reader.counts(self.stream).unwrap()
    }
}

/// A unit that was given out is the one that was published; its number.
fn check(unit: &Unit<'_>, last_seq: u64) -> u64 {
    let seq = unit.descriptor.seq;
    assert!(seq > last_seq, "{seq} behind {last_seq}");
    assert_eq!(unit.payload, payload(seq, len(seq)), "unit {seq} is not what was published");
    seq
}

/// The other process: admits two readers, takes its steps, and ends the stream in order.
pub(super) fn stepped_producer(step: u64) {
    let listener = std::io::stdin();
    let listener = listener.as_fd().try_clone_to_owned().unwrap();
    let mut producer = Producer::create(1, 2, &[TrackSpec::video(64 * 1024)]).unwrap();
    // Eight configurations: the next is written over the first, to which no unit refers any more.
    for n in 1..=8 {
        assert_eq!(configure(&mut producer, n), n);
    }
    for _ in 0..UNITS_BEFORE {
        publish(&mut producer, 8);
    }
    let guests: Vec<Guest> = (1..=2).map(|n| admit(&listener, &mut producer, n, 0)).collect();
    ring_bells(&mut producer);
    steps::stop();
    steps::stop_behind(step);
    take_steps(&mut producer);
    steps::stop_behind(u64::MAX);
    drop(producer);
    drop(guests);
}

/// What is stopped or killed: configurations, units that lap others, one that is given up, the end of all rings.
fn take_steps(producer: &mut Producer) {
    let ninth = configure(producer, 9);
    publish(producer, ninth);
    ring_bells(producer);
    publish(producer, ninth);
    producer.begin(0);
    producer.append(0, &[0xee; 2000]).unwrap();
    producer.abort(0);
    producer.set_state(StreamState::Stalled, 3);
    publish(producer, ninth);
    // The late reader's ring is full.
    publish(producer, ninth);
    producer.feed(u64::MAX);
    producer.heartbeat(7);
    ring_bells(producer);
    producer.close(1, 0);
    producer.finish();
    ring_bells(producer);
}

fn publish(producer: &mut Producer, config_id: u32) {
    let seq = producer.last_seq() + 1;
    let bytes = payload(seq, len(seq));
    producer.begin(0);
    for part in bytes.chunks(4000) {
        producer.append(0, part).unwrap();
    }
    let unit = NewUnit { flags: Flags::KEY, config_id, ..NewUnit::default() };
    producer.commit(0, &unit, &[u32::try_from(bytes.len()).unwrap()], 0).unwrap();
    eprintln!("committed {seq}");
}

/// Five units nearly fill the arena; the seventh does not fit what is left of its lap and moves.
const fn len(seq: u64) -> usize {
    match seq {
        1..=5 => 11_000,
        6 => 6000,
        7 => 9000,
        _ => 300,
    }
}

fn configure(producer: &mut Producer, n: u32) -> u32 {
    let data = parameter_sets(n);
    let configuration = Configuration {
        codec: Codec::H264,
        data: &data,
        profile: 0,
        level: 0,
        width: 0,
        height: 0,
        frame_rate: (0, 0),
    };
    producer.configure(0, &configuration).unwrap()
}

fn parameter_sets(id: u32) -> Vec<u8> {
    vec![u8::try_from(id).unwrap(); 40]
}

/// The inodes of a process's segments.
fn memfds_of(pid: i32) -> Vec<u64> {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let inode = |line: &str| line.split_whitespace().nth(4)?.parse().ok();
    let inodes: Vec<u64> =
        maps.lines().filter(|line| line.contains("/memfd:vms-")).filter_map(inode).collect();
    assert!(inodes.len() >= 7, "a stream, and two sessions, cursors and rings: {maps}");
    inodes
}

/// Where segments with these inodes are still mapped or open, in any process that may be looked into.
fn leftovers(inodes: &[u64]) -> Vec<String> {
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok).map(|entry| entry.path());
    let mut found = Vec::new();
    for process in processes {
        let maps = std::fs::read_to_string(process.join("maps")).unwrap_or_default();
        let is_left = |line: &&str| {
            let inode = line.split_whitespace().nth(4).and_then(|inode| inode.parse().ok());
            line.contains("/memfd:vms-") && inode.is_some_and(|inode| inodes.contains(&inode))
        };
        found.extend(maps.lines().filter(is_left).map(|line| format!("{}: {line}", process.display())));
        let Ok(fds) = std::fs::read_dir(process.join("fd")) else { continue };
        for fd in fds.filter_map(Result::ok).map(|entry| entry.path()) {
            let name = std::fs::read_link(&fd).unwrap_or_default();
            let inode = std::fs::metadata(&fd).map(|m| std::os::unix::fs::MetadataExt::ino(&m));
            if name.to_string_lossy().contains("memfd:vms-") && inode.is_ok_and(|ino| inodes.contains(&ino)) {
                found.push(fd.display().to_string());
            }
        }
    }
    found
}
