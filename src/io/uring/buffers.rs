//! Receive buffers that the kernel picks from, in memory that both sides can reach.
//!
//! ```text
//!  entries  ┌────┬────┬────┬── ─┬────┐   addresses of free buffers; the kernel takes from its head,
//!           │ 12 │ 63 │ 4  │    │ 7  │   `recycle` adds at the tail (a u16 inside entry 0)
//!           └────┴────┴────┴── ─┴────┘
//!  memory   ┌────────┬────────┬── ─┬────────┐
//!           │ id 0   │ id 1   │    │ id n-1 │   `buffer_len` bytes each
//!           └────────┴────────┴── ─┴────────┘
//! ```
//! Invariant: a buffer's id is in exactly one of three places: among the entries (the kernel may write to it), in
//! a completion that was not looked at yet, or in one [`RecvBuf`] (nobody writes to it).

#![expect(unsafe_code, reason = "memory shared with the kernel")]

use std::cell::{Cell, UnsafeCell};
use std::io;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;

use super::ring::Ring;

/// The kernel's number for the one group of buffers a ring has.
pub(super) const GROUP: u16 = 0;

const PAGE_LEN: usize = 4096;
const ENTRY_LEN: usize = size_of::<BufRingEntry>();

/// Memory that starts on a page, as the kernel demands of the entries.
#[repr(C, align(4096))]
struct Page(UnsafeCell<[u8; PAGE_LEN]>);

/// The buffers of one ring.
pub(super) struct Pool {
    entries: Box<[Page]>,
    memory: Box<[Page]>,
    buffer_len: usize,
    count: u16,
    /// How often a buffer was given to the kernel, as the kernel counts: modulo 2^16.
    tail: Cell<u16>,
    /// How many buffers no [`RecvBuf`] holds.
    free: Cell<u16>,
}

/// Received bytes, still in the buffer that the kernel wrote them to. Dropping it gives the buffer back.
pub(in crate::io) struct RecvBuf {
    pool: Rc<Pool>,
    id: u16,
    len: usize,
}

impl Pool {
    /// Makes `count` buffers (a power of two, at most 2^15) of `buffer_len` bytes and gives them all to `ring`.
    ///
    /// # Errors
    /// What the kernel said to the registration.
    pub(super) fn register(ring: &Ring, count: u16, buffer_len: usize) -> io::Result<Rc<Self>> {
        let pool = Rc::new(Self {
            entries: pages(usize::from(count) * ENTRY_LEN),
            memory: pages(usize::from(count) * buffer_len),
            buffer_len,
            count,
            tail: Cell::new(0),
            free: Cell::new(0),
        });
        let address = pool.entries.as_ptr().expose_provenance() as u64;
        // SAFETY: `address` is the start of pages that hold `count` entries. The pool outlives the ring: the
        // back end takes it at once, in a field that is dropped after the ring, or leaks it.
        unsafe { ring.register_buffers(address, count, GROUP) }?;
        (0..count).for_each(|id| pool.recycle(id));
        Ok(pool)
    }

    /// Takes the buffer that a completion names, with the first `len` bytes of it written.
    ///
    /// # Safety
    /// A completion that was popped just now says so, and it is taken once.
    pub(super) unsafe fn take(self: &Rc<Self>, id: u16, len: usize) -> RecvBuf {
        debug_assert!(id < self.count && len <= self.buffer_len);
        self.free.set(self.free.get() - 1);
        RecvBuf { pool: Rc::clone(self), id, len }
    }

    /// How many buffers no [`RecvBuf`] holds.
    pub(super) fn free(&self) -> u16 {
        self.free.get()
    }

    /// Gives buffer `id` to the kernel. The caller has it, and has it no longer after this.
    fn recycle(&self, id: u16) {
        let tail = self.tail.get();
        let position = usize::from(tail & (self.count - 1));
        let entry: *mut BufRingEntry = self.entries_start().wrapping_add(position);
        let buffer = self.buffer(id).expose_provenance() as u64;
        // SAFETY: `position < count`, and the pages have room for `count` entries. The kernel reads an entry only
        // between its head and the tail, and this one is behind the tail: at most `count` ids exist. Only this
        // thread writes (`Cell` makes the pool `!Sync`).
        let entry = unsafe { &mut *entry };
        entry.set_addr(buffer);
        entry.set_len(u32::try_from(self.buffer_len).unwrap_or(u32::MAX));
        entry.set_bid(id);
        self.tail.set(tail.wrapping_add(1));
        self.free.set(self.free.get() + 1);
        // Release: the kernel sees the entry before the tail that includes it.
        self.shared_tail().store(self.tail.get(), Ordering::Release);
    }

    /// The tail as the kernel reads it.
    fn shared_tail(&self) -> &AtomicU16 {
        // SAFETY: the argument is the address of entry 0, and entries are initialised: zeroes are valid.
        let tail = unsafe { BufRingEntry::tail(self.entries_start()) };
        // SAFETY: `tail` points into entry 0, aligned, and lives as long as `self`. Both sides access it with
        // atomic operations only: `recycle` sets the other fields of an entry, never this one.
        unsafe { AtomicU16::from_ptr(tail.cast_mut()) }
    }

    fn entries_start(&self) -> *mut BufRingEntry {
        // From the whole slice, so that the pointer may reach all of its pages.
        self.entries.as_ptr().cast::<BufRingEntry>().cast_mut()
    }

    /// Where buffer `id` begins.
    fn buffer(&self, id: u16) -> *const u8 {
        self.memory.as_ptr().cast::<u8>().wrapping_add(usize::from(id) * self.buffer_len)
    }
}

impl Deref for RecvBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let start = self.pool.buffer(self.id);
        // SAFETY: `id < count` and `len <= buffer_len`, so this is inside `memory`, which `pool` keeps alive. The
        // kernel does not write to it: `id` left the entries when the completion was made, and `recycle`, which
        // would put it back, is called by `drop` only.
        unsafe { std::slice::from_raw_parts(start, self.len) }
    }
}

impl Drop for RecvBuf {
    fn drop(&mut self) {
        self.pool.recycle(self.id);
    }
}

impl std::fmt::Debug for RecvBuf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RecvBuf").field("id", &self.id).field("len", &self.len).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool")
            .field("count", &self.count)
            .field("free", &self.free.get())
            .finish_non_exhaustive()
    }
}

/// Zeroed pages for `len` bytes.
fn pages(len: usize) -> Box<[Page]> {
    (0..len.div_ceil(PAGE_LEN)).map(|_| Page(UnsafeCell::new([0; PAGE_LEN]))).collect()
}

const _: () = {
    assert!(ENTRY_LEN == 16 && PAGE_LEN.is_multiple_of(ENTRY_LEN), "entries fill pages without a rest");
    assert!(align_of::<Page>() == PAGE_LEN && size_of::<Page>() == PAGE_LEN);
};
