//! A producer that breaks every rule that a reader is to check: each time a named error, no fault, no descriptor left open.

use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::Command;
use std::sync::Arc;

use ring_abi::handshake::{Attached, MESSAGE_LEN_MAX, Message, RefusalCode, Refused, Text, Welcome};
use ring_abi::join::{From, Join};
use ring_abi::layout::Class;
use ring_abi::producer::{Producer, ReaderRing, Session, TrackSpec};
use ring_abi::socket;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fstat, memfd_create};
use rustix::io::pread;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use crate::programs::{Running, sanitized};
use crate::support::{accept, commit_as, listener, socket_path};

/// What the producer does to one reader, and what that reader has to say.
struct Case {
    welcome: Answer,
    attached: Answer,
    says: &'static str,
}

/// An answer to one request.
enum Answer {
    /// As it should be.
    Good,
    /// None.
    Silence,
    /// The connection is closed.
    Hangup,
    /// These packets with descriptors, with the request's number put in place unless it is said to stay.
    Packets(Vec<(Vec<u8>, Vec<OwnedFd>)>),
}

/// Everything that a good producer sends, to be spoilt.
struct Good {
    session: Arc<Session>,
    stream: Arc<OwnedFd>,
    ring: OwnedFd,
    _producer: Producer,
}

const NOT_UNDERSTOOD: &str = "connect: the producer's answer was not understood ";
const ATTACH_NOT_UNDERSTOOD: &str = "attach: the producer's answer was not understood ";
const READ_ONLY: SealFlags =
    SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::FUTURE_WRITE).union(SealFlags::SEAL);
const CURSOR: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::SEAL);

#[test]
fn every_broken_rule_is_an_error() {
    let good = Good::new();
    let mut cases =
        vec![Case { welcome: Answer::Good, attached: Answer::Good, says: "attached 1 2 3 nothing" }];
    cases.extend(welcomes(&good));
    cases.extend(attacheds(&good));
    cases.extend(rings(&good));

    let path = socket_path("hostile");
    let _ = std::fs::remove_file(&path);
    let listening = listener(&path).unwrap();
    let probe =
        Running::start(Command::new(sanitized("tests/c/probe.c")).arg(&path).arg(cases.len().to_string()));
    for (n, case) in cases.into_iter().enumerate() {
        let says = case.says;
        serve(&listening, &good, case);
        assert_eq!(probe.line().as_deref(), Some(says), "case {n}");
    }
    let (status, lines, said) = probe.finish();
    assert!(status.success() && lines.is_empty() && said.is_empty(), "{status}: {lines:?} {said}");
    std::fs::remove_file(path).unwrap();
}

/// What is wrong with WELCOME.
fn welcomes(good: &Good) -> Vec<Case> {
    let [session, cursor] = good.session.fds().map(bytes_of);
    let case = |says, bytes: Vec<u8>, fds: Vec<OwnedFd>| Case {
        welcome: Answer::Packets(vec![(bytes, fds)]),
        attached: Answer::Good,
        says,
    };
    let mut cases: Vec<Case> = [0usize, 1, 3, 4, 16, 17, 40]
        .into_iter()
        .map(|count| {
            case(NOT_UNDERSTOOD, good.welcome(), (0..count).map(|_| memfd(&session, READ_ONLY)).collect())
        })
        .collect();
    let fields: [(usize, u8, &str); 4] = [
        (16, 2, "connect: the producer answered in another version "),
        (18, 9, "connect: the producer answered in another version "),
        (24, 1, NOT_UNDERSTOOD), // a feature that brings a third descriptor
        (24, 2, NOT_UNDERSTOOD), // one that was not asked for
    ];
    cases.extend(
        fields.map(|(at, value, says)| case(says, spoilt(&good.welcome(), at, &[value]), good.session_fds())),
    );
    cases.push(case(NOT_UNDERSTOOD, spoilt(&good.welcome(), 20, &[0; 4]), good.session_fds()));

    let table = "connect: a table of a segment lies outside of it ";
    let in_heads = [
        (48, 258u32),
        (48, 4090),
        (52, 0),
        (52, 3),
        (52, 6),
        (52, u32::MAX - 7),
        (64, 1 << 20),
        (64, u32::MAX),
    ];
    for (at, value) in in_heads {
        let of_session = memfd(&spoilt(&session, at, &value.to_le_bytes()), READ_ONLY);
        cases.push(case(table, good.welcome(), vec![of_session, good.cursor()]));
        if at < 64 {
            // How many heads there are stands in the session.
            let of_cursor = memfd(&spoilt(&cursor, at, &value.to_le_bytes()), CURSOR);
            cases.push(case(table, good.welcome(), vec![memfd(&session, READ_ONLY), of_cursor]));
        }
    }
    let segments: [(&str, OwnedFd, OwnedFd); 13] = [
        ("connect: a segment lacks seals ", memfd(&session, CURSOR), good.cursor()),
        ("connect: a segment lacks seals ", memfd(&session, READ_ONLY), memfd(&cursor, SealFlags::empty())),
        ("connect: a segment lacks seals ", pipe(), good.cursor()),
        ("connect: not a ring segment ", memfd(&[], READ_ONLY), good.cursor()),
        ("connect: not a ring segment ", memfd(&session[..63], READ_ONLY), good.cursor()),
        ("connect: a segment is smaller than it says ", memfd(&session[..64], READ_ONLY), good.cursor()),
        ("connect: a segment is smaller than it says ", memfd(&session[..4095], READ_ONLY), good.cursor()),
        ("connect: not a ring segment ", memfd(&spoilt(&session, 0, b"W"), READ_ONLY), good.cursor()),
        (
            "connect: a segment's major version is not supported ",
            memfd(&spoilt(&session, 8, &[2]), READ_ONLY),
            good.cursor(),
        ),
        (
            "connect: a segment requires unknown features ",
            memfd(&spoilt(&session, 39, &[1]), READ_ONLY),
            good.cursor(),
        ),
        ("connect: a segment is of another kind ", memfd(&cursor, READ_ONLY), good.cursor()),
        ("connect: a segment is of another kind ", memfd(&session, READ_ONLY), memfd(&session, CURSOR)),
        (
            "connect: a table of a segment lies outside of it ",
            memfd(&header_alone(&session), READ_ONLY),
            good.cursor(),
        ),
    ];
    cases.extend(segments.map(|(says, session, cursor)| case(says, good.welcome(), vec![session, cursor])));

    let packets: [(Vec<u8>, &str); 9] = [
        (good.welcome()[..47].to_vec(), NOT_UNDERSTOOD),
        (good.welcome()[..15].to_vec(), NOT_UNDERSTOOD),
        (spoilt(&good.welcome(), 4, &[0xff; 4]), NOT_UNDERSTOOD),
        (spoilt(&good.welcome(), 4, &[0; 4]), NOT_UNDERSTOOD),
        ([good.welcome(), vec![0; 5000]].concat(), NOT_UNDERSTOOD),
        (Message::Detached { slot: 1 }.encode(1).as_bytes().to_vec(), NOT_UNDERSTOOD),
        (spoilt(&refusal("x"), 20, &[0xff; 4]), NOT_UNDERSTOOD),
        (spoilt(&refusal("x"), 24, &[0xff]), NOT_UNDERSTOOD),
        (spoilt(&refusal("why «not»"), 16, &77u32.to_le_bytes()), "connect: refused: unavailable why «not»"),
    ];
    cases.extend(packets.map(|(packet, says)| case(says, packet, Vec::new())));
    // Types of a newer minor version, and answers to other requests, are passed over.
    let strange = spoilt(&good.welcome(), 0, &[99]);
    let stale = Message::Detached { slot: 1 }.encode(0x7777).as_bytes().to_vec();
    let many = vec![
        (strange, good.session_fds()),
        (stale, good.session_fds()),
        (good.welcome(), good.session_fds()),
    ];
    cases.push(Case {
        welcome: Answer::Packets(many),
        attached: Answer::Good,
        says: "attached 1 2 3 nothing",
    });
    let says = "connect: the producer closed the connection ";
    cases.push(Case { welcome: Answer::Hangup, attached: Answer::Good, says });
    let says = "connect: the producer did not answer in time ";
    cases.push(Case { welcome: Answer::Silence, attached: Answer::Good, says });
    cases
}

/// What is wrong with ATTACHED.
fn attacheds(good: &Good) -> Vec<Case> {
    let (stream, ring) = (bytes_of(good.stream.as_fd()), bytes_of(good.ring.as_fd()));
    let case = |says, bytes: Vec<u8>, fds: Vec<OwnedFd>| Case {
        welcome: Answer::Good,
        attached: Answer::Packets(vec![(bytes, fds)]),
        says,
    };
    let table = "attach: a table of a segment lies outside of it ";
    let mut cases: Vec<Case> = [0usize, 1, 3, 20]
        .into_iter()
        .map(|count| {
            case(
                ATTACH_NOT_UNDERSTOOD,
                good.attached(0),
                (0..count).map(|_| memfd(&stream, READ_ONLY)).collect(),
            )
        })
        .collect();
    let slots = [8, 4000, 1 << 30, u32::MAX];
    cases.extend(slots.map(|slot| case(ATTACH_NOT_UNDERSTOOD, good.attached(slot), good.stream_fds())));
    cases.push(case(
        "attach: a segment lacks seals ",
        good.attached(0),
        vec![memfd(&stream, CURSOR), memfd(&ring, READ_ONLY)],
    ));
    cases.push(case(
        "attach: a segment is of another kind ",
        good.attached(0),
        vec![memfd(&ring, READ_ONLY), memfd(&stream, READ_ONLY)],
    ));
    cases.push(case(
        "attach: refused: no such stream not here",
        Message::Refused(Refused { code: RefusalCode::UnknownStream, text: Text::new("not here") })
            .encode(1)
            .as_bytes()
            .to_vec(),
        Vec::new(),
    ));
    // Where a number stands, and one that it must not be: directory, track entry, ring.
    let u32s = |value: u32| value.to_le_bytes().to_vec();
    let u64s = |value: u64| value.to_le_bytes().to_vec();
    let in_stream = [
        (64, u32s(5)),
        (72, u64s(u64::MAX - 7)),
        (72, u64s(stream.len() as u64 - 128)),
        (72, u64s(257)),
        (256 + 8, u64s(stream.len() as u64)),
        (256 + 8, u64s(u64::MAX - 4095)),
        (256 + 16, u64s(u64::MAX)),
        (256 + 16, u64s(0)),
        (256 + 16, u64s(3 << 10)),
        (256 + 24, u64s(u64::MAX - 4096)),
        (256 + 36, u32s(u32::MAX)),
    ];
    let spoil =
        |at: usize, with: &[u8]| vec![memfd(&spoilt(&stream, at, with), READ_ONLY), memfd(&ring, READ_ONLY)];
    cases.extend(in_stream.map(|(at, with)| case(table, good.attached(0), spoil(at, &with))));
    let in_ring = [
        (48, u32s(260)),
        (48, u32s(u32::try_from(ring.len()).unwrap())),
        (52, u32s(120)),
        (52, u32s(132)),
        (52, u32s(u32::MAX - 7)),
        (64, u32s(0)),
        (64, u32s(96)),
        (64, u32s(2048)),
        (64, u32s(1 << 31)),
    ];
    let spoil =
        |at: usize, with: &[u8]| vec![memfd(&stream, READ_ONLY), memfd(&spoilt(&ring, at, with), READ_ONLY)];
    cases.extend(in_ring.map(|(at, with)| case(table, good.attached(0), spoil(at, &with))));
    let says = "attach: the producer closed the connection ";
    cases.push(Case { welcome: Answer::Good, attached: Answer::Hangup, says });
    cases
}

/// What a ring or its records may say although it was opened.
fn rings(good: &Good) -> Vec<Case> {
    let (stream, ring) = (bytes_of(good.stream.as_fd()), bytes_of(good.ring.as_fd()));
    let case = |says, spoilt: Vec<u8>| {
        let fds = vec![memfd(&stream, READ_ONLY), memfd(&spoilt, READ_ONLY)];
        Case { welcome: Answer::Good, attached: Answer::Packets(vec![(good.attached(0), fds)]), says }
    };
    let broken = "attached ended: a ring says that it holds more records than it can";
    let mut cases: Vec<Case> = [129, 1 << 40, u64::MAX]
        .map(|tail: u64| case(broken, spoilt(&ring, 128, &tail.to_le_bytes())))
        .into();
    // The second record. When it is rejected unit 3 is skipped, as it would refer to it.
    let second = 256 + 128;
    let records: [(usize, Vec<u8>); 9] = [
        (8, vec![1]),
        (8, vec![0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff]),
        (16, vec![0xff; 4]),
        (16, 16_385u32.to_le_bytes().to_vec()),
        (26, vec![1]),
        (26, vec![0xff; 2]),
        (108, vec![0xff; 4]),
        (112, vec![0xff; 4]),
        (112, vec![0; 4]),
    ];
    cases.extend(records.map(|(at, with)| {
        let says = match with[..] {
            // A position that P will not reach for ages, of which it says that it is not overwritten: within the arena all the same.
            [0, ..] if at == 8 => "attached 1 2 3 nothing",
            // The record of a track that there is not is no video record.
            _ if at == 26 => "attached 1 3 nothing",
            _ => "attached 1 nothing",
        };
        case(says, spoilt(&ring, second + at, &with))
    }));
    // A unit that never came, before a unit and before a record that is passed over: nothing may refer to it.
    let third = second + 128;
    cases.push(case("attached 1 2 nothing", spoilt(&ring, third, &[4])));
    let passed_over = spoilt(&spoilt(&ring, second, &[3]), second + 24, &[77]);
    cases.push(case("attached 1 nothing", spoilt(&passed_over, third, &[4])));
    cases.push(case("attached 1 3 nothing", spoilt(&ring, second + 24, &[77])));
    let ended = [7u32, 2, 1]
        .map(|state| case("attached 1 2 3 ended: no error", spoilt(&ring, 192, &state.to_le_bytes())));
    cases.extend(ended);
    cases
}

impl Good {
    fn new() -> Self {
        let mut producer = Producer::create(1, 0xe90c, &[TrackSpec::video(64 * 1024)]).unwrap();
        let session = Session::create(1, 7, 8).unwrap();
        for n in 0..3 {
            let flags = if n == 0 { ring_abi::layout::Flags::KEY } else { ring_abi::layout::Flags(0) };
            commit_as(&mut producer, 100, flags, 0);
        }
        let join = Join::new(Class::Archive, From::Oldest);
        let (reader, ring) = ReaderRing::create(1, 0xe90c, &join, &session, 0).unwrap();
        producer.attach(reader, 0);
        Self { session, stream: producer.fd(), ring, _producer: producer }
    }

    fn welcome(&self) -> Vec<u8> {
        let welcome =
            Welcome { major: 1, minor: 0, slots: 8, features: 0, daemon_epoch: 7, bell_interval_us: 0 };
        Message::Welcome(welcome).encode(1).as_bytes().to_vec()
    }

    fn attached(&self, slot: u32) -> Vec<u8> {
        let attached =
            Attached { slot, resumed: false, stream_uid: 1, epoch: 0xe90c, first_seq: 1, last_seq: 3 };
        Message::Attached(attached).encode(1).as_bytes().to_vec()
    }

    /// A fresh session for each reader: what one wrote must not be what the next finds. The tail of slot 0 says "look".
    fn session_fds(&self) -> Vec<OwnedFd> {
        let [session, _] = self.session.fds().map(bytes_of);
        vec![memfd(&session, READ_ONLY), self.cursor()]
    }

    fn cursor(&self) -> OwnedFd {
        let [_, cursor] = self.session.fds().map(bytes_of);
        memfd(&cursor, CURSOR)
    }

    fn stream_fds(&self) -> Vec<OwnedFd> {
        vec![self.stream.try_clone().unwrap(), self.ring.try_clone().unwrap()]
    }
}

/// Serves one reader until it has gone.
fn serve(listening: &OwnedFd, good: &Good, case: Case) {
    let socket = accept(listening);
    let (mut welcome, mut attached) = (Some(case.welcome), Some(case.attached));
    let mut buffer = [0; MESSAGE_LEN_MAX];
    loop {
        let len = socket::receive(&socket, &mut buffer, true).map(|packet| packet.len).unwrap_or(0);
        if len == 0 {
            return;
        }
        let (message, request) = Message::decode(&buffer[..len]).unwrap();
        let (answer, good_answer) = match message {
            Message::Hello(_) => (welcome.take(), (good.welcome(), good.session_fds())),
            Message::Attach(_) => (attached.take(), (good.attached(0), good.stream_fds())),
            Message::Detach { slot } => {
                let bytes = Message::Detached { slot }.encode(1).as_bytes().to_vec();
                (Some(Answer::Good), (bytes, Vec::new()))
            }
            Message::Bye { .. } => return,
            Message::Welcome(_)
            | Message::Attached(_)
            | Message::Refused(_)
            | Message::Detached { .. }
            | Message::Evicted(_)
            | Message::Closed(_) => panic!("{message:?} came from a reader"),
        };
        match answer.unwrap() {
            Answer::Good => send(&socket, good_answer, request),
            Answer::Silence => {}
            Answer::Hangup => return,
            Answer::Packets(packets) => packets.into_iter().for_each(|packet| send(&socket, packet, request)),
        }
    }
}

/// Sends a packet; its request number is that of the request unless it is a strange one.
fn send(socket: &OwnedFd, (mut bytes, fds): (Vec<u8>, Vec<OwnedFd>), request: u32) {
    if let Some(number) = bytes.get_mut(8..12).filter(|number| **number == 1u32.to_le_bytes()[..]) {
        number.copy_from_slice(&request.to_le_bytes());
    }
    let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(64))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(fds.is_empty() || control.push(SendAncillaryMessage::ScmRights(&fds)));
    // The reader may have gone by the time of a second packet.
    let _ = sendmsg(socket, &[std::io::IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL);
}

fn refusal(text: &str) -> Vec<u8> {
    let refused = Refused { code: RefusalCode::Limit, text: Text::new(text) };
    Message::Refused(refused).encode(1).as_bytes().to_vec()
}

/// A file with this content and these seals.
pub(crate) fn memfd(bytes: &[u8], seals: SealFlags) -> OwnedFd {
    let fd = memfd_create("spoilt", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
    let mut file = std::fs::File::from(fd);
    file.write_all(bytes).unwrap();
    fcntl_add_seals(&file, seals).unwrap();
    file.into()
}

/// The content of a file.
pub(crate) fn bytes_of(fd: BorrowedFd<'_>) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(fstat(fd).unwrap().st_size).unwrap()];
    let len = pread(fd, &mut bytes[..], 0).unwrap();
    assert_eq!(len, bytes.len());
    bytes
}

/// These bytes with others at `at`.
fn spoilt(bytes: &[u8], at: usize, with: &[u8]) -> Vec<u8> {
    let mut spoilt = bytes.to_vec();
    spoilt[at..at + with.len()].copy_from_slice(with);
    spoilt
}

/// A segment that says of itself that it ends behind its header.
fn header_alone(bytes: &[u8]) -> Vec<u8> {
    let size = spoilt(bytes, 16, &64u64.to_le_bytes());
    spoilt(&size, 48, &64u32.to_le_bytes())[..64].to_vec()
}

fn pipe() -> OwnedFd {
    rustix::pipe::pipe().unwrap().0
}
