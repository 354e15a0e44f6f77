//! The daemon's modules that take bytes and a time, from their own sources, without the rest of the daemon.
//!
//! They need 44 crates where the daemon needs 255: a build under sanitizers is short, and each run of a target looks at the
//! coverage counters of this code and not at those of a gRPC server. That they can be built so is also a proof that they are
//! pure.

#[path = "../../../../src/codec/mod.rs"]
pub mod codec;
#[path = "../../../../src/ingest/mod.rs"]
pub mod ingest;
#[path = "../../../../src/limits.rs"]
pub mod limits;
#[path = "../../../../src/rtp/mod.rs"]
pub mod rtp;
#[path = "../../../../src/rtsp/mod.rs"]
pub mod rtsp;
#[path = "../../../../src/time.rs"]
pub mod time;
