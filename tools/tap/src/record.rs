//! One record as a line of JSON.

use ring_abi::layout::Flags;
use serde::Serialize;

use crate::unit::CopiedUnit;

/// The fields of the line, in its order. Scripts rely on these names.
#[derive(Debug, Serialize)]
pub(crate) struct Record<'a> {
    id: &'a str,
    seq: u64,
    pts_ns: i64,
    media_ticks: i64,
    rtp_ts: u32,
    recv_mono_ns: u64,
    pub_mono_ns: u64,
    wall_utc_ns: i64,
    len: u32,
    key: bool,
    /// The flag bits of the ABI.
    flags: u32,
    /// Units missing between the record before and this one, for whatever reason: overrun, overwritten while they were
    /// read, or dropped to resume at a keyframe. What the producer withheld as asked is not missing.
    gap: u64,
    timeline: u32,
    config_id: u32,
    /// CRC-32 (ISO-HDLC) of the payload.
    crc32: u32,
    /// Network packets missing in the unit or right before it.
    lost_packets: u32,
}

impl<'a> Record<'a> {
    pub(crate) fn new(id: &'a str, unit: &CopiedUnit, gap: u64) -> Self {
        let descriptor = &unit.descriptor;
        Self {
            id,
            seq: descriptor.seq,
            pts_ns: descriptor.pts_ns,
            media_ticks: descriptor.media_ticks,
            rtp_ts: descriptor.rtp_ts,
            recv_mono_ns: descriptor.recv_mono_ns,
            pub_mono_ns: descriptor.pub_mono_ns,
            wall_utc_ns: descriptor.wall_utc_ns,
            len: descriptor.len,
            key: descriptor.has(Flags::KEY),
            flags: descriptor.flags,
            gap,
            timeline: descriptor.timeline,
            config_id: descriptor.config_id,
            crc32: crc32fast::hash(&unit.payload),
            lost_packets: descriptor.lost_packets,
        }
    }
}
