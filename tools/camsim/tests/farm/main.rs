//! The farm through its socket: clients and cameras that do not behave, and what an operator sees and does.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a failing test may panic anywhere")]

mod clients;
mod operator;
mod support;
