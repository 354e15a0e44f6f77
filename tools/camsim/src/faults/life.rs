//! Faults of the camera itself, its connections and its power. Each needs code where it is asked for: look for its [`Life`].

use super::kind::{COUNT_MAX, Kind, Life, UNITS, Value};

const AFTER: Value = Value::number("UNITS", 0, COUNT_MAX);
const SECONDS: Value = Value::number("SECONDS", 1, 3600);

pub(super) static POWER_CUT_KIND: Kind = POWER_CUT;

const POWER_CUT: Kind =
    Kind::life("power-cut", Value::None, &[], "resets its connections and lets nobody in", Life::PowerCut);

pub(super) const TABLE: &[Kind] = &[
    Kind::life("close", Value::None, &[17], "closes its connections, at a moment (FIN)", Life::Close),
    Kind::life("reset", Value::None, &[17], "resets its connections, at a moment (RST)", Life::Reset),
    Kind::life("refuse", Value::None, &[], "lets nobody in; sessions go on", Life::Refuse),
    POWER_CUT,
    Kind::life("stall", Value::None, &[16], "sends no video, but reports, and answers", Life::Stall),
    Kind::life("mute", Value::None, &[15], "sends and answers nothing; TCP stays alive", Life::Mute),
    Kind::life(
        "close-after",
        AFTER,
        &[17],
        "closes the connection after UNITS of a session",
        Life::CloseAfter,
    ),
    Kind::life(
        "reset-after",
        AFTER,
        &[17],
        "resets the connection after UNITS of a session",
        Life::ResetAfter,
    ),
    Kind::life("stall-after", AFTER, &[16], "stalls after UNITS of a session", Life::StallAfter),
    Kind::life(
        "slow-answers",
        Value::number("MS", 1, 600_000).or(1000),
        &[],
        "answers each request MS late",
        Life::SlowAnswers,
    ),
    Kind::life(
        "session-limit",
        Value::number("SESSIONS", 0, COUNT_MAX).or(1),
        &[17],
        "453 to SETUP beyond SESSIONS; one that was not torn down counts until it times out",
        Life::SessionLimit,
    ),
    Kind::life(
        "wrong-password",
        Value::None,
        &[41],
        "401 to whatever login, again and again",
        Life::WrongPassword,
    ),
    Kind::life(
        "stale-nonce",
        SECONDS.or(1),
        &[40],
        "401 with a new nonce when the nonce is SECONDS old; needs --user",
        Life::StaleNonce,
    ),
    Kind::life(
        "early-media",
        Value::None,
        &[7],
        "sends the first unit before the answer to PLAY",
        Life::EarlyMedia,
    ),
    Kind::life(
        "needs-reports",
        SECONDS.or(6),
        &[22],
        "hangs up after SECONDS without RTCP",
        Life::NeedsReports,
    ),
    Kind::life(
        "needs-keepalive",
        SECONDS.or(40),
        &[22],
        "hangs up after SECONDS without a request",
        Life::NeedsKeepalive,
    ),
    Kind::life(
        "resolution-change",
        UNITS,
        &[79],
        "another resolution each UNITS, with new parameter sets and a key frame",
        Life::ResolutionChange,
    ),
];
