//! The code that decides where the requests on an HTTP/1 connection begin and end. The decision
//! must not depend on how the bytes are split when they arrive.

/// The first byte is the size of the pieces in which the rest arrives.
pub(crate) fn run(bytes: &[u8]) {
    let Some((&piece, bytes)) = bytes.split_first() else {
        return;
    };
    let whole = lunatic_serve::fuzzing::framing(bytes, bytes.len().max(1));
    let pieces = lunatic_serve::fuzzing::framing(bytes, usize::from(piece).max(1));
    assert_eq!(
        whole, pieces,
        "the verdict depends on how the bytes are split"
    );
}
