//! Sends a stream, from its newest keyframe on, to a TCP port: `relay RING_SOCKET ID HOST:PORT`.
//!
//!     ffplay -f h264 'tcp://127.0.0.1:9000?listen=1' &
//!     cargo run -p ring-abi --example relay -- /run/vms-media/ring.sock door 127.0.0.1:9000

use std::error::Error;
use std::io::Write;
use std::net::TcpStream;

use ring_abi::consumer::{Event, Options, Reader};
use ring_abi::join::{From, Join};
use ring_abi::layout::{Class, Flags};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [socket, id, to] = arguments.as_slice() else {
        return Err("usage: relay RING_SOCKET ID HOST:PORT".into());
    };
    let mut to = TcpStream::connect(to)?;
    let mut reader =
        Reader::connect(socket, &Options { name: "relay".into(), slots: 1, ..Options::default() })?;
    // A viewer wants to be on time: when it cannot keep up it jumps to the newest keyframe.
    let (stream, _) = reader.attach(id, &Join::new(Class::Live, From::Keyframe))?;
    let mut unit_bytes = Vec::new();
    loop {
        let (is_key, track) = match reader.next(None) {
            Event::Unit(unit) => {
                // Copied out of the reader, whose next call may overwrite it.
                unit_bytes.clear();
                unit_bytes.extend_from_slice(unit.payload);
                (unit.descriptor.has(Flags::KEY), unit.descriptor.track)
            }
            Event::Ended(ended) => return Err(format!("the stream ended: {:?}", ended.reason).into()),
            Event::ProducerGone => return Err("vms-media has gone".into()),
            Event::Timeout => continue,
        };
        if let (true, Some(sets)) = (is_key, reader.configuration(stream, track)) {
            to.write_all(&sets.data)?;
        }
        to.write_all(&unit_bytes)?;
    }
}
