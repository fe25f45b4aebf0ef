//! The running kernel: its types, its configuration, its symbols.

use std::sync::{Arc, OnceLock};

use bpf_object::{Btf, Kconfig, KconfigValue, KindTag, LinkOptions, Tristate, TypeId};
use sys::bpf::{KernelVersion, system};

use super::KernelError;

/// Most bytes a decompressed kernel configuration may have; real ones have 300 KiB.
const MAX_CONFIG_BYTES: usize = 16 << 20;

/// Where a kernel function or variable is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct KernelType {
    pub(super) id: TypeId,
    /// Index into [`Running::modules`]; `None` for the kernel proper.
    pub(super) module: Option<usize>,
}

/// What the engine knows of the running kernel; read once per process.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) btf: Arc<Btf>,
    kconfig: OnceLock<Kconfig>,
    modules: OnceLock<Vec<Module>>,
}

/// A kernel module with type information.
#[derive(Debug)]
pub(super) struct Module {
    pub(super) name: String,
    pub(super) btf: Arc<Btf>,
}

impl Running {
    /// Reads the kernel's BTF, or gives what was read before.
    pub(super) fn get() -> Result<&'static Self, KernelError> {
        static RUNNING: OnceLock<Running> = OnceLock::new();
        if let Some(running) = RUNNING.get() {
            return Ok(running);
        }
        let bytes = system::kernel_btf().map_err(KernelError::NoKernelBtf)?;
        let btf = Btf::parse(&bytes).map_err(KernelError::KernelBtf)?;
        Ok(RUNNING.get_or_init(|| Self {
            btf: Arc::new(btf),
            kconfig: OnceLock::new(),
            modules: OnceLock::new(),
        }))
    }

    /// What linking for this kernel needs.
    pub(super) fn link_options(&self) -> LinkOptions {
        LinkOptions {
            target_btf: Some(Arc::clone(&self.btf)),
            module_btfs: self.modules().iter().map(|m| Arc::clone(&m.btf)).collect(),
            kconfig: self.kconfig().clone(),
            ..LinkOptions::default()
        }
    }

    /// Modules with BTF. One that cannot be read (unloaded meanwhile) is left out.
    pub(super) fn modules(&self) -> &[Module] {
        self.modules.get_or_init(|| {
            let parse = |name: String| {
                let bytes = system::module_btf(&name).ok()?;
                let btf = Btf::parse_split(&bytes, Arc::clone(&self.btf)).ok()?;
                Some(Module { name, btf: Arc::new(btf) })
            };
            system::module_names().into_iter().filter_map(parse).collect()
        })
    }

    /// The type with this name and kind, in the kernel or one of its modules.
    pub(super) fn find(&self, name: &str, kind: KindTag) -> Option<KernelType> {
        if let Some(id) = self.btf.find(name, kind) {
            return Some(KernelType { id, module: None });
        }
        self.modules().iter().enumerate().find_map(|(index, module)| {
            module.btf.find(name, kind).map(|id| KernelType { id, module: Some(index) })
        })
    }

    /// Values for `__kconfig` variables; those of a kernel that hides its configuration are the `LINUX_*` ones alone.
    fn kconfig(&self) -> &Kconfig {
        self.kconfig.get_or_init(|| {
            let bytes = system::kernel_config().unwrap_or_default();
            let mut kconfig = parse_config(&decompress(bytes));
            let KernelVersion { major, minor } = KernelVersion::running();
            let patch = KernelVersion::running_patch().min(255);
            let version = u64::from(major) << 16 | u64::from(minor) << 8 | u64::from(patch);
            kconfig.set("LINUX_KERNEL_VERSION", KconfigValue::Number(version));
            // bpf_get_attach_cookie (5.15) and arch_has_syscall_wrapper, which libbpf provides too.
            let has_cookie = KernelVersion { major, minor } >= KernelVersion { major: 5, minor: 15 };
            kconfig.set("LINUX_HAS_BPF_COOKIE", KconfigValue::Number(has_cookie.into()));
            let wrapper = self.btf.find("__x64_sys_bpf", KindTag::Func).is_some();
            kconfig.set("LINUX_HAS_SYSCALL_WRAPPER", KconfigValue::Number(wrapper.into()));
            kconfig
        })
    }
}

/// What gzip(1) compressed, or the bytes as they are. Empty when damaged.
fn decompress(bytes: Vec<u8>) -> Vec<u8> {
    match gzip_payload(&bytes) {
        Some(payload) => {
            miniz_oxide::inflate::decompress_to_vec_with_limit(payload, MAX_CONFIG_BYTES).unwrap_or_default()
        }
        None => bytes,
    }
}

/// The deflate stream of a gzip member (RFC 1952); `None` if this is not one.
fn gzip_payload(bytes: &[u8]) -> Option<&[u8]> {
    const EXTRA: u8 = 4;
    const NAME: u8 = 8;
    const COMMENT: u8 = 16;
    const HEADER_CHECK: u8 = 2;
    let mut rest = bytes.strip_prefix(&[0x1f, 0x8b, 8])?;
    let flags = *rest.first()?;
    rest = rest.get(7..)?;
    if flags & EXTRA != 0 {
        let length = u16::from_le_bytes([*rest.first()?, *rest.get(1)?]);
        rest = rest.get(2 + usize::from(length)..)?;
    }
    for text in [NAME, COMMENT] {
        if flags & text != 0 {
            let end = rest.iter().position(|&b| b == 0)?;
            rest = rest.get(end + 1..)?;
        }
    }
    if flags & HEADER_CHECK != 0 { rest.get(2..) } else { Some(rest) }
}

/// Reads lines `CONFIG_X=y`, `=m`, `=n`, `="text"`, `=number`; anything else is skipped.
fn parse_config(text: &[u8]) -> Kconfig {
    let mut kconfig = Kconfig::new();
    for line in String::from_utf8_lossy(text).lines() {
        if let Some((name, value)) = line.trim().split_once('=')
            && name.starts_with("CONFIG_")
            && let Some(value) = parse_value(value)
        {
            kconfig.set(name, value);
        }
    }
    kconfig
}

fn parse_value(value: &str) -> Option<KconfigValue> {
    Some(match value {
        "y" => KconfigValue::Tristate(Tristate::Yes),
        "m" => KconfigValue::Tristate(Tristate::Module),
        "n" => KconfigValue::Tristate(Tristate::No),
        text if text.starts_with('"') => {
            KconfigValue::Text(text.strip_prefix('"')?.strip_suffix('"')?.to_owned())
        }
        number => KconfigValue::Number(match number.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16).ok()?,
            None => {
                number.parse::<u64>().ok().or_else(|| number.parse::<i64>().ok().map(i64::cast_unsigned))?
            }
        }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configuration_values() {
        let kconfig = parse_config(
            b"# CONFIG_OFF is not set\nCONFIG_A=y\nCONFIG_B=m\nCONFIG_HZ=250\nCONFIG_NEG=-1\nCONFIG_HEX=0xff\n\
              CONFIG_T=\"a b\"\nOTHER=1\nCONFIG_BAD=what\n",
        );
        assert_eq!(kconfig.get("CONFIG_A"), Some(&KconfigValue::Tristate(Tristate::Yes)));
        assert_eq!(kconfig.get("CONFIG_B"), Some(&KconfigValue::Tristate(Tristate::Module)));
        assert_eq!(kconfig.get("CONFIG_HZ"), Some(&KconfigValue::Number(250)));
        assert_eq!(kconfig.get("CONFIG_NEG"), Some(&KconfigValue::Number(u64::MAX)));
        assert_eq!(kconfig.get("CONFIG_HEX"), Some(&KconfigValue::Number(255)));
        assert_eq!(kconfig.get("CONFIG_T"), Some(&KconfigValue::Text("a b".to_owned())));
        for absent in ["CONFIG_OFF", "OTHER", "CONFIG_BAD"] {
            assert_eq!(kconfig.get(absent), None);
        }
    }

    #[test]
    fn gzip_members() {
        // `printf 'CONFIG_A=y\n' | gzip -nc`, and the same with a file name.
        let deflated: &[u8] = &[
            0x73, 0xf6, 0xf7, 0x73, 0xf3, 0x74, 0x8f, 0x77, 0xb4, 0xad, 0xe4, 0x02, 0x00, 0x8e, 0xb1, 0x80,
            0xda, 0x0b, 0x00, 0x00, 0x00,
        ];
        let plain = [&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3], deflated].concat();
        let named = [&[0x1f, 0x8b, 8, 8, 0, 0, 0, 0, 0, 3, b'x', 0], deflated].concat();
        for member in [plain, named] {
            assert_eq!(decompress(member), b"CONFIG_A=y\n");
        }
        assert_eq!(decompress(b"CONFIG_A=y\n".to_vec()), b"CONFIG_A=y\n");
        assert_eq!(
            decompress(vec![0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 3, 9, 9]),
            [0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 3, 9, 9]
        );
    }
}
