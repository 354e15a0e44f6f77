//! Moving a stream to another shard on request, and telling who asked what became of it.

use std::collections::HashMap;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;
use vms_proto::v1;

use super::super::error::ApiError;
use super::{Plane, SharedPlane};
use crate::ids::{StreamId, StreamUid};

/// How long a caller waits. A stream moves within two turns of each shard.
const PATIENCE: Duration = Duration::from_secs(5);

/// Who waits for which stream; one caller a stream, because one move is under way at a time.
#[derive(Debug, Default)]
pub(super) struct Relocations(HashMap<StreamUid, oneshot::Sender<()>>);

impl Relocations {
    /// The stream is there.
    pub(super) fn arrived(&mut self, uid: StreamUid) {
        // The caller may have gone away.
        self.0.remove(&uid).map(|caller| caller.send(()));
    }

    /// The stream is where it was, or nowhere any more: the caller is told by the sender's end.
    pub(super) fn stayed(&mut self, uid: StreamUid) {
        self.0.remove(&uid);
    }
}

impl SharedPlane {
    /// Moves a stream to the shard `to`; returns when it is there.
    ///
    /// # Errors
    /// `NotFound`, `InvalidField` (no such shard), `Busy`, `Draining`.
    pub(crate) async fn relocate(&self, id: StreamId, to: usize) -> Result<v1::Stream, ApiError> {
        let (caller, answer) = oneshot::channel();
        if let Some(stream) = self.lock().begin_relocation(&id, to, caller)? {
            return Ok(stream);
        }
        match timeout(PATIENCE, answer).await {
            Ok(Ok(())) => self.lock().stream(&id),
            Ok(Err(_)) | Err(_) => Err(ApiError::Busy { id }),
        }
    }
}

impl Plane {
    /// The stream, when it is there already.
    fn begin_relocation(
        &mut self,
        id: &StreamId,
        to: usize,
        caller: oneshot::Sender<()>,
    ) -> Result<Option<v1::Stream>, ApiError> {
        if self.draining {
            return Err(ApiError::Draining);
        }
        let place = self.registry.place(id, "")?;
        let shards = self.engine.shards();
        if to >= shards {
            let why = format!("there are {shards} shards, counted from 0");
            return Err(ApiError::InvalidField { field: "shard", why });
        }
        if place.shard == to && !self.engine.is_moving(place.uid) {
            return self.registry.stream(id).map(Some);
        }
        if !self.engine.begin_move(place.uid, to) {
            return Err(ApiError::Busy { id: id.clone() });
        }
        self.relocations.0.insert(place.uid, caller);
        Ok(None)
    }
}
