//! Promise: `UpdateStream` changes what its mask names and nothing else, only the stream that the caller knows, and says what is wrong.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use support::Lab;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tonic_types::StatusExt;
use vms_proto::v1;
use vms_proto::v1::media_control_client::MediaControlClient;

/// A camera that refuses connections: nothing listens at the port of tcpmux.
const NOBODY: &str = "rtsp://127.0.0.1:1/";

type Client = MediaControlClient<Channel>;

#[tokio::test]
async fn a_mask_without_names_means_access_and_any_other_path_is_refused() {
    let lab = Lab::new("update-mask");
    let _daemon = lab.daemon(&[]);
    let mut client = set_up(&lab, "cam").await;
    for (paths, uids) in [(&[][..], [7]), (&["access"], [8]), (&["access", "access"], [9])] {
        let stream = update(&mut client, request("cam", &uids, paths)).await.unwrap();
        assert_eq!(access(&stream).uids, uids, "{paths:?}");
    }
    let before = get(&mut client, "cam").await;
    for paths in
        [&["url"][..], &["access", "labels"], &["access.uids"], &["*"], &[""], &["spec.access"], &["Access"]]
    {
        let refused = update(&mut client, request("cam", &[1], paths)).await.unwrap_err();
        assert_eq!(why(&refused), (Code::InvalidArgument, "INVALID_ARGUMENT".to_owned()), "{paths:?}");
        assert_eq!(field(&refused), "update_mask");
        assert!(refused.message().contains("only access"), "{refused}");
    }
    assert_eq!(get(&mut client, "cam").await, before, "a refused change changes nothing");

    // Nothing but the list is taken from the spec, and a spec that has none empties it.
    let mut other = request("cam", &[], &["access"]);
    let labels = [("k".to_owned(), "v".to_owned())].into();
    other.spec = Some(v1::StreamSpec { url: "rtsp://10.0.0.9/".to_owned(), labels, ..Default::default() });
    let stream = update(&mut client, other).await.unwrap();
    let spec = stream.spec.unwrap();
    assert_eq!((spec.url.as_str(), spec.labels.len(), spec.access), (NOBODY, 0, None));
}

#[tokio::test]
async fn patience_is_changed_as_a_whole_and_only_when_it_is_named() {
    let lab = Lab::new("update-patience");
    let _daemon = lab.daemon(&[]);
    let mut client = set_up(&lab, "cam").await;
    let first = get(&mut client, "cam").await;
    let span = |seconds: i64| Some(prost_types::Duration { seconds, nanos: 0 });
    let with = |idle: Option<prost_types::Duration>, max, paths: &[&str]| {
        let spec = Some(v1::StreamSpec {
            timeouts: Some(v1::Timeouts { idle, ..Default::default() }),
            retry: Some(v1::RetryPolicy { max, ..Default::default() }),
            ..Default::default()
        });
        v1::UpdateStreamRequest { spec, ..request("cam", &[], paths) }
    };
    let not_named = update(&mut client, with(span(8), span(9), &[])).await.unwrap();
    assert_eq!((&not_named.spec, &not_named.etag), (&first.spec, &first.etag));
    let own = |stream: v1::Stream| {
        let spec = stream.spec.unwrap();
        (spec.timeouts.and_then(|own| own.idle), spec.retry.and_then(|own| own.max), spec.access)
    };
    let changed = update(&mut client, with(span(8), span(9), &["timeouts"])).await.unwrap();
    assert_ne!(changed.etag, first.etag);
    assert_eq!(own(changed), (span(8), None, None));
    let changed = update(&mut client, with(None, span(9), &["retry"])).await.unwrap();
    assert_eq!(own(changed), (span(8), span(9), None));
    update(&mut client, request("cam", &[7], &["access"])).await.unwrap();
    let both = update(&mut client, request("cam", &[8], &["timeouts", "access"])).await.unwrap();
    assert_eq!(access(&both).uids, [8]);
    assert_eq!(own(both).0, None, "what is named and absent is the daemon's again");

    let before = get(&mut client, "cam").await;
    let refused = update(&mut client, with(span(0), None, &["retry", "timeouts"])).await.unwrap_err();
    assert_eq!(why(&refused), (Code::InvalidArgument, "INVALID_ARGUMENT".to_owned()));
    assert_eq!(field(&refused), "spec.timeouts.idle");
    assert!(refused.message().contains("from 1 to 3600 seconds"), "{refused}");
    assert_eq!(get(&mut client, "cam").await, before, "a refused change changes nothing");
}

#[tokio::test]
async fn an_etag_of_an_older_spec_changes_nothing() {
    let lab = Lab::new("update-etag");
    let _daemon = lab.daemon(&[]);
    let mut client = set_up(&lab, "cam").await;
    let first = get(&mut client, "cam").await;
    let with = |etag: &str, uids: &[u32]| v1::UpdateStreamRequest {
        etag: etag.to_owned(),
        ..request("cam", uids, &[])
    };
    let second = update(&mut client, with(&first.etag, &[7])).await.unwrap();
    assert_ne!(second.etag, first.etag);
    for etag in [first.etag.as_str(), "0", "no etag of ours", " "] {
        let refused = update(&mut client, with(etag, &[8])).await.unwrap_err();
        assert_eq!(why(&refused), (Code::Aborted, "ETAG_MISMATCH".to_owned()), "{etag:?}");
    }
    let now = get(&mut client, "cam").await;
    assert_eq!((access(&now).uids.as_slice(), &now.etag), (&[7][..], &second.etag));

    // The same list again is no change, and without an etag the stream is changed whatever it is.
    assert_eq!(update(&mut client, with(&second.etag, &[7])).await.unwrap().etag, second.etag);
    assert_eq!(access(&update(&mut client, with("", &[9])).await.unwrap()).uids, [9]);
}

#[tokio::test]
async fn a_stream_that_is_not_there_and_ids_that_are_nobodys_are_refused() {
    let lab = Lab::new("update-refused");
    let _daemon = lab.daemon(&[]);
    let mut client = set_up(&lab, "cam").await;
    let mut refused = async |request| {
        let status = update(&mut client, request).await.unwrap_err();
        let field = status.get_details_bad_request().map(|_| field(&status)).unwrap_or_default();
        (why(&status), field, status.message().to_owned())
    };
    let (reason, ..) = refused(request("nobody", &[1], &[])).await;
    assert_eq!(reason, (Code::NotFound, "STREAM_NOT_FOUND".to_owned()));
    let (reason, ..) =
        refused(v1::UpdateStreamRequest { etag: "1".to_owned(), ..request("nobody", &[], &[]) }).await;
    assert_eq!(reason.0, Code::NotFound, "whether it is there comes before what it is");
    let (reason, ..) = refused(request("../cam", &[1], &[])).await;
    assert_eq!(reason, (Code::InvalidArgument, "INVALID_STREAM_ID".to_owned()));

    let (reason, field, text) = refused(request("cam", &[1, u32::MAX], &[])).await;
    assert_eq!((reason.0, field.as_str()), (Code::InvalidArgument, "spec.access.uids"));
    assert!(text.contains("4294967295") && text.contains("-1") && text.contains("nobody's"), "{text}");
    let gids = v1::AccessPolicy { uids: vec![], gids: vec![u32::MAX] };
    let spec = Some(v1::StreamSpec { access: Some(gids), ..Default::default() });
    let (reason, field, _) = refused(v1::UpdateStreamRequest { spec, ..request("cam", &[], &[]) }).await;
    assert_eq!((reason.0, field.as_str()), (Code::InvalidArgument, "spec.access.gids"));
    let (reason, field, _) = refused(request("cam", &(0..65).collect::<Vec<_>>(), &[])).await;
    assert_eq!((reason.0, field.as_str()), (Code::InvalidArgument, "spec.access"));

    // Twice is once.
    let twice = (0..64).chain(0..64).collect::<Vec<_>>();
    let stream = update(&mut client, request("cam", &twice, &[])).await.unwrap();
    assert_eq!(access(&stream).uids, (0..64).collect::<Vec<_>>());
}

#[tokio::test]
async fn the_command_line_changes_the_list_and_says_what_is_wrong() {
    let lab = Lab::new("update-ctl");
    let _daemon = lab.daemon(&[]);
    let mut client = set_up(&lab, "cam").await;
    let answer = lab.ctl_json(&["access", "cam", "--uid", "7", "--uid", "7", "--gid", "9"]);
    assert_eq!(answer["access"], serde_json::json!({"uids": [7], "gids": [9]}));
    assert_eq!(answer["withdrawal_pending_since"], serde_json::Value::Null, "nobody is cut off");
    assert_eq!(access(&get(&mut client, "cam").await), v1::AccessPolicy { uids: vec![7], gids: vec![9] });
    for (arguments, text) in [
        (["access", "cam", "--uid", "4294967295"], "nobody's id"),
        (["access", "nobody", "--uid", "1"], "there is no stream nobody"),
    ] {
        let output = lab.ctl(&arguments);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(1) && told.contains(text), "{told}");
    }
    assert_eq!(lab.ctl_json(&["access", "cam"])["access"], serde_json::json!({"uids": [], "gids": []}));
}

async fn set_up(lab: &Lab, id: &str) -> Client {
    let endpoint = Endpoint::from_shared(format!("unix:{}", lab.control_socket())).unwrap();
    let mut client = Client::new(endpoint.connect().await.unwrap());
    let request = v1::SetupStreamRequest { id: id.to_owned(), url: NOBODY.to_owned(), spec: None };
    client.setup_stream(request).await.unwrap();
    client
}

fn request(id: &str, uids: &[u32], paths: &[&str]) -> v1::UpdateStreamRequest {
    let access = Some(v1::AccessPolicy { uids: uids.to_vec(), gids: vec![] });
    let paths = paths.iter().map(|path| (*path).to_owned()).collect();
    v1::UpdateStreamRequest {
        id: id.to_owned(),
        spec: Some(v1::StreamSpec { access, ..Default::default() }),
        update_mask: Some(prost_types::FieldMask { paths }),
        etag: String::new(),
    }
}

async fn update(client: &mut Client, request: v1::UpdateStreamRequest) -> Result<v1::Stream, Status> {
    client.update_stream(request).await.map(tonic::Response::into_inner)
}

/// The stream without what its camera does meanwhile.
async fn get(client: &mut Client, id: &str) -> v1::Stream {
    let stream = client.get_stream(v1::GetStreamRequest { id: id.to_owned() }).await.unwrap().into_inner();
    v1::Stream { stream_id: stream.stream_id, spec: stream.spec, etag: stream.etag, ..Default::default() }
}

fn access(stream: &v1::Stream) -> v1::AccessPolicy {
    stream.spec.as_ref().and_then(|spec| spec.access.clone()).unwrap_or_default()
}

fn why(status: &Status) -> (Code, String) {
    (status.code(), status.get_details_error_info().unwrap().reason)
}

fn field(status: &Status) -> String {
    status.get_details_bad_request().unwrap().field_violations.remove(0).field
}
