//! The state that the machine keeps for a spark.

use super::comm::{Comm, CommPipes};
use crate::Version;
use crate::functions::WeakFunctions;
use crate::request_id::RequestId;
use lunatic_vm::{Call, Failure};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The maximum number of functions that a spark can run concurrently.
pub(super) const MAX_FUNCTIONS: usize = 64;

/// What a spark's process is started with, in addition to its comm.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SpawnOptions {
    /// The request that the process serves, directly or indirectly.
    pub(super) request: Option<RequestId>,
    /// How many functions are in the chain that led to running this one.
    pub(super) depth: u32,
}

impl SpawnOptions {
    pub(super) fn for_request(request: RequestId) -> SpawnOptions {
        SpawnOptions {
            request: Some(request),
            depth: 0,
        }
    }
}

/// The state used by a spark's host functions.
#[derive(Default)]
pub(super) struct SparkState {
    /// The version that the process belongs to, or `None` if it does not belong to a function.
    pub(super) version: Option<Arc<Version>>,
    /// The functions that the spark can run.
    pub(super) functions: WeakFunctions,
    pub(super) options: SpawnOptions,
    /// The comm to the runner has the number 0.
    comms: BTreeMap<u64, Arc<Comm>>,
    next: u64,
    /// The text of the last failure.
    pub(super) why: String,
    /// Where a wait for several comms starts its search, so that each comm gets its turn.
    pub(super) offset: usize,
}

impl SparkState {
    pub(super) fn new(
        version: Arc<Version>,
        functions: WeakFunctions,
        pipes: CommPipes,
        options: SpawnOptions,
    ) -> SparkState {
        SparkState {
            version: Some(version),
            functions,
            options,
            comms: BTreeMap::from([(0, Arc::new(Comm::to_runner(pipes)))]),
            next: 1,
            ..SparkState::default()
        }
    }

    /// Returns the state of the guest making a call.
    pub(super) fn of<'a>(call: &'a mut Call<'_>) -> &'a mut SparkState {
        call.guest().extension()
    }

    /// Returns a comm.
    ///
    /// # Errors
    ///
    /// Traps if there is no comm with that number.
    pub(super) fn comm(&self, number: u64) -> Result<Arc<Comm>, Failure> {
        let comm = self.comms.get(&number).cloned();
        comm.ok_or_else(|| {
            Failure::trap(format!(
                "there is no comm with the number {number}; was it closed?"
            ))
        })
    }

    /// Returns a comm, if there is one with that number.
    pub(super) fn find(&self, number: u64) -> Option<&Arc<Comm>> {
        self.comms.get(&number)
    }

    /// Returns all comms, ordered by number.
    pub(super) fn comms(&self) -> impl Iterator<Item = (u64, &Arc<Comm>)> {
        self.comms.iter().map(|(number, comm)| (*number, comm))
    }

    /// Adds a comm and returns its number, which this process never uses for another comm.
    pub(super) fn add(&mut self, comm: Comm) -> u64 {
        let number = self.next;
        self.next += 1;
        self.comms.insert(number, Arc::new(comm));
        number
    }

    /// Returns whether another function can be run.
    pub(super) fn has_room(&self) -> bool {
        self.comms.keys().filter(|number| **number != 0).count() < MAX_FUNCTIONS
    }

    /// Removes a comm.
    pub(super) fn close(&mut self, number: u64) -> Option<Arc<Comm>> {
        self.comms.remove(&number)
    }
}
