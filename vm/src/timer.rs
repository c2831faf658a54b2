//! Delayed messages.
//!
//! A timer counts toward the limits of the environment of the process that started it. As in
//! Erlang, it outlives that process, but it ends with the program.

use crate::environment::Permit;
use crate::machine::{Environment, Machine, Process, SendError};
use crate::pauses::Pauses;
use async_io::Timer;
use futures_lite::future;
use lunatic_process::{Message, Pid};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Returns a timer that fires after the delay, or never if the clock cannot represent that point in
/// time.
pub(crate) fn after(delay: Duration) -> Timer {
    Instant::now()
        .checked_add(delay)
        .map_or_else(Timer::never, Timer::at)
}

/// A running timer.
#[derive(Debug)]
pub(crate) struct Pending {
    /// Set when the message is sent or the timer is cancelled, whichever happens first.
    is_decided: Arc<AtomicBool>,
    cancel: async_channel::Sender<()>,
}

/// Counts a running timer toward limits. Stops counting it on drop, so the counts are correct no
/// matter how the timer ends.
struct Counted {
    environment: Environment,
    _permits: [Permit; 3],
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.environment.timer_ended();
    }
}

/// Sends a message to a process after a delay. `permits` are the timer's permits from the
/// environment's quota: one for the timer itself, one for the message's bytes as mail, and one for
/// the host memory that both occupy.
pub(crate) fn start(
    environment: &Environment,
    permits: [Permit; 3],
    to: Pid,
    message: Message,
    delay: Duration,
) -> Pending {
    let is_decided = Arc::new(AtomicBool::new(false));
    let (cancel, cancelled) = async_channel::bounded(1);
    environment.domain().program().timer_started();
    let counted = Counted {
        environment: environment.clone(),
        _permits: permits,
    };
    let decided = is_decided.clone();
    let timer = after(delay);
    environment
        .machine()
        .scheduler
        .spawn_in(environment.domain().program().group(), async move {
            let machine = counted.environment.machine();
            let fires = async {
                timer.await;
                if !decided.swap(true, Ordering::SeqCst) {
                    deliver(machine, to, message).await;
                }
            };
            let is_cancelled = async {
                // If the process that started the timer has ended, the timer can no longer be
                // cancelled.
                if cancelled.recv().await.is_err() {
                    future::pending().await
                }
            };
            let is_over = future::or(
                counted.environment.domain().program().over(),
                machine.over(),
            );
            future::or(fires, future::or(is_cancelled, is_over)).await;
            drop(counted);
        });
    Pending { is_decided, cancel }
}

/// The longest pause between two attempts to deliver a message to a full mailbox.
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// Delivers a timer's message. The loss of the message would go unnoticed, so if the mailbox is
/// full, the message waits until there is room or the receiver ends. Other senders cannot take that
/// room. While the message waits, the timer counts toward the limits of the environment that
/// started it.
async fn deliver(machine: &Machine, to: Pid, message: Message) {
    let Some(process) = machine.process(to) else {
        return;
    };
    let mut delivered = process.deliver(message);
    let mut kept = None;
    let mut pauses = Pauses::new(Duration::from_millis(1), LONGEST_PAUSE);
    loop {
        let message = match delivered {
            Ok(()) => return,
            Err((message, SendError::MailboxFull(..))) => message,
            Err((_, error)) => {
                log::debug!("a timer's message was dropped: {error}");
                return;
            }
        };
        kept.get_or_insert_with(|| KeptRoom::new(&process, message.size()));
        pauses.pause().await;
        delivered = process.deliver_late(message);
    }
}

/// Reserves room for a message in a mailbox until dropped.
struct KeptRoom<'a> {
    process: &'a Process,
    size: usize,
}

impl KeptRoom<'_> {
    fn new(process: &Process, size: usize) -> KeptRoom<'_> {
        process.cell().keep_room(size);
        KeptRoom { process, size }
    }
}

impl Drop for KeptRoom<'_> {
    fn drop(&mut self) {
        self.process.cell().release_room(self.size);
    }
}

impl Pending {
    /// Cancels the timer. Returns whether it was cancelled before it fired.
    pub(crate) fn cancel(&self) -> bool {
        let was_in_time = !self.is_decided.swap(true, Ordering::SeqCst);
        // The channel holds one message, and only the first caller sends.
        if was_in_time {
            let _ = self.cancel.try_send(());
        }
        was_in_time
    }

    /// Returns whether the timer has fired or was cancelled.
    pub(crate) fn is_over(&self) -> bool {
        self.is_decided.load(Ordering::SeqCst)
    }
}
