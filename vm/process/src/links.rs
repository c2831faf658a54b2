//! Which processes are notified when a process dies, and how they react.
//!
//! The rules are Erlang's (reference manual, "Processes"), with one difference that programs built
//! for Lunatic rely on: the normal exit of a process is not reported to linked processes.

use super::exit::{Exit, MAX_REASON};
use super::mailbox::Mail;
use super::pid::Pid;
use super::purse::Paid;
use std::collections::{BTreeMap, BTreeSet};

/// The links and monitors of one process, in both directions.
#[derive(Debug, Default)]
pub(crate) struct Links {
    /// The processes linked to this process.
    linked: BTreeMap<Pid, Link>,
    /// How many of these links were made by the other process only.
    foreign: usize,
    /// The processes that monitor this process.
    watchers: BTreeSet<Pid>,
    /// The processes that this process monitors, with the tag of each monitor.
    watched: BTreeSet<(Pid, i64)>,
    /// The same monitors by tag, except for monitors without a tag.
    by_tag: BTreeSet<(i64, Pid)>,
    /// Set if this process is notified when a linked process fails, rather than killed.
    is_notified: bool,
}

/// One side of a link.
#[derive(Debug)]
struct Link {
    /// The tag used to notify this process of a failure.
    tag: i64,
    /// What the other process has paid for this side of the link, if only the other process made
    /// the link.
    paid: Option<Paid>,
}

/// The processes to notify of a process's death.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ExitNotices {
    /// The processes that were linked to the dead process and are notified of its failure. Empty
    /// after a normal exit.
    pub(crate) links: Vec<Pid>,
    /// The processes that monitored the dead process and are notified of its death, regardless of
    /// the reason.
    pub(crate) watchers: Vec<Pid>,
    /// The processes that the dead process monitored. They remove its monitors.
    pub(crate) watched: Vec<Pid>,
    /// The processes that were linked to the dead process. After a normal exit, they remove the
    /// links.
    pub(crate) unlinked: Vec<Pid>,
}

/// How a process reacts to the failure of a linked process.
#[derive(Debug)]
pub(crate) enum Reaction {
    /// Nothing happens, because the processes were no longer linked.
    None,
    /// The process dies too.
    Die(Exit),
    /// The process is notified.
    Tell(Mail),
}

impl Links {
    /// Links to a process and returns whether the link is new. Linking to the same process again
    /// replaces the tag.
    pub(crate) fn link(&mut self, pid: Pid, tag: i64) -> bool {
        self.insert(pid, Link { tag, paid: None })
    }

    /// Links to a process that makes the link and has paid for it.
    pub(crate) fn accept_link(&mut self, pid: Pid, tag: i64, paid: Paid) {
        let is_own = self
            .linked
            .get(&pid)
            .is_some_and(|link| link.paid.is_none());
        let paid = (!is_own).then_some(paid);
        self.insert(pid, Link { tag, paid });
    }

    fn insert(&mut self, pid: Pid, link: Link) -> bool {
        let before = self.remove(pid);
        self.foreign += usize::from(link.paid.is_some());
        self.linked.insert(pid, link);
        before.is_none()
    }

    fn remove(&mut self, pid: Pid) -> Option<Link> {
        let link = self.linked.remove(&pid)?;
        self.foreign -= usize::from(link.paid.is_some());
        Some(link)
    }

    /// Returns what a process has paid for its link to this process.
    pub(crate) fn paid(&mut self, pid: Pid) -> Option<&mut Paid> {
        self.linked.get_mut(&pid)?.paid.as_mut()
    }

    /// Removes a link and returns whether it existed.
    pub(crate) fn unlink(&mut self, pid: Pid) -> bool {
        self.remove(pid).is_some()
    }

    /// Adds a process that monitors this process.
    pub(crate) fn add_watcher(&mut self, pid: Pid) {
        self.watchers.insert(pid);
    }

    pub(crate) fn remove_watcher(&mut self, pid: Pid) {
        self.watchers.remove(&pid);
    }

    /// Adds a monitor of another process and returns whether the monitor is new. Each tag is a
    /// separate monitor.
    pub(crate) fn watch(&mut self, pid: Pid, tag: i64) -> bool {
        if tag != 0 {
            self.by_tag.insert((tag, pid));
        }
        self.watched.insert((pid, tag))
    }

    /// Returns whether this process has a monitor with the given tag. A process that sends a
    /// request to another process monitors that process, using the reply's tag.
    pub(crate) fn is_expecting(&self, tag: i64) -> bool {
        let mut monitors = self.by_tag.range((tag, Pid(0))..);
        monitors.next().is_some_and(|&(first, _)| first == tag)
    }

    /// Removes a monitor and returns whether it existed.
    pub(crate) fn unwatch(&mut self, pid: Pid, tag: i64) -> bool {
        self.by_tag.remove(&(tag, pid));
        self.watched.remove(&(pid, tag))
    }

    /// Returns whether this process monitors another process with any tag.
    pub(crate) fn watches(&self, pid: Pid) -> bool {
        self.monitors(pid).next().is_some()
    }

    fn monitors(&self, pid: Pid) -> impl Iterator<Item = (Pid, i64)> {
        self.watched
            .range((pid, i64::MIN)..=(pid, i64::MAX))
            .copied()
    }

    /// Sets whether failures of linked processes notify this process or, by default, kill it.
    pub(crate) fn set_notified(&mut self, is_notified: bool) {
        self.is_notified = is_notified;
    }

    /// Returns whether this process is notified when linked processes fail.
    pub(crate) fn is_notified(&self) -> bool {
        self.is_notified
    }

    /// Handles the failure of a linked process.
    pub(crate) fn on_link_died(&mut self, pid: Pid, exit: &Exit) -> Reaction {
        let Some(Link { tag, paid }) = self.remove(pid) else {
            return Reaction::None;
        };
        if self.is_notified {
            Reaction::Tell(Mail::LinkDied {
                tag,
                pid,
                paid,
                exit: exit.told(MAX_REASON),
            })
        } else {
            Reaction::Die(exit.passed_on(pid))
        }
    }

    /// Handles the death of a monitored process. Returns one death notice for each remaining
    /// monitor.
    pub(crate) fn on_process_died(&mut self, pid: Pid, exit: &Exit) -> Vec<Mail> {
        let monitors: Vec<(Pid, i64)> = self.monitors(pid).collect();
        for &(pid, tag) in &monitors {
            self.unwatch(pid, tag);
        }
        monitors
            .into_iter()
            .map(|(pid, tag)| Mail::ProcessDied {
                tag,
                pid,
                exit: exit.clone(),
            })
            .collect()
    }

    /// Handles a new monitor of a process that does not exist. Earlier monitors of the same process
    /// stay, because their notice, which contains the reason, has not arrived yet.
    pub(crate) fn on_no_process(&mut self, pid: Pid, tag: i64) -> Option<Mail> {
        let was_watched = self.unwatch(pid, tag);
        was_watched.then_some(Mail::ProcessDied {
            tag,
            pid,
            exit: Exit::NoProcess,
        })
    }

    /// Returns how many more deaths the process can be notified of because of its own links and
    /// monitors.
    pub(crate) fn expected(&self) -> usize {
        self.linked.len() - self.foreign + self.watched.len()
    }

    /// Returns how many entries the lists have.
    pub(crate) fn len(&self) -> usize {
        self.linked.len() + self.watchers.len() + self.watched.len()
    }

    /// Removes all links and monitors of this process, and returns which processes to notify.
    pub(crate) fn on_exit(&mut self, exit: &Exit) -> ExitNotices {
        let linked = std::mem::take(&mut self.linked).into_keys().collect();
        self.foreign = 0;
        let (links, unlinked) = if exit.is_normal() {
            (Vec::new(), linked)
        } else {
            (linked, Vec::new())
        };
        ExitNotices {
            links,
            unlinked,
            watchers: std::mem::take(&mut self.watchers).into_iter().collect(),
            watched: {
                let mut watched: Vec<Pid> = std::mem::take(&mut self.watched)
                    .into_iter()
                    .map(|(pid, _)| pid)
                    .collect();
                watched.dedup();
                watched
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// T052: what happens to a process when a linked process dies, in each of the Erlang cases that
    /// apply here.
    #[test]
    fn t052_links_behave_as_erlang_specifies() {
        let limit = Exit::Limit(crate::LimitReached {
            limit: lunatic_abi::Limit::Memory,
            allowed: 1,
            wanted: None,
        });
        for (told, exit) in [
            (false, Exit::Killed),
            (false, Exit::Status(3)),
            (true, Exit::Killed),
            (true, limit),
        ] {
            let mut links = Links::default();
            links.set_notified(told);
            links.link(Pid(1), 42);
            match (told, links.on_link_died(Pid(1), &exit)) {
                (false, Reaction::Die(Exit::LinkDied { pid, exit: why })) => {
                    assert_eq!((pid, why.kind()), (Pid(1), exit.kind()));
                }
                (
                    true,
                    Reaction::Tell(Mail::LinkDied {
                        tag,
                        pid,
                        exit: why,
                        ..
                    }),
                ) => {
                    assert_eq!((tag, pid, why.kind()), (42, Pid(1), exit.kind()));
                }
                (_, other) => panic!("told {told}, {exit}: {other:?}"),
            }
            assert!(
                matches!(links.on_link_died(Pid(1), &exit), Reaction::None),
                "a linked process's death is reported only once"
            );
        }
    }

    #[test]
    fn a_normal_end_notifies_watchers_but_not_links() {
        let mut links = Links::default();
        links.link(Pid(1), 0);
        links.add_watcher(Pid(2));
        links.watch(Pid(3), 0);
        links.watch(Pid(3), 7);
        let notices = links.on_exit(&Exit::Normal);
        assert_eq!(
            notices,
            ExitNotices {
                links: vec![],
                watchers: vec![Pid(2)],
                watched: vec![Pid(3)],
                unlinked: vec![Pid(1)]
            }
        );
    }

    #[test]
    fn a_failure_notifies_links_and_watchers() {
        let mut links = Links::default();
        links.link(Pid(1), 0);
        links.add_watcher(Pid(1));
        let notices = links.on_exit(&Exit::Killed);
        assert_eq!(
            notices,
            ExitNotices {
                links: vec![Pid(1)],
                watchers: vec![Pid(1)],
                watched: vec![],
                unlinked: vec![]
            }
        );
    }

    #[test]
    fn removed_links_and_monitors_produce_no_notices() {
        let mut links = Links::default();
        links.link(Pid(1), 0);
        links.watch(Pid(1), 0);
        assert!(links.unlink(Pid(1)) && !links.unlink(Pid(1)));
        assert!(links.unwatch(Pid(1), 0) && !links.unwatch(Pid(1), 0));
        assert!(matches!(
            links.on_link_died(Pid(1), &Exit::Killed),
            Reaction::None
        ));
        assert!(links.on_process_died(Pid(1), &Exit::Killed).is_empty());
    }

    #[test]
    fn t049_monitoring_a_missing_process_does_not_cost_earlier_monitors_their_exit_reason() {
        let mut links = Links::default();
        assert!(links.watch(Pid(1), 5) && !links.watch(Pid(1), 5));
        assert!(links.watch(Pid(1), 6));
        let answer = links.on_no_process(Pid(1), 6);
        assert!(matches!(
            answer,
            Some(Mail::ProcessDied {
                tag: 6,
                exit: Exit::NoProcess,
                ..
            })
        ));
        let late = links.on_process_died(Pid(1), &Exit::Killed);
        assert!(matches!(
            late.as_slice(),
            [Mail::ProcessDied {
                tag: 5,
                exit: Exit::Killed,
                ..
            }]
        ));
        assert!(links.on_no_process(Pid(1), 6).is_none());
    }

    #[test]
    fn each_tag_is_a_separate_monitor() {
        let mut links = Links::default();
        for tag in [0, 5, 6] {
            links.watch(Pid(1), tag);
        }
        assert!(links.unwatch(Pid(1), 5) && links.watches(Pid(1)));
        let tags = |mail: Vec<Mail>| -> Vec<i64> {
            mail.iter()
                .map(|mail| {
                    if let Mail::ProcessDied { tag, .. } = mail {
                        *tag
                    } else {
                        panic!("{mail:?}")
                    }
                })
                .collect()
        };
        assert_eq!(tags(links.on_process_died(Pid(1), &Exit::Normal)), [0, 6]);
        assert!(links.on_process_died(Pid(1), &Exit::Normal).is_empty());
    }
}
