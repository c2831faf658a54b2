//! A process's descriptors: its streams, files and directories.

use super::beneath::{Base, PathBelow, Scope};
use super::directory::Access;
use super::errno::Errno;
use super::file::OpenFile;
use super::listing::Listing;
use super::pace::Pace;
use super::stdio::{Inlet, Outlet};
use crate::environment::{Permit, Quota};
use lunatic_abi::Limit;
use std::collections::BTreeSet;
use std::fs::File;
use std::sync::Arc;

/// A file, directory or stream that a number refers to.
pub(crate) enum Descriptor {
    Input(Inlet),
    Output(Outlet),
    File(OpenFile),
    Directory(OpenDirectory),
}

/// A process's open directory.
pub(crate) struct OpenDirectory {
    pub(crate) place: Place,
    /// The names in the directory. Set by the first read.
    pub(crate) listing: Option<Arc<Listing>>,
}

/// An open directory and what may be done below it.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) directory: Arc<File>,
    pub(crate) scope: Scope,
    pub(crate) access: Access,
    pub(crate) pace: Arc<Pace>,
    /// The path under which the environment grants the directory. `None` if the process itself
    /// opened the directory.
    pub(crate) granted_as: Option<Arc<str>>,
}

impl Place {
    pub(crate) fn base(&self) -> Base<'_> {
        Base {
            directory: &self.directory,
            scope: self.scope,
        }
    }

    /// Runs an operation below the directory.
    pub(crate) async fn run<R: Send + 'static>(
        &self,
        act: impl FnOnce(Base<'_>) -> R + Send + 'static,
    ) -> R {
        let place = self.clone();
        self.pace.run(move || act(place.base())).await
    }

    /// Returns the descriptor of a directory that was opened below this directory.
    pub(crate) fn opened(&self, directory: File) -> Descriptor {
        Descriptor::Directory(OpenDirectory {
            place: Place {
                directory: Arc::new(directory),
                scope: Scope::Beneath,
                access: self.access,
                pace: self.pace.clone(),
                granted_as: None,
            },
            listing: None,
        })
    }
}

/// A process's descriptors, by number.
pub(crate) struct Table {
    entries: Vec<Option<Descriptor>>,
    /// The unused numbers below the highest one in use.
    free: BTreeSet<u32>,
    /// How many files and directories the process may have open, and how many it has open.
    allowed: usize,
    open: usize,
    /// The permit for the descriptors that the process has taken from those shared by the
    /// environment's processes.
    permit: Option<Permit>,
    /// How many descriptors the permit is for.
    taken: usize,
    quota: Arc<Quota>,
}

/// How many unused descriptors a process keeps, so that a process that constantly opens and closes
/// files is not charged again for each file.
const SPARE: usize = 4;

impl Table {
    /// Creates a table of streams and granted directories.
    pub(crate) fn new(
        given: impl Iterator<Item = Descriptor>,
        allowed: usize,
        quota: Arc<Quota>,
    ) -> Table {
        Table {
            entries: given.map(Some).collect(),
            free: BTreeSet::new(),
            allowed,
            open: 0,
            permit: None,
            taken: 0,
            quota,
        }
    }

    /// Returns a descriptor.
    pub(crate) fn get(&mut self, number: u32) -> Result<&mut Descriptor, Errno> {
        let entry = self.entries.get_mut(number as usize);
        entry.and_then(Option::as_mut).ok_or(Errno::Badf)
    }

    /// Returns a file.
    pub(crate) fn file(&mut self, number: u32) -> Result<&mut OpenFile, Errno> {
        match self.get(number)? {
            Descriptor::File(file) => Ok(file),
            _ => Err(Errno::Badf),
        }
    }

    /// Returns a file that has a position.
    pub(crate) fn seekable(&mut self, number: u32) -> Result<&mut OpenFile, Errno> {
        match self.get(number)? {
            Descriptor::File(file) if file.is_regular => Ok(file),
            Descriptor::Directory(_) => Err(Errno::Badf),
            _ => Err(Errno::Spipe),
        }
    }

    /// Returns a directory.
    pub(crate) fn directory(&mut self, number: u32) -> Result<&mut OpenDirectory, Errno> {
        match self.get(number)? {
            Descriptor::Directory(directory) => Ok(directory),
            _ => Err(Errno::Badf),
        }
    }

    /// Returns where else a path may lead if it was not found below a granted directory or leads
    /// out of that directory: to a path below the directory granted as `/`, if there is one.
    ///
    /// Guests do not distinguish a path below `/` from a path below the current directory. A
    /// directory that is also granted under its path in `/` may contain links to other files below
    /// `/`.
    pub(crate) fn elsewhere(&self, from: &Place, path: &PathBelow) -> Option<(Place, PathBelow)> {
        let granted = || {
            self.entries
                .iter()
                .flatten()
                .filter_map(|entry| match entry {
                    Descriptor::Directory(directory) => {
                        Some((&directory.place, directory.place.granted_as.as_deref()?))
                    }
                    _ => None,
                })
        };
        let name = from.granted_as.as_deref()?;
        let (root, _) = granted().find(|(place, _)| place.scope == Scope::Root)?;
        // If the rights differ, the root must not stand in for the directory.
        if from.scope == Scope::Root || from.access != root.access {
            return None;
        }
        if !from.base().leads_out(path) {
            let is_absolute = name == "." && from.base().stat(&path.first_name(), false).is_err();
            return is_absolute.then(|| (root.clone(), path.clone()));
        }
        // This is the same directory, under a path that begins at the root.
        let own = from.base().identity()?;
        let names = granted().filter(|(place, _)| place.base().identity() == Some(own));
        names
            .filter_map(|(_, name)| PathBelow::new(name.strip_prefix('/')?.as_bytes()).ok())
            .find(|name| root.base().identity_of(name) == Some(own))
            .and_then(|name| Some((root.clone(), name.join(path)?)))
    }

    /// Reserves a descriptor for a file that the process is about to open.
    pub(crate) fn take_room(&mut self) -> Result<(), Errno> {
        if self.open >= self.allowed {
            return Err(Errno::Mfile);
        }
        if self.open < self.taken {
            return Ok(());
        }
        let wanted = self.open as u64 + 1;
        match &mut self.permit {
            Some(permit) => permit.resize(wanted).map_err(|_| Errno::Nfile)?,
            None => {
                let permit = self.quota.permit(Limit::Descriptors, wanted);
                self.permit = Some(permit.map_err(|_| Errno::Nfile)?);
            }
        }
        self.taken = self.open + 1;
        Ok(())
    }

    /// Adds an opened file or directory under the lowest free number.
    pub(crate) fn insert(&mut self, descriptor: Descriptor) -> Result<u32, Errno> {
        self.take_room()?;
        self.open += 1;
        Ok(match self.free.pop_first() {
            Some(number) => {
                self.entries[number as usize] = Some(descriptor);
                number
            }
            None => {
                self.entries.push(Some(descriptor));
                self.entries.len() as u32 - 1
            }
        })
    }

    /// Removes a descriptor.
    pub(crate) fn remove(&mut self, number: u32) -> Result<Descriptor, Errno> {
        let entry = self.entries.get_mut(number as usize);
        let descriptor = entry.and_then(Option::take).ok_or(Errno::Badf)?;
        self.free.insert(number);
        if descriptor.is_counted() {
            self.open -= 1;
            if self.open + SPARE < self.taken
                && let Some(permit) = &mut self.permit
                && permit.resize(self.open as u64).is_ok()
            {
                self.taken = self.open;
            }
        }
        Ok(descriptor)
    }

    /// Moves a descriptor to another descriptor's number, and returns the descriptor that it
    /// replaced.
    pub(crate) fn renumber(&mut self, from: u32, to: u32) -> Result<Option<Descriptor>, Errno> {
        self.get(from)?;
        self.get(to)?;
        if from == to {
            return Ok(None);
        }
        let replaced = self.remove(to)?;
        self.free.remove(&to);
        self.entries[to as usize] = self.entries[from as usize].take();
        self.free.insert(from);
        Ok(Some(replaced))
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        let entries = std::mem::take(&mut self.entries);
        let (heavy, _): (Vec<_>, Vec<_>) = entries
            .into_iter()
            .flatten()
            .partition(Descriptor::is_heavy_to_close);
        if !heavy.is_empty() {
            blocking::unblock(|| drop(heavy)).detach();
        }
    }
}

impl Descriptor {
    /// Returns whether closing the descriptor takes a long time.
    pub(crate) fn is_heavy_to_close(&self) -> bool {
        matches!(self, Descriptor::File(file) if file.is_heavy_to_close())
    }

    /// Returns whether the process has opened the descriptor.
    fn is_counted(&self) -> bool {
        match self {
            Descriptor::Input(_) | Descriptor::Output(_) => false,
            Descriptor::File(_) => true,
            Descriptor::Directory(directory) => directory.place.granted_as.is_none(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::Limits;

    fn directory(granted_as: Option<&str>) -> Descriptor {
        Descriptor::Directory(OpenDirectory {
            place: Place {
                directory: Arc::new(tempfile::tempfile().expect("a temporary file can be created")),
                scope: Scope::Beneath,
                access: Access::Read,
                pace: Arc::default(),
                granted_as: granted_as.map(Arc::from),
            },
            listing: None,
        })
    }

    fn table(allowed: usize) -> Table {
        let given = [Descriptor::Input(Inlet::Null), directory(Some("."))];
        let quota = Arc::new(Quota::new(Limits::default(), None));
        Table::new(given.into_iter(), allowed, quota)
    }

    #[test]
    fn the_lowest_free_number_is_next() {
        let mut table = table(10);
        let numbers = [(); 3].map(|()| table.insert(directory(None)));
        assert_eq!(numbers, [Ok(2), Ok(3), Ok(4)]);
        for number in [3, 0, 2] {
            assert!(table.remove(number).is_ok());
            assert!(table.get(number).is_err() && table.remove(number).is_err());
        }
        let numbers = [(); 4].map(|()| table.insert(directory(None)));
        assert_eq!(numbers, [Ok(0), Ok(2), Ok(3), Ok(5)]);
    }

    #[test]
    fn only_what_the_process_has_opened_counts() {
        let mut table = table(2);
        let (one, other) = (table.insert(directory(None)), table.insert(directory(None)));
        assert_eq!((one, other), (Ok(2), Ok(3)));
        assert_eq!(table.insert(directory(None)), Err(Errno::Mfile));
        assert!(table.remove(1).is_ok());
        assert_eq!(
            table.take_room(),
            Err(Errno::Mfile),
            "descriptor 1 was granted, so it did not count"
        );
        assert!(
            table
                .renumber(2, 3)
                .is_ok_and(|replaced| replaced.is_some())
        );
        assert_eq!(
            table.insert(directory(None)),
            Ok(1),
            "descriptor 3 was replaced"
        );
        assert_eq!(table.take_room(), Err(Errno::Mfile));
    }

    #[test]
    fn a_descriptor_can_only_be_renumbered_to_a_number_in_use() {
        let mut table = table(2);
        assert_eq!(table.insert(directory(None)), Ok(2));
        assert!(table.renumber(2, 7).is_err());
        assert!(table.renumber(7, 2).is_err());
        assert!(
            table
                .renumber(2, 2)
                .is_ok_and(|replaced| replaced.is_none())
        );
        assert!(matches!(
            table.renumber(2, 0),
            Ok(Some(Descriptor::Input(_)))
        ));
        assert!(table.directory(0).is_ok() && table.get(2).is_err());
    }
}
