//! Promise: what the daemon says of a camera is what the camera does, within bounds that are written down here, while cameras
//! fail at random in every way that they can come back from.
//!
//! The simulator tells what really happens (`--truth`), a driver gives it faults from a seed, and each second all streams'
//! states are held beside it. `VMS_TRUTH_SECONDS` says for how long (30 unless set), `VMS_TRUTH_SEED` with which faults.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use prost_types::Timestamp;
use serde_json::Value;
use support::{Cameras, Lab, SOON, now};

const CAMERAS: usize = 12;
const LOOK: Duration = Duration::from_secs(1);

// What is promised, in seconds -------------------------------------------------------------------------------------------------

/// Without video for the idle time-out, a stream is no longer STREAMING.
const IDLE: f64 = 5.0;
/// From a change to the answer that tells of it: the turn, the control thread, the answer's own way, on a loaded machine.
const TOLD: f64 = 1.0;
/// From the first unit on, video that flows makes a stream STREAMING: at most a group of pictures (two seconds) until the first key
/// frame, where the session does not begin with one.
const BEGUN: f64 = 2.0 + TOLD;
/// The longest wait between two attempts at a camera that lets us in: 30 s ± 20 %; an attempt under way may have begun before
/// the camera was back, and take its time-outs (5 s a reply, 10 s until the first unit).
const BACK: f64 = 36.0 + 15.0 + TOLD;

/// How cameras fail, with what comes after the name. A camera that refuses a login is tried again after minutes only, so that
/// has a test of its own (tests/auth.rs).
const FAULTS: &[(&str, bool)] = &[
    ("close", false),
    ("reset", false),
    ("stall", true),
    ("mute", true),
    ("refuse", true),
    ("power-cut", true),
    ("garbage", true),
    ("lose=7", true),
    ("slow-answers=300", true),
];

#[test]
fn what_is_reported_is_what_happens() {
    let number = |name: &str, default| std::env::var(name).map_or(default, |text| text.parse().unwrap());
    let (seconds, seed) = (number("VMS_TRUTH_SECONDS", 30), number("VMS_TRUTH_SEED", 1));
    let lab = Lab::new("truth");
    let _daemon = lab.daemon(&[]);
    let count = CAMERAS.to_string();
    let cameras = lab.cameras(&["--cameras", &count, "--own-ports", "--truth", "--control"]);
    let ids: Vec<String> = (0..CAMERAS).map(|number| format!("cam{number}")).collect();
    for id in &ids {
        let line = cameras.process.wait_for_line(id, SOON, |line| line.starts_with(&format!("{id} at ")));
        lab.setup(id, &format!("rtsp://{}/{id}", line.rsplit(' ').next().unwrap()));
    }

    let mut truth = Truth::new(&ids);
    let mut driver = Driver::new(seed);
    let end = now() + Duration::from_secs(seconds);
    let (mut looks, mut faults) = (0_u64, 0_u64);
    let mut seen = BTreeMap::<String, u64>::new();
    while now() < end {
        for command in driver.commands(&ids) {
            cameras.process.tell(&command);
            faults += 1;
        }
        truth.follow(&cameras, LOOK);
        let before = utc();
        let list = lab.ctl_json(&["list"]);
        let after = utc();
        // What happened up to the answer.
        truth.follow(&cameras, Duration::ZERO);
        for stream in list["streams"].as_array().unwrap() {
            let camera = &truth.cameras[stream["stream_id"].as_str().unwrap()];
            if let Err(why) = camera.check(stream, before, after) {
                panic!("seed {seed}, after {looks} looks: {why}\n{stream:#}\n{}", camera.history);
            }
            *seen.entry(stream["state"].as_str().unwrap().to_owned()).or_default() += 1;
        }
        looks += 1;
    }
    println!("{looks} looks at {CAMERAS} streams in {seconds} s, {faults} faults; states seen: {seen:?}");
    assert!(
        seen.contains_key("streaming") && seen.contains_key("backoff") && faults > seconds / 2,
        "{seen:?}"
    );
}

/// What the simulator told of all cameras.
struct Truth {
    cameras: BTreeMap<String, Camera>,
}

/// What is true of a camera.
#[derive(Default)]
struct Camera {
    /// Whether video flows to us, and since when.
    flows: bool,
    since: f64,
    /// When the last unit before `since` was sent, if video does not flow.
    has_flowed: bool,
    /// The connection that carries the video, and when it was closed.
    connection: Option<u64>,
    closed: Option<f64>,
    /// Since when the camera lets us in and answers; `None`: it does not.
    well_since: Option<f64>,
    /// Faults that hold.
    faults: u32,
    /// For a failure's message.
    history: String,
}

impl Truth {
    fn new(ids: &[String]) -> Self {
        let camera = || Camera { since: utc(), well_since: Some(utc()), ..Camera::default() };
        Self { cameras: ids.iter().map(|id| (id.clone(), camera())).collect() }
    }

    /// Takes what the simulator tells until `bound` has passed; without one, what it has told.
    fn follow(&mut self, cameras: &Cameras, bound: Duration) {
        let end = now() + bound;
        while let Some(line) = cameras.process.next_line(end.saturating_duration_since(now())) {
            let fact: Value = serde_json::from_str(&line).unwrap();
            assert_ne!(fact["answer"], "error", "{fact}");
            let Some(camera) = fact["camera"].as_str().and_then(|id| self.cameras.get_mut(id)) else {
                continue;
            };
            camera.note(&fact);
        }
    }
}

impl Camera {
    fn note(&mut self, fact: &Value) {
        let at = fact["utc_ns"].as_u64().unwrap() as f64 / 1e9;
        let _ = writeln!(self.history, "{at:.3} {fact}");
        match fact["truth"].as_str().unwrap() {
            "playing" => {
                self.connection = fact["connection"].as_u64();
                self.closed = None;
            }
            "video" => {
                self.flows = fact["flowing"].as_bool().unwrap();
                self.has_flowed |= self.flows;
                self.since = at;
            }
            "closed" if fact["connection"].as_u64() == self.connection => {
                if self.flows {
                    (self.flows, self.since) = (false, at);
                }
                self.closed = Some(at);
            }
            "fault" if is_lasting(fact["fault"].as_str().unwrap()) => {
                if fact["begins"].as_bool().unwrap() {
                    self.faults += 1
                } else {
                    self.faults -= 1
                };
                self.well_since = (self.faults == 0).then_some(at);
            }
            _ => {}
        }
    }

    /// Whether `stream`, asked for at `before` and answered at `after`, is what a daemon may say.
    fn check(&self, stream: &Value, before: f64, after: f64) -> Result<(), String> {
        let state = stream["state"].as_str().unwrap();
        // For how long it has been so, when the answer was made: at least, and at most.
        let (least, most) = (before - self.since, after - self.since);
        let wrong = |what: &str| Err(format!("{state}, but {what} (for {least:.2} s)"));
        if self.flows && least > BEGUN && state != "streaming" {
            return wrong("video flows");
        }
        if !self.flows && least > IDLE + TOLD && state == "streaming" {
            return wrong("no video flows");
        }
        if state == "stalled" && (self.flows && least > TOLD || most < IDLE - TOLD) {
            return wrong("video flows, or did a moment ago");
        }
        if let Some(closed) = self.closed
            && before - closed > TOLD
            && matches!(state, "streaming" | "stalled")
        {
            return wrong("there is no connection");
        }
        if let Some(well) = self.well_since
            && before - well > BACK
            && state != "streaming"
        {
            return wrong("nothing has been wrong with the camera for so long that it should be back");
        }
        if matches!(state, "backoff") {
            let next = stream["next_attempt"].as_str().map(seconds);
            if next.is_none_or(|next| next < before - TOLD || next > after + 36.0) {
                return wrong("the next attempt has no time, or a wrong one");
            }
            if stream["reason"].is_null() || stream["detail"].as_str().is_none_or(str::is_empty) {
                return wrong("it does not say why");
            }
        }
        // The age of the last frame, which dashboards alert on. Counters are told once a second.
        if let Some(last) = stream["last_frame_time"].as_str().map(seconds) {
            if self.flows && least > BEGUN && after - last > 1.0 + TOLD {
                return wrong("its last frame is old");
            }
            if !self.flows && last > self.since + TOLD {
                return wrong("it has a frame that was not sent");
            }
        } else if self.flows && least > BEGUN {
            return wrong("it has no last frame");
        }
        Ok(())
    }
}

/// Whether a camera with this fault may be out of reach for as long as it lasts.
fn is_lasting(fault: &str) -> bool {
    matches!(fault, "stall" | "mute" | "refuse" | "power-cut") || fault.starts_with("slow-answers")
}

/// Gives cameras faults, from a seed.
struct Driver {
    state: u64,
    next: Instant,
}

impl Driver {
    fn new(seed: u64) -> Self {
        Self { state: seed, next: now() + Duration::from_secs(2) }
    }

    /// What is due.
    fn commands(&mut self, ids: &[String]) -> Vec<String> {
        let mut due = Vec::new();
        while self.next <= now() {
            let pause = Duration::from_millis(50 + self.below(400) as u64);
            self.next += pause;
            let (name, lasts) = FAULTS[self.below(FAULTS.len())];
            // All at once, now and then.
            let who = if self.below(20) == 0 { "all" } else { &ids[self.below(ids.len())] };
            let time = if lasts { format!("+{}ms", 500 + self.below(12_000)) } else { String::new() };
            due.push(format!("fault {who} {name}{time}"));
        }
        due
    }

    /// SplitMix64.
    fn below(&mut self, bound: usize) -> usize {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from(z ^ (z >> 31)).unwrap_or(0) % bound
    }
}

fn seconds(time: &str) -> f64 {
    let time: Timestamp = time.parse().unwrap();
    time.seconds as f64 + f64::from(time.nanos) / 1e9
}

#[expect(clippy::disallowed_methods, reason = "beside the times that the daemon and the simulator tell")]
fn utc() -> f64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64()
}
