//! One camera's state machine: joins RTSP, RTP and codec, and owns the deadlines. Pure.
//!
//! ```text
//!  shard ── on_bytes, on_closed, handle_timeout … ──▶ Camera ──▶ Connection ─┬─▶ rtsp::Session
//!    ▲                                                   │                   └─▶ Receiver ─▶ codec ─▶ sink
//!    └── poll_output: Resolve, Connect, Send, Close … ───┘
//! ```

mod backoff;
mod camera;
mod connection;
mod failure;
mod policy;
mod receiver;
mod state;
mod stats;
mod throttle;
mod watch;

pub use camera::{Camera, CameraConfig, Output};
pub use failure::{ConnectFailure, PeerClose};
pub use policy::{Policy, PolicyChanges, TimeoutChanges, Wait, WaitChanges};
pub use state::{Reason, State, Status};
pub use stats::{CameraStats, ReasonCounts};

#[cfg(test)]
mod tests;
