//! Set-ups under way and memory on its way out: what takes room beside the streams that the shards hold.
//!
//! A set-up claims its id, and with it room for one stream, before its memory is made, and gives both back when it ends,
//! however it ends. So set-ups of different ids run at the same time and together never take more than was checked; of two
//! with one id the second waits and finds what the first made.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::futures::Notified;
use tokio::sync::{Notify, Semaphore};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::error::ApiError;
use crate::ids::StreamId;
use crate::limits::SEGMENTS_MADE_MAX;

/// All set-ups under way.
#[derive(Clone)]
pub(crate) struct Setups(Arc<Shared>);

struct Shared {
    rooms: Mutex<Rooms>,
    /// Told when a claim ends, and when memory is free.
    ended: Notify,
    /// One for each segment that may be made at once.
    makers: Arc<Semaphore>,
}

#[derive(Default)]
struct Rooms {
    claimed: BTreeSet<StreamId>,
    /// Streams that no shard holds any more, whose memory is not freed yet.
    leaving: usize,
}

/// An id, and room for one stream, while it is set up.
pub(crate) struct Claim {
    id: StreamId,
    shared: Arc<Shared>,
}

/// What is left of a stream. To be dropped on a thread that has the time: freeing an arena takes milliseconds.
pub(crate) struct Gone {
    /// First, so that the room is given back when the memory is free.
    _memory: Box<dyn Send>,
    _leaving: Leaving,
}

struct Leaving(Arc<Shared>);

impl Setups {
    /// None.
    pub(crate) fn new() -> Self {
        let makers = Arc::new(Semaphore::new(SEGMENTS_MADE_MAX));
        Self(Arc::new(Shared { rooms: Mutex::default(), ended: Notify::new(), makers }))
    }

    /// Streams that take room though no shard holds them.
    pub(crate) fn rooms(&self) -> usize {
        let rooms = self.0.rooms();
        rooms.claimed.len() + rooms.leaving
    }

    /// Whether `id` is being set up.
    pub(crate) fn is_claimed(&self, id: &StreamId) -> bool {
        self.0.rooms().claimed.contains(id)
    }

    /// The right to set `id` up; `None` while another has it.
    pub(crate) fn claim(&self, id: &StreamId) -> Option<Claim> {
        let is_free = self.0.rooms().claimed.insert(id.clone());
        is_free.then(|| Claim { id: id.clone(), shared: Arc::clone(&self.0) })
    }

    /// Makes memory for a stream that is set up already. It is no claim: whoever calls has looked for room.
    ///
    /// # Errors
    /// Those of `work`; `MemoryLimit` with what its thread died of.
    pub(crate) async fn make<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let made = make(Arc::clone(&self.0.makers), work).await;
        made.map_err(|why| ApiError::MemoryLimit { why }).flatten()
    }

    /// Resolves when a claim has ended, or a stream's memory was freed, since this call.
    pub(crate) fn ended(&self) -> Notified<'_> {
        self.0.ended.notified()
    }

    /// Keeps the room of a stream that no shard holds any more until its memory is free.
    pub(crate) fn leave(&self, memory: impl Send + 'static) -> Gone {
        Gone { _memory: Box::new(memory), _leaving: self.leaving() }
    }

    fn leaving(&self) -> Leaving {
        self.0.rooms().leaving += 1;
        Leaving(Arc::clone(&self.0))
    }
}

impl Claim {
    /// Does `work` on a thread, when no more than a few others are at it. It cannot be called off: when the caller goes away,
    /// the claim ends when `work` has, and what it made is dropped before.
    ///
    /// # Errors
    /// What the thread died of.
    pub(crate) async fn make<T: Send + 'static>(
        self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<(T, Self), String> {
        make(Arc::clone(&self.shared.makers), move || (work(), self)).await
    }
}

/// Does `work` on a thread, when no more than a few others are at it.
///
/// # Errors
/// What the thread died of.
async fn make<T: Send + 'static>(
    makers: Arc<Semaphore>,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, String> {
    // The semaphore is never closed.
    let permit = makers.acquire_owned().await.map_err(|error| error.to_string())?;
    let made = spawn_blocking(move || {
        let made = work();
        drop(permit);
        made
    });
    made.await.map_err(|error| error.to_string())
}

impl Shared {
    /// Each change is one step, so a panic elsewhere left it whole.
    fn rooms(&self) -> MutexGuard<'_, Rooms> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.shared.rooms().claimed.remove(&self.id);
        self.shared.ended.notify_waiters();
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        self.0.rooms().leaving -= 1;
        self.0.ended.notify_waiters();
    }
}

/// What comes of `call` within `limit`.
///
/// # Errors
/// `Overloaded` when nothing does; what `call` has begun is dropped.
pub(crate) async fn in_time<T>(
    limit: Duration,
    call: impl Future<Output = Result<T, ApiError>>,
) -> Result<T, ApiError> {
    timeout(limit, call).await.unwrap_or(Err(ApiError::Overloaded))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;
    use tonic::{Code, Status};
    use tonic_types::StatusExt;

    /// Longer than anything here takes.
    const SOON: Duration = Duration::from_secs(10);
    const NOW: Duration = Duration::from_millis(1);

    fn run(test: impl Future<Output = ()>) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
    }

    fn id(text: &str) -> StreamId {
        StreamId::new(text).unwrap()
    }

    #[test]
    fn an_id_is_claimed_once_and_free_again_at_the_end() {
        let setups = Setups::new();
        let first = setups.claim(&id("a")).unwrap();
        assert!(setups.claim(&id("a")).is_none());
        let other = setups.claim(&id("b")).unwrap();
        let leaving = setups.leaving();
        assert_eq!(setups.rooms(), 3);
        drop((first, other, leaving));
        assert_eq!(setups.rooms(), 0);
        assert!(setups.claim(&id("a")).is_some());
    }

    #[test]
    fn a_set_up_that_is_given_up_keeps_its_room_until_its_memory_is_free() {
        run(async {
            let setups = Setups::new();
            let (release, held) = channel::<()>();
            let claim = setups.claim(&id("a")).unwrap();
            let slow = async {
                let made = claim.make(move || held.recv().is_ok()).await;
                made.map_err(|why| ApiError::MemoryLimit { why })
            };
            let late = Status::from(in_time(NOW, slow).await.map(drop).unwrap_err());
            assert_eq!(late.code(), Code::Unavailable);
            assert_eq!(late.get_details_error_info().unwrap().reason, "OVERLOADED");
            assert!(late.get_details_retry_info().unwrap().retry_delay.is_some());
            assert!(setups.claim(&id("a")).is_none(), "the thread is still at it");

            let ended = setups.ended();
            drop(release);
            timeout(SOON, ended).await.unwrap();
            assert_eq!(setups.rooms(), 0);
        });
    }

    #[test]
    fn a_few_are_made_at_once_and_who_gives_up_waiting_leaves_nothing() {
        run(async {
            let setups = Setups::new();
            let (tell, told) = channel();
            let mut releases = Vec::new();
            let mut busy = tokio::task::JoinSet::new();
            for number in 0..SEGMENTS_MADE_MAX {
                let (release, held) = channel::<()>();
                let tell = tell.clone();
                releases.push(release);
                let claim = setups.claim(&id(&format!("cam{number}"))).unwrap();
                busy.spawn(claim.make(move || (tell.send(()), held.recv().is_ok())));
            }
            tokio::task::yield_now().await;
            (0..SEGMENTS_MADE_MAX).for_each(|_| told.recv_timeout(SOON).unwrap());
            let behind = setups.claim(&id("behind")).unwrap();
            assert!(timeout(NOW, behind.make(|| ())).await.is_err(), "one more than may be made at once");
            assert_eq!(setups.rooms(), SEGMENTS_MADE_MAX);
            drop(releases);
            while busy.join_next().await.is_some() {}
            assert_eq!(setups.rooms(), 0);
        });
    }
}
