//! `bpf-arena inspect`.

use bpf_arena::bpf_object::{Linkage, MapSpec, Variable};
use bpf_arena::typed::value::{self, Place, Value};
use bpf_arena::typed::variable_names;
use bpf_arena::{App, Object};
use serde::Serialize;
use serde_json::Map;

use crate::args::InspectArgs;
use crate::engine::{self, Printed};
use crate::failure::Failure;
use crate::json::{self, ProgramRun};
use crate::output::{self, say};
use crate::{context, input, run};

/// `bpf-arena inspect --json`: one object.
#[derive(Serialize)]
struct Inspection {
    version: u32,
    license: String,
    programs: Vec<ProgramJson>,
    maps: Vec<MapJson>,
    /// By name; initial values, or with `--run` those after the runs.
    globals: Map<String, serde_json::Value>,
    runs: Vec<ProgramRun>,
    /// With `--run`, if the object has an arena.
    #[serde(skip_serializing_if = "Option::is_none")]
    arena: Option<json::Arena>,
}

#[derive(Serialize)]
struct ProgramJson {
    name: String,
    section: String,
}

#[derive(Serialize)]
struct MapJson {
    name: String,
    #[serde(rename = "type")]
    map_type: &'static str,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    flags: u32,
    map_extra: u64,
}

/// Shows what an object holds.
pub(crate) fn run(args: &InspectArgs) -> Result<(), Failure> {
    let object = Object::from(input::object(&args.object)?);
    let mut runs = Vec::new();
    let app = if args.run.is_empty() { None } else { Some(execute(args, &object, &mut runs)?) };
    let globals = globals(&object, app.as_ref())?;
    let arena = app.as_ref().and_then(run::arena);
    let spec = object.spec();
    if args.json {
        return output::json(&Inspection {
            version: json::VERSION,
            license: spec.license.clone(),
            programs: spec
                .programs
                .iter()
                .map(|p| ProgramJson { name: p.name.clone(), section: p.section.clone() })
                .collect(),
            maps: spec.maps.iter().map(MapJson::from).collect(),
            globals: globals.iter().map(|g| (g.name.clone(), g.to_json())).collect(),
            runs,
            arena,
        });
    }
    say!("license: {}", spec.license)?;
    section("PROGRAM", &["SECTION"], spec.programs.iter().map(|p| [p.name.clone(), p.section.clone()]))?;
    maps(&spec.maps)?;
    if !globals.is_empty() {
        say!("\nGLOBALS{}", if app.is_some() { "" } else { " (initial values)" })?;
        for global in &globals {
            say!("{} = {:#}", global.declaration, Shown(&global.value))?;
        }
    }
    match arena {
        Some(a) => say!("\narena: {} of {} pages in use, at {:#x}", a.pages_in_use, a.pages, a.address),
        None => Ok(()),
    }
}

fn execute(args: &InspectArgs, object: &Object, runs: &mut Vec<ProgramRun>) -> Result<App, Failure> {
    let names: Vec<&str> = args.run.iter().map(String::as_str).collect();
    names.iter().try_for_each(|name| input::known(object.spec(), name))?;
    let printed = Printed::default();
    let app = engine::load(object, &names, args.engine, &printed)?;
    for name in names {
        let mut ctx = context::bytes(object.spec(), name, args.ctx.as_deref())?;
        let outcome = run::execute(&app, name, &mut ctx, 1, None)?;
        let messages = printed.take();
        if !args.json {
            run::show(name, &outcome, 1, &messages)?;
        }
        runs.push(ProgramRun::new(name, &outcome, 1, &ctx, messages));
    }
    Ok(app)
}

fn section<const N: usize>(
    title: &str,
    columns: &[&str],
    rows: impl Iterator<Item = [String; N]>,
) -> Result<(), Failure> {
    let mut header = [""; N];
    for (cell, name) in header.iter_mut().zip(std::iter::once(&title).chain(columns)) {
        *cell = name;
    }
    let rows: Vec<[String; N]> = rows.collect();
    if rows.is_empty() { Ok(()) } else { say!("\n{}", output::table(header, rows)) }
}

fn maps(specs: &[MapSpec]) -> Result<(), Failure> {
    let columns = ["TYPE", "KEY", "VALUE", "ENTRIES", "FLAGS", "MAP_EXTRA"];
    let row = |spec: &MapSpec| {
        [
            spec.name.clone(),
            spec.map_type.name().to_owned(),
            spec.key_size.to_string(),
            spec.value_size.to_string(),
            spec.max_entries.to_string(),
            format!("{:#x}", spec.flags),
            format!("{:#x}", spec.extra),
        ]
    };
    section("MAP", &columns, specs.iter().map(row))
}

impl From<&MapSpec> for MapJson {
    fn from(spec: &MapSpec) -> Self {
        Self {
            name: spec.name.clone(),
            map_type: spec.map_type.name(),
            key_size: spec.key_size,
            value_size: spec.value_size,
            max_entries: spec.max_entries,
            flags: spec.flags,
            map_extra: spec.extra,
        }
    }
}

struct Global {
    name: String,
    declaration: String,
    /// Or why there is none.
    value: Result<Value, String>,
}

impl Global {
    fn to_json(&self) -> serde_json::Value {
        self.value.as_ref().map_or(serde_json::Value::Null, json::value)
    }
}

/// A value, or in its place why there is none.
struct Shown<'a>(&'a Result<Value, String>);

impl std::fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Ok(value) => value.fmt(f),
            Err(why) => write!(f, "<{why}>"),
        }
    }
}

/// The object's variables: as `app` has them, or as the object sets them at first.
fn globals(object: &Object, app: Option<&App>) -> Result<Vec<Global>, Failure> {
    let spec = object.spec();
    let mut globals = Vec::new();
    for name in variable_names(spec) {
        let Some((variable, btf)) = spec.variable(&name).zip(spec.btf.as_deref()) else { continue };
        let Some(ty) = variable.ty else { continue };
        let keyword = if variable.linkage == Linkage::Static { "static " } else { "" };
        let declaration = format!("{keyword}{}", value::declaration(btf, ty, &name));
        let value = match app {
            Some(app) => app.global_value(&name).map_err(|e| e.to_string()),
            None => Place::whole(btf, ty).map_err(|e| e.to_string()).and_then(|place| {
                let bytes = initial(variable, &spec.maps).ok_or("too large to be shown")?;
                value::read(btf, place, &bytes).map_err(|e| e.to_string())
            }),
        };
        globals.push(Global { name, declaration, value });
    }
    Ok(globals)
}

/// The bytes with which a variable starts; what the object leaves out is zero.
fn initial(variable: &Variable, maps: &[MapSpec]) -> Option<Vec<u8>> {
    let size = usize::try_from(variable.size).ok().filter(|&size| size <= 1 << 20)?;
    let start = usize::try_from(variable.offset).ok()?;
    let section = &maps.get(variable.map)?.initial;
    let there = section.get(start..).unwrap_or_default();
    Some(there.iter().copied().chain(std::iter::repeat(0)).take(size).collect())
}
