//! Values of any type that an object's BTF describes, for tools that do not know the types: printing, reading and
//! setting global variables by name.

mod path;
mod read;
mod write;

use std::fmt;

pub use path::{PathError, Place};
pub use read::{ReadError, read};
pub use write::{ParseError, write};

/// A type as C writes it, e.g. `struct node *`.
#[must_use]
pub fn c_type(btf: &bpf_object::Btf, ty: bpf_object::TypeId) -> String {
    super::layout::describe(btf, ty)
}

/// The declaration of a variable as C writes it, e.g. `struct point grid[2][3]`.
#[must_use]
pub fn declaration(btf: &bpf_object::Btf, ty: bpf_object::TypeId, name: &str) -> String {
    super::layout::declare(btf, ty, name)
}

/// A value, as its C type gives it meaning.
///
/// `Display` writes C; with `{:#}` on several lines where a line gets long.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Value {
    /// An integer, a bit field or a `char`.
    Int(i128),
    /// A `bool` that is 0 or 1.
    Bool(bool),
    /// An array of `char` that holds a NUL-terminated UTF-8 text.
    Text(String),
    /// An enum.
    Enum {
        /// Name of the constant, if one has this value.
        name: Option<String>,
        /// The value.
        value: i128,
    },
    /// A pointer.
    Pointer {
        /// The address; 0 is NULL.
        address: u64,
        /// The pointer's type in C.
        c_type: String,
    },
    /// A structure, or a union with what each of its members would be.
    Struct(Vec<(String, Value)>),
    /// An array.
    Array(Vec<Value>),
    /// A floating-point number.
    Float(f64),
    /// Bytes of a type without meaning for the reader.
    Bytes(Vec<u8>),
}

/// Width up to which `{:#}` keeps a value on one line.
const LINE_WIDTH: usize = 100;

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.print(f, f.alternate(), 0)
    }
}

impl Value {
    fn print(&self, f: &mut fmt::Formatter<'_>, lines: bool, indent: usize) -> fmt::Result {
        match self {
            Self::Int(value) => write!(f, "{value}"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Text(text) => write!(f, "{text:?}"),
            Self::Enum { name: Some(name), .. } => f.write_str(name),
            Self::Enum { name: None, value } => write!(f, "{value}"),
            Self::Pointer { address: 0, .. } => f.write_str("NULL"),
            Self::Pointer { address, .. } => write!(f, "{address:#x}"),
            Self::Float(value) => write!(f, "{value}"),
            Self::Struct(fields) => {
                let items = fields.iter().map(|(name, value)| (name.as_str(), value, 1));
                self.print_list(f, lines, indent, items)
            }
            Self::Array(elements) => {
                let runs = elements.chunk_by(|a, b| a == b).flat_map(|run| {
                    // As debuggers do: long runs of the same value are counted.
                    let (shown, times) = if run.len() > 4 { (1, run.len()) } else { (run.len(), 1) };
                    run.iter().take(shown).map(move |value| ("", value, times))
                });
                self.print_list(f, lines, indent, runs)
            }
            Self::Bytes(bytes) => {
                f.write_str("{")?;
                bytes
                    .iter()
                    .enumerate()
                    .try_for_each(|(i, byte)| write!(f, "{}{byte:#04x}", if i == 0 { "" } else { ", " }))?;
                f.write_str("}")
            }
        }
    }

    fn print_list<'a>(
        &self,
        f: &mut fmt::Formatter<'_>,
        lines: bool,
        indent: usize,
        items: impl Iterator<Item = (&'a str, &'a Value, usize)>,
    ) -> fmt::Result {
        let lines = lines && self.to_string().len() + indent > LINE_WIDTH;
        f.write_str("{")?;
        for (index, (name, value, times)) in items.enumerate() {
            match (lines, index) {
                (true, _) => write!(f, "\n{:1$}", "", indent + 4)?,
                (false, 0) => {}
                (false, _) => f.write_str(", ")?,
            }
            if !name.is_empty() {
                write!(f, ".{name} = ")?;
            }
            value.print(f, lines, indent + 4)?;
            if times > 1 {
                write!(f, " <repeats {times} times>")?;
            }
            if lines {
                f.write_str(",")?;
            }
        }
        if lines {
            write!(f, "\n{:1$}", "", indent)?;
        }
        f.write_str("}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_print_as_c() {
        let point = |x, y| Value::Struct(vec![("x".into(), Value::Int(x)), ("y".into(), Value::Int(y))]);
        let value = Value::Struct(vec![
            ("name".into(), Value::Text("a\"b".into())),
            ("color".into(), Value::Enum { name: Some("GREEN".into()), value: 5 }),
            ("corner".into(), Value::Array(vec![point(0, -1), point(4, 3)])),
            ("next".into(), Value::Pointer { address: 0, c_type: "struct shape *".into() }),
        ]);
        assert_eq!(
            value.to_string(),
            r#"{.name = "a\"b", .color = GREEN, .corner = {{.x = 0, .y = -1}, {.x = 4, .y = 3}}, .next = NULL}"#
        );
        let runs = Value::Array([vec![Value::Int(1); 2], vec![Value::Int(0); 30]].concat());
        assert_eq!(runs.to_string(), "{1, 1, 0 <repeats 30 times>}");
    }

    #[test]
    fn long_values_are_broken_into_lines() {
        let row = Value::Array((0..20).map(|i| Value::Int(i * 1_000_000)).collect());
        let value = Value::Struct(vec![("small".into(), Value::Int(1)), ("row".into(), row)]);
        let text = format!("{value:#}");
        assert!(
            text.starts_with("{\n    .small = 1,\n    .row = {\n        0,\n        1000000,\n"),
            "{text}"
        );
        assert!(text.ends_with("        19000000,\n    },\n}"), "{text}");
    }
}
