//! One camera with its network, and the stream that the daemon makes of it.

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;

use vms_media::ingest::{CameraConfig, ConnectFailure, PeerClose, Policy, Reason, State, Status};
use vms_media::publish::StreamState;
use vms_media::rtsp::CameraUrl;
use vms_media::time::{Mono, Now};

use crate::broadcast::{Broadcast, Wire};
use crate::conduct::{Blame, Conduct, Dial, End};
use crate::daemon::{Daemon, Wish};
use crate::link::{Arrival, Link, later};
use crate::model::Model;
use crate::plan::{Act, CameraPlan, Login};
use crate::random::Random;
use crate::server::{Answer, PASSWORD, Server, Then, USER, host};
use crate::tally::{Digest, Tally};
use crate::truth::Truth;
use crate::world::Queue;

/// Logins with a password that a camera refuses, and how long it is to have peace then.
const REFUSED_MAX: usize = 2;
const PEACE_S: u64 = 235;

/// What happens at a site.
#[derive(Clone, Debug)]
pub(crate) enum What {
    /// The daemon may have something to do.
    Due,
    /// The answer to SYN.
    Dialled {
        link: u64,
    },
    /// Bytes, or the connection's end, come to the daemon.
    Arrives {
        link: u64,
    },
    /// Bytes come to the camera.
    Request {
        link: u64,
    },
    /// The camera says what it had to say.
    Reply {
        link: u64,
    },
    /// The next picture is ready.
    Picture {
        link: u64,
    },
    Resolved {
        attempt: u64,
        answer: Result<Vec<SocketAddr>, String>,
    },
    Act(Act),
}

/// A camera, its stream, and what must hold of them.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) plan: CameraPlan,
    place: usize,
    pub(crate) daemon: Daemon,
    pub(crate) truth: Truth,
    pub(crate) model: Model,
    pub(crate) digest: Digest,
    pub(crate) tally: Tally,
    broadcast: Broadcast,
    link: Option<Link>,
    /// The connection ended in this step; what it brought is accounted for at the step's end.
    is_disconnected: bool,
    links: u64,
    redirects: u32,
    blame: Blame,
    refused: VecDeque<Mono>,
    random: Random,
    armed: Option<Mono>,
    pub(crate) is_stopping: bool,
    sessions: u64,
    /// Attempts that brought units and failed before it was told whether they streamed.
    unseen_sessions: u64,
    units_at_connect: u64,
    failures: u64,
    is_traced: bool,
}

impl Site {
    pub(crate) fn new(plan: &CameraPlan, place: usize, seed: u64, now: Now, is_traced: bool) -> Self {
        let login = if plan.login == Login::None { String::new() } else { format!("{USER}:{PASSWORD}@") };
        let (url, credentials) = CameraUrl::parse(&format!("rtsp://{login}{}/live", host(plan))).unwrap();
        let config = CameraConfig { url, credentials, policy: Policy::default() };
        let daemon_seed = Random::lane(seed, 300 + u64::from(plan.number)).next();
        Self {
            place,
            daemon: Daemon::new(u64::from(plan.number) + 1, config, daemon_seed, now),
            truth: Truth::default(),
            model: Model::new(Policy::default(), plan.lateness, now.mono),
            digest: Digest::default(),
            tally: Tally::default(),
            broadcast: Broadcast::new(plan, seed),
            link: None,
            is_disconnected: false,
            links: 0,
            redirects: 0,
            blame: Blame::default(),
            refused: VecDeque::new(),
            random: Random::lane(seed, 400 + u64::from(plan.number)),
            armed: None,
            is_stopping: false,
            sessions: 0,
            unseen_sessions: 0,
            units_at_connect: 0,
            failures: 0,
            is_traced,
            plan: plan.clone(),
        }
    }

    pub(crate) fn handle(&mut self, what: What, now: Now, queue: &mut Queue) {
        match what {
            What::Due => {
                let wishes = self.daemon.handle_timeout(now);
                self.fulfil(wishes, now, queue);
            }
            What::Act(act) => self.act(act, now, queue),
            What::Resolved { attempt, answer } => {
                self.trace(now, format_args!("resolved {answer:?}"));
                let wishes = self.daemon.call(now, |camera, _| camera.on_resolved(now, attempt, answer));
                self.fulfil(wishes, now, queue);
            }
            What::Dialled { link } if self.is_link(link) => self.dialled(now, queue),
            What::Arrives { link } if self.is_link(link) => self.arrives(now, queue),
            What::Request { link } if self.is_link(link) => self.request(now, queue),
            What::Reply { link } if self.is_link(link) => self.reply(now, queue),
            What::Picture { link } if self.is_link(link) => self.picture(now, queue),
            What::Dialled { .. }
            | What::Arrives { .. }
            | What::Request { .. }
            | What::Reply { .. }
            | What::Picture { .. } => {}
        }
    }

    /// The end of a step: the reader that misses nothing has seen all that was published in it.
    pub(crate) fn settle(&mut self, now: Now, units: usize, queue: &mut Queue) {
        if units > 0 {
            self.model.units_came(now.mono);
        }
        let stats = *self.daemon.camera.stats();
        if std::mem::take(&mut self.is_disconnected) {
            self.truth.disconnect(&stats);
        } else {
            self.truth.check_delivered(&stats);
        }
        let counters = self.daemon.sink.publisher.counters();
        let published = self.truth.published.len() as u64;
        assert_eq!((stats.units, counters.units, counters.last_seq), (published, published, published));
        assert_eq!((stats.key_units, counters.keyframes), (self.truth.keys, self.truth.keys));
        assert_eq!((stats.unit_bytes, counters.bytes), (self.truth.bytes, self.truth.bytes));
        assert_eq!(stats.damaged_units, self.truth.damaged);
        assert_eq!(stats.failures, self.failures);
        let reconnects =
            self.sessions.saturating_sub(1)..=(self.sessions + self.unseen_sessions).saturating_sub(1);
        assert!(
            reconnects.contains(&stats.reconnects),
            "{} reconnects, not {reconnects:?}",
            stats.reconnects
        );
        let is_healthy = self.plan.nature.is_empty() && self.model.state() == State::Streaming;
        self.daemon.check(now.mono, is_healthy);
        self.model.check(now.mono);
        let next = self.daemon.poll_timeout();
        if next != self.armed {
            self.armed = next;
            if let Some(next) = next {
                let at = later(
                    next.max(now.mono),
                    std::time::Duration::ZERO,
                    self.plan.lateness,
                    &mut self.random,
                );
                queue.push(at, self.place, What::Due);
            }
        } else if next.is_some_and(|next| next <= now.mono) {
            queue.push(now.mono, self.place, What::Due);
        }
    }

    fn is_link(&self, number: u64) -> bool {
        self.link.as_ref().is_some_and(|link| link.number == number)
    }

    fn act(&mut self, act: Act, now: Now, queue: &mut Queue) {
        if self.is_stopping {
            return;
        }
        self.trace(now, format_args!("operator: {act:?}"));
        self.refused.clear();
        self.blame = Blame::default();
        self.redirects = 0;
        let wishes = match act {
            Act::Restart => {
                self.model.start();
                // What the camera sends until it has heard that the session ends is passed over.
                self.truth.is_over |= self.link.is_some();
                self.daemon.call(now, |camera, sink| camera.start(now, sink))
            }
            Act::Stop => {
                self.is_stopping = true;
                self.truth.is_over = true;
                self.model.stop(now.mono);
                self.daemon.call(now, |camera, sink| camera.stop(now, sink))
            }
        };
        self.fulfil(wishes, now, queue);
        self.model.asked_is_done();
    }

    fn fulfil(&mut self, wishes: Vec<Wish>, now: Now, queue: &mut Queue) {
        for wish in wishes {
            assert!(!self.daemon.is_over, "{wish:?} after its end");
            match wish {
                Wish::Resolve { host, attempt } => self.resolve(&host, attempt, now, queue),
                Wish::Connect(address) => self.connect(address, now, queue),
                Wish::Send(bytes) => self.send(bytes, now, queue),
                Wish::Close => {
                    // As to a shard, it is nothing to close what has ended already.
                    let Some(link) = self.link.take() else { continue };
                    self.trace(now, format_args!("closes"));
                    let is_silent = link.is_set_up && !link.is_torn_down;
                    assert!(!is_silent, "the camera holds a session and is not told that it ends");
                    self.disconnected();
                }
                Wish::Status(status) => self.status(&status, now),
                Wish::Stopped => {
                    self.trace(now, format_args!("stopped"));
                    self.model.stopped(now.mono);
                    self.daemon.is_over = true;
                    assert_eq!(self.daemon.camera.poll_timeout(), None);
                    assert!(self.link.is_none(), "stopped, and the connection is open");
                    self.daemon.sink.publisher.close(Reason::Requested.number());
                }
            }
        }
    }

    fn disconnected(&mut self) {
        self.daemon.is_connected = false;
        self.truth.is_over = true;
        self.is_disconnected = true;
    }

    fn status(&mut self, status: &Status, now: Now) {
        self.trace(now, format_args!("{:?} ({:?}) {}", status.state, status.reason, status.detail));
        self.digest.add(&(now.mono.0, status.state, status.reason, status.next_attempt));
        self.tally.note_state(status);
        let from = self.model.state();
        if let Some(failure) = self.model.changed(now, status, self.blame) {
            self.failures += 1;
            self.tally.note_failure(failure);
            self.blame = Blame::default();
            self.redirects = 0;
            // Until the connection is closed, pictures may be published or not.
            self.truth.is_over = true;
        }
        let units = self.daemon.sink.publisher.counters().units;
        let has_begun = from == State::Connecting && units > self.units_at_connect;
        assert!(!has_begun || status.reason != Reason::ReplyTimeout, "called silent, and its video came");
        match (from, status.state) {
            (State::Connecting, State::Streaming) => self.sessions += 1,
            // The first picture, and what ends the attempt, in one receive.
            (State::Connecting, _) if has_begun => self.unseen_sessions += 1,
            _ => {}
        }
        if status.state == State::Connecting {
            self.units_at_connect = units;
        }
        let shown = if status.state == State::Streaming { StreamState::Live } else { StreamState::Stalled };
        self.daemon.show(shown, status);
    }

    fn resolve(&mut self, asked: &str, attempt: u64, now: Now, queue: &mut Queue) {
        assert_eq!(asked, host(&self.plan));
        let number = self.plan.number;
        let address = |last: u8| SocketAddr::from(([10, 0, number, last], 554));
        let fault = if self.random.percent(self.plan.mischief) { self.random.between(0, 7) } else { 7 };
        let (delay, answer) = match fault {
            0 => (self.random.millis(0, 5000), Err("no such name".to_owned())),
            1 => (self.random.millis(7000, 9000), Ok(vec![address(1)])),
            2 => (self.random.millis(0, 5000), Ok(Vec::new())),
            3 => (self.random.millis(0, 100), Ok(vec![address(9), address(1)])),
            4 => (self.random.millis(0, 5000), Ok(vec![address(1); 9])),
            _ => (self.random.millis(0, 100), Ok(vec![address(1)])),
        };
        if fault < 3 {
            self.blame.add(&[Reason::ResolveFailed]);
        }
        self.trace(now, format_args!("asks for {asked}"));
        if fault == 5 {
            // The answer to another question comes first.
            let other = What::Resolved { attempt: attempt + 1, answer: Ok(vec![address(9)]) };
            queue.push(now.mono + delay / 2, self.place, other);
        }
        queue.push(now.mono + delay, self.place, What::Resolved { attempt, answer });
    }

    fn connect(&mut self, address: SocketAddr, now: Now, queue: &mut Queue) {
        assert!(self.link.is_none(), "a second connection");
        let SocketAddr::V4(v4) = address else { panic!("{address} is nobody's") };
        let [10, 0, number, last] = v4.ip().octets() else { panic!("{address} is nobody's") };
        assert_eq!((number, address.port()), (self.plan.number, 554));
        let mut conduct = self.plan.conduct(&mut self.random);
        if last == 9 {
            conduct = Conduct { dial: Dial::Refuse, ..Conduct::default() };
        }
        self.trace(now, format_args!("connects to {address}: {:?}", conduct.deeds));
        self.tally.note_deeds(&conduct.deeds);
        let timeout_s = self.random.between(2, 70);
        let server = Server::new(&self.plan, &conduct, last == 2, self.redirects, timeout_s);
        self.redirects += 1;
        self.links += 1;
        if conduct.delay.as_secs() > 4 {
            self.blame.add(&[Reason::ReplyTimeout, Reason::NotRtsp, Reason::BadSdp, Reason::NoVideo]);
        }
        match conduct.dial {
            Dial::Accept => {}
            Dial::Refuse => self.blame.add(&[Reason::ConnectRefused]),
            Dial::Silent => self.blame.add(&[Reason::ConnectTimeout]),
            Dial::Unreachable => self.blame.add(&[Reason::ConnectFailed]),
        }
        let at = later(now.mono, 2 * self.plan.delay, self.plan.jitter, &mut self.random);
        if conduct.dial != Dial::Silent {
            queue.push(at, self.place, What::Dialled { link: self.links });
        }
        self.link = Some(Link::new(self.links, conduct, server, now.mono));
    }

    fn dialled(&mut self, now: Now, queue: &mut Queue) {
        let Some(link) = &mut self.link else { return };
        let failure = match link.conduct.dial {
            Dial::Accept | Dial::Silent => None,
            Dial::Refuse => Some(ConnectFailure::Refused),
            Dial::Unreachable => Some(ConnectFailure::Network("no route to host".to_owned())),
        };
        let wishes = if let Some(failure) = failure {
            self.link = None;
            self.daemon.call(now, |camera, _| camera.on_connect_failed(now, failure))
        } else {
            self.daemon.is_connected = true;
            self.truth.connect();
            if link.conduct.is_not_rtsp || link.conduct.flood.is_some() {
                self.truth.is_vague_now();
            }
            self.broadcast.connect();
            self.daemon.call(now, |camera, _| camera.on_connected(now))
        };
        self.fulfil(wishes, now, queue);
    }

    fn send(&mut self, bytes: Vec<u8>, now: Now, queue: &mut Queue) {
        self.digest.add(&(now.mono.0, &bytes));
        let Some(link) = self.link.as_mut().filter(|_| self.daemon.is_connected) else {
            panic!("it sends without a connection: {}", String::from_utf8_lossy(&bytes));
        };
        let text = bytes.windows(9);
        for start in text {
            link.is_set_up |= start.starts_with(b"PLAY rtsp");
            link.is_torn_down |= start.starts_with(b"TEARDOWN ");
        }
        if link.is_dead {
            return;
        }
        let number = link.number;
        link.requests.push_back(bytes);
        let at = later(now.mono, self.plan.delay, self.plan.jitter, &mut self.random);
        queue.push(at, self.place, What::Request { link: number });
    }

    fn arrives(&mut self, now: Now, queue: &mut Queue) {
        let Some(link) = &mut self.link else { return };
        let (number, arrival) = (link.number, link.take(now.mono));
        if link.has_more(now.mono) {
            queue.push(now.mono, self.place, What::Arrives { link: number });
        }
        let wishes = match arrival {
            None => return,
            Some(Arrival::Bytes(bytes)) => {
                self.trace(now, format_args!("gets {} bytes", bytes.len()));
                self.truth.deliver(bytes.len());
                self.daemon.call(now, |camera, sink| camera.on_bytes(now, &bytes, sink))
            }
            Some(Arrival::End(how)) => {
                self.trace(now, format_args!("is told {how:?}"));
                self.link = None;
                self.disconnected();
                self.daemon.call(now, |camera, sink| camera.on_closed(now, how, sink))
            }
        };
        self.fulfil(wishes, now, queue);
    }

    fn request(&mut self, now: Now, queue: &mut Queue) {
        let Some(link) = self.link.as_mut().filter(|link| !link.is_dead) else { return };
        let Some(bytes) = link.requests.pop_front() else { return };
        if bytes.first() != Some(&b'$') {
            link.heard_at = now.mono;
        }
        let refused = link.server.refused;
        let answers = link.server.receive(&bytes, &mut self.blame);
        let refused = link.server.refused - refused;
        let (number, delay) = (link.number, link.conduct.delay);
        for answer in answers {
            match answer {
                Answer::None => {}
                Answer::Send { bytes, and } => {
                    link.replies.push_back((bytes, and));
                    queue.push(now.mono + delay, self.place, What::Reply { link: number });
                }
                Answer::HangUp => {
                    let at = link.end(now.mono + self.plan.delay, PeerClose::Closed);
                    queue.push(at, self.place, What::Arrives { link: number });
                }
            }
        }
        self.refused.extend((0..refused).map(|_| now.mono));
        let newest =
            self.refused.len().checked_sub(1 + REFUSED_MAX).map(|at| now.mono.since(self.refused[at]));
        let is_calm = newest.is_none_or(|since| since.as_secs() >= PEACE_S);
        assert!(is_calm, "{} refused logins in {newest:?}", REFUSED_MAX + 1);
    }

    fn reply(&mut self, now: Now, queue: &mut Queue) {
        let Some(link) = &mut self.link else { return };
        let Some((bytes, and)) = link.replies.pop_front() else { return };
        let number = link.number;
        link.server.has_lost_answer |= self.broadcast.is_torn_at(link.written);
        let is_early = and == Then::Play && link.conduct.is_early && link.conduct.channel == 0;
        match and {
            Then::Nothing => {}
            Then::Play => {
                link.is_playing = true;
                link.heard_at = now.mono;
                if is_early {
                    // Before the channels are agreed on, what is no packet of version 2 is no frame.
                    self.truth.is_vague_now();
                    self.write_picture(now, queue);
                    self.tear_answer();
                }
                queue.push(now.mono + self.plan.frame, self.place, What::Picture { link: number });
            }
            Then::Stop => link.is_playing = false,
            Then::Noise => {
                self.write(&vec![0xe0; 1_100_000], now, queue);
                return;
            }
        }
        self.write(&bytes, now, queue);
        if let Some(link) = self.link.as_ref().filter(|_| !bytes.is_empty()) {
            self.broadcast.another_frame(link.written, &mut self.truth);
        }
    }

    /// The answer that follows is taken for the rest of a frame, if one was cut short: whether the camera plays can only be told by
    /// the video that comes.
    fn tear_answer(&mut self) {
        if let Some(link) = self.link.as_mut().filter(|link| self.broadcast.is_torn_at(link.written)) {
            link.is_answer_torn = true;
            self.blame.add(&[Reason::ReplyTimeout]);
        }
    }

    /// The camera writes; the network carries it.
    fn write(&mut self, bytes: &[u8], now: Now, queue: &mut Queue) {
        let Some(link) = &mut self.link else { return };
        let (delay, jitter, place, number) = (self.plan.delay, self.plan.jitter, self.place, link.number);
        let when = |random: &mut Random| later(now.mono, delay, jitter, random);
        let mut last = None;
        link.write(bytes, self.plan.pieces, &mut self.random, when, |at| {
            if last.replace(at) != Some(at) {
                queue.push(at, place, What::Arrives { link: number });
            }
        });
    }

    fn picture(&mut self, now: Now, queue: &mut Queue) {
        let Some(link) = self.link.as_mut().filter(|link| link.is_playing && !link.is_dead) else { return };
        link.check_heard(now.mono, self.plan.delay + self.plan.jitter + self.plan.lateness);
        let number = link.number;
        let mut next = self.plan.frame;
        if let Some((after, time)) = link.conduct.freeze
            && link.pictures == after
        {
            link.frozen_until = now.mono + time;
            self.blame.add(NO_VIDEO);
        }
        if let Some((after, end)) = link.conduct.end
            && link.pictures >= after
        {
            match end {
                End::Pause(time) => {
                    next = time;
                    link.conduct.end = None;
                    self.blame.add(NO_VIDEO);
                }
                End::Endless => {
                    self.blame.add(NO_VIDEO);
                    self.blame.add(&[Reason::LimitExceeded]);
                    self.write_fragments(now, queue);
                    return queue.push(now.mono + next, self.place, What::Picture { link: number });
                }
                End::Stall | End::Close | End::Reset | End::Vanish { .. } => {
                    return self.end(end, now, queue);
                }
            }
        }
        self.write_picture(now, queue);
        queue.push(now.mono + next, self.place, What::Picture { link: number });
    }

    fn end(&mut self, end: End, now: Now, queue: &mut Queue) {
        let Some(link) = &mut self.link else { return };
        link.is_playing = false;
        let at = later(now.mono, self.plan.delay, self.plan.jitter, &mut self.random);
        let at = match end {
            End::Stall | End::Pause(_) | End::Endless => {
                self.blame.add(NO_VIDEO);
                return;
            }
            End::Close => {
                self.blame.add(&[Reason::ConnectionClosed]);
                link.end(at, PeerClose::Closed)
            }
            End::Reset => {
                self.blame.add(&[Reason::ConnectionLost]);
                link.lose_all();
                link.end(at, PeerClose::Reset)
            }
            End::Vanish { told } => {
                self.blame.add(NO_VIDEO);
                link.is_dead = true;
                link.lose_all();
                if !told {
                    return;
                }
                self.blame.add(&[Reason::ConnectionLost]);
                let at = now.mono + self.random.millis(8_000, 25_000);
                link.end(at, PeerClose::TimedOut)
            }
        };
        link.is_torn_down |= end != End::Stall;
        queue.push(at, self.place, What::Arrives { link: link.number });
    }

    fn write_picture(&mut self, now: Now, queue: &mut Queue) {
        let Some(link) = &mut self.link else { return };
        let rates = link.conduct.rates;
        if rates.lose + rates.bad_version + rates.torn + rates.huge > 0 {
            self.blame.add(NO_VIDEO);
            self.blame.add(&[Reason::LimitExceeded]);
        }
        let clock_ns = CAMERA_EPOCH_NS + i64::try_from(now.mono.0).unwrap();
        let is_truthful = !link.conduct.lies_about_time;
        let mut wire = Wire {
            bytes: Vec::new(),
            written: link.written,
            channel: link.conduct.channel,
            truth: &mut self.truth,
        };
        self.broadcast.picture(now.mono.0, is_truthful.then_some(clock_ns), &rates, &mut wire);
        if self.plan.reports && self.random.one_in(4) {
            let wrong_ns = self.random.between(0, 4_000_000_000_000_000_000);
            let clock_ns = if is_truthful { clock_ns } else { i64::try_from(wrong_ns).unwrap() };
            self.broadcast.report(now.mono.0, clock_ns, &mut wire);
        }
        if link.conduct.asks_without_end && link.pictures + 1 == u32::from(self.plan.number) {
            self.blame.add(&[Reason::NotRtsp]);
            (0..400).for_each(|_| self.broadcast.ask(&mut wire));
        }
        let bytes = wire.bytes;
        link.pictures += 1;
        self.write(&bytes, now, queue);
    }

    fn write_fragments(&mut self, now: Now, queue: &mut Queue) {
        let Some(link) = &mut self.link else { return };
        let channel = link.conduct.channel;
        let mut wire = Wire { bytes: Vec::new(), written: link.written, channel, truth: &mut self.truth };
        self.broadcast.fragment_without_end(&mut wire);
        let bytes = wire.bytes;
        self.write(&bytes, now, queue);
    }

    /// A line for who looks at one seed.
    pub(crate) fn trace(&self, now: Now, what: fmt::Arguments<'_>) {
        if self.is_traced {
            let at = now.mono.since(crate::world::START);
            println!("{:>12.6} camera {}: {what}", at.as_secs_f64(), self.plan.number);
        }
    }
}

/// What the clock of all cameras says at the daemon's monotonic 0.
const CAMERA_EPOCH_NS: i64 = 1_700_000_000_000_000_000;
/// What may be said of a camera that sends no pictures, or none that can be used.
const NO_VIDEO: &[Reason] = &[Reason::NoVideoData, Reason::NoFirstFrame];
