//! Any RTP payloads of H.265, in any order and portions, against `codec::Depacketizer`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vms_fuzz::{memory, units};
use vms_pure::codec::Codec;

fuzz_target!(init: memory::limit(), |data: &[u8]| units::run(Codec::H265, data));
