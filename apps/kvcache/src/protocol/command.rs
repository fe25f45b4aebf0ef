//! One line of the protocol: which command it is and what it asks for.

use super::limits::KEY_MAX;
use super::meta::{self, Meta, MetaSet};
use super::number::{signed32, unsigned, unsigned32};
use super::refusal::{Complaint, Refusal};
use super::tokens::{Tokens, first_word, words};

/// What a line asks for.
#[derive(Debug, Clone)]
pub enum Parsed<'a> {
    /// Everything is in the line.
    Whole(Command<'a>),
    /// A block of data follows.
    Data(Head<'a>),
}

/// A command without data.
#[derive(Debug, Clone)]
pub enum Command<'a> {
    /// `get`, `gets`, `gat`, `gats`.
    Get(Get<'a>),
    /// `delete`.
    Delete {
        /// Of what.
        key: &'a [u8],
        /// No answer wanted.
        quiet: bool,
    },
    /// `incr` and `decr`.
    Arithmetic {
        /// Of what.
        key: &'a [u8],
        /// By how much.
        delta: u64,
        /// Up, not down.
        up: bool,
        /// No answer wanted.
        quiet: bool,
    },
    /// `touch`.
    Touch {
        /// Of what.
        key: &'a [u8],
        /// The new time of expiry.
        exptime: i32,
        /// No answer wanted.
        quiet: bool,
    },
    /// `flush_all`, now or later.
    FlushAll {
        /// When.
        exptime: i32,
        /// No answer wanted.
        quiet: bool,
    },
    /// `stats` with its arguments.
    Stats {
        /// What stands behind the command.
        arguments: &'a [u8],
    },
    /// `version`.
    Version,
    /// `verbosity`.
    Verbosity {
        /// How much to log.
        level: u32,
        /// No answer wanted.
        quiet: bool,
    },
    /// `cache_memlimit`.
    MemoryLimit {
        /// The new limit, of 2^20 bytes each.
        megabytes: u32,
        /// No answer wanted.
        quiet: bool,
    },
    /// `quit`, or a request of another protocol altogether: end the connection without an answer.
    Quit,
    /// `mg`.
    MetaGet(Meta<'a>),
    /// `md`.
    MetaDelete(Meta<'a>),
    /// `ma`.
    MetaArithmetic(Meta<'a>),
    /// `me`.
    MetaDebug(Meta<'a>),
    /// `mn`.
    MetaNoop,
}

/// A retrieval of any number of keys.
#[derive(Debug, Clone, Copy)]
pub struct Get<'a> {
    /// The keys, none longer than [`KEY_MAX`], and the spaces between them.
    pub keys: &'a [u8],
    /// Versions are asked for as well.
    pub with_cas: bool,
    /// The new time of expiry of what is found.
    pub touch: Option<i32>,
}

impl<'a> Get<'a> {
    /// Takes the next key off the list.
    pub fn next_key(&mut self) -> Option<&'a [u8]> {
        let (key, rest) = first_word(self.keys);
        self.keys = rest;
        (!key.is_empty()).then_some(key)
    }
}

/// A command that data follows.
#[derive(Debug, Clone)]
pub enum Head<'a> {
    /// `set`, `add`, `replace`, `append`, `prepend`, `cas`.
    Classic(Storage<'a>),
    /// `ms`.
    Meta(MetaSet<'a>),
}

impl Head<'_> {
    /// Length of the value, without the line end that follows it.
    pub fn length(&self) -> usize {
        match self {
            Self::Classic(storage) => storage.length,
            Self::Meta(set) => set.length,
        }
    }

    /// What to answer when the data does not end where it should.
    pub(super) fn bad_data(&self) -> Refusal {
        let silent = matches!(self, Self::Classic(storage) if storage.quiet);
        Refusal { silent, ..Complaint::DataChunk.into() }
    }
}

/// How a value is to be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// In any case.
    Set,
    /// If there is none.
    Add,
    /// If there is one.
    Replace,
    /// Behind the one there is.
    Append,
    /// Before the one there is.
    Prepend,
    /// If the one there is has this version.
    Cas(u64),
}

/// The line of a classic storage command.
#[derive(Debug, Clone, Copy)]
pub struct Storage<'a> {
    /// How.
    pub verb: Verb,
    /// Where.
    pub key: &'a [u8],
    /// The client's flags.
    pub flags: u32,
    /// When the item expires.
    pub exptime: i32,
    /// Length of the value.
    pub length: usize,
    /// No answer wanted.
    pub quiet: bool,
}

/// Reads a line, which comes without its end.
///
/// # Errors
/// What to answer when the line is no command.
pub fn parse(line: &[u8]) -> Result<Parsed<'_>, Refusal> {
    let (name, rest) = first_word(line);
    let whole = |command| Ok(Parsed::Whole(command));
    match name {
        b"get" | b"bget" => whole(get(rest, false)?),
        b"gets" => whole(get(rest, true)?),
        b"gat" => whole(get_and_touch(rest, false)?),
        b"gats" => whole(get_and_touch(rest, true)?),
        b"mg" => whole(Command::MetaGet(meta::get(rest)?)),
        b"ms" => Ok(Parsed::Data(Head::Meta(meta::set(rest)?))),
        b"md" => whole(Command::MetaDelete(meta::delete(rest)?)),
        b"ma" => whole(Command::MetaArithmetic(meta::arithmetic(rest)?)),
        b"me" => whole(Command::MetaDebug(meta::debug(rest)?)),
        b"mn" => whole(Command::MetaNoop),
        b"stats" => whole(Command::Stats { arguments: rest }),
        b"version" => whole(Command::Version),
        b"quit" => whole(Command::Quit),
        b"shutdown" => Err(Complaint::Shutdown.into()),
        _ => with_tokens(name, line, Tokens::new(line)),
    }
}

fn with_tokens<'a>(name: &[u8], line: &[u8], tokens: Tokens<'a>) -> Result<Parsed<'a>, Refusal> {
    let storage = |verb, words| Ok(Parsed::Data(Head::Classic(storage(verb, words, &tokens)?)));
    let whole = |command| Ok(Parsed::Whole(command));
    match name {
        b"set" => storage(Verb::Set, 5),
        b"add" => storage(Verb::Add, 5),
        b"replace" => storage(Verb::Replace, 5),
        b"append" => storage(Verb::Append, 5),
        b"prepend" => storage(Verb::Prepend, 5),
        b"cas" => storage(Verb::Cas(0), 6),
        b"delete" => whole(delete(&tokens)?),
        b"incr" => whole(arithmetic(&tokens, true)?),
        b"decr" => whole(arithmetic(&tokens, false)?),
        b"touch" => whole(touch(&tokens)?),
        b"flush_all" => whole(flush_all(&tokens)?),
        b"verbosity" => whole(verbosity(&tokens)?),
        b"cache_memlimit" => whole(memory_limit(&tokens)?),
        _ => unknown(name, line),
    }
}

fn get(rest: &[u8], with_cas: bool) -> Result<Command<'_>, Refusal> {
    let mut any = false;
    for key in words(rest) {
        any = true;
        if key.len() > KEY_MAX {
            return Err(Complaint::Format.into());
        }
    }
    if !any {
        return Err(Complaint::Unknown.into());
    }
    Ok(Command::Get(Get { keys: rest, with_cas, touch: None }))
}

fn get_and_touch(rest: &[u8], with_cas: bool) -> Result<Command<'_>, Refusal> {
    let (exptime, keys) = first_word(rest);
    if exptime.is_empty() {
        return Err(Complaint::Unknown.into());
    }
    let touch = Some(signed32(exptime).ok_or(Complaint::Exptime)?);
    if words(keys).any(|key| key.len() > KEY_MAX) {
        return Err(Complaint::Format.into());
    }
    Ok(Command::Get(Get { keys, with_cas, touch }))
}

/// A command of so many words, and perhaps one more; the last may ask for silence.
fn words_or_one_more(tokens: &Tokens<'_>, count: usize) -> Result<bool, Refusal> {
    if tokens.count() != count && tokens.count() != count + 1 {
        return Err(Complaint::Unknown.into());
    }
    Ok(tokens.ends_in_noreply())
}

fn refused(complaint: Complaint, silent: bool) -> Refusal {
    Refusal { complaint, silent, swallow: 0 }
}

fn key<'a>(tokens: &Tokens<'a>, quiet: bool) -> Result<&'a [u8], Refusal> {
    let key = tokens.at(1);
    if key.len() > KEY_MAX { Err(refused(Complaint::Format, quiet)) } else { Ok(key) }
}

fn storage<'a>(verb: Verb, words: usize, tokens: &Tokens<'a>) -> Result<Storage<'a>, Refusal> {
    let quiet = words_or_one_more(tokens, words)?;
    let key = key(tokens, quiet)?;
    let wrong = || refused(Complaint::Format, quiet);
    let flags = unsigned32(tokens.at(2)).ok_or_else(wrong)?;
    let exptime = signed32(tokens.at(3)).ok_or_else(wrong)?;
    let length = signed32(tokens.at(4)).ok_or_else(wrong)?;
    let verb = match verb {
        Verb::Cas(_) => Verb::Cas(unsigned(tokens.at(5)).ok_or_else(wrong)?),
        verb => verb,
    };
    let length = data_length(length).ok_or_else(wrong)?;
    Ok(Storage { verb, key, flags, exptime, length, quiet })
}

/// A length that leaves room for the line end behind the data.
pub(super) fn data_length(length: i32) -> Option<usize> {
    if length > i32::MAX - 2 { None } else { usize::try_from(length).ok() }
}

fn delete<'a>(tokens: &Tokens<'a>) -> Result<Command<'a>, Refusal> {
    if !(2..=4).contains(&tokens.count()) {
        return Err(Complaint::Unknown.into());
    }
    let mut quiet = false;
    if tokens.count() > 2 {
        quiet = tokens.ends_in_noreply();
        // Once there was a time during which the key stayed deleted; zero is still accepted.
        let no_hold = tokens.at(2) == b"0";
        let valid = if tokens.count() == 3 { no_hold || quiet } else { no_hold && quiet };
        if !valid {
            return Err(refused(Complaint::DeleteUsage, quiet));
        }
    }
    Ok(Command::Delete { key: key(tokens, quiet)?, quiet })
}

fn arithmetic<'a>(tokens: &Tokens<'a>, up: bool) -> Result<Command<'a>, Refusal> {
    let quiet = words_or_one_more(tokens, 3)?;
    let key = key(tokens, quiet)?;
    let delta = unsigned(tokens.at(2)).ok_or_else(|| refused(Complaint::Delta, quiet))?;
    Ok(Command::Arithmetic { key, delta, up, quiet })
}

fn touch<'a>(tokens: &Tokens<'a>) -> Result<Command<'a>, Refusal> {
    let quiet = words_or_one_more(tokens, 3)?;
    let key = key(tokens, quiet)?;
    let exptime = signed32(tokens.at(2)).ok_or_else(|| refused(Complaint::Exptime, quiet))?;
    Ok(Command::Touch { key, exptime, quiet })
}

fn flush_all<'a>(tokens: &Tokens<'a>) -> Result<Command<'a>, Refusal> {
    if !(1..=3).contains(&tokens.count()) {
        return Err(Complaint::Unknown.into());
    }
    let quiet = tokens.ends_in_noreply();
    let mut exptime = 0;
    if tokens.count() != if quiet { 2 } else { 1 } {
        exptime = signed32(tokens.at(1)).ok_or_else(|| refused(Complaint::Exptime, quiet))?;
    }
    Ok(Command::FlushAll { exptime, quiet })
}

fn verbosity<'a>(tokens: &Tokens<'a>) -> Result<Command<'a>, Refusal> {
    let quiet = words_or_one_more(tokens, 2)?;
    let level = unsigned32(tokens.at(1)).ok_or_else(|| refused(Complaint::Format, quiet))?;
    Ok(Command::Verbosity { level, quiet })
}

fn memory_limit<'a>(tokens: &Tokens<'_>) -> Result<Command<'a>, Refusal> {
    let quiet = words_or_one_more(tokens, 2)?;
    let megabytes = unsigned32(tokens.at(1)).ok_or_else(|| refused(Complaint::Unknown, quiet))?;
    let complaint = match megabytes {
        0..8 => Complaint::MemoryLimitTooSmall,
        1_000_000_001.. => Complaint::MemoryLimitInBytes,
        _ => return Ok(Command::MemoryLimit { megabytes, quiet }),
    };
    Err(refused(complaint, quiet))
}

/// No command. A browser that was sent here is not worth an answer.
fn unknown<'a>(name: &[u8], line: &[u8]) -> Result<Parsed<'a>, Refusal> {
    let of_a_family = matches!(name.first(), Some(b'g' | b's' | b'a' | b'c' | b'i' | b'd' | b't'))
        || (name.len() == 2 && name.first() == Some(&b'm'));
    let last = words(line).take(super::limits::TOKENS_MAX).last().unwrap_or_default();
    if name.len() >= 2 && !of_a_family && last.starts_with(b"HTTP/") {
        return Ok(Parsed::Whole(Command::Quit));
    }
    Err(Complaint::Unknown.into())
}
