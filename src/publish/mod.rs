//! Access units into the rings; readers that come and go.
//!
//! ```text
//!  attach thread            control            shard
//!  ATTACH ──request──▶ finds the stream ──▶ Publisher::attach(ring)
//!  reply + fds ◀──── completion ◀────────── Joined
//! ```
//! A [`Publisher`] is one stream's writer and lives on the stream's shard. [`attach`] owns the socket that readers connect to;
//! what it cannot decide it turns into requests for the control layer, and it sends the answers.

mod access;
pub mod attach;
mod bells;
mod publisher;
mod rotation;

pub use access::{Access, Peer};
pub use bells::Bells;
pub use publisher::{Counters, Publisher, ReaderStats};
pub use ring_abi::handshake::RefusalCode;
pub use ring_abi::join::Join;
pub use ring_abi::layout::{Class, EndReason, RingState, StreamState};
pub use ring_abi::producer::{Joined, ReaderRing, RingId, Session};
pub use rotation::Successor;

/// A stream's only track so far: video.
const VIDEO: usize = 0;
