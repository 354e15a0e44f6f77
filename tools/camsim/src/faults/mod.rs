//! How a farm misbehaves on request.
//!
//! ```text
//!  --fault, commands ─▶ spec ─▶ plan ─▶ Active: what holds on a camera now
//!                        │                │
//!                      kind ◀── tables    └─▶ asked where it matters: rtsp, player, server
//! ```
//!
//! To add a fault, add a line to a table: `answers` bends what a request is answered, `descriptions` the SDP, `packets`
//! what a unit becomes on the wire, `media` the stream itself. `life` is for all that takes code elsewhere. The name appears
//! in `--fault list` and must then stand in `tests/quirks.rs`, which says what the daemon makes of it.

mod answers;
mod descriptions;
pub(crate) mod kind;
mod life;
mod media;
mod packets;
pub(crate) mod plan;
pub(crate) mod spec;

use std::fmt::Write as _;

use kind::Kind;

/// All faults, in the order of `--fault list`.
const TABLES: &[&[Kind]] = &[life::TABLE, answers::TABLE, descriptions::TABLE, packets::TABLE, media::TABLE];

/// The fault called `name`.
pub(crate) fn find(name: &str) -> Option<&'static Kind> {
    TABLES.iter().copied().flatten().find(|kind| kind.name == name)
}

/// What `power off` begins and `power on` ends.
pub(crate) fn power_cut() -> &'static Kind {
    &life::POWER_CUT_KIND
}

/// All faults as a table: name, value, rows of `docs/cameras.md`, what the camera does.
#[must_use]
pub fn list() -> String {
    let mut text = format!("{:<22} {:<38} {:<8} WHAT THE CAMERA DOES\n", "NAME", "VALUE", "ROWS");
    for kind in TABLES.iter().copied().flatten() {
        let rows: Vec<String> = kind.rows.iter().map(ToString::to_string).collect();
        let value = match kind.value {
            kind::Value::None => String::new(),
            kind::Value::Word(_) | kind::Value::Number { .. } => kind.value.to_string(),
        };
        let _ = writeln!(text, "{:<22} {value:<38} {:<8} {}", kind.name, rows.join(","), kind.says);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_is_one_word_and_there_once() {
        let kinds: Vec<&Kind> = TABLES.iter().copied().flatten().collect();
        for (index, kind) in kinds.iter().enumerate() {
            assert!(!kinds[..index].iter().any(|other| other.name == kind.name), "{} twice", kind.name);
            assert!(
                kind.name
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte == b'-' || byte.is_ascii_digit())
            );
            assert!(!kind.says.is_empty() && !kind.says.ends_with('.'), "{}", kind.name);
        }
        assert_eq!(list().lines().count(), 1 + kinds.len());
    }
}
