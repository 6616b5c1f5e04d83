//! Payloads as they are stored: compressed as gzip does, whose checksum finds what the disk has changed.

use std::io::{self, Read, Write};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;

/// The longest payload that is read back, in bytes: a damaged or foreign file must not fill the memory.
const LONGEST: u64 = 64 * 1024 * 1024;

/// Compresses a payload.
pub(crate) fn pack(payload: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(payload.len() / 4 + 64), Compression::fast());
    // A vector takes everything.
    _ = encoder.write_all(payload);
    encoder.finish().unwrap_or_default()
}

/// The payload that [`pack`] compressed.
///
/// # Errors
/// It was damaged.
pub(crate) fn unpack(packed: &[u8]) -> io::Result<Vec<u8>> {
    let mut payload = Vec::new();
    GzDecoder::new(packed).take(LONGEST + 1).read_to_end(&mut payload)?;
    if payload.len() as u64 > LONGEST {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is too long"));
    }
    Ok(payload)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_comes_back_and_each_changed_bit_of_it_is_found() {
        let payload: Vec<u8> = (0..2000_u32).map(|n| (n * n / 7) as u8).collect();
        let packed = pack(&payload);
        assert_eq!(unpack(&packed).unwrap(), payload);
        assert_eq!(unpack(&pack(b"")).unwrap(), b"");
        // The first ten bytes are gzip's own header.
        for at in 10..packed.len() {
            let mut damaged = packed.clone();
            damaged[at] ^= 1 << (at % 8);
            assert_ne!(unpack(&damaged).ok().as_ref(), Some(&payload), "byte {at}");
            assert!(unpack(&packed[..at]).is_err(), "cut at byte {at}");
        }
    }
}
