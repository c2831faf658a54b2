//! Tags, which mark messages so that a receiver can wait for some messages and leave others for
//! later.

use serde::{Deserialize, Serialize};
use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};

/// A mark on messages and links, by which a process can tell them apart and wait for particular
/// ones.
///
/// Each process numbers its tags from 1, so different processes create the same tags, and a tag has
/// a meaning only between processes that agree on it. To agree on a tag, send it in a message, as
/// [`Request`](crate::Request) does.
///
/// # Example
///
/// ```
/// use lunatic::Tag;
///
/// let first = Tag::new();
/// let second = Tag::new();
/// assert_ne!(first, second);
/// assert!(second.id() > first.id());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
#[repr(transparent)]
pub struct Tag(i64);

thread_local! {
    static LAST: Cell<i64> = const { Cell::new(0) };
    static REPLIES: ReplyTags = ReplyTags::default();
}

/// Numbers replies by a hash of their count, whose key only this process knows.
#[derive(Default)]
struct ReplyTags {
    key: RandomState,
    count: Cell<u64>,
}

impl Tag {
    /// The tag of messages that are sent without a tag.
    pub const NONE: Tag = Tag(0);

    /// Creates a tag that this process has not created before.
    pub fn new() -> Self {
        LAST.set(LAST.get() + 1);
        Self(LAST.get())
    }

    /// Creates a tag for a reply. No other process can guess the tag, not even from earlier tags, so
    /// only a process that was given the tag can answer. Reply tags are negative. A tag created by
    /// another process with [`Tag::new`] is therefore never mistaken for a reply, and late replies
    /// can be recognized by the sign of their tag.
    pub(crate) fn new_reply() -> Self {
        REPLIES.with(|replies| {
            loop {
                let count = replies.count.get();
                replies.count.set(count + 1);
                let tag = Self(replies.key.hash_one(count).cast_signed() | i64::MIN);
                if tag.is_reply() {
                    return tag;
                }
            }
        })
    }

    /// Returns true if this is a reply tag.
    pub(crate) fn is_reply(self) -> bool {
        self.0 < 0 && self.0 > WANTED.0
    }

    pub(crate) const fn from_id(id: i64) -> Self {
        Self(id)
    }

    /// Returns the machine's number for the tag.
    pub const fn id(self) -> i64 {
        self.0
    }
}

/// Marks the message that carries the value that a process was spawned with.
pub(crate) const CONTEXT: Tag = Tag(i64::MIN);

/// Marks the message that asks a process to exit.
pub(crate) const SHUTDOWN: Tag = Tag(lunatic_abi::SHUTDOWN);

/// Marks the message that lets a process begin once its parent is monitoring it.
pub(crate) const BEGIN: Tag = Tag(i64::MIN + 2);

/// Marks the message that says whether a task's result is wanted.
pub(crate) const WANTED: Tag = Tag(i64::MIN + 3);

/// Creates a new tag, like [`Tag::new`], so defaults are not equal.
impl Default for Tag {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_count_up_from_one() {
        // Threads stand in for processes here, because each thread has its own counters.
        std::thread::spawn(|| {
            assert_eq!(Tag::new().id(), 1);
            assert_eq!(Tag::new().id(), 2);
        })
        .join()
        .expect("the assertions hold");
    }

    #[test]
    fn no_two_processes_have_the_same_reply_tags() {
        let tags = || (0..1_000).map(|_| Tag::new_reply()).collect::<Vec<_>>();
        let other = std::thread::spawn(tags);
        let mut all = tags();
        all.extend(other.join().expect("creating tags does not panic"));
        assert!(all.iter().all(|tag| tag.is_reply()));
        assert!(
            all.windows(2)
                .all(|two| two[0].0.abs_diff(two[1].0) > 1_000_000),
            "tags must not be numbered in order"
        );
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 2_000);
    }

    #[test]
    fn replies_are_distinguished_from_tags_and_contexts() {
        assert!(Tag::new_reply().is_reply());
        assert!(!Tag::new().is_reply());
        assert!(!Tag::NONE.is_reply());
        for reserved in [CONTEXT, SHUTDOWN, BEGIN, WANTED] {
            assert!(!reserved.is_reply());
        }
    }
}
