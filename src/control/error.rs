//! What can be wrong with a call, and how it is told: `google.rpc.Status` with one `ErrorInfo`.
//!
//! The messages are for people and say what to do. They never repeat what the caller sent unless it was checked
//! before: a URL with a password in it may have been put into any field by mistake.

use std::collections::HashMap;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::ids::{InvalidStreamId, StreamId};

/// Who says so, in every `ErrorInfo`.
const DOMAIN: &str = "media.vms";

/// When a call that met an overload should be tried again.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// Why a call failed. The table in `media.proto` lists reasons and codes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ApiError {
    /// The id does not match the pattern.
    #[error("{InvalidStreamId}")]
    InvalidStreamId,
    /// The URL cannot be used.
    #[error("the URL cannot be used: {why}")]
    InvalidUrl {
        /// What is wrong with it; never the URL itself.
        why: String,
    },
    /// The URL's scheme is not carried.
    #[error("only rtsp:// URLs are carried")]
    UnsupportedScheme,
    /// A field is outside what its comment allows.
    #[error("{field}: {why}")]
    InvalidField {
        /// The field's path in the request.
        field: &'static str,
        /// What is allowed.
        why: String,
    },
    /// The API has it, this daemon does not.
    #[error("{what} is not available yet")]
    NotAvailable {
        /// What was asked for.
        what: &'static str,
    },
    /// There is no such stream.
    #[error("there is no stream {id}")]
    NotFound {
        /// The name.
        id: StreamId,
    },
    /// The id runs with another spec.
    #[error("stream {id} is set up with another {}: tear it down first, or use another id", fields.join(", "))]
    SpecConflict {
        /// The name.
        id: StreamId,
        /// Names of the spec's fields that differ.
        fields: Vec<&'static str>,
    },
    /// The spec was changed meanwhile.
    #[error("stream {id} was changed meanwhile: get it, and try again with its etag")]
    EtagMismatch {
        /// The name.
        id: StreamId,
    },
    /// The stream is not a caller's to change.
    #[error("stream {id} is the configuration file's ({place}): change it there, and start the daemon again")]
    FromFile {
        /// The name.
        id: StreamId,
        /// File and line.
        place: String,
    },
    /// The daemon is full.
    #[error("the daemon carries at most {limit} streams: tear one down, or start another daemon")]
    StreamLimit {
        /// How many it carries.
        limit: usize,
    },
    /// No memory for one more arena.
    #[error("no shared memory for one more stream: {why}")]
    MemoryLimit {
        /// What the kernel said.
        why: String,
    },
    /// One more arena is more than the streams may take.
    #[error(
        "no memory for one more stream: it takes {} MiB, and the {streams} there are leave less than that of the {} MiB \
         that streams may take here: tear one down, or give the machine or the container more memory and start the \
         daemon again",
        mebibytes(*segment_len), mebibytes(*bytes_max)
    )]
    MemoryBudget {
        /// Streams that hold memory.
        streams: usize,
        /// Bytes that one takes.
        segment_len: u64,
        /// Bytes that all may take.
        bytes_max: u64,
    },
    /// Too many watches.
    #[error("at most {limit} watches may be open: close one")]
    WatcherLimit {
        /// How many may be open.
        limit: usize,
    },
    /// The watcher did not read.
    #[error("the events were not read fast enough: watch again from revision 0")]
    SlowWatcher,
    /// A shard's command queue is full, or a stream's memory was not made in time.
    #[error("the daemon is busy: try again")]
    Overloaded,
    /// The stream cannot be moved now.
    #[error("stream {id} is connecting, ending or moving: try again")]
    Busy {
        /// The name.
        id: StreamId,
    },
    /// The state directory did not take a change.
    #[error("not saved to the state directory: {why}; put it right, and try again")]
    NotSaved {
        /// What the system said.
        why: String,
    },
    /// The daemon is stopping.
    #[error("the daemon is stopping")]
    Draining,
}

impl ApiError {
    /// The word for machines.
    pub(crate) const fn reason(&self) -> &'static str {
        match self {
            Self::InvalidStreamId => "INVALID_STREAM_ID",
            Self::InvalidUrl { .. } => "INVALID_URL",
            Self::UnsupportedScheme => "UNSUPPORTED_SCHEME",
            Self::InvalidField { .. } => "INVALID_ARGUMENT",
            Self::NotAvailable { .. } => "NOT_AVAILABLE",
            Self::NotFound { .. } => "STREAM_NOT_FOUND",
            Self::SpecConflict { .. } => "STREAM_SPEC_CONFLICT",
            Self::EtagMismatch { .. } => "ETAG_MISMATCH",
            Self::FromFile { .. } => "STREAM_FROM_FILE",
            Self::StreamLimit { .. } => "STREAM_LIMIT",
            Self::MemoryLimit { .. } | Self::MemoryBudget { .. } => "MEMORY_LIMIT",
            Self::WatcherLimit { .. } => "WATCHER_LIMIT",
            Self::SlowWatcher => "SLOW_WATCHER",
            Self::Overloaded => "OVERLOADED",
            Self::Busy { .. } => "STREAM_BUSY",
            Self::NotSaved { .. } => "STATE_NOT_SAVED",
            Self::Draining => "DRAINING",
        }
    }

    const fn code(&self) -> Code {
        match self {
            Self::InvalidStreamId
            | Self::InvalidUrl { .. }
            | Self::UnsupportedScheme
            | Self::InvalidField { .. } => Code::InvalidArgument,
            Self::NotAvailable { .. } => Code::Unimplemented,
            Self::NotFound { .. } => Code::NotFound,
            Self::SpecConflict { .. } => Code::AlreadyExists,
            Self::EtagMismatch { .. } => Code::Aborted,
            Self::FromFile { .. } => Code::FailedPrecondition,
            Self::StreamLimit { .. }
            | Self::MemoryLimit { .. }
            | Self::MemoryBudget { .. }
            | Self::WatcherLimit { .. }
            | Self::SlowWatcher => Code::ResourceExhausted,
            Self::Overloaded | Self::Busy { .. } | Self::NotSaved { .. } | Self::Draining => {
                Code::Unavailable
            }
        }
    }

    /// The request's field that is at fault, if one is.
    pub(crate) const fn field(&self) -> Option<&'static str> {
        match self {
            Self::InvalidStreamId => Some("id"),
            Self::InvalidUrl { .. } | Self::UnsupportedScheme => Some("url"),
            Self::InvalidField { field, .. } => Some(field),
            Self::NotAvailable { .. }
            | Self::NotFound { .. }
            | Self::SpecConflict { .. }
            | Self::EtagMismatch { .. }
            | Self::FromFile { .. }
            | Self::StreamLimit { .. }
            | Self::MemoryLimit { .. }
            | Self::MemoryBudget { .. }
            | Self::WatcherLimit { .. }
            | Self::SlowWatcher
            | Self::Overloaded
            | Self::Busy { .. }
            | Self::NotSaved { .. }
            | Self::Draining => None,
        }
    }

    fn metadata(&self) -> HashMap<String, String> {
        let pair = |key: &str, value: String| HashMap::from([(key.to_owned(), value)]);
        match self {
            Self::NotFound { id }
            | Self::EtagMismatch { id }
            | Self::FromFile { id, .. }
            | Self::Busy { id } => pair("stream_id", id.to_string()),
            Self::SpecConflict { id, fields } => {
                let mut pairs = pair("stream_id", id.to_string());
                pairs.insert("fields".to_owned(), fields.join(","));
                pairs
            }
            Self::StreamLimit { limit } | Self::WatcherLimit { limit } => pair("limit", limit.to_string()),
            Self::MemoryBudget { bytes_max, .. } => pair("limit_bytes", bytes_max.to_string()),
            Self::InvalidStreamId
            | Self::InvalidUrl { .. }
            | Self::UnsupportedScheme
            | Self::InvalidField { .. }
            | Self::NotAvailable { .. }
            | Self::MemoryLimit { .. }
            | Self::SlowWatcher
            | Self::Overloaded
            | Self::NotSaved { .. }
            | Self::Draining => HashMap::new(),
        }
    }
}

impl From<ApiError> for Status {
    fn from(error: ApiError) -> Self {
        let message = error.to_string();
        let mut details = ErrorDetails::with_error_info(error.reason(), DOMAIN, error.metadata());
        if let Some(field) = error.field() {
            details.add_bad_request_violation(field, &message);
        }
        if matches!(error, ApiError::Overloaded | ApiError::Busy { .. }) {
            details.set_retry_info(Some(RETRY_AFTER));
        }
        if let ApiError::FromFile { id, .. } = &error {
            details.add_precondition_failure_violation(error.reason(), id.as_str(), &message);
        }
        if let ApiError::NotFound { id } = &error {
            details.set_resource_info("vms.media.v1.Stream", id.as_str(), "", "");
        }
        Self::with_error_details(error.code(), message, details)
    }
}

/// For people, to a tenth.
fn mebibytes(bytes: u64) -> String {
    let tenths = bytes.saturating_mul(10) >> 20;
    format!("{}.{}", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_has_one_error_info_and_a_bad_argument_names_its_field() {
        let id = StreamId::new("cam-1").unwrap();
        let conflict = ApiError::SpecConflict { id, fields: vec!["url", "labels"] };
        let status = Status::from(conflict);
        assert_eq!(status.code(), Code::AlreadyExists);
        let info = status.get_details_error_info().unwrap();
        assert_eq!((info.reason.as_str(), info.domain.as_str()), ("STREAM_SPEC_CONFLICT", "media.vms"));
        assert_eq!(info.metadata["fields"], "url,labels");

        let status = Status::from(ApiError::InvalidStreamId);
        assert_eq!(status.get_details_bad_request().unwrap().field_violations[0].field, "id");
        assert!(Status::from(ApiError::Overloaded).get_details_retry_info().unwrap().retry_delay.is_some());
    }
}
