//! Ends programs: when the main process ends, when the `--timeout` expires, or gracefully after a
//! signal.

use crate::failure::tell;
use crate::signals;
use async_io::Timer;
use futures_lite::FutureExt;
use futures_lite::future::pending;
use lunatic_vm::{ENTRY_PREFIX, Environment, Exit, Module, Pid, Process};
use std::collections::HashSet;
use std::io;
use std::time::{Duration, Instant};
use tokio::sync::oneshot::{Receiver, channel};

/// How a program ended.
pub(super) enum Ending {
    /// The main process ended.
    Main(Exit),
    /// The program exceeded the timeout and was terminated.
    TimedOut(Duration),
    /// This signal ended the program, whose main process ended with this exit.
    Signal(i32, Exit),
}

/// What may end a program before its main process ends.
pub(super) struct Bounds {
    pub(super) timeout: Option<Duration>,
    /// How long the processes may take to exit after a signal. If zero, they are killed
    /// immediately.
    pub(super) grace: Duration,
    /// Receives the first signal.
    pub(super) signal: Receiver<i32>,
}

/// Starts listening for signals.
pub(super) fn listen() -> io::Result<Receiver<i32>> {
    let (sender, signal) = channel();
    // Once the program has ended, nothing waits for a signal.
    signals::listen(move |signal| _ = sender.send(signal))?;
    Ok(signal)
}

/// Returns whether a module's processes handle requests to end. They do if the module uses the
/// guest library.
pub(super) fn understands(module: &Module) -> bool {
    module
        .functions()
        .any(|export| export.starts_with(ENTRY_PREFIX))
}

/// Waits for a program to end, then ends all of its processes.
pub(super) async fn wait(environment: &Environment, main: &Process, bounds: Bounds) -> Ending {
    enum First {
        Exit(Exit),
        Timeout(Duration),
        Signal(i32),
    }
    let exit = async { First::Exit(main.exited().await) };
    let timeout = async {
        match bounds.timeout {
            Some(timeout) => {
                Timer::after(timeout).await;
                First::Timeout(timeout)
            }
            None => pending().await,
        }
    };
    let signal = async {
        match bounds.signal.await {
            Ok(signal) => First::Signal(signal),
            Err(_) => pending().await,
        }
    };
    let ending = match signal.or(exit).or(timeout).await {
        First::Exit(exit) => Ending::Main(exit),
        First::Timeout(timeout) => Ending::TimedOut(timeout),
        First::Signal(signal) => {
            in_order(environment, main, bounds.grace).await;
            environment.end();
            Ending::Signal(signal, main.exited().await)
        }
    };
    environment.end();
    environment.ended().await;
    ending
}

/// How long to wait before telling the user what the command is waiting for.
const SILENCE: Duration = Duration::from_secs(1);

/// Asks a program's processes to end within the grace period. The main process is asked first. Once
/// it has ended, or half of the grace period has passed, the processes whose parent is the main
/// process or is dead are asked, youngest first. All other processes, such as a supervisor's
/// children, are left to their parents.
async fn in_order(environment: &Environment, main: &Process, grace: Duration) {
    if grace.is_zero() {
        return;
    }
    let end = Instant::now() + grace;
    environment.outlive_main();
    let ask = async {
        ask(main, grace / 2).await;
        let mut asked = HashSet::from([main.pid()]);
        loop {
            let next = next_to_ask(&environment.processes(), main, &asked);
            if next.is_empty() {
                break;
            }
            for process in next {
                asked.insert(process.pid());
                let left = end.saturating_duration_since(Instant::now());
                ask(&process, left / 2).await;
            }
        }
        environment.ended().await;
    };
    let out_of_time = async {
        Timer::after(grace.min(SILENCE)).await;
        if grace > SILENCE {
            let count = environment.processes().len();
            tell(&format!(
                "waiting up to {grace:?} for processes to end ({count} left); a second signal kills them\n"
            ));
            Timer::at(end).await;
        }
    };
    ask.or(out_of_time).await;
}

/// Asks a process to end, and waits up to `time` for it to end.
async fn ask(process: &Process, time: Duration) {
    // If the process's mailbox is full, the process cannot receive the request.
    if process.ask_to_end().is_err() {
        return process.kill();
    }
    let ended = async {
        process.exited().await;
    };
    let out_of_time = async {
        Timer::after(time).await;
    };
    ended.or(out_of_time).await;
}

/// Returns the processes that have not been asked yet and are not left to their parents, youngest
/// first. `alive` is sorted by age.
fn next_to_ask(alive: &[Process], main: &Process, asked: &HashSet<Pid>) -> Vec<Process> {
    let pids: HashSet<Pid> = alive.iter().map(Process::pid).collect();
    let is_left_to = |parent: Pid| parent != main.pid() && pids.contains(&parent);
    let next = alive
        .iter()
        .filter(|process| !asked.contains(&process.pid()))
        .filter(|process| !process.parent().is_some_and(is_left_to));
    next.rev().cloned().collect()
}
