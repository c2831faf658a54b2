//! A supervisor's decisions, as a pure state machine. This code doesn't spawn processes, wait, or
//! read the clock.
//!
//! Times are measured from the supervisor's start. The rules are those of Erlang's supervisor, plus
//! delays.

use lunatic_abi::restart::{Backoff, Decision, Intensity, Restarts, Streak};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Which other children are restarted along with a child.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strategy {
    /// None. This is the default.
    #[default]
    OneForOne,
    /// All other children, which are stopped first.
    OneForAll,
    /// The children that were started after this one, which are stopped first.
    RestForOne,
}

/// Which exits cause a child to be restarted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Restart {
    /// The child is restarted after every exit. This is the default.
    #[default]
    Permanent,
    /// The child is restarted after a failure, which is any exit other than
    /// [`ExitReason::Normal`](crate::ExitReason::Normal).
    Transient,
    /// The child is never restarted, not even if it was stopped because another child failed.
    Temporary,
}

/// Identifies a child. Children are numbered in the order in which they were added, which is also
/// the order in which they are started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Key(u64);

/// A plan's restart rules.
#[derive(Clone, Copy, Debug)]
pub(super) struct Policy {
    pub(super) strategy: Strategy,
    pub(super) intensity: Intensity,
    pub(super) backoff: Backoff,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            strategy: Strategy::OneForOne,
            intensity: Intensity {
                restarts: 3,
                within: Duration::from_secs(5),
            },
            backoff: Backoff::default(),
        }
    }
}

/// How a child exited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exit {
    Normal,
    /// The child failed, or its start failed.
    Failed,
}

/// What the supervisor has to do after a child has exited.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing: the child is not restarted.
    Leave,
    /// Restart the child, possibly along with others. The children in `end` are running and have to
    /// be stopped first, in this order.
    Restart { end: Vec<Key> },
    /// Give up, because there were too many restarts.
    GiveUp,
}

#[derive(Debug)]
struct Member {
    restart: Restart,
    /// True if the child was created from a template. Such a child is forgotten when it exits and
    /// is not restarted.
    is_dynamic: bool,
    state: State,
    /// The child's consecutive failures. A failure after the child has run for a whole period
    /// starts a new streak.
    streak: Streak,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Down,
    Up { since: Duration },
    Due { at: Duration },
}

/// Keeps track of a supervisor's children and decides what to do with them.
#[derive(Debug)]
pub(super) struct Rules {
    policy: Policy,
    members: BTreeMap<Key, Member>,
    /// The children that have to be restarted, and when.
    due: BTreeSet<(Duration, Key)>,
    restarts: Restarts,
    last: u64,
}

impl Rules {
    pub(super) fn new(policy: Policy) -> Self {
        Self {
            policy,
            members: BTreeMap::new(),
            due: BTreeSet::new(),
            // Delays depend on a child's own streak, not on the restarts of other children.
            restarts: Restarts::new(policy.intensity, Backoff::default()),
            last: 0,
        }
    }

    /// Adds a child after the existing ones. The caller has to start it.
    pub(super) fn add(&mut self, restart: Restart, is_dynamic: bool) -> Key {
        self.last += 1;
        let key = Key(self.last);
        self.members.insert(
            key,
            Member {
                restart,
                is_dynamic,
                state: State::Down,
                streak: Streak::default(),
            },
        );
        key
    }

    pub(super) fn is_member(&self, key: Key) -> bool {
        self.members.contains_key(&key)
    }

    /// Removes a child, whether or not it is running.
    pub(super) fn remove(&mut self, key: Key) {
        self.put(key, State::Down);
        self.members.remove(&key);
    }

    /// Records that a child is running.
    pub(super) fn started(&mut self, key: Key, now: Duration) {
        self.put(key, State::Up { since: now });
    }

    /// Records that a child was stopped on purpose and must not be restarted.
    pub(super) fn terminated(&mut self, key: Key) {
        self.put(key, State::Down);
        self.forget_if_over(key);
    }

    /// Decides what to do after a child has exited or failed to start.
    pub(super) fn ended(&mut self, key: Key, exit: Exit, now: Duration) -> Verdict {
        let Policy {
            strategy,
            intensity,
            backoff,
        } = self.policy;
        let Some(member) = self.members.get_mut(&key) else {
            return Verdict::Leave;
        };
        let had_run_for_long = match member.state {
            State::Up { since } => now.saturating_sub(since) >= intensity.within,
            State::Down | State::Due { .. } => false,
        };
        let is_restarted = match member.restart {
            Restart::Permanent => true,
            Restart::Transient => exit == Exit::Failed,
            Restart::Temporary => false,
        };
        if !is_restarted {
            self.terminated(key);
            return Verdict::Leave;
        }
        let at = now + member.streak.on_failure(had_run_for_long, &backoff);
        self.put(key, State::Down);
        if self.restarts.on_failure(now) == Decision::GiveUp {
            return Verdict::GiveUp;
        }
        let group: Vec<Key> = match strategy {
            Strategy::OneForOne => vec![key],
            Strategy::OneForAll => self.members.keys().copied().collect(),
            Strategy::RestForOne => self.members.range(key..).map(|(&key, _)| key).collect(),
        };
        let mut ended = Vec::new();
        for &key in group.iter().rev() {
            let member = &self.members[&key];
            if matches!(member.state, State::Up { .. }) {
                ended.push(key);
            }
            match member.restart {
                Restart::Temporary => self.remove(key),
                Restart::Permanent | Restart::Transient => self.put(key, State::Due { at }),
            }
        }
        Verdict::Restart { end: ended }
    }

    /// Returns the child to start now, if any: the one that has been due the longest, with ties
    /// broken by the order of the children.
    pub(super) fn due(&self, now: Duration) -> Option<Key> {
        self.due
            .first()
            .filter(|(at, _)| *at <= now)
            .map(|(_, key)| *key)
    }

    /// Returns when the next child has to be restarted.
    pub(super) fn next_due(&self) -> Option<Duration> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Returns the running children in the order in which to stop them, last child first.
    pub(super) fn in_order_of_end(&self) -> Vec<Key> {
        let up = self
            .members
            .iter()
            .rev()
            .filter(|(_, member)| matches!(member.state, State::Up { .. }));
        up.map(|(&key, _)| key).collect()
    }

    fn put(&mut self, key: Key, state: State) {
        let Some(member) = self.members.get_mut(&key) else {
            return;
        };
        if let State::Due { at } = member.state {
            self.due.remove(&(at, key));
        }
        if let State::Due { at } = state {
            self.due.insert((at, key));
        }
        member.state = state;
    }

    /// Forgets a child that will not be started again, unless it must be kept for the next group
    /// restart.
    fn forget_if_over(&mut self, key: Key) {
        let is_over = |member: &Member| member.is_dynamic || member.restart == Restart::Temporary;
        if self.members.get(&key).is_some_and(is_over) {
            self.members.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    fn intensity(restarts: usize) -> Intensity {
        Intensity {
            restarts,
            within: seconds(5),
        }
    }

    fn backoff(first: Duration, most: Duration) -> Backoff {
        Backoff {
            immediate: 0,
            first,
            most,
        }
    }

    /// Creates rules with children that are already running.
    fn rules<const N: usize>(strategy: Strategy, restarts: [Restart; N]) -> (Rules, [Key; N]) {
        let mut rules = Rules::new(Policy {
            strategy,
            ..Policy::default()
        });
        let keys = restarts.map(|restart| rules.add(restart, false));
        for key in keys {
            rules.started(key, Duration::ZERO);
        }
        (rules, keys)
    }

    /// Starts all children that are due, and returns them.
    fn start(rules: &mut Rules, now: Duration) -> Vec<Key> {
        let mut started = Vec::new();
        while let Some(key) = rules.due(now) {
            rules.started(key, now);
            started.push(key);
        }
        started
    }

    #[test]
    fn one_for_one_restarts_only_the_failed_child() {
        let (mut rules, [a, b, c]) = rules(Strategy::OneForOne, [Restart::Permanent; 3]);
        assert_eq!(
            rules.ended(b, Exit::Failed, seconds(1)),
            Verdict::Restart { end: vec![] }
        );
        assert_eq!(start(&mut rules, seconds(1)), [b]);
        assert_eq!(rules.in_order_of_end(), [c, b, a]);
    }

    #[test]
    fn one_for_all_ends_the_others_in_reverse_and_restarts_all_in_order() {
        let (mut rules, [a, b, c]) = rules(Strategy::OneForAll, [Restart::Permanent; 3]);
        assert_eq!(
            rules.ended(b, Exit::Failed, seconds(1)),
            Verdict::Restart { end: vec![c, a] }
        );
        assert_eq!(start(&mut rules, seconds(1)), [a, b, c]);
    }

    #[test]
    fn rest_for_one_restarts_the_children_started_later() {
        let (mut rules, [_, b, c]) = rules(Strategy::RestForOne, [Restart::Permanent; 3]);
        assert_eq!(
            rules.ended(b, Exit::Failed, seconds(1)),
            Verdict::Restart { end: vec![c] }
        );
        assert_eq!(start(&mut rules, seconds(1)), [b, c]);
    }

    #[test]
    fn whether_a_child_is_restarted_depends_on_its_kind_and_end() {
        let check = |restart: Restart, exit: Exit, is_restarted: bool| {
            let (mut rules, [key]) = rules(Strategy::OneForOne, [restart]);
            let verdict = rules.ended(key, exit, seconds(1));
            let expected = if is_restarted {
                Verdict::Restart { end: vec![] }
            } else {
                Verdict::Leave
            };
            assert_eq!(verdict, expected, "{restart:?} {exit:?}");
            assert_eq!(rules.is_member(key), restart != Restart::Temporary);
        };
        check(Restart::Permanent, Exit::Normal, true);
        check(Restart::Permanent, Exit::Failed, true);
        check(Restart::Transient, Exit::Normal, false);
        check(Restart::Transient, Exit::Failed, true);
        check(Restart::Temporary, Exit::Normal, false);
        check(Restart::Temporary, Exit::Failed, false);
    }

    #[test]
    fn the_end_of_a_child_that_is_not_restarted_does_not_affect_others() {
        let (mut rules, [a, b]) = rules(
            Strategy::OneForAll,
            [Restart::Permanent, Restart::Transient],
        );
        assert_eq!(rules.ended(b, Exit::Normal, seconds(1)), Verdict::Leave);
        assert_eq!(rules.in_order_of_end(), [a]);
        // As in Erlang, the child is restarted along with the others.
        assert_eq!(
            rules.ended(a, Exit::Failed, seconds(2)),
            Verdict::Restart { end: vec![] }
        );
        assert_eq!(start(&mut rules, seconds(2)), [a, b]);
    }

    #[test]
    fn temporary_children_are_ended_with_the_others_and_not_restarted() {
        let (mut rules, [a, b]) = rules(
            Strategy::OneForAll,
            [Restart::Permanent, Restart::Temporary],
        );
        assert_eq!(
            rules.ended(a, Exit::Failed, seconds(1)),
            Verdict::Restart { end: vec![b] }
        );
        assert_eq!(start(&mut rules, seconds(1)), [a]);
        assert!(!rules.is_member(b));
    }

    /// T057: a period contains the allowed number of restarts and no more.
    #[test]
    fn t057_the_supervisor_gives_up_after_the_last_allowed_restart() {
        let (mut rules, [key]) = rules(Strategy::OneForOne, [Restart::Permanent]);
        for _ in 0..3 {
            assert_eq!(
                rules.ended(key, Exit::Failed, seconds(1)),
                Verdict::Restart { end: vec![] }
            );
            rules.started(key, seconds(1));
        }
        assert_eq!(rules.ended(key, Exit::Failed, seconds(6)), Verdict::GiveUp);
    }

    #[test]
    fn restarts_older_than_the_period_do_not_count() {
        let (mut rules, [a, b]) = rules(Strategy::OneForOne, [Restart::Permanent; 2]);
        for now in 0..100 {
            // Two restarts in five seconds are allowed, regardless of which child is restarted.
            let key = if now % 2 == 0 { a } else { b };
            assert_eq!(
                rules.ended(key, Exit::Failed, seconds(3 * now)),
                Verdict::Restart { end: vec![] }
            );
            rules.started(key, seconds(3 * now));
        }
    }

    #[test]
    fn no_child_is_restarted_if_no_restarts_are_allowed() {
        let mut rules = Rules::new(Policy {
            intensity: intensity(0),
            ..Policy::default()
        });
        let key = rules.add(Restart::Permanent, false);
        rules.started(key, Duration::ZERO);
        assert_eq!(rules.ended(key, Exit::Failed, seconds(1)), Verdict::GiveUp);
    }

    #[test]
    fn failed_starts_count_as_restarts() {
        let (mut rules, [a, b]) = rules(Strategy::OneForAll, [Restart::Permanent; 2]);
        rules.ended(b, Exit::Failed, seconds(1));
        assert_eq!(rules.due(seconds(1)), Some(a));
        rules.started(a, seconds(1));
        assert_eq!(rules.due(seconds(1)), Some(b));
        // Children that were already started in this round are stopped again.
        assert_eq!(
            rules.ended(b, Exit::Failed, seconds(1)),
            Verdict::Restart { end: vec![a] }
        );
        rules.ended(a, Exit::Failed, seconds(1));
        assert_eq!(rules.ended(a, Exit::Failed, seconds(1)), Verdict::GiveUp);
    }

    #[test]
    fn delays_double_up_to_the_maximum_and_start_over_after_a_period_without_failure() {
        let mut rules = Rules::new(Policy {
            intensity: intensity(1_000),
            backoff: backoff(Duration::from_millis(100), Duration::from_millis(500)),
            ..Policy::default()
        });
        let key = rules.add(Restart::Permanent, false);
        let mut now = Duration::ZERO;
        let mut delay = |rules: &mut Rules, lived: Duration| {
            rules.started(key, now);
            now += lived;
            rules.ended(key, Exit::Failed, now);
            let due = rules.next_due().expect("the child will be restarted");
            assert_eq!(rules.due(due - Duration::from_nanos(1)), None);
            assert_eq!(rules.due(due), Some(key));
            let delay = due - now;
            now = due;
            delay.as_millis()
        };
        let short = Duration::from_millis(1);
        let delays: Vec<u128> = (0..5).map(|_| delay(&mut rules, short)).collect();
        assert_eq!(delays, [100, 200, 400, 500, 500]);
        // The doubling does not overflow.
        assert!((0..100).all(|_| delay(&mut rules, short) == 500));
        assert_eq!(delay(&mut rules, seconds(5)), 100);
    }

    #[test]
    fn a_waiting_group_includes_children_that_fail_in_the_meantime() {
        let mut rules = Rules::new(Policy {
            strategy: Strategy::RestForOne,
            backoff: backoff(seconds(1), seconds(60)),
            ..Policy::default()
        });
        let [a, b, c] = [Restart::Permanent; 3].map(|restart| rules.add(restart, false));
        for key in [a, b, c] {
            rules.started(key, Duration::ZERO);
        }
        assert_eq!(
            rules.ended(b, Exit::Failed, seconds(10)),
            Verdict::Restart { end: vec![c] }
        );
        assert_eq!(
            rules.ended(a, Exit::Failed, Duration::from_millis(10_500)),
            Verdict::Restart { end: vec![] }
        );
        assert_eq!(rules.due(seconds(11)), None, "b waits for a");
        assert_eq!(start(&mut rules, Duration::from_millis(11_500)), [a, b, c]);
        assert_eq!(rules.next_due(), None);
    }

    #[test]
    fn ended_dynamic_children_are_forgotten() {
        let mut rules = Rules::new(Policy::default());
        let keys = [Restart::Permanent, Restart::Transient, Restart::Temporary]
            .map(|restart| rules.add(restart, true));
        for key in keys {
            rules.started(key, Duration::ZERO);
            rules.ended(key, Exit::Normal, seconds(1));
        }
        assert_eq!(keys.map(|key| rules.is_member(key)), [true, false, false]);
        rules.terminated(keys[0]);
        assert!(!rules.is_member(keys[0]));
        assert_eq!(rules.next_due(), None);
    }

    #[test]
    fn a_terminated_child_is_not_restarted() {
        let (mut rules, [key]) = rules(Strategy::OneForOne, [Restart::Permanent]);
        rules.terminated(key);
        assert!(rules.is_member(key));
        assert_eq!((rules.next_due(), rules.in_order_of_end()), (None, vec![]));
        rules.ended(key, Exit::Failed, seconds(1));
        rules.terminated(key);
        assert_eq!(rules.next_due(), None, "the child was due");
    }
}
