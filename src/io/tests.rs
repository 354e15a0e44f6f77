//! The back ends against real sockets on loopback. Peers are threads; every wait has a bound.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::thread::futex;
use rustix::time::{ClockId, Timespec, clock_gettime};

use super::*;
use crate::limits::OUTBOX_LEN_MAX;

const PATIENCE: Duration = Duration::from_secs(10);
const MIB: usize = 1024 * 1024;

mod handover;

/// Makes each of these a test on both back ends.
macro_rules! on_both {
    ($($test:ident,)*) => {
        mod on_uring {
            $(#[test] fn $test() { super::$test($crate::io::BackendKind::Uring); })*
        }
        mod on_epoll {
            $(#[test] fn $test() { super::$test($crate::io::BackendKind::Epoll); })*
        }
    };
}
pub(crate) use on_both;

on_both![
    bytes_go_both_ways,
    a_refused_connection_says_so,
    an_unreachable_network_is_no_refusal,
    the_table_has_an_end,
    many_connections_lose_and_mix_nothing,
    an_empty_pool_delays_and_loses_nothing,
    buffers_kept_back_stop_receiving_until_one_is_returned,
    received_bytes_outlive_the_back_end,
    a_paused_connection_receives_again_where_it_stopped,
    while_paused_nothing_comes,
    how_the_peer_ended_is_told,
    bytes_before_the_end_come_before_the_end,
    a_closed_token_is_dead_and_its_slot_is_used_anew,
    closing_while_connecting_is_silent,
    what_was_sent_before_a_close_still_leaves,
    a_peer_that_does_not_read_fills_the_outbox,
    a_wait_ends_at_its_time_out_and_by_a_wake,
    a_hold_sleeps_over_a_completion_and_ends_by_itself,
    a_hold_does_not_outlast_the_time_out,
    a_hold_of_less_than_a_microsecond_is_none,
    a_waiter_of_another_thread_is_woken,
    closing_what_failed_at_once_is_silent,
    sizes_are_checked,
];

fn bytes_go_both_ways(kind: BackendKind) {
    let (mut net, token, mut peer) = connected(kind, Config::default());
    net.io.send(token, b"DESCRIBE ").unwrap();
    net.io.send(token, b"rtsp://").unwrap();
    net.io.wait(Some(Duration::ZERO), Duration::ZERO).unwrap();
    let mut request = [0; 16];
    peer.read_exact(&mut request).unwrap();
    assert_eq!(&request, b"DESCRIBE rtsp://");
    peer.write_all(b"RTSP/1.0 200 OK").unwrap();
    assert_eq!(net.receive(token, 15), b"RTSP/1.0 200 OK");
    assert!(net.io.counters().received_bytes == 15 && net.io.counters().stale == 0);
}

fn a_refused_connection_says_so(kind: BackendKind) {
    let free_port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut net = Net::new(kind, Config::default());
    let token = net.io.connect(free_port).unwrap();
    let failed = net.until(|c| matches!(c, Completion::ConnectFailed(..)));
    assert!(matches!(failed, Completion::ConnectFailed(t, ConnectError::Refused) if t == token));
    assert_eq!(net.io.send(token, b"x"), Err(SendError::NotOpen));
}

fn an_unreachable_network_is_no_refusal(kind: BackendKind) {
    let mut net = Net::new(kind, Config::default());
    // Class E: the kernel itself answers.
    net.io.connect("255.255.255.255:554".parse().unwrap()).unwrap();
    let failed = net.until(|c| matches!(c, Completion::ConnectFailed(..)));
    assert!(matches!(failed, Completion::ConnectFailed(_, ConnectError::Network(_))), "{failed:?}");
}

fn the_table_has_an_end(kind: BackendKind) {
    let (mut net, token, _peer) = connected(kind, Config { sockets_max: 1, ..Config::default() });
    let exhausted = ConnectError::SocketsExhausted { sockets_max: 1 };
    assert_eq!(net.io.connect("127.0.0.1:1".parse().unwrap()), Err(exhausted));
    net.io.close(token);
    assert!(net.io.connect("127.0.0.1:1".parse().unwrap()).is_ok());
}

fn many_connections_lose_and_mix_nothing(kind: BackendKind) {
    let counters = transfer(kind, Config::default(), 6, 8 * MIB);
    assert_eq!(counters.received_bytes, 6 * 8 * MIB as u64);
}

fn an_empty_pool_delays_and_loses_nothing(kind: BackendKind) {
    let counters = transfer(kind, Config { buffers: 2, buffer_len: 4096, sockets_max: 8 }, 6, MIB);
    match kind {
        BackendKind::Uring => {
            assert!(counters.out_of_buffers > 0, "this test is about an empty pool: {counters:?}");
            assert!(counters.rearms >= counters.out_of_buffers / 2, "{counters:?}");
        }
        // Each buffer is given back before the next receive is tried.
        BackendKind::Epoll => assert_eq!((counters.out_of_buffers, counters.rearms), (0, 0)),
    }
}

fn buffers_kept_back_stop_receiving_until_one_is_returned(kind: BackendKind) {
    let (mut net, token, mut peer) = connected(kind, Config { buffers: 2, buffer_len: 4096, sockets_max: 1 });
    peer.write_all(&[7; 5 * 4096]).unwrap();
    let mut kept = Vec::new();
    while kept.len() < 2 {
        kept.extend(net.turn().into_iter().map(|c| {
            let Completion::Received(_, bytes) = c else { panic!("{c:?}") };
            bytes
        }));
    }
    // Nothing is armed now, and nothing spins: a bounded wait sees no completion.
    net.io.wait(Some(Duration::from_millis(20)), Duration::ZERO).unwrap();
    assert!(net.io.next_completion().is_none());
    assert!(net.io.counters().out_of_buffers <= 2);
    let held: usize = kept.iter().map(|bytes| bytes.len()).sum();
    drop(kept);
    assert_eq!(net.receive(token, 5 * 4096 - held), vec![7; 5 * 4096 - held]);
}

fn received_bytes_outlive_the_back_end(kind: BackendKind) {
    let (mut net, token, mut peer) = connected(kind, Config::default());
    peer.write_all(b"kept").unwrap();
    let Completion::Received(t, bytes) = net.until(|c| matches!(c, Completion::Received(..))) else {
        panic!()
    };
    assert_eq!(t, token);
    drop(net);
    assert_eq!(*bytes, *b"kept");
}

fn a_paused_connection_receives_again_where_it_stopped(kind: BackendKind) {
    let (mut net, token, mut peer) = connected(kind, Config { buffers: 8, buffer_len: 4096, sockets_max: 2 });
    let writer = thread::spawn(move || {
        peer.write_all(&pattern(1, 4 * MIB)).unwrap();
        peer
    });
    let mut received = Vec::new();
    for round in 0_u32.. {
        if received.len() == 4 * MIB {
            break;
        }
        match round % 3 {
            0 => net.io.pause(token),
            1 => net.io.resume(token),
            _ => {
                // A pause that is over before its cancellation was even submitted.
                net.io.pause(token);
                net.io.resume(token);
            }
        }
        // While paused there may be nothing to come: do not sleep then.
        let timeout = if round % 3 == 0 { Duration::ZERO } else { PATIENCE };
        net.io.wait(Some(timeout), Duration::ZERO).unwrap();
        while let Some(completion) = net.io.next_completion() {
            let Completion::Received(_, bytes) = completion else { panic!("{completion:?}") };
            received.extend_from_slice(&bytes);
        }
    }
    assert!(received == pattern(1, 4 * MIB));
    drop(writer.join().unwrap());
}

fn while_paused_nothing_comes(kind: BackendKind) {
    let (mut net, token, mut peer) = connected(kind, Config::default());
    net.io.pause(token);
    peer.write_all(b"later").unwrap();
    net.io.wait(Some(Duration::from_millis(20)), Duration::ZERO).unwrap();
    assert!(net.io.next_completion().is_none());
    net.io.resume(token);
    assert_eq!(net.receive(token, 5), b"later");
}

fn how_the_peer_ended_is_told(kind: BackendKind) {
    let (mut net, token, peer) = connected(kind, Config::default());
    peer.shutdown(Shutdown::Write).unwrap();
    assert_eq!(net.closed(), (token, CloseReason::Ended));

    let (mut net, token, peer) = connected(kind, Config::default());
    reset(peer);
    assert_eq!(net.closed(), (token, CloseReason::Reset));
}

fn bytes_before_the_end_come_before_the_end(kind: BackendKind) {
    let (mut net, token, mut peer) = connected(kind, Config::default());
    peer.write_all(&pattern(3, MIB)).unwrap_or_default();
    let writer = thread::spawn(move || drop(peer));
    assert!(net.receive(token, MIB) == pattern(3, MIB));
    assert_eq!(net.closed(), (token, CloseReason::Ended));
    writer.join().unwrap();
}

fn a_closed_token_is_dead_and_its_slot_is_used_anew(kind: BackendKind) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut net = Net::new(kind, Config { sockets_max: 1, ..Config::default() });
    let mut previous: Option<Token> = None;
    for round in 0..50 {
        let (token, mut peer) = net.connect(&listener);
        if let Some(old) = previous {
            assert!(old.index == token.index && old.generation != token.generation);
            assert_eq!(net.io.send(old, b"x"), Err(SendError::NotOpen));
            net.io.pause(old);
            net.io.close(old);
        }
        peer.write_all(&[round; 3 * 32 * 1024]).unwrap();
        assert_eq!(net.receive(token, 1), [round], "bytes of another connection");
        // Most of the bytes are still on their way: they must not show up under the next token.
        net.io.close(token);
        while net.io.inspect().free_slots == 0 {
            assert!(net.turn().is_empty(), "a closed token is heard of");
        }
        previous = Some(token);
    }
    assert_eq!(net.io.counters().stale, 0);
    assert_eq!(
        net.io.inspect().free_buffers,
        usize::from(Config::default().buffers),
        "every buffer came back"
    );
}

fn closing_while_connecting_is_silent(kind: BackendKind) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut net = Net::new(kind, Config { sockets_max: 1, ..Config::default() });
    for _ in 0..20 {
        let token = net.io.connect(listener.local_addr().unwrap()).unwrap();
        net.io.close(token);
        while net.io.inspect().free_slots == 0 {
            assert!(net.turn().is_empty());
        }
    }
}

fn what_was_sent_before_a_close_still_leaves(kind: BackendKind) {
    let (mut net, token, mut peer) = connected(kind, Config::default());
    net.io.send(token, b"TEARDOWN").unwrap();
    let free_slots = net.io.inspect().free_slots;
    net.io.close(token);
    while net.io.inspect().free_slots == free_slots {
        net.turn();
    }
    let mut rest = Vec::new();
    peer.set_read_timeout(Some(PATIENCE)).unwrap();
    peer.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, b"TEARDOWN");
}

fn a_peer_that_does_not_read_fills_the_outbox(kind: BackendKind) {
    let (mut net, token, mut peer) = connected(kind, Config::default());
    let chunk = pattern(5, OUTBOX_LEN_MAX / 2);
    let mut taken = 0;
    let full = loop {
        match net.io.send(token, &chunk) {
            Ok(()) => taken += chunk.len(),
            Err(full) => break full,
        }
        net.io.wait(Some(Duration::ZERO), Duration::ZERO).unwrap();
        while net.io.next_completion().is_some() {}
        assert!(taken < 64 * MIB, "the limit is not kept");
    };
    assert!(matches!(full, SendError::OutboxFull { waiting } if waiting > OUTBOX_LEN_MAX / 2));
    // The rest still arrives, in order, once the peer reads.
    let reader = thread::spawn(move || {
        let mut all = vec![0; taken];
        peer.read_exact(&mut all).unwrap();
        all
    });
    while net.io.inspect().unsent_len > 0 {
        net.turn();
    }
    assert!(reader.join().unwrap().chunks(chunk.len()).all(|c| c == chunk));
}

fn a_wait_ends_at_its_time_out_and_by_a_wake(kind: BackendKind) {
    let mut net = Net::new(kind, Config::default());
    net.io.wait(Some(Duration::from_millis(10)), Duration::ZERO).unwrap();
    assert!(net.io.next_completion().is_none());
    for _ in 0..3 {
        let waker = net.io.waker();
        let other = thread::spawn(move || waker.wake());
        net.io.wait(None, Duration::ZERO).unwrap();
        assert!(matches!(net.io.next_completion(), Some(Completion::Woken)));
        assert!(net.io.next_completion().is_none());
        other.join().unwrap();
    }
    assert_eq!(net.io.counters().wakeups, 3);
}

fn a_hold_sleeps_over_a_completion_and_ends_by_itself(kind: BackendKind) {
    let (mut net, token, mut peer) = connected(kind, Config::default());
    net.io.wait(Some(Duration::ZERO), Duration::ZERO).unwrap();
    peer.write_all(b"one").unwrap();
    let begin = clock_gettime(ClockId::Monotonic);
    net.io.wait(None, Duration::from_millis(30)).unwrap();
    let slept = clock_gettime(ClockId::Monotonic) - begin;
    assert!(slept >= Timespec { tv_sec: 0, tv_nsec: 30_000_000 }, "{slept:?}");
    let Some(Completion::Received(t, bytes)) = net.io.next_completion() else { panic!() };
    assert!(t == token && *bytes == *b"one");
}

fn a_hold_does_not_outlast_the_time_out(kind: BackendKind) {
    let (mut net, token, mut peer) = connected(kind, Config::default());
    let begin = clock_gettime(ClockId::Monotonic);
    net.io.wait(Some(Duration::from_millis(10)), PATIENCE).unwrap();
    let slept = clock_gettime(ClockId::Monotonic) - begin;
    assert!(slept >= Timespec { tv_sec: 0, tv_nsec: 10_000_000 } && slept.tv_sec < 5, "{slept:?}");
    assert!(net.io.next_completion().is_none());
    // What happens meanwhile is there at its end.
    peer.write_all(b"one").unwrap();
    let begin = clock_gettime(ClockId::Monotonic);
    net.io.wait(Some(Duration::from_millis(10)), PATIENCE).unwrap();
    let slept = clock_gettime(ClockId::Monotonic) - begin;
    assert!(slept.tv_sec < 5, "{slept:?}");
    assert_eq!(net.receive(token, 3), b"one");
}

fn a_hold_of_less_than_a_microsecond_is_none(kind: BackendKind) {
    let (mut net, token, mut peer) = connected(kind, Config::default());
    net.io.wait(Some(Duration::ZERO), Duration::ZERO).unwrap();
    peer.write_all(b"one").unwrap();
    let begin = clock_gettime(ClockId::Monotonic);
    net.io.wait(Some(Duration::from_secs(20)), Duration::from_nanos(999)).unwrap();
    let slept = clock_gettime(ClockId::Monotonic) - begin;
    assert!(slept.tv_sec < 10, "it waited for more than came: {slept:?}");
    let Some(Completion::Received(t, bytes)) = net.io.next_completion() else { panic!() };
    assert!(t == token && *bytes == *b"one");
}

fn a_waiter_of_another_thread_is_woken(kind: BackendKind) {
    let word = Arc::new(AtomicU32::new(0));
    let waiter = thread::spawn({
        let word = Arc::clone(&word);
        move || {
            let bound = Timespec { tv_sec: 10, tv_nsec: 0 };
            while word.load(Ordering::Acquire) == 0 {
                match futex::wait(&word, futex::Flags::empty(), 0, Some(&bound)) {
                    Ok(()) | Err(Errno::AGAIN | Errno::INTR) => {}
                    Err(errno) => panic!("nobody woke it: {errno}"),
                }
            }
        }
    });
    let mut net = Net::new(kind, Config::default());
    word.store(1, Ordering::Release);
    while !waiter.is_finished() {
        let is_queued = net.io.wake_waiter(word.as_ptr());
        assert_eq!(is_queued, kind == BackendKind::Uring, "needs Linux 6.7");
        net.io.wait(Some(Duration::ZERO), Duration::ZERO).unwrap();
        assert!(net.io.next_completion().is_none(), "a success is silent");
        if !is_queued {
            futex::wake(&word, futex::Flags::empty(), 1).unwrap();
        }
    }
    waiter.join().unwrap();
    // A name that nobody waits on, or that is no memory at all, harms nobody.
    let _ = net.io.wake_waiter(std::ptr::without_provenance(8));
    net.io.wait(Some(Duration::ZERO), Duration::ZERO).unwrap();
    assert!(net.io.next_completion().is_none());
}

fn closing_what_failed_at_once_is_silent(kind: BackendKind) {
    let mut net = Net::new(kind, Config::default());
    let token = net.io.connect("255.255.255.255:554".parse().unwrap()).unwrap();
    net.io.close(token);
    net.io.wait(Some(Duration::ZERO), Duration::ZERO).unwrap();
    assert!(net.io.next_completion().is_none(), "a closed token is heard of");
}

fn sizes_are_checked(kind: BackendKind) {
    for bad in [
        Config { buffers: 3, ..Config::default() },
        Config { buffers: 0, ..Config::default() },
        Config { buffer_len: 0, ..Config::default() },
        Config { sockets_max: 0, ..Config::default() },
    ] {
        assert!(matches!(Backend::new(kind, bad), Err(SetupError::Config)), "{bad:?}");
    }
}

/// What a back end's fields say.
pub(super) struct Inside {
    /// Nothing is left of what the last wait brought.
    pub(super) is_idle: bool,
    pub(super) free_slots: usize,
    pub(super) free_buffers: usize,
    /// Bytes in all outboxes.
    pub(super) unsent_len: usize,
}

/// A back end with a bound on every wait.
struct Net {
    io: Backend,
}

impl Net {
    fn new(kind: BackendKind, config: Config) -> Self {
        Self { io: Backend::new(kind, config).unwrap() }
    }

    /// Places for connections.
    fn sockets(&self) -> usize {
        Config::default().sockets_max as usize
    }

    /// Waits for something to happen. Fails when nothing does.
    fn wait(&mut self) {
        self.io.wait(Some(PATIENCE), Duration::ZERO).unwrap();
        let idle = self.io.inspect().is_idle;
        assert!(!idle, "nothing happened: {:?}", self.io);
    }

    /// What happened next.
    fn turn(&mut self) -> Vec<Completion> {
        self.wait();
        std::iter::from_fn(|| self.io.next_completion()).collect()
    }

    /// Drops what happens until `wanted` does.
    fn until(&mut self, wanted: impl Fn(&Completion) -> bool) -> Completion {
        loop {
            if let Some(completion) = self.turn().into_iter().find(&wanted) {
                return completion;
            }
        }
    }

    fn connect(&mut self, listener: &TcpListener) -> (Token, TcpStream) {
        let token = self.io.connect(listener.local_addr().unwrap()).unwrap();
        self.until(|c| matches!(c, Completion::Connected(t) if *t == token));
        (token, listener.accept().unwrap().0)
    }

    /// At least `len` bytes that arrive on `token`, cut to `len`.
    fn receive(&mut self, token: Token, len: usize) -> Vec<u8> {
        let mut received = Vec::new();
        while received.len() < len {
            self.wait();
            while received.len() < len
                && let Some(completion) = self.io.next_completion()
            {
                let Completion::Received(t, bytes) = completion else { panic!("{completion:?}") };
                assert_eq!(t, token);
                received.extend_from_slice(&bytes);
            }
        }
        received.truncate(len);
        received
    }

    fn closed(&mut self) -> (Token, CloseReason) {
        match self.until(|c| matches!(c, Completion::Closed(..))) {
            Completion::Closed(token, reason) => (token, reason),
            other @ (Completion::Connected(_)
            | Completion::ConnectFailed(..)
            | Completion::Received(..)
            | Completion::HandedOut(..)
            | Completion::Woken) => unreachable!("{other:?}"),
        }
    }
}

fn connected(kind: BackendKind, config: Config) -> (Net, Token, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut net = Net::new(kind, config);
    let (token, peer) = net.connect(&listener);
    (net, token, peer)
}

/// Closes with a reset: there are bytes that nobody has read.
fn reset(peer: TcpStream) {
    rustix::net::sockopt::set_socket_linger(&peer, Some(Duration::ZERO)).unwrap();
    drop(peer);
}

/// `count` peers send `len` bytes each and close. Every byte is checked.
fn transfer(kind: BackendKind, config: Config, count: u8, len: usize) -> Counters {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut net = Net::new(kind, config);
    let peers: Vec<_> = (0..count).map(|seed| (seed, net.connect(&listener))).collect();
    let mut writers: Vec<JoinHandle<()>> = Vec::new();
    let mut received: Vec<(Token, u8, Vec<u8>)> = Vec::new();
    for (seed, (token, mut peer)) in peers {
        writers.push(thread::spawn(move || peer.write_all(&pattern(seed, len)).unwrap()));
        received.push((token, seed, Vec::with_capacity(len)));
    }
    let mut open = usize::from(count);
    while open > 0 {
        net.wait();
        while let Some(completion) = net.io.next_completion() {
            match completion {
                Completion::Received(token, bytes) => {
                    let row = received.iter_mut().find(|row| row.0 == token).unwrap();
                    row.2.extend_from_slice(&bytes);
                }
                Completion::Closed(_, reason) => {
                    assert_eq!(reason, CloseReason::Ended);
                    open -= 1;
                }
                other @ (Completion::Connected(_)
                | Completion::ConnectFailed(..)
                | Completion::HandedOut(..)
                | Completion::Woken) => panic!("{other:?}"),
            }
        }
    }
    for (_, seed, bytes) in received {
        assert!(bytes == pattern(seed, len), "{} of {len} bytes came from {seed}", bytes.len());
    }
    writers.into_iter().for_each(|writer| writer.join().unwrap());
    assert_eq!(net.io.inspect().free_buffers, usize::from(config.buffers));
    assert_eq!(net.io.counters().stale, 0);
    net.io.counters()
}

/// Bytes that differ at every place and between seeds.
fn pattern(seed: u8, len: usize) -> Vec<u8> {
    let mut state = u32::from(seed) * 2 + 1;
    let step = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_le_bytes()[3]
    };
    (0..len).map(step).collect()
}
