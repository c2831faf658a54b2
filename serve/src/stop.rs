//! How connections learn that their listener is stopping.

use tokio::sync::watch;

/// How far a listener has stopped. There is no way back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    Open,
    /// Nothing new is begun.
    Draining,
    /// What has not finished is cut off.
    Cut,
}

/// Tells the connections of a listener when to end.
pub(crate) struct Stopper(watch::Sender<Phase>);

/// Learns when to end. A connection keeps one for as long as it lives.
#[derive(Clone)]
pub(crate) struct Stop(watch::Receiver<Phase>);

impl Stopper {
    pub(crate) fn new() -> (Stopper, Stop) {
        let (sender, receiver) = watch::channel(Phase::Open);
        (Stopper(sender), Stop(receiver))
    }

    /// Moves on to a phase, unless it has been reached already.
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
    /// Waits until nothing new may be begun.
    pub(crate) async fn draining(&mut self) {
        self.reached(Phase::Draining).await;
    }

    pub(crate) fn is_draining(&self) -> bool {
        *self.0.borrow() >= Phase::Draining
    }

    /// Waits until everything must end at once.
    pub(crate) async fn cut(&mut self) {
        self.reached(Phase::Cut).await;
    }

    async fn reached(&mut self, phase: Phase) {
        // An error means that the sender is gone, and with it the server.
        let _ = self.0.wait_for(|&now| now >= phase).await;
    }
}
