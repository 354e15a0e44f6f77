//! One TCP connection to a camera: RTSP and interleaved RTP, from the first byte sent to the last received.
//!
//! ```text
//!  bytes ─▶ Framer ─┬─ text ─▶ Session ─▶ what to send, what was agreed
//!                   └─ data ─▶ Receiver ─▶ access units ─▶ Watch: do they flow?
//! ```
//! Invariant: when [`Progress::Failed`], [`Progress::Redirected`] or [`Progress::Left`] comes out, the media have
//! been ended: no unit is open in the sink.

use std::collections::VecDeque;

use super::failure::{Failure, PeerClose};
use super::policy::Policy;
use super::receiver::Receiver;
use super::stats::CameraStats;
use super::watch::{Finding, Watch};
use crate::codec::AccessUnitSink;
use crate::rtp::MediaClock;
use crate::rtsp::{
    CameraUrl, Channels, Credentials, Event, Framer, FramerError, Leftover, Media, RtpInfo, Session,
    SessionConfig, SessionError, SessionEvent,
};
use crate::time::{Mono, Now};

/// What the camera's coordinator has to know.
#[derive(Debug)]
pub(super) enum Progress {
    /// The first unit came, or the first after a stall.
    Streaming,
    /// No unit came for the idle time-out, for what looks like this reason.
    Stalled(Failure),
    /// Units have flowed for long enough to forget earlier failures.
    Stable,
    /// The camera is elsewhere.
    Redirected {
        /// Where.
        url: CameraUrl,
        /// Whether our credentials may go there.
        keep_credentials: bool,
    },
    /// The connection is of no more use.
    Failed(Failure),
    /// The session was ended as asked.
    Left,
}

#[derive(Debug)]
pub(super) struct Connection {
    framer: Framer,
    session: Session,
    media: MediaState,
    /// From PLAY's answer on.
    watch: Option<Watch>,
    /// Units that came without a watch.
    units_before_play: u64,
    report_at: Option<Mono>,
    policy: Policy,
    seed: u64,
    progress: VecDeque<Progress>,
    /// What ended the connection; comes out behind `progress`, also behind units of the same bytes.
    ending: Option<Progress>,
    speaks: Speaks,
    /// The framer has skipped bytes since the last thing that it understood.
    is_searching: bool,
    is_over: bool,
}

/// What the peer has shown itself to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Speaks {
    /// It has sent nothing.
    Nothing,
    /// It has sent bytes, but no RTSP message.
    Something,
    Rtsp,
}

/// Video cannot be received before it was described; its clock outlives the connection.
#[derive(Debug)]
enum MediaState {
    Undescribed(MediaClock),
    Described(Box<Receiver>),
}

impl Connection {
    /// The connection stands. `seed` decides the client nonces of Digest and our SSRC.
    pub(super) fn open(
        now: Now,
        url: &CameraUrl,
        credentials: Option<&Credentials>,
        policy: &Policy,
        clock: MediaClock,
        seed: u64,
    ) -> Self {
        let config = SessionConfig {
            reply_timeout: policy.reply_timeout,
            teardown_timeout: policy.teardown_timeout,
            login_tries: policy.login_tries,
            ..SessionConfig::default()
        };
        let mut session = Session::new(url, credentials, config, seed);
        session.start(now.mono);
        Self {
            framer: Framer::new(),
            session,
            media: MediaState::Undescribed(clock),
            watch: None,
            units_before_play: 0,
            report_at: None,
            policy: policy.clone(),
            seed,
            progress: VecDeque::new(),
            ending: None,
            speaks: Speaks::Nothing,
            is_searching: false,
            is_over: false,
        }
    }

    /// What the connection before may have left at the camera.
    pub(super) fn set_leftover(&mut self, leftover: Leftover) {
        self.session.set_leftover(leftover);
    }

    /// Bytes from the camera.
    pub(super) fn receive(
        &mut self,
        now: Now,
        mut bytes: &[u8],
        stats: &mut CameraStats,
        sink: &mut impl AccessUnitSink,
    ) {
        if self.speaks == Speaks::Nothing {
            self.speaks = Speaks::Something;
        }
        while !self.is_over {
            match self.framer.next(&mut bytes) {
                Ok(Some(event)) => self.on_event(now, event, stats, sink),
                Ok(None) => break,
                Err(error) => self.on_framing_error(error, sink),
            }
        }
        self.note_units(now, stats);
    }

    /// The connection ended from outside.
    pub(super) fn peer_closed(
        &mut self,
        now: Now,
        how: PeerClose,
        stats: &mut CameraStats,
        sink: &mut impl AccessUnitSink,
    ) {
        let failure = if self.speaks == Speaks::Something { Failure::NotRtsp } else { Failure::Closed(how) };
        self.fail(failure, sink);
        self.account(now, stats);
    }

    /// Ends the session politely, also after a failure; [`Progress::Left`] follows, or another failure. The media
    /// have been ended: what the camera sends until it has heard is passed over, and what was found before is forgotten.
    pub(super) fn leave(&mut self, now: Now) {
        self.media = MediaState::Undescribed(self.take_clock());
        self.progress.clear();
        self.watch = None;
        self.report_at = None;
        self.is_over = false;
        self.session.teardown(now.mono);
        if !self.session.is_set_up() {
            self.finish(Progress::Left);
        }
    }

    /// The camera's policy has changed. The session keeps the time-out that its requests were sent with.
    pub(super) fn set_policy(&mut self, policy: &Policy) {
        self.policy = policy.clone();
        if let Some(watch) = &mut self.watch {
            watch.set_idle_timeout(policy.idle_timeout);
        }
    }

    /// Whether the camera holds a session for us, which it might want to hear the end of.
    pub(super) const fn is_set_up(&self) -> bool {
        self.session.is_set_up()
    }

    pub(super) fn poll_timeout(&self) -> Option<Mono> {
        let watch = self.watch.as_ref().map(Watch::poll_timeout);
        [self.session.poll_timeout(), watch, self.report_at].into_iter().flatten().min()
    }

    pub(super) fn handle_timeout(
        &mut self,
        now: Now,
        stats: &mut CameraStats,
        sink: &mut impl AccessUnitSink,
    ) {
        self.session.handle_timeout(now.mono);
        self.on_session_events(now, sink);
        if let Some(finding) = self.watch.as_mut().and_then(|watch| watch.handle_timeout(now.mono)) {
            self.on_finding(finding, sink);
        }
        if self.report_at.is_some_and(|at| at <= now.mono) {
            self.report_at = Some(now.mono + self.policy.report_interval);
            if let MediaState::Described(receiver) = &mut self.media {
                receiver.report(now);
            }
        }
        if self.is_over { self.account(now, stats) } else { self.note_units(now, stats) }
    }

    /// What was agreed with the camera.
    pub(super) const fn session(&self) -> &Session {
        &self.session
    }

    /// The next thing that the coordinator has to know.
    pub(super) fn poll_progress(&mut self) -> Option<Progress> {
        self.progress.pop_front().or_else(|| self.ending.take())
    }

    /// Moves bytes for the camera behind what `out` has.
    pub(super) fn take_transmit(&mut self, out: &mut Vec<u8>) {
        if let Some(bytes) = self.session.poll_transmit() {
            out.extend_from_slice(&bytes);
        }
        if let MediaState::Described(receiver) = &mut self.media {
            receiver.take_transmit(out);
        }
    }

    /// Drops or completes the open unit.
    pub(super) fn end_media(&mut self, now: Now, stats: &mut CameraStats, sink: &mut impl AccessUnitSink) {
        self.flush(sink);
        self.account(now, stats);
    }

    pub(super) fn is_unit_open(&self) -> bool {
        matches!(&self.media, MediaState::Described(receiver) if receiver.is_unit_open())
    }

    /// The media clock, for the next connection.
    pub(super) fn into_clock(mut self) -> MediaClock {
        self.take_clock()
    }

    fn take_clock(&mut self) -> MediaClock {
        match std::mem::replace(&mut self.media, MediaState::Undescribed(MediaClock::new())) {
            MediaState::Undescribed(clock) => clock,
            MediaState::Described(receiver) => receiver.into_clock(),
        }
    }

    fn on_event(
        &mut self,
        now: Now,
        event: Event<'_>,
        stats: &mut CameraStats,
        sink: &mut impl AccessUnitSink,
    ) {
        // One search may be told in pieces.
        let is_skipped = matches!(event, Event::Skipped { .. });
        if std::mem::replace(&mut self.is_searching, is_skipped) && !is_skipped {
            stats.resyncs += 1;
        }
        match event {
            Event::Response(response) => {
                self.speaks = Speaks::Rtsp;
                // What came before it is no sign of what is asked for behind it.
                self.note_units(now, stats);
                self.session.on_response(&response, now.mono);
                self.on_session_events(now, sink);
            }
            Event::Request(request) => {
                self.speaks = Speaks::Rtsp;
                self.session.on_request(&request);
                self.on_session_events(now, sink);
            }
            Event::Frame { channel, payload } => {
                if let MediaState::Described(receiver) = &mut self.media {
                    receiver.frame(now, channel, payload, stats, sink);
                    self.framer.set_source(receiver.source());
                }
            }
            // A frame in one piece, by the way of those in several: what is usual stays by itself.
            Event::Found { channel, payload } => {
                if let MediaState::Described(receiver) = &mut self.media {
                    receiver.frame_begin(channel, payload.len(), stats);
                    receiver.frame_bytes(now, &payload, stats, sink);
                    self.framer.set_source(receiver.source());
                }
            }
            Event::DataStart { channel, len } => {
                if let MediaState::Described(receiver) = &mut self.media {
                    receiver.frame_begin(channel, len.into(), stats);
                }
            }
            Event::Data(bytes) => {
                if let MediaState::Described(receiver) = &mut self.media {
                    receiver.frame_bytes(now, bytes, stats, sink);
                    self.framer.set_source(receiver.source());
                }
            }
            // The packet's own length has ended it.
            Event::DataEnd => {}
            Event::Skipped { bytes } => {
                stats.skipped_bytes += bytes as u64;
                if let MediaState::Described(receiver) = &mut self.media {
                    receiver.note_damage();
                }
            }
        }
    }

    /// A search that is given up may not have been told, and ends with nothing.
    fn on_framing_error(&mut self, error: FramerError, sink: &mut impl AccessUnitSink) {
        self.is_searching = false;
        if let MediaState::Described(receiver) = &mut self.media {
            receiver.note_damage();
        }
        self.fail(Failure::Framing(error), sink);
    }

    fn on_session_events(&mut self, now: Now, sink: &mut impl AccessUnitSink) {
        while let Some(event) = self.session.poll_event() {
            match event {
                SessionEvent::Described { media } => self.on_described(&media),
                SessionEvent::Playing { channels, rtp_info } => self.on_playing(now, channels, rtp_info),
                SessionEvent::Redirect { url, keep_credentials } => {
                    self.end(Progress::Redirected { url, keep_credentials }, sink);
                }
                SessionEvent::Failed(SessionError::ReplyTimeout { .. })
                    if self.speaks == Speaks::Something =>
                {
                    self.fail(Failure::NotRtsp, sink);
                }
                SessionEvent::Failed(error) => self.fail(Failure::Session(error), sink),
                SessionEvent::Closed => self.end(Progress::Left, sink),
            }
        }
    }

    fn on_described(&mut self, media: &Media) {
        let Some(codec) = media.codec else { return };
        let MediaState::Undescribed(clock) = &mut self.media else { return };
        self.framer.set_payload_type(media.payload_type);
        let receiver = Receiver::new(codec, media, self.session.channels(), std::mem::take(clock), self.seed);
        self.media = MediaState::Described(Box::new(receiver));
    }

    fn on_playing(&mut self, now: Now, channels: Channels, rtp_info: RtpInfo) {
        self.framer.set_channels(channels.rtp, channels.rtcp);
        if let MediaState::Described(receiver) = &mut self.media {
            receiver.set_channels(channels, rtp_info);
        }
        self.watch = Some(Watch::begin(now.mono, &self.policy));
        self.report_at = Some(now.mono + self.policy.report_interval);
    }

    fn flush(&mut self, sink: &mut impl AccessUnitSink) {
        if let MediaState::Described(receiver) = &mut self.media {
            receiver.end(sink);
        }
    }

    fn account(&mut self, now: Now, stats: &mut CameraStats) {
        if let MediaState::Described(receiver) = &mut self.media {
            receiver.account(now.mono, stats);
        }
    }

    fn note_units(&mut self, now: Now, stats: &mut CameraStats) {
        let MediaState::Described(receiver) = &mut self.media else { return };
        receiver.account(now.mono, stats);
        let Some(watch) = &mut self.watch else {
            if receiver.units() > self.units_before_play {
                self.units_before_play = receiver.units();
                self.session.note_video();
            }
            return;
        };
        let newest = stats.last_unit.unwrap_or(now.mono);
        match watch.note_units(now.mono, receiver.units(), newest) {
            Some(Finding::Flowing) => self.progress.push_back(Progress::Streaming),
            Some(Finding::Stable) => self.progress.push_back(Progress::Stable),
            Some(Finding::Stalled | Finding::NeverBegan | Finding::Dead) | None => {}
        }
    }

    fn on_finding(&mut self, finding: Finding, sink: &mut impl AccessUnitSink) {
        match finding {
            Finding::Flowing | Finding::Stable => {}
            Finding::Stalled => {
                let why = self.why_no_unit(Failure::Idle);
                self.progress.push_back(Progress::Stalled(why));
            }
            Finding::NeverBegan => self.fail(self.why_no_unit(Failure::NoFirstFrame), sink),
            Finding::Dead => self.fail(self.why_no_unit(Failure::Idle), sink),
        }
    }

    /// `otherwise`, unless units came since the newest that was completed, and outgrew the limit.
    fn why_no_unit(&self, otherwise: Failure) -> Failure {
        match &self.media {
            MediaState::Described(receiver) if receiver.oversized_units() > 0 => Failure::UnitsTooLarge,
            MediaState::Described(_) | MediaState::Undescribed(_) => otherwise,
        }
    }

    fn fail(&mut self, failure: Failure, sink: &mut impl AccessUnitSink) {
        self.end(Progress::Failed(failure), sink);
    }

    /// Nothing more comes out of this connection.
    fn end(&mut self, last: Progress, sink: &mut impl AccessUnitSink) {
        if !self.is_over {
            self.flush(sink);
            self.finish(last);
        }
    }

    fn finish(&mut self, last: Progress) {
        self.is_over = true;
        self.ending = Some(last);
    }
}
