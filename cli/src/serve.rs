//! `lunatic serve`: gateways that lead to functions, until a signal ends them.

use crate::command_line::Serve;
use crate::failure::{Failure, Outcome, tell};
use crate::run::{cache, not_started, status};
use crate::service;
use lunatic_serve::{Functions, Server};
use lunatic_vm::{Host, Vm};

/// Serves until a signal comes, and lets the requests end that are being served then.
pub(crate) fn serve(serve: &Serve) -> Outcome {
    crate::log_lines::start(serve.verbose);
    let mut host = Host::default();
    lunatic_serve::add_to_host(&mut host);
    let vm = Vm::builder().host(host).cache(cache()).build().map_err(not_started)?;
    let functions = Functions::new(&vm);
    let service = service::open(&functions, &serve.service)?;
    let Some(service) = service else {
        return Err(not_started("there is nothing to serve").hint("`--deploy` lets functions be deployed"));
    };
    let server = service.add_to(Server::builder(&functions)).start().map_err(not_started)?;
    let mut text = String::new();
    for listening in server.listening() {
        text += &format!("{}: http://{}\n", listening.name, listening.address);
    }
    tell(&text);
    wait_for_signal()?;
    // Who follows a log would be waited for.
    service.drain();
    server.stop(serve.drain);
    // The command ends here, and with it all that the machine holds.
    std::mem::forget(vm);
    Ok(0)
}

/// Waits for the first signal. The second ends the command at once, whatever goes on then.
#[cfg(unix)]
fn wait_for_signal() -> Result<(), Failure> {
    use signal_hook::consts::{SIGINT, SIGTERM};

    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM]).map_err(not_started)?;
    signals.forever().next();
    let at_once = move || {
        let signal = signals.forever().next().unwrap_or_default();
        std::process::exit(status::SIGNAL + signal);
    };
    std::thread::Builder::new().name("lunatic-signals".into()).spawn(at_once).map_err(not_started)?;
    Ok(())
}

/// Elsewhere the operating system ends the command at the first.
#[cfg(not(unix))]
fn wait_for_signal() -> Result<(), Failure> {
    loop {
        std::thread::park();
    }
}
