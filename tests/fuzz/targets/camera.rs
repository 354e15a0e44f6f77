//! A camera's whole state machine, with the shell around it: everything that can happen, in any order, with bytes in any
//! portions and time that jumps.
//!
//! The same happens to two machines, of which one gets bytes in portions; they must not differ. In the end the camera says
//! nothing more, perhaps: then it is tried again. At last it behaves: then video flows within the time that the waits allow, and
//! the machine stops when it is told to.
#![no_main]

use std::sync::LazyLock;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use vms_fuzz::cuts::Cuts;
use vms_fuzz::machine::{Action, Link, Machine};
use vms_fuzz::script::Peer;
use vms_fuzz::{Result, Unstructured, knows_the_password, memory};
use vms_pure::ingest::State;
use vms_pure::limits::UNIT_LEN_MAX;

const URLS: [&str; 5] = [
    "rtsp://operator:CANARY@10.1.1.1:8554/live?password=CANARY",
    "rtsp://10.1.1.1:8554/live",
    "rtsp://operator:CANARY@camera.example/user=operator_password=CANARY",
    "rtsp://operator:CANARY@[2001:db8::1]/live",
    "rtsps://operator:CANARY@10.1.1.1/live",
];
/// With VMS_FUZZ_SHOW in the environment it is told what happens: for a look at a finding.
static SHOWS: LazyLock<bool> = LazyLock::new(|| std::env::var_os("VMS_FUZZ_SHOW").is_some());
/// Two machines: text with a head and a body at their limits, packets, parameter sets, what waits to be sent; and a unit in Annex B
/// form.
const HELD_MAX: usize = 4 * 1024 * 1024 + 2 * UNIT_LEN_MAX;

/// Deadlines until a silent camera is tried again: a keepalive each second, its reply's time-out, reports, the stall and its end, the
/// wait.
const SILENT_STEPS_MAX: u32 = 40;

fuzz_target!(init: memory::limit(), |data: &[u8]| {
    if knows_the_password(data) {
        return;
    }
    let mut input = Unstructured::new(data);
    let Ok(mut world) = World::new(&mut input) else { return };
    // Ends with the input.
    let _ = world.run(&mut input);
    world.end();
});

struct World {
    whole: Machine,
    cut: Machine,
    cuts: Cuts,
    peer: Peer,
    speaks_tls: bool,
    /// At the end it says nothing more.
    falls_silent: bool,
    base: usize,
}

impl World {
    fn new(input: &mut Unstructured<'_>) -> Result<Self> {
        let url = *input.choose(&URLS)?;
        let cuts = Cuts::new(input.arbitrary()?);
        let base = memory::held();
        let (whole, cut) = (Machine::new(url, false), Machine::new(url, true));
        let speaks_tls = url.starts_with("rtsps");
        let falls_silent = input.ratio(1, 4)?;
        Ok(Self { whole, cut, cuts, peer: Peer::default(), speaks_tls, falls_silent, base })
    }

    fn run(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        // Most inputs begin with a camera that works for a while.
        let good_steps = *input.choose(&[0, 1, 4, 8, 12])?;
        self.act(&Action::Start);
        for _ in 0..good_steps {
            self.behave();
        }
        while !input.is_empty() && !self.whole.is_stopped() {
            let action = self.peer.next(&mut self.whole, input)?;
            self.act(&action);
        }
        Ok(())
    }

    fn act(&mut self, action: &Action) {
        if *SHOWS {
            let text = match action {
                Action::Bytes(bytes) => bytes[..bytes.len().min(400)].escape_ascii().to_string(),
                other => format!("{other:?}"),
            };
            eprintln!("{:?} {:?}: {text}", self.whole.state(), self.whole.link());
        }
        if let Action::Bytes(bytes) = action {
            self.whole.act(action, &[bytes]);
            let pieces: Vec<_> = self.cuts.pieces(bytes).collect();
            self.cut.act(action, &pieces);
        } else {
            self.whole.act(action, &[]);
            self.cut.act(action, &[]);
        }
        assert_eq!(self.whole.view(), self.cut.view(), "the portions make a difference");
        self.cut.asked.clone_from(&self.whole.asked);
        let beside = self.base + self.whole.held_beside() + self.cut.held_beside();
        let held = memory::held().saturating_sub(beside);
        assert!(held <= HELD_MAX, "{held} bytes are held");
    }

    /// One step of a camera that works.
    fn behave(&mut self) {
        let is_waiting = self.whole.asked.is_empty() && matches!(self.whole.link(), Link::Open(_));
        if is_waiting {
            let picture = self.peer.picture();
            self.act(&Action::Bytes(picture));
            self.act(&Action::Pass(Duration::from_millis(500)));
        } else {
            let action = self.peer.behave(&mut self.whole);
            self.act(&action);
        }
    }

    fn end(mut self) {
        if !self.whole.is_stopping() {
            if self.falls_silent && !self.speaks_tls {
                self.fall_silent();
            }
            self.recover();
            self.act(&Action::Stop);
        }
        if !self.whole.is_stopped() {
            self.act(&Action::Pass(Duration::from_secs(1)));
        }
        assert!(self.whole.is_stopped(), "it does not stop");
    }

    /// Whatever came before: a camera that accepts connections and says nothing is tried again.
    fn fall_silent(&mut self) {
        let mut has_failed = false;
        for _ in 0..SILENT_STEPS_MAX {
            has_failed |=
                matches!(self.whole.state(), State::Backoff | State::AuthFailed | State::Unsupported);
            match self.whole.link() {
                Link::Opening(_) if has_failed => return,
                Link::Opening(_) | Link::Resolving { .. } => {
                    let action = self.peer.behave(&mut self.whole);
                    self.act(&action);
                }
                Link::Open(_) | Link::Down => self.act(&Action::Pass(self.whole.until_due())),
            }
        }
        panic!("it is not tried again: {:?}", self.whole.view());
    }

    /// Whatever came before: a camera that works streams.
    fn recover(&mut self) {
        if self.speaks_tls {
            // A bug of ours that was caught comes before the next attempt.
            return assert!(matches!(self.whole.state(), State::Unsupported | State::Backoff));
        }
        let before = self.whole.units();
        for _ in 0..400 {
            if self.whole.state() == State::Streaming && self.whole.units() > before {
                return;
            }
            self.behave();
        }
        panic!("it never streams again: {:?}", self.whole.view());
    }
}
