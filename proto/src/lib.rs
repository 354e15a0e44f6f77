//! The gRPC API of vms-media: messages, client and server of `vms/media/v1/media.proto`.
//!
//! The comments in that file are the API's documentation; they reach this crate's documentation as they are.
//! No `Debug` of any message prints a password or a URL that may hold one.

mod redact;

/// Package `vms.media.v1`.
pub mod v1 {
    #![expect(
        missing_docs,
        unused_qualifications,
        clippy::all,
        clippy::allow_attributes_without_reason,
        reason = "generated code"
    )]

    tonic::include_proto!("vms.media.v1");
}
