//! Wakes a sleeping thread from another one: an eventfd, and a flag that spares most of the system calls.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;

/// Wakes the thread that owns the [`WakeSource`].
///
/// Publish first, then wake: what was stored before [`wake`](Self::wake) is seen by whoever looks after
/// [`WakeSource::clear`].
#[derive(Clone, Debug)]
pub struct Waker(Arc<Shared>);

/// The sleeper's end of its [`Waker`]s: readable when somebody has called.
#[derive(Debug)]
pub struct WakeSource(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    eventfd: OwnedFd,
    /// The sleeper has been told and has not looked yet.
    told: AtomicBool,
}

/// A waker and the source that it wakes.
///
/// # Errors
/// The process or the machine is out of file descriptors.
pub(crate) fn pair() -> Result<(Waker, WakeSource), Errno> {
    let eventfd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
    let shared = Arc::new(Shared { eventfd, told: AtomicBool::new(false) });
    Ok((Waker(Arc::clone(&shared)), WakeSource(shared)))
}

impl Waker {
    /// Wakes the sleeper. Costs a system call only when it has not been told yet.
    pub fn wake(&self) {
        if self.0.told.swap(true, Ordering::AcqRel) {
            return;
        }
        // The counter cannot be full: it is read before `told` is cleared, so it holds few of its 2^64.
        let _ = rustix::io::write(&self.0.eventfd, &1_u64.to_ne_bytes());
    }
}

impl WakeSource {
    /// Takes note of the call, so that the next one wakes again. Look at what was published after this.
    pub fn clear(&self) {
        // Read before the flag is cleared: the other way round, a call in between would be swallowed here and
        // leave the flag set, and nobody would ever be told again.
        let mut count = [0_u8; 8];
        let _ = rustix::io::read(&self.0.eventfd, &mut count);
        // A swap, not a store: it must read a caller's `true`, and so see what was published before it.
        self.0.told.swap(false, Ordering::AcqRel);
    }
}

impl AsFd for WakeSource {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.eventfd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    fn readable(source: &WakeSource) -> bool {
        let mut fds = [PollFd::new(source, PollFlags::IN)];
        poll(&mut fds, Some(&Timespec::default())).unwrap() == 1
    }

    #[test]
    fn each_wake_after_a_clear_is_seen() {
        let (waker, source) = pair().unwrap();
        assert!(!readable(&source));
        for _ in 0..3 {
            waker.wake();
            waker.clone().wake();
            assert!(readable(&source));
            source.clear();
            assert!(!readable(&source));
        }
    }

    #[test]
    fn a_wake_is_never_lost_between_threads() {
        let (waker, source) = pair().unwrap();
        let published = Arc::new(std::sync::atomic::AtomicU64::new(0));
        const ROUNDS: u64 = 20_000;
        let writer = std::thread::spawn({
            let published = Arc::clone(&published);
            move || {
                for n in 1..=ROUNDS {
                    published.store(n, Ordering::Relaxed);
                    waker.wake();
                }
            }
        });
        while published.load(Ordering::Relaxed) < ROUNDS {
            let bound = Timespec { tv_sec: 10, tv_nsec: 0 };
            let mut fds = [PollFd::new(&source, PollFlags::IN)];
            assert_eq!(poll(&mut fds, Some(&bound)).unwrap(), 1, "the last wake was lost");
            source.clear();
        }
        writer.join().unwrap();
    }
}
