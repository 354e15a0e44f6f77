//! vms-media: RTSP cameras in, access units out through shared memory.
//!
//! ```text
//!  io  ──bytes──▶  ingest (rtsp · rtp · codec)  ──access units──▶  publish ──▶ shared-memory rings
//!   ▲                      │ bytes to send, next deadline
//!   └──────── shard ◀──────┘            control ──commands──▶ shard
//! ```
//!
//! | module | owns | may use |
//! |---|---|---|
//! | [`time`], [`ids`], [`limits`] | values: points in time, names, every maximum | nothing |
//! | [`rtsp`] | RTSP text, framing, sessions, authentication, SDP | values, codec |
//! | [`rtp`] | RTP and RTCP headers, sequence, media clock, wall clock | values |
//! | [`codec`] | H.264 and H.265 payloads to access units; the sink trait | values, rtp |
//! | [`ingest`] | one camera's state machine | values, rtsp, rtp, codec |
//! | `clock` | reading the machine's clocks | time |
//! | [`socket_path`] | a unix socket's path: a dead owner's is taken over, a live one's never | nothing |
//! | [`io`] | io_uring or epoll, sockets, receive buffers | values |
//! | [`publish`] | access units into the rings; readers that come and go | values, clock, codec (sink), socket_path, `ring-abi` |
//! | [`shard`] | one thread a core: the turn | values, clock, codec, ingest, io, publish |
//! | [`launch`] | the step between the daemon and a program that it starts | nothing |
//! | `metrics` | a snapshot of the daemon as Prometheus text | values, shard (its counters) |
//! | [`config`] | the command line and the configuration file, checked | values, ingest (its policy) |
//! | [`control`] | gRPC, HTTP, readers' requests, DNS, the registry of streams, reader programs | values, clock, socket_path, launch, codec, rtsp, ingest, publish, shard, metrics, config |
//!
//! `rtsp`, `rtp`, `codec` and `ingest` are pure: bytes and a time go in; bytes, events and a deadline come out. So is `metrics`.
//! `tests/architecture.rs` keeps this table.

mod clock;
pub mod codec;
pub mod config;
pub mod control;
pub mod ids;
pub mod ingest;
pub mod io;
pub mod launch;
pub mod limits;
mod metrics;
pub mod publish;
pub mod rtp;
pub mod rtsp;
pub mod shard;
pub mod socket_path;
pub mod time;
