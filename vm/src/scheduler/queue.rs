//! A plain data structure that decides the order in which ready tasks run.
//!
//! A queue never waits, never wakes anything and does not depend on threads. The caller passes in
//! the time. A queue decides which task runs next, how many tasks another worker may take, and
//! which tasks those are. Each group's tasks wait in a [`GroupQueue`], which decides their order
//! within the group.

use std::cmp::Reverse;
use std::collections::binary_heap::PeekMut;
use std::collections::{BTreeMap, BinaryHeap};

use super::group::{Group, Tag, VirtualTime};
use super::group_queue::{GroupQueue, Popped, Streak};
use super::sync::Arc;

pub(super) use super::group_queue::Level;

/// Settings shared by all of a scheduler's queues.
#[derive(Debug)]
pub(super) struct Rules {
    /// The length of a slice in beats.
    pub(super) slice: u64,
    /// The length of a slice in nanoseconds.
    pub(super) slice_time: u64,
    /// How far ahead of the other groups a group may get, in nanoseconds of its own time, before
    /// its woken tasks stop running ahead of other groups' spent tasks.
    pub(super) lead: u64,
    pub(super) time: VirtualTime,
}

/// A task on its way from one queue to another.
#[derive(Debug)]
pub(super) struct Taken<T> {
    pub(super) group: Group,
    pub(super) popped: Popped<T>,
}

/// The least that a task is charged for a turn that uses up its slice, as a fraction of a slice.
/// Otherwise, a task that gives up its turns early could remain interrupted almost forever.
const LEAST_USE: u64 = 256;

/// A queue may list two groups per task plus this many before it removes idle groups.
const MAX_IDLE: usize = 16;

/// A group's queue, and which of the two heaps list the group. A group may stay listed after it has
/// run out of tasks. Its stale entry is removed when it reaches the top of the heap, or when the
/// queue has too many such groups.
#[derive(Debug)]
struct Candidate<T> {
    queue: GroupQueue<T>,
    in_waiting: bool,
    in_prompt: bool,
    /// How far ahead of the other groups this group may get, in virtual time.
    lead: u64,
}

/// One worker's ready tasks, or the tasks that no worker has taken yet.
#[derive(Debug)]
pub(super) struct RunQueue<T> {
    rules: Arc<Rules>,
    /// Indexed by group number.
    groups: BTreeMap<u64, Candidate<T>>,
    /// The total number of tasks in all groups.
    length: usize,
    /// The groups that have tasks, ordered by tag. The group with the lowest tag runs next. Tags
    /// only move forward, so outdated tags are detected when they become the lowest.
    waiting: BinaryHeap<Reverse<(Tag, u64)>>,
    /// The groups that have prompt tasks, ordered by tag minus lead. See
    /// [`GroupQueue::has_prompt`].
    prompt: BinaryHeap<Reverse<(Tag, u64)>>,
    /// The prompt tasks that ran in succession while a group with a lower tag was waiting.
    streak: Streak,
    /// The group of the running task, which is the last one popped.
    running: Option<Group>,
    /// The lead of the running task when its turn began, in nanoseconds.
    lead: i64,
    /// The time at which the running task's turn began, in nanoseconds. If no slow task was waiting
    /// then, this may be up to a beat too early.
    began: u64,
    /// The time, in nanoseconds, up to which `running` has been charged.
    since: u64,
    /// The beat at which a group was last charged.
    charged_at: u64,
    /// If the last task popped was new, its group and the beat at which it was popped.
    tried: Option<(u64, u64)>,
    /// Whether a worker owns this queue. The owner can run its tasks sooner than a thief could.
    owned: bool,
    /// Set by a beat while tasks are waiting, and cleared when a task leaves the queue.
    untouched: bool,
    /// Set once, when the queue stops accepting tasks.
    closed: bool,
}

impl<T> RunQueue<T> {
    /// Creates a worker's own queue.
    pub(super) fn of_worker(rules: &Arc<Rules>) -> Self {
        Self::new(rules, true)
    }

    /// Creates a queue without an owner. Any worker may take its tasks.
    pub(super) fn without_owner(rules: &Arc<Rules>) -> Self {
        Self::new(rules, false)
    }

    fn new(rules: &Arc<Rules>, owned: bool) -> Self {
        Self {
            rules: Arc::clone(rules),
            groups: BTreeMap::new(),
            length: 0,
            waiting: BinaryHeap::new(),
            prompt: BinaryHeap::new(),
            streak: Streak::default(),
            running: None,
            lead: 0,
            began: 0,
            since: 0,
            charged_at: 0,
            tried: None,
            owned,
            untouched: false,
            closed: false,
        }
    }

    /// Returns the number of tasks in this queue.
    pub(super) fn len(&self) -> usize {
        self.length
    }

    /// Appends a task to its level within its group. A task that is pushed as spent has used up a
    /// whole slice. If the queue is closed, returns the task as an error.
    ///
    /// `group` finds the group in the value of type `K`, and `wrap` converts the value to the
    /// stored entry. This avoids cloning the group, whose reference count all workers contend for.
    pub(super) fn push<K>(
        &mut self,
        level: Level,
        task: K,
        group: impl Fn(&K) -> &Group,
        wrap: impl FnOnce(K) -> T,
    ) -> Result<(), T> {
        let lead = match level {
            Level::Woken | Level::New | Level::Interrupted => 0,
            Level::Spent => self.rules.slice_time.cast_signed(),
        };
        self.push_ahead(level, lead, task, group, wrap)
    }

    /// Appends a task that has a lead, in nanoseconds.
    fn push_ahead<K>(
        &mut self,
        level: Level,
        lead: i64,
        task: K,
        group: impl Fn(&K) -> &Group,
        wrap: impl FnOnce(K) -> T,
    ) -> Result<(), T> {
        if self.closed {
            return Err(wrap(task));
        }
        let candidate = self.candidate(group(&task));
        candidate.queue.push(level, lead, wrap(task));
        let number = candidate.queue.group().number();
        let is_enlisted =
            candidate.in_waiting && (candidate.in_prompt || !candidate.queue.has_prompt());
        self.length += 1;
        if !is_enlisted {
            self.enlist(number);
        }
        Ok(())
    }

    /// Queues the running task's entry as spent or, if it has used less than half a slice, as
    /// interrupted. `now` is the time in nanoseconds. If the queue is closed, returns the entry as
    /// an error.
    ///
    /// The running task is the last one popped, or one to which the worker was handed over since. In
    /// that case, it is charged for the few short turns in between, too.
    pub(super) fn park(&mut self, task: T, was_handed_over: bool, now: u64) -> Result<(), T> {
        let slice = self.rules.slice_time;
        // A turn may take longer because the system ran other programs, or because a host call took
        // long. The task's next turn is not put off for that.
        let used = now.saturating_sub(self.began).min(slice);
        let lead = if was_handed_over { 0 } else { self.lead };
        let lead = lead + used.max(slice / LEAST_USE).cast_signed();
        let level = if lead < (slice / 2).cast_signed() {
            Level::Interrupted
        } else {
            Level::Spent
        };
        let group = self
            .running
            .clone()
            .expect("only the running task is parked");
        self.push_ahead(
            level,
            lead,
            (group, task),
            |(group, _)| group,
            |(_, task)| task,
        )
    }

    /// Returns a group's entry, creating it if necessary.
    fn candidate(&mut self, group: &Group) -> &mut Candidate<T> {
        if self.groups.len() >= 2 * self.length + MAX_IDLE
            && !self.groups.contains_key(&group.number())
        {
            self.forget_idle_groups();
        }
        self.groups
            .entry(group.number())
            .or_insert_with(|| Candidate {
                queue: GroupQueue::new(group.clone()),
                in_waiting: false,
                in_prompt: false,
                lead: group.weight().cost(self.rules.lead),
            })
    }

    /// Removes the groups that have no tasks. If other workers take all of a queue's tasks, its
    /// heaps are never popped, so this bounds how many groups it lists.
    fn forget_idle_groups(&mut self) {
        let groups = &mut self.groups;
        groups.retain(|_, candidate| !candidate.queue.is_empty());
        for heap in [&mut self.waiting, &mut self.prompt] {
            heap.retain(|Reverse((_, number))| groups.contains_key(number));
        }
    }

    /// Adds a group to each heap that should list it but does not.
    fn enlist(&mut self, number: u64) {
        let Some(candidate) = self.groups.get_mut(&number) else {
            return;
        };
        let tag = candidate.queue.group().tag();
        if !candidate.in_waiting && !candidate.queue.is_empty() {
            candidate.in_waiting = true;
            self.waiting.push(Reverse((tag, number)));
        }
        if !candidate.in_prompt && candidate.queue.has_prompt() {
            candidate.in_prompt = true;
            self.prompt
                .push(Reverse((tag.earlier(candidate.lead), number)));
        }
    }

    /// Takes the task to run next, and charges the group of the task that was running. `now`
    /// returns the time in nanoseconds since an arbitrary origin. It is called once per beat, or
    /// more often if groups compete or tasks that used up their slices are waiting.
    ///
    /// Prompt tasks come first. Of the groups that have prompt tasks, the one that is furthest
    /// behind runs, unless it is further ahead of the other groups than its lead allows. A streak
    /// of prompt tasks ends after a slice. Then the group with the lowest tag runs one task, prompt
    /// or not.
    pub(super) fn pop(&mut self, beat: u64, mut now: impl FnMut() -> u64) -> Option<T> {
        let mut reading = None;
        let mut now = || *reading.get_or_insert_with(&mut now);
        self.untouched = false;
        self.judge_new_one(beat, &mut now);
        if self.length == 0 {
            if let Some(group) = self.running.take() {
                group.charge(now().saturating_sub(self.since), &self.rules.time);
            }
            return None;
        }
        let number = match self.next_without_a_choice(beat) {
            Some(number) => number,
            None => {
                self.charge(beat, now());
                self.choose(beat)
            }
        };
        let candidate = self
            .groups
            .get_mut(&number)
            .expect("only a group that has an entry is chosen");
        if self
            .running
            .as_ref()
            .is_none_or(|running| running.number() != number)
        {
            self.running = Some(candidate.queue.group().clone());
        }
        // The time that the task uses matters only if it is compared with other tasks.
        self.began = if candidate.queue.has_slow() {
            now()
        } else {
            self.since
        };
        let popped = candidate
            .queue
            .pop(beat, self.rules.slice)
            .expect("only a group that has tasks is chosen");
        self.lead = popped.lead;
        if popped.level == Level::New {
            self.tried = Some((number, beat));
        }
        self.length -= 1;
        Some(popped.task)
    }

    /// If there is only one group, and it is running and has already been charged in this beat,
    /// returns the group's number.
    fn next_without_a_choice(&self, beat: u64) -> Option<u64> {
        let running = self.running.as_ref()?.number();
        (self.groups.len() == 1 && self.charged_at == beat && self.groups.contains_key(&running))
            .then_some(running)
    }

    /// Charges the running group for the time since it was last charged.
    fn charge(&mut self, beat: u64, now: u64) {
        if let Some(group) = &self.running {
            group.charge(now.saturating_sub(self.since), &self.rules.time);
        }
        self.since = now;
        self.charged_at = beat;
    }

    /// Chooses the group to run next. At least one group must have tasks.
    fn choose(&mut self, beat: u64) -> u64 {
        let (least, number) = self
            .least()
            .expect("a task is waiting, so its group is listed");
        self.rules.time.advance(least);
        if self.groups.len() == 1 {
            return number;
        }
        let prompt = self.least_prompt().filter(|&(tag, _)| tag <= least);
        match prompt {
            Some((_, number)) if !self.streak.is_over(beat, self.rules.slice) => {
                self.streak.add(beat);
                number
            }
            _ => {
                self.streak.end();
                number
            }
        }
    }

    /// Returns the lowest tag of the groups that have tasks in this queue, and that group's number.
    fn least(&mut self) -> Option<(Tag, u64)> {
        loop {
            let mut top = self.waiting.peek_mut()?;
            let Reverse((tag, number)) = *top;
            let candidate = self
                .groups
                .get_mut(&number)
                .expect("an entry is kept while a heap lists it");
            if candidate.queue.is_empty() {
                PeekMut::pop(top);
                candidate.in_waiting = false;
                if !candidate.in_prompt {
                    self.groups.remove(&number);
                }
                continue;
            }
            let present = candidate.queue.group().tag();
            if present == tag {
                return Some((tag, number));
            }
            *top = Reverse((present, number));
        }
    }

    /// Returns the lowest `tag - lead` of the groups that have prompt tasks in this queue, and that
    /// group's number.
    fn least_prompt(&mut self) -> Option<(Tag, u64)> {
        loop {
            let mut top = self.prompt.peek_mut()?;
            let Reverse((tag, number)) = *top;
            let candidate = self
                .groups
                .get_mut(&number)
                .expect("an entry is kept while a heap lists it");
            if !candidate.queue.has_prompt() {
                PeekMut::pop(top);
                candidate.in_prompt = false;
                if !candidate.in_waiting {
                    self.groups.remove(&number);
                }
                continue;
            }
            let present = candidate.queue.group().tag().earlier(candidate.lead);
            if present == tag {
                return Some((tag, number));
            }
            *top = Reverse((present, number));
        }
    }

    /// Records what happened since a task was popped: the beat at which that task's turn ended, and
    /// how many tasks of its group its worker was handed over to while others were waiting.
    pub(super) fn note_turns(&mut self, hand_overs: u32, ended: u64, now: impl FnOnce() -> u64) {
        self.judge_new_one(ended, now);
        if hand_overs == 0 {
            return;
        }
        self.streak.lengthen(hand_overs);
        let running = self.running.as_ref().map(Group::number);
        if let Some(candidate) = running.and_then(|number| self.groups.get_mut(&number)) {
            candidate.queue.lengthen_streak(hand_overs);
        }
    }

    /// If the last task popped was new, records whether it was quick.
    fn judge_new_one(&mut self, beat: u64, now: impl FnOnce() -> u64) {
        let Some((number, began)) = self.tried.take() else {
            return;
        };
        if let Some(candidate) = self.groups.get_mut(&number) {
            let was_quick =
                began == beat || now().saturating_sub(self.began) < self.rules.slice_time / 2;
            candidate.queue.note_new_one(was_quick);
            // The remaining new tasks may be prompt now.
            self.enlist(number);
        }
    }

    /// Returns the number of tasks that another worker may take now.
    ///
    /// If a worker owns the queue, this is half of the tasks, rounded down. A single task therefore
    /// stays with its owner, which will run it next and has its data in cache. If it is still
    /// waiting at the next beat, the owner is busy, and another worker may take it.
    pub(super) fn offered(&self) -> usize {
        if !self.owned {
            return self.length;
        }
        match self.length {
            1 => usize::from(self.untouched),
            length => length / 2,
        }
    }

    /// Records a beat of the clock.
    pub(super) fn note_beat(&mut self) {
        self.untouched = self.length > 0;
    }

    /// Moves `count` tasks, or all tasks if there are fewer, to the end of `taken`. Each group
    /// contributes its longest-waiting tasks, in proportion to its share of the queue.
    pub(super) fn take(&mut self, count: usize, taken: &mut Vec<Taken<T>>) {
        let (mut count, mut length) = (count.min(self.length), self.length);
        if count == 0 {
            return;
        }
        self.untouched = false;
        self.length -= count;
        for Candidate { queue, .. } in self.groups.values_mut() {
            if count == 0 {
                return;
            }
            // This group's share of the tasks still to be taken from it and the groups after it.
            let here = (queue.len() * count).div_ceil(length);
            length -= queue.len();
            count -= here;
            let group = queue.group().clone();
            queue.take(here, |popped| {
                taken.push(Taken {
                    group: group.clone(),
                    popped,
                })
            });
        }
    }

    /// Takes half of the tasks that this queue has in excess of `length`.
    pub(super) fn take_surplus(&mut self, length: usize, taken: &mut Vec<Taken<T>>) {
        self.take(self.length.saturating_sub(length) / 2, taken);
    }

    /// Appends tasks taken from another queue, each to its own level. If this queue is closed, the
    /// tasks stay in `taken`.
    pub(super) fn append(&mut self, taken: &mut Vec<Taken<T>>) {
        if self.closed {
            return;
        }
        for taken in taken.drain(..) {
            let (level, lead) = (taken.popped.level, taken.popped.lead);
            let pushed = self.push_ahead(
                level,
                lead,
                taken,
                |taken| &taken.group,
                |taken| taken.popped.task,
            );
            debug_assert!(pushed.is_ok(), "the queue is open");
        }
    }

    /// Closes the queue permanently and returns the remaining entries.
    pub(super) fn close(&mut self) -> impl Iterator<Item = T> + use<T> {
        self.closed = true;
        self.length = 0;
        self.waiting.clear();
        self.prompt.clear();
        std::mem::take(&mut self.groups)
            .into_values()
            .flat_map(|candidate| candidate.queue.into_tasks())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::group::Weight;
    use super::super::group_queue::MAX_STREAK;
    use super::*;

    /// The length of a beat, in nanoseconds.
    const BEAT: u64 = 1_000_000;

    fn rules() -> Arc<Rules> {
        Arc::new(Rules {
            slice: 1,
            slice_time: BEAT,
            lead: 2 * BEAT,
            time: VirtualTime::default(),
        })
    }

    fn group(weight: u64) -> Group {
        Group::new(Weight::new(weight).expect("the tests use weights from 1 to 10,000"))
    }

    fn push<T>(queue: &mut RunQueue<T>, group: &Group, level: Level, task: T) {
        let pushed = queue.push(level, (group, task), |(group, _)| group, |(_, task)| task);
        assert!(pushed.is_ok(), "the queue is open");
    }

    /// Returns a queue with tasks in one group.
    fn queue(
        woken: impl IntoIterator<Item = u32>,
        spent: impl IntoIterator<Item = u32>,
    ) -> RunQueue<u32> {
        let mut queue = RunQueue::of_worker(&rules());
        let group = group(100);
        for task in woken {
            push(&mut queue, &group, Level::Woken, task);
        }
        for task in spent {
            push(&mut queue, &group, Level::Spent, task);
        }
        queue
    }

    fn spent(lead: i64, task: u32) -> Popped<u32> {
        let level = Level::Spent;
        Popped { level, lead, task }
    }

    fn pop_all(queue: &mut RunQueue<u32>) -> Vec<u32> {
        std::iter::from_fn(|| queue.pop(0, || 0)).collect()
    }

    /// What a simulated task does on each turn.
    #[derive(Clone, Copy, Debug)]
    enum Behaviour {
        /// Uses up a slice.
        Spins,
        /// Runs for the given number of nanoseconds, then waits and is woken immediately.
        Chats(u64),
    }

    /// A worker without a thread. It has one queue, represents each task by its group number, and
    /// advances its clock on each turn.
    struct Simulation {
        queue: RunQueue<usize>,
        groups: Vec<(Group, Behaviour)>,
        /// The time used by each group, in nanoseconds.
        usage: Vec<u64>,
        now: u64,
    }

    impl Simulation {
        fn new() -> Simulation {
            Simulation {
                queue: RunQueue::of_worker(&rules()),
                groups: Vec::new(),
                usage: Vec::new(),
                now: 0,
            }
        }

        /// Adds a group whose tasks all behave the same way.
        fn with(mut self, weight: u64, tasks: usize, behaviour: Behaviour) -> Simulation {
            self.add(weight, tasks, behaviour);
            self
        }

        fn add(&mut self, weight: u64, tasks: usize, behaviour: Behaviour) {
            let number = self.groups.len();
            self.groups.push((group(weight), behaviour));
            self.usage.push(0);
            for _ in 0..tasks {
                push(&mut self.queue, &self.groups[number].0, Level::New, number);
            }
        }

        /// Runs one task for one turn and returns its group number.
        fn turn(&mut self) -> usize {
            let task = self
                .queue
                .pop(self.now / BEAT, || self.now)
                .expect("simulated tasks never end");
            let used = match self.groups[task].1 {
                // A slice ends at the next beat.
                Spins => BEAT - self.now % BEAT,
                Chats(used) => used,
            };
            self.now += used;
            self.usage[task] += used;
            match self.groups[task].1 {
                Spins => assert!(self.queue.park(task, false, self.now).is_ok()),
                Chats(_) => push(&mut self.queue, &self.groups[task].0, Level::Woken, task),
            }
            task
        }

        fn run_until(&mut self, beat: u64) {
            while self.now < beat * BEAT {
                self.turn();
            }
        }

        /// Returns each group's usage, as a percentage of the total.
        fn shares(&self) -> Vec<u64> {
            let all: u64 = self.usage.iter().sum();
            self.usage
                .iter()
                .map(|usage| (usage * 100 + all / 2) / all)
                .collect()
        }
    }

    use Behaviour::{Chats, Spins};

    #[test]
    fn groups_get_shares_by_weight_however_many_tasks_they_have() {
        let check = |groups: &[(u64, usize, Behaviour)], shares: &[u64]| {
            let mut simulation = Simulation::new();
            groups
                .iter()
                .for_each(|&(weight, tasks, behaviour)| simulation.add(weight, tasks, behaviour));
            simulation.run_until(2_000);
            for (is, expected) in simulation.shares().into_iter().zip(shares) {
                assert!(
                    is.abs_diff(*expected) <= 1,
                    "{groups:?}: {:?}, not {shares:?}",
                    simulation.shares()
                );
            }
        };
        check(&[(100, 10_000, Spins), (100, 1, Spins)], &[50, 50]);
        check(&[(100, 10_000, Spins), (300, 1, Spins)], &[25, 75]);
        check(
            &[(300, 1, Spins), (100, 100, Spins), (100, 3, Spins)],
            &[60, 20, 20],
        );
        check(&[(10_000, 1, Spins), (1, 50, Spins)], &[100, 0]);
        // A group whose tasks never use up a slice gets exactly its share.
        check(&[(100, 10_000, Chats(1_000)), (100, 1, Spins)], &[50, 50]);
        check(&[(300, 1_000, Chats(2_000)), (100, 1, Spins)], &[75, 25]);
        check(&[(100, 1_000, Chats(999_999)), (100, 1, Spins)], &[50, 50]);
        check(
            &[(100, 10_000, Chats(1_000)), (100, 2, Chats(3_000))],
            &[50, 50],
        );
        check(
            &[
                (100, 1_000, Chats(1_000)),
                (200, 1, Chats(5_000)),
                (100, 5, Spins),
            ],
            &[25, 50, 25],
        );
    }

    #[test]
    fn the_group_that_is_furthest_behind_runs_next() {
        // Groups of equal weight take turns. A group with three times the other's weight gets three
        // turns out of four.
        let turns = |weights: [u64; 2]| -> Vec<usize> {
            let mut simulation = Simulation::new()
                .with(weights[0], 3, Spins)
                .with(weights[1], 1, Spins);
            // Every task takes its first turn as a new task.
            simulation.run_until(4);
            (0..8).map(|_| simulation.turn()).collect()
        };
        let count = |turns: &[usize]| turns.iter().filter(|&&group| group == 1).count();
        assert_eq!(count(&turns([100, 100])), 4);
        assert_eq!(count(&turns([100, 300])), 6);
        assert_eq!(count(&turns([300, 100])), 2);
    }

    #[test]
    fn a_group_that_joins_late_has_neither_credit_nor_debt() {
        let mut simulation = Simulation::new().with(100, 5, Spins);
        simulation.run_until(1_000);
        simulation.add(100, 5, Spins);
        simulation.run_until(1_100);
        assert!(
            simulation.usage[1].abs_diff(50 * BEAT) <= 2 * BEAT,
            "{:?}",
            simulation.usage
        );
    }

    #[test]
    fn a_woken_task_runs_at_once_while_other_groups_compute() {
        let mut simulation = Simulation::new();
        for _ in 0..100 {
            simulation.add(100, 10, Spins);
        }
        simulation.run_until(5_000);
        for number in 0..100 {
            // The woken task runs first even though its own group is computing too.
            let group = simulation.groups[number].0.clone();
            push(&mut simulation.queue, &group, Level::Woken, number);
            let woken = simulation
                .queue
                .pop(simulation.now / BEAT, || simulation.now);
            assert_eq!(woken, Some(number));
            simulation.turn();
        }
    }

    #[test]
    fn a_thousand_new_compute_tasks_delay_a_woken_task_only_once() {
        let mut simulation = Simulation::new().with(100, 1_000, Spins);
        simulation.turn();
        for woken in [7_000, 7_001] {
            let group = simulation.groups[0].0.clone();
            push(&mut simulation.queue, &group, Level::Woken, woken);
            assert_eq!(
                simulation
                    .queue
                    .pop(simulation.now / BEAT, || simulation.now),
                Some(woken)
            );
            simulation.turn();
        }
    }

    proptest! {
        /// Checks start-time fair queueing's bound on how much the service of two groups, divided
        /// by their weights, can differ over any interval in which both have tasks.
        #[test]
        fn two_busy_groups_differ_by_at_most_a_slice_each(
            groups in proptest::collection::vec((1_u64..=1_000, 1_usize..20), 2..6),
            start in 0_u64..200,
            length in 1_u64..400,
        ) {
            let mut simulation = Simulation::new();
            groups.iter().for_each(|&(weight, tasks)| simulation.add(weight, tasks, Spins));
            // Run until no new tasks remain.
            let tasks: usize = groups.iter().map(|(_, tasks)| tasks).sum();
            let mut waiting = tasks;
            while waiting > 0 {
                simulation.turn();
                waiting = simulation.queue.groups.values().map(|candidate| candidate.queue.new_ones()).sum();
            }
            simulation.run_until(simulation.now / BEAT + start);
            let before = simulation.usage.clone();
            simulation.run_until(simulation.now / BEAT + length);
            let service = |group: usize| (simulation.usage[group] - before[group]) as f64 / groups[group].0 as f64;
            let slice = |group: usize| BEAT as f64 / groups[group].0 as f64;
            for (one, other) in (0..groups.len()).flat_map(|one| (0..one).map(move |other| (one, other))) {
                let difference = (service(one) - service(other)).abs();
                prop_assert!(difference <= (slice(one) + slice(other)) * 1.001, "{groups:?}: {one} and {other}");
            }
        }
    }

    #[test]
    fn a_task_is_interrupted_until_it_has_used_half_a_slice() {
        let check = |uses: &[u64], expected: Level| {
            let mut queue = queue([], [1]);
            let mut now = 0;
            for used in uses {
                assert_eq!(queue.pop(0, || now), Some(1));
                now += used;
                assert_eq!(queue.park(1, false, now), Ok(()));
            }
            let candidate = queue.groups.values().next();
            let group = &candidate.expect("there is one group").queue;
            assert_eq!(group.len_of(expected), 1, "{uses:?}");
        };
        check(&[5_000], Level::Interrupted);
        check(&[BEAT / 2 - 1], Level::Interrupted);
        check(&[BEAT / 2], Level::Spent);
        check(&[BEAT], Level::Spent);
        check(&[200_000; 2], Level::Interrupted);
        check(&[200_000; 3], Level::Spent);
        check(&[200_000, BEAT], Level::Spent);
        // A task that gives up every turn at once is charged a little for each.
        check(&[0; 128], Level::Interrupted);
        check(&[0; 129], Level::Spent);
        // A task whose turn was due starts over.
        check(&[BEAT, 5_000], Level::Interrupted);
    }

    #[test]
    fn a_turn_that_takes_too_long_counts_as_one_slice() {
        let mut queue = queue([], []);
        let group = group(100);
        push(&mut queue, &group, Level::Spent, 1);
        for (task, used) in [(1, 50 * BEAT), (2, BEAT - 1), (3, BEAT), (4, BEAT + 1)] {
            push(&mut queue, &group, Level::Woken, task);
            assert_eq!(queue.pop(0, || 0), Some(task));
            assert_eq!(queue.park(task, false, used), Ok(()));
        }
        // The order is that of arrival, except that the task that used less than a slice is first.
        assert_eq!(pop_all(&mut queue), [2, 1, 1, 3, 4]);
    }

    #[test]
    fn a_new_task_that_is_interrupted_does_not_make_other_new_tasks_slow() {
        for (used, is_quick) in [(5_000, true), (BEAT, false)] {
            let mut queue = queue([], [10, 11]);
            // The new tasks belong to the same group as the spent ones.
            let candidate = queue.groups.values().next();
            let group = candidate.expect("there is one group").queue.group().clone();
            for task in 1..4 {
                push(&mut queue, &group, Level::New, task);
            }
            assert_eq!(queue.pop(0, || 0), Some(1));
            // The task ran past a beat, so its streak is over.
            assert_eq!(queue.pop(1, || used), Some(10));
            let candidate = queue.groups.values().next();
            let group = &candidate.expect("there is one group").queue;
            assert_eq!(group.has_prompt(), is_quick, "after {used} ns");
        }
    }

    /// What a task of a [`Crowd`] does.
    #[derive(Clone, Copy, Debug)]
    enum Habit {
        /// Uses up every slice.
        Computes,
        /// Gives up its slice after the given number of nanoseconds.
        Yields(u64),
        /// Computes for the given number of nanoseconds, which may take several turns, and then
        /// waits for as long.
        Waits(u64),
    }

    /// One group's tasks on a worker without a thread.
    struct Crowd {
        queue: RunQueue<usize>,
        group: Group,
        habits: Vec<Habit>,
        now: u64,
        /// The time used by each task, in nanoseconds.
        usage: Vec<u64>,
        /// How much each task still has to compute before it waits.
        left: Vec<u64>,
        /// When each task became ready, or `None` if it has not run yet.
        ready: Vec<Option<u64>>,
        /// The longest time that each task was ready before it ran.
        longest: Vec<u64>,
        /// The waiting tasks, and when they will be woken.
        waiting: Vec<(u64, usize)>,
    }

    impl Crowd {
        fn new(habits: &[Habit]) -> Crowd {
            let mut crowd = Crowd {
                queue: RunQueue::of_worker(&rules()),
                group: group(100),
                habits: habits.to_vec(),
                now: 0,
                usage: vec![0; habits.len()],
                left: vec![0; habits.len()],
                ready: vec![None; habits.len()],
                longest: vec![0; habits.len()],
                waiting: Vec::new(),
            };
            for task in 0..habits.len() {
                crowd.left[task] = crowd.burst(task);
                push(&mut crowd.queue, &crowd.group, Level::New, task);
            }
            crowd
        }

        fn burst(&self, task: usize) -> u64 {
            match self.habits[task] {
                Habit::Computes => u64::MAX,
                Habit::Yields(used) | Habit::Waits(used) => used,
            }
        }

        /// Runs one task for one turn.
        fn turn(&mut self) {
            let (woken, waiting) = self.waiting.iter().partition(|(at, _)| *at <= self.now);
            self.waiting = waiting;
            for (at, task) in woken {
                self.ready[task] = Some(at);
                push(&mut self.queue, &self.group, Level::Woken, task);
            }
            let Some(task) = self.queue.pop(self.now / BEAT, || self.now) else {
                self.now += 1_000;
                return;
            };
            let waited = self.now - self.ready[task].unwrap_or(self.now);
            self.longest[task] = self.longest[task].max(waited);
            let used = self.left[task].min(BEAT - self.now % BEAT);
            self.now += used;
            self.usage[task] += used;
            self.left[task] -= used;
            self.ready[task] = Some(self.now);
            let is_done = self.left[task] == 0;
            if is_done {
                self.left[task] = self.burst(task);
            }
            match self.habits[task] {
                Habit::Waits(time) if is_done => self.waiting.push((self.now + time, task)),
                _ => assert_eq!(self.queue.park(task, false, self.now), Ok(())),
            }
        }

        /// Runs until no task has been waiting since the beginning, and then starts measuring.
        fn settle(&mut self) {
            while self.ready.contains(&None) {
                self.turn();
            }
            self.run(3 * self.habits.len());
            self.usage.fill(0);
            self.longest.fill(0);
        }

        /// Returns how much more one task has used than another, at most.
        fn spread(&self) -> u64 {
            let most = self.usage.iter().max().expect("there are tasks");
            let least = self.usage.iter().min().expect("there are tasks");
            most - least
        }

        fn run(&mut self, turns: usize) {
            (0..turns).for_each(|_| self.turn());
        }
    }

    #[test]
    fn tasks_that_compute_take_turns() {
        for tasks in [1, 2, 10, 1_000] {
            let mut crowd = Crowd::new(&vec![Habit::Computes; tasks]);
            crowd.settle();
            crowd.run(5 * tasks);
            assert_eq!(crowd.usage, vec![5 * BEAT; tasks]);
            assert_eq!(crowd.longest, vec![(tasks as u64 - 1) * BEAT; tasks]);
        }
    }

    #[test]
    fn a_task_that_computes_a_little_does_not_wait_for_a_round_of_the_others() {
        // Now and then, the clock beats during one of the short turns.
        for used in [4_000, 7_000, 30_000] {
            let mut habits = vec![Habit::Computes; 1_000];
            habits.push(Habit::Waits(used));
            let mut crowd = Crowd::new(&habits);
            crowd.settle();
            crowd.run(100_000);
            let little = crowd
                .longest
                .pop()
                .expect("the last task computes a little");
            assert!(little <= 3 * BEAT, "{little} ns with turns of {used} ns");
            crowd.usage.pop();
            assert!(crowd.spread() <= 3 * BEAT, "{} ns", crowd.spread());
        }
    }

    proptest! {
        #[test]
        fn tasks_of_a_group_get_equal_shares_and_none_waits_for_more_than_two_rounds(
            computing in 1_usize..40,
            yielding in proptest::collection::vec(1..BEAT, 0..10),
        ) {
            let mut habits = vec![Habit::Computes; computing];
            habits.extend(yielding.iter().map(|used| Habit::Yields(*used)));
            let mut crowd = Crowd::new(&habits);
            crowd.settle();
            crowd.run(3_000);
            let round = (habits.len() as u64 + 1) * BEAT;
            prop_assert!(crowd.longest.iter().all(|waited| *waited <= 2 * round), "{:?}", crowd.longest);
            crowd.usage.truncate(computing);
            prop_assert!(crowd.spread() <= 3 * BEAT, "{:?}", crowd.usage);
        }

        #[test]
        fn tasks_that_are_woken_over_and_over_take_nothing_from_the_order_of_the_others(
            computing in 1_usize..40,
            waiting in proptest::collection::vec(1_000..3 * BEAT, 0..10),
            yielding in proptest::collection::vec(1..BEAT, 0..10),
        ) {
            let mut habits = vec![Habit::Computes; computing];
            habits.extend(waiting.iter().map(|used| Habit::Waits(*used)));
            habits.extend(yielding.iter().map(|used| Habit::Yields(*used)));
            let mut crowd = Crowd::new(&habits);
            crowd.settle();
            crowd.run(3_000);
            // Between two turns of spent tasks, a streak of woken tasks may run for two slices, and
            // then an interrupted task for one.
            let round = (habits.len() as u64 + 1) * BEAT;
            prop_assert!(crowd.longest.iter().all(|waited| *waited <= 8 * round), "{:?}", crowd.longest);
            crowd.usage.truncate(computing);
            prop_assert!(crowd.spread() <= 3 * BEAT, "{:?}", crowd.usage);
        }
    }

    #[test]
    fn woken_tasks_run_before_spent_tasks_and_both_run_in_order() {
        assert_eq!(pop_all(&mut queue([1, 2, 3], [10, 11])), [1, 2, 3, 10, 11]);
    }

    #[test]
    fn groups_without_tasks_are_removed() {
        let mut queue = RunQueue::of_worker(&rules());
        for number in 0..1_000 {
            push(&mut queue, &group(100), Level::Woken, number);
            push(&mut queue, &group(100), Level::Spent, number);
            queue.pop(0, || 0);
            queue.pop(0, || 0);
        }
        assert!(queue.groups.len() <= 4, "{}", queue.groups.len());
        assert!(queue.waiting.len() + queue.prompt.len() <= 8);
    }

    #[test]
    fn groups_whose_tasks_were_taken_are_removed() {
        let mut queue = RunQueue::without_owner(&rules());
        let (busy, mut taken) = (group(100), Vec::new());
        push(&mut queue, &busy, Level::Spent, 0);
        for number in 1..=1_000 {
            push(&mut queue, &group(100), Level::New, number);
            push(&mut queue, &busy, Level::Spent, number);
            queue.take(2, &mut taken);
            let bound = 2 * queue.len() + MAX_IDLE + 1;
            assert!(queue.groups.len() <= bound, "{}", queue.groups.len());
            assert!(queue.waiting.len() <= bound && queue.prompt.len() <= bound);
        }
        taken.extend(std::iter::from_fn(|| queue.pop(0, || 0)).map(|task| Taken {
            group: busy.clone(),
            popped: spent(0, task),
        }));
        assert_eq!(taken.len(), 2_001, "no task is lost");
    }

    #[test]
    fn half_of_the_tasks_are_offered_and_a_single_task_only_after_a_beat() {
        for (length, offered) in [(0, 0), (1, 0), (2, 1), (3, 1), (10, 5)] {
            assert_eq!(queue(0..length, []).offered(), offered, "of {length} tasks");
        }
        let mut single = queue([1], []);
        single.note_beat();
        assert_eq!(single.offered(), 1);
        single.pop(0, || 0);
        push(&mut single, &group(100), Level::Woken, 2);
        assert_eq!(single.offered(), 0);
    }

    #[test]
    fn a_queue_without_an_owner_offers_all_its_tasks() {
        let mut queue = RunQueue::without_owner(&rules());
        push(&mut queue, &group(100), Level::Woken, 1);
        assert_eq!(queue.offered(), 1);
    }

    #[test]
    fn taken_tasks_keep_their_group_their_level_and_their_order() {
        let mut victim = queue([1, 2, 3, 4], [10, 11]);
        let mut taken = Vec::new();
        victim.take(3, &mut taken);
        let kinds: Vec<_> = taken
            .iter()
            .map(|taken| (taken.popped.level, taken.popped.task))
            .collect();
        assert_eq!(
            kinds,
            [(Level::Woken, 1), (Level::Woken, 2), (Level::Spent, 10)]
        );
        assert_eq!(pop_all(&mut victim), [3, 4, 11]);

        let mut thief = queue([], []);
        let group = taken[0].group.clone();
        push(&mut thief, &group, Level::Woken, 7);
        push(&mut thief, &group, Level::Spent, 17);
        thief.append(&mut taken);
        assert!(taken.is_empty());
        assert_eq!(thief.groups.len(), 1);
        assert_eq!(pop_all(&mut thief), [7, 1, 2, 17, 10]);
    }

    #[test]
    fn every_group_gives_up_tasks_in_proportion_to_its_share() {
        let mut victim = RunQueue::of_worker(&rules());
        let groups = [group(100), group(100)];
        for task in 0..9 {
            let group = &groups[usize::from(task >= 6)];
            push(&mut victim, group, Level::Spent, task);
        }
        let mut taken = Vec::new();
        victim.take(3, &mut taken);
        assert_eq!(
            taken
                .iter()
                .map(|taken| taken.popped.task)
                .collect::<Vec<_>>(),
            [0, 1, 6]
        );
    }

    #[test]
    fn take_never_moves_more_tasks_than_exist_or_were_requested() {
        for woken in 0..6 {
            for spent in 0..6 {
                for count in 0..14 {
                    let mut victim = queue(0..woken, 100..100 + spent);
                    let mut taken = Vec::new();
                    victim.take(count, &mut taken);
                    assert_eq!(taken.len(), count.min((woken + spent) as usize));
                    assert_eq!(taken.len() + victim.len(), (woken + spent) as usize);
                    assert_eq!(
                        pop_all(&mut victim).len() + taken.len(),
                        (woken + spent) as usize
                    );
                }
            }
        }
    }

    #[test]
    fn take_surplus_moves_half_of_the_difference() {
        for (theirs, mine, moved) in [(10, 4, 3), (5, 4, 0), (4, 5, 0), (1, 0, 0), (2, 0, 1)] {
            let mut taken = Vec::new();
            queue([], 0..theirs).take_surplus(mine, &mut taken);
            assert_eq!(
                taken.len(),
                moved,
                "{theirs} tasks in the victim's queue, {mine} in the thief's"
            );
        }
    }

    #[test]
    fn a_closed_queue_hands_over_its_tasks_and_refuses_new_ones() {
        let mut queue = queue([1], [10]);
        assert_eq!(queue.close().collect::<Vec<_>>(), [1, 10]);
        let group = group(100);
        let refused = queue.push(
            Level::Woken,
            (group.clone(), 2),
            |(group, _)| group,
            |(_, task)| task,
        );
        assert_eq!(refused, Err(2));
        let mut taken = vec![Taken {
            group,
            popped: spent(0, 3),
        }];
        queue.append(&mut taken);
        assert_eq!(taken.len(), 1);
        assert_eq!(queue.pop(0, || 0), None);
    }

    #[test]
    fn the_clock_is_not_read_while_one_group_of_prompt_tasks_runs_within_a_beat() {
        let mut queue = queue(0..2 * MAX_STREAK, []);
        let mut asked = 0;
        while queue
            .pop(0, || {
                asked += 1;
                0
            })
            .is_some()
        {}
        // The clock is read before the first task and after the last one.
        assert_eq!(asked, 2);
    }
}
