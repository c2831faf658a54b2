//! What the fuzzer calls of modules that are not public. Not part of the API.

use crate::gateway::http::framing::Framing;
use crate::service::manifest::Manifest;

/// Feeds an HTTP/1 connection in pieces of a size. Returns the status and the reason of a refusal.
///
/// # Panics
///
/// Panics if the size is 0.
pub fn framing(bytes: &[u8], piece: usize) -> Result<(), (u16, &'static str)> {
    let mut framing = Framing::new(8 << 10, 100);
    for piece in bytes.chunks(piece) {
        framing.read(piece).map_err(|(passable, error)| {
            assert!(passable <= piece.len(), "more can be passed on than came");
            (error.status.as_u16(), error.why)
        })?;
    }
    Ok(())
}

/// Reads a manifest and, if it is valid, writes it and reads it again.
///
/// # Panics
///
/// Panics if a valid manifest cannot be used, or reads otherwise than it was written.
pub fn manifest(bytes: &[u8]) {
    let Ok(manifest) = Manifest::parse(bytes) else {
        return;
    };
    assert!(manifest.next() > manifest.current().number);
    assert!(manifest.previous() < Some(manifest.current().number));
    let text = manifest.text();
    let again = Manifest::parse(&text).unwrap_or_else(|error| panic!("not read again: {error}"));
    assert!(manifest == again, "a manifest changes when it is written");
}
