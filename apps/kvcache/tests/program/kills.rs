//! Servers that are killed at any moment: the next one has what they had, whole, and nothing else.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use kvcache::fast::Cache;
use kvcache::restart::{self, Config, Keep, RestartError};
use kvcache::store::{Expiry, Mode};
use libtest_mimic::Failed;
use testkit::wire::run;

use crate::sealed::{seal, unseal};
use crate::wire::Pair;
use crate::{config, setting};

const KEYS: u32 = 20_000;

fn key_of(n: u32) -> Vec<u8> {
    format!("key:{n}").into_bytes()
}

/// The child: writes until it is killed.
pub(crate) fn write_until_killed() {
    let cache = Cache::open(&child_config()).unwrap().cache;
    let store = &cache.store;
    std::thread::scope(|scope| {
        for seed in 0..2 {
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(seed ^ u64::from(std::process::id()));
                loop {
                    let key = key_of(random.u32(..KEYS));
                    match random.u32(..4000) {
                        0 => store.flush_all(None),
                        1..500 => drop(store.delete(&key, None)),
                        500 => store.maintain(),
                        _ => {
                            let filler = if random.u8(..40) == 0 {
                                random.usize(..20_000)
                            } else {
                                random.usize(..300)
                            };
                            store
                                .put(Mode::Set, &key, 0, Expiry::Never, &seal(&key, random.u64(..), filler))
                                .unwrap();
                        }
                    }
                }
            });
        }
    });
}

fn child_config() -> Config {
    let place = PathBuf::from(std::env::var_os("KVCACHE_PLACE").unwrap());
    match std::env::var("KVCACHE_INTERFACE") {
        Ok(interface) => config(Keep::Pinned(place), Some(&interface)),
        Err(_) => config(Keep::File(place), None),
    }
}

pub(crate) fn in_file() -> Result<(), Failed> {
    let file = tempfile::Builder::new().prefix("kvcache").tempfile_in("/dev/shm")?;
    kill_and_open(&config(Keep::File(file.path().to_owned()), None), file.path(), None)
}

pub(crate) fn pinned() -> Result<(), Failed> {
    let (pair, folder) = (Pair::here("kvkill")?, BpfFolder::new()?);
    let place = folder.path().join("store");
    let config = config(Keep::Pinned(place.clone()), Some(&pair.server));
    kill_and_open(&config, &place, Some(&pair.server))?;
    restart::forget(&place)?;
    Ok(())
}

fn kill_and_open(config: &Config, place: &Path, interface: Option<&str>) -> Result<(), Failed> {
    let mut random = fastrand::Rng::with_seed(u64::from(std::process::id()));
    let (mut served, mut dropped) = (0, 0);
    for round in 0..setting("KVCACHE_KILLS", 10) {
        let mut child = Command::new(std::env::current_exe()?);
        child.env("KVCACHE_CHILD", "writer").env("KVCACHE_PLACE", place).stdin(Stdio::null());
        if let Some(name) = interface {
            child.env("KVCACHE_INTERFACE", name);
        }
        let mut child = child.spawn()?;
        std::thread::sleep(Duration::from_micros(random.u64(..400_000)));
        child.kill()?;
        child.wait()?;
        let opened = Cache::open(config)
            .map_err(|error| format!("round {round}: {:#}", anyhow::Error::from(error)))?;
        let store = &opened.cache.store;
        let second = Cache::open(config);
        assert!(matches!(second, Err(RestartError::InUse { .. })), "one store, one server: {second:?}");
        dropped += opened.recovered.unwrap_or_default().dropped;
        let mut found = 0;
        for n in 0..KEYS {
            let (key, mut value) = (key_of(n), Vec::new());
            if store.get(&key, &mut value).is_some() {
                unseal(&key, &value).ok_or_else(|| format!("round {round}: {n}: a wrong value"))?;
                found += 1;
            }
        }
        let stats = store.stats();
        assert!(found == stats.items || stats.items > found, "what was flushed counts until it is removed");
        assert!(stats.memory <= stats.limit);
        served += found;
        // The next server writes into the same store.
        for n in (0..KEYS).step_by(100) {
            let key = key_of(n);
            store.put(Mode::Set, &key, 0, Expiry::Never, &seal(&key, n.into(), 100))?;
        }
    }
    println!("{served} values served, {dropped} entries dropped");
    assert!(served > 0);
    // An entry leads to an item from when it is whole, and to nothing before the item goes.
    assert_eq!(dropped, 0, "entries that led to no whole item");
    Ok(())
}

/// A BPF file system of our own.
pub(crate) struct BpfFolder(tempfile::TempDir);

impl BpfFolder {
    pub(crate) fn new() -> Result<Self, Failed> {
        let folder = tempfile::tempdir()?;
        run(&["mount", "-t", "bpf", "bpf", folder.path().to_str().unwrap()])?;
        Ok(Self(folder))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for BpfFolder {
    fn drop(&mut self) {
        let _ = run(&["umount", self.path().to_str().unwrap()]);
    }
}
