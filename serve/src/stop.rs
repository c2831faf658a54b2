//! Tells connections that their listener is stopping.

use tokio::sync::watch;

/// The phases of stopping a listener. A phase is never undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    Open,
    /// Nothing new is started.
    Draining,
    /// Anything unfinished is cut off.
    Cut,
}

/// Tells a listener's connections when to end.
pub(crate) struct Stopper(watch::Sender<Phase>);

/// Receives the signal to end. A connection holds a receiver for as long as it lives.
#[derive(Clone)]
pub(crate) struct Stop(watch::Receiver<Phase>);

impl Stopper {
    pub(crate) fn new() -> (Stopper, Stop) {
        let (sender, receiver) = watch::channel(Phase::Open);
        (Stopper(sender), Stop(receiver))
    }

    /// Advances to a phase, unless it has already been reached.
    pub(crate) fn advance(&self, next: Phase) {
        self.0.send_if_modified(|phase| {
            let is_later = next > *phase;
            *phase = next.max(*phase);
            is_later
        });
    }

    pub(crate) fn is_cut(&self) -> bool {
        *self.0.borrow() == Phase::Cut
    }

    /// Waits until every connection has ended.
    pub(crate) async fn closed(&self) {
        self.0.closed().await;
    }
}

impl Stop {
    /// Waits until nothing new may be started.
    pub(crate) async fn draining(&mut self) {
        self.reached(Phase::Draining).await;
    }

    pub(crate) fn is_draining(&self) -> bool {
        *self.0.borrow() >= Phase::Draining
    }

    /// Waits for the signal to cut everything off.
    pub(crate) async fn cut(&mut self) {
        self.reached(Phase::Cut).await;
    }

    async fn reached(&mut self, phase: Phase) {
        // An error means that the sender, and the server with it, has been dropped.
        let _ = self.0.wait_for(|&now| now >= phase).await;
    }
}
