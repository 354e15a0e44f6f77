//! vms-camsim
fn main() {}
