//! The monitors that this process has added. Each monitor reports the end of a process once.

use crate::envelope::{self, Delivery};
use crate::host;
use crate::message::Signal;
use crate::tag::Tag;
use std::cell::RefCell;
use std::collections::BTreeMap;

thread_local! {
    /// The tags of the monitors of each process, by which the machine distinguishes the monitors. A
    /// monitor is removed from the list once its report has been received.
    static MONITORS: RefCell<BTreeMap<u64, Vec<Tag>>> = const { RefCell::new(BTreeMap::new()) };
}

/// Starts monitoring a process.
pub(super) fn add(process: u64) {
    let tag = Tag::new_reply();
    MONITORS.with_borrow_mut(|monitors| monitors.entry(process).or_default().push(tag));
    host::process::monitor_tagged(tag.id(), process);
}

/// Removes the newest monitor of a process. If the monitor has reported an end that has not been
/// received yet, the report is removed too.
pub(super) fn remove(process: u64) {
    let newest = MONITORS.with_borrow(|monitors| monitors.get(&process)?.last().copied());
    let Some(tag) = newest else { return };
    forget(process, tag);
    if host::process::stop_monitoring_tagged(tag.id(), process) == 0 {
        while is_other_than_end(tag) {}
    }
}

/// Takes the first message or signal that has the tag of a monitor. Returns true if this was not
/// the report of the end: any process can send a message with any tag.
fn is_other_than_end(tag: Tag) -> bool {
    envelope::receive(&[tag], 0, |delivery| match delivery {
        Delivery::Arrived(arrival) => arrival.signal().is_none(),
        Delivery::TimedOut | Delivery::NobodyLeft => false,
    })
}

/// Returns a received signal in the form that this process expects, in which the end of a monitored
/// process has no tag.
pub(crate) fn received(signal: Signal) -> Signal {
    let tag = if forget(signal.pid, signal.tag) {
        Tag::NONE
    } else {
        signal.tag
    };
    Signal { tag, ..signal }
}

/// Removes a monitor from the list. Returns true if the monitor was in the list.
fn forget(process: u64, tag: Tag) -> bool {
    MONITORS.with_borrow_mut(|monitors| {
        let Some(tags) = monitors.get_mut(&process) else {
            return false;
        };
        let Some(position) = tags.iter().position(|&other| other == tag) else {
            return false;
        };
        tags.remove(position);
        if tags.is_empty() {
            monitors.remove(&process);
        }
        true
    })
}
