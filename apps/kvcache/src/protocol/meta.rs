//! Meta commands: two letters, a key, and words of one letter each that may carry a value.

use std::borrow::Cow;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};

use super::command::{Verb, data_length};
use super::limits::{KEY_MAX, META_TOKENS_MAX, OPAQUE_MAX};
use super::number::{signed32, unsigned, unsigned32};
use super::refusal::{Complaint, Refusal};
use super::tokens::{first_word, words};

/// How keys travel under the flag `b`.
pub(super) const BASE64: GeneralPurpose =
    GeneralPurpose::new(&STANDARD, GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true));

/// A meta command: its key, its flags as values, and as words in the order in which they are answered.
#[derive(Debug, Clone)]
pub struct Meta<'a> {
    /// The key as it is stored.
    pub key: Cow<'a, [u8]>,
    /// The flags.
    pub flags: Flags,
    words: &'a [u8],
}

impl<'a> Meta<'a> {
    /// The flags as the client wrote them, in order; none is empty, none stands twice.
    pub fn words(&self) -> impl Iterator<Item = &'a [u8]> + Clone + use<'a> {
        words(self.words)
    }
}

/// The line of an `ms`.
#[derive(Debug, Clone)]
pub struct MetaSet<'a> {
    /// Key and flags.
    pub meta: Meta<'a>,
    /// How to store; a version turns `set` and `replace` into `cas`.
    pub verb: Verb,
    /// Length of the value.
    pub length: usize,
}

/// The values of flags.
#[derive(Debug, Clone, Copy, Default)]
pub struct Flags {
    /// `b`: the key comes in base64, and so it is answered.
    pub binary: bool,
    /// `N`: create what is missing, with this time of expiry.
    pub vivify: Option<i32>,
    /// `T`: the new time of expiry.
    pub ttl: Option<i32>,
    /// `R`: one client is told to fetch anew what expires sooner than this.
    pub recache: Option<i32>,
    /// `v`: the value is wanted.
    pub value: bool,
    /// `u`: this is no use of the item.
    pub no_bump: bool,
    /// `q`: the usual answer is not wanted.
    pub quiet: bool,
    /// `I`: mark as stale; or store even with an old version.
    pub stale: bool,
    /// `F`: the client's flags.
    pub client_flags: u32,
    /// `C`: only this version.
    pub cas: Option<u64>,
    /// `M`: the mode's letter.
    pub mode: Option<u8>,
    /// `J`: what a counter begins with.
    pub initial: u64,
    /// `D`: what is added to it.
    pub delta: Option<u64>,
}

pub(super) fn get(rest: &[u8]) -> Result<Meta<'_>, Refusal> {
    let (key, flags) = key_and_rest(rest, Complaint::TooManyGetFlags)?;
    let meta = meta(key, flags).map_err(Refusal::from)?;
    check_opaque(flags)?;
    Ok(meta)
}

pub(super) fn delete(rest: &[u8]) -> Result<Meta<'_>, Refusal> {
    let (key, flags) = key_and_rest(rest, Complaint::TooManyFlags)?;
    let meta = meta(key, flags).map_err(|_| Complaint::InvalidOrDuplicateFlag)?;
    check_opaque(flags)?;
    Ok(meta)
}

pub(super) fn arithmetic(rest: &[u8]) -> Result<Meta<'_>, Refusal> {
    let (key, flags) = key_and_rest(rest, Complaint::TooManyFlags)?;
    let meta = meta(key, flags).map_err(|_| Complaint::InvalidOrDuplicateFlag)?;
    if !matches!(meta.flags.mode, None | Some(b'I' | b'+' | b'D' | b'-')) {
        return Err(Complaint::ArithmeticMode.into());
    }
    check_opaque(flags)?;
    Ok(meta)
}

/// `me KEY [b]`; other flags are not looked at.
pub(super) fn debug(rest: &[u8]) -> Result<Meta<'_>, Refusal> {
    let (key, flags) = first_word(rest);
    if key.is_empty() || key.len() > KEY_MAX {
        return Err(Complaint::Format.into());
    }
    let binary = words(flags).next() == Some(b"b");
    let key = if binary { decode(key).ok_or(Complaint::Format)? } else { Cow::Borrowed(key) };
    Ok(Meta { key, flags: Flags { binary, ..Flags::default() }, words: &[] })
}

/// `ms KEY LENGTH FLAGS...`. Once the length is known, what follows an error is that much data.
pub(super) fn set(rest: &[u8]) -> Result<MetaSet<'_>, Refusal> {
    let (key, rest) = key_and_rest(rest, Complaint::TooManyFlags)?;
    let (length, flags) = first_word(rest);
    let length = signed32(length).and_then(data_length).ok_or(Complaint::Format)?;
    let swallowing = |complaint| Refusal { swallow: length + 2, ..Refusal::from(complaint) };
    let meta = meta(key, flags).map_err(swallowing)?;
    let verb = match meta.flags.mode {
        None | Some(b'S') => Verb::Set,
        Some(b'E') => Verb::Add,
        Some(b'A') => Verb::Append,
        Some(b'P') => Verb::Prepend,
        Some(b'R') => Verb::Replace,
        Some(_) => return Err(swallowing(Complaint::SetMode)),
    };
    let verb = match (verb, meta.flags.cas) {
        (Verb::Set | Verb::Replace, Some(cas)) => Verb::Cas(cas),
        (verb, _) => verb,
    };
    check_opaque(flags).map_err(|refusal| swallowing(refusal.complaint))?;
    Ok(MetaSet { meta, verb, length })
}

/// The key as it was sent, and what stands behind it, which is not too many words.
fn key_and_rest(rest: &[u8], too_many: Complaint) -> Result<(&[u8], &[u8]), Refusal> {
    let (key, flags) = first_word(rest);
    if key.is_empty() {
        return Err(Complaint::Unknown.into());
    }
    if key.len() > KEY_MAX {
        return Err(Complaint::Format.into());
    }
    // The command and its key are words as well.
    if words(flags).count() + 2 > META_TOKENS_MAX {
        return Err(too_many.into());
    }
    Ok((key, flags))
}

fn meta<'a>(key: &'a [u8], text: &'a [u8]) -> Result<Meta<'a>, Complaint> {
    let mut key = Cow::Borrowed(key);
    let mut flags = Flags::default();
    let mut seen = 0_u128;
    // An unknown flag ends the search at once; of other errors the last one is told.
    let mut wrong = None;
    for word in words(text) {
        let (letter, value) = word.split_first().map_or((0, word), |(letter, value)| (*letter, value));
        if letter >= 127 || seen & (1 << letter) != 0 {
            return Err(Complaint::DuplicateFlag);
        }
        seen |= 1 << letter;
        if let Err(complaint) = flag(&mut flags, letter, value) {
            if complaint == Complaint::InvalidFlag {
                return Err(complaint);
            }
            // A bad `F` has no words of its own, and does not take those of others.
            if complaint != Complaint::Format || wrong.is_none() {
                wrong = Some(complaint);
            }
        }
        if letter == b'b' {
            match decode(&key) {
                Some(decoded) => key = Cow::Owned(decoded.into_owned()),
                None => wrong = Some(Complaint::KeyEncoding),
            }
        }
    }
    match wrong {
        Some(complaint) => Err(complaint),
        None => Ok(Meta { key, flags, words: text }),
    }
}

fn flag(flags: &mut Flags, letter: u8, value: &[u8]) -> Result<(), Complaint> {
    let time = || signed32(value).ok_or(Complaint::FlagToken).map(Some);
    match letter {
        b'b' => flags.binary = true,
        b'N' => flags.vivify = time()?,
        b'T' => flags.ttl = time()?,
        b'R' => flags.recache = time()?,
        b'v' => flags.value = true,
        b'u' => flags.no_bump = true,
        b'q' => flags.quiet = true,
        b'I' => flags.stale = true,
        b'F' => flags.client_flags = unsigned32(value).ok_or(Complaint::Format)?,
        b'C' => flags.cas = Some(unsigned(value).ok_or(Complaint::FlagToken)?),
        b'M' => {
            let [mode] = value else { return Err(Complaint::ModeLength) };
            flags.mode = Some(*mode);
        }
        b'J' => flags.initial = unsigned(value).ok_or(Complaint::InitialValue)?,
        b'D' => flags.delta = Some(unsigned(value).ok_or(Complaint::DeltaValue)?),
        // Answered with, or meant for proxies.
        b'l' | b'O' | b'P' | b'L' | b'k' | b's' | b't' | b'c' | b'f' | b'h' => {}
        _ => return Err(Complaint::InvalidFlag),
    }
    Ok(())
}

fn decode(key: &[u8]) -> Option<Cow<'_, [u8]>> {
    BASE64.decode(key).ok().filter(|key| !key.is_empty()).map(Cow::Owned)
}

fn check_opaque(flags: &[u8]) -> Result<(), Refusal> {
    let too_long = words(flags).any(|word| word.first() == Some(&b'O') && word.len() > OPAQUE_MAX);
    if too_long { Err(Complaint::Opaque.into()) } else { Ok(()) }
}
