//! What was seen of a camera, in findings and in numbers: pure.

use std::time::Duration;

use serde::Serialize;
use vms_media::codec::{ClockSource, Codec, VideoFormat};
use vms_media::ingest::{Reason, State};

use super::drive::Seen;
use super::exchange::{Exchange, Logins, Step};
use super::video::Gop;
use crate::doctor::finding::Finding;

/// A way from key frame to key frame that is longer than this makes viewers wait.
const GOP_MAX: Duration = Duration::from_secs(5);
/// Difference of the camera's clock from ours above which it is called fast or slow.
const SPEED_ERROR_MAX: f64 = 0.02;
/// Difference between announced and measured pictures a second that is worth a word: a part of the announced.
const RATE_ERROR_MAX: f64 = 0.1;

/// What was measured, for scripts. `null` is what is not known.
#[derive(Debug, Default, Serialize)]
pub(in crate::doctor) struct Measured {
    /// Of the connection that came up.
    address: Option<String>,
    connect_us: Option<u64>,
    /// Of the first request.
    round_trip_us: Option<u64>,
    server: Option<String>,
    auth_schemes: Vec<String>,
    /// Times that the camera refused the login: 1 at most.
    logins_refused: u32,
    media: Vec<String>,
    codec: Option<&'static str>,
    width: u32,
    height: u32,
    nominal_fps: Option<f64>,
    fps: Option<f64>,
    bitrate_bps: Option<u64>,
    /// Pictures from one key frame to the next, at the longest.
    gop_units: Option<u64>,
    gop_ms: Option<u64>,
    units: u64,
    key_units: u64,
    largest_unit_bytes: u64,
    packets: u64,
    mean_packet_bytes: Option<u64>,
    largest_packet_bytes: u64,
    lost_packets: u64,
    first_picture_ms: Option<u64>,
    keepalive: Option<String>,
    keepalive_interval_s: Option<u64>,
    /// As `vms-ctl get` would show them.
    state: Option<String>,
    reason: Option<String>,
    detail: Option<String>,
}

impl Measured {
    pub(super) fn of(seen: &Seen) -> Self {
        let Seen { exchange, video, stats, .. } = seen;
        let connected =
            seen.connections.iter().find_map(|(address, came)| Some((address, came.as_ref().ok()?)));
        let format = video.format.as_ref();
        Self {
            address: connected.map(|(address, _)| address.to_string()),
            connect_us: connected.map(|(_, took)| micros(*took)),
            round_trip_us: exchange.steps.first().map(|step| micros(step.took)),
            server: exchange.server.clone(),
            auth_schemes: exchange.schemes.clone(),
            logins_refused: exchange.logins.refused,
            media: exchange.media.clone(),
            codec: format.map(|format| codec_name(format.codec)),
            width: format.map_or(0, |format| format.width),
            height: format.map_or(0, |format| format.height),
            nominal_fps: format.and_then(nominal_fps),
            fps: video.fps(),
            bitrate_bps: video.bitrate_bps(),
            gop_units: video.gop.map(|gop| gop.units),
            gop_ms: video.gop.map(|gop| millis(gop.time)),
            units: video.units,
            key_units: video.key_units,
            largest_unit_bytes: video.largest_unit as u64,
            packets: stats.packets,
            mean_packet_bytes: stats.payload_bytes.checked_div(stats.packets),
            largest_packet_bytes: exchange.largest_frame as u64,
            lost_packets: stats.lost_packets,
            first_picture_ms: seen.first_picture.map(millis),
            keepalive: seen.keepalive.map(|(method, _)| method.name().to_owned()),
            keepalive_interval_s: seen.keepalive.map(|(_, interval)| interval.as_secs()),
            state: seen.status.as_ref().map(|status| snake_case(&format!("{:?}", status.state))),
            reason: seen
                .status
                .as_ref()
                .filter(|status| status.reason != Reason::None)
                .map(|status| snake_case(&format!("{:?}", status.reason))),
            detail: seen.status.as_ref().map(|status| status.detail.clone()),
        }
    }
}

/// What was seen, in the order in which it happened; the verdict is the last.
pub(super) fn findings(seen: &Seen) -> Vec<Finding> {
    let steps = [
        seen.name.as_ref().filter(|(_, addresses)| !addresses.is_empty()).map(|(host, addresses)| {
            let words: Vec<_> = addresses.iter().map(|address| address.ip().to_string()).collect();
            Finding::ok("name", format!("{host} is {}", words.join(", ")))
        }),
        connection(seen),
        dialogue(&seen.exchange),
        login(&seen.exchange, seen.has_credentials),
        media(&seen.exchange),
    ];
    let mut findings: Vec<_> = steps.into_iter().flatten().collect();
    if seen.video.units > 0 {
        findings.extend([format(seen), rate(seen), key_frames(seen), packets(seen), timestamps(seen)]);
    }
    findings.extend(seen.keepalive.map(|(method, interval)| {
        Finding::ok("keepalive", format!("{method} every {} s", interval.as_secs()))
    }));
    findings.push(verdict(seen));
    findings
}

fn connection(seen: &Seen) -> Option<Finding> {
    let words = seen.connections.iter().map(|(address, came)| match came {
        Ok(took) => format!("{address} after {}", ms(*took)),
        Err(why) => format!("{address}: {why}"),
    });
    let found = words.collect::<Vec<_>>().join("; ");
    let failed = seen.connections.iter().filter(|(_, came)| came.is_err()).count();
    match (seen.connections.len(), failed) {
        (0, _) => None,
        (_, 0) => Some(Finding::ok("connection", found)),
        (all, failed) if failed < all => Some(
            Finding::warn("connection", found)
                .why("an address that does not answer costs 5 s at each attempt")
                .fix("give the URL the address that answers, or correct the host's entries in the DNS"),
        ),
        _ => Some(Finding::fail("connection", found).why("without a connection there is no stream")),
    }
}

fn dialogue(exchange: &Exchange) -> Option<Finding> {
    let words = exchange
        .steps
        .iter()
        .map(|Step { method, status, took }| format!("{method} {status} ({})", ms(*took)));
    let steps = words.collect::<Vec<_>>().join(", ");
    let server =
        exchange.server.as_ref().map_or_else(String::new, |server| format!("; it calls itself {server}"));
    (!steps.is_empty()).then(|| Finding::ok("RTSP", format!("{steps}{server}")))
}

fn login(exchange: &Exchange, has_credentials: bool) -> Option<Finding> {
    if exchange.schemes.is_empty() {
        let note = if has_credentials { "; the one given was not used" } else { "" };
        return (!exchange.steps.is_empty())
            .then(|| Finding::ok("login", format!("the camera asks for none{note}")));
    }
    let asked = exchange.schemes.join(", ");
    Some(match exchange.logins {
        Logins { refused: 1.., .. } => {
            Finding::fail("login", format!("asked for {asked}; refused, and not tried again"))
                .why("cameras lock out who tries often")
                .fix("vms-ctl doctor URL --user USER --password-file FILE")
        }
        Logins { accepted: 0, .. } => {
            Finding::fail("login", format!("asked for {asked}; there was none to give"))
                .fix("vms-ctl doctor URL --user USER --password-file FILE")
        }
        Logins { .. } if exchange.schemes.iter().all(|scheme| scheme == "Basic") => {
            Finding::warn("login", format!("asked for {asked}; accepted"))
                .why("Basic sends the password in the clear to whoever listens on the network")
                .fix("set RTSP authentication to Digest in the camera's settings")
        }
        Logins { .. } => Finding::ok("login", format!("asked for {asked}; accepted")),
    })
}

fn media(exchange: &Exchange) -> Option<Finding> {
    let words = exchange.media.join(", ");
    (!words.is_empty()).then(|| Finding::ok("described", format!("{words}; one video is carried")))
}

fn format(seen: &Seen) -> Finding {
    let first =
        seen.first_picture.map_or_else(String::new, |took| format!("; first picture after {}", ms(took)));
    match &seen.video.format {
        None => Finding::warn("video", format!("its parameter sets did not come{first}"))
            .why("without them nobody can decode it")
            .fix("restart the camera's stream"),
        Some(format) => {
            let VideoFormat { codec, width, height, profile, level, .. } = *format;
            let codec = codec_name(codec).to_ascii_uppercase();
            Finding::ok("video", format!("{codec} {width}x{height}, profile {profile}, level {level}{first}"))
        }
    }
}

fn rate(seen: &Seen) -> Finding {
    let (Some(fps), Some(bitrate)) = (seen.video.fps(), seen.video.bitrate_bps()) else {
        return Finding::ok("rate", "too few pictures to measure");
    };
    let seconds = seen.video.span().as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "for a person to read")]
    let megabits = bitrate as f64 / 1e6;
    let found = format!("{fps:.1} pictures/s, {megabits:.2} Mbit/s over {seconds:.1} s");
    match seen.video.format.as_ref().and_then(nominal_fps) {
        Some(nominal) if (fps - nominal).abs() > nominal * RATE_ERROR_MAX => Finding::warn(
            "rate",
            format!("{found}; {nominal:.1} pictures/s are announced"),
        )
        .why("players that believe what is announced run too fast or too slow; the daemon does not")
        .fix("nothing, if the camera lowers its rate in the dark; else its frame rate and shutter settings"),
        _ => Finding::ok("rate", found),
    }
}

fn key_frames(seen: &Seen) -> Finding {
    const WHY: &str = "a viewer that comes, and a reader that has lost a packet, waits for the next";
    const FIX: &str = "set the I-frame interval to one or two seconds in the camera; switch off H.264+, H.265+ or \"smart codec\"";
    match seen.video.gop {
        Some(Gop { units, time }) => {
            let found = format!("every {units} pictures, {:.1} s", time.as_secs_f64());
            if time <= GOP_MAX {
                Finding::ok("key frames", found)
            } else {
                Finding::warn("key frames", found).why(WHY).fix(FIX)
            }
        }
        None => {
            let (count, seconds) = (seen.video.key_units, seen.video.span().as_secs_f64());
            Finding::warn("key frames", format!("{count} within {seconds:.1} s")).why(WHY).fix(FIX)
        }
    }
}

fn packets(seen: &Seen) -> Finding {
    let stats = &seen.stats;
    let mean = stats.payload_bytes.checked_div(stats.packets).unwrap_or(0);
    let (largest, unit) = (seen.exchange.largest_frame, seen.video.largest_unit);
    let found = format!("{mean} bytes on average, {largest} at most; pictures of up to {unit} bytes");
    let (lost, damaged, skipped) = (stats.lost_packets, seen.video.damaged, stats.skipped_bytes);
    if lost == 0 && damaged == 0 && skipped == 0 {
        return Finding::ok("packets", found);
    }
    Finding::warn("packets", format!("{found}; {lost} lost, {damaged} pictures damaged, {skipped} bytes of garbage"))
        .why("on a TCP connection nothing is lost on the way: the camera drops what it cannot send, or its firmware is wrong")
        .fix("lower its bit rate, close other viewers, check its network; update its firmware")
}

fn timestamps(seen: &Seen) -> Finding {
    let video = &seen.video;
    let mut odd = Vec::new();
    let mut note = |count: u64, words: &str| odd.extend((count > 0).then(|| format!("{count} {words}")));
    note(video.out_of_order, "pictures not later than the one before");
    note(video.estimated, "times that cannot be and were estimated");
    note(video.breaks, "breaks of the camera's clock");
    if let Some(speed) = video.clock_speed().filter(|speed| (speed - 1.0).abs() > SPEED_ERROR_MAX) {
        odd.push(format!("the camera's clock goes at {:.0} % of ours", speed * 100.0));
    }
    let wall = match video.clock_source {
        Some(ClockSource::SenderReport) => "wall clock from the camera's reports",
        Some(ClockSource::SenderReportSuspect) => {
            "wall clock by arrival, because the camera's reports are wrong: check its NTP setting"
        }
        Some(ClockSource::Receive) | None => {
            "wall clock by arrival, because the camera has not reported its own yet"
        }
    };
    if odd.is_empty() {
        return Finding::ok("timestamps", format!("steady; {wall}"));
    }
    Finding::warn("timestamps", format!("{}; {wall}", odd.join(", ")))
        .why("pictures may be shown too early or too late; with B pictures, that they are not in order is as it should be")
        .fix("switch off B pictures where latency matters; update the camera's firmware if its clock is wrong")
}

fn verdict(seen: &Seen) -> Finding {
    const CHECK: &str = "camera";
    let Some(status) = &seen.status else {
        return Finding::fail(CHECK, "no answer in time").why("the daemon would go on trying");
    };
    let reason = snake_case(&format!("{:?}", status.reason));
    let state = snake_case(&format!("{:?}", status.state));
    match status.state {
        State::Streaming => Finding::ok(CHECK, "the daemon would say: streaming"),
        State::Stalled
        | State::Backoff
        | State::AuthFailed
        | State::Unsupported
        | State::Pending
        | State::Connecting
        | State::Stopping => {
            let retry = seen.retry_after.map_or_else(String::new, |wait| {
                format!(" The next try would come after {} s.", wait.as_secs().max(1))
            });
            Finding::fail(CHECK, format!("the daemon would say: {state} ({reason})"))
                .why(format!("there is no video.{retry}"))
                .fix(status.detail.clone())
        }
    }
}

const fn codec_name(codec: Codec) -> &'static str {
    match codec {
        Codec::H264 => "h264",
        Codec::H265 => "h265",
    }
}

fn nominal_fps(format: &VideoFormat) -> Option<f64> {
    let (frames, seconds) = format.frame_rate;
    (frames > 0 && seconds > 0).then(|| f64::from(frames) / f64::from(seconds))
}

/// `AuthFailed` as the API writes it: `auth_failed`.
fn snake_case(word: &str) -> String {
    let mut snake = String::new();
    for c in word.chars() {
        if c.is_ascii_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.push(c.to_ascii_lowercase());
    }
    snake
}

fn ms(span: Duration) -> String {
    format!("{:.1} ms", span.as_secs_f64() * 1e3)
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::Level;
    use vms_media::ingest::Status;
    use vms_media::rtsp::Method;
    use vms_media::time::UnixNanos;

    fn status(state: State, reason: Reason, detail: &str) -> Option<Status> {
        Some(Status { state, reason, detail: detail.into(), since: UnixNanos(0), next_attempt: None })
    }

    fn step(method: &str, status: u16) -> Step {
        Step { method: method.into(), status, took: Duration::from_millis(2) }
    }

    fn level(findings: &[Finding], check: &str) -> Level {
        findings
            .iter()
            .find(|finding| finding.check == check)
            .unwrap_or_else(|| panic!("{check}: {findings:?}"))
            .level
    }

    #[test]
    fn nobody_there_is_one_connection_and_a_verdict_in_the_daemons_words() {
        let seen = Seen {
            connections: vec![(
                "192.0.2.1:554".parse().unwrap(),
                Err("the host refused the connection".into()),
            )],
            status: status(State::Backoff, Reason::ConnectRefused, "nothing listens there"),
            retry_after: Some(Duration::from_millis(900)),
            ..Seen::default()
        };
        let findings = findings(&seen);
        let checks: Vec<_> = findings.iter().map(|finding| (finding.check, finding.level)).collect();
        assert_eq!(checks, [("connection", Level::Fail), ("camera", Level::Fail)]);
        assert_eq!(findings[1].found, "the daemon would say: backoff (connect_refused)");
        assert_eq!(findings[1].fix.as_deref(), Some("nothing listens there"));
        let measured = Measured::of(&seen);
        assert_eq!(
            (measured.state.as_deref(), measured.reason.as_deref()),
            (Some("backoff"), Some("connect_refused"))
        );
        assert_eq!(findings_of_nothing(), [("camera", Level::Fail)]);
    }

    fn findings_of_nothing() -> Vec<(&'static str, Level)> {
        findings(&Seen::default()).iter().map(|finding| (finding.check, finding.level)).collect()
    }

    #[test]
    fn logins_are_told_apart() {
        let told = |schemes: &[&str], accepted, refused, has_credentials| {
            let mut exchange = Exchange::default();
            exchange.steps = vec![step("DESCRIBE", 200)];
            exchange.schemes = schemes.iter().map(|scheme| (*scheme).to_owned()).collect();
            exchange.logins = Logins { accepted, refused };
            login(&exchange, has_credentials).unwrap().level
        };
        assert_eq!(told(&[], 0, 0, true), Level::Ok);
        assert_eq!(told(&["Digest (MD5)", "Basic"], 3, 0, true), Level::Ok);
        assert_eq!(told(&["Basic"], 3, 0, true), Level::Warn, "in the clear");
        assert_eq!(told(&["Digest"], 0, 1, true), Level::Fail);
        assert_eq!(told(&["Digest"], 0, 0, false), Level::Fail);
    }

    #[test]
    fn one_address_of_two_that_answers_is_a_warning() {
        let address = "192.0.2.1:554".parse().unwrap();
        let seen = Seen {
            connections: vec![(address, Err("no".into())), (address, Ok(Duration::from_millis(1)))],
            keepalive: Some((Method::GetParameter, Duration::from_secs(30))),
            status: status(State::Streaming, Reason::None, ""),
            ..Seen::default()
        };
        let told = findings(&seen);
        assert_eq!((level(&told, "connection"), level(&told, "camera")), (Level::Warn, Level::Ok));
        let keepalive = told.iter().find(|finding| finding.check == "keepalive").unwrap();
        assert_eq!(keepalive.found, "GET_PARAMETER every 30 s");
        let measured = Measured::of(&seen);
        assert_eq!((measured.connect_us, measured.reason), (Some(1_000), None));
    }

    #[test]
    fn key_frames_that_are_rare_and_packets_that_are_lost_are_warnings() {
        let mut seen = Seen::default();
        assert_eq!(key_frames(&seen).level, Level::Warn, "none came");
        seen.video.gop = Some(Gop { units: 250, time: Duration::from_secs(10) });
        assert_eq!(key_frames(&seen).level, Level::Warn);
        seen.video.gop = Some(Gop { units: 50, time: Duration::from_secs(2) });
        assert_eq!((key_frames(&seen).level, packets(&seen).level), (Level::Ok, Level::Ok));
        seen.stats.lost_packets = 1;
        assert_eq!(packets(&seen).level, Level::Warn);
        assert_eq!(timestamps(&seen).level, Level::Ok);
        seen.video.breaks = 1;
        assert_eq!(timestamps(&seen).level, Level::Warn);
    }

    #[test]
    fn words_are_those_of_the_api() {
        assert_eq!(
            [snake_case("AuthFailed"), snake_case("NotRtsp"), snake_case("Streaming")],
            ["auth_failed", "not_rtsp", "streaming"]
        );
    }
}
