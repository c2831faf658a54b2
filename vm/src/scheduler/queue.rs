//! The order in which ready tasks run, as plain data.
//!
//! A queue never waits, never wakes and knows no threads. It has two levels: tasks that something
//! woke, and tasks that used up their slice. What it decides is which task runs next, how many
//! tasks another worker may take, and which ones those are.

use std::collections::VecDeque;

/// So many woken tasks run in a row before a spent one that waits beside them gets its turn.
///
/// This bound is for machines whose clock stands still; with a ticker the beat, which ends a row
/// too, usually comes first. A woken task runs for about a microsecond, so that both bounds are
/// alike.
pub(super) const LONGEST_ROW: u32 = 1024;

/// Why a task is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    /// Something happened to it, or it is new. Runs first.
    Woken,
    /// It used up its slice and would go on computing.
    Spent,
}

/// The ready tasks of one worker, or those that no worker has taken yet.
#[derive(Debug)]
pub(super) struct RunQueue<T> {
    woken: VecDeque<T>,
    spent: VecDeque<T>,
    /// Woken tasks that ran one after the other while a spent one waited.
    row: u32,
    /// The beat at which that row began.
    row_began: u64,
    /// Whether a worker takes from this queue by itself, sooner than a thief could.
    owned: bool,
    /// Set by a beat while tasks wait, cleared when one leaves.
    untouched: bool,
    /// Set once, when the queue takes no more tasks.
    closed: bool,
}

impl<T> RunQueue<T> {
    /// Makes the queue of a worker.
    pub(super) fn of_worker() -> Self {
        Self::new(true)
    }

    /// Makes a queue that waits for any worker.
    pub(super) fn of_nobody() -> Self {
        Self::new(false)
    }

    fn new(owned: bool) -> Self {
        Self {
            woken: VecDeque::new(),
            spent: VecDeque::new(),
            row: 0,
            row_began: 0,
            owned,
            untouched: false,
            closed: false,
        }
    }

    /// Says how many tasks wait here.
    pub(super) fn len(&self) -> usize {
        self.woken.len() + self.spent.len()
    }

    /// Puts a task at the end of its level; a closed queue gives it back.
    pub(super) fn push(&mut self, level: Level, task: T) -> Result<(), T> {
        if self.closed {
            return Err(task);
        }
        self.level(level).push_back(task);
        Ok(())
    }

    /// Takes the task that runs next.
    ///
    /// Woken tasks come first. A row of them ends, in favour of one spent task, with the first beat
    /// after it began or with [`LONGEST_ROW`]; at least one woken task runs between two spent ones,
    /// however long these take.
    pub(super) fn pop(&mut self, beat: u64) -> Option<T> {
        self.untouched = false;
        if self.spent.is_empty() {
            return self.woken.pop_front();
        }
        let row_is_over = self.row >= LONGEST_ROW || self.row > 0 && self.row_began != beat;
        if row_is_over || self.woken.is_empty() {
            self.row = 0;
            return self.spent.pop_front();
        }
        if self.row == 0 {
            self.row_began = beat;
        }
        self.row += 1;
        self.woken.pop_front()
    }

    /// Says how many tasks another worker may take now.
    ///
    /// That is half of them, rounded down, so that a single task stays with its owner, who will run
    /// it next and has what it needs in its caches. If it still waits when the clock beats, its
    /// owner is busy, and others may have it.
    pub(super) fn offered(&self) -> usize {
        if !self.owned {
            return self.len();
        }
        match self.len() {
            1 => usize::from(self.untouched),
            length => length / 2,
        }
    }

    /// Notes that the clock beat.
    pub(super) fn note_beat(&mut self) {
        self.untouched = self.len() > 0;
    }

    /// Moves the `count` tasks that waited longest, or all if there are fewer, to the end of
    /// `taken`.
    ///
    /// Each level gives in proportion to its length, so that neither worker is left with
    /// nothing but computation while the other has all the answers to give.
    pub(super) fn take(&mut self, count: usize, taken: &mut Vec<(Level, T)>) {
        let length = self.len();
        let count = count.min(length);
        if count == 0 {
            return;
        }
        self.untouched = false;
        let woken = (self.woken.len() * count).div_ceil(length);
        let spent = count - woken;
        taken.extend(self.woken.drain(..woken).map(|task| (Level::Woken, task)));
        taken.extend(self.spent.drain(..spent).map(|task| (Level::Spent, task)));
    }

    /// Takes half of what this queue has more than one with `length` tasks.
    pub(super) fn take_surplus(&mut self, length: usize, taken: &mut Vec<(Level, T)>) {
        self.take(self.len().saturating_sub(length) / 2, taken);
    }

    /// Puts tasks taken elsewhere at the ends of their levels; what a closed queue refuses stays in
    /// `taken`.
    pub(super) fn append(&mut self, taken: &mut Vec<(Level, T)>) {
        if self.closed {
            return;
        }
        for (level, task) in taken.drain(..) {
            self.level(level).push_back(task);
        }
    }

    /// Closes the queue for good and hands over what is left in it.
    pub(super) fn close(&mut self) -> impl Iterator<Item = T> + use<T> {
        self.closed = true;
        let woken = std::mem::take(&mut self.woken);
        woken.into_iter().chain(std::mem::take(&mut self.spent))
    }

    fn level(&mut self, level: Level) -> &mut VecDeque<T> {
        match level {
            Level::Woken => &mut self.woken,
            Level::Spent => &mut self.spent,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(woken: impl IntoIterator<Item = u32>, spent: impl IntoIterator<Item = u32>) -> RunQueue<u32> {
        let mut queue = RunQueue::of_worker();
        for task in woken {
            queue.push(Level::Woken, task).expect("the queue is open");
        }
        for task in spent {
            queue.push(Level::Spent, task).expect("the queue is open");
        }
        queue
    }

    fn pop_all(queue: &mut RunQueue<u32>, beat: u64) -> Vec<u32> {
        std::iter::from_fn(|| queue.pop(beat)).collect()
    }

    #[test]
    fn woken_tasks_run_before_spent_ones_each_in_order() {
        assert_eq!(pop_all(&mut queue([1, 2, 3], [10, 11]), 0), [1, 2, 3, 10, 11]);
    }

    #[test]
    fn a_spent_task_runs_after_the_longest_row_of_woken_ones() {
        let mut queue = queue(0..3000, [9000, 9001]);
        let order = pop_all(&mut queue, 0);
        let row = LONGEST_ROW as usize;
        assert_eq!(order[row], 9000);
        assert_eq!(order[2 * row + 1], 9001);
        assert_eq!(order.len(), 3002);
    }

    #[test]
    fn a_beat_ends_a_row_of_woken_tasks_and_the_next_row_begins_with_one() {
        let mut queue = queue([1, 2, 3, 4], [10, 11, 12]);
        let order: Vec<_> = [5, 5, 6, 7, 8, 8, 9].map(|beat| queue.pop(beat).expect("seven tasks wait")).into();
        // A spent task's own slice lasts a beat, which does not count against the woken.
        assert_eq!(order, [1, 2, 10, 3, 11, 4, 12]);
    }

    #[test]
    fn a_row_counts_only_while_a_spent_task_waits() {
        let mut queue = queue(0..2000, []);
        for _ in 0..1500 {
            queue.pop(0);
        }
        queue.push(Level::Spent, 9000).expect("the queue is open");
        assert_eq!(queue.pop(1), Some(1500));
    }

    #[test]
    fn half_is_offered_and_a_single_task_only_after_a_beat() {
        for (length, offered) in [(0, 0), (1, 0), (2, 1), (3, 1), (10, 5)] {
            assert_eq!(queue(0..length, []).offered(), offered, "of {length} tasks");
        }
        let mut single = queue([1], []);
        single.note_beat();
        assert_eq!(single.offered(), 1);
        single.pop(0);
        single.push(Level::Woken, 2).expect("the queue is open");
        assert_eq!(single.offered(), 0);
    }

    #[test]
    fn a_queue_without_an_owner_offers_everything() {
        let mut queue = RunQueue::of_nobody();
        queue.push(Level::Woken, 1).expect("the queue is open");
        assert_eq!(queue.offered(), 1);
    }

    #[test]
    fn taken_tasks_keep_their_level_and_their_order() {
        let mut victim = queue([1, 2, 3, 4], [10, 11]);
        let mut taken = Vec::new();
        victim.take(3, &mut taken);
        assert_eq!(taken, [(Level::Woken, 1), (Level::Woken, 2), (Level::Spent, 10)]);
        assert_eq!(pop_all(&mut victim, 0), [3, 4, 11]);

        let mut thief = queue([7], [17]);
        thief.append(&mut taken);
        assert_eq!(pop_all(&mut thief, 0), [7, 1, 2, 17, 10]);
        assert!(taken.is_empty());
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
        assert_eq!(queue.push(Level::Woken, 2), Err(2));
        let mut taken = vec![(Level::Spent, 3)];
        queue.append(&mut taken);
        assert_eq!(taken, [(Level::Spent, 3)]);
        assert_eq!(queue.pop(0), None);
    }
}
