//! Promise: the C header reads what the producer publishes, as our own reader does, and no producer can make it fault.
//!
//! Needs gcc, g++, clang and clang++. Programs that are run are built with AddressSanitizer and UndefinedBehaviorSanitizer.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod compile;
mod fuzz;
mod hostile;
mod live;
#[path = "../support/programs.rs"]
mod programs;
mod replay;
#[path = "../support/mod.rs"]
mod support;
