//! What is refused, and the words for it.

use syn::{Attribute, Data, DeriveInput, Error, Fields, FieldsNamed, Ident, LitStr, Meta, Result, Type};

/// The named fields of a structure that may derive `ArenaType`.
pub(crate) fn fields(input: &DeriveInput) -> Result<&FieldsNamed> {
    let name = &input.ident;
    let refuse = |why: &str| Err(Error::new(name.span(), format!("`{name}` cannot be an ArenaType: {why}")));
    let data = match &input.data {
        Data::Struct(data) => data,
        Data::Enum(_) => {
            return refuse(
                "an arena may hold any number, an enum only its own; use an integer and convert it",
            );
        }
        Data::Union(_) => {
            return refuse("it is not known which field of a union is in use; use an integer or an array");
        }
    };
    if !input.generics.params.is_empty() {
        return refuse("a generic structure has no single layout to compare with the program's");
    }
    if !has_repr_c(&input.attrs)? {
        return refuse("it needs #[repr(C)], so that its fields lie where the program's compiler puts them");
    }
    match &data.fields {
        Fields::Named(fields) => Ok(fields),
        _ => refuse("its fields need names, which are compared with the members of the C structure"),
    }
}

fn has_repr_c(attrs: &[Attribute]) -> Result<bool> {
    let mut found = false;
    for attr in attrs.iter().filter(|a| a.path().is_ident("repr")) {
        attr.parse_nested_meta(|meta| {
            found |= meta.path.is_ident("C");
            if meta.input.peek(syn::token::Paren) {
                let inner;
                syn::parenthesized!(inner in meta.input);
                inner.parse::<proc_macro2::TokenStream>()?;
            }
            Ok(())
        })?;
    }
    Ok(found)
}

/// The text of `#[arena(name = "..")]`.
pub(crate) fn c_name(attrs: &[Attribute]) -> Result<Option<String>> {
    let mut name = None;
    for attr in attrs.iter().filter(|a| a.path().is_ident("arena")) {
        if !matches!(attr.meta, Meta::List(_)) {
            return Err(Error::new_spanned(attr, "expected #[arena(name = \"..\")]"));
        }
        attr.parse_nested_meta(|meta| {
            if !meta.path.is_ident("name") {
                return Err(meta.error("unknown attribute; there is `name = \"..\"`"));
            }
            name = Some(meta.value()?.parse::<LitStr>()?.value());
            Ok(())
        })?;
    }
    Ok(name)
}

/// Refuses types that look plain but are not, with a reason; what is left is decided by the trait bound.
pub(crate) fn field_type(field: &Ident, ty: &Type) -> Result<()> {
    let refuse = |why: &str| Err(Error::new_spanned(ty, format!("field `{field}`: {why}")));
    match ty {
        Type::Array(array) => field_type(field, &array.elem),
        Type::Paren(inner) => field_type(field, &inner.elem),
        Type::Group(inner) => field_type(field, &inner.elem),
        Type::Path(path) => match path.path.segments.last().and_then(|s| why_not(&s.ident.to_string())) {
            Some(why) => refuse(why),
            None => Ok(()),
        },
        Type::Reference(_) | Type::Ptr(_) => refuse(
            "an address of the host means nothing in an arena; use ArenaPtr<T>, which is checked when followed",
        ),
        Type::BareFn(_) => refuse("a function of the host means nothing in an arena"),
        Type::Slice(_) => refuse("a slice has no size; use an array, or an ArenaPtr<T> and a length"),
        Type::Tuple(_) => refuse("a tuple has no layout in C; use a structure with #[derive(ArenaType)]"),
        _ => refuse(
            "only integers, arrays, structures with #[derive(ArenaType)] and ArenaPtr<T> can lie in an arena",
        ),
    }
}

fn why_not(last: &str) -> Option<&'static str> {
    Some(match last {
        "bool" => "an arena may hold any byte, a bool is 0 or 1; use u8 and compare with 0",
        "char" => "an arena may hold any number, a char only some; use u32 and char::from_u32",
        "f32" | "f64" => "BPF has no floating point; use an integer",
        "usize" | "isize" => "its width is the host's; use u64 or i64",
        "Box" | "Rc" | "Arc" | "Vec" | "String" | "NonNull" | "Pin" => {
            "it points to memory of the host; use ArenaPtr<T> or an array"
        }
        "Option" => "it has no layout in C; an ArenaPtr<T> can be null",
        "Cell" | "RefCell" | "UnsafeCell" | "Mutex" | "RwLock" => {
            "a copy is read and written, never the memory itself; use the plain type"
        }
        name if name.starts_with("Atomic") => {
            "a copy is read and written, never the memory itself; use the plain integer and the arena's atomic operations"
        }
        name if name.starts_with("NonZero") => "an arena may hold any number, 0 too; use the plain integer",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use syn::parse_quote;

    use crate::expand::arena_type;

    fn refusal(input: &syn::DeriveInput) -> String {
        arena_type(input).err().map(|e| e.to_string()).unwrap_or_default()
    }

    #[test]
    fn shapes_without_a_c_layout_are_refused() {
        let cases: [(syn::DeriveInput, &str); 6] = [
            (
                parse_quote!(
                    enum E {
                        A,
                    }
                ),
                "an enum only its own",
            ),
            (parse_quote!(union U { a: u8 }), "which field of a union"),
            (
                parse_quote!(
                    struct S {
                        a: u8,
                    }
                ),
                "needs #[repr(C)]",
            ),
            (
                parse_quote!(
                    #[repr(align(8))]
                    struct S {
                        a: u8,
                    }
                ),
                "needs #[repr(C)]",
            ),
            (
                parse_quote!(
                    #[repr(C)]
                    struct S(u8);
                ),
                "need names",
            ),
            (
                parse_quote!(
                    #[repr(C)]
                    struct S<T> {
                        a: T,
                    }
                ),
                "generic",
            ),
        ];
        for (input, expected) in cases {
            let text = refusal(&input);
            assert!(text.contains(expected), "{expected}: {text}");
            assert!(text.contains(&input.ident.to_string()));
        }
    }

    #[test]
    fn fields_that_are_not_plain_are_refused_by_name() {
        let cases: [(syn::Type, &str); 14] = [
            (parse_quote!(bool), "use u8"),
            (parse_quote!([[bool; 2]; 3]), "use u8"),
            (parse_quote!(char), "char::from_u32"),
            (parse_quote!(f64), "floating point"),
            (parse_quote!(usize), "width is the host's"),
            (parse_quote!(&'static u8), "ArenaPtr<T>"),
            (parse_quote!(*mut u8), "ArenaPtr<T>"),
            (parse_quote!(Box<u8>), "memory of the host"),
            (parse_quote!(std::string::String), "memory of the host"),
            (parse_quote!(Option<u8>), "can be null"),
            (parse_quote!(fn()), "function of the host"),
            (parse_quote!((u8, u8)), "no layout in C"),
            (parse_quote!(std::sync::atomic::AtomicU64), "atomic operations"),
            (parse_quote!(NonZeroU8), "0 too"),
        ];
        for (ty, expected) in cases {
            let text = refusal(&parse_quote!(#[repr(C)] struct S { fine: u64, odd: #ty }));
            assert!(text.starts_with("field `odd`: ") && text.contains(expected), "{expected}: {text}");
        }
    }

    #[test]
    fn attributes_are_checked() {
        let text = refusal(&parse_quote!(
            #[repr(C)]
            struct S {
                #[arena(nam = "x")]
                a: u8,
            }
        ));
        assert!(text.contains("unknown attribute"), "{text}");
        let text = refusal(&parse_quote!(
            #[repr(C)]
            #[arena]
            struct S {
                a: u8,
            }
        ));
        assert!(text.contains("expected #[arena"), "{text}");
        assert_eq!(
            refusal(&parse_quote!(
                #[repr(C, align(16))]
                #[arena(name = "s")]
                struct S {
                    a: u8,
                }
            )),
            ""
        );
    }
}
