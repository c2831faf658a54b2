//! Decides what the machine refuses to do when memory is scarce, to avoid being killed.
//!
//! The memory left is the minimum of what the computer has left, what a control group (version 1 or
//! 2) allows this operating system process, and what the host program allows the machine. It is
//! read when memory is requested, at most once every few milliseconds, and never while the machine
//! is idle.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{LazyLock, OnceLock};
use std::time::{Duration, Instant};

/// What is refused when memory is scarce. Each level includes the previous ones.
///
/// ```
/// use lunatic_vm::{Shortage, Vm};
///
/// // A machine that may use only one byte refuses everything that needs memory.
/// let vm = Vm::builder().memory(1).build()?;
/// assert!(vm.shortage() >= Shortage::Compiles);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shortage {
    /// Memory is not scarce.
    None,
    /// Modules for guests are not compiled, and functions are not deployed.
    Compiles,
    /// The program that holds the most memory cannot spawn processes.
    GreedySpawns,
    /// Guests cannot accept connections.
    Accepts,
    /// Requests are not served, processes are not spawned, and memories cannot grow.
    Requests,
}

impl Shortage {
    const ALL: [Shortage; 5] = [
        Shortage::None,
        Shortage::Compiles,
        Shortage::GreedySpawns,
        Shortage::Accepts,
        Shortage::Requests,
    ];

    /// Returns what is refused when `left` of `all` bytes are left.
    ///
    /// The reserve is an eighth of `all`, at most 1 GiB. Each quarter of the reserve that is used
    /// raises the level by one.
    fn at(left: u64, all: u64) -> Shortage {
        let reserve = (all / 8).clamp(1, MAX_RESERVE);
        match left.saturating_mul(4).div_ceil(reserve) {
            _ if left >= reserve => Shortage::None,
            4.. => Shortage::Compiles,
            3 => Shortage::GreedySpawns,
            2 => Shortage::Accepts,
            _ => Shortage::Requests,
        }
    }

    /// Returns the next higher level.
    fn raised(self) -> Shortage {
        Shortage::ALL[(self as usize + 1).min(Shortage::ALL.len() - 1)]
    }

    fn words(self) -> &'static str {
        match self {
            Shortage::None => "nothing is refused any more",
            Shortage::Compiles => {
                "modules for guests are not compiled, and functions are not deployed"
            }
            Shortage::GreedySpawns => {
                "in addition, the program that holds the most memory cannot spawn processes"
            }
            Shortage::Accepts => "in addition, guests cannot accept connections",
            Shortage::Requests => {
                "in addition, requests are not served, processes are not spawned, and memories cannot grow"
            }
        }
    }
}

/// The maximum reserve, in bytes.
const MAX_RESERVE: u64 = 1 << 30;

/// How long a reading stays valid.
const FRESH: Duration = Duration::from_millis(20);

/// How many more processes may be alive than at the last reading. A new process uses less than 64
/// KiB.
const MORE_PROCESSES: u64 = 512;

/// If all tasks in the control group spent at least this percentage of the last ten seconds waiting
/// for memory, the level is raised by one.
const STALLED: f64 = 10.0;

/// Monitors how much memory a machine has left.
#[derive(Debug)]
pub(crate) struct Pressure {
    /// The amount of memory that the host program allows the machine. `None` if only the computer
    /// limits it.
    allowed: Option<u64>,
    /// The time of the last reading, in milliseconds since the first reading by any machine.
    read_at: AtomicU64,
    /// The number of live processes at the last reading, or the lowest number since then.
    alive: AtomicU64,
    left: AtomicU64,
    /// The current level's number.
    level: AtomicU8,
}

impl Pressure {
    pub(crate) fn new(allowed: Option<u64>) -> Pressure {
        Pressure {
            allowed,
            read_at: AtomicU64::new(u64::MAX),
            alive: AtomicU64::new(0),
            left: AtomicU64::new(u64::MAX),
            level: AtomicU8::new(0),
        }
    }

    /// Returns what is currently refused.
    pub(crate) fn shortage(&self) -> Shortage {
        static BEGINNING: LazyLock<Instant> = LazyLock::new(Instant::now);
        let now = BEGINNING.elapsed().as_millis() as u64;
        // Relaxed, here and below, because a late or repeated reading is harmless.
        let read_at = self.read_at.load(Ordering::Relaxed);
        if read_at == u64::MAX || now.saturating_sub(read_at) >= FRESH.as_millis() as u64 {
            self.read_at.store(now, Ordering::Relaxed);
            self.read();
        }
        self.shortage_when_read()
    }

    /// Like [`Pressure::shortage`], but for a spawn, which itself uses memory. `alive` is the number
    /// of live processes.
    pub(crate) fn shortage_at_spawn(&self, alive: u64) -> Shortage {
        let before = self.alive.load(Ordering::Relaxed);
        if alive < before {
            self.alive.store(alive, Ordering::Relaxed);
        } else if alive >= before + MORE_PROCESSES {
            self.alive.store(alive, Ordering::Relaxed);
            self.read_at.store(u64::MAX, Ordering::Relaxed);
        }
        self.shortage()
    }

    /// Returns what was refused when memory was last read.
    pub(super) fn shortage_when_read(&self) -> Shortage {
        Shortage::ALL[usize::from(self.level.load(Ordering::Relaxed))]
    }

    /// Returns how many bytes were left at the last reading.
    pub(crate) fn left(&self) -> u64 {
        self.left.load(Ordering::Relaxed)
    }

    fn read(&self) {
        let own = self
            .allowed
            .map(|allowed| (allowed.saturating_sub(resident()), allowed));
        let group = Group::own().and_then(Group::left);
        let readings = [own, group, of_computer()];
        let level = readings
            .iter()
            .flatten()
            .map(|&(left, all)| Shortage::at(left, all))
            .max()
            .unwrap_or(Shortage::None);
        let is_stalled = || Group::own().is_some_and(Group::is_stalled);
        let level = match level {
            Shortage::None | Shortage::Requests => level,
            // If memory is already scarce and all tasks often wait for it, raise the level by one.
            _ if is_stalled() => level.raised(),
            _ => level,
        };
        let left = readings.iter().flatten().map(|(left, _)| *left).min();
        let left = left.unwrap_or(u64::MAX);
        self.left.store(left, Ordering::Relaxed);
        let before = self.level.swap(level as u8, Ordering::Relaxed);
        if level as u8 > before {
            log::warn!("{} MiB of memory is left: {}", left >> 20, level.words());
        } else if level == Shortage::None && before > 0 {
            log::info!("{} MiB of memory is left: {}", left >> 20, level.words());
        }
    }
}

/// Returns how many bytes of memory are available to this operating system process.
pub(super) fn available() -> u64 {
    let group = Group::own().and_then(Group::left);
    let readings = [group, of_computer()];
    let left = readings.iter().flatten().map(|(left, _)| *left).min();
    left.unwrap_or(u64::MAX)
}

/// Returns how much memory the computer has left, and how much it has in total.
fn of_computer() -> Option<(u64, u64)> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let kilobytes = |name| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        let number = line.trim().strip_suffix(" kB")?;
        number.parse::<u64>().ok()
    };
    Some((
        kilobytes("MemAvailable:")? << 10,
        kilobytes("MemTotal:")? << 10,
    ))
}

/// Returns this operating system process's resident memory.
fn resident() -> u64 {
    let pages = fs::read_to_string("/proc/self/statm")
        .ok()
        .and_then(|text| text.split(' ').nth(1)?.parse::<u64>().ok());
    pages.unwrap_or(0) * super::arena::page_size() as u64
}

/// The control groups that limit this operating system process's memory: its own group and the
/// groups that contain it.
#[derive(Debug)]
struct Group {
    /// The groups' directories, from innermost to outermost.
    directories: Vec<PathBuf>,
    files: &'static Files,
}

/// File names in one version of control groups.
#[derive(Debug)]
struct Files {
    limit: &'static str,
    usage: &'static str,
    /// The entry in `memory.stat` for file cache that can be dropped immediately.
    cache: &'static str,
}

const VERSION_1: Files = Files {
    limit: "memory.limit_in_bytes",
    usage: "memory.usage_in_bytes",
    cache: "total_inactive_file ",
};

const VERSION_2: Files = Files {
    limit: "memory.max",
    usage: "memory.current",
    cache: "inactive_file ",
};

impl Group {
    fn own() -> Option<&'static Group> {
        static OWN: OnceLock<Option<Group>> = OnceLock::new();
        OWN.get_or_init(|| {
            let text = fs::read_to_string("/proc/self/cgroup").ok()?;
            Group::find(&text, Path::new("/sys/fs/cgroup"))
        })
        .as_ref()
    }

    /// Finds the groups, given the contents of `/proc/self/cgroup` and the mount point of control
    /// groups.
    fn find(text: &str, root: &Path) -> Option<Group> {
        let of = |root: PathBuf, path: &str, files: &'static Files| {
            let path = path.trim_start_matches('/');
            // In a container, the path may be the host's, which does not exist in the container.
            let inner = Some(root.join(path)).filter(|path| path.join(files.usage).exists());
            let directories: Vec<PathBuf> = inner
                .as_deref()
                .unwrap_or(&root)
                .ancestors()
                .take_while(|path| path.starts_with(&root))
                .map(Path::to_path_buf)
                .collect();
            Group { directories, files }
        };
        text.lines().find_map(|line| {
            let mut parts = line.splitn(3, ':').skip(1);
            let (controllers, path) = (parts.next()?, parts.next()?);
            if controllers.split(',').any(|name| name == "memory") {
                return Some(of(root.join("memory"), path, &VERSION_1));
            }
            let is_version_2 = controllers.is_empty() && root.join("cgroup.controllers").exists();
            is_version_2.then(|| of(root.to_path_buf(), path, &VERSION_2))
        })
    }

    /// Returns how much memory is left in the group that has the least left, and that group's
    /// limit.
    fn left(&self) -> Option<(u64, u64)> {
        let number = |path: PathBuf| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
        let left = |directory: &PathBuf| {
            // `max`, or a number close to the maximum, means that there is no limit.
            let limit =
                number(directory.join(self.files.limit)).filter(|&limit| limit < 1 << 60)?;
            let usage = number(directory.join(self.files.usage))?;
            let stat = fs::read_to_string(directory.join("memory.stat")).unwrap_or_default();
            let cache = stat
                .lines()
                .find_map(|line| line.strip_prefix(self.files.cache)?.parse::<u64>().ok());
            let used = usage.saturating_sub(cache.unwrap_or(0));
            Some((limit.saturating_sub(used), limit))
        };
        self.directories.iter().filter_map(left).min()
    }

    /// Returns whether all tasks in the group are often waiting for memory.
    fn is_stalled(&self) -> bool {
        let stalled = |directory: &PathBuf| {
            let text = fs::read_to_string(directory.join("memory.pressure")).ok()?;
            let full = text
                .lines()
                .find_map(|line| line.strip_prefix("full avg10="))?;
            full.split(' ').next()?.parse::<f64>().ok()
        };
        let mut stalled = self.directories.iter().filter_map(stalled);
        stalled.next().is_some_and(|percent| percent >= STALLED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn more_is_refused_as_less_memory_is_left() {
        // With 8 GiB or more, the reserve is 1 GiB. With less, the reserve is an eighth of the
        // memory.
        for (all, reserve) in [
            (64 << 30, 1 << 30),
            (8 << 30, 1 << 30),
            (256 * MIB, 32 * MIB),
        ] {
            for (left, level) in [
                (all, Shortage::None),
                (reserve, Shortage::None),
                (reserve - 1, Shortage::Compiles),
                (reserve * 3 / 4, Shortage::GreedySpawns),
                (reserve / 2, Shortage::Accepts),
                (reserve / 4, Shortage::Requests),
                (0, Shortage::Requests),
            ] {
                assert_eq!(Shortage::at(left, all), level, "{left} of {all}");
            }
        }
        assert_eq!(
            Shortage::at(0, 1),
            Shortage::Requests,
            "requests must be refused when no memory is left"
        );
    }

    /// Writes files to a temporary directory.
    fn written(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a temporary directory can be created");
        for (name, text) in files {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().expect("the path is inside the root"))
                .and_then(|()| fs::write(path, text))
                .expect("the directory can be written to");
        }
        root
    }

    fn left(root: &tempfile::TempDir, groups: &str) -> Option<(u64, u64)> {
        Group::find(groups, root.path()).and_then(|group| group.left())
    }

    #[test]
    fn the_tightest_group_of_version_2_applies() {
        let root = written(&[
            ("cgroup.controllers", "memory"),
            ("a/memory.max", "1000\n"),
            ("a/memory.current", "900\n"),
            ("a/memory.stat", "anon 100\ninactive_file 300\n"),
            ("a/b/memory.max", "max\n"),
            ("a/b/memory.current", "500\n"),
            (
                "a/b/memory.pressure",
                "some avg10=50.00\nfull avg10=12.50 avg60=1.00 total=1\n",
            ),
        ]);
        assert_eq!(left(&root, "0::/a/b\n"), Some((400, 1000)));
        let group = Group::find("0::/a/b\n", root.path()).expect("a group exists");
        assert!(group.is_stalled());
    }

    #[test]
    fn a_group_of_version_1_applies() {
        let root = written(&[
            ("memory/a/memory.limit_in_bytes", "1000\n"),
            ("memory/a/memory.usage_in_bytes", "400\n"),
            (
                "memory/a/memory.stat",
                "inactive_file 1\ntotal_inactive_file 100\n",
            ),
            ("memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("memory/memory.usage_in_bytes", "400\n"),
        ]);
        let groups = "5:cpu,cpuacct:/a\n4:memory:/a\n0::/\n";
        assert_eq!(left(&root, groups), Some((700, 1000)));
    }

    #[test]
    fn in_a_container_the_root_is_the_group() {
        let root = written(&[
            ("cgroup.controllers", "memory"),
            ("memory.max", "1000\n"),
            ("memory.current", "100\n"),
        ]);
        assert_eq!(left(&root, "0::/docker/0123\n"), Some((900, 1000)));
        assert_eq!(
            left(&written(&[]), "0::/a\n"),
            None,
            "control groups are not mounted"
        );
    }

    #[test]
    fn a_machine_with_a_low_memory_limit_is_short_of_memory() {
        assert_eq!(Pressure::new(Some(1)).shortage(), Shortage::Requests);
        let pressure = Pressure::new(Some(u64::MAX));
        assert_eq!(pressure.shortage(), Pressure::new(None).shortage());
    }
}
