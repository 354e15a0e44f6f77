//! One client: its requests, its play session, and its link.

use crate::clock;
use crate::config::Config;
use crate::farm::{CameraStats, Farm};
use crate::faults::Fault;
use crate::flood::Flood;
use crate::link::{Gone, Link, Sent};
use crate::packets::Scratch;
use crate::player::{Player, Turn};
use crate::request;
use crate::rng::Rng;
use crate::rtsp::{Effect, RtspConnection};

/// A client that is connected.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) link: Link,
    /// The server watches the socket for room.
    pub(crate) watches_room: bool,
    rtsp: RtspConnection,
    input: Vec<u8>,
    player: Option<Box<Player>>,
    flood: Option<Flood>,
    /// Close when the link is drained.
    closing: bool,
}

/// When a player wants to be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Due {
    pub(crate) at_ns: u64,
    pub(crate) player: u64,
}

impl Connection {
    pub(crate) fn new(link: Link, rng: &mut Rng) -> Self {
        let rtsp = RtspConnection::new(rng, clock::mono_ns());
        Self { link, watches_room: false, rtsp, input: Vec::new(), player: None, flood: None, closing: false }
    }

    /// The server should tell when the socket has room again.
    pub(crate) fn wants_room(&self) -> bool {
        !self.link.is_drained() || self.flood.is_some()
    }

    /// Reads and answers what has arrived; a play session that it started is to be called at the time returned.
    pub(crate) fn on_readable(
        &mut self,
        farm: &Farm,
        stats: &mut [CameraStats],
        buffer: &mut [u8],
        rng: &mut Rng,
    ) -> Result<Option<Due>, Gone> {
        let mut due = None;
        self.link.receive(&mut self.input, buffer)?;
        while let Some(request) = request::next(&mut self.input).map_err(|request::BadInput| Gone)? {
            let reply = self.rtsp.reply(&request, farm, clock::mono_ns(), rng);
            self.link.send(&reply.bytes)?;
            due = self.apply(reply.effect, stats).or(due);
        }
        if self.closing && self.link.is_drained() {
            return Err(Gone);
        }
        Ok(due)
    }

    /// Sends what waits for room.
    pub(crate) fn on_room(&mut self) -> Result<(), Gone> {
        if let Some(flood) = &mut self.flood {
            return self.link.pump(FLOOD_ROUNDS, |out| flood.fill(out));
        }
        self.link.flush()?;
        if self.closing && self.link.is_drained() { Err(Gone) } else { Ok(()) }
    }

    /// The unit of play session `id` is due; gives the time of the next.
    pub(crate) fn on_due(
        &mut self,
        id: u64,
        farm: &Farm,
        stats: &mut [CameraStats],
        scratch: &mut Scratch,
        rng: &mut Rng,
    ) -> Result<Option<Due>, Gone> {
        let Some(player) = self.player.as_mut().filter(|player| player.id == id) else { return Ok(None) };
        let now_ns = clock::mono_ns();
        let stats = &mut stats[player.camera];
        stats.held_up += u64::from(player.forgive(now_ns));
        if let Some(report) = player.report(now_ns, clock::utc_ns()) {
            self.link.send(&report)?;
        }
        match player.turn(farm.config.once, &farm.config.faults) {
            Turn::Send => {
                if player.is_interrupted() {
                    interrupt(&mut self.link, &farm.config.faults, rng)?;
                }
                send(player, &mut self.link, &farm.config, stats, scratch)?;
            }
            Turn::Skip => player.skipped(),
            Turn::SkipBroken => {
                stats.dropped += 1;
                player.skipped();
            }
            Turn::Finish => {
                self.link.send(&player.bye())?;
                self.player = None;
                self.closing = true;
                return if self.link.is_drained() { Err(Gone) } else { Ok(None) };
            }
            Turn::Close => return Err(Gone),
        }
        Ok(Some(Due { at_ns: player.due_ns(), player: player.id }))
    }

    fn apply(&mut self, effect: Effect, stats: &mut [CameraStats]) -> Option<Due> {
        match effect {
            Effect::None => {}
            Effect::Play(player) => {
                stats[player.camera].plays += 1;
                let due = Due { at_ns: player.due_ns(), player: player.id };
                self.player = Some(player);
                return Some(due);
            }
            Effect::Pause => self.player = None,
            Effect::Flood(flood) => self.flood = Some(flood),
            Effect::TearDown { camera } => {
                stats[camera].teardowns += 1;
                self.player = None;
                self.closing = true;
            }
            Effect::RefuseLogin { camera, stale } => {
                stats[camera].logins_refused += u64::from(!stale);
                stats[camera].nonces_refused += u64::from(stale);
            }
        }
        None
    }
}

fn send(
    player: &mut Player,
    link: &mut Link,
    config: &Config,
    stats: &mut CameraStats,
    scratch: &mut Scratch,
) -> Result<(), Gone> {
    // The clock is read last: the stamp says when the kernel got the unit.
    let packets = player.packetize(scratch, clock::mono_ns(), &config.faults);
    match link.send_unit(&packets, config.write)? {
        Sent::Taken => {
            stats.units += 1;
            player.sent(&config.faults);
        }
        Sent::Dropped => {
            stats.dropped += 1;
            player.dropped();
        }
    }
    Ok(())
}

/// Sends what does not belong between two units.
fn interrupt(link: &mut Link, faults: &[Fault], rng: &mut Rng) -> Result<(), Gone> {
    if faults.contains(&Fault::Garbage) {
        link.send(&garbage(rng))?;
    }
    if faults.contains(&Fault::ServerRequest) {
        link.send(b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n")?;
    }
    Ok(())
}

/// Up to 64 random bytes; a `$` among them is as likely as any other.
fn garbage(rng: &mut Rng) -> Vec<u8> {
    let len = 1 + rng.below(64);
    (0..len).map(|_| rng.next_u64().to_le_bytes()[0]).collect()
}

/// Chunks of a flood that one client gets before the others have their turn.
const FLOOD_ROUNDS: usize = 16;
