//! Task groups, among which the workers' time is divided by weight.
//!
//! This is start-time fair queueing (Goyal, Vin and Cheng, 1996) on several workers. Each group has
//! a tag that advances with the time that the group's tasks use. The greater the group's weight,
//! the more slowly its tag advances. The group with the lowest tag is furthest behind its fair
//! share and runs next. The scheduler's virtual time follows the lowest tag of the groups that have
//! waiting tasks. A group that has been idle resumes at the current virtual time: it does not
//! accumulate credit, and it is not penalized for time that it used while no other group needed the
//! workers. Tags are shared by all workers, so a group gets a share of the scheduler's total time,
//! not of each worker's. A group does not keep track of its tasks.

use std::cmp::Ordering as Order;
use std::fmt;

use super::sync::{Arc, AtomicU64, Ordering};

/// A group's share of the workers' time, relative to other groups, when there is not enough time
/// for all groups.
///
/// A group with twice the weight gets twice the time. The range and the default are the same as for
/// `cpu.weight` in Linux cgroups.
///
/// ```
/// use lunatic_vm::scheduler::Weight;
///
/// assert_eq!(Weight::default(), Weight::new(100)?);
/// assert!(Weight::new(0).is_err());
/// # Ok::<(), lunatic_vm::scheduler::WeightError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Weight(u64);

impl Weight {
    /// The lowest weight.
    pub const MIN: Weight = Weight(1);
    /// The highest weight.
    pub const MAX: Weight = Weight(10_000);

    /// Creates a weight.
    ///
    /// # Errors
    ///
    /// Returns [`WeightError`] if the weight is outside the range 1 to 10,000.
    pub const fn new(weight: u64) -> Result<Weight, WeightError> {
        if weight < Weight::MIN.0 || weight > Weight::MAX.0 {
            return Err(WeightError(weight));
        }
        Ok(Weight(weight))
    }

    /// Returns how far `used` nanoseconds advance the tag of a group with this weight. At the
    /// default weight, this is one unit per nanosecond. The result is always at least one unit, so
    /// that a group that has just run is placed behind a group that had the same tag and has not
    /// run.
    pub(super) fn cost(self, used: u64) -> u64 {
        (used.saturating_mul(Weight::default().0) / self.0).max(1)
    }
}

impl Default for Weight {
    fn default() -> Weight {
        Weight(100)
    }
}

/// A number that is not a valid weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WeightError(u64);

impl fmt::Display for WeightError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{} is not a valid weight: weights range from {} to {}",
            self.0,
            Weight::MIN.0,
            Weight::MAX.0
        )
    }
}

impl std::error::Error for WeightError {}

/// A point in virtual time.
///
/// Tags are compared modulo their range, so virtual time may wrap around. This works because the
/// tags that are compared, of groups or of tasks, are close together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tag(u64);

impl Tag {
    pub(super) fn later(self, cost: u64) -> Tag {
        Tag(self.0.wrapping_add(cost))
    }

    pub(super) fn earlier(self, cost: u64) -> Tag {
        Tag(self.0.wrapping_sub(cost))
    }

    /// Returns the point that is ahead of this one by the given amount, or behind it if the amount
    /// is negative.
    pub(super) fn ahead(self, lead: i64) -> Tag {
        Tag(self.0.wrapping_add_signed(lead))
    }

    /// Returns how far this point is ahead of another. The result is negative if it is behind.
    pub(super) fn lead(self, other: Tag) -> i64 {
        self.0.wrapping_sub(other.0).cast_signed()
    }
}

impl Ord for Tag {
    fn cmp(&self, other: &Tag) -> Order {
        self.lead(*other).cmp(&0)
    }
}

impl PartialOrd for Tag {
    fn partial_cmp(&self, other: &Tag) -> Option<Order> {
        Some(self.cmp(other))
    }
}

/// A scheduler's virtual time.
#[derive(Debug, Default)]
pub(super) struct VirtualTime(AtomicU64);

impl VirtualTime {
    // Relaxed ordering suffices here and in `Group`: these numbers do not publish other data, and a
    // stale number misplaces at most one turn.
    pub(super) fn now(&self) -> Tag {
        Tag(self.0.load(Ordering::Relaxed))
    }

    /// Advances virtual time to the tag of the group that runs next.
    pub(super) fn advance(&self, to: Tag) {
        if self.now() < to {
            let later = |now| (Tag(now) < to).then_some(to.0);
            // If the update fails, another worker has already advanced the time at least this far.
            let _ = self
                .0
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, later);
        }
    }
}

/// A set of tasks that share the time allotted to one weight.
///
/// Cheap to clone. All tasks in a group must belong to the same scheduler, because the time that
/// the group has used is compared with the time used by that scheduler's other groups.
///
/// ```
/// use lunatic_vm::scheduler::{Group, Scheduler, Weight};
///
/// let scheduler = Scheduler::builder().workers(1).build()?;
/// let important = Group::new(Weight::new(400)?);
/// let (sender, receiver) = std::sync::mpsc::channel();
/// let task = async move { sender.send(1).expect("the receiver is still waiting") };
/// scheduler.spawner().spawn_in(&important, task);
/// assert_eq!(receiver.recv(), Ok(1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Group(Arc<Inner>);

struct Inner {
    number: u64,
    weight: Weight,
    tag: AtomicU64,
}

impl Group {
    /// Creates a group without tasks.
    pub fn new(weight: Weight) -> Group {
        static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Group(Arc::new(Inner {
            number,
            weight,
            tag: AtomicU64::new(0),
        }))
    }

    /// Returns the group's weight.
    pub fn weight(&self) -> Weight {
        self.0.weight
    }

    /// Returns the group's number, which is unique within this program.
    pub(super) fn number(&self) -> u64 {
        self.0.number
    }

    pub(super) fn tag(&self) -> Tag {
        Tag(self.0.tag.load(Ordering::Relaxed))
    }

    /// Charges the group for the time that one of its tasks used, in nanoseconds.
    pub(super) fn charge(&self, used: u64, time: &VirtualTime) {
        let (now, cost) = (time.now(), self.0.weight.cost(used));
        let charged = |tag| Some(Tag(tag).max(now).later(cost).0);
        self.0
            .tag
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, charged)
            .expect("the closure always returns a tag");
    }
}

impl fmt::Debug for Group {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "Group({}, weight {})",
            self.0.number, self.0.weight.0
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_range_from_1_to_10_000() {
        for (number, is_weight) in [
            (0, false),
            (1, true),
            (100, true),
            (10_000, true),
            (10_001, false),
        ] {
            assert_eq!(Weight::new(number).is_ok(), is_weight, "{number}");
        }
        let error = Weight::new(0)
            .expect_err("0 is below the range")
            .to_string();
        assert_eq!(
            error,
            "0 is not a valid weight: weights range from 1 to 10000"
        );
    }

    #[test]
    fn time_costs_less_at_a_greater_weight() {
        for (weight, used, cost) in [
            (100, 1_000, 1_000),
            (1, 1_000, 100_000),
            (300, 3_000, 1_000),
            (10_000, 50, 1),
            (100, 0, 1),
        ] {
            assert_eq!(
                Weight::new(weight)
                    .expect("all weights of this test are in range")
                    .cost(used),
                cost,
                "{used} ns at weight {weight}"
            );
        }
    }

    #[test]
    fn tags_are_ordered_across_a_wrap_around() {
        let last = Tag(u64::MAX);
        assert!(last < last.later(1));
        assert!(last.later(5).earlier(10) < last);
        assert_eq!(last.max(Tag(3)), Tag(3));
    }

    #[test]
    fn an_idle_group_resumes_at_the_current_virtual_time() {
        let time = VirtualTime::default();
        let group = Group::new(Weight::default());
        group.charge(10, &time);
        assert_eq!(group.tag(), Tag(10));
        time.advance(Tag(500));
        time.advance(Tag(400));
        assert_eq!(time.now(), Tag(500));
        group.charge(10, &time);
        assert_eq!(group.tag(), Tag(510));
        group.charge(10, &time);
        assert_eq!(group.tag(), Tag(520));
    }
}
