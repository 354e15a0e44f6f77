//! Changing a stream: who may read it, and how patient it is with its camera. All of that changes at once; the way to other memory,
//! when somebody is to be cut off, goes on by itself.

use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tracing::{info, warn};
use vms_proto::v1;

use super::super::attach::Segment;
use super::super::engine;
use super::super::error::ApiError;
use super::super::setups::Gone;
use super::super::spec::SpecUpdate;
use super::super::state::Saving;
use super::{Plane, SharedPlane};
use crate::clock;
use crate::ids::{StreamId, StreamUid};
use crate::limits::{LINGER_MAX, LINGER_MIN};
use crate::publish::Successor;

/// How soon memory that was not to be had is asked for again, unless a stream's memory becomes free before.
const MEMORY_RETRY: Duration = Duration::from_secs(1);

impl SharedPlane {
    /// Changes a stream's spec. When this returns nobody is let in whom its list does not name; whoever reads it and may not any
    /// more is cut off as soon as the stream goes on in other memory; until then the stream says since when that is under way.
    ///
    /// # Errors
    /// `Draining`, `NotFound`, `FromFile`, `EtagMismatch`: nothing changed then. `NotSaved`: it did, but a restart may undo it.
    pub(crate) async fn update(
        &self,
        id: &StreamId,
        update: SpecUpdate,
        etag: &str,
    ) -> Result<v1::Stream, ApiError> {
        let (stream, begun, saving) = self.lock().update(id, update, etag)?;
        begun.into_iter().for_each(|uid| self.spawn_move(uid));
        saving.done().await?;
        Ok(stream)
    }

    /// Moves a stream to other memory, however long it takes to get some, unless that is not wanted any more.
    pub(super) fn spawn_move(&self, uid: StreamUid) {
        let plane = self.clone();
        tokio::spawn(async move { plane.move_stream(uid).await });
    }

    async fn move_stream(&self, uid: StreamUid) {
        // The others wait in the order in which they came. The semaphore is never closed.
        let _turn = self.movers.acquire().await;
        let mut is_told = false;
        loop {
            let freed = self.setups.ended();
            let room = self.lock().room_to_move(uid);
            match room {
                Room::Given(segment) => {
                    match self.setups.make(move || engine::make_successor(&segment)).await {
                        Ok(successor) => {
                            let surplus = self.lock().hand_over(uid, successor);
                            return surplus
                                .into_iter()
                                .for_each(|gone| drop(spawn_blocking(move || drop(gone))));
                        }
                        Err(error) => {
                            self.lock().move_failed(uid, &error, std::mem::replace(&mut is_told, true))
                        }
                    }
                }
                Room::None => {}
                Room::NotWanted => return,
            }
            let _ = timeout(MEMORY_RETRY, freed).await;
        }
    }
}

/// Whether other memory may be made for a stream.
enum Room {
    /// Yes, to go on from this; and it counts from now on.
    Given(Segment),
    /// Not now: other streams have it, and some of them only until they have moved.
    None,
    /// There is nobody any more to be cut off.
    NotWanted,
}

impl Plane {
    /// The stream as it is then, and its incarnation if a move is to be begun. Saved also when nothing changed: the change
    /// before may not have been.
    fn update(
        &mut self,
        id: &StreamId,
        update: SpecUpdate,
        etag: &str,
    ) -> Result<(v1::Stream, Option<StreamUid>, Saving), ApiError> {
        if self.draining {
            return Err(ApiError::Draining);
        }
        self.owned.refuse(id)?;
        let uid = self.registry.place(id, etag)?.uid;
        let begins = update.access.as_ref().is_some_and(|access| self.withdrawals.begin(uid, access));
        let since = begins.then(|| clock::now().wall);
        let is_patience = update.timeouts.is_some() || update.retry.is_some();
        let stream = self.registry.update(id, update, since)?;
        if is_patience && let Some(patience) = self.registry.patience(id) {
            self.engine.set_patience(uid, patience);
        }
        self.attachments.set_guests(self.registry.guests());
        Ok((stream, begins.then_some(uid), self.save(id)))
    }

    /// Looks for room for other memory.
    fn room_to_move(&mut self, uid: StreamUid) -> Room {
        let Some(segment) = self.segment_to_leave(uid) else {
            self.end_move(uid);
            return Room::NotWanted;
        };
        // A full daemon must be able to withdraw access, too: a single segment may come out of the reserve.
        if self.budget.is_exceeded_by(self.segments()) {
            return Room::None;
        }
        self.withdrawals.make(uid);
        Room::Given(segment)
    }

    /// What a stream goes on in now, if there is somebody to be cut off from it.
    fn segment_to_leave(&self, uid: StreamUid) -> Option<Segment> {
        let access = self.registry.access_of(uid)?;
        let is_wanted = !self.draining && self.withdrawals.is_wanted(uid, access);
        is_wanted.then(|| self.engine.segment(uid)).flatten()
    }

    fn move_failed(&mut self, uid: StreamUid, why: &ApiError, is_told: bool) {
        self.withdrawals.fail(uid);
        if !is_told && let Some(id) = self.registry.name(uid) {
            warn!(stream = %id, "access was withdrawn, but who has the stream's memory reads on: {why}; it is tried again");
        }
    }

    /// Sends other memory for a stream to its shard; gives it back when it is not wanted any more.
    fn hand_over(&mut self, uid: StreamUid, successor: Successor) -> Option<Gone> {
        if self.segment_to_leave(uid).is_none() {
            self.end_move(uid);
            return Some(self.setups.leave(successor));
        }
        if let Some(id) = self.registry.name(uid) {
            info!(stream = %id, "access was withdrawn: the stream goes on in other memory");
        }
        self.withdrawals.hand_over(uid, &successor.fd());
        // What came out of the reserve has to come back soon: the next withdrawal may wait for it.
        let is_short = self.budget.is_exceeded_by(self.segments());
        self.engine.rotate(uid, successor, if is_short { LINGER_MIN } else { LINGER_MAX });
        None
    }

    /// A stream goes on in other memory, or does not go on at all. Whether it is to move once more.
    pub(super) fn move_is_over(&mut self, uid: StreamUid) -> bool {
        self.withdrawals.end(uid);
        let access = self.registry.access_of(uid);
        if access.is_some_and(|access| self.withdrawals.begin(uid, access)) {
            return true;
        }
        self.end_move(uid);
        false
    }

    fn end_move(&mut self, uid: StreamUid) {
        self.withdrawals.end(uid);
        self.registry.end_withdrawal(uid);
    }
}
