//! Writes the payloads of one stream as an elementary stream that any player opens.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use ring_abi::consumer::Configuration;
use ring_abi::layout::Codec;
use vms_stamp::annexb;

use crate::options::STANDARD_OUTPUT;

/// An Annex B file.
pub(crate) struct Elementary {
    out: BufWriter<Box<dyn Write>>,
    /// The parameter sets that stand in the file.
    written_config: Option<u32>,
}

impl std::fmt::Debug for Elementary {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Elementary")
            .field("written_config", &self.written_config)
            .finish_non_exhaustive()
    }
}

impl Elementary {
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        let out: Box<dyn Write> = if path == Path::new(STANDARD_OUTPUT) {
            Box::new(io::stdout())
        } else {
            Box::new(File::create(path)?)
        };
        Ok(Self { out: BufWriter::new(out), written_config: None })
    }

    /// Adds a unit, behind the parameter sets of `configuration` when they are new and the unit does not hold its own.
    pub(crate) fn write(&mut self, payload: &[u8], configuration: Option<&Configuration>) -> io::Result<()> {
        if let Some(configuration) = configuration
            && self.written_config.replace(configuration.id) != Some(configuration.id)
            && !holds_parameter_sets(payload, configuration.codec())
        {
            self.out.write_all(&configuration.data)?;
        }
        self.out.write_all(payload)
    }

    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Whether a sequence parameter set stands among the NAL units.
fn holds_parameter_sets(payload: &[u8], codec: Codec) -> bool {
    annexb::nals(payload).filter_map(<[u8]>::first).any(|header| match codec {
        Codec::H264 => header & 0x1f == 7,
        Codec::H265 => header >> 1 & 0x3f == 33,
        Codec::Unknown => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameter_sets_are_recognised() {
        let with = [0, 0, 0, 1, 0x67, 1, 0, 0, 1, 0x65, 1];
        let without = [0, 0, 0, 1, 0x65, 0x67];
        assert!(holds_parameter_sets(&with, Codec::H264) && !holds_parameter_sets(&without, Codec::H264));
        assert!(holds_parameter_sets(&[0, 0, 1, 0x42, 1], Codec::H265));
    }
}
