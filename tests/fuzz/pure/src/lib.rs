//! The daemon's modules that take bytes and a time, from their own sources, without the rest of the daemon.
//!
//! They need a tenth of the crates that the daemon needs, so that a build under sanitizers takes half a minute, and each
//! run of a target looks at the coverage counters of this code and not at those of a gRPC server. That they can be built so
//! is also a proof that they are pure.

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
