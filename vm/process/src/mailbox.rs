//! A mailbox is a plain bounded queue. It never waits and never wakes anything.
//!
//! Mail (messages and death notices) is kept in order of arrival. A selective take searches by tag.
//! Once there are more than a few pieces, they are also indexed by tag, so that no push or take has
//! to visit all of them.

use super::exit::{Exit, LimitReached};
use super::pid::Pid;
use super::purse::Paid;
use lunatic_abi::{Limit, MessageKind};
use std::any::Any;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// A resource attached to a message. It is opaque to this crate.
pub type Attachment = Box<dyn Any + Send>;

/// A message, consisting of data and attachments.
#[derive(Debug, Default)]
pub struct Message {
    /// The tag that a selective receive looks for; 0 means no tag.
    pub tag: i64,
    /// The data.
    pub data: Vec<u8>,
    /// The attachments. Taking one out leaves `None` in its place, so the others keep their
    /// indices.
    pub attachments: Vec<Option<Attachment>>,
}

/// The number of bytes that each attachment adds to its message's size. This also limits messages
/// that contain only attachments.
const ATTACHMENT_BYTES: usize = 64;

impl Message {
    /// Returns the size of the message in bytes, as counted toward a mailbox's limits.
    pub fn size(&self) -> usize {
        self.data.len() + self.attachments.len() * ATTACHMENT_BYTES
    }
}

/// A piece of mail: a message or a death notice.
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
        /// The failed process's payment for the notice, if that process made the link.
        paid: Option<Paid>,
        /// Why the process died.
        exit: Exit,
    },
    /// A monitored process died. If the tag is 0, only an unselective take finds this notice.
    ProcessDied {
        /// The monitor's tag.
        tag: i64,
        /// The process that died.
        pid: Pid,
        /// Why the process died.
        exit: Exit,
    },
}

impl Mail {
    /// Returns the tag that a selective take looks for, or `None` if only an unselective take finds
    /// this mail.
    fn tag(&self) -> Option<i64> {
        match self {
            Mail::Data(message) => Some(message.tag),
            Mail::LinkDied { tag, .. } => Some(*tag),
            Mail::ProcessDied { tag, .. } => (*tag != 0).then_some(*tag),
        }
    }

    /// Returns whether another process has paid for the mail.
    fn is_paid(&self) -> bool {
        matches!(self, Mail::LinkDied { paid: Some(_), .. })
    }

    /// Returns the length of the reason in a death notice, or 0 for a message and for a notice that
    /// another process has paid for.
    fn reason_length(&self) -> u64 {
        match self {
            Mail::Data(_) | Mail::LinkDied { paid: Some(_), .. } => 0,
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

/// The mail that a receive accepts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Any mail.
    Any,
    /// Mail with the given tag.
    Tag(i64),
    /// Mail with one of the given tags.
    Tags(Box<[i64]>),
}

impl Wanted {
    /// Returns what a receive with the given tags accepts. No tags means any mail.
    pub fn from_tags(tags: &[i64]) -> Wanted {
        tags.iter().copied().collect()
    }

    /// Returns whether this mail is accepted.
    pub(crate) fn accepts(&self, mail: &Mail) -> bool {
        matches!(self, Wanted::Any) || mail.tag().is_some_and(|tag| self.tags().contains(&tag))
    }

    /// Returns whether a message with the given tag is accepted.
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

/// Collects tags like [`Wanted::from_tags`]. A single tag, the usual case, does not allocate.
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

/// The per-piece overhead of mail in bytes. It covers the entries in the queue and in the index,
/// and the allocator's overhead.
pub(crate) const MAIL_BYTES: u64 = 256;

/// The mailbox of one process.
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    waiting: Waiting,
    /// The sequence number that the next mail to arrive will get.
    next: u64,
    /// The number of waiting messages and their total size in bytes. Death notices are excluded,
    /// because their number is limited by the number of links and monitors.
    messages: u64,
    bytes: u64,
    /// The total length of the reasons in waiting death notices, in bytes.
    reasons: u64,
    /// The number of waiting death notices that other processes have paid for.
    paid: u64,
    /// How many elements were visited to find mail.
    #[cfg(test)]
    looked_at: usize,
}

/// The waiting mail, in order. Each piece is stored with its sequence number.
#[derive(Debug)]
enum Waiting {
    /// A few pieces, which are searched linearly.
    Few(VecDeque<(u64, Mail)>),
    /// More pieces, which are indexed by tag. The mailbox returns to `Few` once it is empty.
    Many(Box<Many>),
}

impl Default for Waiting {
    fn default() -> Waiting {
        Waiting::Few(VecDeque::new())
    }
}

/// Waiting mail with an index by tag.
#[derive(Debug, Default)]
struct Many {
    mail: BTreeMap<u64, Mail>,
    /// The tag and sequence number of each piece that a selective take can find.
    tags: BTreeSet<(i64, u64)>,
}

/// The maximum number of pieces that are searched linearly.
const FEW: usize = 32;

impl Many {
    fn append(&mut self, sequence: u64, mail: Mail) {
        if let Some(tag) = mail.tag() {
            self.tags.insert((tag, sequence));
        }
        self.mail.insert(sequence, mail);
    }

    fn take(&mut self, wanted: &Wanted, since: u64) -> Option<Mail> {
        let first_of = |tag: &i64| self.tags.range((*tag, since)..=(*tag, u64::MAX)).next();
        let sequence = match wanted {
            Wanted::Any => *self.mail.range(since..).next()?.0,
            Wanted::Tag(_) | Wanted::Tags(_) => {
                let found = wanted.tags().iter().filter_map(first_of);
                found.map(|(_, sequence)| *sequence).min()?
            }
        };
        let mail = self.mail.remove(&sequence)?;
        if let Some(tag) = mail.tag() {
            self.tags.remove(&(tag, sequence));
        }
        Some(mail)
    }
}

impl Mailbox {
    /// Appends a message, or returns it if the mailbox is full. A message that the owner is waiting
    /// for is accepted even if it exceeds the limits, unless they are already exceeded, so that a
    /// reply can be delivered to a full mailbox.
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

    /// Appends a death notice. Death notices are always accepted.
    pub(crate) fn push_death(&mut self, mail: Mail) {
        debug_assert!(
            !matches!(mail, Mail::Data(_)),
            "messages go through `push`, which enforces the limits"
        );
        self.reasons += mail.reason_length();
        self.paid += u64::from(mail.is_paid());
        self.append(mail);
    }

    fn append(&mut self, mail: Mail) {
        let sequence = self.next;
        self.next += 1;
        match &mut self.waiting {
            Waiting::Few(few) if few.len() < FEW => few.push_back((sequence, mail)),
            Waiting::Few(few) => {
                let mut many = Box::<Many>::default();
                for (sequence, mail) in few.drain(..) {
                    many.append(sequence, mail);
                }
                many.append(sequence, mail);
                self.waiting = Waiting::Many(many);
            }
            Waiting::Many(many) => many.append(sequence, mail),
        }
    }

    /// Returns the sequence number that the next mail to arrive will get.
    pub(crate) fn next_sequence(&self) -> u64 {
        self.next
    }

    /// Takes the first accepted mail whose sequence number is at least `since`, and leaves all
    /// other mail in place.
    pub(crate) fn take(&mut self, wanted: &Wanted, since: u64) -> Option<Mail> {
        let mail = match &mut self.waiting {
            Waiting::Few(few) => {
                let is_found =
                    |(sequence, mail): &(u64, Mail)| *sequence >= since && wanted.accepts(mail);
                let position = few.iter().position(is_found);
                #[cfg(test)]
                {
                    self.looked_at += position.map_or(few.len(), |passed| passed + 1);
                }
                few.remove(position?)?.1
            }
            Waiting::Many(many) => {
                #[cfg(test)]
                {
                    self.looked_at += wanted.tags().len();
                }
                let mail = many.take(wanted, since)?;
                if many.mail.is_empty() {
                    self.waiting = Waiting::default();
                }
                mail
            }
        };
        if let Mail::Data(message) = &mail {
            self.messages -= 1;
            self.bytes -= message.size() as u64;
        } else {
            self.reasons -= mail.reason_length();
            self.paid -= u64::from(mail.is_paid());
        }
        Some(mail)
    }

    /// Returns the number of waiting messages and death notices.
    pub(crate) fn len(&self) -> usize {
        match &self.waiting {
            Waiting::Few(few) => few.len(),
            Waiting::Many(many) => many.mail.len(),
        }
    }

    /// Returns the number of waiting death notices caused by the owner's own links and monitors.
    pub(crate) fn deaths(&self) -> usize {
        self.len() - (self.messages + self.paid) as usize
    }

    /// Returns the number of bytes to charge for the waiting mail.
    pub(crate) fn weight(&self) -> u64 {
        let pieces = (self.len() as u64 - self.paid) * MAIL_BYTES;
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
    fn many_pieces_are_found_in_the_same_way_as_few() {
        let mut mailbox = Mailbox::default();
        for number in 0..1000i64 {
            mailbox
                .push(message(number % 10, &number.to_string()), false, WIDE)
                .expect("the limits are high enough");
        }
        assert_eq!(take(&mut mailbox, &[99]), None);
        assert!(matches!(mailbox.waiting, Waiting::Many(_)));
        for number in (7..1000).step_by(10) {
            assert_eq!(take(&mut mailbox, &[7]), Some(number.to_string()));
        }
        assert_eq!(take(&mut mailbox, &[7]), None);
        for number in (0..1000).filter(|number| number % 10 != 7) {
            assert_eq!(take(&mut mailbox, &[]), Some(number.to_string()));
        }
        assert!(matches!(mailbox.waiting, Waiting::Few(_)));
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
        // Even the first search does not visit all messages.
        let now = mailbox.next_sequence();
        assert!(mailbox.take(&Wanted::Tag(-1), now).is_none());
        mailbox
            .push(message(-1, ""), false, WIDE)
            .expect("the limits are high enough");
        assert!(mailbox.take(&Wanted::Tag(-1), now).is_some());
        assert_eq!(mailbox.looked_at, 2);
        const TAKES: usize = 1_000_000;
        for _ in 0..TAKES {
            assert!(mailbox.take(&Wanted::from_tags(&[-1, -2]), 0).is_none());
            mailbox
                .push(message(-2, ""), false, WIDE)
                .expect("the limits are high enough");
            assert!(mailbox.take(&Wanted::from_tags(&[-1, -2]), 0).is_some());
        }
        assert!(mailbox.looked_at <= 2 + 4 * TAKES, "{}", mailbox.looked_at);
    }

    #[test]
    fn the_number_of_kept_tags_does_not_exceed_the_number_of_pieces() {
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
        let Waiting::Many(many) = &mailbox.waiting else {
            panic!("a mailbox with a hundred messages is indexed by tag")
        };
        assert_eq!((many.tags.len(), many.mail.len()), (100, 100));
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
            // Earlier mail stays ahead of later mail.
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
    fn a_message_that_is_never_taken_does_not_leave_empty_elements_behind() {
        let mut mailbox = mailbox(&[(1, "stays")]);
        for _ in 0..10_000 {
            mailbox
                .push(message(2, "goes"), false, WIDE)
                .expect("the limits are high enough");
            assert_eq!(take(&mut mailbox, &[2]).as_deref(), Some("goes"));
        }
        assert!(
            mailbox.len() == 1,
            "{} elements are kept for one message",
            mailbox.len()
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
            .expect("the mailbox is no longer full");
        assert_eq!((mailbox.len(), mailbox.bytes()), (2, 2));
    }

    #[test]
    fn a_full_mailbox_has_room_for_a_death_notice() {
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
    fn a_death_notice_without_a_tag_is_found_only_by_an_unselective_take() {
        let mut mailbox = Mailbox::default();
        mailbox.push_death(Mail::ProcessDied {
            tag: 0,
            pid: Pid(1),
            exit: Exit::Normal,
        });
        mailbox.push_death(Mail::LinkDied {
            tag: 5,
            pid: Pid(2),
            paid: None,
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
