//! The host's side of one running guest.

use super::call::Failure;
use super::call_back::CallsBack;
use super::meter::Meter;
use crate::component::Component;
use crate::environment::{Environment, Given, Permit, Wasi};
use crate::module::Module;
use crate::pipe::{PipeReader, PipeWriter};
use crate::process::{LimitReached, Mail, Message, Process};
use crate::resources::{Attachment, Foreign, Handles, HostError, Resource};
use crate::sqlite::Account;
use lunatic_abi::{Errno, Limit};
use std::any::{Any, TypeId};
use std::collections::HashMap;
use wasmtime::Memory;
use wasmtime_wasi::{WasiCtxView, WasiView};

/// Everything that the host keeps for one running guest: what its host functions work on.
pub struct Guest {
    /// There while a process runs. An instance that waits for the next process has nothing of the last one's.
    life: Option<Life>,
    /// The instance's memory, found on first use.
    memory: Option<Memory>,
}

/// What the host keeps for one process.
struct Life {
    process: Process,
    origin: Origin,
    /// The message being composed, or the one received last.
    slot: Option<Slot>,
    /// The empty buffer of a small message that was received, for the next one that is composed.
    spare: Vec<u8>,
    /// Made when it holds something first: most processes never do.
    handles: Option<Box<Handles>>,
    meter: Meter,
    /// The turn in which the slice was looked at last.
    turn: u64,
    /// How many ticks that turn has seen.
    ticks: u64,
    calls_back: CallsBack,
    /// Made on the first WASI call.
    wasi: Option<Box<Wasi>>,
    /// What that is made with where the process has an input and an output of its own.
    redirected: Option<Box<(PipeReader, PipeWriter)>>,
    /// Made when it opens a database first.
    databases: Option<Account>,
    extensions: HashMap<TypeId, Box<dyn Any + Send>>,
}

/// What a guest is an instance of.
#[derive(Clone, Debug)]
pub(crate) enum Origin {
    Module(Module),
    Component(Component),
}

impl Origin {
    pub(crate) fn name(&self) -> &str {
        match self {
            Origin::Module(module) => module.name(),
            Origin::Component(component) => component.name(),
        }
    }
}

/// The largest buffer that is kept for the next message, in bytes: a mailbox counts what messages say, not what room they
/// have beside it, and that is to be no more than a message takes in any case.
const SPARE: usize = 128;

/// A message and the place where it is read next.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) mail: Mail,
    pub(super) head: usize,
}

impl Slot {
    /// Copies from the read head on, as much as fits, and moves it; returns how many bytes that is. Of a death the sentence
    /// is read.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Result<u32, Failure> {
        let text;
        let data = match &self.mail {
            Mail::Data(message) => message.data.as_slice(),
            Mail::LinkDied { exit, .. } | Mail::ProcessDied { exit, .. } => {
                text = exit.to_string();
                text.as_bytes()
            }
        };
        let rest = data
            .get(self.head..)
            .ok_or_else(|| Failure::trap("the read head is behind the end of the message"))?;
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        self.head += count;
        Ok(count as u32)
    }
}

impl Guest {
    pub(crate) fn new(process: Process, origin: Origin, memory: Permit) -> Guest {
        let environment = process.environment();
        let declared = match &origin {
            Origin::Module(module) => module.requirements().memory,
            Origin::Component(component) => component.requirements().memory,
        };
        let meter = Meter::new(
            environment.limits(),
            environment.quota().clone(),
            memory,
            declared,
        );
        let life = Life {
            process,
            origin,
            slot: None,
            spare: Vec::new(),
            handles: None,
            meter,
            turn: 0,
            ticks: 0,
            calls_back: CallsBack::default(),
            wasi: None,
            redirected: None,
            databases: None,
            extensions: HashMap::new(),
        };
        Guest {
            life: Some(life),
            memory: None,
        }
    }

    /// Begins to serve another process, on the same instance.
    pub(crate) fn enter(&mut self, process: Process, origin: Origin, memory: Permit) {
        let other = Guest::new(process, origin, memory);
        self.life = other.life;
        let life = self.life_mut();
        let required = match &life.origin {
            Origin::Module(module) => *module.requirements(),
            Origin::Component(_) => unreachable!("only instances of modules serve again"),
        };
        life.meter
            .begin_with(required.memory, required.table_elements);
    }

    /// Drops all that belongs to the process: for an instance that waits for the next one.
    pub(crate) fn leave(&mut self) {
        self.life = None;
    }

    /// Whether it serves a process, and does not wait for the next.
    pub(crate) fn has_process(&self) -> bool {
        self.life.is_some()
    }

    fn life(&self) -> &Life {
        self.life
            .as_ref()
            .expect("no code of a guest or for one runs without a process")
    }

    fn life_mut(&mut self) -> &mut Life {
        self.life
            .as_mut()
            .expect("no code of a guest or for one runs without a process")
    }

    /// Returns its process.
    pub fn process(&self) -> &Process {
        &self.life().process
    }

    /// Returns the environment that it runs in.
    pub fn environment(&self) -> &Environment {
        self.life().process.environment()
    }

    /// Returns the module that it runs, if it is not a component.
    pub fn module(&self) -> Option<&Module> {
        match &self.life().origin {
            Origin::Module(module) => Some(module),
            Origin::Component(_) => None,
        }
    }

    /// Returns the value of a type that the embedder keeps with this process; made when it is asked for first, dropped with
    /// the process.
    pub fn extension<T: Default + Send + 'static>(&mut self) -> &mut T {
        let value = self
            .life_mut()
            .extensions
            .entry(TypeId::of::<T>())
            .or_insert_with(|| Box::new(T::default()));
        value
            .downcast_mut()
            .expect("each type has a value of its own")
    }

    /// Keeps a resource of the embedder's for the process and returns its id.
    pub fn insert_resource(&mut self, resource: Foreign) -> u64 {
        self.handles().foreign.insert(resource)
    }

    /// Returns a resource of the embedder's by its id.
    pub fn resource(&self, id: u64) -> Option<&Foreign> {
        self.life().handles.as_ref()?.foreign.get(id)
    }

    /// Takes a resource of the embedder's away from the process.
    pub fn remove_resource(&mut self, id: u64) -> Option<Foreign> {
        self.handles().foreign.remove(id)
    }

    /// Puts a resource of the embedder's into the message that the guest composes, and returns its place there.
    ///
    /// # Errors
    ///
    /// Traps where the guest composes no message.
    pub fn attach(&mut self, resource: Foreign) -> Result<u64, Failure> {
        super::message::push(
            self,
            Attachment {
                resource: Resource::Foreign(resource),
                permit: None,
            },
        )
    }

    /// Takes a resource of the embedder's out of the message that the guest received last; `None` where there is none in
    /// that place.
    pub fn take_attached(&mut self, place: u64) -> Option<Foreign> {
        let (message, _) = self.message().ok()?;
        let place = message.attachments.get_mut(usize::try_from(place).ok()?)?;
        match place.take()? {
            Attachment {
                resource: Resource::Foreign(resource),
                ..
            } => Some(resource),
            other => {
                *place = Some(other);
                None
            }
        }
    }

    /// Returns how many bytes of memory it has, over all its memories. Memories do not shrink: it never had more.
    pub fn memory_used(&self) -> u64 {
        self.life().meter.memory()
    }

    pub(super) fn handles(&mut self) -> &mut Handles {
        self.life_mut().handles.get_or_insert_default()
    }

    pub(crate) fn meter(&mut self) -> &mut Meter {
        &mut self.life_mut().meter
    }

    /// Returns the limit that the guest met last: by growing, since it waited, or in its last WASI call.
    pub(crate) fn refused(&self) -> Option<LimitReached> {
        self.life()
            .meter
            .refused()
            .or_else(|| self.life().wasi.as_ref()?.refused())
    }

    /// Takes the limit that the guest met last, so that [`Guest::refused`] tells only of what comes.
    pub(super) fn take_refused(&mut self) -> Option<LimitReached> {
        let refused = self.refused();
        self.life_mut().meter.forget_refusal();
        if let Some(wasi) = &mut self.life_mut().wasi {
            wasi.begin_call();
        }
        refused
    }

    /// Puts back what was taken, unless the guest met another limit since.
    pub(super) fn remember_refused(&mut self, refused: Option<LimitReached>) {
        if self.refused().is_none() {
            self.life_mut().meter.remember_refusal(refused);
        }
    }

    pub(super) fn calls_back(&mut self) -> &mut CallsBack {
        &mut self.life_mut().calls_back
    }

    pub(super) fn memory(&self) -> Option<Memory> {
        self.memory
    }

    pub(super) fn set_memory(&mut self, memory: Memory) {
        self.memory = Some(memory);
    }

    pub(super) fn slot(&mut self) -> &mut Option<Slot> {
        &mut self.life_mut().slot
    }

    /// Puts a message into the slot; what was there is dropped.
    pub(super) fn fill_slot(&mut self, mail: Mail) -> &mut Slot {
        let life = self.life_mut();
        if let Some(Slot {
            mail: Mail::Data(Message { mut data, .. }),
            ..
        }) = life.slot.take()
            && (1..=SPARE).contains(&data.capacity())
        {
            data.clear();
            life.spare = data;
        }
        life.slot.insert(Slot { mail, head: 0 })
    }

    /// Takes an empty buffer for a message, which has room where a small message was received since this was done last.
    pub(super) fn take_spare(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.life_mut().spare)
    }

    /// Makes the data of a message.
    pub(super) fn data_of(&mut self, bytes: &[u8]) -> Vec<u8> {
        if bytes.len() > self.life_mut().spare.capacity() {
            return bytes.to_vec();
        }
        let mut data = self.take_spare();
        data.extend_from_slice(bytes);
        data
    }

    /// Returns the message of data in the slot.
    pub(super) fn message(&mut self) -> Result<(&mut Message, &mut usize), Failure> {
        match &mut self.life_mut().slot {
            Some(Slot {
                mail: Mail::Data(message),
                head,
            }) => Ok((message, head)),
            Some(_) => Err(Failure::trap(
                "the message at hand tells of a death and has no data",
            )),
            None => Err(Failure::trap(
                "there is no message at hand: create or receive one first",
            )),
        }
    }

    /// Gives an error an id.
    pub(super) fn keep_error(&mut self, error: HostError) -> Result<u64, Failure> {
        let errors = self.handles().errors.len();
        self.room_for(errors, "errors")?;
        Ok(self.handles().errors.insert(error))
    }

    /// Traps where no more handles of a kind may be held: for functions that have no other way to say so.
    pub(super) fn room_for(&self, held: usize, what: &str) -> Result<(), Failure> {
        self.check_room(held, what)
            .map_err(|error| Failure::trap(error.text))
    }

    /// Checks that one more handle of a kind may be held.
    pub(super) fn check_room(&self, held: usize, what: &str) -> Result<(), HostError> {
        let allowed = self.environment().limits().get(Limit::Handles);
        if (held as u64) < allowed {
            return Ok(());
        }
        Err(HostError::new(
            Errno::LimitReached,
            format!("a process holds at most {allowed} {what}; give some back"),
        ))
    }

    /// Whether the process has been on turn anew since this was asked last.
    pub(crate) fn is_new_turn(&mut self) -> bool {
        let life = self.life_mut();
        let turn = life.process.turns();
        let is_new = std::mem::replace(&mut life.turn, turn) != turn;
        if is_new {
            life.ticks = 0;
        }
        is_new
    }

    /// Counts a tick of the present turn, and says whether its slice is over with it.
    pub(crate) fn is_slice_over(&mut self) -> bool {
        let life = self.life_mut();
        life.ticks += 1;
        life.ticks >= life.process.environment().machine().slice()
    }

    /// Takes note that the process is put behind the others: its next turn is known, and begins with a whole slice.
    pub(crate) fn expect_turn(&mut self) {
        let life = self.life_mut();
        life.turn += 1;
        life.ticks = 0;
    }

    /// Returns what its databases have together.
    pub(super) fn databases(&mut self) -> Result<Account, LimitReached> {
        let life = self.life_mut();
        if let Some(account) = &life.databases {
            return Ok(account.clone());
        }
        let environment = life.process.environment();
        let memory = environment.limits().get(Limit::Memory);
        let (account, closed) = Account::new(
            memory,
            environment.quota(),
            environment.program().database_turns(),
        )?;
        life.process.ends_after(closed);
        Ok(life.databases.insert(account).clone())
    }

    /// Has this process read its standard input from one pipe and write its standard output to another, whatever its
    /// environment says. What goes through them is neither in the environment's journal nor counted as its output.
    ///
    /// It has to be said before the process's first WASI call; later it changes nothing.
    pub fn redirect(&mut self, input: PipeReader, output: PipeWriter) {
        self.life_mut().redirected = Some(Box::new((input, output)));
    }

    /// Returns the WASI context.
    pub(super) fn wasi(&mut self) -> &mut Wasi {
        let Life {
            process,
            origin,
            wasi,
            redirected,
            ..
        } = self.life_mut();
        wasi.get_or_insert_with(|| {
            let environment = process.environment();
            let given = match origin {
                Origin::Module(_) => Given::TO_A_MODULE,
                Origin::Component(_) => Given::to_a_component(environment.grants()),
            };
            let redirected = redirected.take().map(|pipes| *pipes);
            Box::new(environment.wasi().context(process, given, redirected))
        })
    }

    /// Whether it has a WASI context, which is made by its first WASI call.
    pub fn has_wasi(&self) -> bool {
        self.life().wasi.is_some()
    }

    /// Returns the WASI context together with the embedder's value of a type, for interfaces that need both.
    pub fn wasi_and_extension<T: Default + Send + 'static>(&mut self) -> (WasiCtxView<'_>, &mut T) {
        self.wasi();
        self.extension::<T>();
        let life = self.life_mut();
        let wasi = life
            .wasi
            .as_mut()
            .expect("it was just made")
            .begin_call()
            .ctx();
        let value = life
            .extensions
            .get_mut(&TypeId::of::<T>())
            .expect("it was just made");
        (
            wasi,
            value
                .downcast_mut()
                .expect("each type has a value of its own"),
        )
    }
}

impl WasiView for Guest {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        self.wasi().begin_call().ctx()
    }
}
