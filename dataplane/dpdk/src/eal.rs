//! The environment abstraction layer of DPDK: memory, devices and threads, once per process.

use std::ffi::{CString, c_char};
use std::fmt;
use std::marker::PhantomData;
use std::num::NonZeroU32;
use std::os::unix::ffi::OsStrExt;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dpdk_sys::rte_mempool;
use rustix::mm::MlockAllFlags;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::errno::Errno;
use crate::runtime_dir::RuntimeDir;
use crate::spec::PciAddress;

/// Set by the first attempt to start EAL; libdpdk does not take a second one in a process.
static STARTED: AtomicBool = AtomicBool::new(false);

/// Where packet memory comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// Hugepages through files in hugetlbfs; `mb` is reserved at start, more on demand.
    Hugepages {
        /// MiB to reserve at start; `None` for what pools ask for later.
        mb: Option<NonZeroU32>,
    },
    /// Hugepages that leave no file behind and need no mount; no other process can attach.
    PrivateHugepages {
        /// As in [`Memory::Hugepages`].
        mb: Option<NonZeroU32>,
    },
    /// Ordinary pages (`--no-huge`): slower, works everywhere, never grows beyond `mb`.
    Ordinary {
        /// MiB taken at start for everything: pools, rings, devices.
        mb: NonZeroU32,
    },
}

/// The least severe message of libdpdk that is still logged (to stderr and syslog).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of syslog")]
pub enum LogLevel {
    Error = 4,
    Warning = 5,
    Notice = 6,
    Info = 7,
    Debug = 8,
}

/// How EAL starts. [`EalOptions::default`] is a private instance on hugepages without PCI.
#[derive(Clone, Debug)]
pub struct EalOptions {
    /// CPU on which EAL's own thread of control is told to run; `None` for where the caller may
    /// run. Either way the caller's affinity is what it was when [`Eal::start`] returns.
    pub main_cpu: Option<u16>,
    /// Where packet memory comes from.
    pub memory: Memory,
    /// Name under which files of this instance are kept and locked in the runtime directory, so
    /// that a second instance with the same name is refused and tools of DPDK can attach. They are
    /// removed when EAL ends. `None` keeps no files.
    pub file_prefix: Option<String>,
    /// PCI devices to take. Empty: the PCI bus is not looked at.
    pub pci_allow: Vec<PciAddress>,
    /// The least severe message to log.
    pub log_level: LogLevel,
    /// Serve DPDK's telemetry socket; needs `file_prefix`.
    pub telemetry: bool,
    /// Bring all memory of the process in and keep it there (`mlockall`), now and from now on, so
    /// that a polling core meets no page fault. Without CAP_IPC_LOCK it is not done, and
    /// [`Eal::memory_locked`] says so.
    pub lock_memory: bool,
}

impl Default for EalOptions {
    fn default() -> Self {
        EalOptions {
            main_cpu: None,
            memory: Memory::PrivateHugepages { mb: None },
            file_prefix: None,
            pci_allow: Vec::new(),
            log_level: LogLevel::Warning,
            telemetry: false,
            lock_memory: false,
        }
    }
}

/// Why EAL did not start. The message is shown to the operator as is.
#[derive(Debug, thiserror::Error)]
pub enum EalError {
    /// The process has started EAL, or tried to, before.
    #[error("dpdk was started before in this process: it starts once, restart the process")]
    StartedBefore,
    /// No hugepage is free.
    #[error(
        "no free hugepages ({total} reserved): run `./hugepage-setup reserve` as root, or start \
         without hugepages (slower)"
    )]
    NoHugepages {
        /// Pages of any size that the host has reserved.
        total: u64,
    },
    /// Fewer hugepages are free than were asked for.
    #[error(
        "{wanted_mb} MiB of hugepages asked for, {free_mb} MiB free: run `./hugepage-setup \
         reserve --memory {wanted_mb}M` as root, or ask for less"
    )]
    TooFewHugepages {
        /// MiB asked for.
        wanted_mb: u64,
        /// MiB free.
        free_mb: u64,
    },
    /// Hugepages through files need hugetlbfs.
    #[error(
        "hugetlbfs is not mounted: run `./hugepage-setup reserve` as root, or use private \
         hugepages"
    )]
    HugepagesNotMounted,
    /// The runtime directory is locked by a running instance.
    #[error(
        "another instance with the file prefix `{prefix}` is running: stop it, or give this one \
         another prefix"
    )]
    SecondInstance {
        /// The file prefix of both.
        prefix: String,
    },
    /// The process may not do what EAL needs.
    #[error("no permission ({errno}): run as root, or grant what the text names; dpdk says: {log}")]
    NoPermission {
        /// What the system answered.
        errno: Errno,
        /// EAL's own words.
        log: String,
    },
    /// An option holds a NUL byte.
    #[error("option `{option}` holds a NUL byte")]
    NulByte {
        /// The option with the byte left out.
        option: String,
    },
    /// Anything else.
    #[error("dpdk did not start: {errno}; dpdk says: {log}")]
    Refused {
        /// What EAL answered.
        errno: Errno,
        /// EAL's own words.
        log: String,
    },
    /// EAL started but has no room for the receive timestamp in mbufs.
    #[error("no room for the receive timestamp in mbufs: {errno}")]
    Timestamps {
        /// What libdpdk answered.
        errno: Errno,
    },
}

/// Why a thread cannot have a mempool cache.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// The thread holds a registration already.
    #[error("this thread is registered with dpdk already")]
    RegisteredBefore,
    /// All of libdpdk's slots for threads are taken.
    #[error("dpdk takes no more threads: {errno}")]
    Refused {
        /// What libdpdk answered.
        errno: Errno,
    },
}

/// EAL, running. Cheap to clone; it ends when the last clone, pool, port and queue is dropped.
#[derive(Clone)]
pub struct Eal {
    shared: Arc<Shared>,
}

/// Everything that is done rarely and one at a time.
pub(crate) struct Control {
    /// Threads that may have mbufs in a mempool cache of their own.
    registered_threads: usize,
    /// Pools whose owner is gone, kept until no mbuf of theirs is out.
    retired_pools: Vec<NonNull<rte_mempool>>,
    /// Numbers the virtual devices of this process.
    pub(crate) devices_made: u32,
    /// Cables of [`crate::ring`] with one end free.
    pub(crate) cables: Vec<Arc<crate::ring::Cable>>,
}

pub(crate) struct Shared {
    control: Mutex<Control>,
    memory_locked: bool,
    /// `None` where it has no name of its own and other instances may keep files there.
    runtime_dir: Option<RuntimeDir>,
}

// SAFETY: the pool pointers are only used under the lock, and libdpdk's pools are not tied to a
// thread.
unsafe impl Send for Control {}

impl Eal {
    /// Starts EAL. The calling thread keeps the CPU affinity that it had.
    ///
    /// # Errors
    /// [`EalError`]; what can be seen to fail is refused before libdpdk is touched.
    pub fn start(options: &EalOptions) -> Result<Eal, EalError> {
        check_hugepages(options.memory)?;
        let arguments = arguments(options)?;
        if STARTED.swap(true, Ordering::AcqRel) {
            return Err(EalError::StartedBefore);
        }
        let affinity = sched_getaffinity(None).ok();
        let (status, log) = capture_log(|| init(arguments));
        if let Some(affinity) = affinity {
            // EAL pins its caller, and every thread started later would inherit that. Setting a
            // mask that this thread had a moment ago cannot fail but when CPUs go offline.
            let _ = sched_setaffinity(None, &affinity);
        }
        if status < 0 {
            return Err(refused(Errno::last(), log, options));
        }
        if !log.is_empty() {
            // Warnings of a start that worked; the operator has asked for this level.
            let _ = std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("{log}\n"));
        }
        // SAFETY: sets a thread-local integer. The thread that starts EAL becomes one without a
        // mempool cache like any other, and registers like any other if it polls.
        unsafe { dpdk_sys::shim_forget_lcore_id() };
        crate::mbuf::register_timestamps().map_err(|errno| EalError::Timestamps { errno })?;
        let control = Control {
            registered_threads: 0,
            retired_pools: Vec::new(),
            devices_made: 0,
            cables: Vec::new(),
        };
        let memory_locked = options.lock_memory && lock_memory();
        let runtime_dir = options
            .file_prefix
            .as_ref()
            .and_then(|_| runtime_dir(options.memory));
        let control = Mutex::new(control);
        Ok(Eal {
            shared: Arc::new(Shared {
                control,
                memory_locked,
                runtime_dir,
            }),
        })
    }

    /// Whether all memory of the process is locked.
    #[must_use]
    pub fn memory_locked(&self) -> bool {
        self.shared.memory_locked
    }

    /// Gives the calling thread a mempool cache, for as long as the registration lives. Without
    /// it every allocation and free of that thread goes to the ring that all threads share.
    ///
    /// # Errors
    /// [`RegisterError`]: twice on one thread, or more than 127 threads.
    pub fn register_thread(&self) -> Result<ThreadRegistration, RegisterError> {
        // SAFETY: reads a thread-local integer.
        if unsafe { dpdk_sys::shim_lcore_id() } != u32::MAX {
            return Err(RegisterError::RegisteredBefore);
        }
        let mut control = self.control();
        // SAFETY: EAL has started; registration of this thread is undone on this thread, because
        // `ThreadRegistration` is not Send.
        if unsafe { dpdk_sys::rte_thread_register() } != 0 {
            return Err(RegisterError::Refused {
                errno: Errno::last(),
            });
        }
        control.registered_threads += 1;
        drop(control);
        Ok(ThreadRegistration {
            eal: self.clone(),
            on_this_thread: PhantomData,
        })
    }

    /// The release of libdpdk that runs, such as `DPDK 22.11.11`.
    #[must_use]
    pub fn dpdk_release(&self) -> String {
        // SAFETY: a static string.
        let release = unsafe { std::ffi::CStr::from_ptr(dpdk_sys::rte_version()) };
        release.to_string_lossy().into_owned()
    }

    /// The lock of everything rare. Never taken on the packet path.
    pub(crate) fn control(&self) -> MutexGuard<'_, Control> {
        self.shared
            .control
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a pool whose owner is gone, and frees it now or when it is safe.
    pub(crate) fn retire_pool(&self, pool: NonNull<rte_mempool>) {
        let mut control = self.control();
        control.retired_pools.push(pool);
        control.free_retired_pools();
    }
}

impl Control {
    /// Frees the retired pools of which no mbuf is out.
    ///
    /// An mbuf whose owner lives on keeps its pool, so that no `Mbuf` ever points into freed
    /// memory. The count of what is out is exact here: nobody can take from a retired pool (that
    /// needs its owner or a queue, which holds its owner), a thread without cache returns mbufs
    /// by one update of a ring after which it does not touch the pool, and while any registered
    /// thread could be between its cache and the ring nothing is freed at all.
    fn free_retired_pools(&mut self) {
        if self.registered_threads != 0 {
            return;
        }
        self.retired_pools.retain(|pool| {
            // SAFETY: retired pools are valid until freed here, and then leave the list.
            let out = unsafe { dpdk_sys::rte_mempool_in_use_count(pool.as_ptr()) };
            if out == 0 {
                // SAFETY: as above, and no mbuf of it is out.
                unsafe { dpdk_sys::rte_mempool_free(pool.as_ptr()) };
            }
            out != 0
        });
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let control = self
            .control
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        control.cables.clear();
        control.free_retired_pools();
        // Cleaning up unmaps all packet memory. With frames still owned somewhere that is left to
        // the end of the process.
        if control.retired_pools.is_empty() {
            // SAFETY: EAL has started, and every port, pool and registration is gone, since each
            // holds this.
            unsafe { dpdk_sys::rte_eal_cleanup() };
            if let Some(runtime_dir) = &self.runtime_dir {
                runtime_dir.remove();
            }
        }
    }
}

impl fmt::Debug for Eal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Eal").finish_non_exhaustive()
    }
}

/// The calling thread has a mempool cache until this is dropped.
#[derive(Debug)]
pub struct ThreadRegistration {
    eal: Eal,
    /// Not Send: the registration is a thread-local of libdpdk.
    on_this_thread: PhantomData<*const ()>,
}

impl Drop for ThreadRegistration {
    fn drop(&mut self) {
        let mut control = self.eal.control();
        // SAFETY: this thread is registered.
        unsafe { dpdk_sys::rte_thread_unregister() };
        control.registered_threads -= 1;
        control.free_retired_pools();
    }
}

/// Runs `work` with libdpdk's log going to the returned text. Calls are one at a time: under the
/// control lock, or before EAL has started.
pub(crate) fn capture_log<T>(work: impl FnOnce() -> T) -> (T, String) {
    const TEXT_BYTES_MAX: usize = 2048;
    // SAFETY: one capture at a time, see above.
    unsafe { dpdk_sys::shim_log_capture_begin() };
    let result = work();
    let mut text = vec![0_u8; TEXT_BYTES_MAX];
    // SAFETY: the buffer has the size that is passed; the capture was begun above.
    let count = unsafe { dpdk_sys::shim_log_capture_end(text.as_mut_ptr().cast(), text.len()) };
    text.truncate(count);
    (result, String::from_utf8_lossy(&text).trim_end().to_owned())
}

/// After EAL has started, because the address space that it reserves before is beyond any limit.
fn lock_memory() -> bool {
    rustix::mm::mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE).is_ok()
}

/// The directory in which this instance keeps its files, once EAL has started.
fn runtime_dir(memory: Memory) -> Option<RuntimeDir> {
    // SAFETY: EAL has started. It answers with a static string, or none.
    let path = unsafe { dpdk_sys::rte_eal_get_runtime_dir().as_ref() }?;
    // SAFETY: as above; the string ends with a NUL.
    let path = unsafe { std::ffi::CStr::from_ptr(path) };
    let path = std::path::Path::new(std::ffi::OsStr::from_bytes(path.to_bytes()));
    let is_locked = !matches!(memory, Memory::PrivateHugepages { .. });
    Some(RuntimeDir::new(path, is_locked))
}

fn init(arguments: Vec<CString>) -> i32 {
    // EAL keeps pointers into its arguments: they live as long as the process.
    let pointers: &mut Vec<*mut c_char> = Box::leak(Box::new(
        arguments.into_iter().map(CString::into_raw).collect(),
    ));
    let count = i32::try_from(pointers.len()).unwrap_or(i32::MAX);
    // SAFETY: an array of `count` C strings that are never freed. EAL may reorder it.
    unsafe { dpdk_sys::rte_eal_init(count, pointers.as_mut_ptr()) }
}

/// The command line of EAL that says what `options` say.
fn arguments(options: &EalOptions) -> Result<Vec<CString>, EalError> {
    let mut words = vec![
        "ringfence".to_owned(),
        format!("--lcores={}", main_lcore(options)),
    ];
    match options.memory {
        Memory::Hugepages { mb } => words.extend(mb.map(|mb| format!("-m{mb}"))),
        Memory::PrivateHugepages { mb } => {
            words.push("--in-memory".to_owned());
            words.extend(mb.map(|mb| format!("-m{mb}")));
        }
        Memory::Ordinary { mb } => words.extend(["--no-huge".to_owned(), format!("-m{mb}")]),
    }
    match &options.file_prefix {
        Some(prefix) => words.push(format!("--file-prefix={prefix}")),
        None => words.push("--no-shconf".to_owned()),
    }
    if options.pci_allow.is_empty() {
        words.push("--no-pci".to_owned());
    }
    words.extend(
        options
            .pci_allow
            .iter()
            .map(|address| format!("--allow={address}")),
    );
    words.push(format!("--log-level={}", options.log_level as u8));
    if !options.telemetry || options.file_prefix.is_none() {
        words.push("--no-telemetry".to_owned());
    }
    words
        .into_iter()
        .map(|word| {
            CString::new(word).map_err(|error| EalError::NulByte {
                option: nul_left_out(&error.into_vec()),
            })
        })
        .collect()
}

fn nul_left_out(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).replace('\0', "")
}

/// `0@3`, or `0@(0,1)` for all CPUs on which the caller may run: one lcore, never pinned harder
/// than its caller. The cores that poll are threads of our own.
fn main_lcore(options: &EalOptions) -> String {
    let cpus: Vec<String> = match options.main_cpu {
        Some(cpu) => vec![cpu.to_string()],
        None => sched_getaffinity(None)
            .map(|set| (0..CpuSet::MAX_CPU).filter(move |cpu| set.is_set(*cpu)))
            .map(|cpus| cpus.map(|cpu| cpu.to_string()).collect())
            .unwrap_or_default(),
    };
    if cpus.is_empty() {
        "0".to_owned()
    } else {
        format!("0@({})", cpus.join(","))
    }
}

fn refused(errno: Errno, log: String, options: &EalOptions) -> EalError {
    match &options.file_prefix {
        Some(prefix) if log.contains("Is another primary process running") => {
            EalError::SecondInstance {
                prefix: prefix.clone(),
            }
        }
        _ if errno.is_permission() || log.contains("Permission denied") => {
            EalError::NoPermission { errno, log }
        }
        _ => EalError::Refused { errno, log },
    }
}

/// Refuses a start that cannot get the hugepages it wants. A host whose hugepages cannot be read
/// is left to libdpdk to judge.
fn check_hugepages(memory: Memory) -> Result<(), EalError> {
    let wanted_mb = match memory {
        Memory::Ordinary { .. } => return Ok(()),
        Memory::Hugepages { mb } | Memory::PrivateHugepages { mb } => mb,
    };
    let Ok(sizes) = std::fs::read_dir("/sys/kernel/mm/hugepages") else {
        return Ok(());
    };
    let (mut total, mut free, mut free_kb) = (0, 0, 0_u64);
    for size in sizes.flatten() {
        let name = size.file_name().to_string_lossy().into_owned();
        let page_kb = name
            .strip_prefix("hugepages-")
            .and_then(|name| name.strip_suffix("kB"))
            .and_then(|kb| kb.parse::<u64>().ok())
            .unwrap_or(0);
        total += read_number(&size.path().join("nr_hugepages"));
        let pages_free = read_number(&size.path().join("free_hugepages"));
        free += pages_free;
        free_kb += pages_free.saturating_mul(page_kb);
    }
    if free == 0 {
        return Err(EalError::NoHugepages { total });
    }
    if let Some(wanted) = wanted_mb {
        let (wanted_mb, free_mb) = (u64::from(wanted.get()), free_kb / 1024);
        if wanted_mb > free_mb {
            return Err(EalError::TooFewHugepages { wanted_mb, free_mb });
        }
    }
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
    let mounted = mounts
        .lines()
        .any(|line| line.split_whitespace().nth(2) == Some("hugetlbfs"));
    if matches!(memory, Memory::Hugepages { .. }) && !mounted {
        return Err(EalError::HugepagesNotMounted);
    }
    Ok(())
}

fn read_number(path: &std::path::Path) -> u64 {
    std::fs::read_to_string(path)
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(0)
}
