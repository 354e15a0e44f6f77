//! Host names to addresses, off the shards: a dead name server holds a look-up for seconds.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::plane::{Lookup, SharedPlane};
use crate::limits::LOOKUPS_MAX;

/// How much sooner than its camera a look-up gives up: a camera asks anew only after the answer.
const HEAD_START: Duration = Duration::from_secs(1);

/// Looks names up, a bounded number at once.
#[derive(Clone)]
pub(crate) struct Resolver {
    plane: SharedPlane,
    slots: Arc<Semaphore>,
    patience: Duration,
}

impl Resolver {
    /// A resolver that answers to the streams of `plane`, each of which waits for `timeout`.
    pub(crate) fn new(plane: SharedPlane, timeout: Duration) -> Self {
        let patience = timeout.saturating_sub(HEAD_START);
        Self { plane, slots: Arc::new(Semaphore::new(LOOKUPS_MAX)), patience }
    }

    /// Looks `lookup` up and tells the stream. Waiting look-ups are bounded by the number of streams: each asks
    /// for one name at a time.
    pub(crate) fn spawn(&self, lookup: Lookup) {
        let Self { plane, slots, patience } = self.clone();
        drop(tokio::spawn(async move {
            let (host, port) = (lookup.host.clone(), lookup.port);
            let ask = move || Ok((host.as_str(), port).to_socket_addrs()?.collect());
            let answer = look_up(slots, patience, ask).await;
            plane.lock().resolved(&lookup, answer);
        }));
    }
}

/// Runs `ask` on a thread when there is a slot. Waits for `patience`, for slot and answer together: a camera asks anew only
/// after that, so no more wait than there are streams. The system's resolver cannot be called off: who waited too long goes,
/// and the slot stays in use until the thread is free, so that there are no more threads than slots.
async fn look_up(
    slots: Arc<Semaphore>,
    patience: Duration,
    ask: impl FnOnce() -> io::Result<Vec<SocketAddr>> + Send + 'static,
) -> Result<Vec<SocketAddr>, String> {
    let answer = async {
        // The semaphore is never closed.
        let slot = slots.acquire_owned().await.map_err(|error| error.to_string())?;
        let asked = spawn_blocking(move || {
            let answer = ask();
            drop(slot);
            answer
        });
        asked.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
    };
    let late = |_| Err(format!("no answer within {} s", patience.as_secs()));
    timeout(patience, answer).await.unwrap_or_else(late)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn a_look_up_that_nobody_waits_for_keeps_its_slot_until_its_thread_is_free() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let slots = Arc::new(Semaphore::new(1));
            let (release, held) = channel::<()>();
            let dead = move || {
                let _ = held.recv();
                Ok(Vec::new())
            };
            let answer = look_up(Arc::clone(&slots), Duration::from_millis(1), dead).await;
            assert!(answer.unwrap_err().contains("no answer"));
            assert_eq!(slots.available_permits(), 0);
            let behind = look_up(Arc::clone(&slots), Duration::from_millis(1), || Ok(Vec::new())).await;
            assert!(behind.unwrap_err().contains("no answer"), "who finds no slot goes too");
            drop(release);
            let here = || Ok(vec![SocketAddr::from(([127, 0, 0, 1], 554))]);
            let answer = look_up(slots, Duration::from_secs(10), here).await;
            assert_eq!(answer.unwrap().len(), 1);
        });
    }
}
