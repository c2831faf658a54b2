//! A mailbox, which is a plain bounded queue. It never waits and never wakes anything.
//!
//! Messages keep the order in which they arrived. A selective take searches for tags. Once a take
//! has had to search far, the mailbox keeps an index of tags until it is empty. Without the index,
//! many such takes would need quadratic time.

use super::exit::{Exit, LimitReached};
use super::pid::Pid;
use lunatic_abi::{Limit, MessageKind};
use std::any::Any;
use std::collections::{HashMap, VecDeque};

/// A resource that travels in a message. This crate passes it on without inspecting it.
pub type Attachment = Box<dyn Any + Send>;

/// A message, consisting of data and attachments.
#[derive(Debug, Default)]
pub struct Message {
    /// The tag that a selective receive looks for; 0 means no tag.
    pub tag: i64,
    /// The data.
    pub data: Vec<u8>,
    /// The attachments. An element becomes `None` once it is taken out, so that the other elements
    /// keep their indices.
    pub attachments: Vec<Option<Attachment>>,
}

/// How many bytes an attachment adds to its message's size, so that messages that consist only of
/// attachments are also limited.
const ATTACHMENT_BYTES: usize = 64;

impl Message {
    /// Returns the size of the message in bytes, as counted in a mailbox.
    pub fn size(&self) -> usize {
        self.data.len() + self.attachments.len() * ATTACHMENT_BYTES
    }
}

/// A piece of mail in a mailbox.
#[derive(Debug)]
pub enum Mail {
    /// A message.
    Data(Message),
    /// A linked process failed, and the owner of the mailbox is notified rather than killed.
    LinkDied {
        /// The link's tag.
        tag: i64,
        /// The process that failed.
        pid: Pid,
        /// Why the process ended.
        exit: Exit,
    },
    /// A monitored process ended. Without a tag (0), only an unselective take finds this mail.
    ProcessDied {
        /// The monitor's tag.
        tag: i64,
        /// The process that ended.
        pid: Pid,
        /// Why the process ended.
        exit: Exit,
    },
}

impl Mail {
    /// Returns the tag that a selective take compares; `None` if only an unselective take finds
    /// this mail.
    fn tag(&self) -> Option<i64> {
        match self {
            Mail::Data(message) => Some(message.tag),
            Mail::LinkDied { tag, .. } => Some(*tag),
            Mail::ProcessDied { tag, .. } => (*tag != 0).then_some(*tag),
        }
    }

    /// Returns the length of a death's reason.
    fn reason_length(&self) -> u64 {
        match self {
            Mail::Data(_) => 0,
            Mail::LinkDied { exit, .. } | Mail::ProcessDied { exit, .. } => {
                exit.text_length() as u64
            }
        }
    }

    /// Returns the kind of the mail, as guests see it.
    pub fn kind(&self) -> MessageKind {
        match self {
            Mail::Data(_) => MessageKind::Data,
            Mail::LinkDied { .. } => MessageKind::LinkDied,
            Mail::ProcessDied { .. } => MessageKind::ProcessDied,
        }
    }
}

/// What a receive wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The first piece of mail.
    Any,
    /// The first piece with this tag.
    Tag(i64),
    /// The first piece with one of these tags.
    Tags(Box<[i64]>),
}

impl Wanted {
    /// Returns what a receive with these tags wants: no tags means any mail.
    pub fn from_tags(tags: &[i64]) -> Wanted {
        tags.iter().copied().collect()
    }

    /// Returns whether a piece of mail is wanted.
    pub(crate) fn accepts(&self, mail: &Mail) -> bool {
        matches!(self, Wanted::Any) || mail.tag().is_some_and(|tag| self.tags().contains(&tag))
    }

    /// Returns whether a message with this tag is wanted.
    pub fn accepts_data(&self, tag: i64) -> bool {
        matches!(self, Wanted::Any) || self.tags().contains(&tag)
    }

    fn tags(&self) -> &[i64] {
        match self {
            Wanted::Any => &[],
            Wanted::Tag(tag) => std::slice::from_ref(tag),
            Wanted::Tags(tags) => tags,
        }
    }
}

/// Collects tags like [`Wanted::from_tags`]. A single tag, which is the usual case, needs no
/// allocation.
impl FromIterator<i64> for Wanted {
    fn from_iter<I: IntoIterator<Item = i64>>(tags: I) -> Wanted {
        let mut tags = tags.into_iter();
        let Some(first) = tags.next() else {
            return Wanted::Any;
        };
        let Some(second) = tags.next() else {
            return Wanted::Tag(first);
        };
        Wanted::Tags([first, second].into_iter().chain(tags).collect())
    }
}

/// The limits of a mailbox.
#[derive(Clone, Copy, Debug)]
pub struct MailboxLimits {
    /// The maximum size of a message, in bytes.
    pub message_bytes: u64,
    /// The maximum number of waiting messages.
    pub messages: u64,
    /// The maximum total size of waiting messages, in bytes.
    pub bytes: u64,
}

/// What a piece of mail takes besides its data, in bytes: its place in the queue and in the index,
/// and what an allocation costs.
pub(crate) const MAIL_BYTES: u64 = 256;

/// The mailbox of one process.
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    /// The waiting mail, in order. An element is `None` if a selective take removed it from the
    /// middle.
    queue: VecDeque<Option<Mail>>,
    /// The sequence number of the first element of `queue`.
    first: u64,
    /// How many elements of `queue` are `None`.
    holes: usize,
    /// The number of waiting messages, and their total size in bytes. Deaths are not counted,
    /// because the number of links and monitors limits them.
    messages: u64,
    bytes: u64,
    /// The total length of the reasons of the waiting deaths, in bytes.
    reasons: u64,
    /// For each tag, the sequence numbers of the mail with this tag, in ascending order. The index
    /// is kept from the first long search until the mailbox is empty.
    index: Option<HashMap<i64, VecDeque<u64>>>,
    /// How many elements were visited to find mail, to build the index or to compact the queue.
    #[cfg(test)]
    looked_at: usize,
}

/// How many elements a selective take skips before it builds the index.
const LONG_SEARCH: usize = 32;

impl Mailbox {
    /// Puts a message at the end, or returns the message if there is no room. A message that the
    /// owner is waiting for is accepted unless the mailbox is already beyond its limits, so that an
    /// answer reaches a full mailbox.
    pub(crate) fn push(
        &mut self,
        message: Message,
        is_awaited: bool,
        limits: MailboxLimits,
    ) -> Result<(), (Message, LimitReached)> {
        if self.messages >= limits.messages.saturating_add(is_awaited.into()) {
            let reached = LimitReached {
                limit: Limit::MailboxMessages,
                allowed: limits.messages,
                wanted: None,
            };
            return Err((message, reached));
        }
        let bytes = self.bytes.saturating_add(message.size() as u64);
        let is_beyond = if is_awaited {
            self.bytes > limits.bytes
        } else {
            bytes > limits.bytes
        };
        if is_beyond {
            let reached = LimitReached {
                limit: Limit::MailboxBytes,
                allowed: limits.bytes,
                wanted: Some(bytes),
            };
            return Err((message, reached));
        }
        self.messages += 1;
        self.bytes = bytes;
        self.append(Mail::Data(message));
        Ok(())
    }

    /// Puts a death at the end. There is always room for a death.
    pub(crate) fn push_death(&mut self, mail: Mail) {
        debug_assert!(
            !matches!(mail, Mail::Data(_)),
            "messages go through `push`, which limits them"
        );
        self.reasons += mail.reason_length();
        self.append(mail);
    }

    fn append(&mut self, mail: Mail) {
        let sequence = self.first + self.queue.len() as u64;
        if let (Some(index), Some(tag)) = (&mut self.index, mail.tag()) {
            index.entry(tag).or_default().push_back(sequence);
        }
        self.queue.push_back(Some(mail));
    }

    /// Returns the sequence number of the next piece of mail to arrive.
    pub(crate) fn next_sequence(&self) -> u64 {
        self.first + self.queue.len() as u64
    }

    /// Takes the first piece of wanted mail, starting at the sequence number `since`, and leaves
    /// all other mail in place.
    pub(crate) fn take(&mut self, wanted: &Wanted, since: u64) -> Option<Mail> {
        let start = since.saturating_sub(self.first) as usize;
        let position = match wanted {
            Wanted::Any => start + self.queue.iter().skip(start).position(Option::is_some)?,
            Wanted::Tag(_) | Wanted::Tags(_) => self.find(wanted, start)?,
        };
        let mail = self.queue[position]
            .take()
            .expect("the search stops at elements with mail");
        self.holes += 1;
        if let Some(tag) = mail.tag() {
            self.forget(tag, self.first + position as u64);
        }
        if let Mail::Data(message) = &mail {
            self.messages -= 1;
            self.bytes -= message.size() as u64;
        } else {
            self.reasons -= mail.reason_length();
        }
        self.compact();
        Some(mail)
    }

    /// Returns the first position, from `start` on, whose mail has one of the tags.
    fn find(&mut self, wanted: &Wanted, start: usize) -> Option<usize> {
        let Some(index) = &self.index else {
            let mut elements = self.queue.iter().skip(start);
            let found =
                elements.position(|mail| mail.as_ref().is_some_and(|mail| wanted.accepts(mail)));
            #[cfg(test)]
            {
                self.looked_at +=
                    found.map_or(self.queue.len().saturating_sub(start), |passed| passed + 1);
            }
            if found.unwrap_or(self.queue.len().saturating_sub(start)) >= LONG_SEARCH {
                self.make_index();
            }
            return found.map(|passed| start + passed);
        };
        let since = self.first + start as u64;
        let first_of = |tag: &i64| {
            let sequences = index.get(tag)?;
            sequences
                .get(sequences.partition_point(|&sequence| sequence < since))
                .copied()
        };
        let earliest = wanted.tags().iter().filter_map(first_of).min();
        earliest.map(|sequence| (sequence - self.first) as usize)
    }

    /// Removes a taken element from the index.
    fn forget(&mut self, tag: i64, sequence: u64) {
        let Some(index) = &mut self.index else { return };
        let sequences = index
            .get_mut(&tag)
            .expect("all mail with a tag is in the index");
        let position = sequences
            .binary_search(&sequence)
            .expect("all mail with a tag is in the index");
        // Most takes remove the first mail with the tag; other takes usually remove one of the
        // last.
        sequences.remove(position);
        if sequences.is_empty() {
            index.remove(&tag);
        }
    }

    fn make_index(&mut self) {
        let mut index: HashMap<i64, VecDeque<u64>> = HashMap::new();
        #[cfg(test)]
        {
            self.looked_at += self.queue.len();
        }
        for (position, mail) in self.queue.iter().enumerate() {
            if let Some(tag) = mail.as_ref().and_then(Mail::tag) {
                index
                    .entry(tag)
                    .or_default()
                    .push_back(self.first + position as u64);
            }
        }
        self.index = Some(index);
    }

    /// Drops empty elements at the front, and all empty elements once they make up most of the
    /// queue, so that a message that is never taken does not keep empty elements behind it in
    /// memory.
    fn compact(&mut self) {
        while let Some(None) = self.queue.front() {
            self.queue.pop_front();
            self.first += 1;
            self.holes -= 1;
        }
        if self.queue.is_empty() {
            self.index = None;
            // Memory is released after a burst, but a handful of messages causes no reallocation.
            if self.queue.capacity() > LONG_SEARCH {
                self.queue = VecDeque::new();
            }
            return;
        }
        if self.holes > LONG_SEARCH && self.holes > self.queue.len() / 2 {
            // Sequence numbers are reassigned from the end backwards, so that a sequence number
            // that a caller recorded earlier still lies behind all mail that had arrived by then.
            let end = self.next_sequence();
            #[cfg(test)]
            {
                self.looked_at += self.queue.len();
            }
            self.queue.retain(Option::is_some);
            self.first = end - self.queue.len() as u64;
            self.holes = 0;
            if self.index.is_some() {
                self.make_index();
            }
        }
    }

    /// Returns how many pieces of mail are waiting.
    pub(crate) fn len(&self) -> usize {
        self.queue.len() - self.holes
    }

    /// Returns how many deaths are waiting.
    pub(crate) fn deaths(&self) -> usize {
        self.len() - self.messages as usize
    }

    /// Returns how many bytes the waiting mail takes.
    pub(crate) fn weight(&self) -> u64 {
        let pieces = self.len() as u64 * MAIL_BYTES;
        self.bytes
            .saturating_add(pieces)
            .saturating_add(self.reasons)
    }

    /// Returns the total size of waiting messages, in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIDE: MailboxLimits = MailboxLimits {
        message_bytes: u64::MAX,
        messages: u64::MAX,
        bytes: u64::MAX,
    };

    fn message(tag: i64, text: &str) -> Message {
        Message {
            tag,
            data: text.into(),
            attachments: Vec::new(),
        }
    }

    fn mailbox(messages: &[(i64, &str)]) -> Mailbox {
        let mut mailbox = Mailbox::default();
        for &(tag, text) in messages {
            mailbox
                .push(message(tag, text), false, WIDE)
                .expect("the limits are high enough");
        }
        mailbox
    }

    fn take(mailbox: &mut Mailbox, tags: &[i64]) -> Option<String> {
        match mailbox.take(&Wanted::from_tags(tags), 0)? {
            Mail::Data(message) => {
                Some(String::from_utf8(message.data).expect("the tests send text"))
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn messages_keep_their_order() {
        let mut mailbox = mailbox(&[(0, "a"), (1, "b"), (0, "c")]);
        assert_eq!(take(&mut mailbox, &[]).as_deref(), Some("a"));
        assert_eq!(take(&mut mailbox, &[]).as_deref(), Some("b"));
        assert_eq!(take(&mut mailbox, &[]).as_deref(), Some("c"));
        assert_eq!(take(&mut mailbox, &[]), None);
    }

    #[test]
    fn a_selective_take_leaves_other_messages_in_order() {
        let mut mailbox = mailbox(&[(1, "a"), (2, "b"), (3, "c"), (2, "d")]);
        assert_eq!(take(&mut mailbox, &[3, 2]).as_deref(), Some("b"));
        assert_eq!(take(&mut mailbox, &[9]), None);
        assert_eq!(take(&mut mailbox, &[]).as_deref(), Some("a"));
        assert_eq!(take(&mut mailbox, &[]).as_deref(), Some("c"));
        assert_eq!(take(&mut mailbox, &[]).as_deref(), Some("d"));
    }

    #[test]
    fn an_index_finds_what_a_search_finds() {
        let mut mailbox = Mailbox::default();
        for number in 0..1000i64 {
            mailbox
                .push(message(number % 10, &number.to_string()), false, WIDE)
                .expect("the limits are high enough");
        }
        assert_eq!(take(&mut mailbox, &[99]), None);
        assert!(mailbox.index.is_some());
        for number in (7..1000).step_by(10) {
            assert_eq!(take(&mut mailbox, &[7]), Some(number.to_string()));
        }
        assert_eq!(take(&mut mailbox, &[7]), None);
        for number in (0..1000).filter(|number| number % 10 != 7) {
            assert_eq!(take(&mut mailbox, &[]), Some(number.to_string()));
        }
        assert!(mailbox.index.is_none());
    }

    #[test]
    fn t045_a_tag_is_found_among_a_hundred_thousand_messages_without_a_second_search() {
        const WAITING: i64 = 100_000;
        let mut mailbox = Mailbox::default();
        for number in 0..WAITING {
            mailbox
                .push(message(number % 1_000, ""), false, WIDE)
                .expect("the limits are high enough");
        }
        // A search for an answer starts at the request, so earlier mail is not visited.
        let now = mailbox.next_sequence();
        assert!(mailbox.take(&Wanted::Tag(-1), now).is_none());
        mailbox
            .push(message(-1, ""), false, WIDE)
            .expect("the limits are high enough");
        assert!(mailbox.take(&Wanted::Tag(-1), now).is_some());
        assert_eq!(mailbox.looked_at, 1);
        // Any other receive visits all messages once and builds the index. After that, a search
        // finds its message, or finds that there is none, without visiting messages again. Gaps are
        // closed after as many takes as there are messages, which visits all messages twice.
        const TAKES: usize = 1_000_000;
        for _ in 0..TAKES {
            assert!(mailbox.take(&Wanted::from_tags(&[-1, -2]), 0).is_none());
            mailbox
                .push(message(-2, ""), false, WIDE)
                .expect("the limits are high enough");
            assert!(mailbox.take(&Wanted::from_tags(&[-1, -2]), 0).is_some());
        }
        assert!(
            mailbox.looked_at <= 2 * WAITING as usize + 4 * TAKES,
            "{}",
            mailbox.looked_at
        );
    }

    #[test]
    fn an_index_is_no_larger_than_the_mailbox() {
        let mut mailbox = Mailbox::default();
        for tag in 0..100 {
            mailbox
                .push(message(tag, "waits"), false, WIDE)
                .expect("the limits are high enough");
        }
        assert_eq!(take(&mut mailbox, &[-1]), None);
        for tag in 100..10_000 {
            mailbox
                .push(message(tag, "waits"), false, WIDE)
                .expect("the limits are high enough");
            assert!(take(&mut mailbox, &[]).is_some());
        }
        let index = mailbox.index.as_ref().expect("the mailbox was never empty");
        assert_eq!(index.values().map(VecDeque::len).sum::<usize>(), 100);
        assert_eq!(index.len(), 100);
    }

    #[test]
    fn a_take_from_now_on_skips_earlier_mail() {
        for length in [3, 100] {
            let mut mailbox = Mailbox::default();
            for _ in 0..length {
                mailbox
                    .push(message(5, "before"), false, WIDE)
                    .expect("the limits are high enough");
            }
            let now = mailbox.next_sequence();
            assert!(mailbox.take(&Wanted::from_tags(&[5]), now).is_none());
            // Takes from the middle renumber the mail, but earlier mail keeps lower numbers.
            for _ in 0..length - 1 {
                assert_eq!(take(&mut mailbox, &[5]).as_deref(), Some("before"));
            }
            assert!(mailbox.take(&Wanted::from_tags(&[5]), now).is_none());
            mailbox
                .push(message(5, "after"), false, WIDE)
                .expect("the limits are high enough");
            let Some(Mail::Data(found)) = mailbox.take(&Wanted::from_tags(&[5]), now) else {
                panic!("the message was just pushed")
            };
            assert_eq!(found.data, b"after");
        }
    }

    #[test]
    fn a_message_that_is_never_taken_does_not_keep_empty_elements() {
        let mut mailbox = mailbox(&[(1, "stays")]);
        for _ in 0..10_000 {
            mailbox
                .push(message(2, "goes"), false, WIDE)
                .expect("the limits are high enough");
            assert_eq!(take(&mut mailbox, &[2]).as_deref(), Some("goes"));
        }
        assert!(
            mailbox.queue.len() < 100,
            "{} elements for one message",
            mailbox.queue.len()
        );
        assert_eq!(take(&mut mailbox, &[]).as_deref(), Some("stays"));
    }

    #[test]
    fn a_full_mailbox_returns_the_message() {
        let mut mailbox = Mailbox::default();
        let limits = MailboxLimits {
            messages: 2,
            bytes: 5,
            ..WIDE
        };
        mailbox
            .push(message(0, "abc"), false, limits)
            .expect("3 of 5 bytes are used");
        let (back, reached) = mailbox
            .push(message(0, "def"), false, limits)
            .expect_err("6 bytes exceed the limit of 5");
        assert_eq!(back.data, b"def");
        assert_eq!(
            reached,
            LimitReached {
                limit: Limit::MailboxBytes,
                allowed: 5,
                wanted: Some(6)
            }
        );
        mailbox
            .push(message(0, "de"), false, limits)
            .expect("5 of 5 bytes are used");
        let (_, reached) = mailbox
            .push(message(0, ""), false, limits)
            .expect_err("3 messages exceed the limit of 2");
        assert_eq!(reached.limit, Limit::MailboxMessages);
        take(&mut mailbox, &[]);
        mailbox
            .push(message(0, ""), false, limits)
            .expect("there is room again");
        assert_eq!((mailbox.len(), mailbox.bytes()), (2, 2));
    }

    #[test]
    fn a_full_mailbox_has_room_for_a_death() {
        let mut mailbox = Mailbox::default();
        mailbox.push_death(Mail::ProcessDied {
            tag: 0,
            pid: Pid(1),
            exit: Exit::Killed,
        });
        assert!(
            mailbox
                .push(
                    message(0, ""),
                    false,
                    MailboxLimits {
                        messages: 0,
                        bytes: 0,
                        ..WIDE
                    }
                )
                .is_err()
        );
        assert!(matches!(
            mailbox.take(&Wanted::Any, 0),
            Some(Mail::ProcessDied { .. })
        ));
    }

    #[test]
    fn a_monitored_end_without_a_tag_is_found_only_by_an_unselective_take() {
        let mut mailbox = Mailbox::default();
        mailbox.push_death(Mail::ProcessDied {
            tag: 0,
            pid: Pid(1),
            exit: Exit::Normal,
        });
        mailbox.push_death(Mail::LinkDied {
            tag: 5,
            pid: Pid(2),
            exit: Exit::Killed,
        });
        assert!(matches!(
            mailbox.take(&Wanted::from_tags(&[0, 5]), 0),
            Some(Mail::LinkDied { .. })
        ));
        assert!(mailbox.take(&Wanted::from_tags(&[0, 5]), 0).is_none());
        assert!(matches!(
            mailbox.take(&Wanted::Any, 0),
            Some(Mail::ProcessDied { .. })
        ));
    }
}
