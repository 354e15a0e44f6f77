//! What a reader makes of a producer's answers that are wrong, late or never come.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use rustix::event::PollFlags;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept_with, connect, socket_with,
};

use super::processes::daemon::{Listener, wait};
use crate::client::monotonic;
use crate::consumer::{AttachError, Options, Reader, RequestError};
use crate::cursor::{Ordering, Store};
use crate::handshake::{Attached, MESSAGE_LEN_MAX, Message, RefusalCode, Refused, Text, Welcome};
use crate::join::{From, Join};
use crate::layout::{CURSOR_HEAD_LEN, Class, HeaderError, SESSION_HEAD_LEN, SegmentHeader, SegmentKind};
use crate::producer::{Producer, ReaderRing, Session, TrackSpec};
use crate::segment::{OpenError, Segment};
use crate::socket::{receive, send};

/// What would otherwise hang has failed after this long.
const PATIENCE: Duration = Duration::from_secs(10);
const SLOTS: u32 = 8;

/// A producer's end of a connection, which says what the test wants.
struct Peer(OwnedFd);

impl Peer {
    fn accept(listener: &OwnedFd) -> Self {
        assert!(wait(listener, PollFlags::IN, 10_000), "no reader came");
        Self(accept_with(listener, SocketFlags::CLOEXEC).unwrap())
    }

    /// The next request and its number; `None` when the reader has gone.
    fn hear(&self) -> Option<(Message, u32)> {
        assert!(wait(&self.0, PollFlags::IN, 10_000), "the reader said nothing");
        let mut buffer = [0; MESSAGE_LEN_MAX];
        let packet = receive(&self.0, &mut buffer, true).unwrap();
        (packet.len > 0).then(|| Message::decode(&buffer[..packet.len]).unwrap())
    }

    fn say(&self, message: &Message, request: u32, fds: &[BorrowedFd<'_>]) {
        send(&self.0, message.encode(request).as_bytes(), fds, true).unwrap();
    }

    fn welcome(&self, [session, cursor]: [BorrowedFd<'_>; 2]) {
        let (_, request) = self.hear().unwrap();
        let (slots, daemon_epoch) = (SLOTS, 7);
        let welcome = Welcome { major: 1, minor: 0, slots, features: 0, daemon_epoch, bell_interval_us: 0 };
        self.say(&Message::Welcome(welcome), request, &[session, cursor]);
    }

    fn refuse(&self, request: u32) {
        let refused = Refused { code: RefusalCode::Unavailable, text: Text::new("") };
        self.say(&Message::Refused(refused), request, &[]);
    }
}

fn options(timeout: Duration) -> Options {
    Options { timeout, ..Options::default() }
}

fn join() -> Join {
    Join::new(Class::Archive, From::Live)
}

fn attached(slot: u32) -> Message {
    let (stream_uid, epoch) = (1, 0xe90c);
    Message::Attached(Attached { slot, resumed: false, stream_uid, epoch, first_seq: 1, last_seq: 0 })
}

/// A session segment or a cursor of one page, with these offsets.
fn table(kind: SegmentKind, (header_len, rec_size): (u32, u32), slots: u32) -> Segment {
    let header = SegmentHeader { header_len, rec_size, ..SegmentHeader::new(kind, 4096, 7, 0) };
    if kind == SegmentKind::SessionCursor {
        return Segment::create_cursor("cursor", &header).unwrap();
    }
    let segment = Segment::create("session", &header).unwrap();
    segment.map.word32(64).unwrap().store(slots, Ordering::Relaxed);
    segment
}

/// What a reader makes of these tables: header_len and rec_size of the session, those of the cursor, slots.
fn opened(session: (u32, u32), cursor: (u32, u32), slots: u32) -> Result<(), AttachError> {
    let listener = Listener::new();
    let (session, cursor) =
        (table(SegmentKind::Session, session, slots), table(SegmentKind::SessionCursor, cursor, slots));
    thread::scope(|scope| {
        scope.spawn(|| Peer::accept(&listener.socket).welcome([session.fd(), cursor.fd()]));
        Reader::connect(listener.path(), &options(PATIENCE)).map(drop)
    })
}

#[test]
fn the_tables_of_a_session_are_checked() {
    let (s, c) = (u32::try_from(SESSION_HEAD_LEN).unwrap(), u32::try_from(CURSOR_HEAD_LEN).unwrap());
    let full = (4096 - c) / 8;
    for (session, cursor, slots) in
        [((s, 4), (c, 8), SLOTS), ((s + 4, 12), (c, 64), 4), ((s, 4), (c, 8), full)]
    {
        opened(session, cursor, slots).unwrap();
    }
    let wrong = [
        ((s, 0), (c, 8), SLOTS),
        ((s, 2), (c, 8), SLOTS),
        ((s, 6), (c, 8), SLOTS),
        ((s + 2, 4), (c, 8), SLOTS),
        ((s, u32::MAX - 3), (c, 8), SLOTS),
        ((s, 16), (c, 8), (4096 - s) / 16 + 1),
        ((s, 4), (c, 0), SLOTS),
        ((s, 4), (c, 4), SLOTS),
        ((s, 4), (c, 12), SLOTS),
        ((s, 4), (c + 4, 8), SLOTS),
        ((s, 4), (c, 8), full + 1),
        ((s, 4), (c, 8), u32::MAX),
    ];
    for (session, cursor, slots) in wrong {
        let refused = opened(session, cursor, slots);
        let table = matches!(&refused, Err(AttachError::Open(OpenError::Header(HeaderError::Table))));
        assert!(table, "{session:?} {cursor:?} {slots}: {refused:?}");
    }
}

#[test]
fn a_slot_that_is_none_is_detached_and_one_given_twice_is_not() {
    let listener = Listener::new();
    let producer = Producer::create(1, 0xe90c, &[TrackSpec::video(1 << 20)]).unwrap();
    let session = Session::create(1, 7, SLOTS).unwrap();
    let given = [0, SLOTS, u32::MAX, 0];
    thread::scope(|scope| {
        let peer = scope.spawn(|| {
            let peer = Peer::accept(&listener.socket);
            peer.welcome(session.fds());
            let mut detached = Vec::new();
            let mut answers = given.into_iter();
            while let Some((message, request)) = peer.hear() {
                if let Message::Detach { slot } = message {
                    detached.push(slot);
                    peer.refuse(request);
                } else if matches!(message, Message::Attach(_)) {
                    let (_ring, fd) = ReaderRing::create(1, 0xe90c, &join(), &session, 0).unwrap();
                    let fds: [Arc<OwnedFd>; 2] = [producer.fd(), Arc::new(fd)];
                    let answer = attached(answers.next().unwrap());
                    peer.say(&answer, request, &[fds[0].as_fd(), fds[1].as_fd()]);
                } else {
                    break;
                }
            }
            detached
        });
        let mut reader = Reader::connect(listener.path(), &options(PATIENCE)).unwrap();
        reader.attach("cam", &join()).unwrap();
        for _ in 0..2 {
            let none = reader.attach("cam", &join()).unwrap_err();
            assert!(matches!(none, AttachError::Open(OpenError::Header(HeaderError::Table))), "{none:?}");
        }
        let twice = reader.attach("cam", &join()).unwrap_err();
        assert!(matches!(twice, AttachError::Request(RequestError::Protocol)), "{twice:?}");
        assert_eq!(reader.streams().count(), 1);
        drop(reader);
        assert_eq!(peer.join().unwrap(), [SLOTS, u32::MAX]);
    });
}

#[test]
fn a_request_has_one_deadline_and_its_late_answer_is_detached() {
    let listener = Listener::new();
    let session = Session::create(1, 7, SLOTS).unwrap();
    let (gave_up, has_given_up) = channel();
    let (answered, was_answered) = channel();
    thread::scope(|scope| {
        let (listener, session) = (&listener, &session);
        let peer = scope.spawn(move || {
            let peer = Peer::accept(&listener.socket);
            peer.welcome(session.fds());
            let (_, first) = peer.hear().unwrap();
            // Something else comes again and again, each time before the time-out.
            let mut packets = 0;
            while has_given_up.recv_timeout(Duration::from_millis(50)).is_err() && packets < 200 {
                peer.say(&Message::Detached { slot: 3 }, 0, &[]);
                packets += 1;
            }
            let [a, b] = session.fds();
            peer.say(&attached(5), first, &[a, b]);
            answered.send(()).unwrap();
            let (again, second) = peer.hear().unwrap();
            assert!(matches!(again, Message::Attach(_)), "{again:?}");
            let (message, _) = peer.hear().unwrap();
            peer.refuse(second);
            message
        });
        let mut reader = Reader::connect(listener.path(), &options(Duration::from_secs(1))).unwrap();
        let begin = monotonic();
        let late = reader.attach("cam", &join()).unwrap_err();
        assert!(matches!(late, AttachError::Request(RequestError::Timeout)), "{late:?}");
        assert!(monotonic() - begin < Duration::from_secs(5));
        gave_up.send(()).unwrap();
        was_answered.recv_timeout(PATIENCE).unwrap();
        reader.attach("cam", &join()).unwrap_err();
        assert_eq!(peer.join().unwrap(), Message::Detach { slot: 5 });
    });
}

#[test]
fn connecting_to_who_accepts_nobody_has_a_bound() {
    let listener = Listener::new();
    let waiting = fill(listener.path());
    let path = listener.path().to_owned();
    let (done, is_done) = channel();
    // Not joined: one that hangs would hold the test.
    thread::spawn(move || done.send(Reader::connect(path, &options(Duration::from_millis(50))).map(drop)));
    let refused = is_done.recv_timeout(PATIENCE).expect("it hangs");
    assert!(matches!(refused, Err(AttachError::Request(RequestError::Timeout))), "{refused:?}");
    drop(waiting);
}

/// Connections, until no more fit in front of the listener.
fn fill(path: &Path) -> Vec<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let mut waiting = Vec::new();
    for _ in 0..64 {
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
        match connect(&socket, &SocketAddrUnix::new(path).unwrap()) {
            Ok(()) => waiting.push(socket),
            Err(error) => {
                assert_eq!(error, rustix::io::Errno::AGAIN);
                return waiting;
            }
        }
    }
    panic!("the listener's queue has no end");
}
