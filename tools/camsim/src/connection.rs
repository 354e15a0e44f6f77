//! One client: its requests, its play session, and its link.

use std::collections::VecDeque;

use crate::answer::{Answer, Effect};
use crate::clock::{self, NS_PER_SECOND};
use crate::faults::kind::Life;
use crate::flood::Flood;
use crate::link::{Gone, Link, Sent};
use crate::player::{Player, Turn};
use crate::request::{self, Request};
use crate::rtsp::{RtspConnection, Scene};
use crate::server::World;
use crate::truth::Fact;

/// A client that is connected.
#[derive(Debug)]
pub(crate) struct Connection {
    /// Of all connections of the farm, from 1.
    pub(crate) id: u64,
    pub(crate) link: Link,
    /// The server watches the socket for room.
    pub(crate) watches_room: bool,
    /// When it wants to be called; the server takes them.
    pub(crate) dues: Vec<Due>,
    /// Units of the last session.
    pub(crate) units: u64,
    rtsp: RtspConnection,
    input: Vec<u8>,
    /// A request that came while the camera was mute.
    unanswered: Option<Request>,
    player: Option<Box<Player>>,
    flood: Option<Flood>,
    /// Answers that a slow camera has not given yet.
    late: VecDeque<Late>,
    /// The answer to PLAY, for a camera that sends video first.
    held: Option<Vec<u8>>,
    /// Video flows.
    flowing: bool,
    /// Close when the link is drained.
    closing: Option<Gone>,
    /// Interleaved frames that came from the client.
    frames: u64,
    heard: Heard,
}

/// When something last came from the client.
#[derive(Debug, Clone, Copy)]
struct Heard {
    request_ns: u64,
    frame_ns: u64,
}

#[derive(Debug)]
struct Late {
    at_ns: u64,
    answer: Answer,
    method: String,
}

/// When a connection wants to be called, and for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Due {
    pub(crate) at_ns: u64,
    what: u64,
}

impl Connection {
    /// `camera`: the one whose own port the client came to.
    pub(crate) fn new(id: u64, camera: Option<usize>, link: Link, world: &mut World) -> Self {
        let now_ns = clock::mono_ns();
        Self {
            id,
            link,
            watches_room: false,
            dues: Vec::new(),
            units: 0,
            rtsp: RtspConnection::new(id, camera, &mut world.rng, now_ns),
            input: Vec::new(),
            unanswered: None,
            player: None,
            flood: None,
            late: VecDeque::new(),
            held: None,
            flowing: false,
            closing: None,
            frames: 0,
            heard: Heard { request_ns: now_ns, frame_ns: now_ns },
        }
    }

    /// The camera that the client wants, as far as it has said.
    pub(crate) const fn camera(&self) -> Option<usize> {
        self.rtsp.camera()
    }

    /// The server should tell when the socket has room again.
    pub(crate) fn wants_room(&self) -> bool {
        !self.link.is_drained() || self.flood.is_some()
    }

    /// Reads and answers what has arrived.
    pub(crate) fn on_readable(&mut self, world: &mut World, buffer: &mut [u8]) -> Result<(), Gone> {
        self.link.receive(&mut self.input, buffer)?;
        self.work(world)
    }

    /// Answers what was read, unless the camera is mute: then it waits until this is called again.
    pub(crate) fn work(&mut self, world: &mut World) -> Result<(), Gone> {
        let (now_ns, frames) = (clock::mono_ns(), self.frames);
        while let Some(request) = self.next_request()? {
            self.rtsp.note_camera(&request, &world.farm);
            if world.plan.of(self.camera()).life(Life::Mute).is_some() {
                self.unanswered = Some(request);
                return if self.input.len() > UNREAD_LEN_MAX { Err(Gone::Camera) } else { Ok(()) };
            }
            self.heard.request_ns = now_ns;
            self.answer(&request, world)?;
        }
        if self.frames > frames {
            self.heard.frame_ns = now_ns;
        }
        self.say_what_is_late(world)?;
        self.close_if_done()
    }

    fn next_request(&mut self) -> Result<Option<Request>, Gone> {
        if let Some(request) = self.unanswered.take() {
            return Ok(Some(request));
        }
        request::next(&mut self.input, &mut self.frames).map_err(|request::BadInput| Gone::Camera)
    }

    /// Sends what waits for room.
    pub(crate) fn on_room(&mut self) -> Result<(), Gone> {
        if let Some(flood) = &mut self.flood {
            return self.link.pump(FLOOD_ROUNDS, |out| flood.fill(out));
        }
        self.link.flush()?;
        self.close_if_done()
    }

    /// It is time for what `due` says.
    pub(crate) fn on_due(&mut self, due: Due, world: &mut World) -> Result<(), Gone> {
        if due.what == ANSWERS {
            return self.work(world);
        }
        match self.player.take() {
            Some(mut player) if player.id == due.what => {
                let goes_on = self.on_unit_due(&mut player, world);
                self.units = player.units();
                if goes_on? {
                    self.dues.push(Due { at_ns: player.due_ns(), what: player.id });
                    self.player = Some(player);
                }
            }
            other => self.player = other,
        }
        self.close_if_done()
    }

    /// Whether another unit follows.
    fn on_unit_due(&mut self, player: &mut Player, world: &mut World) -> Result<bool, Gone> {
        let now_ns = clock::mono_ns();
        let faults = world.plan.of(Some(player.camera));
        let is_mute = faults.life(Life::Mute).is_some();
        if self.is_neglected(now_ns, world, player.camera) {
            return Err(Gone::Camera);
        }
        world.stats[player.camera].held_up += u64::from(player.forgive(now_ns));
        if !is_mute && let Some(report) = player.report(now_ns, clock::utc_ns(), faults) {
            self.link.send(&report)?;
        }
        match player.turn(world.farm.config.once, faults) {
            Turn::Send => self.send(player, world)?,
            Turn::Skip => {
                self.note_flow(player, false, world);
                player.skipped();
            }
            Turn::SkipBroken => {
                world.stats[player.camera].dropped += 1;
                player.skipped();
            }
            Turn::Finish => {
                self.link.send(&player.bye())?;
                self.note_flow(player, false, world);
                self.closing = Some(Gone::Camera);
                return Ok(false);
            }
            Turn::Close => return Err(Gone::Camera),
            Turn::Reset => return Err(Gone::CameraReset),
        }
        Ok(true)
    }

    fn send(&mut self, player: &mut Player, world: &mut World) -> Result<(), Gone> {
        let World { farm, plan, scratch, rng, .. } = world;
        let faults = plan.of(Some(player.camera));
        player.bend(faults, rng);
        // The clock is read last: the stamp says when the kernel got the unit.
        let now_ns = clock::mono_ns();
        let (sent, next_sequence) = if faults.bends_units() {
            let wire = player.wire(scratch, now_ns, faults, rng);
            let bytes = wire.to_bytes();
            let sent =
                self.link.send_unit(bytes.len(), std::iter::once(bytes.as_slice()), farm.config.write)?;
            (sent, Some(wire.next_sequence))
        } else {
            let packets = player.packetize(scratch, now_ns);
            (self.link.send_unit(packets.len(), packets.slices(), farm.config.write)?, None)
        };
        match sent {
            Sent::Taken => {
                world.stats[player.camera].units += 1;
                self.note_flow(player, true, world);
                player.sent(next_sequence);
            }
            Sent::Dropped => {
                world.stats[player.camera].dropped += 1;
                player.dropped();
            }
        }
        if let Some(answer) = self.held.take() {
            self.link.send(&answer)?;
        }
        Ok(())
    }

    /// The client has not said what it should have, for too long.
    fn is_neglected(&self, now_ns: u64, world: &World, camera: usize) -> bool {
        let faults = world.plan.of(Some(camera));
        let is_over = |life, since_ns: u64| {
            faults.life(life).is_some_and(|seconds| now_ns.saturating_sub(since_ns) > seconds * NS_PER_SECOND)
        };
        is_over(Life::NeedsReports, self.heard.frame_ns)
            || is_over(Life::NeedsKeepalive, self.heard.request_ns)
    }

    fn answer(&mut self, request: &Request, world: &mut World) -> Result<(), Gone> {
        let now_ns = clock::mono_ns();
        let World { farm, plan, sessions, rng, .. } = world;
        let faults = plan.of(self.rtsp.camera());
        // With a port for all cameras this is the first that a camera can know.
        if faults.refuses() && !self.rtsp.is_set_up() {
            return Err(Gone::CameraReset);
        }
        let late_ns = faults.life(Life::SlowAnswers).unwrap_or(0) * (NS_PER_SECOND / 1000);
        let answer = self.rtsp.answer(request, &mut Scene { farm, plan, sessions, rng, now_ns });
        if late_ns == 0 && self.late.is_empty() {
            return self.say(answer, &request.method, world);
        }
        let at_ns = (now_ns + late_ns).max(self.late.back().map_or(0, |last| last.at_ns));
        self.late.push_back(Late { at_ns, answer, method: request.method.clone() });
        self.dues.push(Due { at_ns, what: ANSWERS });
        Ok(())
    }

    fn say_what_is_late(&mut self, world: &mut World) -> Result<(), Gone> {
        let now_ns = clock::mono_ns();
        while let Some(late) = self.late.pop_front_if(|late| late.at_ns <= now_ns) {
            self.say(late.answer, &late.method, world)?;
        }
        Ok(())
    }

    fn say(&mut self, answer: Answer, method: &str, world: &mut World) -> Result<(), Gone> {
        let bytes = answer.to_bytes();
        let comes_late = world.plan.of(self.camera()).life(Life::EarlyMedia).is_some();
        if comes_late && matches!(answer.effect, Effect::Play(_)) {
            self.held = Some(bytes);
        } else {
            self.link.send(&bytes)?;
        }
        if answer.status >= 300 && answer.status != 401 {
            let camera = self.camera().map(|camera| world.farm.name(camera));
            let fact = Fact::Refused { connection: self.id, camera, method, status: answer.status };
            world.truth.tell(fact);
        }
        self.apply(answer.effect, world);
        Ok(())
    }

    fn apply(&mut self, effect: Effect, world: &mut World) {
        let World { farm, stats, sessions, truth, .. } = world;
        let connection = self.id;
        match effect {
            Effect::None => {}
            Effect::SetUp { camera } => {
                sessions.begin(camera, connection, self.rtsp.session_id());
                truth.tell(Fact::Session { connection, camera: farm.name(camera) });
            }
            Effect::Play(player) => {
                stats[player.camera].plays += 1;
                truth.tell(Fact::Playing { connection, camera: farm.name(player.camera) });
                self.dues.push(Due { at_ns: player.due_ns(), what: player.id });
                self.player = Some(player);
            }
            Effect::Pause => self.stop_playing(world),
            Effect::Flood(flood) => self.flood = Some(flood),
            Effect::TearDown { camera } => {
                stats[camera].teardowns += 1;
                sessions.end(connection);
                self.stop_playing(world);
                self.closing = Some(Gone::TornDown);
            }
            Effect::HangUp => self.closing = Some(Gone::Camera),
            Effect::RefuseLogin { camera, stale } => {
                stats[camera].logins_refused += u64::from(!stale);
                stats[camera].nonces_refused += u64::from(stale);
                truth.tell(Fact::LoginRefused { connection, camera: farm.name(camera), stale });
            }
        }
    }

    fn stop_playing(&mut self, world: &mut World) {
        if let Some(player) = self.player.take() {
            self.note_flow(&player, false, world);
        }
    }

    fn note_flow(&mut self, player: &Player, flowing: bool, world: &mut World) {
        if self.flowing != flowing {
            self.flowing = flowing;
            let camera = world.farm.name(player.camera);
            world.truth.tell(Fact::Video { connection: self.id, camera, flowing, units: player.units() });
        }
    }

    fn close_if_done(&self) -> Result<(), Gone> {
        match self.closing {
            Some(gone) if self.link.is_drained() => Err(gone),
            _ => Ok(()),
        }
    }
}

/// What a due time is for when it is not for the player with this id: its ids have 63 bits.
const ANSWERS: u64 = u64::MAX;
/// Chunks of a flood that one client gets before the others have their turn.
const FLOOD_ROUNDS: usize = 16;
/// Bytes that a mute camera lets come.
const UNREAD_LEN_MAX: usize = 64 << 10;
