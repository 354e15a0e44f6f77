//! A simulated camera farm: an RTSP server that sends elementary streams at their pace, with a stamp in each unit.
//!
//! ```text
//!             clips                                     clients            operator
//!               │                                          │                  │ ▲ truth
//!  config ─▶ media ─▶ farm ─▶ doors ─▶ server ◀──epoll──▶ connection ─▶ link  ▼ │
//!            │  │                    (the turn) ◀─ control │  │   └─▶ backlog
//!        split  packetize       faults::plan ─┐  request ▶ rtsp  player ─▶ packets · wire · rtcp
//!            └──┴── nal                       └─▶  answer ─┘ │ └ flood
//!                                                       auth ┘ └ sdp
//! ```
//!
//! One thread and one epoll. A clip is packetised once; what a camera sends is headers and stamp of its own around
//! payloads that all share, so hundreds of cameras cost little more than the kernel's copies.
//! Each PLAY starts the clip, and the counter of its stamps, from 0; a unit that a slow client made us drop takes no
//! number, so a hole in the counters at the far end was never made here. `Stats` tells what was dropped.
//! Only RTP over the RTSP connection (RFC 2326 10.12) is spoken; UDP is refused with 461.
//! Session time-outs are announced but not enforced.
//!
//! Cameras misbehave as they are told to: see [`Fault`], and `README.md` for users. What really happened is told to an
//! [`Operator`].

mod answer;
mod auth;
mod backlog;
mod clock;
mod config;
mod connection;
mod control;
mod doors;
mod farm;
mod faults;
mod flood;
mod link;
mod media;
mod nal;
mod packetize;
mod packets;
mod player;
mod request;
mod rng;
mod rtcp;
mod rtsp;
mod sdp;
mod server;
mod sessions;
mod split;
mod truth;
mod wire;

pub use config::{Access, Config, Fps, MediaSpec, ParseError, Scheme, WriteMode, parse_bitrate};
pub use farm::{CameraStats, Stats};
pub use faults::list as fault_list;
pub use faults::spec::{Fault, FaultError};
pub use media::MediaError;
pub use server::{Operator, Server, StartError};
