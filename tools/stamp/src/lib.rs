//! A test stamp inside an access unit: counter, send time, CRC.
//!
//! A simulated camera puts one stamp into every access unit; whoever reads the unit at the far end can then tell without
//! any side channel whether units were lost, repeated, reordered or damaged, and how long each was on its way.
//! The stamp is a `user_data_unregistered` SEI message in a NAL unit of its own, which decoders skip:
//!
//! ```text
//!  H.264  06          H.265  4E 01          NAL header: type 6 / prefix SEI type 39, layer 0, temporal id 0
//!  05                                       payload type: user_data_unregistered
//!  2E                                       payload size: 46
//!  "vms-media/stamp1"                       UUID, 16 bytes
//!  10 bytes  counter        u64  ┐
//!  10 bytes  send_mono_ns   u64  ├ base 128, most significant group first, top bit of every byte set
//!   5 bytes  unit CRC-32    u32  ┘
//!   5 bytes  CRC-32 of the 25 bytes above, same encoding
//!  80                                       RBSP trailing bits
//! ```
//!
//! No byte of it can form `00 00 0x`, so its length never depends on its values and emulation prevention never applies:
//! a sender patches counter and time in place ([`StampNal::patch`]).
//! The unit CRC runs over the bytes of all *other* NAL units of the access unit, in order, without start codes.
//!
//! This crate knows nothing of RTP or of the ring; `vms-camsim` writes stamps, `vms-tap` and the tests read them.

pub mod annexb;
mod base128;
mod nal;
mod padding;
mod stamp;

pub use nal::Codec;
pub use padding::padding_nal;
pub use stamp::{NAL_LEN_MAX, Stamp, StampNal, find, sent_at, unit_crc};
