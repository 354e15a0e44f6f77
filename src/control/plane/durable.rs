//! What outlives the daemon: a change is answered when it is saved, and what was saved is set up again at the start.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tracing::{error, info, warn};
use vms_proto::v1;

use super::super::configured::{Configured, Origin};
use super::super::error::ApiError;
use super::super::setups::Claim;
use super::super::state::{SavedStream, Saving, Store};
use super::{New, Plane, SharedPlane};
use crate::clock;
use crate::ids::StreamId;
use crate::limits::SEGMENTS_MADE_MAX;

/// When a stream that met a busy shard is set up again.
const RETRY: Duration = Duration::from_millis(50);

impl SharedPlane {
    /// Saves a stream, and then registers it. In a task of its own, because what was saved must be registered or forgotten
    /// also when the caller goes away meanwhile.
    ///
    /// # Errors
    /// `NotSaved`; those of the registration.
    pub(super) async fn save_and_register(
        &self,
        new: New,
        claim: Claim,
        store: Store,
    ) -> Result<v1::Stream, ApiError> {
        let (plane, id) = (self.clone(), new.stream.id.clone());
        let (caller, answer) = oneshot::channel();
        tokio::spawn(async move {
            let mut outcome = store.save(&new.stream).done().await.map(|()| None);
            // What could not be saved is not forgotten: an older file of that name is still whole.
            if outcome.is_ok() {
                outcome = if caller.is_closed() {
                    Err(ApiError::Overloaded)
                } else {
                    plane.lock().register(new).map(Some)
                };
                if outcome.is_err() {
                    // The store says what fails. Still claimed, so that no other stream's file is meant.
                    let _ = store.forget(&id).done().await;
                }
            }
            drop(claim);
            let _ = caller.send(outcome);
        });
        match answer.await {
            Ok(Ok(Some(stream))) => Ok(stream),
            Ok(Err(error)) => Err(error),
            // A panic in the task; it is told by its own message.
            Ok(Ok(None)) | Err(_) => Err(ApiError::Overloaded),
        }
    }

    /// Takes a stream away, and forgets it; false when it was not there.
    ///
    /// # Errors
    /// `FromFile`: it stays. `NotSaved`: it is gone, but would come back with the next start.
    pub(crate) async fn teardown(&self, id: &StreamId) -> Result<bool, ApiError> {
        let (existed, saving) = self.lock().take_away(id)?;
        saving.done().await?;
        Ok(existed)
    }

    /// Sets up the streams that the configuration file names, and then those that were saved before. One that cannot be is told, and
    /// holds up no other; a saved one stays saved. One that is both is the file's, and the saved one forgotten: were it kept, it would
    /// come back when somebody takes it out of the file.
    pub(crate) async fn restore(&self, configured: Configured, saved: Vec<SavedStream>) {
        let (created, store) = (clock::now().wall, self.lock().store.clone());
        let (replaced, saved): (Vec<_>, Vec<_>) =
            saved.into_iter().partition(|stream| self.lock().owned.has(&stream.id));
        for SavedStream { id, .. } in replaced {
            warn!(stream = %id, "was set up by a caller, and is the configuration file's from now on: what was saved is forgotten");
            // The store says what fails.
            let _ = store.as_ref().map_or_else(Saving::none, |store| store.forget(&id)).done().await;
        }
        let configured: Vec<_> =
            configured.into_specs().map(|(id, spec)| SavedStream { id, spec, created }).collect();
        let counts = (configured.len(), saved.len());
        self.set_up_all(configured, Origin::File).await;
        self.set_up_all(saved, Origin::Api).await;
        let carried = self.lock().registry.len();
        match counts {
            (0, 0) => {}
            (configured, 0) => info!(configured, carried, "the configuration file's streams are set up"),
            (configured, saved) => info!(configured, saved, carried, "streams are set up again"),
        }
    }

    async fn set_up_all(&self, streams: Vec<SavedStream>, origin: Origin) {
        let mut under_way = JoinSet::new();
        for stream in streams {
            if under_way.len() == SEGMENTS_MADE_MAX {
                under_way.join_next().await;
            }
            let plane = self.clone();
            under_way.spawn(async move { plane.restore_one(stream, origin).await });
        }
        while under_way.join_next().await.is_some() {}
    }

    async fn restore_one(&self, stream: SavedStream, origin: Origin) {
        loop {
            match self.set_up(stream.clone(), origin, None).await {
                Ok(_) | Err(ApiError::Draining) => return,
                Err(ApiError::Overloaded) => sleep(RETRY).await,
                Err(error) => {
                    let id = stream.id;
                    return match origin {
                        Origin::Api => {
                            error!(stream = %id, %error, "is saved, but cannot be carried: set it up again, or tear it down")
                        }
                        Origin::File => {
                            error!(stream = %id, %error, "is in the configuration file, but cannot be carried until the daemon is started again")
                        }
                    };
                }
            }
        }
    }
}

impl Plane {
    /// Saves a stream as it is now.
    pub(super) fn save(&self, id: &StreamId) -> Saving {
        let saved = self.store.as_ref().zip(self.registry.saved(id));
        saved.map_or_else(Saving::none, |(store, stream)| store.save(&stream))
    }

    /// Takes a stream away. Forgotten also when it was not there: the time before it may not have been. Not while a stream of
    /// that name is being set up: that has its file already.
    fn take_away(&mut self, id: &StreamId) -> Result<(bool, Saving), ApiError> {
        self.owned.refuse(id)?;
        let existed = self.teardown(id);
        let store = self.store.as_ref().filter(|_| existed || !self.setups.is_claimed(id));
        Ok((existed, store.map_or_else(Saving::none, |store| store.forget(id))))
    }
}
