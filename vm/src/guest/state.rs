//! The host's state for a running guest.

#![expect(
    clippy::disallowed_types,
    reason = "keeps the memory that `Call` reads and writes"
)]

use super::call::PORTION;
use super::failure::{Failure, HostError};
use super::handles::Handles;
use super::meter::{MemoryShare, Meter};
use super::resources::{Opening, Resources};
use crate::engine::{self, Shortage};
use crate::environment::{Charge, Config, Grants, Permissions, Permit, QuotaAnchor, Wasi};
use crate::machine::{Domain, Environment, Machine, Process};
use crate::module::{Component, Module, Requirements};
use crate::pipe::{PipeReader, PipeWriter};
use crate::sqlite::Account;
use crate::travel::{Attachment, Foreign, Resource};
use lunatic_abi::{Errno, Limit};
use lunatic_process::{LimitReached, Mail, Message, ProcessCell};
use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::sync::Arc;
use wasmtime::{Memory, ResourceLimiter};
use wasmtime_wasi::filesystem::Descriptor;
use wasmtime_wasi::{ResourceTable, WasiCtxView, WasiView};

/// Everything that the host keeps for a running guest. Host functions work on this state.
pub struct Guest {
    /// `Some` while a process runs. A pooled instance keeps nothing from its last process.
    life: Option<Life>,
    /// The instance's memory, looked up on first use.
    memory: Option<Memory>,
}

/// What the host keeps for one process.
struct Life {
    process: Process,
    setting: Arc<Setting>,
    /// What the process was spawned from, or what its children are spawned from. Only `run` and
    /// `spawn` know its type.
    template: Option<Arc<dyn Any + Send + Sync>>,
    /// The number of processes that the process has spawned.
    children: u32,
    /// The message being composed, or the last message received.
    slot: Option<MailCursor>,
    /// The emptied buffer of a small received message, kept for the next message that is composed.
    spare: Vec<u8>,
    /// Created when the process first holds a resource, which most processes never do.
    handles: Option<Box<Handles>>,
    meter: Meter,
    /// The turn in which the end of the slice was last checked.
    turn: u64,
    /// The number of ticks in that turn.
    ticks: u64,
    calls_back: CallsBack,
    /// Created on the first WASI call.
    wasi: Option<Box<Wasi>>,
    /// The process's own input and output, if any, which are used to create the WASI context.
    redirected: Option<Box<(PipeReader, PipeWriter)>>,
    /// Created when the process first opens a database.
    databases: Option<Account>,
    /// Created when the embedder first uses an extension.
    extensions: Option<Box<Extensions>>,
    /// The charges for a component's resources. Created on the component's first call.
    resources: Option<Box<Resources>>,
    /// The permit for the host memory of the message in the slot, if the message is large.
    slot_permit: Option<Permit>,
}

/// The embedder's values for one process, by type.
type Extensions = HashMap<TypeId, Box<dyn Any + Send>>;

/// Where a guest runs, and what. Processes that are spawned alike share one setting.
pub(crate) struct Setting {
    environment: Environment,
    origin: Origin,
    quota: QuotaAnchor,
}

impl Setting {
    /// Creates a setting, which has its own count of references to the quota.
    pub(crate) fn new(environment: Environment, origin: Origin) -> Setting {
        let quota = Arc::new(environment.domain().quota().clone());
        Setting {
            environment,
            origin,
            quota,
        }
    }

    pub(crate) fn environment(&self) -> &Environment {
        &self.environment
    }

    pub(crate) fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Returns the quota of the environment.
    pub(crate) fn quota(&self) -> &QuotaAnchor {
        &self.quota
    }
}

/// A guest's active callbacks.
#[derive(Debug, Default)]
pub(super) struct CallsBack {
    pub(super) depth: usize,
    /// A slot for each callback's stack, because the pool has one stack per slot. The first slot is
    /// kept until the end, because wasmtime keeps one unused stack for the next call.
    pub(super) stacks: Vec<engine::Reservation>,
}

/// The module or component that a guest is an instance of.
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

    pub(crate) fn requirements(&self) -> &Requirements {
        match self {
            Origin::Module(module) => module.requirements(),
            Origin::Component(component) => component.requirements(),
        }
    }

    /// Returns how many memories the machine counts for an instance.
    pub(crate) fn memories(&self) -> u32 {
        match self {
            Origin::Module(module) => module.requirements().memories,
            Origin::Component(_) => 1,
        }
    }
}

/// The maximum number of resources that a message can carry.
pub(crate) const MAX_ATTACHMENTS: usize = 256;

/// The size in bytes of the largest buffer that is kept for the next message. A mailbox counts the
/// bytes of messages but not their spare capacity, so the spare capacity must not exceed the memory
/// that even an empty message takes.
const SPARE: usize = 128;

/// The maximum size, in bytes, of a message in the slot that is not charged for.
pub(crate) const SMALL_MESSAGE: usize = 4 << 10;

/// A message and the position of the next read.
#[derive(Debug)]
pub(crate) struct MailCursor {
    pub(crate) mail: Mail,
    pub(crate) head: usize,
}

impl MailCursor {
    /// Returns whether copying the mail takes so long that other processes must be allowed to run
    /// partway through.
    pub(crate) fn is_large(&self) -> bool {
        matches!(&self.mail, Mail::Data(message) if message.data.len() > PORTION)
    }

    /// Copies as many bytes as fit from the read position and advances it. Returns the number of
    /// bytes copied. For a death notification, the bytes are a sentence that describes it.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> Result<u32, Failure> {
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
            .ok_or_else(|| Failure::trap("the read position is past the end of the message"))?;
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        self.head += count;
        Ok(count as u32)
    }
}

impl Guest {
    pub(crate) fn new(process: Process, setting: Arc<Setting>, memory: MemoryShare) -> Guest {
        let meter = Meter::new(memory, setting.origin.requirements());
        let life = Life {
            process,
            setting,
            template: None,
            children: 0,
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
            extensions: None,
            resources: None,
            slot_permit: None,
        };
        Guest {
            life: Some(life),
            memory: None,
        }
    }

    /// Starts serving another process on the same instance.
    pub(crate) fn enter(&mut self, process: Process, setting: Arc<Setting>, memory: MemoryShare) {
        let other = Guest::new(process, setting, memory);
        self.life = other.life;
        let life = self.life_mut();
        let required = life.setting.origin.requirements();
        life.meter
            .begin_with(required.memory, required.table_elements);
    }

    /// Drops everything that belongs to the process, before the instance is pooled.
    pub(crate) fn leave(&mut self) {
        self.life = None;
    }

    /// Returns whether the guest serves a process. A pooled guest does not.
    pub(crate) fn has_process(&self) -> bool {
        self.life.is_some()
    }

    fn life(&self) -> &Life {
        self.life.as_ref().expect("a pooled instance runs no code")
    }

    fn life_mut(&mut self) -> &mut Life {
        self.life.as_mut().expect("a pooled instance runs no code")
    }

    /// Returns the guest's process.
    pub fn process(&self) -> &Process {
        &self.life().process
    }

    /// Returns the environment that the guest runs in.
    pub fn environment(&self) -> &Environment {
        &self.life().setting.environment
    }

    /// Returns the machine that the guest runs on.
    pub(crate) fn machine(&self) -> &Arc<Machine> {
        self.environment().machine()
    }

    /// Returns the part of the process's state that other processes act on.
    pub(crate) fn cell(&self) -> &ProcessCell {
        self.life().process.cell()
    }

    /// Returns the domain that the guest runs in.
    pub(crate) fn domain(&self) -> &Domain {
        self.environment().domain()
    }

    /// Returns the module that the guest runs. Returns `None` if the guest is a component.
    pub fn module(&self) -> Option<&Module> {
        match &self.life().setting.origin {
            Origin::Module(module) => Some(module),
            Origin::Component(_) => None,
        }
    }

    /// Returns what the process was spawned from, or what its children are spawned from.
    pub(crate) fn template(&self) -> Option<Arc<dyn Any + Send + Sync>> {
        self.life().template.clone()
    }

    /// Counts a process that this process has spawned. Returns their number.
    pub(crate) fn count_child(&mut self) -> u32 {
        let children = &mut self.life_mut().children;
        *children = children.saturating_add(1);
        *children
    }

    pub(crate) fn set_template(&mut self, template: Arc<dyn Any + Send + Sync>) {
        self.life_mut().template = Some(template);
    }

    /// Returns the embedder's value of type `T` for this process. The value is created on first use
    /// and dropped with the process.
    pub fn extension<T: Default + Send + 'static>(&mut self) -> &mut T {
        let extensions = self.life_mut().extensions.get_or_insert_default();
        let value = extensions
            .entry(TypeId::of::<T>())
            .or_insert_with(|| Box::new(T::default()));
        value
            .downcast_mut()
            .expect("the value stored under a type has that type")
    }

    /// Stores one of the embedder's resources for the process and returns its id.
    pub fn insert_resource(&mut self, resource: Foreign) -> u64 {
        self.handles().foreign.insert(resource)
    }

    /// Returns one of the embedder's resources by its id.
    pub fn resource(&self, id: u64) -> Option<&Foreign> {
        self.life().handles.as_ref()?.foreign.get(id).ok()
    }

    /// Removes one of the embedder's resources from the process.
    pub fn remove_resource(&mut self, id: u64) -> Option<Foreign> {
        self.handles().foreign.remove(id).ok()
    }

    /// Puts one of the embedder's resources into the message that the guest is composing, and
    /// returns its index there.
    ///
    /// # Errors
    ///
    /// Traps if the guest is not composing a message.
    pub fn attach(&mut self, resource: Foreign) -> Result<u64, Failure> {
        self.push_attachment(Attachment::uncounted(Resource::Foreign(resource)))
    }

    /// Takes one of the embedder's resources out of the message that the guest received last.
    /// Returns `None` if the message has no such resource at `index`.
    pub fn take_attached(&mut self, index: u64) -> Option<Foreign> {
        let (message, _) = self.message().ok()?;
        let attachments = &mut message.attachments;
        let attachment = attachments.get_mut(usize::try_from(index).ok()?)?;
        Attachment::take(attachment, Attachment::foreign)
    }

    /// Puts a resource into the current message and returns its index there.
    pub(crate) fn push_attachment(&mut self, attachment: Attachment) -> Result<u64, Failure> {
        let (message, _) = self.message()?;
        if message.attachments.len() >= MAX_ATTACHMENTS {
            return Err(Failure::trap(format!(
                "a message can carry at most {MAX_ATTACHMENTS} resources"
            )));
        }
        message.attachments.push(Some(attachment.into()));
        Ok(message.attachments.len() as u64 - 1)
    }

    /// Takes a resource of the kind that `open` recognizes out of the current message.
    pub(crate) fn take_attachment<T>(
        &mut self,
        index: u64,
        kind: &str,
        open: impl FnOnce(Attachment) -> Result<T, Attachment>,
    ) -> Result<T, Failure> {
        let (message, _) = self.message()?;
        let position = usize::try_from(index).unwrap_or(usize::MAX);
        let attachment = message
            .attachments
            .get_mut(position)
            .ok_or_else(|| Failure::trap(format!("the message has no resource {index}")))?;
        Attachment::take(attachment, open).ok_or_else(|| {
            Failure::trap(format!(
                "resource {index} of the message is not a {kind} or has already been taken out"
            ))
        })
    }

    /// Returns the total size of the guest's memories, in bytes. Memories do not shrink, so this is
    /// also the greatest size so far.
    pub fn memory_used(&self) -> u64 {
        self.life().meter.memory()
    }

    /// Charges the process for bytes that the host holds for it, in a call that can fail.
    pub(crate) fn charge(&self, bytes: u64) -> Result<Charge, HostError> {
        let charged = self.process().host_memory().charge(bytes);
        charged.map_err(|reached| HostError::new(Errno::LimitReached, reached))
    }

    pub(crate) fn handles(&mut self) -> &mut Handles {
        self.life_mut().handles.get_or_insert_default()
    }

    pub(crate) fn meter(&mut self) -> &mut Meter {
        &mut self.life_mut().meter
    }

    /// Returns the limit that the guest reached most recently, either by growing since it last
    /// waited or in its last WASI call.
    pub(crate) fn refused(&self) -> Option<LimitReached> {
        self.life()
            .meter
            .refused()
            .or_else(|| self.life().wasi.as_ref()?.refused())
    }

    /// Takes the limit that the guest reached most recently. After this, [`Guest::refused`] returns
    /// only limits reached later.
    pub(crate) fn take_refused(&mut self) -> Option<LimitReached> {
        let refused = self.refused();
        self.life_mut().meter.forget_refusal();
        if let Some(wasi) = &mut self.life_mut().wasi {
            wasi.begin_call();
        }
        refused
    }

    /// Puts back a limit that was taken, unless the guest has reached another limit since then.
    pub(crate) fn remember_refused(&mut self, refused: Option<LimitReached>) {
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

    pub(crate) fn slot(&mut self) -> &mut Option<MailCursor> {
        &mut self.life_mut().slot
    }

    /// Puts a message into the slot, dropping the previous contents.
    pub(crate) fn fill_slot(&mut self, mail: Mail) -> &mut MailCursor {
        let life = self.life_mut();
        if let Some(MailCursor {
            mail: Mail::Data(Message { mut data, .. }),
            ..
        }) = life.slot.take()
            && (1..=SPARE).contains(&data.capacity())
        {
            data.clear();
            life.spare = data;
        }
        let size = match &mail {
            Mail::Data(message) => message.data.len(),
            _ => 0,
        };
        // A received message is kept even if there is no room for it, because each process has at
        // most one such message, and its size is limited.
        let _ = self.charge_slot(size);
        self.life_mut().slot.insert(MailCursor { mail, head: 0 })
    }

    /// Takes an empty buffer for a message. The buffer has capacity if a small message was received
    /// since the last call.
    pub(crate) fn take_spare(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.life_mut().spare)
    }

    /// Copies bytes into a buffer for the data of a message.
    pub(crate) fn data_of(&mut self, bytes: &[u8]) -> Vec<u8> {
        if bytes.len() > self.life_mut().spare.capacity() {
            return bytes.to_vec();
        }
        let mut data = self.take_spare();
        data.extend_from_slice(bytes);
        data
    }

    /// Charges the environment for a message of `bytes` bytes in the slot, unless the message is
    /// small. Each process may have one small message.
    pub(crate) fn charge_slot(&mut self, bytes: usize) -> Result<(), LimitReached> {
        let life = self.life_mut();
        if bytes <= SMALL_MESSAGE {
            life.slot_permit = None;
            return Ok(());
        }
        // A growing buffer doubles its capacity.
        let bytes = bytes.next_power_of_two() as u64;
        let quota = life.setting.environment.domain().quota();
        match &mut life.slot_permit {
            Some(permit) => permit.resize(bytes),
            None => {
                life.slot_permit = Some(quota.permit(Limit::TotalHostMemory, bytes)?);
                Ok(())
            }
        }
    }

    /// Returns the data message in the slot.
    pub(crate) fn message(&mut self) -> Result<(&mut Message, &mut usize), Failure> {
        match &mut self.life_mut().slot {
            Some(MailCursor {
                mail: Mail::Data(message),
                head,
            }) => Ok((message, head)),
            Some(_) => Err(Failure::trap(
                "the current message reports a death and has no data",
            )),
            None => Err(Failure::trap(
                "there is no current message: create or receive one first",
            )),
        }
    }

    /// Creates a configuration with the limits of the guest's own environment.
    pub(crate) fn new_config(&self, grants: Grants, permissions: Permissions) -> Config {
        let mut config = Config::new(grants);
        config.limits = *self.environment().limits();
        config.permissions = permissions;
        config
    }

    /// Stores an error for the guest and returns its id.
    pub(crate) fn keep_error(&mut self, error: HostError) -> Result<u64, Failure> {
        let errors = self.handles().errors.len();
        self.room_for(errors, "errors")?;
        Ok(self.handles().errors.insert(error))
    }

    /// Traps if the process may not hold another handle of the given kind. For functions that have
    /// no other way to fail.
    pub(crate) fn room_for(&mut self, held: usize, what: &str) -> Result<(), Failure> {
        self.check_room(held, what)
            .map_err(|error| Failure::trap(error.text))
    }

    /// Checks that the process may hold another handle of the given kind.
    pub(crate) fn check_room(&mut self, held: usize, what: &str) -> Result<(), HostError> {
        let allowed = self.environment().limits().get(Limit::Handles);
        if (held as u64) < allowed {
            return self.charge_handles();
        }
        Err(HostError::new(
            Errno::LimitReached,
            format!("a process can hold at most {allowed} {what}; release some"),
        ))
    }

    /// Traps if the process has no room for another exit notification.
    pub(crate) fn room_for_end(&self) -> Result<(), Failure> {
        self.check_room_for_end()
            .map_err(|error| Failure::trap(error.text))
    }

    /// Checks that the process has room for another exit notification.
    pub(crate) fn check_room_for_end(&self) -> Result<(), HostError> {
        self.cell().room_for_end().map_err(|reached| {
            let text = format!(
                "links, monitors and unreceived notifications count as messages: {reached}"
            );
            HostError::new(Errno::LimitReached, text)
        })
    }

    /// Charges the process for the handles that it holds. The charge for dropped handles is
    /// released at the next call.
    pub(crate) fn charge_handles(&mut self) -> Result<(), HostError> {
        let account = self.process().host_memory().clone();
        let handles = self.handles();
        let size = handles.size();
        let charge = handles.charge.get_or_insert_with(|| account.nothing());
        charge
            .resize(size)
            .map_err(|reached| HostError::new(Errno::LimitReached, reached))
    }

    /// Returns whether a new turn of the process has begun since the last call.
    pub(crate) fn is_new_turn(&mut self) -> bool {
        let life = self.life_mut();
        let turn = life.process.turns();
        let is_new = std::mem::replace(&mut life.turn, turn) != turn;
        if is_new {
            life.ticks = 0;
        }
        is_new
    }

    /// Counts a tick of the current turn and returns whether its slice is over.
    pub(crate) fn is_slice_over(&mut self) -> bool {
        let life = self.life_mut();
        life.ticks += 1;
        life.ticks >= life.setting.environment.machine().slice
    }

    /// Prepares for the next turn, which begins with a full slice, because the process is queued
    /// behind other processes.
    pub(crate) fn expect_turn(&mut self) {
        let life = self.life_mut();
        life.turn += 1;
        life.ticks = 0;
    }

    /// Returns the account that the process's databases share.
    pub(crate) fn databases(&mut self) -> Account {
        let life = self.life_mut();
        if let Some(account) = &life.databases {
            return account.clone();
        }
        let domain = life.setting.environment.domain();
        let (account, closed) = Account::new(
            domain.limits().get(Limit::Memory),
            life.process.host_memory(),
            domain.program().database_turns(),
        );
        life.process.ends_after(closed);
        life.databases.insert(account).clone()
    }

    /// Makes this process read its standard input from one pipe and write its standard output to
    /// another pipe, regardless of what its environment specifies. Data that passes through the
    /// pipes is neither recorded in the environment's journal nor counted as its output.
    ///
    /// This has no effect after the process's first WASI call.
    pub fn redirect(&mut self, input: PipeReader, output: PipeWriter) {
        self.life_mut().redirected = Some(Box::new((input, output)));
    }

    /// Returns the WASI context.
    pub(crate) fn wasi(&mut self) -> &mut Wasi {
        let Life {
            process,
            setting,
            wasi,
            redirected,
            ..
        } = self.life_mut();
        let Setting {
            environment,
            origin,
            ..
        } = &**setting;
        wasi.get_or_insert_with(|| {
            let domain = environment.domain();
            let process = (process.pid(), process.name());
            let redirected = redirected.take().map(|pipes| *pipes);
            Box::new(match origin {
                Origin::Module(_) => domain.wasi().module_context(process, redirected),
                Origin::Component(_) => {
                    domain
                        .wasi()
                        .component_context(process, domain.grants(), redirected)
                }
            })
        })
    }

    /// Returns whether the guest has a WASI context, which its first WASI call creates.
    pub fn has_wasi(&self) -> bool {
        self.life().wasi.is_some()
    }

    /// Returns a component's resources, even if they have been withheld from the component.
    ///
    /// # Panics
    ///
    /// Panics if the guest is not a component.
    pub fn resources(&mut self) -> &mut ResourceTable {
        self.wasi().resources()
    }

    /// Counts the resources that the component's earlier calls created. If they exceed a limit, the
    /// component loses access to them, so the call fails and the process ends because of the limit.
    fn begin_component_call(&mut self) {
        self.wasi().begin_call();
        if let Err(reached) = self.count_resources(Opening::Nothing) {
            self.wasi().withhold_resources(reached);
        }
    }

    /// Counts a component's resources, including one that is about to be opened, and returns the
    /// context to open it with.
    pub(crate) fn open_resource(
        &mut self,
        opening: Opening,
    ) -> Result<WasiCtxView<'_>, LimitReached> {
        self.wasi().begin_call();
        self.count_resources(opening)?;
        Ok(self.wasi().view())
    }

    fn count_resources(&mut self, opening: Opening) -> Result<(), LimitReached> {
        let Life {
            process,
            setting,
            wasi,
            resources,
            ..
        } = self.life_mut();
        let environment = &setting.environment;
        let Some(wasi) = wasi else {
            return Ok(());
        };
        if resources.is_none() {
            let quota = environment.domain().quota();
            *resources = Some(Box::new(Resources::new(quota, process.host_memory())?));
        }
        let resources = resources.as_mut().expect("they were created above");
        let sizes = &environment.machine().resource_sizes;
        resources.count(wasi.resources(), opening, sizes)
    }

    /// Records a file or directory that a component has opened.
    pub(crate) fn note_opened(&mut self, opened: &wasmtime::component::Resource<Descriptor>) {
        let Life {
            wasi, resources, ..
        } = self.life_mut();
        if let (Some(wasi), Some(resources)) = (wasi, resources) {
            resources.note_opened(wasi.resources(), opened);
        }
    }

    /// Returns a component's WASI context and the embedder's value of type `T`, for interfaces that
    /// need both.
    ///
    /// # Panics
    ///
    /// Panics if the guest is not a component.
    pub fn wasi_and_extension<T: Default + Send + 'static>(&mut self) -> (WasiCtxView<'_>, &mut T) {
        self.begin_component_call();
        self.extension::<T>();
        let life = self.life_mut();
        let wasi = life
            .wasi
            .as_mut()
            .expect("`begin_component_call` has created the context")
            .view();
        let extensions = life.extensions.as_mut();
        let value = extensions
            .and_then(|extensions| extensions.get_mut(&TypeId::of::<T>()))
            .expect("`extension` has created the value");
        (
            wasi,
            value
                .downcast_mut()
                .expect("the value stored under a type has that type"),
        )
    }
}

impl ResourceLimiter for Guest {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let pressure = self.machine().engines.pressure();
        if desired > current && pressure.shortage() == Shortage::Requests {
            // There is no memory left for any guest, regardless of this guest's limits.
            return Ok(false);
        }
        Ok(self.meter().memory_growing(current, desired, maximum))
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(self.meter().table_growing(current, desired, maximum))
    }

    fn instances(&self) -> usize {
        64
    }

    fn memories(&self) -> usize {
        64
    }

    fn tables(&self) -> usize {
        64
    }
}

impl WasiView for Guest {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        self.begin_component_call();
        self.wasi().view()
    }
}
