//! Attributes with which maps are created: allowed or refused alike.

use std::sync::Arc;

use bpf_arena::kernel::KernelObject;
use bpf_arena::{LoadError, MapSet};
use bpf_object::{Btf, MapSpec, MapType, Object};
use fastrand::Rng;

use super::config::Shape;
use super::side::Scripts;
use super::{Compared, Difference, MapsError};

/// Sizes on the edges of what types allow. None makes a map of much memory together with the entries below.
const SIZES: &[u32] =
    &[0, 1, 2, 3, 4, 5, 7, 8, 9, 12, 16, 64, 256, 260, 264, 512, 513, 4096, 1 << 31, u32::MAX];
const ENTRIES: &[u32] = &[0, 1, 2, 3, 4, 5, 64, 4096, 8192, 12288];
/// Those of `BPF_F_*` that are no promise of a descriptor (`BPF_F_VTYPE_BTF_OBJ_FD`, `BPF_F_TOKEN_FD`).
const FLAG_BITS: [u32; 18] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 17, 18, 19];
/// Of 512 bytes or more only so many.
const FEW_ENTRIES: u32 = 64;

/// Compares so many random sets of attributes for maps of one type.
///
/// # Errors
/// The first difference.
pub fn creations(map_type: MapType, first_seed: u64, count: u64) -> Result<Compared, MapsError> {
    let storage = super::config::configs(map_type).iter().any(|config| config.shape == Shape::Storage);
    // Local storages have to know the types of their values.
    let scripts = if storage { Some(Scripts::open()?) } else { None };
    let types = scripts.as_ref();
    let mut compared = Compared::default();
    for seed in (first_seed..).take(usize::try_from(count).unwrap_or(usize::MAX)) {
        let mut rng = Rng::with_seed(seed);
        let mut spec = random(map_type, &mut rng);
        let lent = types.filter(|_| rng.u8(0..4) > 0).and_then(|types| types.lent(spec.value_size));
        let btf = lent.is_some().then_some(()).and(types).and_then(Scripts::btf);
        (spec.key_btf, spec.value_btf) = lent.unwrap_or_default();
        let (mine, its) = (here(&spec, btf), in_kernel(&spec, btf));
        if mine != its {
            let what = format!("creation ends with {mine} here, {its} in the kernel");
            let difference = Difference { map: format!("{spec:?}"), seed, steps: Vec::new(), what };
            return Err(MapsError::Difference(Box::new(difference)));
        }
        compared.sequences += 1;
        compared.operations += 1;
    }
    Ok(compared)
}

/// Attributes that a type usually has, most of them, and some that are not allowed.
fn random(map_type: MapType, rng: &mut Rng) -> MapSpec {
    let usual = super::config::configs(map_type);
    let mut spec = match usual.get(rng.usize(0..usual.len().max(1))) {
        Some(config) => config.spec.clone(),
        None => MapSpec::new("subject", map_type),
    };
    let pick = |list: &[u32], rng: &mut Rng| list.get(rng.usize(0..list.len())).copied().unwrap_or(0);
    for _ in 0..rng.u8(0..3) {
        match rng.u8(0..5) {
            0 => spec.key_size = pick(SIZES, rng),
            1 => spec.value_size = pick(SIZES, rng),
            2 => spec.max_entries = pick(ENTRIES, rng),
            3 => spec.flags ^= 1 << pick(&FLAG_BITS, rng),
            _ => spec.extra = pick(&[0, 1, 5, 15, 16, 1 << 20], rng).into(),
        }
    }
    if matches!(map_type, MapType::ArrayOfMaps | MapType::HashOfMaps) {
        spec.inner = Some(Box::new(MapSpec {
            key_size: 4,
            value_size: 8,
            max_entries: 2,
            ..MapSpec::new("inner", MapType::Array)
        }));
    }
    // How many CPUs a kernel was built for is its own.
    if map_type == MapType::Cpumap || (512..1 << 29).contains(&spec.key_size.max(spec.value_size)) {
        spec.max_entries = spec.max_entries.min(FEW_ENTRIES);
    }
    spec
}

/// The error number with which the map is refused here; 0 if it is not.
fn here(spec: &MapSpec, btf: Option<&Arc<Btf>>) -> i32 {
    let specs: Arc<[MapSpec]> = Arc::from([spec.clone()]);
    match MapSet::create_with(&specs, btf.map(|btf| &**btf), false) {
        Ok(_) => 0,
        Err(LoadError::Map { source, .. }) => source.errno(),
        Err(LoadError::Arena { source, .. }) => source.errno().raw_os_error(),
        Err(_) => -1,
    }
}

fn in_kernel(spec: &MapSpec, btf: Option<&Arc<Btf>>) -> i32 {
    match KernelObject::new(&Object::of_maps(Arc::from([spec.clone()]), btf.cloned())) {
        Ok(_) => 0,
        Err(error) => error.errno().map_or(-1, sys::bpf::Errno::raw_os_error),
    }
}
