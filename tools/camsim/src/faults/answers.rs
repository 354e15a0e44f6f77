//! Faults of what requests are answered.

use super::kind::{Kind, On, Value};
use crate::answer::Effect;
use crate::flood::Flood;
use crate::sdp::TRACK;

const STATUS: Value = Value::number("STATUS", 400, 599);

pub(super) const TABLE: &[Kind] = &[
    // Status -------------------------------------------------------------------------------------------------
    Kind::answer("status", &[17, 41], "answers DESCRIBE with STATUS", On::Describe, |ask, answer| {
        answer.refuse(status(ask.value));
        if answer.status == 401 {
            answer.set("WWW-Authenticate", "Digest realm=\"closed\", nonce=\"0\"");
        }
    })
    .with(STATUS),
    Kind::answer("setup-status", &[17], "answers SETUP with STATUS", On::Setup, |ask, answer| {
        answer.refuse(status(ask.value));
    })
    .with(STATUS),
    Kind::answer("play-status", &[], "answers PLAY with STATUS", On::Play, |ask, answer| {
        answer.refuse(status(ask.value));
    })
    .with(STATUS),
    Kind::answer("options-404", &[38], "answers OPTIONS with 404", On::Options, |_, answer| {
        answer.refuse(404)
    }),
    Kind::answer("options-silence", &[], "does not answer OPTIONS", On::Options, |_, answer| {
        answer.is_silent = true;
    }),
    Kind::answer(
        "keepalive-400",
        &[19],
        "answers keepalives with 400 and the CSeq before",
        On::Keepalive,
        |ask, answer| {
            answer.refuse(400);
            answer.set("CSeq", ask.previous_cseq);
        },
    ),
    Kind::answer(
        "keepalive-551",
        &[35],
        "answers keepalives with 551, whatever it advertises",
        On::Keepalive,
        |_, answer| {
            answer.refuse(551);
        },
    ),
    Kind::answer("keepalive-silence", &[20], "does not answer keepalives", On::Keepalive, |_, answer| {
        answer.is_silent = true;
    }),
    Kind::answer(
        "no-get-parameter",
        &[23],
        "does not list GET_PARAMETER, and hangs up on it",
        On::Any,
        |ask, answer| {
            answer.edit("Public", |methods| methods.replace(" GET_PARAMETER,", ""));
            if ask.request.method == "GET_PARAMETER" {
                answer.refuse(501);
                answer.effect = Effect::HangUp;
            }
        },
    ),
    Kind::answer("redirect", &[34], "302 to a URL with another query", On::Describe, |ask, answer| {
        if !ask.request.url.contains("moved=1") {
            answer.refuse(302);
            answer.set("Location", format!("{}?moved=1", ask.base.trim_end_matches('/')));
        }
    }),
    // What a camera wants to be asked like -------------------------------------------------------------------
    Kind::answer(
        "wants-user-agent",
        &[33],
        "401 to DESCRIBE without User-Agent",
        On::Describe,
        |ask, answer| {
            if ask.request.header("User-Agent").is_none() {
                answer.refuse(401);
            }
        },
    ),
    Kind::answer("wants-cseq", &[32], "400 unless the header is spelled CSeq", On::Any, |ask, answer| {
        if !ask.request.header_names().any(|name| name == "CSeq") {
            answer.refuse(400);
        }
    }),
    Kind::answer(
        "wants-describe",
        &[36],
        "455 to SETUP without DESCRIBE on the same connection",
        On::Setup,
        |ask, answer| {
            if !ask.is_described {
                answer.refuse(455);
            }
        },
    ),
    Kind::answer("wants-no-mode", &[37], "461 to a Transport with mode=", On::Setup, |ask, answer| {
        if ask.request.header("Transport").is_some_and(|transport| transport.contains("mode=")) {
            answer.refuse(461);
        }
    }),
    Kind::answer(
        "wants-base-url",
        &[21],
        "hangs up on PLAY, keepalive and TEARDOWN of another URL than the base",
        On::Any,
        |ask, answer| {
            let is_of_session = matches!(ask.request.method.as_str(), "PLAY" | "GET_PARAMETER" | "TEARDOWN");
            if is_of_session && ask.request.url != ask.base {
                answer.refuse(400);
                answer.effect = Effect::HangUp;
            }
        },
    ),
    // How answers are written --------------------------------------------------------------------------------
    Kind::answer("lf-only", &[14], "ends lines with LF", On::Any, |_, answer| answer.line_end = "\n"),
    Kind::answer("status-zero", &[14], "says 0 where it means 200, and no reason", On::Any, |_, answer| {
        if answer.status == 200 {
            (answer.status, answer.reason) = (0, "");
        }
    }),
    Kind::answer("no-reason", &[14], "gives no reason phrase", On::Any, |_, answer| answer.reason = ""),
    Kind::answer("other-version", &[14], "calls itself RTSP/1.1", On::Any, |_, answer| {
        answer.version = "RTSP/1.1"
    }),
    Kind::answer("blank-colon", &[14], "puts blanks before colons", On::Any, |_, answer| {
        answer.colon = " : "
    }),
    Kind::answer(
        "cseq-wrong",
        &[31],
        "answers with the CSeq of the request before",
        On::Any,
        |ask, answer| {
            answer.set("CSeq", ask.previous_cseq);
        },
    ),
    Kind::answer("cseq-missing", &[31], "answers without CSeq", On::Any, |_, answer| answer.remove("CSeq")),
    Kind::answer(
        "huge-header",
        &[],
        "describes behind a header line of 128 KiB",
        On::Describe,
        |_, answer| {
            answer.headers.insert(0, ("X-Padding".to_owned(), "a".repeat(HUGE_HEADER_LEN)));
        },
    ),
    Kind::answer(
        "huge-body",
        &[],
        "announces a body of 99,999,999,999 bytes to DESCRIBE and sends without end",
        On::Describe,
        |_, answer| {
            answer.body.clear();
            answer.set("Content-Length", "99999999999");
            answer.effect = Effect::Flood(Flood::Letters);
        },
    ),
    Kind::answer(
        "endless-header",
        &[],
        "answers DESCRIBE with a header line that never ends",
        On::Describe,
        |_, answer| {
            answer.body.clear();
            answer.set("X-Endless", "");
            (answer.has_end, answer.line_end) = (false, "\r\n");
            answer.effect = Effect::Flood(Flood::Letters);
        },
    ),
    Kind::answer(
        "endless-fu",
        &[84],
        "after PLAY one fragmented NAL unit that never ends",
        On::Play,
        |_, answer| {
            if let Effect::Play(player) = &answer.effect {
                answer.effect = Effect::Flood(player.endless_unit());
            }
        },
    ),
    // Session ------------------------------------------------------------------------------------------------
    Kind::answer("session-blank", &[24], "ends Session with a blank", On::Any, |_, answer| {
        answer.edit("Session", |session| format!("{session} "));
    }),
    Kind::answer("session-zero", &[24], "announces a session timeout of 0", On::Setup, |_, answer| {
        answer.edit("Session", |session| format!("{};timeout=0", id(session)));
    }),
    Kind::answer("session-extra", &[24], "puts more parameters into Session", On::Any, |_, answer| {
        answer.edit("Session", |session| format!("{session};source=1;x"));
    }),
    Kind::answer("session-bare", &[24], "announces no session timeout", On::Setup, |_, answer| {
        answer.edit("Session", |session| id(session).to_owned());
    }),
    Kind::answer(
        "session-other",
        &[25],
        "gives another session id with PLAY, and wants that",
        On::Play,
        |_, answer| {
            answer.edit("Session", |session| format!("{session}2"));
        },
    ),
    Kind::answer("no-session", &[26], "sends no Session, and wants none", On::Any, |_, answer| {
        answer.remove("Session")
    }),
    // Transport ----------------------------------------------------------------------------------------------
    Kind::answer(
        "channels",
        &[10],
        "takes channels 10 and 11, whatever was asked",
        On::Setup,
        |_, answer| {
            answer.edit("Transport", |_| "RTP/AVP/TCP;unicast;interleaved=10-11".to_owned());
        },
    ),
    Kind::answer("odd-channels", &[10], "takes channels 7 and 8", On::Setup, |_, answer| {
        answer.edit("Transport", |_| "RTP/AVP/TCP;unicast;interleaved=7-8".to_owned());
    }),
    Kind::answer("no-transport", &[27], "answers SETUP without Transport", On::Setup, |_, answer| {
        answer.remove("Transport")
    }),
    Kind::answer("one-channel", &[28], "names one channel", On::Setup, |_, answer| {
        answer.edit("Transport", |_| "RTP/AVP/TCP;unicast;interleaved=0".to_owned());
    }),
    Kind::answer("avp", &[28], "says RTP/AVP where it means TCP", On::Setup, |_, answer| {
        answer.edit("Transport", |transport| transport.replace("RTP/AVP/TCP", "RTP/AVP"));
    }),
    Kind::answer(
        "transport-order",
        &[28],
        "Transport in another order, with blanks",
        On::Setup,
        |_, answer| {
            answer.edit("Transport", |_| {
                "interleaved = 0 - 1 ; unicast; RTP/AVP/TCP ;mode=\"PLAY\"".to_owned()
            });
        },
    ),
    Kind::answer("ssrc-odd", &[29], "an ssrc in Transport that is none", On::Setup, |_, answer| {
        answer.edit("Transport", |transport| format!("{transport};ssrc= 0x1234567;ssrc=99999"));
    }),
    Kind::answer("udp", &[30], "answers SETUP with UDP", On::Setup, |_, answer| {
        answer.edit("Transport", |_| "RTP/AVP;unicast;client_port=5000-5001;server_port=32773-0".to_owned());
    }),
    Kind::answer("rtp-info-odd", &[61], "an RTP-Info that cannot be meant", On::Play, |_, answer| {
        answer.edit("RTP-Info", |_| "url=rtsp://0.0.0.0/other;seq=0;rtptime=-1;,url=;seq=x;".to_owned());
    }),
    Kind::answer("no-rtp-info", &[61], "no RTP-Info and no Range", On::Play, |_, answer| {
        answer.remove("RTP-Info");
        answer.remove("Range");
    }),
    // Login --------------------------------------------------------------------------------------------------
    Kind::answer(
        "two-challenges",
        &[42],
        "asks for Basic and for what it takes, in two lines; needs --user",
        On::Any,
        |_, answer| {
            let at = answer.headers.iter().position(|(name, _)| name == "WWW-Authenticate");
            let basic = ("WWW-Authenticate".to_owned(), "Basic realm=\"vms-camsim\"".to_owned());
            at.into_iter().for_each(|at| answer.headers.insert(at + 1, basic.clone()));
        },
    ),
    Kind::answer(
        "rfc-2069",
        &[42],
        "Digest without qop and algorithm; needs --user",
        On::Any,
        |_, answer| {
            answer
                .edit("WWW-Authenticate", |challenge| challenge.replace(", algorithm=MD5, qop=\"auth\"", ""));
        },
    ),
    // Where the description says that everything is ----------------------------------------------------------
    Kind::answer("no-content-base", &[45], "no Content-Base", On::Describe, |_, answer| {
        answer.remove("Content-Base")
    }),
    Kind::answer("base-schemeless", &[45], "a Content-Base without rtsp://", On::Describe, |_, answer| {
        answer.edit("Content-Base", |base| base.trim_start_matches("rtsp://").to_owned());
    }),
    Kind::answer("base-doubled", &[45], "a Content-Base with rtsp:// twice", On::Describe, |_, answer| {
        answer.edit("Content-Base", |base| format!("rtsp://{base}"));
    }),
    Kind::answer(
        "base-elsewhere",
        &[46],
        "a Content-Base with an address behind NAT",
        On::Describe,
        |_, answer| {
            answer.edit("Content-Base", |base| {
                let path = base.splitn(4, '/').nth(3).unwrap_or_default();
                format!("rtsp://10.255.255.1:554/{path}")
            });
        },
    ),
    Kind::answer(
        "base-query",
        &[47],
        "a Content-Base with a query, behind which the track belongs",
        On::Any,
        |ask, answer| {
            let base = format!("{}?channel=1&subtype=0/", ask.base.trim_end_matches('/'));
            match ask.request.method.as_str() {
                "DESCRIBE" => answer.edit("Content-Base", |_| base),
                "SETUP" if !ask.request.url.ends_with(&format!("?channel=1&subtype=0/{TRACK}")) => {
                    answer.refuse(404)
                }
                _ => {}
            }
        },
    ),
    Kind::answer("no-content-type", &[48], "no Content-Type", On::Describe, |_, answer| {
        answer.remove("Content-Type")
    }),
    Kind::answer(
        "content-type-odd",
        &[48],
        "Content-Type in capitals, with a charset",
        On::Describe,
        |_, answer| {
            answer.edit("Content-Type", |_| "Application/SDP; charset=utf-8".to_owned());
        },
    ),
];

fn status(value: u64) -> u16 {
    u16::try_from(value).unwrap_or(500)
}

/// Of a Session.
fn id(session: &str) -> &str {
    session.split(';').next().unwrap_or_default()
}

/// Twice what a head may have (`limits.rs` of the daemon).
const HUGE_HEADER_LEN: usize = 128 * 1024;
