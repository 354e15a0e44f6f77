//! The control plane: gRPC, HTTP, the registry of streams, name look-ups, start and stop.
//!
//! ```text
//!  callers ──gRPC─▶ api ──▶ plane ─┬─▶ registry ─▶ feed ──events──▶ watchers
//!                                  └─▶ engine ──commands──▶ shards
//!                            ▲            │
//!                          pump ◀─events──┘        (one a shard)
//!                            └──▶ resolve
//!  reader ──ring socket──▶ attach ─▶ plane
//!  scraper ──HTTP──▶ http ──asks──▶ plane ──changes──▶ state (a thread that writes)
//! ```
//! One thread, one tokio runtime; but for `http`, which has its own. Nothing here touches media, and nothing a caller does can
//! hold up a shard.

mod api;
mod attach;
mod balance;
mod budget;
mod callers;
mod configured;
mod engine;
mod error;
mod feed;
mod http;
mod huge_pages;
mod listen;
mod log_gate;
mod outage;
mod patience;
mod plane;
mod programs;
mod rates;
mod registry;
mod resolve;
mod serve;
mod setups;
mod show;
mod signals;
mod spec;
mod state;
mod withdrawals;

pub use budget::{StreamMemory, stream_memory};
pub use engine::StartError;
pub use huge_pages::arena_page_len;
pub use listen::ListenError;
pub use serve::{Daemon, RunError};
pub use state::StateError;
