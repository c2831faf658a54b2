//! A process that carries out the test's commands, one at a time.
//!
//! An actor waits for commands, which are messages with a reserved tag, and answers each command by
//! reporting numbers. All other mail stays in the actor's mailbox until a command makes the actor
//! receive it. This lets a test drive several processes step by step and know at each step what has
//! happened.

use super::{Lab, guest};
use lunatic_vm::{Environment, Exit, Module, Pid, Process, SendError};
use std::fmt::Write;

/// The tag of commands.
pub(crate) const COMMAND: i64 = -1;

/// The number that an actor reports when a receive times out.
pub(crate) const TIMED_OUT: i64 = 9027;

/// Each command's name, and the code that carries it out. `$a`, `$b` and `$c` are the command's
/// numbers. The string that follows them is at address 1056.
const COMMANDS: &[(&str, &str)] = &[
    ("finish", "(return)"),
    ("trap", "unreachable"),
    ("link", "(call $link (local.get $a) (local.get $b)) (call $say (i64.const 0))"),
    ("unlink", "(call $unlink (local.get $a)) (call $say (i64.const 0))"),
    ("monitor", "(call $monitor_tagged (local.get $a) (local.get $b)) (call $say (i64.const 0))"),
    ("stop_monitoring", "(call $say (i64.extend_i32_u (call $stop_monitoring_tagged (local.get $a) (local.get $b))))"),
    ("die_when_link_dies", "(call $die_when_link_dies (i32.wrap_i64 (local.get $a))) (call $say (i64.const 0))"),
    (
        "send",
        "(i64.store (i32.const 256) (local.get $c))
         (call $say (i64.extend_i32_u (call $send_bytes (local.get $a) (local.get $b)
            (i32.const 256) (i32.const 8) (i32.const 0) (i32.const 0))))",
    ),
    (
        "receive",
        "(local.set $b (i64.extend_i32_u (call $receive_bytes (i32.const 1056) (i32.wrap_i64 (local.get $a)) (local.get $b)
            (i32.const 256) (i32.const 8) (i32.const 0))))
         (call $say (local.get $b))
         (if (i64.lt_u (local.get $b) (i64.const 9027)) (then
            (call $say (i64.load (i32.const 16)))
            (call $say (i64.load (i32.const 24)))
            (call $say (i64.load32_u (i32.const 12)))
            (call $say (i64.load (i32.const 256)))))",
    ),
    ("kill", "(call $kill (local.get $a)) (call $say (i64.const 0))"),
    ("exists", "(call $say (i64.extend_i32_u (call $exists (local.get $a))))"),
    (
        "register",
        "(call $say (i64.extend_i32_u (call $register (i64.const -1) (i32.const 1056) (i32.wrap_i64 (local.get $a))
            (i32.const 216) (i32.const 5) (local.get $b))))",
    ),
    (
        "unregister",
        "(call $say (i64.extend_i32_u (call $unregister (i64.const -1) (i32.const 1056) (i32.wrap_i64 (local.get $a))
            (i32.const 216) (i32.const 5))))",
    ),
    (
        "lookup",
        "(i64.store (i32.const 128) (i64.const 0))
         (call $say (i64.extend_i32_u (call $lookup (i64.const -1) (i32.const 1056) (i32.wrap_i64 (local.get $a))
            (i32.const 224) (i32.const 1) (i32.const 128))))
         (call $say (i64.load (i32.const 128)))",
    ),
    (
        "spawn",
        "(i64.store (i32.const 128) (i64.const 0))
         (call $say (i64.extend_i32_u (call $spawn (local.get $a) (local.get $b) (i64.const -1)
            (i32.const 200) (i32.const 4) (i32.const 0) (i32.const 0) (i32.const 128))))
         (call $say (i64.load (i32.const 128)))",
    ),
    (
        "send_after",
        "(call $say (i64.extend_i32_u (call $send_bytes_after (local.get $a) (local.get $b)
            (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (local.get $c) (i32.const 128))))
         (call $say (i64.load (i32.const 128)))",
    ),
    ("cancel", "(call $say (i64.extend_i32_u (call $cancel_timer (local.get $a))))"),
    ("create_config", "(call $say (call $create_config))"),
];

const IMPORTS: &[&str] = &[
    "lunatic::message::receive_bytes",
    "lunatic::message::send_bytes",
    "lunatic::process::link",
    "lunatic::process::unlink",
    "lunatic::process::monitor_tagged",
    "lunatic::process::stop_monitoring_tagged",
    "lunatic::process::die_when_link_dies",
    "lunatic::process::kill",
    "lunatic::process::exists",
    "lunatic::process::spawn",
    "lunatic::process::create_config",
    "lunatic::environment::register",
    "lunatic::environment::unregister",
    "lunatic::environment::lookup",
    "lunatic::timer::send_bytes_after",
    "lunatic::timer::cancel_timer",
];

/// Returns the source of the module that actors run, starting with its function `main`.
pub(crate) fn module() -> String {
    let mut commands = String::new();
    for (number, (_, body)) in COMMANDS.iter().enumerate() {
        let _ = writeln!(
            commands,
            "(if (i64.eq (local.get $what) (i64.const {number})) (then {body}))"
        );
    }
    guest(
        IMPORTS,
        &format!(
            r#"(data (i32.const 200) "main") (data (i32.const 216) "1.0.0") (data (i32.const 224) "*")
            (func (export "main") (local $what i64) (local $a i64) (local $b i64) (local $c i64)
                (loop $next
                    (i64.store (i32.const 64) (i64.const {COMMAND}))
                    (drop (call $receive_bytes (i32.const 64) (i32.const 1) (i64.const -1)
                        (i32.const 1024) (i32.const 4096) (i32.const 0)))
                    (local.set $what (i64.load (i32.const 1024)))
                    (local.set $a (i64.load (i32.const 1032)))
                    (local.set $b (i64.load (i32.const 1040)))
                    (local.set $c (i64.load (i32.const 1048)))
                    {commands}
                    (br $next)))"#
        ),
    )
}

/// An actor, and the lab that it runs in.
pub(crate) struct Actor<'a> {
    pub(crate) lab: &'a Lab,
    pub(crate) process: Process,
}

/// What an actor received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mail {
    /// The receive timed out.
    TimedOut,
    /// A message: its tag and its number.
    Data(i64, i64),
    /// A linked process died: the link's tag, the pid, and the kind of exit.
    LinkDied(i64, Pid, i64),
    /// A monitored process ended: the monitor's tag, the pid, and the kind of exit.
    ProcessDied(i64, Pid, i64),
}

impl<'a> Actor<'a> {
    /// Spawns an actor.
    pub(crate) fn spawn(lab: &'a Lab, environment: &Environment, module: &Module) -> Actor<'a> {
        let process = environment
            .spawn(module, "main", &[])
            .expect("no limit applies");
        Actor { lab, process }
    }

    pub(crate) fn pid(&self) -> Pid {
        self.process.pid()
    }

    fn number(pid: Pid) -> i64 {
        pid.number().cast_signed()
    }

    /// Sends a command, without waiting for the answer.
    pub(crate) fn command(&self, what: &str, numbers: [i64; 3], text: &[u8]) {
        let number = COMMANDS.iter().position(|(name, _)| *name == what);
        let number = number.unwrap_or_else(|| panic!("there is no command `{what}`"));
        let mut data = Vec::new();
        for word in [number as i64, numbers[0], numbers[1], numbers[2]] {
            data.extend(word.to_le_bytes());
        }
        data.extend(text);
        // While an actor waits for a command, it accepts one even if its mailbox is full.
        while let Err(error) = self.process.send(COMMAND, &data) {
            let SendError::MailboxFull(..) = error else {
                panic!("an actor is alive: {error}");
            };
            std::thread::yield_now();
        }
    }

    fn ask(&self, what: &str, numbers: [i64; 3], text: &[u8]) -> i64 {
        self.command(what, numbers, text);
        self.lab.hear()
    }

    /// Ends the actor normally.
    pub(crate) fn finish(&self) -> Exit {
        self.command("finish", [0; 3], b"");
        self.lab.exit(&self.process)
    }

    /// Ends the actor with a trap.
    pub(crate) fn trap(&self) -> Exit {
        self.command("trap", [0; 3], b"");
        self.lab.exit(&self.process)
    }

    pub(crate) fn link(&self, tag: i64, pid: Pid) {
        self.ask("link", [tag, Self::number(pid), 0], b"");
    }

    pub(crate) fn unlink(&self, pid: Pid) {
        self.ask("unlink", [Self::number(pid), 0, 0], b"");
    }

    pub(crate) fn monitor(&self, tag: i64, pid: Pid) {
        self.ask("monitor", [tag, Self::number(pid), 0], b"");
    }

    /// Removes a monitor. Returns whether there was a monitor that had not fired yet.
    pub(crate) fn stop_monitoring(&self, tag: i64, pid: Pid) -> bool {
        self.ask("stop_monitoring", [tag, Self::number(pid), 0], b"") == 1
    }

    pub(crate) fn die_when_link_dies(&self, die: bool) {
        self.ask("die_when_link_dies", [die.into(), 0, 0], b"");
    }

    /// Sends a message and returns the result code.
    pub(crate) fn send(&self, to: Pid, tag: i64, number: i64) -> i64 {
        self.ask("send", [Self::number(to), tag, number], b"")
    }

    /// Receives a message with one of the tags, or any message if no tags are given.
    pub(crate) fn receive(&self, tags: &[i64], timeout: i64) -> Mail {
        let text: Vec<u8> = tags.iter().flat_map(|tag| tag.to_le_bytes()).collect();
        match self.ask("receive", [tags.len() as i64, timeout, 0], &text) {
            TIMED_OUT => Mail::TimedOut,
            kind => {
                let [tag, pid, exit, number] = self.lab.hear_all();
                let pid = Pid::from_number(pid.cast_unsigned());
                match kind {
                    0 => Mail::Data(tag, number),
                    1 => Mail::LinkDied(tag, pid, exit),
                    2 => Mail::ProcessDied(tag, pid, exit),
                    other => panic!("a receive returned {other}"),
                }
            }
        }
    }

    /// Receives mail that is already in the mailbox, without waiting.
    pub(crate) fn take(&self, tags: &[i64]) -> Mail {
        self.receive(tags, 0)
    }

    pub(crate) fn kill(&self, pid: Pid) {
        self.command("kill", [Self::number(pid), 0, 0], b"");
        if pid != self.pid() {
            self.lab.hear();
        }
    }

    pub(crate) fn exists(&self, pid: Pid) -> bool {
        self.ask("exists", [Self::number(pid), 0, 0], b"") == 1
    }

    /// Registers a process under a name and returns the result code.
    pub(crate) fn register(&self, name: &str, pid: Pid) -> i64 {
        self.ask(
            "register",
            [name.len() as i64, Self::number(pid), 0],
            name.as_bytes(),
        )
    }

    /// Removes a name and returns the result code.
    pub(crate) fn unregister(&self, name: &str) -> i64 {
        self.ask("unregister", [name.len() as i64, 0, 0], name.as_bytes())
    }

    pub(crate) fn lookup(&self, name: &str) -> Option<Pid> {
        let code = self.ask("lookup", [name.len() as i64, 0, 0], name.as_bytes());
        let pid = Pid::from_number(self.lab.hear().cast_unsigned());
        (code == 0).then_some(pid)
    }

    /// Spawns another actor, which is linked to this actor unless the tag is 0. If the
    /// configuration is -1, the new actor is in this actor's own environment.
    pub(crate) fn spawn_actor(&self, link: i64, config: i64) -> Result<Actor<'a>, i64> {
        let code = self.ask("spawn", [link, config, 0], b"");
        let pid = self.lab.hear();
        if code != 0 {
            return Err(pid);
        }
        let process = self
            .lab
            .vm
            .process(Pid::from_number(pid.cast_unsigned()))
            .expect("an actor stays alive until a command ends it");
        Ok(Actor {
            lab: self.lab,
            process,
        })
    }

    pub(crate) fn create_config(&self) -> i64 {
        self.ask("create_config", [0; 3], b"")
    }

    /// Starts a timer and returns its id.
    pub(crate) fn send_after(&self, to: Pid, tag: i64, delay: i64) -> Result<i64, i64> {
        let code = self.ask("send_after", [Self::number(to), tag, delay], b"");
        let id = self.lab.hear();
        if code == 0 { Ok(id) } else { Err(id) }
    }

    pub(crate) fn cancel(&self, timer: i64) -> bool {
        self.ask("cancel", [timer, 0, 0], b"") == 1
    }
}
