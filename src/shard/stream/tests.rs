//! One stream with a ring of its own, without a thread.

use super::*;
use crate::ingest::{CameraConfig, Policy};
use crate::io::{self, BackendKind, Config, on_both};
use crate::limits::{CAMERA_BURST_LEN, LINGER_MAX, STREAM_BYTES_PER_TURN};
use crate::publish::{Join, Session};
use crate::rtsp::CameraUrl;
use ringbuf::traits::{Consumer, Split};
use ringbuf::{HeapCons, HeapRb};

on_both![
    a_connection_goes_along_behind_what_it_has_brought_and_comes_back_when_something_is_between,
    what_the_camera_is_told_on_the_way_out_goes_along,
    what_a_connection_has_brought_is_not_lost_when_the_camera_is_told_something_after_its_end,
    a_connection_that_comes_back_receives_no_more_than_before,
    completions_of_an_earlier_connection_are_nothing_to_it,
    a_flood_gets_its_share_of_a_turn_and_the_rest_waits,
    a_camera_without_measure_is_read_again_in_its_time_also_behind_a_move,
];

#[test]
fn a_panic_restarts_the_stream_and_nothing_else() {
    let (mut world, mut stream) = started();
    stream.call(&mut world.around(), |_, _, _| panic!("a bug, on purpose"));
    assert_eq!(world.reason(), Reason::InternalError);
    assert!(!stream.is_broken && stream.poll_timeout().is_some(), "the next attempt has its time");
    world.now.mono = stream.poll_timeout().unwrap();
    stream.handle_timeout(&mut world.around());
    assert!(stream.connection().is_some(), "it connects again");
}

#[test]
fn a_stream_that_cannot_start_anew_stays_down_and_can_be_removed() {
    let (mut world, mut stream) = started();
    stream.is_broken = true;
    stream.call(&mut world.around(), |_, _, _| panic!("not called"));
    assert_eq!(stream.poll_timeout(), None);
    stream.stop(&mut world.around());
    assert!(stream.is_done(world.now));
}

#[test]
fn a_reader_whose_attach_panics_is_answered_and_its_ring_is_gone() {
    let (mut world, mut stream) = started();
    let session = Session::create(1, 1, 1).unwrap();
    for is_taken_in in [false, true] {
        let ring = Box::new(ReaderRing::create(1, 1, &Join::default(), &session, 0).unwrap().0);
        let id = ring.id();
        let attach = |publisher: &mut Publisher, ring| {
            if is_taken_in {
                publisher.attach(ring);
            }
            panic!("a bug")
        };
        stream.attach_by(ring, attach, &mut world.around());
        world.events.flush();
        let answers = world.queue.pop_iter().filter_map(|event| {
            let Event::NotAttached { id, ring, .. } = event else { return None };
            Some((id, ring.is_some()))
        });
        assert_eq!(answers.collect::<Vec<_>>(), [(id, is_taken_in)]);
        assert_eq!(stream.publisher.counters().readers, 0);
    }
}

#[test]
fn a_stopping_stream_is_not_started_again() {
    let (mut world, mut stream) = started();
    stream.stop(&mut world.around());
    stream.start(&mut world.around());
    assert!(stream.is_done(world.now) && stream.connection().is_none());
}

#[test]
fn a_stream_that_connects_or_ends_does_not_go_to_another_shard() {
    let (mut world, mut stream) = started();
    stream.depart(&mut world.around());
    assert!(world.stayed() && !stream.is_ready_to_depart(), "it connects");
    stream.stop(&mut world.around());
    stream.depart(&mut world.around());
    assert!(world.stayed() && !stream.is_ready_to_depart(), "it ends");
}

#[test]
fn a_stream_that_waits_goes_at_once_and_one_that_has_to_end_on_its_way_stays() {
    let (mut world, mut stream) = started();
    let token = stream.connection().unwrap();
    stream.on_connect_failed(token, ConnectError::Refused, &mut world.around());
    stream.depart(&mut world.around());
    assert!(stream.is_ready_to_depart());
    stream.stop(&mut world.around());
    assert!(world.stayed() && !stream.is_ready_to_depart());
}

fn a_connection_goes_along_behind_what_it_has_brought_and_comes_back_when_something_is_between(
    kind: BackendKind,
) {
    let (mut world, mut stream) = started_on(kind);
    let (ours, mut theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    stream.connection = Some(world.io.adopt(ours.into()).unwrap());
    stream.depart(&mut world.around());
    assert!(!stream.is_ready_to_depart(), "the connection is on its way out");
    world.pump(&mut stream);
    assert!(stream.is_ready_to_depart() && stream.is_in_hand());

    stream.stay(&mut world.around());
    assert!(world.stayed() && stream.connection().is_some(), "it receives here again");
    stream.depart(&mut world.around());
    world.pump(&mut stream);
    let (mut there, _) = started_on(kind);
    let (mut stream, handover, _) = Stream::arrived(stream.into_moving(None));
    stream.settle(handover, &mut there.around());
    let token = stream.connection().unwrap();
    there.io.send(token, b"hello").unwrap();
    there.io.wait(Some(Duration::ZERO), Duration::ZERO).unwrap();
    let mut hello = [0; 5];
    std::io::Read::read_exact(&mut theirs, &mut hello).unwrap();
    assert_eq!(&hello, b"hello");
}

fn what_the_camera_is_told_on_the_way_out_goes_along(kind: BackendKind) {
    let (mut world, mut stream, mut camera) = connected(kind);
    stream.depart(&mut world.around());
    stream.on_connected(stream.connection().unwrap(), &mut world.around());
    assert!(stream.connection().is_some(), "nothing was refused");
    world.pump(&mut stream);
    assert!(stream.is_ready_to_depart());
    let (mut there, _) = started_on(kind);
    let (mut stream, handover, _) = Stream::arrived(stream.into_moving(None));
    stream.settle(handover, &mut there.around());
    there.io.wait(Some(Duration::ZERO), Duration::ZERO).unwrap();
    camera.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut request = [0; 8];
    std::io::Read::read_exact(&mut camera, &mut request).unwrap();
    assert_eq!(&request, b"OPTIONS ");
}

fn what_a_connection_has_brought_is_not_lost_when_the_camera_is_told_something_after_its_end(
    kind: BackendKind,
) {
    let (mut world, mut stream, mut camera) = connected(kind);
    let token = stream.connection().unwrap();
    std::io::Write::write_all(&mut camera, b"some bytes").unwrap();
    drop(camera);
    // It has had its share of this turn, so what comes waits for the next.
    stream.inbox.use_up_share(1);
    while !stream.inbox.has_end() {
        world.io.wait(Some(Duration::from_secs(10)), Duration::ZERO).unwrap();
        world.deliver(&mut stream, token, 1);
    }
    assert_eq!(world.io.send(token, b"x"), Err(SendError::NotOpen));
    stream.on_connected(token, &mut world.around());
    assert!(stream.inbox.is_waiting(), "the request was not sent, and that is all");
    stream.go_on(&mut Surroundings { turn: 2, ..world.around() });
    assert!(stream.connection().is_none() && !stream.inbox.is_waiting());
    assert_ne!(world.reason(), Reason::None);
}

fn a_connection_that_comes_back_receives_no_more_than_before(kind: BackendKind) {
    let (mut world, mut stream) = started_on(kind);
    let (ours, mut theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let token = world.io.adopt(ours.into()).unwrap();
    stream.connection = Some(token);
    stream.inbox.use_up_share(1);
    while !stream.inbox.is_paused() {
        std::io::Write::write_all(&mut theirs, b"x").unwrap();
        world.io.wait(Some(Duration::from_secs(10)), Duration::ZERO).unwrap();
        world.deliver(&mut stream, token, 1);
    }
    stream.depart(&mut world.around());
    world.pump(&mut stream);
    stream.stay(&mut world.around());
    std::io::Write::write_all(&mut theirs, b"x").unwrap();
    world.io.wait(Some(Duration::from_millis(20)), Duration::ZERO).unwrap();
    assert!(world.io.next_completion().is_none(), "nothing is received while so much waits");
}

fn completions_of_an_earlier_connection_are_nothing_to_it(kind: BackendKind) {
    let (mut world, mut stream) = started_on(kind);
    let before = stream.connection().unwrap();
    stream.start(&mut world.around());
    let after = stream.connection().unwrap();
    assert_ne!(before, after);
    stream.on_connect_failed(before, ConnectError::Refused, &mut world.around());
    assert!(!stream.on_closed(before, CloseReason::Reset, &mut world.around()));
    assert_eq!(stream.connection(), Some(after));
}

fn a_flood_gets_its_share_of_a_turn_and_the_rest_waits(kind: BackendKind) {
    let (mut world, mut stream) = started_on(kind);
    let total = 3 * STREAM_BYTES_PER_TURN;
    let (ours, mut theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let token = world.io.adopt(ours.into()).unwrap();
    stream.connection = Some(token);
    let flood = std::thread::spawn(move || std::io::Write::write_all(&mut theirs, &vec![0; total]));
    let (mut turn, mut done, mut pauses) = (1, 0, 0);
    while stream.connection().is_some() {
        // One turn, until the stream has had its share of it and holds what it may hold.
        while !stream.inbox.is_paused() && stream.connection().is_some() {
            world.io.wait(Some(Duration::from_secs(10)), Duration::ZERO).unwrap();
            world.deliver(&mut stream, token, turn);
        }
        let worked = STREAM_BYTES_PER_TURN - stream.inbox.share();
        done += worked;
        // What the kernel had taken before the pause may be more than one share. Who is paused with less than a share to work
        // on would wait for ever.
        if stream.inbox.is_paused() {
            assert_eq!(worked, STREAM_BYTES_PER_TURN);
            pauses += 1;
        }
        turn += 1;
        let around = &mut Surroundings { turn, ..world.around() };
        stream.go_on(around);
    }
    flood.join().unwrap().unwrap();
    assert!(pauses >= 2, "{pauses} pauses");
    assert_eq!(done, total);
}

fn a_camera_without_measure_is_read_again_in_its_time_also_behind_a_move(kind: BackendKind) {
    let (mut world, mut stream) = started_on(kind);
    let (ours, mut theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    stream.connection = Some(world.io.adopt(ours.into()).unwrap());
    // Until nobody reads any more.
    let flood =
        std::thread::spawn(move || while std::io::Write::write_all(&mut theirs, &[0; 64 * 1024]).is_ok() {});
    let config = Config::default();
    let pool = u64::from(config.buffers) * config.buffer_len as u64;

    let burst = world.until_held(&mut stream);
    let least = CAMERA_BURST_LEN as u64;
    assert!((least..=least + pool).contains(&burst), "{burst} bytes; the pool has {pool}");
    for _ in 0..3 {
        assert_ne!(world.until_held_again(&mut stream), 0);
    }

    // Held back it goes, owes the same where it arrives, and is held back there by the first that comes.
    stream.depart(&mut world.around());
    world.pump(&mut stream);
    assert!(stream.is_ready_to_depart());
    let (mut there, _) = started_on(kind);
    there.now = world.now;
    let (mut stream, handover, _) = Stream::arrived(stream.into_moving(None));
    stream.settle(handover, &mut there.around());
    let first = there.until_held(&mut stream);
    assert!((1..=pool).contains(&first), "{first} bytes; the pool has {pool}");
    for _ in 0..3 {
        assert_ne!(there.until_held_again(&mut stream), 0);
    }
    assert!(there.now.mono.since(Mono(1)) < Duration::from_secs(5), "its connection was waited for");
    stream.disconnect(&mut there.around());
    drop(there);
    flood.join().unwrap();
}

#[test]
fn a_stream_tells_that_it_has_moved_then_gives_back_what_it_left() {
    let (mut world, mut stream) = started();
    let segment = || Successor::create(StreamUid(1), 1, 64 * 1024).unwrap();
    let first = stream.publisher.fd();
    stream.rotate(segment(), LINGER_MAX, &mut world.around());
    assert!(world.moves().is_empty(), "it is told at the turn's end");
    stream.feed(&mut Bells::new(), &mut world.around());
    let told = world.moves();
    let [Event::Moved { uid: StreamUid(1) }, Event::Released { memory, .. }] = &told[..] else {
        panic!("{told:?}")
    };
    assert!(std::sync::Arc::ptr_eq(&memory.fd(), &first));

    // It stays where it is for a while; then one that waits is enough, and with what is down or over there is nowhere to go.
    stream.rotate(segment(), LINGER_MAX, &mut world.around());
    stream.feed(&mut Bells::new(), &mut world.around());
    assert!(world.moves().is_empty());
    let not_moved = |world: &mut World, stream: &mut Stream| {
        let unused = segment();
        let fd = unused.fd();
        stream.rotate(unused, LINGER_MAX, &mut world.around());
        let told = world.moves();
        let [Event::NotMoved { memory, .. }] = &told[..] else { panic!("{told:?}") };
        assert!(std::sync::Arc::ptr_eq(&memory.fd(), &fd));
    };
    not_moved(&mut world, &mut stream);
    stream.is_broken = true;
    not_moved(&mut world, &mut stream);
    (stream.is_broken, stream.is_over) = (false, true);
    not_moved(&mut world, &mut stream);
}

struct World {
    io: Backend,
    events: EventSender,
    queue: HeapCons<Event>,
    now: Now,
    turn: u64,
}

impl World {
    fn around(&mut self) -> Surroundings<'_> {
        Surroundings { io: &mut self.io, events: &mut self.events, now: self.now, turn: self.turn }
    }

    fn deliver(&mut self, stream: &mut Stream, to: Token, turn: u64) {
        while let Some(completion) = self.io.next_completion() {
            let around = &mut Surroundings { turn, ..self.around() };
            match completion {
                io::Completion::Received(token, buffer) if token == to => {
                    stream.on_received(token, buffer, around);
                }
                io::Completion::Closed(token, reason) if token == to => {
                    stream.on_closed(token, reason, around);
                }
                io::Completion::Connected(_)
                | io::Completion::ConnectFailed(..)
                | io::Completion::Received(..)
                | io::Completion::Closed(..)
                | io::Completion::HandedOut(..)
                | io::Completion::Woken => {}
            }
        }
    }

    /// Turns until the stream is held back and nothing comes any more. How many bytes came.
    fn until_held(&mut self, stream: &mut Stream) -> u64 {
        let token = stream.connection().unwrap();
        let begin = self.io.counters().received_bytes;
        let mut silent = 0;
        loop {
            let is_held = stream.camera.is_throttled() && stream.inbox.is_paused();
            if is_held && silent == 2 {
                return self.io.counters().received_bytes - begin;
            }
            assert!(silent < 5, "nothing comes, and {} is not held back", stream.id);
            self.turn += 1;
            let timeout = match (stream.inbox.is_waiting(), is_held) {
                (true, _) => Duration::ZERO,
                (false, true) => Duration::from_millis(20),
                (false, false) => Duration::from_secs(2),
            };
            let before = self.io.counters().received_bytes;
            if stream.inbox.is_waiting() {
                let around = &mut Surroundings { turn: self.turn, ..self.around() };
                stream.go_on(around);
            }
            self.io.wait(Some(timeout), Duration::ZERO).unwrap();
            self.deliver(stream, token, self.turn);
            let is_silent = self.io.counters().received_bytes == before && !stream.inbox.is_waiting();
            silent = if is_silent { silent + 1 } else { 0 };
        }
    }

    /// The same, after the time that it is held back for.
    fn until_held_again(&mut self, stream: &mut Stream) -> u64 {
        self.now.mono = stream.poll_timeout().unwrap();
        stream.handle_timeout(&mut self.around());
        assert!(!stream.camera.is_throttled());
        self.until_held(stream)
    }

    /// Waits for the kernel until the stream's connection is in hand.
    fn pump(&mut self, stream: &mut Stream) {
        while !stream.is_in_hand() {
            self.io.wait(Some(Duration::from_secs(10)), Duration::ZERO).unwrap();
            while let Some(completion) = self.io.next_completion() {
                if let io::Completion::HandedOut(token, handover) = completion {
                    stream.on_handed_out(token, handover, &mut self.around());
                }
            }
        }
    }

    /// Whether it was told that the stream stays.
    fn stayed(&mut self) -> bool {
        self.events.flush();
        self.queue.pop_iter().filter(|event| matches!(event, Event::Stayed { .. })).count() == 1
    }

    /// What was told of other memory.
    fn moves(&mut self) -> Vec<Event> {
        self.events.flush();
        let is_move = |event: &Event| {
            matches!(event, Event::Moved { .. } | Event::NotMoved { .. } | Event::Released { .. })
        };
        self.queue.pop_iter().filter(is_move).collect()
    }

    fn reason(&mut self) -> Reason {
        self.events.flush();
        let statuses = self.queue.pop_iter().filter_map(|event| {
            let Event::Status { status, .. } = event else { return None };
            Some(status.reason)
        });
        statuses.last().unwrap()
    }
}

/// A stream that is connecting; nothing answers, because nothing is submitted.
fn started() -> (World, Stream) {
    started_on(BackendKind::Uring)
}

/// A stream whose connection is up and does not know it yet, and the other end.
fn connected(kind: BackendKind) -> (World, Stream, std::net::TcpStream) {
    let (mut world, mut stream) = started_on(kind);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    stream.disconnect(&mut world.around());
    stream.connection = Some(world.io.connect(listener.local_addr().unwrap()).unwrap());
    loop {
        world.io.wait(Some(Duration::from_secs(10)), Duration::ZERO).unwrap();
        let is_connected = |completion| matches!(completion, io::Completion::Connected(_));
        if std::iter::from_fn(|| world.io.next_completion()).any(is_connected) {
            return (world, stream, listener.accept().unwrap().0);
        }
    }
}

fn started_on(kind: BackendKind) -> (World, Stream) {
    let (producer, queue) = HeapRb::new(16).split();
    let events = EventSender::new(producer, io::wake_pair().unwrap().0);
    let io = Backend::new(kind, Config { sockets_max: 4, ..Config::default() }).unwrap();
    let mut world = World { io, events, queue, now: Now { mono: Mono(1), ..Now::default() }, turn: 1 };
    let (url, credentials) = CameraUrl::parse("rtsp://127.0.0.1:9/x").unwrap();
    let new = NewStream {
        uid: StreamUid(1),
        id: StreamId::new("cam").unwrap(),
        camera: CameraConfig { url, credentials, policy: Policy::default() },
        seed: 1,
        publisher: Box::new(Publisher::create(StreamUid(1), 1, 64 * 1024).unwrap()),
    };
    let mut stream = Stream::new(new, world.now);
    stream.start(&mut world.around());
    assert!(stream.connection().is_some());
    (world, stream)
}
