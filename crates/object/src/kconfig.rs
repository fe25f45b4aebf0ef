//! `extern ... __kconfig` variables: a map whose contents are the kernel's configuration.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::error::{KconfigFault, LinkError};
use crate::layout::{KconfigKind, KconfigVar};
use crate::{LinkOptions, MapSpec, Object};

/// A value of the kernel configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KconfigValue {
    /// `=y`, `=n` or `=m`.
    Tristate(Tristate),
    /// A number, as 64 bits (negative numbers in two's complement).
    Number(u64),
    /// A string, without quotes.
    Text(String),
}

/// `=y`, `=n` or `=m` (`enum libbpf_tristate`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Tristate {
    /// `n`.
    No = 0,
    /// `y`.
    Yes = 1,
    /// `m`.
    Module = 2,
}

/// Values of `extern ... __kconfig` variables, by name: `CONFIG_*` of a kernel's configuration file, and the `LINUX_*`
/// values that a loader provides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kconfig {
    values: BTreeMap<String, KconfigValue>,
}

impl Kconfig {
    /// No values.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads the text of a kernel configuration (`/proc/config.gz` unpacked, `/boot/config-*`). Lines other than
    /// `CONFIG_NAME=value` are skipped, as are values that are none.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut kconfig = Self::new();
        for line in text.lines().filter(|l| l.starts_with("CONFIG_")) {
            if let Some((name, value)) = line.split_once('=')
                && let Some(value) = KconfigValue::parse(value.trim_end())
            {
                kconfig.set(name, value);
            }
        }
        kconfig
    }

    /// Sets one value.
    pub fn set(&mut self, name: &str, value: KconfigValue) -> &mut Self {
        self.values.insert(name.to_owned(), value);
        self
    }

    /// Sets `LINUX_KERNEL_VERSION` as the kernel's `KERNEL_VERSION(major, minor, patch)` counts: the patch level stops
    /// at 255.
    pub fn set_kernel_version(&mut self, major: u8, minor: u8, patch: u8) -> &mut Self {
        let version = u64::from(major) << 16 | u64::from(minor) << 8 | u64::from(patch);
        self.set("LINUX_KERNEL_VERSION", KconfigValue::Number(version))
    }

    /// Sets `LINUX_HAS_BPF_COOKIE`: whether `bpf_get_attach_cookie` exists (Linux 5.15).
    pub fn set_has_bpf_cookie(&mut self, has: bool) -> &mut Self {
        self.set("LINUX_HAS_BPF_COOKIE", KconfigValue::Number(has.into()))
    }

    /// Sets `LINUX_HAS_SYSCALL_WRAPPER`: whether system calls take their arguments in a `struct pt_regs`.
    pub fn set_has_syscall_wrapper(&mut self, has: bool) -> &mut Self {
        self.set("LINUX_HAS_SYSCALL_WRAPPER", KconfigValue::Number(has.into()))
    }

    /// The value with this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&KconfigValue> {
        self.values.get(name)
    }
}

impl KconfigValue {
    /// Reads what follows `=` in a configuration file.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "y" => Self::Tristate(Tristate::Yes),
            "n" => Self::Tristate(Tristate::No),
            "m" => Self::Tristate(Tristate::Module),
            _ => match text.strip_prefix('"') {
                Some(rest) => Self::Text(rest.strip_suffix('"')?.to_owned()),
                None => Self::Number(parse_number(text)?),
            },
        })
    }
}

impl core::fmt::Display for KconfigValue {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Tristate(Tristate::No) => f.write_str("n"),
            Self::Tristate(Tristate::Yes) => f.write_str("y"),
            Self::Tristate(Tristate::Module) => f.write_str("m"),
            Self::Number(number) => number.fmt(f),
            Self::Text(text) => write!(f, "\"{text}\""),
        }
    }
}

/// Decimal, hexadecimal (`0x`) or octal (`0`), perhaps negative.
fn parse_number(text: &str) -> Option<u64> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let number = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(hex) => u64::from_str_radix(hex, 16).ok()?,
        None if digits.len() > 1 && digits.starts_with('0') => u64::from_str_radix(digits, 8).ok()?,
        None => digits.parse().ok()?,
    };
    Some(if negative { number.wrapping_neg() } else { number })
}

/// The object's maps with `.kconfig` filled in.
pub(crate) fn fill(object: &Object, options: &LinkOptions) -> Result<Arc<[MapSpec]>, LinkError> {
    let Some(layout) = &object.layout.kconfig else { return Ok(Arc::clone(&object.maps)) };
    let mut maps = object.maps.to_vec();
    let Some(map) = maps.get_mut(layout.map) else { return Ok(Arc::clone(&object.maps)) };
    map.initial.clear();
    for var in &layout.vars {
        let fail = |fault| LinkError::Kconfig { name: var.name.clone(), fault };
        // Variables lie in ascending order; the gaps and those without a value are zero.
        map.initial.resize(var.offset as usize, 0);
        match options.kconfig.get(&var.name) {
            Some(value) => map.initial.extend(encode(var, value).map_err(fail)?),
            None if var.weak => {}
            None => return Err(fail(KconfigFault::Missing)),
        }
    }
    Ok(maps.into())
}

/// The bytes of a variable that holds `value`.
fn encode(var: &KconfigVar, value: &KconfigValue) -> Result<Vec<u8>, KconfigFault> {
    let wrong = || KconfigFault::WrongType { value: value.to_string() };
    let number = match (value, var.kind) {
        (KconfigValue::Tristate(Tristate::Module), KconfigKind::Bool) => return Err(wrong()),
        (KconfigValue::Tristate(t), KconfigKind::Bool | KconfigKind::Tristate) => u64::from(*t as u8),
        // A `char` holds the letter.
        (KconfigValue::Tristate(t), KconfigKind::Char { .. }) => u64::from(match t {
            Tristate::No => b'n',
            Tristate::Yes => b'y',
            Tristate::Module => b'm',
        }),
        (KconfigValue::Number(number), KconfigKind::Bool) if *number <= 1 => *number,
        (KconfigValue::Number(number), KconfigKind::Int { .. } | KconfigKind::Char { .. }) => *number,
        (KconfigValue::Text(text), KconfigKind::Text) => return Ok(c_string(text, var.size)),
        _ => return Err(wrong()),
    };
    if !fits(number, var) {
        return Err(KconfigFault::TooBig { value: value.to_string(), bytes: var.size });
    }
    Ok(number.to_le_bytes().into_iter().take(var.size as usize).collect())
}

fn fits(number: u64, var: &KconfigVar) -> bool {
    let unused = 64u32.saturating_sub(var.size.saturating_mul(8)).min(63);
    let signed = matches!(var.kind, KconfigKind::Int { signed: true } | KconfigKind::Char { signed: true });
    if signed {
        (number.cast_signed() << unused) >> unused == number.cast_signed()
    } else {
        (number << unused) >> unused == number
    }
}

/// A NUL-terminated string cut to `size` bytes, as libbpf cuts it.
fn c_string(text: &str, size: u32) -> Vec<u8> {
    let room = (size as usize).saturating_sub(1).min(text.len());
    let mut bytes = text.as_bytes().get(..room).unwrap_or_default().to_vec();
    bytes.push(0);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_file_is_read_line_by_line() {
        let text = "# CONFIG_OFF is not set\nCONFIG_BPF=y\nCONFIG_MOD=m\nCONFIG_HZ=250\nCONFIG_BASE=0xffffffff80000000\n\
                    CONFIG_NEG=-5\nCONFIG_MODE=0644\nCONFIG_NAME=\"a b\"\nCONFIG_BAD=\"x\nOTHER=1\n";
        let config = Kconfig::parse(text);
        let number = |n: u64| Some(KconfigValue::Number(n));
        assert_eq!(config.get("CONFIG_OFF"), None);
        assert_eq!(config.get("CONFIG_BPF"), Some(&KconfigValue::Tristate(Tristate::Yes)));
        assert_eq!(config.get("CONFIG_MOD"), Some(&KconfigValue::Tristate(Tristate::Module)));
        assert_eq!(config.get("CONFIG_HZ").cloned(), number(250));
        assert_eq!(config.get("CONFIG_BASE").cloned(), number(0xffff_ffff_8000_0000));
        assert_eq!(config.get("CONFIG_NEG").cloned(), number(5u64.wrapping_neg()));
        assert_eq!(config.get("CONFIG_MODE").cloned(), number(0o644));
        assert_eq!(config.get("CONFIG_NAME"), Some(&KconfigValue::Text("a b".to_owned())));
        assert_eq!(config.get("CONFIG_BAD"), None);
        assert_eq!(config.get("OTHER"), None);
    }

    fn bytes(kind: KconfigKind, size: u32, value: &str) -> Result<Vec<u8>, KconfigFault> {
        let var = KconfigVar { name: "CONFIG_X".to_owned(), offset: 0, size, kind, weak: false };
        encode(&var, &KconfigValue::parse(value).unwrap())
    }

    #[test]
    fn values_are_checked_against_the_variable() {
        use KconfigKind::{Bool, Char, Int, Text, Tristate};
        assert_eq!(bytes(Bool, 1, "y"), Ok(vec![1]));
        assert!(bytes(Bool, 1, "m").is_err());
        assert!(bytes(Bool, 1, "2").is_err());
        assert_eq!(bytes(Tristate, 4, "m"), Ok(vec![2, 0, 0, 0]));
        assert_eq!(bytes(Char { signed: true }, 1, "m"), Ok(vec![b'm']));
        assert_eq!(bytes(Int { signed: false }, 2, "65535"), Ok(vec![255, 255]));
        assert!(bytes(Int { signed: false }, 2, "65536").is_err());
        assert!(bytes(Int { signed: true }, 2, "32768").is_err());
        assert_eq!(bytes(Int { signed: true }, 2, "-32768"), Ok(vec![0, 128]));
        assert_eq!(bytes(Int { signed: false }, 8, "-1"), Ok(vec![255; 8]));
        assert!(bytes(Int { signed: false }, 4, "y").is_err());
        assert_eq!(bytes(Text, 4, "\"abcdef\""), Ok(b"abc\0".to_vec()));
        assert!(bytes(Text, 4, "1").is_err());
    }
}
