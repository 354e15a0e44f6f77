//! RTCP: what is understood of a camera's compound packets, and the receiver report that answers them.
//!
//! Only sender reports and BYE matter here. Everything else, and everything broken, is passed over: some
//! cameras send SDES chunks without padding or lengths that are off by one (RFC 3550 §6).

use rtcp_types::{
    Compound, ReceiverReport, ReportBlock, RtcpPacketParser, RtcpPacketWriterExt, RtcpWriteError, Sdes,
    SdesChunk, SdesItem,
};

use super::sequence::ReceptionReport;

/// What a sender report pairs (RFC 3550 §6.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SenderReport {
    /// The sender, as it calls itself.
    pub ssrc: u32,
    /// The sender's clock: seconds since 1900 in the upper 32 bits, fraction in the lower.
    pub ntp: u64,
    /// The same moment by the media's clock.
    pub rtp_timestamp: u32,
}

impl SenderReport {
    /// The middle 32 bits of `ntp`, which a receiver report sends back.
    pub fn last_sr(&self) -> u32 {
        u32::try_from(self.ntp >> 16 & u64::from(u32::MAX)).unwrap_or(0)
    }
}

/// One packet of a compound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packet {
    /// A sender report.
    SenderReport(SenderReport),
    /// The source ends.
    Bye,
    /// Well-formed, of no use here.
    Other,
    /// Not understood; where its length is no good either, it is the last.
    Invalid,
}

/// The packets of a compound, in order, as far as its lengths hold.
pub fn packets(mut compound: &[u8]) -> impl Iterator<Item = Packet> + '_ {
    std::iter::from_fn(move || {
        if compound.is_empty() {
            return None;
        }
        let Some((packet, rest)) = split_first(compound) else {
            compound = &[];
            return Some(Packet::Invalid);
        };
        compound = rest;
        Some(classify(packet))
    })
}

/// Cuts the first packet off by its length field, which counts 32-bit words less one.
fn split_first(compound: &[u8]) -> Option<(&[u8], &[u8])> {
    let &[_, _, high, low] = compound.first_chunk()?;
    compound.split_at_checked((usize::from(u16::from_be_bytes([high, low])) + 1) * 4)
}

fn classify(packet: &[u8]) -> Packet {
    match packet.get(1) {
        Some(&SENDER_REPORT) => rtcp_types::SenderReport::parse(packet).map_or(Packet::Invalid, |report| {
            Packet::SenderReport(SenderReport {
                ssrc: report.ssrc(),
                ntp: report.ntp_timestamp(),
                rtp_timestamp: report.rtp_timestamp(),
            })
        }),
        Some(&BYE) => Packet::Bye,
        Some(_) => Packet::Other,
        None => Packet::Invalid,
    }
}

/// What a receiver report tells the camera.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Feedback<'a> {
    /// Our own SSRC.
    pub ssrc: u32,
    /// Our canonical name; at most 255 bytes.
    pub cname: &'a str,
    /// About the camera's video; `None` before its first packet.
    pub reception: Option<ReceptionReport>,
    /// The last sender report's [`SenderReport::last_sr`]; 0 when there was none.
    pub last_sr: u32,
    /// Time since then in 1/65536 s; 0 when there was none.
    pub delay_since_last_sr: u32,
}

/// Why a receiver report was not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The buffer is too small.
    #[error("the receiver report needs {needed} bytes")]
    TooSmall {
        /// Bytes that it needs.
        needed: usize,
    },
    /// The canonical name is longer than 255 bytes.
    #[error("the canonical name does not fit a report")]
    Name,
}

/// Writes a compound of receiver report and CNAME (RFC 3550 §6.1) to the front of `out` and gives its length.
///
/// # Errors
/// [`WriteError`]; `out` is then unchanged.
pub fn write_receiver_report(out: &mut [u8], feedback: &Feedback<'_>) -> Result<usize, WriteError> {
    let mut report = ReceiverReport::builder(feedback.ssrc);
    if let Some(reception) = feedback.reception {
        report = report.add_report_block(
            ReportBlock::builder(reception.ssrc)
                .fraction_lost(reception.fraction_lost)
                .cumulative_lost(reception.cumulative_lost.cast_unsigned() & 0xff_ffff)
                .extended_sequence_number(reception.extended_highest_sequence)
                .interarrival_jitter(reception.jitter)
                .last_sender_report_timestamp(feedback.last_sr)
                .delay_since_last_sender_report_timestamp(feedback.delay_since_last_sr),
        );
    }
    let name = SdesItem::builder(SdesItem::CNAME, feedback.cname);
    let sdes = Sdes::builder().add_chunk(SdesChunk::builder(feedback.ssrc).add_item(name));
    Compound::builder().add_packet(report).add_packet(sdes).write_into(out).map_err(|error| {
        if let RtcpWriteError::OutputTooSmall(needed) = error {
            WriteError::TooSmall { needed }
        } else {
            WriteError::Name
        }
    })
}

const SENDER_REPORT: u8 = 200;
const BYE: u8 = 203;

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: [u8; 28] =
        [0x80, 200, 0, 6, 0, 0, 0, 7, 0xe0, 0, 0, 1, 0x80, 0, 0, 0, 0, 0, 0, 42, 0, 0, 0, 1, 0, 0, 0, 2];

    fn parsed() -> Packet {
        Packet::SenderReport(SenderReport { ssrc: 7, ntp: 0xe000_0001_8000_0000, rtp_timestamp: 42 })
    }

    #[test]
    fn finds_reports_and_bye_in_a_compound() {
        let mut compound = REPORT.to_vec();
        compound.extend([0x81, 202, 0, 2, 0, 0, 0, 7, 1, 1, b'x', 0]);
        compound.extend([0x81, 203, 0, 1, 0, 0, 0, 7]);
        assert_eq!(packets(&compound).collect::<Vec<_>>(), [parsed(), Packet::Other, Packet::Bye]);
    }

    #[test]
    fn a_report_counts_even_when_garbage_follows() {
        let mut compound = REPORT.to_vec();
        compound.extend([0x81, 202, 0xff, 0xff, 0]);
        assert_eq!(packets(&compound).collect::<Vec<_>>(), [parsed(), Packet::Invalid]);
    }

    #[test]
    fn no_prefix_and_no_flip_panics() {
        for len in 0..REPORT.len() {
            assert!(packets(&REPORT[..len]).all(|p| p == Packet::Invalid), "{len}");
        }
        for position in 0..REPORT.len() {
            for value in 0..=255 {
                let mut bytes = REPORT;
                bytes[position] = value;
                assert!(packets(&bytes).count() <= 7);
            }
        }
    }

    #[test]
    fn writes_what_it_can_read_back() {
        let reception = ReceptionReport {
            ssrc: 9,
            fraction_lost: 64,
            cumulative_lost: -2,
            extended_highest_sequence: 0x1_0001,
            jitter: 5,
        };
        let feedback = Feedback {
            ssrc: 1,
            cname: "vms",
            reception: Some(reception),
            last_sr: 0x0001_8000,
            delay_since_last_sr: 65_536,
        };
        let mut out = [0; 64];
        let len = write_receiver_report(&mut out, &feedback).unwrap();
        let head = [0x81, 201, 0, 7, 0, 0, 0, 1, 0, 0, 0, 9, 64, 0xff, 0xff, 0xfe, 0, 1, 0, 1, 0, 0, 0, 5];
        assert_eq!(out[..24], head);
        assert_eq!(out[24..32], [0, 1, 0x80, 0, 0, 1, 0, 0]);
        assert_eq!(out[32..len], [0x81, 202, 0, 3, 0, 0, 0, 1, 1, 3, b'v', b'm', b's', 0, 0, 0]);
        assert_eq!(packets(&out[..len]).collect::<Vec<_>>(), [Packet::Other, Packet::Other]);
        let short = write_receiver_report(&mut out[..8], &feedback);
        assert_eq!(short, Err(WriteError::TooSmall { needed: len }));
        let long = Feedback { cname: &"x".repeat(256), ..feedback };
        assert_eq!(write_receiver_report(&mut [0; 1024], &long), Err(WriteError::Name));
    }
}
