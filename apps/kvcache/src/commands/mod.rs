//! What commands mean: each is carried out on the store, and its answer appended to a buffer.
//!
//! The protocol (how commands are written) is apart from this, and so is the network (where they come from): the
//! same [`Executor`] serves streams and datagrams.

mod classic;
mod counters;
mod expiry;
mod meta;
mod report;
mod shared;

pub use classic::Unfinished;
pub use counters::{Counter, Counters};
pub use shared::{Connections, Settings, Shared, VERSION};

use crate::protocol::limits::{ITEM_FLAGS, ITEM_OVERHEAD};
use crate::protocol::{Command, Complaint, Event, Head, Refusal, render};
use crate::store::StoreError;

/// Whether a connection goes on after a command.
#[derive(Debug, PartialEq, Eq)]
pub enum Flow {
    /// It does.
    Continue,
    /// More bytes are needed.
    Wait,
    /// There is more to the answer than there is room for.
    More(Unfinished),
    /// It ends, once what was answered has been sent.
    Close,
}

/// Carries out commands, one at a time. Each worker has its own.
#[derive(Debug)]
pub struct Executor<'a> {
    shared: &'a Shared,
    counters: &'a Counters,
    /// A value on its way from the store into an answer.
    value: Vec<u8>,
}

impl<'a> Executor<'a> {
    /// Commands are counted in `counters`, which nobody else writes to.
    pub fn new(shared: &'a Shared, counters: &'a Counters) -> Self {
        Self { shared, counters, value: Vec::new() }
    }

    /// Carries out what an event asks for. An answer of many values stops soon after `out` has grown to `limit`.
    pub fn run(&mut self, event: Event<'_>, out: &mut Vec<u8>, limit: usize) -> Flow {
        match event {
            Event::Command(Command::Get(get)) => return self.get(get, out, limit),
            Event::Command(command) => return self.command(command, out),
            Event::Store(Head::Classic(storage), value) => self.storage(&storage, value, out),
            Event::Store(Head::Meta(set), value) => self.meta_set(&set, value, out),
            Event::Refused(refusal) => refuse(refusal, out),
            Event::Incomplete => return Flow::Wait,
            Event::Hopeless => return Flow::Close,
            Event::TooLong(refusal) => {
                refuse(refusal, out);
                return Flow::Close;
            }
        }
        Flow::Continue
    }

    /// Whether there is any sense in collecting the data of this command. A value that can never be stored leaves
    /// nothing behind that a client could take for it.
    pub fn admit(shared: &Shared, counters: &Counters, head: &Head<'_>) -> Option<Complaint> {
        let (key, flags, drops_old) = match head {
            Head::Classic(storage) => {
                (storage.key, storage.flags, storage.verb == crate::protocol::command::Verb::Set)
            }
            Head::Meta(set) => (&*set.meta.key, set.meta.flags.client_flags, true),
        };
        let flags = if flags == 0 { 0 } else { ITEM_FLAGS };
        let total = ITEM_OVERHEAD + key.len() + flags + head.length() + 2;
        if total <= shared.settings.item_size_max {
            return None;
        }
        counters.count(Counter::StoreTooLarge);
        if drops_old {
            shared.store.delete(key, None);
        }
        Some(Complaint::TooLarge)
    }

    fn command(&mut self, command: Command<'_>, out: &mut Vec<u8>) -> Flow {
        match command {
            Command::Get(get) => return self.get(get, out, usize::MAX),
            Command::Delete { key, quiet } => self.delete(key, quiet, out),
            Command::Arithmetic { key, delta, up, quiet } => self.arithmetic(key, delta, up, quiet, out),
            Command::Touch { key, exptime, quiet } => self.touch(key, exptime, quiet, out),
            Command::FlushAll { exptime, quiet } => self.flush_all(exptime, quiet, out),
            Command::Stats { arguments } => report::stats(self.shared, arguments, out),
            Command::Version => render::line(out, &format!("VERSION {VERSION}")),
            Command::Verbosity { level, quiet } => {
                self.shared.set_verbosity(level);
                say("OK", quiet, out);
            }
            Command::MemoryLimit { megabytes, quiet } => {
                let done = self.shared.store.set_memory(u64::from(megabytes) << 20);
                say(if done { "OK" } else { Complaint::MemoryLimit.text() }, quiet, out);
            }
            Command::Quit => return Flow::Close,
            Command::MetaGet(get) => self.meta_get(&get, out),
            Command::MetaDelete(delete) => self.meta_delete(&delete, out),
            Command::MetaArithmetic(arithmetic) => self.meta_arithmetic(&arithmetic, out),
            Command::MetaDebug(debug) => self.meta_debug(&debug, out),
            Command::MetaNoop => render::line(out, "MN"),
        }
        Flow::Continue
    }
}

fn refuse(refusal: Refusal, out: &mut Vec<u8>) {
    say(refusal.complaint.text(), refusal.silent, out);
}

fn say(text: &str, quiet: bool, out: &mut Vec<u8>) {
    if !quiet {
        render::line(out, text);
    }
}

/// What a client is told when the store refused its value.
fn complaint_of(error: StoreError) -> Complaint {
    match error {
        StoreError::TooLarge { .. } => Complaint::TooLarge,
        StoreError::Key { .. } => Complaint::Format,
        _ => Complaint::NoMemory,
    }
}
