//! The life of a process, from its first turn to its end.
//!
//! A process is a future. On each turn, it first checks whether it is about to die, then runs its
//! guest until the guest waits or ends, or until its time slice is over. No matter how the process
//! ends, even if the future is dropped, the guest's instance, memory and resources are released
//! before other processes are notified.

mod crew;
mod endpoint;
mod instance;
mod linked;
mod live;
mod live_component;
mod outcome;
mod store;
mod template;

pub use crew::{Crew, Idle, Member};
pub use endpoint::{Endpoint, Letter};
pub(crate) use linked::{
    LinkError, Linked, Linkers, link, link_component, load_component, load_module,
};
pub use live::{CallError, Live, OutOfBounds};
pub use live_component::LiveComponent;
pub(crate) use outcome::end_of;
pub(crate) use template::{Parameters, Template};

use crate::engine::{Moment, Reservation};
use crate::environment::Share;
use crate::guest::{Guest, MemoryShare, Setting};
use crate::machine::Process;
use crate::scheduler;
use async_io::Timer;
use futures_lite::FutureExt;
use instance::Instance;
use lunatic_abi::Limit;
use lunatic_process::{Exit, LimitReached, Notices};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use wasmtime::component;

/// How long a dying process waits for its databases to be closed on another thread, so that
/// processes notified of its death find them unlocked. A slow disk, or an SQLite function that
/// cannot be interrupted, can take longer.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(100);

/// The closure that drives a host-driven process.
pub(crate) type Drive =
    Box<dyn for<'a> FnOnce(&'a mut Live) -> Pin<Box<dyn Future<Output = Exit> + Send + 'a>> + Send>;

/// The closure that drives a host-driven process whose guest is a component.
pub(crate) type DriveComponent = Box<
    dyn for<'a> FnOnce(&'a mut LiveComponent) -> Pin<Box<dyn Future<Output = Exit> + Send + 'a>>
        + Send,
>;

/// What a process runs.
pub(crate) enum Body {
    /// A function that a module exports.
    Function {
        template: Arc<Template>,
        parameters: Parameters,
    },
    /// A host closure that drives a module instance.
    Host { linked: Arc<Linked>, drive: Drive },
    /// A component's `wasi:cli/run`.
    Command { pre: component::InstancePre<Guest> },
    /// A host closure that drives a component instance.
    HostComponent {
        pre: component::InstancePre<Guest>,
        drive: DriveComponent,
    },
}

/// A process's share of the resources of its environment and of the machine, held until the process
/// has ended.
pub(crate) struct Shares {
    /// The process itself.
    pub(crate) process: Share<1>,
    /// The process's memory and the host memory of its instance. It can grow, so it is released
    /// with the guest's store.
    pub(crate) memory: MemoryShare,
    pub(crate) reservation: Reservation,
}

/// Ends the process on drop, after everything else that it holds has been released.
struct FinishOnDrop {
    setting: Arc<Setting>,
    process: Process,
    exit: Exit,
    /// Released after the instance is dropped and before other processes are notified.
    shares: Option<(Share<1>, Reservation)>,
    /// Set once everything has been released but before all processes have been notified.
    notices: Option<Notices>,
}

/// How many of an ending process's names, pieces of mail, links and monitors are handled before
/// other processes run.
const PORTION: usize = 512;

impl FinishOnDrop {
    /// Does most of the work of `drop`, in portions between which other processes can run.
    async fn finish_in_portions(&mut self) {
        let mut names = self.process.take_names();
        while !names.is_empty() {
            for _ in 0..PORTION {
                names.pop_first();
            }
            scheduler::spent().await;
        }
        let cell = self.process.cell();
        cell.close(&self.exit);
        while cell.drop_mail(PORTION) {
            scheduler::spent().await;
        }
        let machine = self.setting.environment().machine();
        let shares = self.shares.take();
        let exit = self.exit.clone();
        let notices = machine.remove(&self.process, exit, || drop(shares));
        let notices = self.notices.insert(notices);
        while machine.tell(notices, PORTION) {
            scheduler::spent().await;
        }
    }
}

impl Drop for FinishOnDrop {
    fn drop(&mut self) {
        let machine = self.setting.environment().machine();
        let notices = self.notices.take().unwrap_or_else(|| {
            let exit = std::mem::replace(&mut self.exit, Exit::Killed);
            let shares = self.shares.take();
            machine.remove(&self.process, exit, || drop(shares))
        });
        machine.ended(&self.process, notices);
    }
}

/// Returns the future of a process, which the scheduler runs.
pub(crate) fn run(
    setting: Arc<Setting>,
    process: Process,
    shares: Shares,
    body: Body,
) -> impl Future<Output = ()> + Send + 'static {
    // Ensures that the process ends properly even if the scheduler drops the future before its
    // first turn.
    let finish = FinishOnDrop {
        setting,
        process,
        exit: Exit::Killed,
        shares: Some((shares.process, shares.reservation)),
        notices: None,
    };
    async move {
        let mut finish = finish;
        finish.exit = {
            let new = NewGuest {
                process: finish.process.clone(),
                setting: finish.setting.clone(),
                memory: shares.memory,
            };
            let life = pin!(live(new, body));
            turns(&finish.process, life).await
        };
        if let Some(released) = finish.process.released() {
            // Nothing is sent through the channel. It is closed once the last database is closed
            // and unlocked.
            let closed = async {
                let _ = released.recv().await;
            };
            let timeout = async {
                Timer::after(CLOSE_TIMEOUT).await;
            };
            // If the machine is shutting down, the process does not wait. Otherwise, the code that
            // wakes the waiting task would drop the task during the wake-up.
            closed
                .or(timeout)
                .or(finish.setting.environment().machine().over())
                .await;
        }
        if finish.process.burden() > PORTION {
            Box::pin(finish.finish_in_portions()).await;
        }
    }
}

/// Runs the guest turn by turn until it ends or is killed.
async fn turns(process: &Process, mut life: Pin<&mut (impl Future<Output = Exit> + Send)>) -> Exit {
    std::future::poll_fn(|context| {
        process.cell().begin_turn(context);
        if let Some(exit) = process.cell().ending() {
            return Poll::Ready(exit);
        }
        catch_unwind(AssertUnwindSafe(|| life.as_mut().poll(context)))
            .unwrap_or_else(|panic| Poll::Ready(Exit::Fault(panic_text(&*panic).into())))
    })
    .await
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("a host function panicked")
}

/// The parts of a new guest.
struct NewGuest {
    process: Process,
    setting: Arc<Setting>,
    memory: MemoryShare,
}

impl NewGuest {
    fn guest(self) -> Guest {
        Guest::new(self.process, self.setting, self.memory)
    }
}

/// Creates the instance and runs the body, within the environment's time limit.
async fn live(new: NewGuest, body: Body) -> Exit {
    let allowed = new.setting.environment().limits().get(Limit::Time);
    // All state that a process holds while it waits takes up memory in its task. Therefore, state
    // that is short-lived, or large and rarely used, is boxed, and nothing is stored twice.
    let mut work = pin!(work(new, body));
    if allowed == u64::MAX {
        return work.await;
    }
    let time_is_over = async {
        Timer::after(Duration::from_millis(allowed)).await;
        Exit::Limit(LimitReached {
            limit: Limit::Time,
            allowed,
            wanted: None,
        })
    };
    work.as_mut().or(time_is_over).await
}

async fn work(new: NewGuest, body: Body) -> Exit {
    match body {
        Body::Function {
            template,
            parameters,
        } => {
            let linked = template.linked();
            let begin = Moment::now();
            let mut instance = match obtain_instance(new, linked).await {
                Ok(instance) => instance,
                Err(exit) => return exit,
            };
            instance.guest_mut().set_template(template.clone());
            let mut polls = 0_u64;
            let called = {
                let mut call = pin!(instance.call(template.function(), &parameters));
                std::future::poll_fn(|context| {
                    polls += 1;
                    call.as_mut().poll(context)
                })
                .await
            };
            match called {
                Ok(_) => {
                    let image = linked.image.as_deref();
                    // A poll runs on one thread without interruption. If the instance is new,
                    // creating it may have taken several, but it has never been reset before.
                    let since = (polls == 1).then_some(begin);
                    linked.pool.put_back(instance, image, since);
                    Exit::Normal
                }
                Err(exit) => exit,
            }
        }
        Body::Host { linked, drive } => {
            let mut live = match obtain_instance(new, &linked).await {
                Ok(instance) => Live::new(instance),
                Err(exit) => return exit,
            };
            let exit = drive(&mut live).await;
            if let Some(instance) = live.into_instance() {
                linked
                    .pool
                    .put_back(instance, linked.image.as_deref(), None);
            }
            exit
        }
        Body::Command { pre } => {
            let command = async {
                match LiveComponent::new(new.guest(), &pre).await {
                    Ok(mut live) => live.run().await.err().unwrap_or(Exit::Normal),
                    Err(exit) => exit,
                }
            };
            Box::pin(command).await
        }
        Body::HostComponent { pre, drive } => {
            let driven = async {
                match LiveComponent::new(new.guest(), &pre).await {
                    Ok(mut live) => drive(&mut live).await,
                    Err(exit) => exit,
                }
            };
            Box::pin(driven).await
        }
    }
}

/// Returns a pooled or new instance for a process.
async fn obtain_instance(new: NewGuest, linked: &Linked) -> Result<Instance, Exit> {
    match linked.pool.take() {
        Some(mut instance) => {
            instance.enter(new.process, new.setting, new.memory);
            Ok(instance)
        }
        None => Box::pin(Instance::new(new.guest(), linked)).await,
    }
}
