//! The context that programs get: bytes, or members of the structure that their argument points to.

use std::fs;

use anyhow::{Context as _, anyhow, bail};
use bpf_arena::bpf_object::{Btf, Kind, Object, ProgType, TypeId};
use bpf_arena::typed::value::{self, Place, Value};

use crate::failure::Failure;

/// Most bytes of a context: what the kernel takes for `SEC("syscall")` programs.
const MAX_CONTEXT_BYTES: u64 = u16::MAX as u64;

/// The bytes for `--ctx`, or as many zeroes as the program's context structure has.
pub(crate) fn bytes(object: &Object, program: &str, text: Option<&str>) -> Result<Vec<u8>, Failure> {
    let structure = structure(object, program);
    let found = object.programs.iter().find(|info| info.name == program);
    // `data_end` of 0 would say that nothing of the packet can be accessed.
    if text.is_none() && found.is_some_and(|info| info.kind.prog_type == Some(ProgType::Xdp)) {
        return Ok(Vec::new());
    }
    let zeroes = || {
        let size = structure.and_then(|(btf, ty)| btf.size_of(ty)).unwrap_or(0);
        vec![0; usize::try_from(size.min(MAX_CONTEXT_BYTES)).unwrap_or_default()]
    };
    let Some(text) = text else { return Ok(zeroes()) };
    let parsed = if let Some(path) = text.strip_prefix('@') {
        fs::read(path).with_context(|| path.to_owned())
    } else if text.contains('=') {
        members(structure, program, text, zeroes())
    } else {
        hex(text)
    };
    parsed.with_context(|| format!("--ctx {text}")).map_err(Failure::usage)
}

/// The bytes for `--ctx`, none without it.
pub(crate) fn given(text: Option<&str>, object: &Object, program: &str) -> Result<Vec<u8>, Failure> {
    text.map_or_else(|| Ok(Vec::new()), |text| bytes(object, program, Some(text)))
}

/// The context after a run, by its type.
pub(crate) fn value(object: &Object, program: &str, bytes: &[u8]) -> Option<Value> {
    let (btf, ty) = structure(object, program)?;
    value::read(btf, Place::whole(btf, ty).ok()?, bytes).ok()
}

/// Bytes as hexadecimal digits, with or without spaces between them.
pub(crate) fn hex(text: &str) -> anyhow::Result<Vec<u8>> {
    let digits: Vec<char> = text.chars().filter(|c| !c.is_whitespace()).collect();
    if !digits.len().is_multiple_of(2) {
        bail!("{} hexadecimal digits are no whole number of bytes", digits.len());
    }
    let digit = |c: char| c.to_digit(16).ok_or_else(|| anyhow!("`{c}` is no hexadecimal digit"));
    digits
        .chunks(2)
        .map(|pair| {
            let byte = pair.iter().try_fold(0, |byte, &c| Ok::<_, anyhow::Error>(byte << 4 | digit(c)?))?;
            Ok(u8::try_from(byte)?)
        })
        .collect()
}

/// Bytes as text.
pub(crate) fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What the argument of the program's function points to, if it is a structure.
fn structure<'a>(object: &'a Object, program: &str) -> Option<(&'a Btf, TypeId)> {
    let btf = object.btf.as_deref()?;
    let function = object.programs.iter().find(|p| p.name == program)?.btf_func?;
    let Kind::Func { proto, .. } = btf.kind(function)? else { return None };
    let Kind::FuncProto(proto) = btf.kind(*proto)? else { return None };
    let Kind::Ptr(target) = btf.kind(btf.resolve(proto.params.first()?.ty))? else { return None };
    btf.composite(*target).map(|_| (btf, btf.resolve(*target)))
}

fn members(
    structure: Option<(&Btf, TypeId)>,
    program: &str,
    text: &str,
    mut bytes: Vec<u8>,
) -> anyhow::Result<Vec<u8>> {
    let (btf, ty) =
        structure.ok_or_else(|| anyhow!("the context of `{program}` is no structure, give its bytes"))?;
    for setting in text.split(',') {
        let (path, text) =
            setting.split_once('=').ok_or_else(|| anyhow!("{setting}: expected MEMBER=VALUE"))?;
        let place = Place::whole(btf, ty)?.follow(btf, &format!(".{}", path.trim()))?;
        let start = usize::try_from(place.offset)?;
        let part = bytes.get_mut(start..start + usize::try_from(place.size)?);
        value::write(btf, place, text.trim(), part.ok_or_else(|| anyhow!("the context is too large"))?)
            .with_context(|| path.trim().to_owned())?;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_bytes() {
        assert_eq!(hex("00 ff1A\n").unwrap(), [0, 255, 26]);
        assert_eq!(hex("").unwrap(), [0u8; 0]);
        assert!(hex("0").unwrap_err().to_string().contains("whole number"));
        assert!(hex("0x").unwrap_err().to_string().contains("`x`"));
        assert_eq!(to_hex(&[0, 255, 26]), "00ff1a");
    }
}
