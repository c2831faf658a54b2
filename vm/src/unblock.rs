//! Blocking work.

use std::any::Any;

type Work = Box<dyn FnOnce() -> Box<dyn Any + Send> + Send>;

/// Runs potentially blocking work on a thread reserved for such work. Dropping the future cancels
/// the work if it has not started.
///
/// The work is boxed, so that the task that runs it is compiled once, not once for each of about a
/// hundred callers.
pub(crate) async fn unblock<R: Send + 'static>(work: impl FnOnce() -> R + Send + 'static) -> R {
    let work: Work = Box::new(|| Box::new(work()));
    let result = blocking::unblock(work).await;
    *result.downcast().expect("the work returns an `R`")
}
