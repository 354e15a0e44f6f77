//! Receive buffers of the epoll back end: a stack, so that the one used last, which is still in the cache, is used
//! next.

use std::cell::RefCell;
use std::fmt;
use std::ops::Deref;
use std::rc::Rc;

/// The buffers that nobody holds.
#[derive(Debug)]
pub(super) struct Pool {
    free: RefCell<Vec<Box<[u8]>>>,
}

/// A buffer taken from its pool, with what was received into it. Dropping it gives the buffer back.
pub(in crate::io) struct RecvBuf {
    pool: Rc<Pool>,
    memory: Box<[u8]>,
    len: usize,
}

impl Pool {
    /// `count` buffers of `buffer_len` bytes.
    pub(super) fn new(count: u16, buffer_len: usize) -> Rc<Self> {
        let free = (0..count).map(|_| vec![0; buffer_len].into_boxed_slice()).collect();
        Rc::new(Self { free: RefCell::new(free) })
    }

    /// The buffer that was used last, empty; `None` when all are held.
    pub(super) fn take(self: &Rc<Self>) -> Option<RecvBuf> {
        let memory = self.free.borrow_mut().pop()?;
        Some(RecvBuf { pool: Rc::clone(self), memory, len: 0 })
    }

    /// How many buffers nobody holds.
    pub(super) fn free(&self) -> usize {
        self.free.borrow().len()
    }
}

impl RecvBuf {
    /// All of the buffer, to receive into.
    pub(super) fn space(&mut self) -> &mut [u8] {
        &mut self.memory
    }

    /// The first `len` bytes were received.
    pub(super) fn set_len(&mut self, len: usize) {
        self.len = len.min(self.memory.len());
    }

    /// Whether there was more room than bytes: the socket had no more.
    pub(super) const fn is_short(&self) -> bool {
        self.len < self.memory.len()
    }
}

impl Deref for RecvBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.memory.get(..self.len).unwrap_or_default()
    }
}

impl Drop for RecvBuf {
    fn drop(&mut self) {
        // Never grows: the stack was made with as many.
        self.pool.free.borrow_mut().push(std::mem::take(&mut self.memory));
    }
}

impl fmt::Debug for RecvBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecvBuf").field("len", &self.len).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_buffer_given_back_last_is_taken_next() {
        let pool = Pool::new(3, 16);
        let (first, second) = (pool.take().unwrap(), pool.take().unwrap());
        let (at_first, at_second) = (first.memory.as_ptr(), second.memory.as_ptr());
        assert_eq!(pool.free(), 1);
        drop(first);
        drop(second);
        let mut again = pool.take().unwrap();
        assert_eq!(again.memory.as_ptr(), at_second);
        assert_eq!(pool.take().unwrap().memory.as_ptr(), at_first);
        again.space().fill(7);
        again.set_len(5);
        assert!(*again == [7; 5] && again.is_short());
        again.set_len(17);
        assert!(again.len() == 16 && !again.is_short());
    }

    #[test]
    fn an_empty_pool_gives_none_and_outlives_its_owner() {
        let pool = Pool::new(1, 16);
        let held = pool.take().unwrap();
        assert!(pool.take().is_none());
        drop(pool);
        assert!(held.is_empty());
    }
}
