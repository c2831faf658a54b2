//! `lunatic dev`: a project that serves while it is worked on.

use crate::command_line;
use crate::failure::Outcome;
use crate::output;
use crate::project::{self, Progress, size};
use crate::run::not_started;
use crate::serve::{addresses, machine, wait_for_signal};
use lunatic_serve::{BuildEvent, Dev, DevError, DevEvent};
use std::time::Duration;

/// How long requests may go on that are being served when a signal comes.
const DRAIN: Duration = Duration::from_secs(5);

/// Serves and builds until a signal comes.
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
                    size(built.size()),
                    built.time()
                ));
            }
        }
        DevEvent::Swapped(function, version) => {
            progress.say(&format!(
                "{} serves, version {}\n",
                version.name(),
                version.number()
            ));
            // The first one; the log is that of all.
            if version.number() == 1 {
                output::show(function);
            }
        }
        DevEvent::Settings(name, error) => {
            progress.say(&format!("error: `{name}` is not replaced: {error}\n"))
        }
        DevEvent::Project(error) => progress.say(&format!("{error}\nnothing was changed\n")),
        DevEvent::Waiting(gateway, name) => {
            progress.say(&format!("gateway `{}` waits for `{name}`\n", gateway.name));
        }
        DevEvent::Gateways(error) => progress.say(&format!("error: {error}\n")),
        DevEvent::Listening(listening, gateways) => progress.say(&addresses(listening, gateways)),
        _ => {}
    };
    let running = Dev::start(&vm, &file, tell).map_err(|error| match error {
        DevError::Project(error) => project::wrong(&error),
        other => not_started(other),
    })?;
    wait_for_signal()?;
    running.stop(DRAIN);
    // As with `build`.
    std::mem::forget(vm);
    Ok(0)
}
