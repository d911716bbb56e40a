//! Small arithmetic on blocks.

/// `length` rounded up to a multiple of `unit`.
pub(crate) fn pad_to(length: u64, unit: u64) -> u64 {
    length.div_ceil(unit) * unit
}

/// Whether every byte is zero, as in preallocated space that was never written.
pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    let (chunks, rest) = bytes.as_chunks::<16>();
    chunks.iter().all(|c| u128::from_ne_bytes(*c) == 0) && rest.iter().all(|b| *b == 0)
}
