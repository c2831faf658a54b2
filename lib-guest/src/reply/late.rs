//! Replies that may still arrive even though nothing is waiting for them anymore.

use crate::tag::Tag;
use std::cell::RefCell;

thread_local! {
    static LATE: RefCell<LateReplies> = const { RefCell::new(LateReplies { expected: 0, tags: Vec::new() }) };
}

/// Records that nothing is waiting for this reply anymore.
pub(super) fn give_up(tag: Tag) {
    LATE.with_borrow_mut(|late| late.give_up(tag));
}

/// Returns true if a message with this tag must be dropped because it is a late reply.
pub(crate) fn discards(tag: Tag) -> bool {
    LATE.with_borrow_mut(|late| late.takes(tag))
}

/// Returns the recorded tags of late replies.
pub(super) fn tags() -> Vec<Tag> {
    LATE.with_borrow(|late| late.tags.clone())
}

struct LateReplies {
    /// The number of replies that may still arrive. This limits how often a receive can start over,
    /// no matter what other processes send.
    expected: u64,
    /// The tags of the most recently abandoned replies. Each new request drops those replies that
    /// have arrived, so that they do not fill the mailbox of a process that only ever sends
    /// requests.
    tags: Vec<Tag>,
}

/// The maximum number of recorded tags. Replies with older tags are dropped when a receive finds
/// them.
const REMEMBERED: usize = 64;

impl LateReplies {
    fn give_up(&mut self, tag: Tag) {
        self.expected += 1;
        if self.tags.len() == REMEMBERED {
            self.tags.remove(0);
        }
        self.tags.push(tag);
    }

    /// Returns true if a message with this tag is a late reply, and counts it as arrived.
    fn takes(&mut self, tag: Tag) -> bool {
        if !tag.is_reply() || self.expected == 0 {
            return false;
        }
        self.expected -= 1;
        self.tags.retain(|given_up| *given_up != tag);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn none() -> LateReplies {
        LateReplies {
            expected: 0,
            tags: Vec::new(),
        }
    }

    #[test]
    fn a_late_reply_is_dropped_once() {
        let mut late = none();
        let tag = Tag::new_reply();
        assert!(!late.takes(tag), "no reply has been abandoned");
        late.give_up(tag);
        assert!(!late.takes(Tag::new()), "only replies are dropped");
        assert!(late.takes(tag));
        assert!(late.tags.is_empty());
        assert!(!late.takes(tag));
    }

    #[test]
    fn the_number_of_recorded_tags_is_limited_but_the_number_of_dropped_replies_is_not() {
        let mut late = none();
        let tags: Vec<Tag> = (0..1_000).map(|_| Tag::new_reply()).collect();
        for &tag in &tags {
            late.give_up(tag);
        }
        assert_eq!(late.tags, tags[1_000 - REMEMBERED..]);
        assert!(tags.iter().all(|&tag| late.takes(tag)));
        assert!(late.tags.is_empty());
    }

    #[test]
    fn forged_replies_do_not_keep_a_receive_waiting() {
        let mut late = none();
        late.give_up(Tag::new_reply());
        let forged = Tag::from_id(-1_000_000);
        assert!(late.takes(forged));
        assert!(
            !late.takes(forged),
            "only one reply was abandoned, so only one is dropped"
        );
    }
}
