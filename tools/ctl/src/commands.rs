//! One function a command.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;

use serde::Serialize;
use tonic::transport::Channel;
use vms_proto::v1;
use vms_proto::v1::media_control_client::MediaControlClient;

use crate::args::{Args, Command, Record, Setup, Update};
use crate::problem::Problem;
use crate::{client, doctor, recordings, table, view};

/// Bytes read of a password file; longer ones are no password.
const PASSWORD_FILE_LEN_MAX: u64 = 4096;

/// Streams asked for at once.
const PAGE_SIZE: i32 = 1000;

type Client = MediaControlClient<Channel>;

/// Where the answer goes, and in which form.
struct Output<'a, W> {
    json: bool,
    to: &'a mut W,
}

/// Does what the command line says, and writes the answer to `to`.
pub(crate) async fn run(args: Args, to: &mut impl Write) -> Result<(), Problem> {
    if let Command::Doctor(doctor) = args.command {
        return doctor::run(doctor, args.server, args.json, to).await;
    }
    if let Command::Recorded(question) = args.command {
        return recordings::run(question, table::system_now(), args.json, to).await;
    }
    let mut client = client::connect(args.server).await?;
    let mut output = Output { json: args.json, to };
    match args.command {
        Command::Setup(setup) => set_up(&mut client, setup, &mut output).await,
        Command::Access { id, access } => set_access(&mut client, id, access.into(), &mut output).await,
        Command::Update(change) => update(&mut client, change, &mut output).await,
        Command::Move { id, shard } => move_stream(&mut client, id, shard, &mut output).await,
        Command::Restart { id } => restart(&mut client, id, &mut output).await,
        Command::Teardown { id } => tear_down(&mut client, id, &mut output).await,
        Command::Get { id } => show_one(&mut client, id, &mut output).await,
        Command::List => list(&mut client, &mut output).await,
        Command::Stats { id: None } => stats(&mut client, &mut output).await,
        Command::Stats { id: Some(id) } => stats_of_one(&mut client, id, &mut output).await,
        Command::Watch { from } => watch(&mut client, from, &mut output).await,
        Command::Info => info(&mut client, &mut output).await,
        // Done above: they need no daemon.
        Command::Doctor(_) | Command::Recorded(_) => Ok(()),
    }
}

async fn set_up<W: Write>(
    client: &mut Client,
    setup: Setup,
    output: &mut Output<'_, W>,
) -> Result<(), Problem> {
    let answer = client.setup_stream(setup_request(setup)?).await?.into_inner();
    let stream = answer.stream.ok_or(Problem::Incomplete("stream"))?;
    let word = if answer.created { "set up" } else { "unchanged" };
    let line = format!("stream {} {word}", stream.stream_id);
    output.value(&view::Setup { stream: view::Stream::from(stream), created: answer.created }, &line)
}

async fn set_access<W: Write>(
    client: &mut Client,
    id: String,
    access: v1::AccessPolicy,
    output: &mut Output<'_, W>,
) -> Result<(), Problem> {
    let spec = Some(v1::StreamSpec { access: Some(access), ..Default::default() });
    let request = v1::UpdateStreamRequest { id, spec, ..Default::default() };
    let stream = view::Stream::from(client.update_stream(request).await?.into_inner());
    let pending = stream.withdrawal_pending_since.is_some();
    let note = if pending { "; others are being cut off: `get` tells when that is done" } else { "" };
    let line = format!("stream {} may be read by {}{note}", stream.stream_id, table::readers(&stream.access));
    output.value(&stream, &line)
}

/// The stream is looked at before, because the API takes time-outs and waits as a whole; its etag makes sure that nobody changed them
/// meanwhile.
async fn update<W: Write>(
    client: &mut Client,
    change: Update,
    output: &mut Output<'_, W>,
) -> Result<(), Problem> {
    let Update { id, defaults, patience, record } = change;
    if patience.is_empty() && !defaults && record.is_none() {
        let words = "say what to change, such as --record continuous, --idle-timeout 12s or --retry-every 5s; --defaults forgets all \
                     of the last two kinds";
        return Err(Problem::Usage(words.to_owned()));
    }
    let before = client.get_stream(v1::GetStreamRequest { id: id.clone() }).await?.into_inner();
    let spec = if defaults { v1::StreamSpec::default() } else { before.spec.unwrap_or_default() };
    let mut paths = Vec::new();
    let mut spec = patience.over(spec);
    if let Some(record) = record {
        paths.push("record".to_owned());
        spec.record = Some(record.into());
    }
    if defaults || !patience.is_empty() {
        paths.extend(["timeouts", "retry"].map(str::to_owned));
    }
    let request = v1::UpdateStreamRequest {
        id,
        spec: Some(spec),
        update_mask: Some(prost_types::FieldMask { paths }),
        etag: before.etag,
    };
    let stream = view::Stream::from(client.update_stream(request).await?.into_inner());
    let recorded = record.map(|_| format!("recorded: {}; ", stream.record)).unwrap_or_default();
    let line = format!("stream {}: {recorded}{}", stream.stream_id, table::patience(&stream));
    output.value(&stream, &line)
}

async fn move_stream<W: Write>(
    client: &mut Client,
    id: String,
    shard: u32,
    output: &mut Output<'_, W>,
) -> Result<(), Problem> {
    let stream = client.move_stream(v1::MoveStreamRequest { id, shard }).await?.into_inner();
    let stream = view::Stream::from(stream);
    let line = format!("stream {} is carried by shard {}", stream.stream_id, stream.shard);
    output.value(&stream, &line)
}

async fn restart<W: Write>(
    client: &mut Client,
    id: String,
    output: &mut Output<'_, W>,
) -> Result<(), Problem> {
    let stream = client.restart_stream(v1::RestartStreamRequest { id }).await?.into_inner();
    let stream = view::Stream::from(stream);
    let line = format!("stream {} is tried anew", stream.stream_id);
    output.value(&stream, &line)
}

async fn tear_down<W: Write>(
    client: &mut Client,
    id: String,
    output: &mut Output<'_, W>,
) -> Result<(), Problem> {
    let request = v1::TeardownStreamRequest { id: id.clone() };
    let existed = client.teardown_stream(request).await?.into_inner().existed;
    let word = if existed { "torn down" } else { "was not there" };
    output.value(&view::Teardown { existed }, &format!("stream {id} {word}"))
}

async fn show_one<W: Write>(
    client: &mut Client,
    id: String,
    output: &mut Output<'_, W>,
) -> Result<(), Problem> {
    let stream = client.get_stream(v1::GetStreamRequest { id }).await?.into_inner();
    let stream = view::Stream::from(stream);
    output.value(&stream, &table::describe(&stream))
}

async fn list<W: Write>(client: &mut Client, output: &mut Output<'_, W>) -> Result<(), Problem> {
    let list = all(client).await?;
    output.value(&list, &table::streams(&list.streams))
}

async fn stats<W: Write>(client: &mut Client, output: &mut Output<'_, W>) -> Result<(), Problem> {
    let now = table::now();
    let streams = all(client).await?.streams.into_iter();
    let streams = streams.map(|stream| view::StreamStats::of(stream, now)).collect();
    let list = view::StatsList { streams };
    output.value(&list, &table::stats(&list.streams))
}

async fn stats_of_one<W: Write>(
    client: &mut Client,
    id: String,
    output: &mut Output<'_, W>,
) -> Result<(), Problem> {
    let stream = client.get_stream(v1::GetStreamRequest { id }).await?.into_inner();
    let mut stream = view::Stream::from(stream);
    let readers = Some(std::mem::take(&mut stream.readers));
    let stats = view::StreamStats { readers, ..view::StreamStats::of(stream, table::now()) };
    output.value(&stats, &table::stats_in_full(&stats))
}

/// All streams, asked for in pages.
async fn all(client: &mut Client) -> Result<view::List, Problem> {
    let mut list = view::List::default();
    let mut page_token = String::new();
    loop {
        let request = v1::ListStreamsRequest { page_size: PAGE_SIZE, page_token };
        let page = client.list_streams(request).await?.into_inner();
        if list.revision == 0 {
            list.revision = page.revision;
        }
        list.streams.extend(page.streams.into_iter().map(view::Stream::from));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(list);
        }
    }
}

async fn watch<W: Write>(client: &mut Client, from: u64, output: &mut Output<'_, W>) -> Result<(), Problem> {
    let request = v1::WatchStreamsRequest { from_revision: from };
    let mut events = client.watch_streams(request).await?.into_inner();
    if !output.json {
        writeln!(output.to, "{}", table::EVENT_HEADER)?;
    }
    let mut revision = from;
    loop {
        let event = match events.message().await {
            Ok(Some(event)) => event,
            Ok(None) => return Ok(()),
            Err(status) => return Err(Problem::of_a_watch(status, revision)),
        };
        // A snapshot's events carry revisions too, but only its end is a place to go on from.
        if !matches!(event.r#type(), v1::EventType::Snapshot) {
            revision = event.revision;
        }
        let event = view::Event::from(event);
        output.value(&event, &table::event(&event))?;
    }
}

async fn info<W: Write>(client: &mut Client, output: &mut Output<'_, W>) -> Result<(), Problem> {
    let info = client.get_server_info(v1::GetServerInfoRequest {}).await?.into_inner();
    let info = view::Info::from(info);
    output.value(&info, &table::info(&info))
}

impl<W: Write> Output<'_, W> {
    /// Writes one answer: `value` on one line, or `text`. Flushed, so that a `watch` in a pipe is not late.
    fn value(&mut self, value: &impl Serialize, text: &str) -> Result<(), Problem> {
        if self.json {
            serde_json::to_writer(&mut self.to, value).map_err(json_problem)?;
            writeln!(self.to)?;
        } else {
            writeln!(self.to, "{text}")?;
        }
        Ok(self.to.flush()?)
    }
}

/// serde_json hides a closed pipe in its own error.
fn json_problem(error: serde_json::Error) -> Problem {
    if error.is_io() { Problem::Io(error.into()) } else { Problem::Json(error) }
}

fn setup_request(setup: Setup) -> Result<v1::SetupStreamRequest, Problem> {
    let Setup { id, url, transport, record, labels, access, patience, user, password_file } = setup;
    let password = password_file.map(|path| read_password(&path)).transpose()?.unwrap_or_default();
    let credentials = user.map(|username| v1::Credentials { username, password });
    let spec = v1::StreamSpec {
        url: String::new(),
        credentials,
        transport: v1::Transport::from(transport).into(),
        labels: labels.into_iter().collect(),
        access: Some(access.into()),
        record: record.then(|| Record::Continuous.into()),
        ..v1::StreamSpec::default()
    };
    Ok(v1::SetupStreamRequest { id, url, spec: Some(patience.over(spec)) })
}

/// The first line of `path`, or of standard input for `-`.
pub(crate) fn read_password(path: &Path) -> Result<String, Problem> {
    let failed = |source| Problem::PasswordFile { path: path.to_owned(), source };
    let source: Box<dyn Read> = if path == Path::new("-") {
        Box::new(std::io::stdin())
    } else {
        Box::new(std::fs::File::open(path).map_err(failed)?)
    };
    let mut line = String::new();
    BufReader::new(source.take(PASSWORD_FILE_LEN_MAX)).read_line(&mut line).map_err(failed)?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}
