//! What processes that are spawned alike have in common.
//!
//! Most processes run the same function as others with the same parent, and differ from them only
//! in their parameters. What they have in common is looked up and allocated once. Since they share
//! its parts, a spawn does not change the counts of references to the environment and the module,
//! which all workers would contend for.

use super::linked::Linked;
use crate::engine::EngineKind;
use crate::guest::{Origin, Setting};
use crate::machine::{Environment, Role};
use crate::module::{EntryPointIndex, Module};
use std::convert::Infallible;
use std::ops::Deref;
use std::sync::Arc;
use wasmtime::Val;

/// What processes that run one function in one environment have in common.
pub(crate) struct Template {
    setting: Arc<Setting>,
    role: Arc<Role>,
    linked: Arc<Linked>,
    entry: EntryPointIndex,
}

impl Template {
    /// Creates a template for processes that run one of a module's functions, whose name is
    /// `function`, in an environment.
    pub(crate) fn new(
        setting: Arc<Setting>,
        function: &str,
        linked: Arc<Linked>,
        entry: EntryPointIndex,
    ) -> Template {
        let role = setting.environment().role(function);
        Template {
            setting,
            role,
            linked,
            entry,
        }
    }

    /// Returns an equal template that shares nothing with this one, for a parent that spawns many
    /// processes: its children then do not contend with those of other parents.
    pub(crate) fn anew(&self) -> Template {
        let setting = Setting::new(self.environment().anew(), self.setting.origin().clone());
        let linked = self.linked.clone();
        Template::new(Arc::new(setting), self.function(), linked, self.entry)
    }

    pub(crate) fn setting(&self) -> &Arc<Setting> {
        &self.setting
    }

    pub(crate) fn environment(&self) -> &Environment {
        self.setting.environment()
    }

    pub(crate) fn module(&self) -> &Module {
        match self.setting.origin() {
            Origin::Module(module) => module,
            Origin::Component(_) => unreachable!("only a module's processes have a template"),
        }
    }

    pub(crate) fn role(&self) -> &Arc<Role> {
        &self.role
    }

    /// Returns the name of the function.
    pub(crate) fn function(&self) -> &str {
        &self.role.name
    }

    /// Returns the function's position among the module's entry points.
    pub(crate) fn entry(&self) -> EntryPointIndex {
        self.entry
    }

    pub(crate) fn linked(&self) -> &Linked {
        &self.linked
    }

    /// Returns the kind of engine that the processes run on.
    pub(crate) fn kind(&self) -> EngineKind {
        self.linked.kind
    }
}

/// The parameters of a function that a process runs. A few are stored in place.
pub(crate) enum Parameters {
    Few([Val; FEW], usize),
    Many(Vec<Val>),
}

/// The number of parameters of the guest library's entry point.
const FEW: usize = 2;

impl Parameters {
    /// Collects parameters, or returns the first error.
    pub(crate) fn collect<E>(
        values: impl ExactSizeIterator<Item = Result<Val, E>>,
    ) -> Result<Parameters, E> {
        if values.len() > FEW {
            return values.collect::<Result<_, E>>().map(Parameters::Many);
        }
        let (mut few, mut count) = ([Val::I32(0); FEW], 0);
        for value in values {
            few[count] = value?;
            count += 1;
        }
        Ok(Parameters::Few(few, count))
    }
}

impl Deref for Parameters {
    type Target = [Val];

    fn deref(&self) -> &[Val] {
        match self {
            Parameters::Few(values, count) => &values[..*count],
            Parameters::Many(values) => values,
        }
    }
}

impl From<&[Val]> for Parameters {
    fn from(values: &[Val]) -> Parameters {
        let values = values.iter().map(|value| Ok::<_, Infallible>(*value));
        Parameters::collect(values).unwrap_or_else(|impossible| match impossible {})
    }
}
