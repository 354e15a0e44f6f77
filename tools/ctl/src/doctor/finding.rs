//! What a check found, for people and as JSON.

use std::fmt::Write;

use serde::Serialize;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    /// Nothing to do.
    Ok,
    /// It works, and could be better.
    Warn,
    /// It does not work.
    Fail,
}

/// What one check found. The names are a promise to scripts, as those of `view` are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// Which check.
    pub(crate) check: &'static str,
    pub(crate) level: Level,
    /// What is so.
    pub(crate) found: String,
    /// Why it matters; empty when nothing is to be said.
    pub(crate) why: String,
    /// What to do, most often a command to copy; `None` when there is nothing to do.
    pub(crate) fix: Option<String>,
}

impl Finding {
    /// All is well.
    pub(crate) fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, level: Level::Ok, found: found.into(), why: String::new(), fix: None }
    }

    /// It works, and could be better.
    pub(crate) fn warn(check: &'static str, found: impl Into<String>) -> Self {
        Self { level: Level::Warn, ..Self::ok(check, found) }
    }

    /// It does not work.
    pub(crate) fn fail(check: &'static str, found: impl Into<String>) -> Self {
        Self { level: Level::Fail, ..Self::ok(check, found) }
    }

    /// Says why it matters.
    #[must_use]
    pub(crate) fn why(self, why: impl Into<String>) -> Self {
        Self { why: why.into(), ..self }
    }

    /// Says what to do.
    #[must_use]
    pub(crate) fn fix(self, fix: impl Into<String>) -> Self {
        Self { fix: Some(fix.into()), ..self }
    }

    /// A line, and beneath it why and what to do, unless all is well. What a camera sent plays with nobody's terminal.
    pub(crate) fn text(&self) -> String {
        let word = match self.level {
            Level::Ok => "ok",
            Level::Warn => "warn",
            Level::Fail => "FAIL",
        };
        let mut text = format!("{word:<5} {:<15} {}", self.check, self.found);
        if self.level != Level::Ok {
            let parts = [("why:", Some(&self.why).filter(|why| !why.is_empty())), ("do:", self.fix.as_ref())];
            for (head, part) in parts {
                // Writing to a String cannot fail.
                let _ = part.map(|part| write!(text, "\n      {:<15} {head:<4} {part}", ""));
            }
        }
        text.chars().map(|c| if c.is_control() && c != '\n' { ' ' } else { c }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_well_has_one_line_and_what_is_not_says_what_to_do() {
        let fine = Finding::ok("kernel", "Linux 6.18").why("because").fix("nothing");
        assert_eq!(fine.text(), "ok    kernel          Linux 6.18");
        let bad = Finding::fail("files", "at most 64").why("a stream takes three").fix("ulimit -n 4096");
        let lines = [
            "FAIL  files           at most 64",
            "                      why: a stream takes three",
            "                      do:  ulimit -n 4096",
        ];
        assert_eq!(bad.text().lines().collect::<Vec<_>>(), lines);
        assert_eq!(Finding::ok("server", "a\x1b[2Jb").text(), "ok    server          a [2Jb");
        let json = serde_json::to_value(&bad).unwrap();
        assert_eq!((&json["level"], &json["fix"]), (&"fail".into(), &"ulimit -n 4096".into()));
    }
}
