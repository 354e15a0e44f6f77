//! Faults of the SDP.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::kind::{Kind, On, Value};
use crate::answer::Answer;
use crate::sdp::TRACK;

pub(super) const TABLE: &[Kind] = &[
    Kind::answer("no-video", &[], "describes audio only", On::Describe, |_, answer| {
        answer.edit_body(|text| format!("{}{AUDIO}a=control:trackID=1\r\n", session(text)));
    }),
    Kind::answer("codec", &[], "describes a video codec that nobody carries", On::Describe, |_, answer| {
        lines(answer, |line| match line {
            _ if line.starts_with("a=fmtp:") => None,
            _ => Some(line.replace("H264/", "VP8/").replace("H265/", "VP8/")),
        });
    })
    .with(Value::Word("VP8")),
    Kind::answer("control-absolute", &[47], "a=control with the whole URL", On::Describe, |ask, answer| {
        lines(answer, |line| {
            Some(line.replace("a=control:trackID", &format!("a=control:{}trackID", ask.base)))
        });
    }),
    Kind::answer("control-star", &[47], "a=control:* for the track as well", On::Describe, |_, answer| {
        lines(answer, |line| Some(line.replace(&format!("a=control:{TRACK}"), "a=control:*")));
    }),
    Kind::answer("control-missing", &[47], "no a=control at all", On::Describe, |_, answer| {
        lines(answer, |line| (!line.starts_with("a=control:")).then(|| line.to_owned()));
    }),
    Kind::answer(
        "backchannel",
        &[39],
        "an audio track for talking back; hangs up on its SETUP",
        On::Any,
        |ask, answer| {
            if ask.request.method == "SETUP" && ask.request.url.ends_with("trackID=1") {
                answer.refuse(455);
                answer.effect = crate::answer::Effect::HangUp;
            }
            if ask.request.method == "DESCRIBE" {
                answer.edit_body(|text| {
                    let video = text.get(session(text).len()..).unwrap_or_default();
                    format!("{}{AUDIO}a=control:trackID=1\r\na=sendonly\r\n{video}", session(text))
                });
            }
        },
    ),
    Kind::answer("sendonly", &[51], "marks all tracks a=sendonly", On::Describe, |_, answer| {
        answer.edit_body(|text| format!("{text}a=sendonly\r\n"));
    }),
    Kind::answer(
        "sdp-odd",
        &[49],
        "no o=, two s=, broken c= and t=, a section nobody knows, bytes that are no UTF-8",
        On::Describe,
        |_, answer| {
            answer.edit_body(|text| {
            let video = text.get(session(text).len()..).unwrap_or_default();
            let head = "v=0\r\ns=one\r\ns=\r\nc=IN IP4\r\nt=now-\r\na=control:*\r\nm=application/TP-LINK 0 RTP/AVP smart/1/90000\r\n";
            format!("{head}a=rtpmap:95 TP-LINK/90000\r\n{video}i=?\r\n")
        });
            answer.body.iter_mut().filter(|byte| **byte == b'?').for_each(|byte| *byte = 0xff);
        },
    ),
    Kind::answer("rtpmap-blank", &[50], "a blank at the end of a=rtpmap", On::Describe, |_, answer| {
        lines(answer, |line| {
            Some(if line.starts_with("a=rtpmap") { format!("{line} ") } else { line.to_owned() })
        });
    }),
    Kind::answer("fmtp-empty", &[50], "an empty a=fmtp:96", On::Describe, |_, answer| {
        lines(answer, |line| {
            Some(if line.starts_with("a=fmtp") { "a=fmtp:96".to_owned() } else { line.to_owned() })
        });
    }),
    Kind::answer("fmtp-semicolon", &[50], "a=fmtp with a semicolon at its end", On::Describe, |_, answer| {
        lines(answer, |line| {
            Some(if line.starts_with("a=fmtp") { format!("{line};") } else { line.to_owned() })
        });
    }),
    Kind::answer("no-sprop", &[52, 78], "no parameter sets in the SDP", On::Describe, |_, answer| {
        format_parameters(answer, |name, _| (!name.starts_with("sprop-")).then(String::new));
    }),
    Kind::answer("sprop-bad", &[52], "parameter sets that are no base64", On::Describe, |_, answer| {
        format_parameters(answer, |name, _| {
            Some(if name.starts_with("sprop-") { "%%,=A=".to_owned() } else { String::new() })
        });
    }),
    Kind::answer("sprop-annexb", &[52], "parameter sets with start codes", On::Describe, |_, answer| {
        format_parameters(answer, |name, value| {
            let wrap = |set: &str| {
                BASE64.encode([&[0, 0, 0, 1], BASE64.decode(set).unwrap_or_default().as_slice()].concat())
            };
            let sets: Vec<String> = value.split(',').map(wrap).collect();
            Some(if name.starts_with("sprop-") { sets.join(",") } else { String::new() })
        });
    }),
    Kind::answer(
        "sprop-other",
        &[52],
        "other parameter sets than in the stream",
        On::Describe,
        |_, answer| {
            format_parameters(answer, |name, _| {
                Some(match name {
                    "sprop-parameter-sets" => "Z0IAHpWoKA9k,aM48gA==".to_owned(),
                    "sprop-sps" => "QgEBAWAAAAMAsAAAAwAAAwBdoAKAgC0WNrkky/AIAAADAAgAAAMBlQg=".to_owned(),
                    _ => String::new(),
                })
            });
        },
    ),
    Kind::answer("sprop-part", &[54], "H.265 with the SPS only", On::Describe, |_, answer| {
        format_parameters(answer, |name, _| (!matches!(name, "sprop-vps" | "sprop-pps")).then(String::new));
    }),
    Kind::answer(
        "mode-missing",
        &[53],
        "no packetization-mode, though fragments come",
        On::Describe,
        |_, answer| {
            format_parameters(answer, |name, _| (name != "packetization-mode").then(String::new));
        },
    ),
    Kind::answer(
        "mode-zero",
        &[53],
        "packetization-mode=0, though fragments come",
        On::Describe,
        |_, answer| {
            format_parameters(answer, |name, _| {
                Some(if name == "packetization-mode" { "0".to_owned() } else { String::new() })
            });
        },
    ),
];

/// A section that is not video.
const AUDIO: &str = "m=audio 0 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n";

/// What stands before the first section.
fn session(text: &str) -> &str {
    text.get(..text.find("m=").unwrap_or(text.len())).unwrap_or_default()
}

/// Replaces each line, or leaves it out.
fn lines(answer: &mut Answer, edit: impl Fn(&str) -> Option<String>) {
    answer.edit_body(|text| text.lines().filter_map(edit).map(|line| line + "\r\n").collect());
}

/// Gives each parameter of `a=fmtp` another value (an empty text: the old one), or leaves it out.
fn format_parameters(answer: &mut Answer, edit: impl Fn(&str, &str) -> Option<String>) {
    lines(answer, |line| {
        let Some((head, parameters)) = line.strip_prefix("a=fmtp:").and_then(|rest| rest.split_once(' '))
        else {
            return Some(line.to_owned());
        };
        let edited = parameters.split(';').filter_map(|parameter| {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            let new = edit(name, value)?;
            Some(format!("{name}={}", if new.is_empty() { value } else { &new }))
        });
        let edited: Vec<String> = edited.collect();
        (!edited.is_empty()).then(|| format!("a=fmtp:{head} {}", edited.join(";")))
    });
}
