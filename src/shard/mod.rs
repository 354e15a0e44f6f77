//! A thread a core: cameras, sockets and readers introduced to each other, and the clock that media sees.
//!
//! ```text
//!  control ──Command──▶ ┌─ turn ─────────────────────────────┐
//!                       │ io ⇄ stream: camera ──▶ publisher  │
//!  control ◀──Event──── └────────────────────────────────────┘
//! ```
//! Shards share nothing but the count of [`Connects`]. A stream lives in one shard at a time, from [`Command::Add`] to [`Event::Removed`]; between, it goes
//! from one to another by value ([`Event::Departed`], [`Command::Arrive`]). What a stream may
//! do in a turn is bounded, and a panic of one is caught at its boundary, so that no camera is noticed by another.

mod command;
mod connects;
mod deadlines;
mod events;
mod gate;
mod handle;
mod inbox;
mod line;
mod pacing;
mod stream;
mod thread;
mod turn;

#[cfg(test)]
mod tests;

pub use crate::io::{BackendKind, ProbeError, SetupError, probe};
pub use command::{Command, Event, NewStream, ShardStats, StreamStats};
pub use connects::Connects;
pub use handle::{CommandSender, EventReceiver, Refused};
pub use stream::{MovingStream, connect_failure, peer_close};
pub use thread::{ShardConfig, ShardHandle, StartError, spawn};
