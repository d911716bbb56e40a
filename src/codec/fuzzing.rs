//! Payloads as the fuzz target calls them (`fuzz/`): in no build but its own.

use super::{Frame, GroupKey, KeyRing, decode, pack::Packers};
use crate::{
    format::{Coded, FRAME_HEADER, FrameHeader, FrameKind, Packing, Place, SEAL_PREFIX, fuzzing},
    log::RecordSource,
    options::Compression,
};

struct Slice<'a>(&'a [u8]);

impl RecordSource for Slice<'_> {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn copy(&mut self, offset: usize, into: &mut [u8]) -> crate::Result<()> {
        into.copy_from_slice(&self.0[offset..offset + into.len()]);
        Ok(())
    }
}

/// Any payload under any codec gives a record of the stated length, or says no; and every record comes back from each
/// codec, with and without encryption, and not when a byte of what is encrypted was changed, nor without encryption where
/// that is required.
pub fn payload(bytes: &[u8]) {
    let keys = [format!("hex:{}", "5a".repeat(32))];
    let Ok(keys) = KeyRing::read(keys) else { return };
    let required = keys.clone().required();
    fuzzing::coded(bytes, |header, head, payload, into, place, offset| {
        let _ = decode(header, head, payload, into, (place, offset), &keys);
    });
    let place = Place { log: Default::default(), writer: Default::default(), segment: 1 };
    for compression in [Compression::None, Compression::Lz4, Compression::Zstd(1)] {
        let packers = Packers::new(compression, u64::MAX);
        let packed = packers.pack(&mut Slice(bytes), bytes.len() as u32);
        let packed = packed.expect("memory can be copied");
        let packing = packed.as_ref().map_or(Packing::None, |p| p.packing());
        let content = packed.as_ref().map_or(bytes, |p| p.bytes());
        for sealed in [false, true] {
            let coded = Coded::new(packing, bytes.len() as u32, content.len() as u32, sealed);
            let coded = coded.expect("short");
            let head: [u8; FRAME_HEADER] = FrameHeader::bare(FrameKind::Record, coded, 1);
            let header = FrameHeader::decode(&head).expect("a header that was made");
            let mut payload = vec![0; coded.length as usize];
            let start = if sealed { SEAL_PREFIX } else { 0 };
            payload[start..start + content.len()].copy_from_slice(content);
            if sealed {
                let key = GroupKey::fresh(keys.current().expect("a key"), &place).expect("random bytes");
                key.seal(&Frame { head: &head, coded, place: &place, offset: 4096 }, &mut payload)
                    .expect("sealed");
                let mut altered = payload.clone();
                let at = SEAL_PREFIX
                    + bytes.first().map_or(0, |b| usize::from(*b)) % (altered.len() - SEAL_PREFIX);
                altered[at] ^= 1;
                let mut into = vec![0; bytes.len()];
                let opened = decode(&header, &head, &mut altered, &mut into, (&place, 4096), &keys);
                assert!(matches!(opened, Ok(Err(_))));
            }
            let mut into = vec![0; bytes.len()];
            let believed = decode(&header, &head, &mut payload.clone(), &mut into, (&place, 4096), &required);
            assert!(if sealed { matches!(believed, Ok(Ok(()))) } else { believed.is_err() });
            let mut into = vec![0; bytes.len()];
            let opened = decode(&header, &head, &mut payload, &mut into, (&place, 4096), &keys);
            assert!(matches!(opened, Ok(Ok(()))) && into == bytes);
        }
    }
}
