//! Lets higher layers attach a value to compiled code. Only those layers know the value's type.

use std::any::Any;
use std::sync::OnceLock;

/// A value whose type only its owner knows.
#[derive(Default)]
pub(crate) struct Extension(OnceLock<Box<dyn Any + Send + Sync>>);

impl Extension {
    /// Returns the value, if it has been created.
    pub(crate) fn get<T: 'static>(&self) -> Option<&T> {
        let value = self.0.get()?;
        Some(value.downcast_ref().expect("each extension has one owner"))
    }

    /// Returns the value, creating it if necessary.
    pub(crate) fn get_or_init<T: Send + Sync + 'static>(&self, make: impl FnOnce() -> T) -> &T {
        let value = self.0.get_or_init(|| Box::new(make()));
        value.downcast_ref().expect("each extension has one owner")
    }
}
