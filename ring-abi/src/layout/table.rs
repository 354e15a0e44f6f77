//! Written by `ring-abi/layout.py` from `ring-abi/layout.toml`; not to be edited. What the table says, asserted of this
//! crate's types at compile time.

use std::mem::{offset_of, size_of};

use super::*;

const _: () = {
    assert!(MAGIC == 20070800167226710);
    assert!(ABI_MAJOR == 1);
    assert!(ABI_MINOR == 0);
    assert!(LINE == 64);
    assert!(CONFIG_DATA_MAX == 4032);
    assert!(UNIT_LEN_MAX == 4194304);
    assert!(NALS_PER_UNIT_MAX == 1024);
    assert!(TRACKS_MAX == 4);
    assert!(SESSION_SLOTS_MAX == 4096);

    assert!(size_of::<SegmentHeader>() == 64);
    assert!(offset_of!(SegmentHeader, magic) == 0);
    assert!(offset_of!(SegmentHeader, major) == 8);
    assert!(offset_of!(SegmentHeader, minor) == 10);
    assert!(offset_of!(SegmentHeader, kind) == 12);
    assert!(offset_of!(SegmentHeader, size) == 16);
    assert!(offset_of!(SegmentHeader, epoch) == 24);
    assert!(offset_of!(SegmentHeader, features_required) == 32);
    assert!(offset_of!(SegmentHeader, features_optional) == 40);
    assert!(offset_of!(SegmentHeader, header_len) == 48);
    assert!(offset_of!(SegmentHeader, rec_size) == 52);
    assert!(offset_of!(SegmentHeader, stream_uid) == 56);

    assert!(size_of::<StreamDirectory>() == 64);
    assert!(offset_of!(StreamDirectory, track_count) == 0);
    assert!(offset_of!(StreamDirectory, track_size) == 4);
    assert!(offset_of!(StreamDirectory, tracks_off) == 8);

    assert!(size_of::<StreamStateLine>() == 128);
    assert!(offset_of!(StreamStateLine, state) == 0);
    assert!(offset_of!(StreamStateLine, timeline) == 4);
    assert!(offset_of!(StreamStateLine, heartbeat_ns) == 8);
    assert!(offset_of!(StreamStateLine, last_seq) == 16);
    assert!(offset_of!(StreamStateLine, last_key_seq) == 24);
    assert!(offset_of!(StreamStateLine, retained_ns) == 32);
    assert!(offset_of!(StreamStateLine, state_reason) == 40);

    assert!(size_of::<TrackEntry>() == 256);
    assert!(offset_of!(TrackEntry, kind) == 0);
    assert!(offset_of!(TrackEntry, timescale) == 4);
    assert!(offset_of!(TrackEntry, arena_off) == 8);
    assert!(offset_of!(TrackEntry, arena_len) == 16);
    assert!(offset_of!(TrackEntry, configs_off) == 24);
    assert!(offset_of!(TrackEntry, config_count) == 32);
    assert!(offset_of!(TrackEntry, config_size) == 36);
    assert!(offset_of!(TrackEntry, reclaim_pos) == 64);
    assert!(offset_of!(TrackEntry, write_pos) == 128);
    assert!(offset_of!(TrackEntry, config_id) == 136);
    assert!(offset_of!(TrackEntry, codec) == 140);

    assert!(size_of::<ConfigHeader>() == 64);
    assert!(offset_of!(ConfigHeader, id) == 0);
    assert!(offset_of!(ConfigHeader, generation) == 4);
    assert!(offset_of!(ConfigHeader, codec) == 8);
    assert!(offset_of!(ConfigHeader, profile) == 12);
    assert!(offset_of!(ConfigHeader, level) == 16);
    assert!(offset_of!(ConfigHeader, width) == 20);
    assert!(offset_of!(ConfigHeader, height) == 24);
    assert!(offset_of!(ConfigHeader, fps_num) == 28);
    assert!(offset_of!(ConfigHeader, fps_den) == 32);
    assert!(offset_of!(ConfigHeader, len) == 36);

    assert!(size_of::<RingHead>() == 256);
    assert!(offset_of!(RingHead, slots) == 64);
    assert!(offset_of!(RingHead, reader_class) == 68);
    assert!(offset_of!(RingHead, tail) == 128);
    assert!(offset_of!(RingHead, rstate) == 192);
    assert!(offset_of!(RingHead, reason) == 196);
    assert!(offset_of!(RingHead, final_seq) == 200);
    assert!(offset_of!(RingHead, final_filtered) == 208);

    assert!(size_of::<SessionHead>() == 256);
    assert!(offset_of!(SessionHead, slots) == 64);
    assert!(offset_of!(SessionHead, bell) == 128);
    assert!(offset_of!(SessionHead, state_gen) == 132);

    assert!(size_of::<CursorHead>() == 256);
    assert!(offset_of!(CursorHead, parked) == 128);

    assert!(size_of::<ReleaseHead>() == 256);
    assert!(offset_of!(ReleaseHead, capacity) == 64);
    assert!(offset_of!(ReleaseHead, tail) == 128);

    assert!(size_of::<Lease>() == 8);
    assert!(offset_of!(Lease, slot) == 0);
    assert!(offset_of!(Lease, generation) == 4);

    assert!(size_of::<Descriptor>() == 128);
    assert!(offset_of!(Descriptor, seq) == 0);
    assert!(offset_of!(Descriptor, pos) == 8);
    assert!(offset_of!(Descriptor, len) == 16);
    assert!(offset_of!(Descriptor, flags) == 20);
    assert!(offset_of!(Descriptor, record_type) == 24);
    assert!(offset_of!(Descriptor, track) == 26);
    assert!(offset_of!(Descriptor, config_id) == 28);
    assert!(offset_of!(Descriptor, media_ticks) == 32);
    assert!(offset_of!(Descriptor, pts_ns) == 40);
    assert!(offset_of!(Descriptor, timeline) == 48);
    assert!(offset_of!(Descriptor, lost_packets) == 52);
    assert!(offset_of!(Descriptor, key_seq) == 56);
    assert!(offset_of!(Descriptor, recv_mono_ns) == 64);
    assert!(offset_of!(Descriptor, pub_mono_ns) == 72);
    assert!(offset_of!(Descriptor, wall_utc_ns) == 80);
    assert!(offset_of!(Descriptor, wall_err_us) == 88);
    assert!(offset_of!(Descriptor, clock_source) == 92);
    assert!(offset_of!(Descriptor, rtp_ts) == 96);
    assert!(offset_of!(Descriptor, ssrc) == 100);
    assert!(offset_of!(Descriptor, first_rtp_seq) == 104);
    assert!(offset_of!(Descriptor, last_rtp_seq) == 106);
    assert!(offset_of!(Descriptor, nal_count) == 108);
    assert!(offset_of!(Descriptor, nal_off) == 112);
    assert!(offset_of!(Descriptor, duration_ticks) == 116);
    assert!(offset_of!(Descriptor, filtered) == 120);

    assert!(SegmentKind::Stream as u32 == 1);
    assert!(SegmentKind::DescriptorRing as u32 == 3);
    assert!(SegmentKind::FramePool as u32 == 5);
    assert!(SegmentKind::ReleaseRing as u32 == 6);
    assert!(SegmentKind::Session as u32 == 7);
    assert!(SegmentKind::SessionCursor as u32 == 8);

    assert!(StreamState::Pending as u32 == 0);
    assert!(StreamState::Live as u32 == 1);
    assert!(StreamState::Stalled as u32 == 2);
    assert!(StreamState::Closed as u32 == 3);

    assert!(RingState::Ok as u32 == 0);
    assert!(RingState::Evicted as u32 == 1);
    assert!(RingState::Closed as u32 == 2);
    assert!(RingState::Rotated as u32 == 3);

    assert!(EndReason::None as u32 == 0);
    assert!(EndReason::StreamClosed as u32 == 1);
    assert!(EndReason::Detached as u32 == 2);
    assert!(EndReason::BadCursor as u32 == 3);
    assert!(EndReason::Quota as u32 == 4);
    assert!(EndReason::Revoked as u32 == 5);

    assert!(TrackKind::Video as u32 == 1);
    assert!(TrackKind::Audio as u32 == 2);
    assert!(TrackKind::Data as u32 == 3);

    assert!(Codec::Unknown as u32 == 0);
    assert!(Codec::H264 as u32 == 1);
    assert!(Codec::H265 as u32 == 2);

    assert!(Class::Live as u32 == 1);
    assert!(Class::Archive as u32 == 2);

    assert!(Flags::KEY.0 == 1 << 0);
    assert!(Flags::RECOVERY_POINT.0 == 1 << 1);
    assert!(Flags::DISCONT.0 == 1 << 2);
    assert!(Flags::DAMAGED.0 == 1 << 3);
    assert!(Flags::CONFIG_CHANGED.0 == 1 << 4);
    assert!(Flags::BACKFILL.0 == 1 << 5);
    assert!(Flags::NON_REF.0 == 1 << 6);
    assert!(Flags::TS_ESTIMATED.0 == 1 << 7);
    assert!(Flags::HAS_NAL_INDEX.0 == 1 << 8);

    assert!(RECORD_ACCESS_UNIT == 1);
    assert!(RECORD_DATA == 2);
    assert!(FEATURE_NOTIFY_FD == 1 << 0);
};

#[cfg(all(test, not(loom)))]
mod tests {
    use crate::handshake::{
        MESSAGE_LEN_MAX, NAME_LEN_MAX, REASON_LEN_MAX, RefusalCode, STREAM_ID_LEN_MAX, TOKEN_LEN_MAX,
    };

    #[test]
    fn the_handshake_has_the_numbers_of_the_table() {
        assert_eq!(MESSAGE_LEN_MAX, 4096);
        assert_eq!(NAME_LEN_MAX, 32);
        assert_eq!(TOKEN_LEN_MAX, 256);
        assert_eq!(STREAM_ID_LEN_MAX, 64);
        assert_eq!(REASON_LEN_MAX, 232);
        assert_eq!(RefusalCode::UnknownStream as u32, 1);
        assert_eq!(RefusalCode::Forbidden as u32, 2);
        assert_eq!(RefusalCode::Limit as u32, 3);
        assert_eq!(RefusalCode::Version as u32, 4);
        assert_eq!(RefusalCode::BadRequest as u32, 5);
        assert_eq!(RefusalCode::Unavailable as u32, 6);
    }
}

/// Number and bytes of each message.
#[cfg(all(test, not(loom)))]
pub(crate) const MESSAGE_SIZES: [(u32, usize); 10] =
    [(1, 336), (2, 48), (3, 136), (4, 64), (5, 256), (6, 24), (7, 24), (8, 32), (9, 32), (10, 24)];
