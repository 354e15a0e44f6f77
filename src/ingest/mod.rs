//! One camera's state machine: joins RTSP, RTP and codec, owns the deadlines. Pure.

pub mod state;

pub use state::{Reason, State, Status};
