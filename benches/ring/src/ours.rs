//! A reader of the ring ABI: `ring_abi::consumer::Reader`, as any program uses it.

use std::time::Duration;

use anyhow::Result;
use ring_abi::consumer::{Event, Options, Reader};
use ring_abi::join::{From, Join};
use ring_abi::layout::Class;

use crate::peer::Tap;

/// One session, attached to streams `s0`, `s1` ….
#[derive(Debug)]
pub(crate) struct OursTap {
    reader: Reader,
}

impl OursTap {
    pub(crate) fn open(place: &str, streams: usize) -> Result<Self> {
        let options = Options { name: "bench".into(), ..Options::default() };
        let mut reader = Reader::connect(place, &options)?;
        let join = Join { ring_slots: 128, ..Join::new(Class::Archive, From::Live) };
        for stream in 0..streams {
            reader.attach(&format!("s{stream}"), &join)?;
        }
        Ok(Self { reader })
    }
}

impl Tap for OursTap {
    fn take(&mut self) -> Result<Option<&[u8]>> {
        Ok(match self.reader.try_next() {
            Some(Event::Unit(unit)) => Some(unit.payload),
            Some(Event::Ended(_) | Event::Timeout | Event::ProducerGone) | None => None,
        })
    }

    fn wait(&mut self) -> Result<Option<&[u8]>> {
        Ok(match self.reader.next(Some(Duration::from_millis(50))) {
            Event::Unit(unit) => Some(unit.payload),
            Event::Ended(_) | Event::Timeout | Event::ProducerGone => None,
        })
    }
}
