//! Reads HTTP as it arrives: first until a head is complete, and then piece by piece.

use super::wire::{self, Decoder, Step};
use crate::body::{Body, BodyError};
use bytes::{Bytes, BytesMut};
use futures_lite::stream;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};

/// The maximum number of bytes per read.
const PIECE: usize = 8 << 10;

/// Where the bytes come from.
pub(super) trait Source: Send + 'static {
    type Error: Into<BodyError> + Send;

    /// What error messages call the whole message.
    const WHOLE: &str;
    /// What error messages call the message's head.
    const HEAD: &str;

    /// Reads at least one byte. Zero means the end.
    fn read(&mut self, into: &mut [u8]) -> impl Future<Output = Result<usize, Self::Error>> + Send;

    /// Returns the error for bytes that are not HTTP.
    fn malformed(why: String) -> Self::Error;

    /// Checks the first bytes of a head.
    fn check_start(_: &[u8]) -> Result<(), Self::Error> {
        Ok(())
    }
}

/// A request or response that is arriving.
pub(super) struct Incoming<S> {
    pub(super) source: S,
    /// Bytes that have been read but not yet parsed.
    pub(super) buffer: BytesMut,
}

impl<S: Source> Incoming<S> {
    pub(super) fn new(source: S) -> Incoming<S> {
        Incoming {
            source,
            buffer: BytesMut::new(),
        }
    }

    /// Reads more into the buffer. Returns false at the end.
    async fn more(&mut self) -> Result<bool, S::Error> {
        let filled = self.buffer.len();
        self.buffer.resize(filled + PIECE, 0);
        let read = self.source.read(&mut self.buffer[filled..]).await;
        self.buffer
            .truncate(filled + read.as_ref().copied().unwrap_or(0));
        Ok(read? > 0)
    }

    /// Waits for a head and takes it out of the buffer. Returns `None` if nothing arrived.
    pub(super) async fn head(&mut self) -> Result<Option<BytesMut>, S::Error> {
        let mut searched = 0;
        loop {
            if let Some(end) = wire::end_of_head(&self.buffer, searched) {
                return Ok(Some(self.buffer.split_to(end)));
            }
            searched = self.buffer.len();
            S::check_start(&self.buffer)?;
            check_size::<S>(searched)?;
            if !self.more().await? {
                return match searched {
                    0 => Ok(None),
                    _ => Err(S::malformed(format!(
                        "{} ends partway through {}",
                        S::WHOLE,
                        S::HEAD
                    ))),
                };
            }
        }
    }

    /// Reads a piece of the body. Returns `None` at its end.
    async fn piece(&mut self, decoder: &mut Decoder) -> Result<Option<Bytes>, S::Error> {
        loop {
            match decoder.step(&mut self.buffer).map_err(S::malformed)? {
                Step::Piece(piece) => return Ok(Some(piece)),
                Step::Done => return Ok(None),
                Step::More if self.more().await? => (),
                Step::More => return decoder.end().map(|()| None).map_err(S::malformed),
            }
        }
    }

    /// Returns the body that follows the head. Once its last byte has been read, `complete` gets
    /// everything that is left.
    pub(super) fn into_body(
        self,
        decoder: Decoder,
        complete: impl FnOnce(Incoming<S>) + Send + 'static,
    ) -> Body {
        let begin = Some((self, decoder, complete));
        let pieces = stream::unfold(begin, |state| async move {
            let (mut incoming, mut decoder, complete) = state?;
            match incoming.piece(&mut decoder).await {
                Ok(None) => None,
                Ok(Some(piece)) if decoder.is_done() => {
                    // This happens before the piece is returned, because a reader that knows the
                    // length does not ask for more after the last piece.
                    complete(incoming);
                    Some((Ok(Frame::data(piece)), None))
                }
                Ok(Some(piece)) => {
                    Some((Ok(Frame::data(piece)), Some((incoming, decoder, complete))))
                }
                Err(error) => Some((Err(error.into()), None)),
            }
        });
        StreamBody::new(pieces).boxed_unsync()
    }
}

/// Checks that the heads read so far are not too large in total.
pub(super) fn check_size<S: Source>(size: usize) -> Result<(), S::Error> {
    if size <= wire::MAX_HEAD {
        return Ok(());
    }
    let most = wire::MAX_HEAD;
    Err(S::malformed(format!(
        "{} is larger than {most} bytes",
        S::HEAD
    )))
}
