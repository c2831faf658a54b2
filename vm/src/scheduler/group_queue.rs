//! A plain data structure that holds one group's ready tasks on one worker and decides the order in
//! which they run.

use std::collections::VecDeque;

use super::group::Group;

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
    /// The task used up its slice and has more to compute.
    Spent,
}

/// Tasks that ran in succession while others were waiting.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Streak {
    length: u32,
    /// The beat at which the streak began.
    began: u64,
}

impl Streak {
    /// Returns whether the streak has lasted for `slice` beats or has reached the maximum length. A
    /// streak has at least one task, no matter how long the task takes.
    pub(super) fn is_over(self, beat: u64, slice: u64) -> bool {
        self.length >= MAX_STREAK || self.length > 0 && beat.saturating_sub(self.began) >= slice
    }

    pub(super) fn extend(&mut self, beat: u64) {
        if self.length == 0 {
            self.began = beat;
        }
        self.length += 1;
    }

    /// Counts tasks that ran as part of the streak without having been queued.
    pub(super) fn lengthen(&mut self, tasks: u32) {
        if self.length > 0 {
            self.length = self.length.saturating_add(tasks);
        }
    }

    pub(super) fn end(&mut self) {
        self.length = 0;
    }
}

/// One group's ready tasks on one worker.
#[derive(Debug)]
pub(super) struct GroupQueue<T> {
    group: Group,
    woken: VecDeque<T>,
    new: VecDeque<T>,
    spent: VecDeque<T>,
    /// The prompt tasks that ran in succession while a slow task was waiting.
    streak: Streak,
    /// Whether the next turn goes to a new task, if there is one.
    is_new_ones_turn: bool,
    /// Whether the last new task that ran was quick: it finished or began to wait before the next
    /// beat. As a result, a thousand new tasks that compute delay a woken task only once, while a
    /// thousand short new tasks are treated like woken tasks.
    new_ones_are_quick: bool,
}

impl<T> GroupQueue<T> {
    pub(super) fn new(group: Group) -> Self {
        Self {
            group,
            woken: VecDeque::new(),
            new: VecDeque::new(),
            spent: VecDeque::new(),
            streak: Streak::default(),
            is_new_ones_turn: false,
            new_ones_are_quick: true,
        }
    }

    pub(super) fn group(&self) -> &Group {
        &self.group
    }

    pub(super) fn len(&self) -> usize {
        self.woken.len() + self.new.len() + self.spent.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.woken.is_empty() && self.new.is_empty() && self.spent.is_empty()
    }

    /// Returns whether there are prompt tasks, which will probably be quick. Prompt tasks are woken
    /// tasks and, while new tasks are quick, new tasks. All other tasks are called slow.
    pub(super) fn has_prompt(&self) -> bool {
        !self.woken.is_empty() || self.new_ones_are_quick && !self.new.is_empty()
    }

    fn has_slow(&self) -> bool {
        !self.spent.is_empty() || !self.new_ones_are_quick && !self.new.is_empty()
    }

    /// Appends a task to its level.
    pub(super) fn push(&mut self, level: Level, task: T) {
        self.level(level).push_back(task);
    }

    /// Takes the task to run next.
    ///
    /// Prompt tasks come first. A streak of prompt tasks ends after a slice or after [`MAX_STREAK`]
    /// tasks, and then one slow task runs. While there are prompt tasks, at least one of them runs
    /// between two slow tasks, no matter how long the slow tasks take.
    pub(super) fn pop(&mut self, beat: u64, slice: u64) -> Option<(Level, T)> {
        let has_slow = self.has_slow();
        if self.has_prompt() && !(has_slow && self.streak.is_over(beat, slice)) {
            if has_slow {
                self.streak.extend(beat);
            }
            return self.pop_one_of(Level::Woken, self.new_ones_are_quick);
        }
        self.streak.end();
        self.pop_one_of(Level::Spent, !self.new_ones_are_quick)
    }

    /// Takes a task from a level, alternating with new tasks if they currently share its rank.
    fn pop_one_of(&mut self, level: Level, with_new_ones: bool) -> Option<(Level, T)> {
        let is_empty = self.level(level).is_empty();
        let level = if with_new_ones && !self.new.is_empty() && (is_empty || self.is_new_ones_turn)
        {
            Level::New
        } else {
            level
        };
        self.is_new_ones_turn = level != Level::New;
        self.level(level).pop_front().map(|task| (level, task))
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

    /// Removes the `count` longest-waiting tasks. There must be at least that many.
    ///
    /// Each level contributes in proportion to its length, so that neither worker is left with only
    /// slow tasks while the other has all the prompt ones.
    pub(super) fn take(&mut self, count: usize, mut give: impl FnMut(Level, T)) {
        let (mut count, mut length) = (count, self.len());
        for level in [Level::Woken, Level::New, Level::Spent] {
            let tasks = self.level(level);
            if count == 0 {
                return;
            }
            // This level's share of the tasks still to be taken from it and the levels after it.
            let here = (tasks.len() * count).div_ceil(length);
            length -= tasks.len();
            count -= here;
            tasks.drain(..here).for_each(|task| give(level, task));
        }
    }

    /// Returns all tasks that are still queued.
    pub(super) fn into_tasks(self) -> impl Iterator<Item = T> + use<T> {
        self.woken.into_iter().chain(self.new).chain(self.spent)
    }

    fn level(&mut self, level: Level) -> &mut VecDeque<T> {
        match level {
            Level::Woken => &mut self.woken,
            Level::New => &mut self.new,
            Level::Spent => &mut self.spent,
        }
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
            tasks.iter().for_each(|&task| queue.push(level, task));
        }
        queue
    }

    /// Pops a task at each of the given beats, and returns the tasks in order.
    fn order(queue: &mut GroupQueue<u32>, slice: u64, beats: &[u64]) -> Vec<u32> {
        beats
            .iter()
            .filter_map(|&beat| queue.pop(beat, slice))
            .map(|(_, task)| task)
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
        queue.push(Level::Spent, 9000);
        assert_eq!(queue.pop(1, 1), Some((Level::Woken, 1500)));
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
            queue.take(count, |level, _| match level {
                Level::Woken => given.0 += 1,
                Level::New => given.1 += 1,
                Level::Spent => given.2 += 1,
            });
            assert_eq!(
                given, expected,
                "{count} of {woken} woken, {new} new and {spent} spent"
            );
        }
    }
}
