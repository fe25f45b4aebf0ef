//! What the running kernel tells about itself in files.

use std::fs;
use std::io::{self, Read};

/// Files of the kernel are bounded by the kernel; these bounds only keep a strange mount from filling the memory.
const MAX_BYTES: u64 = 256 << 20;

/// The kernel's own BTF (`/sys/kernel/btf/vmlinux`).
///
/// # Errors
/// The kernel was built without `CONFIG_DEBUG_INFO_BTF` (`NotFound`), or sysfs is not mounted.
pub fn kernel_btf() -> io::Result<Vec<u8>> {
    read("/sys/kernel/btf/vmlinux")
}

/// Names of the modules that have BTF (`/sys/kernel/btf/*`), sorted.
#[must_use]
pub fn module_names() -> Vec<String> {
    let Ok(entries) = fs::read_dir("/sys/kernel/btf") else { return Vec::new() };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut names: Vec<_> = names.filter(|name| name != "vmlinux").collect();
    names.sort();
    names
}

/// BTF of a module, split on the kernel's.
///
/// # Errors
/// The module is not loaded, or has none.
pub fn module_btf(name: &str) -> io::Result<Vec<u8>> {
    read(&format!("/sys/kernel/btf/{name}"))
}

/// The kernel's configuration: `/proc/config.gz` (compressed, as gzip(1) does), or else `/boot/config-RELEASE`.
///
/// # Errors
/// Neither is there.
pub fn kernel_config() -> io::Result<Vec<u8>> {
    read("/proc/config.gz").or_else(|_| {
        let name = rustix::system::uname();
        read(&format!("/boot/config-{}", name.release().to_string_lossy()))
    })
}

/// Address of a kernel symbol (`/proc/kallsyms`); `None` if there is none, or addresses are hidden from this process.
#[must_use]
pub fn symbol_address(name: &str) -> Option<u64> {
    let symbols = read("/proc/kallsyms").ok()?;
    let line = symbols.split(|&b| b == b'\n').find(|line| {
        let mut fields = line.split(|b: &u8| b.is_ascii_whitespace());
        fields.nth(2).is_some_and(|field| field == name.as_bytes())
    })?;
    let address = core::str::from_utf8(line.split(|&b| b == b' ').next()?).ok()?;
    u64::from_str_radix(address, 16).ok().filter(|&address| address != 0)
}

fn read(path: &str) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(MAX_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_names_are_absent() {
        assert!(module_btf("no such module").is_err());
        assert_eq!(symbol_address("no such symbol"), None);
        assert!(!module_names().contains(&"vmlinux".to_owned()));
    }
}
