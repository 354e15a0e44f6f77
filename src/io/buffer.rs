//! Received bytes, whichever back end they came through.

use std::ops::Deref;

use super::{epoll, uring};

/// Received bytes, still in the back end's buffer. Dropping it gives the buffer back.
#[derive(Debug)]
pub struct RecvBuf(Owner);

#[derive(Debug)]
enum Owner {
    Uring(uring::RecvBuf),
    Epoll(epoll::RecvBuf),
}

impl Deref for RecvBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Owner::Uring(buffer) => buffer,
            Owner::Epoll(buffer) => buffer,
        }
    }
}

impl From<uring::RecvBuf> for RecvBuf {
    fn from(buffer: uring::RecvBuf) -> Self {
        Self(Owner::Uring(buffer))
    }
}

impl From<epoll::RecvBuf> for RecvBuf {
    fn from(buffer: epoll::RecvBuf) -> Self {
        Self(Owner::Epoll(buffer))
    }
}
