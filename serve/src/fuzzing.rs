//! Gives the fuzzer access to private modules. Not part of the API.

use crate::gateway::http::framing::Framing;
use crate::service::manifest::Manifest;

/// Feeds bytes to an HTTP/1 connection in pieces of the given size. If the bytes are refused,
/// returns the status and the reason.
///
/// # Panics
///
/// Panics if the size is 0.
pub fn framing(bytes: &[u8], piece: usize) -> Result<(), (u16, &'static str)> {
    let mut framing = Framing::new(8 << 10, 100);
    for piece in bytes.chunks(piece) {
        framing.read(piece).map_err(|(passable, error)| {
            assert!(
                passable <= piece.len(),
                "more bytes are passed on than arrived"
            );
            (error.status.as_u16(), error.why)
        })?;
    }
    Ok(())
}

/// Reads a manifest and, if it is valid, writes it and reads it back.
///
/// # Panics
///
/// Panics if a valid manifest cannot be read back after it is written, or comes back changed.
pub fn manifest(bytes: &[u8]) {
    let Ok(manifest) = Manifest::parse(bytes) else {
        return;
    };
    assert!(manifest.next() > manifest.current().number);
    assert!(manifest.previous() < Some(manifest.current().number));
    let text = manifest.text();
    let again = Manifest::parse(&text)
        .unwrap_or_else(|error| panic!("the written manifest cannot be read: {error}"));
    assert!(
        manifest == again,
        "the manifest changed when it was written"
    );
}
