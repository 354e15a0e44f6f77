//! One slot of a session, used in turn by rings of two threads, each of which publishes as long as it has the reader.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use super::processes::daemon::ring_bells;
use super::{Taken, duplicate, payload};
use crate::client::monotonic;
use crate::consumer::rig::{Attachment, UnitBuffer};
use crate::cursor;
use crate::handshake::Attached;
use crate::join::{Filters, From, Join};
use crate::layout::{CURSOR_HEAD_LEN, Class, Flags, SESSION_HEAD_LEN, SegmentKind, low};
use crate::map::{Mapping, ReadOnly, ReadWrite};
use crate::producer::{Joined, Producer, ReaderRing, RingId, Session, TrackSpec, Unit};
use crate::segment::{open_cursor, open_read_only};

const ROUNDS: u64 = 200;
/// Units that the reader takes before it leaves: more than its ring has records, so the producer looks at its head.
const UNITS: u64 = 20;
const LEN: usize = 100;
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two units of a stream that has a reader.
const PACE: Duration = Duration::from_micros(20);

/// What a shard is told, and whom it answers.
enum Command {
    Attach(Box<ReaderRing>, Sender<Joined>),
    Detach(RingId, Sender<ReaderRing>),
}

#[test]
fn a_slot_goes_from_thread_to_thread() {
    let session = Session::create(1, 7, 1).unwrap();
    let shards = [0u64, 1].map(|uid| {
        let producer = Producer::create(uid, 0xe90c, &[TrackSpec::video(1 << 20)]).unwrap();
        let fd = producer.fd();
        let (commands, inbox) = channel();
        (uid, fd, commands, thread::spawn(move || shard(producer, &inbox)))
    });
    let fds = session.fds().map(|fd| fd.try_clone_to_owned().unwrap());
    let reader = Reader {
        tails: open_read_only(&fds[0], SegmentKind::Session).unwrap().0,
        heads: open_cursor(&fds[1]).unwrap().0,
    };
    let filters = Filters { everything: true, ..Filters::of_class(Class::Archive) };
    let join = Join { filters, ring_slots: 8, ..Join::new(Class::Archive, From::Live) };
    for round in 0..ROUNDS {
        let (uid, stream, commands, _) = &shards[usize::from(!round.is_multiple_of(2))];
        let (ring, fd) = ReaderRing::create(*uid, 0xe90c, &join, &session, 0).unwrap();
        let id = ring.id();
        let (answer, answered) = channel();
        commands.send(Command::Attach(Box::new(ring), answer)).unwrap();
        let joined = answered.recv_timeout(PATIENCE).expect("ATTACHED");
        let attached = Attached {
            slot: 0,
            resumed: false,
            stream_uid: *uid,
            epoch: 0xe90c,
            first_seq: joined.first_seq,
            last_seq: joined.last_seq,
        };
        let head = reader.heads.word64(CURSOR_HEAD_LEN).unwrap();
        let mut attachment = Attachment::open(&attached, &join, &[duplicate(stream), fd], head).unwrap();
        reader.read(&mut attachment);
        attachment.clear_head();
        let (answer, answered) = channel();
        commands.send(Command::Detach(id, answer)).unwrap();
        // How the ring ended is all the same: by DETACHED, or, seen before that, by a head that is 0.
        answered.recv_timeout(PATIENCE).expect("DETACHED");
    }
    for (_, _, commands, thread) in shards {
        drop(commands);
        thread.join().unwrap();
    }
}

/// Publishes for its reader, and waits for the next one, until nobody can tell it anything any more.
fn shard(mut producer: Producer, inbox: &Receiver<Command>) {
    loop {
        let wait = if producer.readers().is_empty() { PATIENCE } else { PACE };
        match inbox.recv_timeout(wait) {
            Ok(Command::Attach(ring, answer)) => answer.send(producer.attach(*ring, 0)).unwrap(),
            Ok(Command::Detach(id, answer)) => answer.send(producer.detach(id).unwrap()).unwrap(),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        producer.begin(0);
        producer.append(0, &payload(producer.last_seq() + 1, LEN)).unwrap();
        producer.commit(0, &Unit { flags: Flags::KEY, ..Unit::default() }, &[], 0).unwrap();
        producer.feed(u64::MAX);
        ring_bells(&mut producer);
    }
}

struct Reader {
    tails: Mapping<ReadOnly>,
    heads: Mapping<ReadWrite>,
}

impl Reader {
    /// Takes some units, each when the slot says that one waits.
    fn read(&self, attachment: &mut Attachment) {
        let tail = self.tails.word32(SESSION_HEAD_LEN).unwrap();
        let (bell, parked) = (self.tails.word32(128).unwrap(), self.heads.word32(128).unwrap());
        let (mut head, mut accepted, mut buffer) = (0u64, 0, UnitBuffer::default());
        let end = monotonic() + PATIENCE;
        while accepted < UNITS {
            let seen = cursor::observe_bell(&bell);
            if cursor::observe_session_tail(&tail) == low(head) {
                assert!(monotonic() < end, "the slot shows no record behind {head}");
                if cursor::park(&bell, &parked, seen) {
                    bell.futex_wait(seen, PATIENCE);
                }
                cursor::unpark(&parked);
                continue;
            }
            match attachment.take(&mut buffer) {
                Taken::Unit { .. } => {
                    assert_eq!(buffer.payload(), payload(buffer.descriptor.seq, LEN));
                    accepted += 1;
                }
                Taken::Dropped => {}
                Taken::Empty => panic!("the slot says that a record waits in an empty ring"),
                ended @ Taken::Ended { .. } => panic!("{ended:?} of a ring that was attached"),
            }
            head += 1;
        }
    }
}
