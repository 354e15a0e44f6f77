//! The thread that writes: an fsync takes from a tenth of a millisecond to seconds, and nobody else has that time.

use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use tokio::sync::oneshot;
use tracing::error;

use super::{SavedStream, StateDir, format};
use crate::control::error::ApiError;
use crate::ids::StreamId;
use crate::limits::STATE_CHANGES_AT_ONCE;

/// Takes changes of the state directory, and makes them in the order in which they were taken.
#[derive(Clone)]
pub(crate) struct Store(Sender<Order>);

/// A change that was taken.
#[must_use = "who asked for it is answered when it is done"]
pub(crate) struct Saving(Option<oneshot::Receiver<Result<(), String>>>);

struct Order {
    change: Change,
    done: oneshot::Sender<Result<(), String>>,
}

enum Change {
    Write { id: StreamId, bytes: Vec<u8> },
    Remove { id: StreamId },
}

impl Store {
    /// Starts the thread. It ends when the last of these is dropped.
    ///
    /// # Errors
    /// There is no thread.
    pub(crate) fn spawn(directory: StateDir) -> io::Result<Self> {
        // Unbounded in form only: each order has a caller that waits, or a stream that is being set up.
        let (sender, orders) = channel();
        thread::Builder::new().name("state".to_owned()).spawn(move || work(&directory, &orders))?;
        Ok(Self(sender))
    }

    /// Keeps a stream as it is now.
    pub(crate) fn save(&self, stream: &SavedStream) -> Saving {
        self.order(Change::Write { id: stream.id.clone(), bytes: format::encode(stream) })
    }

    /// Forgets a stream, if there is one of that name.
    pub(crate) fn forget(&self, id: &StreamId) -> Saving {
        self.order(Change::Remove { id: id.clone() })
    }

    fn order(&self, change: Change) -> Saving {
        let (done, answer) = oneshot::channel();
        // When the thread has ended, so does the answer.
        let _ = self.0.send(Order { change, done });
        Saving(Some(answer))
    }
}

impl Saving {
    /// Nothing: no state is kept.
    pub(crate) const fn none() -> Self {
        Self(None)
    }

    /// Returns when the change outlives the daemon and a power cut.
    ///
    /// # Errors
    /// `NotSaved`.
    pub(crate) async fn done(self) -> Result<(), ApiError> {
        let Some(answer) = self.0 else { return Ok(()) };
        let outcome = answer.await.unwrap_or_else(|_| Err("the thread that writes has ended".to_owned()));
        outcome.map_err(|why| ApiError::NotSaved { why })
    }
}

fn work(directory: &StateDir, orders: &Receiver<Order>) {
    while let Ok(first) = orders.recv() {
        // One fsync of the directory does for all that are waiting.
        let batch = std::iter::once(first).chain(orders.try_iter().take(STATE_CHANGES_AT_ONCE - 1));
        let (mut waiting, mut is_changed) = (Vec::new(), false);
        for Order { change, done } in batch {
            let outcome = match &change {
                Change::Write { id, bytes } => directory.write(id, bytes).map(|()| true),
                Change::Remove { id } => directory.remove(id),
            };
            is_changed |= matches!(outcome, Ok(true));
            waiting.push((done, outcome));
        }
        let synced = if is_changed { directory.sync() } else { Ok(()) };
        for (done, outcome) in waiting {
            let outcome = match (outcome, &synced) {
                (Ok(false), _) | (Ok(true), Ok(())) => Ok(()),
                (Err(error), _) => Err(error.to_string()),
                (Ok(true), Err(error)) => Err(error.to_string()),
            };
            if let Err(error) = &outcome {
                error!(directory = %directory.streams.display(), error, "a change of a stream is not saved");
            }
            // Whoever asked may have gone away.
            let _ = done.send(outcome);
        }
    }
}
