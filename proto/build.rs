//! Generates the messages, the client and the server from the `.proto` files. `protox` parses them, so that no
//! `protoc` needs to be installed.

/// Messages whose text may hold a secret: their `Debug` is written by hand in `src/redact.rs`, because prost does
/// not honour `debug_redact` (tokio-rs/prost#861).
const SECRET_MESSAGES: [&str; 3] =
    [".vms.media.v1.Credentials", ".vms.media.v1.StreamSpec", ".vms.media.v1.SetupStreamRequest"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=vms");
    let files = protox::compile(["vms/media/v1/media.proto", "vms/media/v1/recorder.proto"], ["."])?;
    tonic_prost_build::configure().btree_map(".").skip_debug(SECRET_MESSAGES).compile_fds(files)?;
    Ok(())
}
