//! The order in which ready tasks run, as plain data.
//!
//! A queue never waits, never wakes and knows no threads; what time it is, it is told. What it
//! decides is which task runs next, how many tasks another worker may take, and which ones those
//! are. The tasks of each group lie in a lane of their own, whose order is the lane's business.

use std::cmp::Reverse;
use std::collections::binary_heap::PeekMut;
use std::collections::{BTreeMap, BinaryHeap};

use super::group::{Group, Tag, VirtualTime};
use super::lane::{Lane, Row};
use super::sync::Arc;

pub(super) use super::lane::Level;

/// What all queues of a scheduler go by.
#[derive(Debug)]
pub(super) struct Rules {
    /// How many beats a slice lasts.
    pub(super) slice: u64,
    /// How far a group may be ahead of the others on its worker, in nanoseconds of its own time, and
    /// still have its woken tasks run before others' spent ones.
    pub(super) lead: u64,
    pub(super) time: VirtualTime,
}

/// A task that is on its way from one queue to another.
#[derive(Debug)]
pub(super) struct Taken<T> {
    pub(super) group: Group,
    pub(super) level: Level,
    pub(super) task: T,
}

/// A lane, and where it is listed. A lane may be listed for what it has no more; it is struck off
/// when that is seen.
#[derive(Debug)]
struct Listed<T> {
    lane: Lane<T>,
    is_waiting: bool,
    is_prompt: bool,
    /// The group's lead in virtual time.
    lead: u64,
}

/// The ready tasks of one worker, or those that no worker has taken yet.
#[derive(Debug)]
pub(super) struct RunQueue<T> {
    rules: Arc<Rules>,
    /// By the number of the group.
    lanes: BTreeMap<u64, Listed<T>>,
    /// How many tasks there are in all lanes.
    length: usize,
    /// The lanes that have tasks, by the tags of their groups: the least is next. A tag only moves
    /// forward, so that one which is out of date is noticed when it is the least.
    waiting: BinaryHeap<Reverse<(Tag, u64)>>,
    /// The lanes that have prompt tasks, by the tags of their groups less their leads.
    prompt: BinaryHeap<Reverse<(Tag, u64)>>,
    /// Prompt tasks that ran one after the other although a group with a lesser tag waited.
    row: Row,
    /// The group of the task that was popped last, which runs.
    running: Option<Group>,
    /// Since when its group has not been charged, in nanoseconds.
    since: u64,
    /// The beat at which a group was charged last.
    charged_at: u64,
    /// The lane and the beat of the task that was popped last, where it was a new one.
    tried: Option<(u64, u64)>,
    /// Whether a worker takes from this queue by itself, sooner than a thief could.
    owned: bool,
    /// Set by a beat while tasks wait, cleared when one leaves.
    untouched: bool,
    /// Set once, when the queue takes no more tasks.
    closed: bool,
}

impl<T> RunQueue<T> {
    /// Makes the queue of a worker.
    pub(super) fn of_worker(rules: &Arc<Rules>) -> Self {
        Self::new(rules, true)
    }

    /// Makes a queue that waits for any worker.
    pub(super) fn of_nobody(rules: &Arc<Rules>) -> Self {
        Self::new(rules, false)
    }

    fn new(rules: &Arc<Rules>, owned: bool) -> Self {
        Self {
            rules: Arc::clone(rules),
            lanes: BTreeMap::new(),
            length: 0,
            waiting: BinaryHeap::new(),
            prompt: BinaryHeap::new(),
            row: Row::default(),
            running: None,
            since: 0,
            charged_at: 0,
            tried: None,
            owned,
            untouched: false,
            closed: false,
        }
    }

    /// Says how many tasks wait here.
    pub(super) fn len(&self) -> usize {
        self.length
    }

    /// Puts a task at the end of its level in its group's lane; a closed queue gives it back.
    ///
    /// The task comes as what knows its group, and `wrap` makes of it what is kept, so that the group, whose holders are
    /// counted by all workers in one place, need not be held once more.
    pub(super) fn push<K>(
        &mut self,
        level: Level,
        task: K,
        group: impl Fn(&K) -> &Group,
        wrap: impl FnOnce(K) -> T,
    ) -> Result<(), T> {
        if self.closed {
            return Err(wrap(task));
        }
        let listed = self.lane(group(&task));
        listed.lane.push(level, wrap(task));
        let number = listed.lane.group().number();
        let is_listed = listed.is_waiting && (listed.is_prompt || !listed.lane.has_prompt());
        self.length += 1;
        if !is_listed {
            self.list(number);
        }
        Ok(())
    }

    /// Puts a task that stands for the one that was popped last among those that used up their
    /// slice; a closed queue gives it back.
    pub(super) fn park(&mut self, task: T) -> Result<(), T> {
        let group = self
            .running
            .clone()
            .expect("what is put back was popped before");
        self.push(
            Level::Spent,
            (group, task),
            |(group, _)| group,
            |(_, task)| task,
        )
    }

    /// Returns the lane of a group, which is made if there is none.
    fn lane(&mut self, group: &Group) -> &mut Listed<T> {
        self.lanes.entry(group.number()).or_insert_with(|| Listed {
            lane: Lane::new(group.clone()),
            is_waiting: false,
            is_prompt: false,
            lead: group.weight().cost(self.rules.lead),
        })
    }

    /// Enters a lane where it is not listed and has what it would be listed for.
    fn list(&mut self, number: u64) {
        let Some(listed) = self.lanes.get_mut(&number) else {
            return;
        };
        let tag = listed.lane.group().tag();
        if !listed.is_waiting && !listed.lane.is_empty() {
            listed.is_waiting = true;
            self.waiting.push(Reverse((tag, number)));
        }
        if !listed.is_prompt && listed.lane.has_prompt() {
            listed.is_prompt = true;
            self.prompt
                .push(Reverse((tag.earlier(listed.lead), number)));
        }
    }

    /// Takes the task that runs next, and charges what has run until now. `now` is the time in
    /// nanoseconds, from any beginning; it is asked for once a beat, and where groups compete.
    ///
    /// Among groups, prompt tasks come first, of the group that has had least of what is its due
    /// and is at most by its lead ahead of the others. A row of them ends after a slice; then the
    /// group that has had least has one task run, of whichever kind.
    pub(super) fn pop(&mut self, beat: u64, now: impl FnOnce() -> u64) -> Option<T> {
        self.untouched = false;
        self.judge_new_one(beat);
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
        let listed = self
            .lanes
            .get_mut(&number)
            .expect("a lane is chosen that is there");
        if self
            .running
            .as_ref()
            .is_none_or(|running| running.number() != number)
        {
            self.running = Some(listed.lane.group().clone());
        }
        let (level, task) = listed
            .lane
            .pop(beat, self.rules.slice)
            .expect("a lane is chosen that has tasks");
        if level == Level::New {
            self.tried = Some((number, beat));
        }
        self.length -= 1;
        Some(task)
    }

    /// Returns the only lane, where its group goes on running and has been charged in this beat.
    fn next_without_a_choice(&self, beat: u64) -> Option<u64> {
        let running = self.running.as_ref()?.number();
        (self.lanes.len() == 1 && self.charged_at == beat && self.lanes.contains_key(&running))
            .then_some(running)
    }

    /// Charges the group that runs.
    fn charge(&mut self, beat: u64, now: u64) {
        if let Some(group) = &self.running {
            group.charge(now.saturating_sub(self.since), &self.rules.time);
        }
        self.since = now;
        self.charged_at = beat;
    }

    /// Chooses the lane whose group is to run next. There is one.
    fn choose(&mut self, beat: u64) -> u64 {
        let (least, number) = self.least().expect("a task waits, and its lane is listed");
        self.rules.time.advance(least);
        if self.lanes.len() == 1 {
            return number;
        }
        let prompt = self.least_prompt().filter(|&(tag, _)| tag <= least);
        match prompt {
            Some((_, number)) if !self.row.is_over(beat, self.rules.slice) => {
                self.row.go_on(beat);
                number
            }
            _ => {
                self.row.end();
                number
            }
        }
    }

    /// Returns the least tag of the groups that have tasks here, and whose it is.
    fn least(&mut self) -> Option<(Tag, u64)> {
        loop {
            let mut top = self.waiting.peek_mut()?;
            let Reverse((tag, number)) = *top;
            let listed = self.lanes.get_mut(&number).expect("a listed lane is kept");
            if listed.lane.is_empty() {
                PeekMut::pop(top);
                listed.is_waiting = false;
                if !listed.is_prompt {
                    self.lanes.remove(&number);
                }
                continue;
            }
            let present = listed.lane.group().tag();
            if present == tag {
                return Some((tag, number));
            }
            *top = Reverse((present, number));
        }
    }

    /// Returns the least tag, less the lead, of the groups that have prompt tasks here.
    fn least_prompt(&mut self) -> Option<(Tag, u64)> {
        loop {
            let mut top = self.prompt.peek_mut()?;
            let Reverse((tag, number)) = *top;
            let listed = self.lanes.get_mut(&number).expect("a listed lane is kept");
            if !listed.lane.has_prompt() {
                PeekMut::pop(top);
                listed.is_prompt = false;
                if !listed.is_waiting {
                    self.lanes.remove(&number);
                }
                continue;
            }
            let present = listed.lane.group().tag().earlier(listed.lead);
            if present == tag {
                return Some((tag, number));
            }
            *top = Reverse((present, number));
        }
    }

    /// Notes whether the task that was popped last, where it was a new one, was quick.
    fn judge_new_one(&mut self, beat: u64) {
        let Some((number, began)) = self.tried.take() else {
            return;
        };
        if let Some(listed) = self.lanes.get_mut(&number) {
            listed.lane.note_new_one(began == beat);
            // Those that wait may be prompt by now.
            self.list(number);
        }
    }

    /// Says how many tasks another worker may take now.
    ///
    /// That is half of them, rounded down, so that a single task stays with its owner, who will run
    /// it next and has what it needs in its caches. If it still waits when the clock beats, its
    /// owner is busy, and others may have it.
    pub(super) fn offered(&self) -> usize {
        if !self.owned {
            return self.length;
        }
        match self.length {
            1 => usize::from(self.untouched),
            length => length / 2,
        }
    }

    /// Notes that the clock beat.
    pub(super) fn note_beat(&mut self) {
        self.untouched = self.length > 0;
    }

    /// Moves `count` tasks, or all if there are fewer, to the end of `taken`: of each lane the ones
    /// that waited longest, in proportion to its length.
    pub(super) fn take(&mut self, count: usize, taken: &mut Vec<Taken<T>>) {
        let (mut count, mut length) = (count.min(self.length), self.length);
        if count == 0 {
            return;
        }
        self.untouched = false;
        self.length -= count;
        for Listed { lane, .. } in self.lanes.values_mut() {
            if count == 0 {
                return;
            }
            // Of the tasks in this lane and in those after it.
            let here = (lane.len() * count).div_ceil(length);
            length -= lane.len();
            count -= here;
            let group = lane.group().clone();
            lane.take(here, |level, task| {
                taken.push(Taken {
                    group: group.clone(),
                    level,
                    task,
                })
            });
        }
    }

    /// Takes half of what this queue has more than one with `length` tasks.
    pub(super) fn take_surplus(&mut self, length: usize, taken: &mut Vec<Taken<T>>) {
        self.take(self.length.saturating_sub(length) / 2, taken);
    }

    /// Puts tasks taken elsewhere at the ends of their levels; what a closed queue refuses stays in
    /// `taken`.
    pub(super) fn append(&mut self, taken: &mut Vec<Taken<T>>) {
        if self.closed {
            return;
        }
        for taken in taken.drain(..) {
            let pushed = self.push(taken.level, taken, |taken| &taken.group, |taken| taken.task);
            debug_assert!(pushed.is_ok(), "the queue is open");
        }
    }

    /// Closes the queue for good and hands over what is left in it.
    pub(super) fn close(&mut self) -> impl Iterator<Item = T> + use<T> {
        self.closed = true;
        self.length = 0;
        self.waiting.clear();
        self.prompt.clear();
        std::mem::take(&mut self.lanes)
            .into_values()
            .flat_map(|listed| listed.lane.into_tasks())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::group::Weight;
    use super::super::lane::LONGEST_ROW;
    use super::*;

    /// The length of a beat, in nanoseconds.
    const BEAT: u64 = 1_000_000;

    fn rules() -> Arc<Rules> {
        Arc::new(Rules {
            slice: 1,
            lead: 2 * BEAT,
            time: VirtualTime::default(),
        })
    }

    fn group(weight: u64) -> Group {
        Group::new(Weight::new(weight).expect("it is from 1 to 10,000"))
    }

    fn push<T>(queue: &mut RunQueue<T>, group: &Group, level: Level, task: T) {
        let pushed = queue.push(level, (group, task), |(group, _)| group, |(_, task)| task);
        assert!(pushed.is_ok(), "the queue is open");
    }

    /// A queue with tasks of one group.
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

    fn pop_all(queue: &mut RunQueue<u32>) -> Vec<u32> {
        std::iter::from_fn(|| queue.pop(0, || 0)).collect()
    }

    /// What a task of the worker below does on each turn.
    #[derive(Clone, Copy, Debug)]
    enum Habit {
        /// Uses up a slice.
        Spins,
        /// Waits after so many nanoseconds, and is woken at once.
        Chats(u64),
    }

    /// A worker without threads: one queue, tasks that are the numbers of their groups, and a clock that their turns move.
    struct Desk {
        queue: RunQueue<usize>,
        groups: Vec<(Group, Habit)>,
        /// What each group has had, in nanoseconds.
        had: Vec<u64>,
        now: u64,
    }

    impl Desk {
        fn new() -> Desk {
            Desk {
                queue: RunQueue::of_worker(&rules()),
                groups: Vec::new(),
                had: Vec::new(),
                now: 0,
            }
        }

        /// Adds a group of so many tasks.
        fn with(mut self, weight: u64, tasks: usize, habit: Habit) -> Desk {
            self.add(weight, tasks, habit);
            self
        }

        fn add(&mut self, weight: u64, tasks: usize, habit: Habit) {
            let number = self.groups.len();
            self.groups.push((group(weight), habit));
            self.had.push(0);
            for _ in 0..tasks {
                push(&mut self.queue, &self.groups[number].0, Level::New, number);
            }
        }

        /// Runs one task for its turn, and returns whose it was.
        fn turn(&mut self) -> usize {
            let task = self
                .queue
                .pop(self.now / BEAT, || self.now)
                .expect("all tasks go on for ever");
            let (level, used) = match self.groups[task].1 {
                // To the next beat, as a slice does.
                Habit::Spins => (Level::Spent, BEAT - self.now % BEAT),
                Habit::Chats(used) => (Level::Woken, used),
            };
            self.now += used;
            self.had[task] += used;
            push(&mut self.queue, &self.groups[task].0, level, task);
            task
        }

        fn run_until(&mut self, beat: u64) {
            while self.now < beat * BEAT {
                self.turn();
            }
        }

        /// Returns what each group has had, in hundredths of all.
        fn shares(&self) -> Vec<u64> {
            let all: u64 = self.had.iter().sum();
            self.had
                .iter()
                .map(|had| (had * 100 + all / 2) / all)
                .collect()
        }
    }

    use Habit::{Chats, Spins};

    #[test]
    fn groups_get_shares_by_weight_however_many_tasks_they_have() {
        let check = |groups: &[(u64, usize, Habit)], shares: &[u64]| {
            let mut desk = Desk::new();
            groups
                .iter()
                .for_each(|&(weight, tasks, habit)| desk.add(weight, tasks, habit));
            desk.run_until(2_000);
            for (is, expected) in desk.shares().into_iter().zip(shares) {
                assert!(
                    is.abs_diff(*expected) <= 1,
                    "{groups:?}: {:?}, not {shares:?}",
                    desk.shares()
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
        // Whoever never uses up a slice is no better off, and no worse.
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
    fn the_group_that_has_had_least_of_its_due_is_next() {
        // Equal weights take turns; three times the weight, three turns of four.
        let turns = |weights: [u64; 2]| -> Vec<usize> {
            let mut desk = Desk::new()
                .with(weights[0], 3, Spins)
                .with(weights[1], 1, Spins);
            // Each has its first turn as a new one.
            desk.run_until(4);
            (0..8).map(|_| desk.turn()).collect()
        };
        let count = |turns: &[usize]| turns.iter().filter(|&&group| group == 1).count();
        assert_eq!(count(&turns([100, 100])), 4);
        assert_eq!(count(&turns([100, 300])), 6);
        assert_eq!(count(&turns([300, 100])), 2);
    }

    #[test]
    fn a_group_that_comes_late_has_saved_nothing_up_and_owes_nothing() {
        let mut desk = Desk::new().with(100, 5, Spins);
        desk.run_until(1_000);
        desk.add(100, 5, Spins);
        desk.run_until(1_100);
        assert!(
            desk.had[1].abs_diff(50 * BEAT) <= 2 * BEAT,
            "{:?}",
            desk.had
        );
    }

    #[test]
    fn a_woken_task_runs_at_once_beside_other_groups_that_compute() {
        let mut desk = Desk::new();
        for _ in 0..100 {
            desk.add(100, 10, Spins);
        }
        desk.run_until(5_000);
        for number in 0..100 {
            // Also where its own group computes.
            let group = desk.groups[number].0.clone();
            push(&mut desk.queue, &group, Level::Woken, number);
            let woken = desk.queue.pop(desk.now / BEAT, || desk.now);
            assert_eq!(woken, Some(number));
            desk.turn();
        }
    }

    #[test]
    fn a_thousand_new_tasks_that_compute_delay_a_woken_one_once() {
        let mut desk = Desk::new().with(100, 1_000, Spins);
        desk.turn();
        for woken in [7_000, 7_001] {
            let group = desk.groups[0].0.clone();
            push(&mut desk.queue, &group, Level::Woken, woken);
            assert_eq!(desk.queue.pop(desk.now / BEAT, || desk.now), Some(woken));
            desk.turn();
        }
    }

    proptest! {
        /// The bound of start-time fair queueing: by how much the service of two groups by weight can differ, over any
        /// interval in which both have tasks.
        #[test]
        fn two_busy_groups_differ_by_at_most_a_slice_each(
            groups in proptest::collection::vec((1_u64..=1_000, 1_usize..20), 2..6),
            start in 0_u64..200,
            length in 1_u64..400,
        ) {
            let mut desk = Desk::new();
            groups.iter().for_each(|&(weight, tasks)| desk.add(weight, tasks, Spins));
            // So that no task is a new one.
            let tasks: usize = groups.iter().map(|(_, tasks)| tasks).sum();
            let mut waiting = tasks;
            while waiting > 0 {
                desk.turn();
                waiting = desk.queue.lanes.values().map(|listed| listed.lane.new_ones()).sum();
            }
            desk.run_until(desk.now / BEAT + start);
            let before = desk.had.clone();
            desk.run_until(desk.now / BEAT + length);
            let service = |group: usize| (desk.had[group] - before[group]) as f64 / groups[group].0 as f64;
            let slice = |group: usize| BEAT as f64 / groups[group].0 as f64;
            for (one, other) in (0..groups.len()).flat_map(|one| (0..one).map(move |other| (one, other))) {
                let difference = (service(one) - service(other)).abs();
                prop_assert!(difference <= (slice(one) + slice(other)) * 1.001, "{groups:?}: {one} and {other}");
            }
        }
    }

    #[test]
    fn woken_tasks_run_before_spent_ones_each_in_order() {
        assert_eq!(pop_all(&mut queue([1, 2, 3], [10, 11])), [1, 2, 3, 10, 11]);
    }

    #[test]
    fn lanes_without_tasks_are_given_up() {
        let mut queue = RunQueue::of_worker(&rules());
        for number in 0..1_000 {
            push(&mut queue, &group(100), Level::Woken, number);
            push(&mut queue, &group(100), Level::Spent, number);
            queue.pop(0, || 0);
            queue.pop(0, || 0);
        }
        assert!(queue.lanes.len() <= 4, "{}", queue.lanes.len());
        assert!(queue.waiting.len() + queue.prompt.len() <= 8);
    }

    #[test]
    fn half_is_offered_and_a_single_task_only_after_a_beat() {
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
    fn a_queue_without_an_owner_offers_everything() {
        let mut queue = RunQueue::of_nobody(&rules());
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
            .map(|taken| (taken.level, taken.task))
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
        assert_eq!(thief.lanes.len(), 1);
        assert_eq!(pop_all(&mut thief), [7, 1, 2, 17, 10]);
    }

    #[test]
    fn every_group_gives_in_proportion() {
        let mut victim = RunQueue::of_worker(&rules());
        let groups = [group(100), group(100)];
        for task in 0..9 {
            let group = &groups[usize::from(task >= 6)];
            push(&mut victim, group, Level::Spent, task);
        }
        let mut taken = Vec::new();
        victim.take(3, &mut taken);
        assert_eq!(
            taken.iter().map(|taken| taken.task).collect::<Vec<_>>(),
            [0, 1, 6]
        );
    }

    #[test]
    fn a_take_never_moves_more_than_there_is_or_was_asked() {
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
    fn evening_out_moves_half_of_the_difference() {
        for (theirs, mine, moved) in [(10, 4, 3), (5, 4, 0), (4, 5, 0), (1, 0, 0), (2, 0, 1)] {
            let mut taken = Vec::new();
            queue([], 0..theirs).take_surplus(mine, &mut taken);
            assert_eq!(taken.len(), moved, "{theirs} there, {mine} here");
        }
    }

    #[test]
    fn a_closed_queue_hands_over_what_it_has_and_refuses_the_rest() {
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
            level: Level::Spent,
            task: 3,
        }];
        queue.append(&mut taken);
        assert_eq!(taken.len(), 1);
        assert_eq!(queue.pop(0, || 0), None);
    }

    #[test]
    fn the_clock_is_not_asked_while_one_group_runs_within_a_beat() {
        let mut queue = queue(0..2 * LONGEST_ROW, [9000]);
        let mut asked = 0;
        while queue
            .pop(0, || {
                asked += 1;
                0
            })
            .is_some()
        {}
        // At the beginning and at the end.
        assert_eq!(asked, 2);
    }
}
