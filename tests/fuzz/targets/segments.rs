//! A producer that writes anything into its segments, before and after it handed them out, against `consumer`.
//!
//! A thread plays the producer's side of the socket; the segments are sound at first and then changed word by word.
#![no_main]

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::LazyLock;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use ring_abi::consumer::{Event, Options, Reader, StreamKey};
use ring_abi::handshake::{Attached, MESSAGE_LEN_MAX, Message, Welcome};
use ring_abi::join::{Filters, From, Join};
use ring_abi::layout::{
    CURSOR_HEAD_LEN, Class, DESCRIPTOR_LEN, Descriptor, Flags, RECORD_ACCESS_UNIT, RING_HEAD_LEN,
    SESSION_HEAD_LEN, STREAM_DIRECTORY_OFF, STREAM_TRACKS_OFF, SegmentHeader, SegmentKind, UNIT_LEN_MAX,
    pair,
};
use ring_abi::socket::{receive, send};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, listen, socket_with,
};
use vms_fuzz::segment::Segment;
use vms_fuzz::{Result, Unstructured, number};

const RING_SLOTS: u32 = 8;
const CONFIGS_OFF: u64 = 4096;
const ARENA_OFF: u64 = 8192;
const ARENA_LEN: u64 = 8192;
const STREAM_LEN: u64 = ARENA_OFF + ARENA_LEN;

static PRODUCER: LazyLock<HostileProducer> = LazyLock::new(HostileProducer::start);

fuzz_target!(|data: &[u8]| {
    // Ends with the input.
    let _ = run(&mut Unstructured::new(data));
});

fn run(input: &mut Unstructured<'_>) -> Result<()> {
    let world = Segments::new();
    for _ in 0..input.int_in_range(0..=4u32)?.saturating_sub(1) {
        world.change(input)?;
    }
    let attached = Attached {
        slot: 0,
        resumed: input.ratio(1, 8)?,
        stream_uid: 1,
        epoch: 2,
        first_seq: number(input, 0)?,
        last_seq: number(input, 0)?,
    };
    PRODUCER.next.send(world.descriptors(attached)).unwrap();
    let Ok(mut reader) = Reader::connect(&PRODUCER.path, &Options::default()) else { return Ok(()) };
    let from =
        if input.arbitrary()? { From::Oldest } else { From::After { epoch: 2, seq: number(input, 0)? } };
    let filters = Filters { everything: input.arbitrary()?, ..Filters::of_class(Class::Archive) };
    let join = Join { filters, ..Join::new(Class::Archive, from) };
    let Ok((stream, _)) = reader.attach("fuzz", &join) else { return Ok(()) };
    let mut tail = 0;
    while !input.is_empty() {
        match input.int_in_range(0..=3)? {
            0 => world.change(input)?,
            1 | 2 => world.push(input, &mut tail)?,
            _ => take(&mut reader, stream),
        }
    }
    take(&mut reader, stream);
    let _ = (reader.status(stream), reader.configuration(stream, 0));
    Ok(())
}

/// Takes what there is, in a bounded number of calls.
fn take(reader: &mut Reader, stream: StreamKey) {
    for _ in 0..32 {
        match reader.next(Some(Duration::ZERO)) {
            Event::Unit(unit) => {
                let last = unit.nal_ends.last().copied().unwrap_or(0) as usize;
                assert!(unit.payload.len() as u64 <= UNIT_LEN_MAX && last <= unit.payload.len());
                assert!(unit.nal_ends.is_sorted());
            }
            Event::Ended(_) => {}
            Event::Timeout | Event::ProducerGone => break,
        }
        let counts = reader.counts(stream).unwrap();
        assert!(counts.balance(), "{counts:?}");
    }
}

/// A session with one stream of one track, as a good producer makes them.
struct Segments {
    session: Segment,
    cursor: Segment,
    stream: Segment,
    ring: Segment,
}

impl Segments {
    fn new() -> Self {
        let segment = |kind, size, header_len: u64, rec_size: u64| {
            let segment = Segment::new(size, kind != SegmentKind::SessionCursor);
            let header = SegmentHeader {
                header_len: u32::try_from(header_len).unwrap(),
                rec_size: u32::try_from(rec_size).unwrap(),
                ..SegmentHeader::new(kind, size, 2, 1)
            };
            segment.put_words(0, &header.to_words());
            segment
        };
        let session = segment(SegmentKind::Session, 4096, SESSION_HEAD_LEN, 4);
        session.put32(64, 1);
        let cursor = segment(SegmentKind::SessionCursor, 4096, CURSOR_HEAD_LEN, 8);
        let ring = segment(SegmentKind::DescriptorRing, 4096, RING_HEAD_LEN, DESCRIPTOR_LEN);
        ring.put64(64, pair(RING_SLOTS, 2));
        let stream = segment(SegmentKind::Stream, STREAM_LEN, STREAM_TRACKS_OFF, 0);
        stream.put_words(STREAM_DIRECTORY_OFF, &[pair(1, 256), STREAM_TRACKS_OFF]);
        let track = [pair(1, 90_000), ARENA_OFF, ARENA_LEN, CONFIGS_OFF, pair(1, 4096)];
        stream.put_words(STREAM_TRACKS_OFF, &track);
        stream.put_words(CONFIGS_OFF, &[pair(1, 2), pair(1, 0), 0, 0, pair(0, 30)]);
        Self { session, cursor, stream, ring }
    }

    fn descriptors(&self, attached: Attached) -> Handed {
        let fds = [&self.session, &self.cursor, &self.stream, &self.ring];
        Handed { fds: fds.map(|segment| segment.fd.try_clone().unwrap()), attached }
    }

    /// Changes a word of a segment: often one that means something.
    fn change(&self, input: &mut Unstructured<'_>) -> Result<()> {
        let (segment, words): (_, &[u64]) = match input.int_in_range(0..=5)? {
            0 => (&self.session, &[48, 52, 128, 132, 256]),
            1 => (&self.cursor, &[48, 52, 128, 256]),
            2 | 3 => (&self.ring, &[48, 52, 64, 128, 192, 196, 200, 208, 256, 272, 384]),
            _ => (&self.stream, &[64, 68, 72, 128, 144, 256, 264, 272, 280, 288, 292, 320, 4096, 4100, 4132]),
        };
        let at =
            if input.ratio(1, 4)? { input.int_in_range(0..=STREAM_LEN)? } else { *input.choose(words)? };
        let value = number(input, 8192)?;
        if input.arbitrary()? {
            segment.put64(at, value);
        } else {
            segment.put32(at, value as u32);
        }
        Ok(())
    }

    /// Pushes a record that is sound but for what the input makes otherwise.
    fn push(&self, input: &mut Unstructured<'_>, tail: &mut u64) -> Result<()> {
        let sound = input.ratio(2, 3)?;
        let odd = |input: &mut Unstructured<'_>, value| if sound { Ok(value) } else { number(input, value) };
        let d = Descriptor {
            seq: odd(input, *tail + 1)?,
            pos: odd(input, *tail % 64 * 128)?,
            len: odd(input, 100)? as u32,
            flags: Flags::KEY.0,
            record_type: RECORD_ACCESS_UNIT,
            track: odd(input, 0)? as u16,
            config_id: odd(input, 1)? as u32,
            nal_count: input.int_in_range(0..=3)?,
            nal_off: odd(input, 100)? as u32,
            filtered: odd(input, 0)?,
            ..Descriptor::default()
        };
        self.ring.put_words(RING_HEAD_LEN + *tail % u64::from(RING_SLOTS) * DESCRIPTOR_LEN, &d.to_words());
        *tail += 1;
        self.ring.put64(128, *tail);
        self.session.put32(SESSION_HEAD_LEN, *tail as u32);
        Ok(())
    }
}

/// What the next reader is given: session, cursor, stream, ring.
struct Handed {
    fds: [OwnedFd; 4],
    attached: Attached,
}

/// The socket's other side: answers each reader with what it is told to hand out.
struct HostileProducer {
    path: PathBuf,
    next: Sender<Handed>,
}

impl HostileProducer {
    fn start() -> Self {
        let path = std::env::temp_dir().join(format!("vms-fuzz-{}.sock", std::process::id()));
        // Left by an earlier process of the same number.
        let _ = std::fs::remove_file(&path);
        let socket =
            socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        bind(&socket, &SocketAddrUnix::new(&path).unwrap()).unwrap();
        listen(&socket, 4).unwrap();
        let (next, handed) = channel();
        std::thread::spawn(move || serve(&socket, &handed));
        Self { path, next }
    }
}

fn serve(socket: &OwnedFd, handed: &Receiver<Handed>) {
    for Handed { fds: [session, cursor, stream, ring], attached } in handed {
        let peer = accept_with(socket, SocketFlags::CLOEXEC).unwrap();
        let mut buffer = [0; MESSAGE_LEN_MAX];
        // Until the reader goes: it may refuse what it was given at any step.
        while let Ok(packet) = receive(&peer, &mut buffer, true) {
            let Ok((message, id)) = Message::decode(&buffer[..packet.len]) else { break };
            let (answer, fds) = match message {
                Message::Hello(_) => {
                    let (major, minor, slots, features) = (1, 0, 1, 0);
                    let welcome =
                        Welcome { major, minor, slots, features, daemon_epoch: 2, bell_interval_us: 0 };
                    (Message::Welcome(welcome), vec![session.as_fd(), cursor.as_fd()])
                }
                Message::Attach(_) => (Message::Attached(attached), vec![stream.as_fd(), ring.as_fd()]),
                Message::Detach { slot } => (Message::Detached { slot }, vec![]),
                _ => break,
            };
            if send(&peer, answer.encode(id).as_bytes(), &fds, true).is_err() {
                break;
            }
        }
    }
}
