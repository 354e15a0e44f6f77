//! Faults of the stream: its numbers, its clock, its parameter sets, its reports.

use vms_stamp::Codec;

use super::kind::{Act, Kind, Value};
use crate::nal::{self, Role};

pub(super) const TABLE: &[Kind] = &[
    Kind::source(
        "ssrc-change",
        &[55],
        "another SSRC, sequence and timestamp, as after an encoder's restart",
        |source, rng| {
            source.restart(rng);
        },
    ),
    Kind::source(
        "sequence-jump",
        &[56],
        "sequence numbers jump ahead by 1000; nothing is lost",
        |source, _| {
            source.sequence = source.sequence.wrapping_add(1000);
        },
    ),
    Kind::source(
        "sequence-back",
        &[56],
        "sequence numbers jump back by 1000; nothing is repeated",
        |source, _| {
            source.sequence = source.sequence.wrapping_sub(1000);
        },
    ),
    Kind::source("timestamp-jump", &[62], "timestamps jump ahead by an hour, for good", |source, _| {
        source.first_timestamp = source.first_timestamp.wrapping_add(3600 * 90_000);
    }),
    Kind::source("timestamp-back", &[62], "timestamps jump back by an hour, for good", |source, _| {
        source.first_timestamp = source.first_timestamp.wrapping_sub(3600 * 90_000);
    }),
    Kind {
        name: "timestamp-zero",
        value: Value::None,
        rows: &[63],
        says: "timestamps and sequence numbers of each session begin with 0",
        act: Act::Start(|source| (source.first_timestamp, source.sequence) = (0, 0)),
    },
    Kind::report("no-reports", &[65], "no sender reports", |reports| reports.report = None),
    Kind::report("reports-1970", &[65], "sender reports of a clock that was never set", |reports| {
        reports.report.iter_mut().for_each(|report| report.utc_ns = 12_000_000_000);
    }),
    Kind::report("reports-of-other", &[65], "sender reports of an SSRC that nobody knows", |reports| {
        reports.report.iter_mut().for_each(|report| report.ssrc ^= 0xffff);
    }),
    Kind::report("reports-on-rtp", &[9], "sender reports on the channel of RTP", |reports| {
        reports.channel = reports.channel.wrapping_sub(1)
    }),
    Kind::unit("sets-in-sdp", &[78], "parameter sets in the SDP only", |wire| {
        let codec = wire.codec;
        let nals = wire.nals();
        wire.set_nals(
            nals.into_iter().filter(|nal| nal::role(nal, codec) != Some(Role::ParameterSet)).collect(),
        );
    }),
    Kind::unit("sets-once", &[78], "parameter sets before the first unit only", |wire| {
        if wire.number > 0 {
            let codec = wire.codec;
            let nals = wire.nals();
            wire.set_nals(
                nals.into_iter().filter(|nal| nal::role(nal, codec) != Some(Role::ParameterSet)).collect(),
            );
        }
    }),
    Kind::unit("sps-junk", &[80], "bytes behind the end of each SPS", |wire| {
        let codec = wire.codec;
        let mut nals = wire.nals();
        let is_sps = |nal: &[u8]| match codec {
            Codec::H264 => nal.first().is_some_and(|byte| byte & 0x1f == 7),
            Codec::H265 => nal::h265_type(nal) == Some(33),
        };
        nals.iter_mut().filter(|nal| is_sps(nal)).for_each(|nal| nal.extend_from_slice(&[0x5a, 0xa5]));
        wire.set_nals(nals);
    }),
    Kind::unit("extra-nals", &[77], "a delimiter, an SEI and filler in each unit", |wire| {
        let (delimiter, filler): (&[u8], &[u8]) = match wire.codec {
            Codec::H264 => (&[0x09, 0xf0], &[0x0c, 0xff, 0xff, 0x80]),
            Codec::H265 => (&[0x46, 0x01, 0x50], &[0x4c, 0x01, 0xff, 0x80]),
        };
        let mut nals = wire.nals();
        if nals.first().is_some_and(|first| first.first() != delimiter.first()) {
            nals.insert(0, delimiter.to_vec());
        }
        nals.push(filler.to_vec());
        wire.set_nals(nals);
    }),
];
