//! The files that proofs travel in.

use super::ProofError;
use crate::digest::{Digest, excerpt};

/// Packs a file's content: the line `magic`, SHA-256 of what follows it, the content's length as 4 bytes big-endian,
/// the content deflated (RFC 1951). The digest shows a damaged copy at once; it proves nothing.
///
/// # Errors
/// When the content is longer than four gigabytes.
pub fn pack(magic: &str, content: &[u8]) -> Result<Vec<u8>, ProofError> {
    let length = u32::try_from(content.len()).map_err(|_| ProofError::Packed { limit: u32::MAX as usize })?;
    let mut rest = length.to_be_bytes().to_vec();
    rest.extend(miniz_oxide::deflate::compress_to_vec(content, 9));
    Ok([magic.as_bytes(), b"\n", Digest::of(&rest).as_bytes().as_slice(), &rest].concat())
}

/// Whether a file begins with the line `magic`.
pub fn is_packed(magic: &str, bytes: &[u8]) -> bool {
    bytes.strip_prefix(magic.as_bytes()).is_some_and(|rest| rest.first() == Some(&b'\n'))
}

/// Unpacks what [`pack`] wrote; takes no more memory than `limit` bytes of content.
///
/// # Errors
/// When it is another kind of file, was changed, or holds more than `limit` bytes.
pub fn unpack(magic: &str, bytes: &[u8], limit: usize) -> Result<Vec<u8>, ProofError> {
    use miniz_oxide::inflate::TINFLStatus;
    use miniz_oxide::inflate::core::{DecompressorOxide, decompress, inflate_flags};
    if !is_packed(magic, bytes) {
        let start = bytes.split(|b| *b == b'\n').next().unwrap_or(bytes);
        let start = String::from_utf8_lossy(start.get(..start.len().min(40)).unwrap_or(start));
        return Err(ProofError::Magic { found: excerpt(&start), expected: magic.to_owned() });
    }
    let rest = bytes.get(magic.len() + 1..).unwrap_or(&[]);
    let (digest, rest) = rest.split_first_chunk::<32>().ok_or(ProofError::Changed)?;
    if Digest::of(rest) != Digest::from_bytes(*digest) {
        return Err(ProofError::Changed);
    }
    let wrong = || ProofError::Packed { limit };
    let (length, deflated) = rest.split_first_chunk::<4>().ok_or_else(wrong)?;
    let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| wrong())?;
    // Deflate makes at most 1032 bytes of one: a length that cannot be true takes no memory.
    if length > limit || length / 1032 > deflated.len() {
        return Err(wrong());
    }
    let mut content = vec![0; length];
    let flags = inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
    let mut machine = Box::<DecompressorOxide>::default();
    let (status, taken, given) = decompress(&mut machine, deflated, &mut content, 0, flags);
    if status != TINFLStatus::Done || taken != deflated.len() || given != length {
        return Err(wrong());
    }
    Ok(content)
}
