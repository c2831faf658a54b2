//! `lunatic dev`: serves a project during development.

use crate::command_line;
use crate::failure::{Outcome, not_started};
use crate::output;
use crate::project::{self, Progress};
use crate::serve::{addresses, machine};
use crate::signals;
use indicatif::HumanBytes;
use lunatic_serve::{BuildEvent, Dev, DevError, DevEvent};
use std::time::Duration;

/// How long to wait for in-flight requests after a signal.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Serves and rebuilds functions until a signal arrives.
pub(crate) fn dev(dev: &command_line::Dev) -> Outcome {
    crate::log_lines::start(dev.verbose);
    let file = project::find(&dev.project).ok_or_else(project::missing)?;
    let vm = machine()?;
    let progress = Progress::new();
    let tell = move |event: DevEvent<'_>| match event {
        DevEvent::Build(name, event) => {
            progress.show(name, &event);
            if let BuildEvent::Built(built) = event {
                progress.say(&format!(
                    "built {name}: {} in {:.2?}\n",
                    HumanBytes(built.size()),
                    built.time()
                ));
            }
        }
        DevEvent::Swapped(function, version) => {
            progress.say(&format!(
                "{} serves version {}\n",
                version.name(),
                version.number()
            ));
            // All of a function's versions share one log.
            if version.number() == 1 {
                output::show(function);
            }
        }
        DevEvent::Settings(name, error) => {
            progress.say(&format!("error: `{name}` was not replaced: {error}\n"))
        }
        DevEvent::NotStarted(name, error) => {
            progress.say(&format!("error: `{name}` cannot be started: {error}\n"))
        }
        DevEvent::Project(error) => progress.say(&format!("{error}\nnothing was changed\n")),
        DevEvent::Waiting(gateway, name) => {
            progress.say(&format!(
                "gateway `{}` is waiting for `{name}`\n",
                gateway.name
            ));
        }
        DevEvent::Gateways(error) => progress.say(&format!("error: {error}\n")),
        DevEvent::Listening(listening, gateways) => progress.say(&addresses(listening, gateways)),
        _ => {}
    };
    let running = Dev::start(&vm, &file, tell).map_err(|error| match error {
        DevError::Project(error) => project::wrong(&error),
        other => not_started(other),
    })?;
    signals::wait().map_err(not_started)?;
    running.stop(DRAIN_TIMEOUT);
    // Not dropped, for the same reason as in `build`.
    std::mem::forget(vm);
    Ok(0)
}
