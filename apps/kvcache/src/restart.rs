//! Opening a cache: a new one, or the one that an earlier server left.
//!
//! With the user engine the arena can lie in a file on tmpfs, with the kernel engine in a map that has a name in a BPF file
//! system; there the link has a name, too, so that the program goes on answering while no server runs. The next server maps the
//! arena at the same address, checks it ([`Store::over`]) and puts its own program in the place of the earlier one without a
//! gap. A lock on the file or folder keeps two servers from having one store.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bpf_arena::arena::{Arena, ArenaError, ArenaOptions, ArenaSpec, PageCount};

use crate::fast::{self, AttachTo, Cache, EngineKind, FastError, FastPath};
use crate::layout::ARENA_PAGES;
use crate::store::{OpenError, Options, Recovered, Store};

/// Where arenas that are kept are mapped: the first of these addresses that is free. A store keeps its address.
const FIRST_ADDRESS: u64 = 1 << 44;

/// How many addresses are tried.
const ADDRESSES: u64 = 64;

/// From one to the next: an arena, and its guards.
const STRIDE: u64 = 1 << 33;

/// What becomes of the store when the server ends.
#[derive(Clone, Debug, Default)]
pub enum Keep {
    /// It goes, too.
    #[default]
    Nothing,
    /// It stays in this file on tmpfs (user engine, or no program at all).
    File(PathBuf),
    /// It stays in the kernel, under names in this folder of a BPF file system (kernel engine), and the program goes on
    /// answering.
    Pinned(PathBuf),
}

/// What to open.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// The store.
    pub store: Options,
    /// Who runs the program.
    pub engine: EngineKind,
    /// What becomes of the store afterwards.
    pub keep: Keep,
}

/// Why a cache cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestartError {
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// The program cannot answer.
    #[error(transparent)]
    Fast(Box<FastError>),
    /// The arena cannot be had.
    #[error("the store's memory{}: {source}", of.as_ref().map(|path| format!(" ({})", path.display())).unwrap_or_default())]
    Arena {
        /// Where it was kept.
        of: Option<PathBuf>,
        /// Why not.
        source: ArenaError,
    },
    /// The file or folder cannot be used.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which one.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Another server has the store.
    #[error("{}: another server uses this store", path.display())]
    InUse {
        /// The file or folder.
        path: PathBuf,
    },
    /// The engine cannot be combined with this way of keeping the store.
    #[error("a store in {keeps} cannot be kept with the {engine} engine")]
    Mismatch {
        /// What keeps it.
        keeps: &'static str,
        /// The engine.
        engine: &'static str,
    },
}

impl From<FastError> for RestartError {
    fn from(error: FastError) -> Self {
        Self::Fast(Box::new(error))
    }
}

/// What was opened.
#[derive(Debug)]
pub struct Opened {
    /// The cache.
    pub cache: Cache,
    /// What was found of an earlier server's store; `None` if it is new.
    pub recovered: Option<Recovered>,
    /// What keeps other servers away as long as this one runs.
    pub lock: Option<File>,
}

impl Cache {
    /// Opens a cache.
    ///
    /// # Errors
    /// [`RestartError`] says what cannot be had, or why a store that is there cannot be used.
    pub fn open(config: &Config) -> Result<Opened, RestartError> {
        match (&config.keep, &config.engine) {
            (Keep::Pinned(folder), EngineKind::Kernel(to)) => pinned(config, to, folder),
            (Keep::Nothing, EngineKind::Kernel(to)) => {
                let (store, recovered) = Store::over(kernel_arena()?, config.store)?;
                let fast = FastPath::kernel(&store, to)?;
                Ok(opened(store, fast, recovered, None))
            }
            (Keep::File(path), EngineKind::User | EngineKind::None) => in_file(config, path),
            (Keep::Nothing, EngineKind::User | EngineKind::None) => {
                let store = Store::new(config.store)?;
                let fast = in_process(&config.engine, &store)?;
                Ok(opened(store, fast, None, None))
            }
            (Keep::File(_), EngineKind::Kernel(_)) => {
                Err(RestartError::Mismatch { keeps: "a file", engine: "kernel" })
            }
            (Keep::Pinned(_), EngineKind::User | EngineKind::None) => {
                Err(RestartError::Mismatch { keeps: "the kernel", engine: "user" })
            }
        }
    }
}

fn opened(store: Store, fast: FastPath, recovered: Option<Recovered>, lock: Option<File>) -> Opened {
    Opened { cache: Cache { store: Arc::new(store), fast }, recovered, lock }
}

fn in_process(engine: &EngineKind, store: &Store) -> Result<FastPath, FastError> {
    match engine {
        EngineKind::User => FastPath::user(store),
        _ => Ok(FastPath::none()),
    }
}

/// The store in a file; a new one if there is no such file or it is empty.
fn in_file(config: &Config, path: &Path) -> Result<Opened, RestartError> {
    let size = fs::metadata(path).map_or(0, |metadata| metadata.len());
    if size == 0 {
        return in_new_file(config, path);
    }
    let file = open_locked(path)?;
    let memory = file.try_clone().map_err(|source| RestartError::Io { path: path.to_owned(), source })?;
    let arena = Arena::attach_file(memory.into());
    let arena = arena.map_err(|source| RestartError::Arena { of: Some(path.to_owned()), source })?;
    let (store, recovered) = Store::over(arena, config.store)?;
    let fast = in_process(&config.engine, &store)?;
    Ok(opened(store, fast, recovered, Some(file)))
}

/// A store that gets its file's name once it is complete: a server that is killed before leaves nothing that looks like one.
fn in_new_file(config: &Config, path: &Path) -> Result<Opened, RestartError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let new = PathBuf::from(name);
    let io = |source| RestartError::Io { path: new.clone(), source };
    let file = open_locked(&new)?;
    let arena = at_free_address(|spec| {
        let mut options = ArenaOptions::default();
        options.file = Some(file.try_clone().map_err(io)?.into());
        let refused = |source| RestartError::Arena { of: Some(new.clone()), source };
        Arena::create_with(spec, options).map_err(refused)
    })?;
    let (store, _) = Store::over(arena, config.store)?;
    let fast = in_process(&config.engine, &store)?;
    fs::rename(&new, path).map_err(io)?;
    Ok(opened(store, fast, None, Some(file)))
}

/// Opens a file, or makes it, and keeps other servers away from it.
fn open_locked(path: &Path) -> Result<File, RestartError> {
    let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
    let file = opened.map_err(|source| RestartError::Io { path: path.to_owned(), source })?;
    lock(&file, path)?;
    Ok(file)
}

/// The store under names in a folder; a new one if there are none.
fn pinned(config: &Config, to: &AttachTo, folder: &Path) -> Result<Opened, RestartError> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| RestartError::Io { path, source }
    };
    fs::create_dir_all(folder).map_err(io(folder))?;
    let directory = File::open(folder).map_err(io(folder))?;
    lock(&directory, folder)?;
    let name = folder.join("arena");
    let exists = name.try_exists().map_err(io(&name))?;
    let refused = |source| RestartError::Arena { of: Some(name.clone()), source };
    let arena = if exists { Arena::open_pinned(&name).map_err(refused)? } else { kernel_arena()? };
    let (store, recovered) = Store::over(arena, config.store)?;
    if !exists {
        store.arena().pin(&name).map_err(refused)?;
    }
    let fast = FastPath::kernel_over(&store, to, Some(folder))?;
    Ok(opened(store, fast, recovered, Some(directory)))
}

/// Removes what keeps a store under names in a folder: the program is detached, and the store goes with its last user.
///
/// # Errors
/// A name cannot be removed.
pub fn forget(folder: &Path) -> io::Result<()> {
    fast::forget(folder)?;
    match fs::remove_file(folder.join("arena")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// A new arena in the kernel, which can be pinned.
///
/// # Errors
/// The kernel refuses, or no address is free.
pub fn kernel_arena() -> Result<Arena, RestartError> {
    at_free_address(|spec| {
        Arena::create_in_kernel(spec).map_err(|source| RestartError::Arena { of: None, source })
    })
}

/// Makes an arena that other processes can map: at an address that is not where this one's libraries and stacks happen to lie,
/// for in the next process others lie there.
fn at_free_address(make: impl Fn(&ArenaSpec) -> Result<Arena, RestartError>) -> Result<Arena, RestartError> {
    let mut n = 0;
    loop {
        let map_extra = FIRST_ADDRESS + n * STRIDE;
        match make(&ArenaSpec { map_extra, ..ArenaSpec::new(PageCount::new(ARENA_PAGES)) }) {
            // The address may be taken.
            Err(RestartError::Arena { source: ArenaError::Memory(_), .. }) if n < ADDRESSES => n += 1,
            result => return result,
        }
    }
}

fn lock(file: &File, path: &Path) -> Result<(), RestartError> {
    file.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => RestartError::InUse { path: path.to_owned() },
        TryLockError::Error(source) => RestartError::Io { path: path.to_owned(), source },
    })
}
