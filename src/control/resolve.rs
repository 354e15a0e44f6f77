//! Host names to addresses, off the shards: a dead name server holds a look-up for seconds.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::lookup_host;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::plane::{Lookup, SharedPlane};
use crate::limits::LOOKUPS_MAX;

/// How long one look-up may take.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);

/// Looks names up, a bounded number at once.
#[derive(Clone)]
pub(crate) struct Resolver {
    plane: SharedPlane,
    slots: Arc<Semaphore>,
}

impl Resolver {
    /// A resolver that answers to the streams of `plane`.
    pub(crate) fn new(plane: SharedPlane) -> Self {
        Self { plane, slots: Arc::new(Semaphore::new(LOOKUPS_MAX)) }
    }

    /// Looks `lookup` up and tells the stream. Waiting look-ups are bounded by the number of streams: each asks
    /// for one name at a time.
    pub(crate) fn spawn(&self, lookup: Lookup) {
        let Self { plane, slots } = self.clone();
        drop(tokio::spawn(async move {
            // The semaphore is never closed; without a permit there would only be more threads.
            let _slot = slots.acquire().await;
            let answer = addresses(&lookup.host, lookup.port).await;
            plane.lock().resolved(&lookup, answer);
        }));
    }
}

async fn addresses(host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
    match timeout(LOOKUP_TIMEOUT, lookup_host((host, port))).await {
        Ok(Ok(found)) => Ok(found.collect()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {} s", LOOKUP_TIMEOUT.as_secs())),
    }
}
