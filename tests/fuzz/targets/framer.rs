//! Any bytes on an RTSP connection, in any portions, against `rtsp::Framer`.
//!
//! The input is 8 bytes of choices, then the stream; a slice of it may be repeated until limits are passed.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use vms_fuzz::cuts::Cuts;
use vms_fuzz::{memory, packets};
use vms_pure::limits::{RTSP_BODY_LEN_MAX, RTSP_HEAD_LEN_MAX, RTSP_HEADERS_MAX, RTSP_RESYNC_LEN_MAX};
use vms_pure::rtsp::{Event, Framer, FramerError};

/// One of those frames that are to be found again.
static GOOD: LazyLock<Vec<u8>> = LazyLock::new(|| good(6000));
/// After so many of them the next is found: more than the limits allow to be swallowed as a body, a head and a frame.
const GOODS_MAX: usize = 100;
/// The source of all packets that are good.
const SOURCE: u32 = 3;
/// One message: its head as it came, as text that may have grown threefold, and as lines; its body.
const HELD_MAX: usize = 1024 * 1024;

fuzz_target!(init: memory::limit(), |data: &[u8]| {
    let Some((&[choices, seed0, seed1, at0, at1, len, times0, times1], stream)) = data.split_first_chunk()
    else {
        return;
    };
    let cuts = Cuts::new(u16::from_be_bytes([seed0, seed1]));
    // The upper bits say whose packets came before.
    let source = [None, None, Some(7), Some(SOURCE)][usize::from(at0 >> 6)];
    let at = usize::from(u16::from_be_bytes([at0 & 0x3f, at1])).min(stream.len());
    let slice = &stream[at..][..usize::from(len).min(stream.len() - at)];
    let times = usize::from(u16::from_be_bytes([times0, times1]));
    // Seldom so much that a limit is passed, which takes long.
    let most = match choices {
        0xff => RTSP_RESYNC_LEN_MAX + 100_000,
        0xe0.. => RTSP_HEAD_LEN_MAX + 1000,
        _ => 1000,
    };
    let times = times.min(most / slice.len().max(1));
    let stream = [&stream[..at], &slice.repeat(times), &stream[at..]].concat();

    let mut whole = Reading::new(choices, source);
    whole.feed(&stream);
    let mut cut = Reading::new(choices, source);
    cuts.clone().pieces(&stream).for_each(|piece| cut.feed(piece));
    whole.told.compare(&cut.told);
    if choices & 0x38 == 0x38 {
        whole.recover();
    }
});

struct Reading {
    framer: Framer,
    told: Told,
    /// Payload bytes that the frame still has; `None` between frames.
    left: Option<usize>,
    /// On the heap before.
    base: usize,
}

/// What came out, without what may depend on the portions.
#[derive(Clone, Debug, Default, PartialEq)]
struct Told {
    items: Vec<Item>,
    error: Option<FramerError>,
}

#[derive(Clone, Debug, PartialEq)]
enum Item {
    Message(String),
    Frame(u8, Vec<u8>),
    Skipped(usize),
}

impl Reading {
    fn new(choices: u8, source: Option<u32>) -> Self {
        let mut framer = Framer::new();
        if choices & 1 != 0 {
            framer.set_channels(0, (choices & 2 != 0).then_some(1));
        }
        if choices & 4 != 0 {
            framer.set_payload_type(packets::PAYLOAD_TYPE);
        }
        framer.set_source(source);
        Self { framer, told: Told::default(), left: None, base: memory::held() }
    }

    fn feed(&mut self, mut input: &[u8]) {
        let mut given = input.len();
        while self.told.error.is_none() {
            let before = memory::held();
            let next = self.framer.next(&mut input);
            assert!(memory::held().saturating_sub(before) <= HELD_MAX, "one step took too much");
            match next {
                Ok(Some(event)) => take(&mut self.told.items, &mut self.left, event),
                Ok(None) => {
                    assert!(input.is_empty(), "all input was consumed");
                    break;
                }
                Err(error) => self.told.error = Some(error),
            }
            assert!(input.len() <= given);
            given = input.len();
        }
        let kept: usize = self.told.items.iter().map(|item| 64 + item.len()).sum();
        assert!(memory::held().saturating_sub(self.base) <= HELD_MAX + 4 * kept + 4096);
    }

    /// Whatever came before, frames are found again, or the connection is given up; and then they are, too.
    fn recover(mut self) {
        self.told.error = None;
        self.framer.set_channels(0, Some(1));
        for _ in 0..GOODS_MAX {
            self.feed(&GOOD);
            self.told.error = None;
            let is_found = |item: &Item| matches!(item, Item::Frame(0, payload) if payload[..] == GOOD[4..]);
            if self.left.is_none() && self.told.items.last().is_some_and(is_found) {
                break;
            }
        }
        self.feed(&[good(20), good(30)].concat());
        let [.., Item::Frame(0, last_but_one), Item::Frame(0, last)] = self.told.items.as_slice() else {
            panic!("not found again");
        };
        assert_eq!((last_but_one.len(), last.len()), (32, 42));
    }
}

fn good(payload_len: usize) -> Vec<u8> {
    packets::frame(0, &packets::rtp(true, 1, 2, SOURCE, &vec![0xaa; payload_len]))
}

fn take(items: &mut Vec<Item>, left: &mut Option<usize>, event: Event<'_>) {
    if !matches!(event, Event::Data(_) | Event::DataEnd) {
        assert_eq!(*left, None, "a frame is not over");
    }
    match event {
        Event::Response(response) => {
            assert!(response.body.len() <= RTSP_BODY_LEN_MAX && response.headers.len() <= RTSP_HEADERS_MAX);
            items.push(Item::Message(format!("{} {response:?}", response.status)));
        }
        Event::Request(request) => {
            assert!(request.body.len() <= RTSP_BODY_LEN_MAX && request.headers.len() <= RTSP_HEADERS_MAX);
            items.push(Item::Message(format!("{} {request:?}", request.uri)));
        }
        Event::Frame { channel, payload } => items.push(Item::Frame(channel, payload.to_vec())),
        Event::Found { channel, payload } => items.push(Item::Frame(channel, payload)),
        Event::DataStart { channel, len } => {
            *left = Some(len.into());
            items.push(Item::Frame(channel, Vec::new()));
        }
        Event::Data(bytes) => {
            assert!(!bytes.is_empty());
            let rest = left.expect("a frame has begun");
            *left = Some(rest.checked_sub(bytes.len()).expect("the frame has so many bytes"));
            let Some(Item::Frame(_, payload)) = items.last_mut() else { panic!("a frame has begun") };
            payload.extend_from_slice(bytes);
        }
        Event::DataEnd => assert_eq!(left.take(), Some(0), "the frame is complete"),
        Event::Skipped { bytes } => {
            assert!(bytes > 0);
            if let Some(Item::Skipped(before)) = items.last_mut() {
                *before += bytes;
            } else {
                items.push(Item::Skipped(bytes));
            }
        }
    }
}

impl Item {
    fn len(&self) -> usize {
        match self {
            Self::Message(text) => text.len(),
            Self::Frame(_, payload) => payload.len(),
            Self::Skipped(_) => 0,
        }
    }
}

impl Told {
    /// A run that ends the connection is told as far as the portions went.
    fn to_be_compared(&self) -> (&[Item], Option<FramerError>) {
        match (&self.error, self.items.as_slice()) {
            (Some(FramerError::OutOfStep { .. }), [items @ .., Item::Skipped(_)] | items) => {
                (items, Some(FramerError::OutOfStep { skipped: 0 }))
            }
            (error, items) => (items, error.clone()),
        }
    }

    fn compare(&self, other: &Self) {
        let ((ours, our_error), (theirs, their_error)) = (self.to_be_compared(), other.to_be_compared());
        let same = ours.iter().zip(theirs).take_while(|(a, b)| a == b).count();
        assert_eq!(ours.get(same), theirs.get(same), "item {same} depends on the portions");
        assert_eq!(our_error, their_error);
    }
}
