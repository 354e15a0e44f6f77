//! Who may be connected to the control plane: so many at once, and only those that begin to speak.
//!
//! ```text
//!  accept ──▶ Callers::admit ──▶ Caller ──▶ tonic
//!                  │ full           │ no whole preface in time
//!                  ▼                ▼
//!               closed            TimedOut, closed
//! ```
//! An HTTP/2 server waits for its client's first 24 bytes without an end, and its pings begin only after them. So a
//! connection that says nothing would keep its descriptor for ever.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::process::{Resource, getrlimit};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Sleep, sleep};
use tonic::transport::server::Connected;
use tracing::{debug, warn};

use crate::clock;
use crate::limits::{CALLER_DESCRIPTORS_DIVISOR, CALLERS_MAX, PREFACE_TIMEOUT};
use crate::time::Mono;

/// What every HTTP/2 client sends first (RFC 9113, section 3.4).
const PREFACE_LEN: usize = 24;
/// Least time between two lines in the log about callers that were turned away.
const TOLD_INTERVAL: Duration = Duration::from_secs(10);

/// One listener's places for callers. Each has its own: every user of the machine may connect by TCP, and must not keep
/// out those who may use the unix socket.
#[derive(Debug)]
pub(crate) struct Callers {
    places: Arc<Semaphore>,
    places_max: usize,
    /// Turned away since the log was last told.
    turned_away: u64,
    told_at: Option<Mono>,
}

impl Callers {
    /// An equal part for each of `listeners` of what the limits and this process's descriptors allow: cameras and
    /// readers need most of these.
    pub(crate) fn one_of(listeners: usize) -> Self {
        let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let share = usize::try_from(descriptors / CALLER_DESCRIPTORS_DIVISOR).unwrap_or(usize::MAX);
        Self::new((share.min(CALLERS_MAX) / listeners.max(1)).max(1))
    }

    fn new(places_max: usize) -> Self {
        Self { places: Arc::new(Semaphore::new(places_max)), places_max, turned_away: 0, told_at: None }
    }

    /// Gives `stream` a place, which it keeps until it is dropped. Without a free one it is closed.
    pub(crate) fn admit<S>(&mut self, stream: S) -> Option<Caller<S>> {
        if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
            let preface = Preface { missing: PREFACE_LEN, deadline: Box::pin(sleep(PREFACE_TIMEOUT)) };
            return Some(Caller { stream, preface: Some(preface), _place: place });
        }
        self.turned_away += 1;
        let now = clock::now().mono;
        if self.told_at.is_none_or(|told_at| now.since(told_at) >= TOLD_INTERVAL) {
            let (turned_away, places) = (self.turned_away, self.places_max);
            warn!(
                turned_away,
                places, "callers were turned away: all places are taken; close idle connections"
            );
            (self.turned_away, self.told_at) = (0, Some(now));
        }
        None
    }
}

/// A connection that has a place. It fails when the HTTP/2 preface does not come in time.
#[derive(Debug)]
pub(crate) struct Caller<S> {
    stream: S,
    /// Until it has come.
    preface: Option<Preface>,
    _place: OwnedSemaphorePermit,
}

#[derive(Debug)]
struct Preface {
    missing: usize,
    deadline: Pin<Box<Sleep>>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Caller<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { stream, preface, .. } = &mut *self;
        let filled = buffer.filled().len();
        let Some(waiting) = preface else { return Pin::new(stream).poll_read(context, buffer) };
        if let Poll::Ready(outcome) = Pin::new(stream).poll_read(context, buffer) {
            let read = buffer.filled().len().saturating_sub(filled);
            waiting.missing = waiting.missing.saturating_sub(read);
            if waiting.missing == 0 {
                *preface = None;
            }
            return Poll::Ready(outcome);
        }
        ready!(waiting.deadline.as_mut().poll(context));
        debug!("a caller was cut: it did not begin to speak HTTP/2 in time");
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Caller<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Who calls is told as if the stream stood here itself.
impl<S: Connected> Connected for Caller<S> {
    type ConnectInfo = S::ConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.stream.connect_info()
    }
}
