//! Counts a thread's accesses to shared memory, and stops the process behind a chosen one.
//!
//! `map` calls [`step`] after each load and store that another process could tell from the next. A record's loads are one
//! step: nobody else sees them.

use std::cell::Cell;

use rustix::process::{Signal, getpid, kill_process};

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
    /// The count behind which the process stops.
    static STOP_AT: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Bytes that are copied without a step in between, in a process that is to be stopped.
const PIECE_LEN: usize = 1024;

/// One access was made.
pub(crate) fn step() {
    COUNT.set(COUNT.get() + 1);
    if STOP_AT.get() == Some(COUNT.get()) {
        stop();
    }
}

/// Where a copy is to be split so that a process can be stopped within.
pub(crate) fn half(len: usize) -> Option<usize> {
    (STOP_AT.get().is_some() && len > PIECE_LEN).then_some(len / 2)
}

/// Stops this process behind its `nth` access from now on.
pub(super) fn stop_behind(nth: u64) {
    COUNT.set(0);
    STOP_AT.set(Some(nth));
}

/// Accesses since [`stop_behind`].
pub(super) fn count() -> u64 {
    COUNT.get()
}

/// The accesses that `work` makes on this thread.
pub(super) fn of(work: impl FnOnce()) -> u64 {
    let before = COUNT.get();
    work();
    COUNT.get() - before
}

/// Stops this process until its parent lets it go on: by SIGCONT, and by a byte to the standard output, which is a socket.
/// A signal to the own process may be taken by another thread, and this one would go on for a while: it reads instead.
pub(super) fn stop() {
    kill_process(getpid(), Signal::STOP).unwrap();
    let read = rustix::io::read(std::io::stdout(), &mut [0u8; 1]).unwrap();
    assert_eq!(read, 1, "the parent has gone");
}
