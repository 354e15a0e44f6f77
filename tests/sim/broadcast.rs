//! A simulated camera's media: pictures on the wire, harmed as the connection's conduct says, each entered in the truth.

use vms_media::codec::Codec;

use crate::conduct::Rates;
use crate::plan::CameraPlan;
use crate::random::Random;
use crate::truth::{Fate, Sent, Tally, Truth};
use crate::video::{Dressing, Encoder, PAYLOAD_TYPE, Packet, Picture, fragment, frame, sender_report};

/// Bytes of a picture that is too large for the simulation's arenas.
const HUGE_LEN: usize = 18_000;

/// The video of a camera over all its connections.
#[derive(Debug)]
pub(crate) struct Broadcast {
    codec: Codec,
    packet_len: usize,
    dressing: Dressing,
    sends_markers: bool,
    encoder: Encoder,
    random: Random,
    ssrc: u32,
    sequence: u16,
    timestamp_offset: u32,
    epoch: u32,
    jumped: bool,
    /// Packets lost since the last that went out.
    gap: u32,
    /// The picture before was harmed.
    is_shaken: bool,
    /// Until there, frames are taken for the rest of one that was cut short.
    torn_until: u64,
    /// Nothing was sent since the connection began or the source changed.
    is_first: bool,
    /// A picture that never ends has begun.
    is_endless: bool,
    /// Behind noise, only frames of this track are recognised.
    is_noisy: bool,
    /// What was sent last is of a channel that nobody set up.
    is_foreign: bool,
    /// The source that the daemon knows from this connection, and one of which it has to see more, since noise came before.
    known: Option<u32>,
    doubtful: Option<u32>,
    asked: u32,
    /// Where the newest packet ended.
    packet_end: u64,
}

/// One connection's wire: bytes for the daemon, of which `written` went before.
#[derive(Debug)]
pub(crate) struct Wire<'a> {
    pub(crate) bytes: Vec<u8>,
    pub(crate) written: u64,
    pub(crate) channel: u8,
    pub(crate) truth: &'a mut Truth,
}

impl Wire<'_> {
    fn at(&self) -> u64 {
        self.written + self.bytes.len() as u64
    }

    fn put(&mut self, bytes: &[u8], effect: Tally) {
        let start = self.at();
        self.bytes.extend_from_slice(bytes);
        self.truth.mark(start, self.at(), effect);
    }
}

impl Broadcast {
    pub(crate) fn new(plan: &CameraPlan, seed: u64) -> Self {
        let mut random = Random::lane(seed, 100 + u64::from(plan.number));
        Self {
            codec: plan.codec,
            packet_len: plan.sizes.packet,
            dressing: plan.dressing,
            sends_markers: plan.sends_markers,
            encoder: Encoder::new(plan.codec, plan.sizes, Random::lane(seed, 200 + u64::from(plan.number))),
            ssrc: random.word(),
            sequence: random.half(),
            timestamp_offset: random.word(),
            random,
            epoch: 0,
            jumped: false,
            gap: 0,
            is_shaken: false,
            torn_until: 0,
            is_first: true,
            is_endless: false,
            is_noisy: false,
            is_foreign: false,
            known: None,
            doubtful: None,
            asked: 0,
            packet_end: 0,
        }
    }

    /// A new connection. Cameras begin with a key picture.
    pub(crate) fn connect(&mut self) {
        self.encoder.refresh();
        self.begin_epoch();
        self.torn_until = 0;
        (self.is_shaken, self.is_endless, self.is_noisy) = (false, false, false);
        (self.is_foreign, self.known, self.doubtful) = (false, None, None);
        if self.random.one_in(2) {
            self.ssrc = self.random.word();
            self.sequence = self.random.half();
            self.timestamp_offset = self.random.word();
        }
    }

    /// Whether what is sent there is taken for the rest of a frame that was cut short.
    pub(crate) const fn is_torn_at(&self, at: u64) -> bool {
        at < self.torn_until
    }

    fn begin_epoch(&mut self) {
        self.epoch += 1;
        self.jumped = false;
        self.is_first = true;
        self.gap = 0;
    }

    /// The timestamp of a picture taken at `now_ns` of the camera's uptime.
    fn timestamp(&self, now_ns: u64) -> u32 {
        let ticks = u128::from(now_ns) * 90_000 / 1_000_000_000;
        self.timestamp_offset.wrapping_add(u32::try_from(ticks & 0xffff_ffff).unwrap())
    }

    /// Sends a picture and whatever the camera mixes in.
    pub(crate) fn picture(
        &mut self,
        now_ns: u64,
        captured_ns: Option<i64>,
        rates: &Rates,
        wire: &mut Wire<'_>,
    ) {
        self.change_course(rates);
        let is_huge = self.random.one_in(rates.huge);
        let picture = if is_huge { self.encoder.huge_picture(HUGE_LEN) } else { self.encoder.picture() };
        let payloads = picture.payloads(self.codec, if is_huge { 6000 } else { self.packet_len });
        let timestamp = self.timestamp(now_ns);
        let (start, lost_before, is_first) = (wire.at(), self.gap, self.is_first);
        let mut is_shaken = std::mem::take(&mut self.is_shaken) || lost_before > 0;
        let (mut went, mut lost) = (0, 0);
        let mut is_open = false;
        let count = payloads.len();
        let mut picture_sent = picture;
        for (number, mut payload) in payloads.into_iter().enumerate() {
            if self.random.one_in(rates.corrupt) {
                corrupt(&mut self.random, &mut payload, &mut picture_sent);
            }
            is_shaken |= self.mix_in(rates, wire);
            let is_last = self.sends_markers && number + 1 == count;
            let packet = Packet { sequence: self.sequence, timestamp, ssrc: self.ssrc, is_last, payload };
            self.sequence = self.sequence.wrapping_add(1);
            is_open = true;
            if self.random.one_in(rates.lose) {
                self.lose();
                lost += 1;
            } else if self.random.one_in(rates.bad_version) && !self.is_noisy {
                let mut bytes = packet.frame(wire.channel, Dressing::Plain);
                bytes[4] &= 0x3f;
                wire.put(&bytes, Tally { ignored: 1, ..Tally::default() });
                self.another_frame(wire.at(), wire.truth);
                self.lose();
                lost += 1;
            } else {
                self.put(&packet, rates, wire);
                went += 1;
                is_open = false;
            }
        }
        let is_torn = self.is_torn_at(start);
        let fate = match (is_torn, is_huge, lost) {
            (true, ..) => Fate::Torn,
            (false, true, 0) => Fate::Huge,
            (false, false, 0) if is_shaken => Fate::Shaken,
            (false, false, 0) => Fate::Whole,
            (false, _, _) => Fate::Harmed,
        };
        self.is_shaken = lost > 0 || is_huge || is_torn;
        let end = if self.sends_markers { self.packet_end } else { u64::MAX };
        let Self { ssrc, epoch, jumped, .. } = *self;
        if went > 0 {
            wire.truth.send(Sent {
                picture: picture_sent,
                fate,
                ssrc,
                timestamp,
                epoch,
                jumped,
                lost_before,
                is_first,
                is_open: is_open || !self.sends_markers,
                start,
                end,
                due: wire.truth.due(end),
                captured_ns,
            });
        }
    }

    /// More fragments of a picture that never ends.
    pub(crate) fn fragment_without_end(&mut self, wire: &mut Wire<'_>) {
        let header: &[u8] = if self.codec == Codec::H264 { &[0x41] } else { &[0x02, 0x01] };
        let mut nal = header.to_vec();
        nal.resize(3000, 0x55);
        nal[header.len()] = 0x80;
        let mut payloads = Vec::new();
        fragment(self.codec, &nal, 1000, &mut payloads);
        let is_start = !std::mem::replace(&mut self.is_endless, true);
        if is_start {
            // It has a timestamp of its own, or it would be more of the picture before.
            self.timestamp_offset = self.timestamp_offset.wrapping_add(3600);
        }
        let timestamp = self.timestamp_offset;
        let start = wire.at();
        for (number, mut payload) in payloads.into_iter().enumerate() {
            // Neither the end of a NAL unit, nor a start but the first.
            payload[header.len()] &= if is_start && number == 0 { 0xbf } else { 0x3f };
            let packet =
                Packet { sequence: self.sequence, timestamp, ssrc: self.ssrc, is_last: false, payload };
            self.sequence = self.sequence.wrapping_add(1);
            self.put(&packet, &Rates::default(), wire);
        }
        if let Some(sent) = wire.truth.last_sent().filter(|_| !is_start) {
            return sent.picture.nals[0].extend(&nal[header.len()..]);
        }
        let Self { ssrc, epoch, .. } = *self;
        wire.truth.send(Sent {
            picture: Picture { is_key: false, nals: vec![nal] },
            fate: Fate::Harmed,
            ssrc,
            timestamp,
            epoch,
            jumped: true,
            lost_before: 0,
            is_first: false,
            is_open: true,
            start,
            end: u64::MAX,
            due: u64::MAX,
            captured_ns: None,
        });
    }

    /// A sender report: the camera's clock says `clock_ns`.
    pub(crate) fn report(&mut self, now_ns: u64, clock_ns: i64, wire: &mut Wire<'_>) {
        let report = sender_report(self.ssrc, clock_ns, self.timestamp(now_ns));
        // Some cameras send it on the channel of the media.
        let channel = if self.random.one_in(8) { wire.channel } else { wire.channel.wrapping_add(1) };
        wire.put(&frame(channel, &report), Tally::default());
        self.another_frame(wire.at(), wire.truth);
    }

    /// Something else than a packet of the video was sent, `end` bytes into the connection: right behind a packet of another source,
    /// it settles that this was one. With noise between them too, no two headers follow each other, and nobody can know.
    pub(crate) fn another_frame(&mut self, end: u64, truth: &mut Truth) {
        self.is_foreign = false;
        match self.doubtful.take() {
            Some(ssrc) if self.is_noisy => {
                truth.refute(ssrc);
                self.is_shaken = true;
            }
            Some(ssrc) => {
                truth.settle(end);
                self.known = Some(ssrc);
            }
            None => {}
        }
    }

    /// The camera asks us something.
    pub(crate) fn ask(&mut self, wire: &mut Wire<'_>) {
        self.asked += 1;
        let method = self.random.pick(&["OPTIONS", "GET_PARAMETER", "SET_PARAMETER", "ANNOUNCE", "REDIRECT"]);
        let request = format!("{method} rtsp://camera/ RTSP/1.0\r\nCSeq: {}\r\n\r\n", self.asked);
        wire.put(request.as_bytes(), Tally::default());
        self.another_frame(wire.at(), wire.truth);
    }

    /// What the camera does between two pictures.
    fn change_course(&mut self, rates: &Rates) {
        if self.random.one_in(rates.source) {
            self.is_shaken |= self.gap > 0;
            self.ssrc = self.random.word();
            self.begin_epoch();
        }
        if self.random.one_in(rates.jump) {
            self.is_shaken |= self.gap > 0;
            let by = u16::try_from(self.random.between(4000, 60_000)).unwrap();
            self.sequence = self.sequence.wrapping_add(by);
            self.begin_epoch();
        }
        if self.random.one_in(rates.time) {
            self.timestamp_offset = self.random.word();
            self.jumped = true;
        }
    }

    /// Things between the packets. True when the open picture is shaken by them.
    fn mix_in(&mut self, rates: &Rates, wire: &mut Wire<'_>) -> bool {
        if self.random.one_in(rates.asks) && !self.is_noisy {
            self.ask(wire);
        }
        if self.random.one_in(rates.foreign) && !self.is_noisy {
            self.foreign(wire);
        }
        if !self.random.one_in(rates.noise) {
            return false;
        }
        self.is_noisy = true;
        let noise: Vec<u8> = (0..self.random.between(1, 60))
            .map(|_| self.random.pick(&[0x80, 0xff, 0xe0, b'a', b'x', 1, 2]))
            .collect();
        let skipped_bytes = noise.len() as u64;
        if std::mem::take(&mut self.is_foreign) {
            // Between a channel that nobody set up and noise, nobody can say what it was.
            wire.truth.is_vague_now();
        }
        wire.put(&noise, Tally { skipped_bytes, ..Tally::default() });
        if !self.sends_markers {
            shake_last(wire);
        }
        true
    }

    /// Frames that are not of this track.
    fn foreign(&mut self, wire: &mut Wire<'_>) {
        let mut packet = vec![0x80, PAYLOAD_TYPE];
        packet.extend([0x55; 20]);
        let (channel, packet) = match self.random.between(0, 3) {
            0 => (77, packet),
            1 => (wire.channel, packet[..5].to_vec()),
            2 => (wire.channel, Vec::new()),
            _ => {
                packet[1] = PAYLOAD_TYPE + 1;
                (wire.channel, packet)
            }
        };
        let (start, bytes) = (wire.at(), frame(channel, &packet));
        self.another_frame(start + bytes.len() as u64, wire.truth);
        wire.bytes.extend_from_slice(&bytes);
        // Of a channel that nobody set up, it is counted when something follows it.
        self.is_foreign = channel != wire.channel;
        let end = if self.is_foreign { u64::MAX } else { wire.at() };
        wire.truth.mark(start, end, Tally { ignored: 1, ..Tally::default() });
    }

    fn lose(&mut self) {
        // Nobody knows of packets that were lost before the first.
        self.gap += u32::from(!self.is_first);
        self.is_shaken = true;
    }

    /// Sends one packet, perhaps twice, perhaps cut short.
    fn put(&mut self, packet: &Packet, rates: &Rates, wire: &mut Wire<'_>) {
        let bytes = packet.frame(wire.channel, self.dressing);
        if self.doubtful.is_some_and(|ssrc| ssrc != self.ssrc) {
            self.another_frame(wire.at() + bytes.len() as u64, wire.truth);
        }
        let is_settling = self.doubtful.is_some();
        let is_strange = self.is_noisy && !is_settling && self.known.is_some_and(|ssrc| ssrc != self.ssrc);
        if is_strange {
            self.doubtful = Some(self.ssrc);
            wire.truth.doubt();
        }
        (self.is_noisy, self.is_foreign) = (false, false);
        let (start, mut is_cut) = (wire.at(), false);
        if !self.sends_markers && self.gap > 0 {
            shake_last(wire);
        }
        if self.random.one_in(rates.torn) && bytes.len() > 60 {
            let cut = self.random.size(40, bytes.len() - 1);
            self.torn_until = self.torn_until.max(wire.at() + bytes.len() as u64);
            wire.truth.is_vague_now();
            wire.put(&bytes[..cut], Tally::default());
            is_cut = true;
        } else {
            let lost = u64::from(std::mem::take(&mut self.gap));
            wire.put(&bytes, Tally { used: 1, lost, ..Tally::default() });
        }
        self.packet_end = wire.at();
        if is_settling {
            self.another_frame(wire.at(), wire.truth);
        }
        if !is_strange {
            self.known = Some(self.ssrc);
        }
        if self.random.one_in(rates.repeat) {
            wire.put(&bytes, Tally { repeated: 1, ..Tally::default() });
            self.another_frame(wire.at(), wire.truth);
        }
        self.is_first = false;
        self.gap = 0;
        // Without markers, a picture ends where the next begins.
        let at = self.packet_end;
        let mut due = wire.truth.due(at);
        // The last byte of a packet says how much of it is padding: it is nothing before that has come, and perhaps nothing then.
        if is_cut && self.dressing == Dressing::Padding {
            due = u64::MAX;
            if !self.sends_markers {
                shake_last(wire);
            }
        } else if start >= self.torn_until && self.doubtful.is_none() {
            wire.truth.settle(at);
        }
        if let Some(sent) = wire.truth.last_sent().filter(|sent| sent.end == u64::MAX && !self.is_endless) {
            (sent.end, sent.due) = (at, due);
        }
    }
}

fn shake_last(wire: &mut Wire<'_>) {
    if let Some(sent) = wire.truth.last_sent().filter(|sent| sent.fate == Fate::Whole) {
        sent.fate = Fate::Shaken;
    }
}

/// Other bytes in the picture and in its packet, where no header is hit.
fn corrupt(random: &mut Random, payload: &mut [u8], picture: &mut Picture) {
    let len = payload.len();
    if len < 40 {
        return;
    }
    let at = random.size(len / 2, len - 1);
    let tail: Vec<u8> = payload[at - 12..at].to_vec();
    // Found in the picture by the bytes before it.
    for nal in &mut picture.nals {
        if let Some(found) = nal.windows(12).position(|window| window == tail) {
            let byte = random.byte(0x25, 255);
            if let Some(place) = nal.get_mut(found + 12) {
                *place = byte;
                payload[at] = byte;
            }
            return;
        }
    }
}
