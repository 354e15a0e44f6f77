//! Stamp.
