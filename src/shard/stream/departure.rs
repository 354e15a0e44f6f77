//! A stream on its way from one shard to another, by value: the camera's state, the publisher with its readers' rings, and the
//! connection.
//!
//! ```text
//!  depart ──▶ Begun ──the connection is handed out──▶ InHand ──all it has brought is worked on──▶ MovingStream ──▶ arrived, settle
//!               └───────────── something is between: an end, a new connection ──▶ stays
//! ```
//! Bytes that nobody has received wait in the socket. Nothing that belongs to a shard goes along: tokens, buffers, deadlines.

use super::{Stream, Surroundings};
use crate::codec::VideoFormat;
use crate::ids::{StreamId, StreamUid};
use crate::ingest::{Camera, PeerClose};
use crate::io::{Handover, Token};
use crate::publish::Publisher;
use crate::shard::command::Event;
use crate::shard::gate::Attempt;

/// A stream that no shard carries: on its way from one to another, between two turns of its life.
#[derive(Debug)]
pub struct MovingStream {
    uid: StreamUid,
    id: StreamId,
    camera: Camera,
    publisher: Box<Publisher>,
    told_format: Option<VideoFormat>,
    /// The connection, if there is one.
    handover: Option<Handover>,
    /// That it is connecting to its camera, if that counts.
    attempt: Option<Attempt>,
}

impl MovingStream {
    /// Which stream.
    pub const fn uid(&self) -> StreamUid {
        self.uid
    }

    /// What remains of it if it is to arrive nowhere.
    pub fn into_publisher(self) -> Box<Publisher> {
        self.publisher
    }
}

/// How far a stream is on its way to another shard.
#[derive(Debug, Default)]
pub(super) enum Departure {
    #[default]
    None,
    /// The connection, if there is one, is being handed out.
    Begun,
    /// The connection is in our hands; what it has brought is worked on.
    InHand(Handover),
}

impl Stream {
    /// Gives the stream away, as soon as its connection is free and what that has brought was worked on.
    pub(in crate::shard) fn depart(&mut self, around: &mut Surroundings<'_>) {
        // A camera that was never started is started where it is.
        let is_bound = self.camera.is_new() || self.is_stopping || self.is_over || self.is_broken;
        let is_leaving = !matches!(self.departure, Departure::None);
        if is_leaving {
            return;
        }
        // A connection that is not up yet cannot be handed out.
        if is_bound || self.connection.is_some_and(|token| around.io.hand_out(token).is_err()) {
            return around.events.answer(Event::Stayed { uid: self.uid });
        }
        self.departure = Departure::Begun;
    }

    /// The connection is ours alone, behind all that it has brought.
    ///
    /// Returns whether something is left for the next turn.
    pub(in crate::shard) fn on_handed_out(
        &mut self,
        token: Token,
        handover: Handover,
        around: &mut Surroundings<'_>,
    ) -> bool {
        if self.connection != Some(token) {
            return false;
        }
        self.connection = None;
        match self.departure {
            Departure::Begun => self.departure = Departure::InHand(handover),
            Departure::None | Departure::InHand(_) => self.take_over(handover, around),
        }
        self.inbox.is_waiting()
    }

    /// Whether the stream can go: it has no connection here, and nothing that came from it.
    pub(in crate::shard) fn is_ready_to_depart(&self) -> bool {
        let is_leaving = !matches!(self.departure, Departure::None);
        is_leaving && self.connection.is_none() && !self.inbox.is_waiting() && !self.is_broken
    }

    /// The stream without its shard, and the attempt that counts for it.
    pub(in crate::shard) fn into_moving(self, attempt: Option<Attempt>) -> MovingStream {
        let Self { uid, id, camera, publisher, told_format, departure, .. } = self;
        let handover = match departure {
            Departure::InHand(handover) => Some(handover),
            Departure::None | Departure::Begun => None,
        };
        MovingStream { uid, id, camera, publisher, told_format, handover, attempt }
    }

    /// A stream that came from another shard, its connection, which is to be settled, and the attempt that counts for it.
    pub(in crate::shard) fn arrived(moving: MovingStream) -> (Self, Option<Handover>, Option<Attempt>) {
        let MovingStream { uid, id, camera, publisher, told_format, handover, attempt } = moving;
        let stream = Self { told_format, ..Self::without_connection(uid, id, camera, publisher) };
        (stream, handover, attempt)
    }

    /// Goes on in this shard.
    pub(in crate::shard) fn settle(&mut self, handover: Option<Handover>, around: &mut Surroundings<'_>) {
        if let Some(handover) = handover {
            self.take_over(handover, around);
        }
        around.events.answer(Event::Arrived { uid: self.uid });
    }

    pub(super) const fn is_in_hand(&self) -> bool {
        matches!(self.departure, Departure::InHand(_))
    }

    fn take_over(&mut self, handover: Handover, around: &mut Surroundings<'_>) {
        match around.io.take_over(handover) {
            Ok(token) => {
                self.connection = Some(token);
                // It comes back to where it was told to stop.
                if self.inbox.is_paused() {
                    around.io.pause(token);
                }
            }
            Err(error) => {
                let how = PeerClose::Broken(error.to_string());
                self.call(around, |camera, publisher, now| camera.on_closed(now, how, publisher));
            }
        }
    }

    /// Something came between: the stream does not go.
    pub(super) fn stay(&mut self, around: &mut Surroundings<'_>) {
        match std::mem::take(&mut self.departure) {
            Departure::None => return,
            // The connection comes back with `on_handed_out`.
            Departure::Begun => {}
            Departure::InHand(handover) => self.take_over(handover, around),
        }
        around.events.answer(Event::Stayed { uid: self.uid });
    }
}
