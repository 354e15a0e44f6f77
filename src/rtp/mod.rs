//! RTP and RTCP (RFC 3550) of one camera's video track: packets, order, and two clocks.
//!
//! ```text
//!  interleaved frame ─▶ PacketParser ─▶ Header ─▶ Sources ─▶ Sequence ─▶ lost, duplicate, restart
//!    (any split)            │                         └────▶ MediaClock ─▶ exact 64-bit ticks, timeline
//!                           ├─▶ payload pieces, straight from the receive buffer
//!                           └─▶ RTCP ─▶ rtcp::packets ─▶ WallClock ─▶ time of capture
//! ```
//! Pure: bytes and a time go in. What the payload means is `codec`'s; when to send a report is `ingest`'s.

mod media_clock;
mod packet;
pub mod rtcp;
mod sequence;
mod sources;
mod stream;
mod wall_clock;

pub use media_clock::{CLOCK_RATE, MediaClock, MediaTime, pts_ns};
pub use packet::{Header, PacketError, PacketEvent, PacketParser, is_rtcp, plain_packet};
pub use sequence::{Arrival, ReceptionReport, Sequence};
pub use sources::{Admission, Announced, Held, Sources};
pub use wall_clock::{ClockSource, WallClock, WallTime};
