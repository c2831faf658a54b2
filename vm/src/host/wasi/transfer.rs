//! Processes parts of a guest's memory in pieces.

use crate::guest::Call;
use crate::guest::call::Range;

/// The remaining parts of a guest's memory.
pub(super) struct Transfer<'a> {
    ranges: &'a [Range],
    /// The number of bytes processed in the first range.
    done: usize,
}

impl<'a> Transfer<'a> {
    pub(super) fn new(ranges: &'a [Range]) -> Transfer<'a> {
        Transfer { ranges, done: 0 }
    }

    /// Takes the next piece of at most `most` bytes. Returns an empty piece at the end.
    pub(super) fn next(&mut self, most: usize) -> Vec<Range> {
        let (mut piece, mut left) = (Vec::new(), most);
        while let [first, rest @ ..] = self.ranges
            && left > 0
        {
            let part = first.part(self.done, left);
            left -= part.len();
            self.done += part.len();
            piece.push(part);
            if self.done == first.len() {
                (self.ranges, self.done) = (rest, 0);
            }
        }
        piece
    }

    pub(super) fn is_over(&self) -> bool {
        self.ranges.is_empty()
    }
}

/// Returns the total length, in bytes, of parts of a guest's memory.
pub(super) fn length(ranges: &[Range]) -> usize {
    ranges.iter().map(|range| range.len()).sum()
}

/// Copies parts of a guest's memory into a vector.
pub(super) fn gather(call: &mut Call<'_>, ranges: &[Range]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length(ranges));
    for range in ranges {
        bytes.extend_from_slice(call.bytes(*range));
    }
    bytes
}

/// Copies as many bytes as fit into parts of a guest's memory.
pub(super) fn scatter(call: &mut Call<'_>, ranges: &[Range], mut bytes: &[u8]) {
    for range in ranges {
        let (now, later) = bytes.split_at(range.len().min(bytes.len()));
        call.bytes_mut(range.part(0, now.len()))
            .copy_from_slice(now);
        bytes = later;
    }
}
