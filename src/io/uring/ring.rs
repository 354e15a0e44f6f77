//! The submission and completion queues, with the rule that their memory is safe by: what an operation points to
//! stays until its last completion was popped.

#![expect(unsafe_code, reason = "operations carry addresses that the kernel reads and writes later")]

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::time::Duration;

use io_uring::types::{CancelBuilder, SubmitArgs, Timespec};
use io_uring::{IoUring, Probe, cqueue, opcode, squeue};
use rustix::io::Errno;

use crate::io::Features;

/// The shortest hold there is.
const HOLD_MIN: Duration = Duration::from_micros(1);
/// How long the destructor waits for the kernel to let go of each remaining operation.
const QUIESCE_STEP: Duration = Duration::from_millis(100);
/// How often it does.
const QUIESCE_STEPS: u32 = 50;

/// User data of operations that tell only of their failure, which is of no interest.
const SILENT: u64 = u64::MAX;
/// `FUTEX2_SIZE_U32`: the futex is a word of 32 bits, and not private to this process.
const FUTEX_U32_SHARED: u32 = 2;

/// One io_uring, used by the thread that made it.
pub(super) struct Ring {
    uring: IoUring,
    /// Operations that found the submission queue full.
    backlog: VecDeque<squeue::Entry>,
    /// Operations whose last completion has not been popped.
    in_flight: usize,
    /// System calls made to submit, wait or run deferred work.
    enters: u64,
    /// The kernel has `IORING_OP_FUTEX_WAKE` (6.7).
    can_wake: bool,
    has_no_sqarray: bool,
    /// The kernel can hold a sleep by itself (6.12).
    has_min_wait: bool,
}

impl Ring {
    /// Makes a ring with room for `submissions` operations between two submits and `completions` completions
    /// between two passes.
    ///
    /// # Errors
    /// What `io_uring_setup(2)` says; see [`probe`](crate::io::probe) for what to do about it.
    pub(super) fn new(submissions: u32, completions: u32) -> io::Result<Self> {
        let mut builder = IoUring::builder();
        builder
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_submit_all()
            .setup_clamp()
            .setup_cqsize(completions.max(submissions * 2))
            .dontfork();
        // NO_SQARRAY came with 6.6, after the rest; without it there is one more indirection and no other change.
        let (uring, has_no_sqarray) = match builder.clone().setup_no_sqarray().build(submissions) {
            Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => {
                (builder.build(submissions)?, false)
            }
            result => (result?, true),
        };
        let mut probe = Probe::new();
        let is_probed = uring.submitter().register_probe(&mut probe).is_ok();
        let can_wake = is_probed && probe.is_supported(opcode::FutexWake::CODE);
        let has_min_wait = uring.params().is_feature_min_timeout();
        let backlog = VecDeque::new();
        Ok(Self { uring, backlog, in_flight: 0, enters: 0, can_wake, has_no_sqarray, has_min_wait })
    }

    /// What the kernel has beside what we need.
    pub(super) fn features(&self) -> Features {
        Features {
            no_sqarray: self.has_no_sqarray,
            futex_wake: self.can_wake,
            min_timeout: self.has_min_wait,
        }
    }

    /// Registers the entries of a provided-buffer ring.
    ///
    /// # Safety
    /// `count` entries at `address` are valid until the ring is dropped.
    pub(super) unsafe fn register_buffers(&self, address: u64, count: u16, group: u16) -> io::Result<()> {
        // SAFETY: the caller's promise is what the callee demands.
        unsafe { self.uring.submitter().register_buf_ring_with_flags(address, count, group, 0) }
    }

    /// Queues an operation for the next submit.
    ///
    /// # Safety
    /// What `entry` points to, and its file descriptor, stay valid and, where the kernel writes, unread and
    /// unwritten by us, until the operation's last completion was popped. `entry` always posts a completion.
    pub(super) unsafe fn push(&mut self, entry: squeue::Entry) {
        self.in_flight += 1;
        if self.backlog.is_empty() {
            // SAFETY: the caller's promise is what the callee demands.
            if unsafe { self.uring.submission().push(&entry) }.is_ok() {
                return;
            }
        }
        self.backlog.push_back(entry);
    }

    /// Queues the wake-up of one waiter on the futex `word`, which is done when the next submit returns. False when the
    /// kernel cannot do that, or there is no room before it.
    ///
    /// `word` may be any address: the kernel takes it for the name of a queue of waiters and does not access it.
    pub(super) fn push_wake(&mut self, word: *const u32) -> bool {
        if !self.can_wake || !self.backlog.is_empty() {
            return false;
        }
        let entry = opcode::FutexWake::new(word, 1, u64::from(u32::MAX), FUTEX_U32_SHARED)
            .build()
            .flags(squeue::Flags::SKIP_SUCCESS)
            .user_data(SILENT);
        // SAFETY: it points to nothing that is accessed; a name without waiters, or outside of all memory, wakes nobody.
        unsafe { self.uring.submission().push(&entry) }.is_ok()
    }

    /// Moves the backlog into the submission queue, submitting what is there to make room.
    fn flush_backlog(&mut self) -> io::Result<()> {
        while let Some(entry) = self.backlog.front() {
            // SAFETY: `push` queued it, and its caller's promise holds until the operation's last completion.
            if unsafe { self.uring.submission().push(entry) }.is_ok() {
                self.backlog.pop_front();
                continue;
            }
            self.poll()?;
            if self.uring.submission().is_full() {
                // Completions have to be taken first; the rest goes with the next enter.
                break;
            }
        }
        Ok(())
    }

    /// Submits what is queued and sleeps until a completion is there or `timeout` has passed (`None`: no bound,
    /// zero: no sleep).
    ///
    /// For `hold` from now on, but not longer than `timeout`, only `batch` completions end the sleep; after it, one does. Less
    /// than a microsecond is none.
    ///
    /// # Errors
    /// The kernel cannot wait; not for a time-out, a signal, or completions that have to be taken first.
    pub(super) fn enter(
        &mut self,
        timeout: Option<Duration>,
        hold: Duration,
        batch: usize,
    ) -> io::Result<()> {
        self.flush_backlog()?;
        if timeout.is_some_and(|timeout| timeout.is_zero()) {
            return self.poll();
        }
        // The kernel lets a minimum wait outlast the time-out.
        let hold = timeout.map_or(hold, |timeout| timeout.min(hold));
        // It counts whole microseconds, and none of them means no end of the hold: it would wait for the whole batch.
        if hold < HOLD_MIN {
            return self.sleep(timeout, Duration::ZERO, 1);
        }
        if self.has_min_wait {
            return self.sleep(timeout, hold, batch);
        }
        // Before 6.12: wait for a full batch as long as we may hold, then for anything.
        self.sleep(Some(hold), Duration::ZERO, batch)?;
        let rest = timeout.map(|timeout| timeout - hold);
        if rest == Some(Duration::ZERO) || !self.uring.completion().is_empty() {
            return Ok(());
        }
        self.sleep(rest, Duration::ZERO, 1)
    }

    /// Submits what is queued and runs deferred work, without sleeping.
    ///
    /// # Errors
    /// As [`enter`](Self::enter).
    pub(super) fn poll(&mut self) -> io::Result<()> {
        self.enters += 1;
        tolerate(self.uring.submit())
    }

    fn sleep(&mut self, timeout: Option<Duration>, hold: Duration, want: usize) -> io::Result<()> {
        self.enters += 1;
        let mut args = SubmitArgs::new();
        if !hold.is_zero() {
            args = args.min_wait_usec(u32::try_from(hold.as_micros()).unwrap_or(u32::MAX));
        }
        let Some(timeout) = timeout else {
            return tolerate(self.uring.submitter().submit_with_args(want, &args));
        };
        let timespec = Timespec::from(timeout);
        tolerate(self.uring.submitter().submit_with_args(want, &args.timespec(&timespec)))
    }

    /// The next completion that the kernel has posted.
    pub(super) fn pop(&mut self) -> Option<cqueue::Entry> {
        let completion = self.uring.completion().find(|completion| completion.user_data() != SILENT)?;
        if !cqueue::more(completion.flags()) {
            self.in_flight -= 1;
        }
        Some(completion)
    }

    /// Whether the kernel has work that will make completions once it is entered: one enter runs about 20 items.
    pub(super) fn has_deferred_work(&mut self) -> bool {
        self.uring.submission().taskrun()
    }

    /// Completions that can be popped.
    #[cfg(test)]
    pub(super) fn pending(&mut self) -> usize {
        self.uring.completion().len()
    }

    /// As if the kernel were older than 6.12.
    #[cfg(test)]
    pub(super) const fn forget_min_wait(&mut self) {
        self.has_min_wait = false;
    }

    /// System calls so far.
    pub(super) const fn enters(&self) -> u64 {
        self.enters
    }

    /// Cancels everything and waits, up to 5 s, until the kernel has let go of all memory.
    ///
    /// Returns whether it has. If not, what operations point to must be leaked.
    #[must_use]
    pub(super) fn quiesce(&mut self) -> bool {
        let cancel = opcode::AsyncCancel2::new(CancelBuilder::any()).build();
        // SAFETY: a cancellation points to nothing.
        unsafe { self.push(cancel) };
        for _ in 0..QUIESCE_STEPS {
            while self.pop().is_some() {}
            if self.in_flight == 0 {
                return true;
            }
            if self.enter(Some(QUIESCE_STEP), Duration::ZERO, 1).is_err() {
                return false;
            }
        }
        false
    }
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring")
            .field("in_flight", &self.in_flight)
            .field("backlog", &self.backlog.len())
            .field("enters", &self.enters)
            .finish_non_exhaustive()
    }
}

/// Takes for success what only says that nothing came, or that completions have to be taken before more are made.
fn tolerate(result: io::Result<usize>) -> io::Result<()> {
    match result.map_err(|error| (Errno::from_io_error(&error), error)) {
        Ok(_) | Err((Some(Errno::TIME | Errno::INTR | Errno::BUSY | Errno::AGAIN), _)) => Ok(()),
        Err((_, error)) => Err(error),
    }
}
