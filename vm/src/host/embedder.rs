//! Host functions added by the embedder.

use crate::environment::ResourceSize;
use crate::guest::Guest;
use wasmtime::{Caller, IntoFunc, Linker, WasmRet, WasmTyList, component};

type CoreLink = Box<dyn Fn(&mut Linker<Guest>) -> wasmtime::Result<()> + Send + Sync>;
type ComponentLink =
    Box<dyn Fn(&mut component::Linker<Guest>) -> wasmtime::Result<()> + Send + Sync>;

/// Additional functions, provided by the embedder, that guests can import.
///
/// They are granted like any other function: to modules by a prefix of `namespace::name`, and to
/// components by a prefix of the package or interface name.
///
/// ```
/// use lunatic_vm::{Call, Caller, Guest, Host, Vm};
///
/// let mut host = Host::default();
/// host.function("my::log", "line", |caller: Caller<'_, Guest>, address: u32, length: u32| {
///     let mut call = Call::new(caller);
///     println!("{}", call.text(address, length)?);
///     Ok(())
/// });
/// let vm = Vm::builder().host(host).build()?;
/// let mut config = vm.config();
/// config.allow("my::log");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Default)]
pub struct Host {
    names: Vec<String>,
    core: Vec<CoreLink>,
    components: Vec<ComponentLink>,
    sizes: Vec<ResourceSize>,
}

impl Host {
    /// Adds a function that returns without waiting.
    pub fn function<Params, Results>(
        &mut self,
        namespace: &str,
        name: &str,
        function: impl IntoFunc<Guest, Params, Results> + Clone,
    ) -> &mut Host {
        let (module, field) = (namespace.to_string(), name.to_string());
        self.names.push(format!("{namespace}::{name}"));
        self.core.push(Box::new(move |linker| {
            linker
                .func_wrap(&module, &field, function.clone())
                .map(drop)
        }));
        self
    }

    /// Adds a function that may suspend the calling process. If the process is killed while it
    /// waits, the future is dropped.
    pub fn waiting_function<Params, Results, F>(
        &mut self,
        namespace: &str,
        name: &str,
        function: F,
    ) -> &mut Host
    where
        Params: WasmTyList,
        Results: WasmRet,
        F: for<'a> Fn(Caller<'a, Guest>, Params) -> Box<dyn Future<Output = Results> + Send + 'a>
            + Clone
            + Send
            + Sync
            + 'static,
    {
        let (module, field) = (namespace.to_string(), name.to_string());
        self.names.push(format!("{namespace}::{name}"));
        self.core.push(Box::new(move |linker| {
            linker
                .func_wrap_async(&module, &field, function.clone())
                .map(drop)
        }));
        self
    }

    /// Adds a package or interface, such as `my:db` or `my:db/query`, that components can import.
    /// An environment grants it by name.
    pub fn component(
        &mut self,
        name: &str,
        link: impl Fn(&mut component::Linker<Guest>) -> wasmtime::Result<()> + Send + Sync + 'static,
    ) -> &mut Host {
        self.names.push(name.to_string());
        self.components.push(Box::new(link));
        self
    }

    /// Adds a function that returns an upper bound on the host memory that a component's resource
    /// takes up, in bytes, or `None` if the function does not know the resource's type.
    ///
    /// The resources in a component's table are counted before each host call that the component
    /// makes, and count toward [`Limit::HostMemory`](crate::Limit::HostMemory). A component that
    /// reaches this limit is terminated.
    pub fn resource_size(&mut self, size: ResourceSize) -> &mut Host {
        self.sizes.push(size);
        self
    }

    pub(crate) fn resource_sizes(&self) -> Box<[ResourceSize]> {
        self.sizes.as_slice().into()
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = String> {
        self.names.iter().cloned()
    }

    pub(crate) fn link(&self, linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
        self.core.iter().try_for_each(|link| link(linker))
    }

    pub(crate) fn link_components(
        &self,
        linker: &mut component::Linker<Guest>,
    ) -> wasmtime::Result<()> {
        self.components.iter().try_for_each(|link| link(linker))
    }
}
