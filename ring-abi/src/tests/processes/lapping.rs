//! A writer process that never waits and a reader process at its edge: who does not validate takes torn units, we never do.

use std::path::Path;

use rustix::time::{ClockId, clock_gettime};

use super::daemon::{Listener, admit};
use super::{Peer, said_last};
use crate::consumer::rig::{Attachment, Taken, UnitBuffer};
use crate::consumer::{Options, Reader};
use crate::join::{Filters, From, Join};
use crate::layout::{Class, Flags};
use crate::producer::{Producer, TrackSpec, Unit};

/// Rejections to be seen, unless the environment asks for another number.
const REJECTIONS: u64 = 20_000;
const REJECTIONS_WANTED: &str = "VMS_LAPPING_REJECTIONS";
/// When the reader gives up.
const SECONDS_MAX: i64 = 600;
const ARENA_LEN: u64 = 64 * 1024;
/// The reader begins to copy a unit when it is this near to being overwritten: what is reclaimed at a time.
const EDGE: u64 = ARENA_LEN / 16;

/// 64 B to 4 KiB, different for each unit.
fn len(seq: u64) -> usize {
    let random = seq.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    64 + usize::try_from(random % (4096 - 64)).unwrap()
}

#[test]
fn a_lapped_reader_process_accepts_nothing_torn() {
    let wanted = std::env::var(REJECTIONS_WANTED).map_or(REJECTIONS, |n| n.parse().unwrap());
    let mut producer = Producer::create(1, 2, &[TrackSpec::video(ARENA_LEN)]).unwrap();
    let listener = Listener::new();
    let peer = Peer::start("lapped reader", wanted, listener.path(), None);
    let guest = admit(&listener.socket, &mut producer, 1, 0);
    let mut bytes = [0; 4096];
    while !guest.has_gone(0) {
        for _ in 0..256 {
            write(&mut producer, &mut bytes);
        }
    }
    let (status, said) = peer.end();
    println!("{} units written\n{said}", producer.last_seq());
    assert!(status.success(), "{said}");
    let score = |word| said_last(&said, word).unwrap();
    assert_eq!(score("torn and accepted:"), 0);
    assert!(score("rejected:") >= wanted, "the reader gave up after {SECONDS_MAX} s: {said}");
    assert!(
        score("torn for who does not validate:") > 0,
        "the race did not happen, nothing was proved: {said}"
    );
    assert!(score("accepted:") > wanted / 100, "{said}");
}

fn write(producer: &mut Producer, bytes: &mut [u8; 4096]) {
    let seq = producer.last_seq() + 1;
    let (words, rest) = bytes.as_chunks_mut();
    assert!(rest.is_empty());
    words.fill(word(seq));
    producer.begin(0);
    producer.append(0, &bytes[..len(seq)]).unwrap();
    producer.commit(0, &Unit { flags: Flags::KEY, ..Unit::default() }, &[], seq).unwrap();
}

/// The other process: takes units at the edge until it has rejected `wanted` that were whole when their copy began.
pub(super) fn lapped_reader(socket: &Path, wanted: u64) {
    let mut reader = Reader::connect(socket, &Options::default()).unwrap();
    let filters = Filters { everything: true, ..Filters::of_class(Class::Archive) };
    let join = Join { filters, ring_slots: 8, ..Join::new(Class::Archive, From::Live) };
    let (stream, _) = reader.attach("lapped", &join).unwrap();
    let attachment = reader.attachment(stream).unwrap();
    let Score { accepted, torn_accepted, rejected, naive_torn } = lap(attachment, wanted);
    eprintln!("accepted: {accepted}\nrejected: {rejected}");
    eprintln!("torn for who does not validate: {naive_torn}\ntorn and accepted: {torn_accepted}");
}

#[derive(Debug, Default)]
struct Score {
    accepted: u64,
    torn_accepted: u64,
    rejected: u64,
    /// Rejected units whose copy was not what had been published.
    naive_torn: u64,
}

fn lap(attachment: &mut Attachment, wanted: u64) -> Score {
    let end = seconds() + SECONDS_MAX;
    let (mut score, mut buffer) = (Score::default(), UnitBuffer::default());
    for turn in 0u64.. {
        let is_late = || turn.is_multiple_of(1 << 20) && seconds() > end;
        if score.rejected >= wanted || score.torn_accepted > 0 || is_late() {
            break;
        }
        let Some(record) = attachment.peek() else { continue };
        match attachment.distance(&record) {
            None => attachment.skip(),
            Some(EDGE..) => {}
            Some(_) => score.take(attachment, &mut buffer, record.seq),
        }
    }
    score
}

impl Score {
    fn take(&mut self, attachment: &mut Attachment, buffer: &mut UnitBuffer, seq: u64) {
        // Whatever comes of it: the buffer holds what was copied, and who does not validate would use it.
        match attachment.take(buffer) {
            Taken::Unit { .. } => {
                self.accepted += 1;
                self.torn_accepted += u64::from(is_torn(buffer, seq));
            }
            Taken::Dropped => {
                self.rejected += 1;
                self.naive_torn += u64::from(is_torn(buffer, seq));
            }
            Taken::Empty | Taken::Ended { .. } => {}
        }
    }
}

fn is_torn(buffer: &UnitBuffer, seq: u64) -> bool {
    let word = word(seq);
    let (words, rest) = buffer.payload().as_chunks();
    buffer.payload().len() != len(seq) || words.iter().any(|found| *found != word) || !word.starts_with(rest)
}

/// What a unit's payload repeats.
fn word(seq: u64) -> [u8; 8] {
    seq.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes()
}

fn seconds() -> i64 {
    clock_gettime(ClockId::Monotonic).tv_sec
}
