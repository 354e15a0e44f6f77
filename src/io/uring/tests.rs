//! What only io_uring has: queues of operations, and a hold that ends early. The rest is in `io::tests`.

use std::io::Write;
use std::os::unix::net::UnixStream;

use rustix::time::{ClockId, Timespec, clock_gettime};

use super::*;
use crate::limits::OUTBOX_LEN_MAX;

const PATIENCE: Duration = Duration::from_secs(10);

#[test]
fn a_hold_ends_early_when_there_is_enough() {
    let mut uring = Uring::new(Config { buffers: 8, buffer_len: 4096, sockets_max: 1 }).unwrap();
    let (_, mut peer) = adopted(&mut uring);
    peer.write_all(&[1; 6 * 4096]).unwrap();
    // Longer than the test's bound: half of the pool ends it.
    uring.wait(None, PATIENCE * 60).unwrap();
    assert!(matches!(uring.next_completion(), Some(Completion::Received(..))));
}

#[test]
fn before_6_12_a_hold_and_what_follows_it_share_the_time_out() {
    let mut uring = Uring::new(Config { buffers: 8, buffer_len: 4096, sockets_max: 1 }).unwrap();
    uring.ring.forget_min_wait();
    let (_, mut peer) = adopted(&mut uring);
    uring.wait(Some(Duration::ZERO), Duration::ZERO).unwrap();
    let timeout = Duration::from_secs(1);
    for hold in [timeout * 9 / 10, timeout, PATIENCE] {
        let begin = clock_gettime(ClockId::Monotonic);
        uring.wait(Some(timeout), hold).unwrap();
        let slept = clock_gettime(ClockId::Monotonic) - begin;
        assert!(slept >= Timespec { tv_sec: 1, tv_nsec: 0 }, "{hold:?}: {slept:?}");
        assert!(slept < Timespec { tv_sec: 1, tv_nsec: 800_000_000 }, "{hold:?}: {slept:?}");
        assert!(uring.next_completion().is_none());
    }
    peer.write_all(b"x").unwrap();
    let begin = clock_gettime(ClockId::Monotonic);
    uring.wait(Some(PATIENCE), Duration::from_millis(30)).unwrap();
    let slept = clock_gettime(ClockId::Monotonic) - begin;
    assert!(slept >= Timespec { tv_sec: 0, tv_nsec: 30_000_000 } && slept.tv_sec < 5, "{slept:?}");
    assert!(matches!(uring.next_completion(), Some(Completion::Received(..))));
}

#[test]
fn more_operations_than_the_queue_holds_are_kept() {
    let mut uring = Uring::new(Config::default()).unwrap();
    let (token, _peer) = adopted(&mut uring);
    for _ in 0..SUBMISSIONS {
        uring.pause(token);
        uring.resume(token);
    }
    let (other, mut peer) = adopted(&mut uring);
    peer.write_all(b"x").unwrap();
    loop {
        uring.wait(Some(PATIENCE), Duration::ZERO).unwrap();
        assert!(!uring.inspect().is_idle, "nothing happened: {uring:?}");
        if let Some(Completion::Received(from, bytes)) = uring.next_completion() {
            break assert!(from == other && *bytes == *b"x");
        }
    }
}

#[test]
fn dropping_with_everything_in_flight_lets_go_of_it() {
    let mut uring = Uring::new(Config::default()).unwrap();
    let (token, mut peer) = adopted(&mut uring);
    peer.write_all(&[0; 100_000]).unwrap();
    uring.send(token, &[0; OUTBOX_LEN_MAX]).unwrap();
    uring.connect("127.0.0.1:9".parse().unwrap()).unwrap();
    uring.wait(Some(Duration::ZERO), Duration::ZERO).unwrap();
    assert!(uring.ring.quiesce(), "the kernel lets go");
    assert_eq!(uring.ring.pop().map(|c| c.result()), None);
}

/// A connection that needs no connecting, and its peer.
fn adopted(uring: &mut Uring) -> (Token, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    (uring.adopt(ours.into()).unwrap(), theirs)
}
