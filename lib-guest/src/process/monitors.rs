//! The monitors that this process has added. Each one sends this process a single exit signal.

use crate::envelope::{self, Delivery};
use crate::host;
use crate::message::Signal;
use crate::tag::Tag;
use std::cell::RefCell;
use std::collections::BTreeMap;

thread_local! {
    /// The tags of each process's monitors, which tell the monitors apart. A monitor is removed
    /// once its signal has been received.
    static MONITORS: RefCell<BTreeMap<u64, Vec<Tag>>> = const { RefCell::new(BTreeMap::new()) };
}

/// Starts monitoring a process.
pub(super) fn add(process: u64) {
    let tag = Tag::new_reply();
    MONITORS.with_borrow_mut(|monitors| monitors.entry(process).or_default().push(tag));
    host::process::monitor_tagged(tag.id(), process);
}

/// Removes a process's newest monitor, along with the monitor's signal if it has been sent but not
/// received yet.
pub(super) fn remove(process: u64) {
    let newest = MONITORS.with_borrow(|monitors| monitors.get(&process)?.last().copied());
    let Some(tag) = newest else { return };
    forget(process, tag);
    if host::process::stop_monitoring_tagged(tag.id(), process) == 0 {
        while is_other_than_end(tag) {}
    }
}

/// Takes the first message or signal with a monitor's tag. Returns true if it was something other
/// than the exit signal, since any process can send a message with this tag.
fn is_other_than_end(tag: Tag) -> bool {
    envelope::receive(&[tag], 0, |delivery| match delivery {
        Delivery::Arrived(arrival) => arrival.signal().is_none(),
        Delivery::TimedOut | Delivery::NobodyLeft => false,
    })
}

/// Converts a received signal to its public form, in which a monitored process's exit signal has no
/// tag.
pub(crate) fn received(signal: Signal) -> Signal {
    let tag = if forget(signal.pid, signal.tag) {
        Tag::NONE
    } else {
        signal.tag
    };
    Signal { tag, ..signal }
}

/// Removes a monitor. Returns true if it existed.
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
