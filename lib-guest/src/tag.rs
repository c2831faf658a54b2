//! A tag marks a message, so that its receiver can wait for it and leave others for later.

use serde::{Deserialize, Serialize};
use std::cell::Cell;

/// Marks messages and links, so that a process can tell them apart and wait for chosen ones.
///
/// Tags are numbered from 1 in each process, so two processes make the same tags. A tag means
/// something only between those who agreed on it: send it along, as [`Request`](crate::Request)
/// does.
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
    static LAST_REPLY: Cell<i64> = const { Cell::new(0) };
}

impl Tag {
    /// What messages without a tag have.
    pub const NONE: Tag = Tag(0);

    /// Makes a tag that this process did not make before.
    pub fn new() -> Self {
        LAST.set(LAST.get() + 1);
        Self(LAST.get())
    }

    /// Makes the tag of a reply. They count downwards from -1: what another process tags by its own
    /// count is never taken for a reply, and a reply that comes late is known by its sign.
    pub(crate) fn new_reply() -> Self {
        LAST_REPLY.set(LAST_REPLY.get() - 1);
        Self(LAST_REPLY.get())
    }

    /// Whether only a reply has this tag.
    pub(crate) fn is_reply(self) -> bool {
        self.0 < 0 && self.0 > WANTED.0
    }

    pub(crate) const fn from_id(id: i64) -> Self {
        Self(id)
    }

    /// Returns the number that the machine knows it by.
    pub const fn id(self) -> i64 {
        self.0
    }
}

/// Marks the message that carries a spawned process's context, which no other message is mistaken
/// for.
pub(crate) const CONTEXT: Tag = Tag(i64::MIN);

/// Marks the message that asks a process to end.
pub(crate) const SHUTDOWN: Tag = Tag(i64::MIN + 1);

/// Marks the message that lets a process begin whose end is watched by then.
pub(crate) const BEGIN: Tag = Tag(i64::MIN + 2);

/// Marks the message that says whether a task's result is wanted.
pub(crate) const WANTED: Tag = Tag(i64::MIN + 3);

/// Makes a new tag, as [`Tag::new`] does: no two defaults are equal.
impl Default for Tag {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_count_up_from_one_and_replies_down_from_minus_one() {
        // Threads stand for processes here: each counts for itself.
        std::thread::spawn(|| {
            assert_eq!(Tag::new().id(), 1);
            assert_eq!(Tag::new_reply().id(), -1);
            assert_eq!(Tag::new().id(), 2);
            assert_eq!(Tag::new_reply().id(), -2);
        })
        .join()
        .expect("the thread asserts");
    }

    #[test]
    fn replies_are_told_from_tags_and_contexts() {
        assert!(Tag::new_reply().is_reply());
        assert!(!Tag::new().is_reply());
        assert!(!Tag::NONE.is_reply());
        for reserved in [CONTEXT, SHUTDOWN, BEGIN, WANTED] {
            assert!(!reserved.is_reply());
        }
    }
}
