//! What a simulated camera encodes: pictures of NAL units, and the RTP packets (RFC 3550, 6184, 7798) that carry them.

use vms_media::codec::Codec;

use crate::random::Random;

/// An access unit as the camera made it.
#[derive(Clone, Debug)]
pub(crate) struct Picture {
    pub(crate) is_key: bool,
    pub(crate) nals: Vec<Vec<u8>>,
}

/// One RTP packet.
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    pub(crate) sequence: u16,
    pub(crate) timestamp: u32,
    pub(crate) ssrc: u32,
    pub(crate) is_last: bool,
    pub(crate) payload: Vec<u8>,
}

/// What stands in the header besides the fixed part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dressing {
    Plain,
    Extension,
    Sources,
    Padding,
}

/// Sizes of a camera's pictures.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    pub(crate) key: usize,
    pub(crate) delta: usize,
    /// Payload bytes of a packet.
    pub(crate) packet: usize,
    pub(crate) slices: usize,
    pub(crate) gop: u32,
}

/// Makes pictures, each different from all others.
#[derive(Debug)]
pub(crate) struct Encoder {
    codec: Codec,
    sizes: Sizes,
    made: u32,
    random: Random,
}

impl Encoder {
    pub(crate) const fn new(codec: Codec, sizes: Sizes, random: Random) -> Self {
        Self { codec, sizes, made: 0, random }
    }

    /// The next picture begins a group.
    pub(crate) const fn refresh(&mut self) {
        self.made = 0;
    }

    pub(crate) fn picture(&mut self) -> Picture {
        let is_key = self.made.is_multiple_of(self.sizes.gop);
        self.made += 1;
        let mean = if is_key { self.sizes.key } else { self.sizes.delta };
        let len = self.random.size(mean / 2, mean * 3 / 2) + 12;
        let mut nals: Vec<Vec<u8>> = Vec::new();
        if is_key {
            nals.extend(parameter_sets(self.codec).iter().map(|set| set.to_vec()));
        }
        let slices = self.sizes.slices.min(len / 12);
        nals.extend((0..slices).map(|slice| self.slice(is_key, slice == 0, len / slices)));
        Picture { is_key, nals }
    }

    /// A picture that no arena of the simulation can hold.
    pub(crate) fn huge_picture(&mut self, len: usize) -> Picture {
        Picture { is_key: false, nals: vec![self.slice(false, true, len)] }
    }

    /// Bytes without zeros, so that none of them looks like a start code; and dollars, but none that a channel's number follows.
    fn slice(&mut self, is_key: bool, is_first: bool, len: usize) -> Vec<u8> {
        let mut nal = match (self.codec, is_key) {
            (Codec::H264, true) => vec![0x65],
            (Codec::H264, false) => vec![0x41],
            (Codec::H265, true) => vec![0x26, 0x01],
            (Codec::H265, false) => vec![0x02, 0x01],
        };
        // Its first bit says whether it is the picture's first slice.
        nal.push(if is_first { 0x80 } else { 0x40 });
        while nal.len() < len {
            nal.extend(self.random.next().to_le_bytes().map(|byte| byte.max(1)));
        }
        nal.truncate(len);
        for at in 1..nal.len() {
            if nal[at - 1] == b'$' {
                nal[at] = 0x99;
            }
        }
        nal
    }
}

impl Picture {
    /// As a reader is to get it.
    pub(crate) fn annex_b(&self) -> Vec<u8> {
        self.nals.iter().flat_map(|nal| [&[0, 0, 0, 1], nal.as_slice()].concat()).collect()
    }

    /// The payloads of its packets: single NAL units, parameter sets in aggregates, large NAL units in fragments.
    pub(crate) fn payloads(&self, codec: Codec, most: usize) -> Vec<Vec<u8>> {
        let sets = self.nals.iter().take_while(|nal| is_parameter_set(codec, nal)).count();
        let mut payloads = Vec::new();
        if sets > 0 {
            payloads.push(aggregate(codec, &self.nals[..sets]));
        }
        for nal in &self.nals[sets..] {
            if nal.len() <= most {
                payloads.push(nal.clone());
            } else {
                fragment(codec, nal, most, &mut payloads);
            }
        }
        payloads
    }
}

impl Packet {
    /// The packet in an interleaved frame (RFC 2326 section 10.12).
    pub(crate) fn frame(&self, channel: u8, dressing: Dressing) -> Vec<u8> {
        let first = 0x80
            | match dressing {
                Dressing::Plain => 0,
                Dressing::Padding => 0x20,
                Dressing::Extension => 0x10,
                Dressing::Sources => 2,
            };
        let mut packet = vec![first, u8::from(self.is_last) << 7 | PAYLOAD_TYPE];
        packet.extend(self.sequence.to_be_bytes());
        packet.extend(self.timestamp.to_be_bytes());
        packet.extend(self.ssrc.to_be_bytes());
        match dressing {
            Dressing::Plain | Dressing::Padding => {}
            Dressing::Extension => packet.extend([0xab, 0xac, 0, 1, 1, 2, 3, 4]),
            Dressing::Sources => packet.extend([7; 8]),
        }
        packet.extend(&self.payload);
        if dressing == Dressing::Padding {
            packet.extend([0, 0, 3]);
        }
        frame(channel, &packet)
    }
}

/// `payload` as an interleaved frame.
pub(crate) fn frame(channel: u8, payload: &[u8]) -> Vec<u8> {
    let len = u16::try_from(payload.len()).unwrap().to_be_bytes();
    [&[b'$', channel, len[0], len[1]], payload].concat()
}

/// A sender report (RFC 3550 section 6.4.1) without blocks: at `unix_ns` the clock stood at `timestamp`.
pub(crate) fn sender_report(ssrc: u32, unix_ns: i64, timestamp: u32) -> Vec<u8> {
    let ns = u64::try_from(unix_ns).unwrap();
    let seconds = (ns / 1_000_000_000 + 2_208_988_800) & 0xffff_ffff;
    let fraction = ((ns % 1_000_000_000) << 32) / 1_000_000_000;
    let mut report = vec![0x80, 200, 0, 6];
    report.extend(ssrc.to_be_bytes());
    report.extend((seconds << 32 | fraction).to_be_bytes());
    report.extend(timestamp.to_be_bytes());
    report.extend([0; 8]);
    report
}

/// The parameter sets that the camera sends with each key picture.
pub(crate) const fn parameter_sets(codec: Codec) -> &'static [&'static [u8]] {
    match codec {
        Codec::H264 => &[
            &[
                0x67, 0x64, 0x00, 0x1f, 0xac, 0xd9, 0x40, 0x50, 0x05, 0xbb, 0x01, 0x10, 0x00, 0x00, 0x03,
                0x00, 0x10, 0x00, 0x00, 0x03, 0x03, 0xc0, 0xf1, 0x83, 0x19, 0x60,
            ],
            &[0x68, 0xeb, 0xe3, 0xcb, 0x22, 0xc0],
        ],
        Codec::H265 => &[
            &[0x40, 0x01, 0x0c, 0x01, 0xff, 0xff, 0x01, 0x60, 0x5d, 0x95, 0x98, 0x09],
            &[0x42, 0x01, 0x01, 0x01, 0x60, 0x5d, 0xa0, 0x02, 0x80, 0x80, 0x2d, 0x16, 0x59],
            &[0x44, 0x01, 0xc1, 0x72, 0xb4, 0x62, 0x40],
        ],
    }
}

fn is_parameter_set(codec: Codec, nal: &[u8]) -> bool {
    parameter_sets(codec).contains(&nal)
}

/// STAP-A or AP. The aggregate's header is not looked at but for its type.
fn aggregate(codec: Codec, nals: &[Vec<u8>]) -> Vec<u8> {
    let mut payload = match codec {
        Codec::H264 => vec![0x78],
        Codec::H265 => vec![0x60, 0x01],
    };
    for nal in nals {
        payload.extend(u16::try_from(nal.len()).unwrap().to_be_bytes());
        payload.extend(nal);
    }
    payload
}

/// FU-A or FU.
pub(crate) fn fragment(codec: Codec, nal: &[u8], most: usize, payloads: &mut Vec<Vec<u8>>) {
    let (header, kind) = match codec {
        Codec::H264 => (vec![nal[0] & 0xe0 | 28], nal[0] & 0x1f),
        Codec::H265 => (vec![nal[0] & 0x81 | 49 << 1, nal[1]], nal[0] >> 1 & 0x3f),
    };
    let pieces: Vec<&[u8]> = nal[header.len()..].chunks(most).collect();
    for (number, piece) in pieces.iter().enumerate() {
        let start = u8::from(number == 0) << 7;
        let end = u8::from(number + 1 == pieces.len()) << 6;
        payloads.push([&header[..], &[start | end | kind], piece].concat());
    }
}

pub(crate) const PAYLOAD_TYPE: u8 = 96;
