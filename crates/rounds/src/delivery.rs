//! A release, sealed to one of its recipients.

use crate::error::RoundError;
use crate::kem::{self, KemPublic, KemSecret, SEAL_BYTES};
use privacy::{Release, Released};
use record::canon;
use zeroize::Zeroizing;

const INFO: &[u8] = b"comity/1 release";

fn aad(study: &str, run: u32, from: &str, to: &str) -> Vec<u8> {
    let mut aad = Vec::new();
    for part in [study, from, to] {
        aad.extend_from_slice(&(part.len() as u64).to_be_bytes());
        aad.extend_from_slice(part.as_bytes());
    }
    aad.extend_from_slice(&run.to_be_bytes());
    aad
}

/// Seals a release to a recipient; the study and run are the release's own. Nothing else can be sealed to a
/// person: there is no way from bytes to a [`Release`].
///
/// ```compile_fail,E0308
/// fn smuggle(rows: &[u8], key: &rounds::KemPublic) {
///     let _ = rounds::seal_release(rows, "no", "gb", key);
/// }
/// ```
pub fn seal_release(release: &Release, from: &str, to: &str, key: &KemPublic) -> Result<Vec<u8>, RoundError> {
    let document = release.document();
    kem::seal(key, INFO, &aad(&document.study, document.run, from, to), release.bytes())
}

/// Opens a sealed release at its recipient and reads it. It must be of the study and run expected.
pub fn open_release(
    secret: &KemSecret,
    study: &str,
    run: u32,
    from: &str,
    to: &str,
    sealed: &[u8],
) -> Result<(Released, Zeroizing<Vec<u8>>), RoundError> {
    let unopenable = || RoundError::Release { from: from.to_owned() };
    if sealed.len() > privacy::release::MAX_RELEASE + SEAL_BYTES {
        return Err(unopenable());
    }
    let bytes = kem::open(secret, INFO, &aad(study, run, from, to), sealed).ok_or_else(unopenable)?;
    let document: Released =
        canon::from_bytes_limit(&bytes, privacy::release::MAX_RELEASE).map_err(|_| unopenable())?;
    if document.study != study || document.run != run {
        return Err(unopenable());
    }
    Ok((document, bytes))
}
