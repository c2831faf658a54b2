//! A plain data structure that holds one group's ready tasks on one worker and decides the order in
//! which they run.
//!
//! Tasks that used up their slices are ordered by start tags, as groups are (see `group`). A task's
//! tag is the point in the queue's virtual time at which the task's next turn is due. Virtual time
//! follows the tags of the tasks that run, so it advances by about a slice while each spent task
//! runs once. A task that used more of the worker's time than the others is due later, and a task
//! that used less is due earlier. The difference between a task's tag and virtual time is called the
//! task's lead. A task loses its lead when it waits for an event.

use std::collections::btree_map::OccupiedEntry;
use std::collections::{BTreeMap, VecDeque};

use super::group::{Group, Tag};

/// The maximum number of prompt tasks that run in succession before a slow task gets its turn.
///
/// This limit matters when the scheduler's clock is stopped. Otherwise, a beat usually ends the
/// streak first. A woken task runs for about a microsecond, so a streak of the maximum length lasts
/// about as long as a beat.
pub(super) const MAX_STREAK: u32 = 1024;

/// Why a task is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    /// The task was woken by an event that it was waiting for. It runs first.
    Woken,
    /// The task has not run yet. While new tasks are quick, they alternate with woken tasks. After
    /// a slow new task, they alternate with spent tasks.
    New,
    /// The task has more to compute, and has used less than half a slice so far. A slice ends at a
    /// beat no matter how short before the beat it began. Interrupted tasks take every second turn
    /// of the slow ones, so they do not wait until each spent task has run.
    Interrupted,
    /// The task used up its slice and has more to compute.
    Spent,
}

/// A task taken from a queue.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Popped<T> {
    pub(super) level: Level,
    /// The task's lead, in nanoseconds. It is negative if the task is overdue.
    pub(super) lead: i64,
    pub(super) task: T,
}

/// Tasks that ran in succession while others were waiting.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Streak {
    length: u32,
    /// The beat at which the streak began.
    began: u64,
    /// Whether one more task may run even if the streak has lasted long enough.
    is_extended: bool,
}

impl Streak {
    /// Returns whether the streak has lasted for `slice` beats or has reached the maximum length. A
    /// streak has at least one task, no matter how long the task takes.
    pub(super) fn is_over(self, beat: u64, slice: u64) -> bool {
        !self.is_extended
            && (self.length >= MAX_STREAK
                || self.length > 0 && beat.saturating_sub(self.began) >= slice)
    }

    /// Adds a task to the streak.
    pub(super) fn add(&mut self, beat: u64) {
        if self.length == 0 {
            self.began = beat;
        }
        self.length += 1;
        self.is_extended = false;
    }

    /// Lets one more task run, even if the streak is over.
    fn extend(&mut self) {
        self.is_extended = true;
    }

    /// Counts tasks that ran as part of the streak without having been queued.
    pub(super) fn lengthen(&mut self, tasks: u32) {
        if self.length > 0 {
            self.length = self.length.saturating_add(tasks);
        }
    }

    pub(super) fn end(&mut self) {
        *self = Streak::default();
    }
}

/// Tasks ordered by tag. Tasks with equal tags are in the order of their arrival.
type ByTag<T> = BTreeMap<(Tag, u64), T>;

/// One group's ready tasks on one worker.
#[derive(Debug)]
pub(super) struct GroupQueue<T> {
    group: Group,
    woken: VecDeque<T>,
    new: VecDeque<T>,
    interrupted: ByTag<T>,
    spent: ByTag<T>,
    /// The number of interrupted and spent tasks that have arrived.
    arrivals: u64,
    /// Virtual time, which is the highest tag of the tasks that have run because theirs was the
    /// lowest tag.
    time: Tag,
    /// The prompt tasks that ran in succession while a slow task was waiting.
    streak: Streak,
    /// Whether the next turn goes to a new task, if there is one.
    is_new_ones_turn: bool,
    /// Whether the next turn of a new task goes to the one that arrived last.
    is_newest_ones_turn: bool,
    /// Whether the last slow task that ran was an interrupted one.
    was_interrupted_ones_turn: bool,
    /// Whether the last new task that ran was quick: it finished or began to wait before the next
    /// beat, or used less than half a slice. As a result, a thousand new tasks that compute delay a
    /// woken task only once, while a thousand short new tasks are treated like woken tasks.
    new_ones_are_quick: bool,
}

impl<T> GroupQueue<T> {
    pub(super) fn new(group: Group) -> Self {
        Self {
            group,
            woken: VecDeque::new(),
            new: VecDeque::new(),
            interrupted: ByTag::new(),
            spent: ByTag::new(),
            arrivals: 0,
            time: Tag::default(),
            streak: Streak::default(),
            is_new_ones_turn: false,
            is_newest_ones_turn: false,
            was_interrupted_ones_turn: false,
            new_ones_are_quick: true,
        }
    }

    pub(super) fn group(&self) -> &Group {
        &self.group
    }

    pub(super) fn len(&self) -> usize {
        self.woken.len() + self.new.len() + self.interrupted.len() + self.spent.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.woken.is_empty()
            && self.new.is_empty()
            && self.interrupted.is_empty()
            && self.spent.is_empty()
    }

    /// Returns whether there are prompt tasks, which will probably be quick. Prompt tasks are woken
    /// tasks and, while new tasks are quick, new tasks. All other tasks are called slow.
    pub(super) fn has_prompt(&self) -> bool {
        !self.woken.is_empty() || self.new_ones_are_quick && !self.new.is_empty()
    }

    /// Returns whether there are slow tasks. See [`has_prompt`](Self::has_prompt).
    pub(super) fn has_slow(&self) -> bool {
        !self.interrupted.is_empty() || self.has_spent_or_slow_new_ones()
    }

    fn has_spent_or_slow_new_ones(&self) -> bool {
        !self.spent.is_empty() || !self.new_ones_are_quick && !self.new.is_empty()
    }

    /// Adds a task to its level. Woken and new tasks have no lead.
    pub(super) fn push(&mut self, level: Level, lead: i64, task: T) {
        self.arrivals += 1;
        let place = (self.time.ahead(lead), self.arrivals);
        match level {
            Level::Woken => self.woken.push_back(task),
            Level::New => self.new.push_back(task),
            Level::Interrupted => drop(self.interrupted.insert(place, task)),
            Level::Spent => drop(self.spent.insert(place, task)),
        }
    }

    /// Takes the task to run next.
    ///
    /// Prompt tasks come first. A streak of prompt tasks ends after a slice or after [`MAX_STREAK`]
    /// tasks, and then one slow task runs. While there are prompt tasks, at least one of them runs
    /// between two slow tasks, no matter how long the slow tasks take.
    pub(super) fn pop(&mut self, beat: u64, slice: u64) -> Option<Popped<T>> {
        let has_slow = self.has_slow();
        if self.has_prompt() && !(has_slow && self.streak.is_over(beat, slice)) {
            if has_slow {
                self.streak.add(beat);
            }
            let level = self.alternate_with_new_ones(Level::Woken, self.new_ones_are_quick);
            return self.pop_oldest(level);
        }
        let others_turn = self.was_interrupted_ones_turn && self.has_spent_or_slow_new_ones();
        if !self.interrupted.is_empty() && !others_turn {
            // An interrupted task often has little left to do. If it ended the streak, the tasks
            // that are waiting for a spent task's turn would have to wait for another streak.
            self.was_interrupted_ones_turn = true;
            self.streak.extend();
            return self.pop_oldest(Level::Interrupted);
        }
        self.was_interrupted_ones_turn = false;
        self.streak.end();
        match self.alternate_with_new_ones(Level::Spent, !self.new_ones_are_quick) {
            // Among a thousand new tasks that compute, the newest one may be quick.
            Level::New => {
                self.is_newest_ones_turn = !self.is_newest_ones_turn;
                if self.is_newest_ones_turn {
                    return self.pop_oldest(Level::New);
                }
                let (level, lead) = (Level::New, 0);
                self.new.pop_back().map(|task| Popped { level, lead, task })
            }
            level => self.pop_oldest(level),
        }
    }

    /// Returns the level to take a task from: the given one, or new tasks if it is their turn and
    /// they currently share that level's rank.
    fn alternate_with_new_ones(&mut self, level: Level, share_rank: bool) -> Level {
        let is_empty = match level {
            Level::Spent => self.spent.is_empty(),
            _ => self.woken.is_empty(),
        };
        let is_new_ones_turn =
            share_rank && !self.new.is_empty() && (is_empty || self.is_new_ones_turn);
        self.is_new_ones_turn = !is_new_ones_turn;
        if is_new_ones_turn { Level::New } else { level }
    }

    /// Takes the task of a level that is due first.
    fn pop_oldest(&mut self, level: Level) -> Option<Popped<T>> {
        let (lead, task) = match level {
            Level::Woken => (0, self.woken.pop_front()?),
            Level::New => (0, self.new.pop_front()?),
            Level::Interrupted => {
                let ((tag, _), task) = self.interrupted.pop_first()?;
                (tag.lead(self.time), task)
            }
            Level::Spent => {
                let ((tag, _), task) = self.pop_lowest()?;
                self.time = self.time.max(tag);
                (tag.lead(self.time), task)
            }
        };
        Some(Popped { level, lead, task })
    }

    /// Takes the spent task with the lowest tag, or an interrupted task that is overdue by then.
    fn pop_lowest(&mut self) -> Option<((Tag, u64), T)> {
        let spent = self.spent.first_key_value().map(|(place, _)| *place);
        let is_overdue = |entry: &OccupiedEntry<'_, (Tag, u64), T>| {
            spent.is_none_or(|spent| *entry.key() < spent)
        };
        match self.interrupted.first_entry().filter(is_overdue) {
            Some(interrupted) => Some(interrupted.remove_entry()),
            None => self.spent.pop_first(),
        }
    }

    /// Counts tasks that ran after a prompt task without having been queued.
    pub(super) fn lengthen_streak(&mut self, tasks: u32) {
        self.streak.lengthen(tasks);
    }

    /// Records whether a new task was quick.
    pub(super) fn note_new_one(&mut self, was_quick: bool) {
        self.new_ones_are_quick = was_quick;
    }

    #[cfg(test)]
    pub(super) fn new_ones(&self) -> usize {
        self.new.len()
    }

    /// Removes the `count` tasks that are due first. There must be at least that many.
    ///
    /// Each level contributes in proportion to its length, so that neither worker is left with only
    /// slow tasks while the other has all the prompt ones. Tags have no meaning in another queue,
    /// so tasks take along their leads instead.
    pub(super) fn take(&mut self, count: usize, mut give: impl FnMut(Popped<T>)) {
        let (mut count, mut length) = (count, self.len());
        for level in [Level::Woken, Level::New, Level::Interrupted, Level::Spent] {
            if count == 0 {
                return;
            }
            let tasks = self.len_of(level);
            // This level's share of the tasks still to be taken from it and the levels after it.
            let here = (tasks * count).div_ceil(length);
            length -= tasks;
            count -= here;
            self.drain(level, here, &mut give);
        }
    }

    /// Removes the `count` tasks of a level that are due first.
    fn drain(&mut self, level: Level, count: usize, mut give: impl FnMut(Popped<T>)) {
        let time = self.time;
        let mut give = |lead, task| give(Popped { level, lead, task });
        match level {
            Level::Woken => self.woken.drain(..count).for_each(|task| give(0, task)),
            Level::New => self.new.drain(..count).for_each(|task| give(0, task)),
            Level::Interrupted | Level::Spent => {
                let tasks = match level {
                    Level::Interrupted => &mut self.interrupted,
                    _ => &mut self.spent,
                };
                let tasks = std::iter::from_fn(|| tasks.pop_first()).take(count);
                tasks.for_each(|((tag, _), task)| give(tag.lead(time), task));
            }
        }
    }

    pub(super) fn len_of(&self, level: Level) -> usize {
        match level {
            Level::Woken => self.woken.len(),
            Level::New => self.new.len(),
            Level::Interrupted => self.interrupted.len(),
            Level::Spent => self.spent.len(),
        }
    }

    /// Returns all tasks that are still queued.
    pub(super) fn into_tasks(self) -> impl Iterator<Item = T> + use<T> {
        let prompt = self.woken.into_iter().chain(self.new);
        let interrupted = self.interrupted.into_values();
        prompt.chain(interrupted).chain(self.spent.into_values())
    }
}

#[cfg(test)]
mod tests {
    use super::super::group::Weight;
    use super::*;

    fn queue(woken: &[u32], new: &[u32], spent: &[u32]) -> GroupQueue<u32> {
        let mut queue = GroupQueue::new(Group::new(Weight::default()));
        for (level, tasks) in [
            (Level::Woken, woken),
            (Level::New, new),
            (Level::Spent, spent),
        ] {
            tasks.iter().for_each(|&task| queue.push(level, 0, task));
        }
        queue
    }

    /// Pops a task at each of the given beats, and returns the tasks in order.
    fn order(queue: &mut GroupQueue<u32>, slice: u64, beats: &[u64]) -> Vec<u32> {
        beats
            .iter()
            .filter_map(|&beat| queue.pop(beat, slice))
            .map(|popped| popped.task)
            .collect()
    }

    #[test]
    fn woken_tasks_and_quick_new_tasks_take_turns_before_spent_tasks() {
        let mut queue = queue(&[1, 2, 3], &[5, 6], &[10, 11]);
        assert_eq!(order(&mut queue, 1, &[0; 9]), [1, 5, 2, 6, 3, 10, 11]);
    }

    #[test]
    fn after_a_slow_new_task_new_tasks_take_turns_with_spent_tasks() {
        let mut queue = queue(&[1, 2], &[5, 6, 7], &[10, 11]);
        queue.note_new_one(false);
        assert_eq!(order(&mut queue, 1, &[0; 4]), [1, 2, 5, 10]);
        queue.note_new_one(true);
        assert_eq!(order(&mut queue, 1, &[0; 4]), [6, 7, 11]);
    }

    #[test]
    fn a_streak_ends_after_a_slice_and_the_next_streak_begins_with_a_woken_task() {
        // A spent task's own slice lasts for a beat, which does not count toward the streak.
        let mut ones = queue(&[1, 2, 3, 4], &[], &[10, 11, 12]);
        assert_eq!(
            order(&mut ones, 1, &[5, 5, 6, 7, 8, 8, 9]),
            [1, 2, 10, 3, 11, 4, 12]
        );
        let mut threes = queue(&[1, 2, 3, 4], &[], &[10, 11, 12]);
        assert_eq!(
            order(&mut threes, 3, &[5, 6, 7, 8, 11, 14, 17]),
            [1, 2, 3, 10, 4, 11, 12]
        );
    }

    #[test]
    fn a_spent_task_runs_after_the_longest_streak_of_woken_tasks() {
        let mut queue = queue(&Vec::from_iter(0..3000), &[], &[9000, 9001]);
        let order = order(&mut queue, 1, &[0; 3002]);
        let streak = MAX_STREAK as usize;
        assert_eq!(order[streak], 9000);
        assert_eq!(order[2 * streak + 1], 9001);
        assert_eq!(order.len(), 3002);
    }

    #[test]
    fn tasks_count_toward_a_streak_only_while_a_spent_task_is_waiting() {
        let mut queue = queue(&Vec::from_iter(0..2000), &[], &[]);
        for _ in 0..1500 {
            queue.pop(0, 1);
        }
        queue.push(Level::Spent, 0, 9000);
        assert_eq!(order(&mut queue, 1, &[1]), [1500]);
    }

    #[test]
    fn spent_tasks_run_in_the_order_of_their_leads_and_of_their_arrival() {
        let check = |leads: &[i64], expected: &[u32]| {
            let mut queue = queue(&[], &[], &[]);
            for (task, lead) in (0..).zip(leads) {
                queue.push(Level::Spent, *lead, task);
            }
            assert_eq!(order(&mut queue, 1, &[0; 9]), expected, "{leads:?}");
        };
        check(&[100, 100, 100], &[0, 1, 2]);
        check(&[100, 60, 150], &[1, 0, 2]);
        check(&[100, 60, 100, 60], &[1, 3, 0, 2]);
        check(&[i64::MAX / 4, 0, 1], &[1, 2, 0]);
    }

    #[test]
    fn a_lead_is_relative_to_the_tasks_that_have_run() {
        let mut queue = queue(&[], &[], &[]);
        queue.push(Level::Spent, 100, 1);
        queue.push(Level::Spent, 130, 2);
        assert_eq!(order(&mut queue, 1, &[0]), [1]);
        // The task used as much as the one before it, so it is due 100 later.
        queue.push(Level::Spent, 100, 1);
        queue.push(Level::Spent, 20, 3);
        assert_eq!(order(&mut queue, 1, &[0; 9]), [3, 2, 1]);
    }

    #[test]
    fn interrupted_tasks_take_every_second_slow_turn() {
        let check = |quick: bool, interrupted: &[u32], expected: &[u32]| {
            let mut queue = queue(&[], &[5], &[10, 11]);
            queue.note_new_one(quick);
            for &task in interrupted {
                queue.push(Level::Interrupted, 0, task);
            }
            assert_eq!(order(&mut queue, 1, &[0; 9]), expected);
        };
        check(true, &[20], &[5, 20, 10, 11]);
        check(true, &[20, 21, 22, 23], &[5, 20, 10, 21, 11, 22, 23]);
        // New tasks that are slow share the turns of the spent ones.
        check(false, &[20, 21, 22], &[20, 10, 21, 5, 22, 11]);
    }

    #[test]
    fn an_interrupted_task_does_not_put_off_the_spent_tasks_turn_for_another_streak() {
        // A streak has run for a slice when an interrupted task takes the turn that the streak
        // leaves to slow tasks. One woken task runs, and then a spent task does.
        let mut queue = queue(&[1, 2, 3, 4, 5], &[], &[10, 11]);
        queue.push(Level::Interrupted, 0, 20);
        assert_eq!(
            order(&mut queue, 1, &[5, 5, 6, 6, 6, 7, 7, 8]),
            [1, 2, 20, 3, 10, 4, 5, 11]
        );
    }

    #[test]
    fn among_slow_new_tasks_the_oldest_and_the_newest_take_turns() {
        let mut queue = queue(&[], &[1, 2, 3, 4, 5], &[10, 11]);
        queue.note_new_one(false);
        assert_eq!(
            order(&mut queue, 1, &[0; 9]),
            [10, 1, 11, 5, 2, 4, 3],
            "spent tasks alternate with new ones"
        );
    }

    #[test]
    fn a_lead_is_kept_when_a_task_moves_to_another_queue() {
        let (mut victim, mut thief) = (queue(&[], &[], &[]), queue(&[], &[], &[]));
        for (task, lead) in [(0, 0), (1, 70), (2, 130)] {
            victim.push(Level::Spent, 1_000 + lead, task);
        }
        assert_eq!(order(&mut victim, 1, &[0]), [0]);
        victim.push(Level::Interrupted, 50, 3);
        for (task, lead) in [(10, 60), (11, 80), (12, 140)] {
            thief.push(Level::Spent, lead, task);
        }
        let mut leads = Vec::new();
        victim.take(3, |popped| {
            leads.push((popped.task, popped.lead));
            thief.push(popped.level, popped.lead, popped.task);
        });
        assert_eq!(leads, [(3, 50), (1, 70), (2, 130)]);
        assert_eq!(order(&mut thief, 1, &[0; 9]), [3, 10, 1, 11, 2, 12]);
    }

    #[test]
    fn each_level_gives_up_tasks_in_proportion_to_its_length() {
        for (woken, new, spent, count, expected) in [
            (4, 0, 2, 3, (2, 0, 1)),
            (0, 0, 5, 2, (0, 0, 2)),
            (1, 1, 1, 1, (1, 0, 0)),
            (3, 3, 3, 6, (2, 2, 2)),
            (2, 2, 2, 6, (2, 2, 2)),
            (2, 2, 2, 0, (0, 0, 0)),
        ] {
            let mut queue = queue(
                &Vec::from_iter(0..woken),
                &Vec::from_iter(0..new),
                &Vec::from_iter(0..spent),
            );
            let mut given = (0, 0, 0);
            queue.take(count, |popped| match popped.level {
                Level::Woken => given.0 += 1,
                Level::New => given.1 += 1,
                Level::Interrupted => unreachable!("there are none"),
                Level::Spent => given.2 += 1,
            });
            assert_eq!(
                given, expected,
                "{count} of {woken} woken, {new} new and {spent} spent"
            );
        }
    }
}
