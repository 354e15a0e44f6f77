//! A client of the daemon's HTTP endpoint that believes nothing: it takes responses apart by RFC 9112, and metrics by the rules of
//! the exposition format, more strictly than Prometheus does.

#![expect(clippy::unwrap_used, reason = "what cannot be read has failed the test")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::TcpStream;

use crate::support::SOON;

/// A response, whole.
pub(crate) struct Response {
    pub(crate) status: u16,
    /// By their names in lower case.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
    /// All of it as it came.
    pub(crate) raw: String,
}

/// Asks `address` for `path` and reads until the connection ends.
pub(crate) fn ask(address: &str, method: &str, path: &str) -> Response {
    let mut stream = connect(address);
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    let mut raw = String::new();
    stream.read_to_string(&mut raw).unwrap();
    Response::parse(raw)
}

/// A connection on which nothing takes longer than it may.
pub(crate) fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream
}

impl Response {
    fn parse(raw: String) -> Self {
        let (head, body) = raw.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head: {raw:?}"));
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().strip_prefix("HTTP/1.1 ").unwrap()[..3].parse().unwrap();
        let headers: BTreeMap<_, _> = lines
            .map(|line| line.split_once(": ").unwrap())
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            .collect();
        let is_chunked = headers.get("transfer-encoding").is_some_and(|coding| coding == "chunked");
        let body = if is_chunked && !body.is_empty() { unchunked(body) } else { body.to_owned() };
        Self { status, headers, body, raw }
    }
}

fn unchunked(mut body: &str) -> String {
    let mut whole = String::new();
    loop {
        let (len, rest) = body.split_once("\r\n").unwrap();
        let len = usize::from_str_radix(len, 16).unwrap();
        let (chunk, rest) = rest.split_at(len);
        whole += chunk;
        body = rest.strip_prefix("\r\n").unwrap();
        if len == 0 {
            assert_eq!(body, "", "something behind the last chunk");
            return whole;
        }
    }
}

/// Samples by name and labels, the latter as they are written.
pub(crate) struct Metrics(BTreeMap<String, String>);

impl Metrics {
    /// What `address` tells.
    pub(crate) fn of(address: &str) -> Self {
        let response = ask(address, "GET", "/metrics");
        assert_eq!(response.status, 200, "{}", response.raw);
        assert_eq!(response.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8");
        Self::parse(&response.body)
    }

    /// The value of one series, as it is written.
    pub(crate) fn text(&self, series: &str) -> &str {
        self.0.get(series).unwrap_or_else(|| panic!("no {series} in {:#?}", self.0))
    }

    /// The same as a number.
    pub(crate) fn value(&self, series: &str) -> f64 {
        self.text(series).parse().unwrap()
    }

    /// The series whose names and labels begin with `prefix`.
    pub(crate) fn series<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.keys().map(String::as_str).filter(move |series| series.starts_with(prefix))
    }

    /// Takes the text apart, and does not bear anything that some parser might refuse.
    pub(crate) fn parse(text: &str) -> Self {
        let mut samples = BTreeMap::new();
        let mut seen = BTreeSet::new();
        let mut family: Option<(&str, &str)> = None;
        let mut lines = text.strip_suffix('\n').expect("the last line ends").split('\n').peekable();
        while let Some(line) = lines.next() {
            assert!(!line.contains(['\r', '\t']) && line.trim() == line && !line.is_empty(), "{line:?}");
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, help) = help.split_once(' ').unwrap();
                assert!(!help.contains('\\') && seen.insert(name), "{line}");
                let kind = lines.next().unwrap().strip_prefix("# TYPE ").unwrap();
                let kind = kind.strip_prefix(name).unwrap().strip_prefix(' ').unwrap();
                assert!(matches!(kind, "counter" | "gauge"), "{name} {kind}");
                assert_eq!(name.ends_with("_total"), kind == "counter", "{name} {kind}");
                family = Some((name, kind));
                let has_samples = lines.peek().is_some_and(|line| !line.starts_with('#'));
                assert!(has_samples || name.starts_with("vms_media_stream_"), "{name} has no samples");
                continue;
            }
            let (name, kind) = family.expect("a head comes first");
            let (series, value) = line.rsplit_once(' ').unwrap();
            let labels =
                series.strip_prefix(name).unwrap_or_else(|| panic!("{line} below the head of {name}"));
            check_labels(labels);
            let number: f64 = value.parse().unwrap_or_else(|_| panic!("{line}"));
            assert!(number.is_finite() && (kind == "gauge" || number >= 0.0), "{line}");
            let is_new = samples.insert(series.to_owned(), value.to_owned()).is_none();
            assert!(is_new, "{series} is there twice");
        }
        for name in &seen {
            let is_word = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
            assert!(name.starts_with("vms_media_") && is_word, "{name}");
        }
        Self(samples)
    }
}

/// `{name="value",…}`, or nothing.
fn check_labels(labels: &str) {
    if labels.is_empty() {
        return;
    }
    let mut rest = labels.strip_prefix('{').unwrap_or_else(|| panic!("{labels}"));
    let mut names = BTreeSet::new();
    loop {
        let (name, value) = rest.split_once("=\"").unwrap_or_else(|| panic!("{labels}"));
        let is_word = name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') && !name.is_empty();
        assert!(is_word && !name.starts_with("__") && names.insert(name), "{labels}");
        let mut end = None;
        let mut characters = value.char_indices();
        while let Some((at, c)) = characters.next() {
            match c {
                '"' => {
                    end = Some(at);
                    break;
                }
                '\\' => assert!(matches!(characters.next(), Some((_, '\\' | '"' | 'n'))), "{labels}"),
                _ => {}
            }
        }
        rest = &value[end.unwrap_or_else(|| panic!("{labels}")) + 1..];
        match rest.strip_prefix(',') {
            Some(more) => rest = more,
            None => return assert_eq!(rest, "}", "{labels}"),
        }
    }
}
