//! The generated code.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{DeriveInput, Result, ext::IdentExt};

use crate::check;

/// The implementation for `input`.
pub(crate) fn arena_type(input: &DeriveInput) -> Result<TokenStream> {
    let fields = check::fields(input)?;
    let name = &input.ident;
    let rust_name = name.unraw().to_string();
    let c_name = check::c_name(&input.attrs)?.unwrap_or_else(|| snake_case(&rust_name));

    let mut shapes = TokenStream::new();
    let mut constants = TokenStream::new();
    let (mut zeros, mut loads, mut stores) = (TokenStream::new(), TokenStream::new(), TokenStream::new());
    for field in &fields.named {
        // Named fields only: `check::fields` saw to it.
        let Some(ident) = &field.ident else { continue };
        let (vis, ty) = (&field.vis, &field.ty);
        check::field_type(ident, ty)?;
        let text = ident.unraw().to_string();
        let c_name = match check::c_name(&field.attrs)? {
            Some(name) => quote!(::core::option::Option::Some(#name)),
            None if text.starts_with('_') => quote!(::core::option::Option::None),
            None => quote!(::core::option::Option::Some(#text)),
        };
        let offset = quote!(::core::mem::offset_of!(#name, #ident));
        let as_type = quote!(<#ty as ::bpf_arena::typed::ArenaType>);
        shapes.extend(quote! {
            ::bpf_arena::typed::FieldShape {
                name: #text,
                c_name: #c_name,
                offset: #offset,
                shape: #as_type::SHAPE,
            },
        });
        zeros.extend(quote!(#ident: #as_type::ZERO,));
        loads.extend(quote!(#ident: #as_type::load_from(memory, at.wrapping_add(#offset as u64))?,));
        stores.extend(quote! {
            #as_type::store_to(&{ self.#ident }, memory, at.wrapping_add(#offset as u64))?;
        });
        let doc = format!("Where the field `{text}` lies, for `ArenaPtr::field`.");
        constants.extend(quote! {
            #[doc = #doc]
            #[allow(non_upper_case_globals, dead_code, reason = "it carries the field's name")]
            #vis const #ident: ::bpf_arena::typed::Field<#name, #ty> = ::bpf_arena::typed::Field::at(#offset);
        });
    }

    Ok(quote! {
        impl #name {
            #constants
        }

        impl ::bpf_arena::typed::ArenaType for #name {
            const SHAPE: ::bpf_arena::typed::Shape =
                ::bpf_arena::typed::Shape::Struct(&::bpf_arena::typed::StructShape {
                    name: #rust_name,
                    c_name: #c_name,
                    size: ::core::mem::size_of::<#name>(),
                    fields: &[#shapes],
                });
            const ZERO: Self = Self { #zeros };

            fn load_from<M: ::bpf_arena::typed::Memory + ?::core::marker::Sized>(
                memory: &M,
                at: u64,
            ) -> ::core::result::Result<Self, M::Error> {
                ::core::result::Result::Ok(Self { #loads })
            }

            fn store_to<M: ::bpf_arena::typed::Memory + ?::core::marker::Sized>(
                &self,
                memory: &M,
                at: u64,
            ) -> ::core::result::Result<(), M::Error> {
                #stores
                ::core::result::Result::Ok(())
            }
        }
    })
}

/// `HashEntry` as C writes it: `hash_entry`.
fn snake_case(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 4);
    for (index, c) in name.chars().enumerate() {
        if c.is_uppercase() && index > 0 {
            out.push('_');
        }
        out.extend(c.to_lowercase());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::snake_case;

    #[test]
    fn c_names() {
        assert_eq!(snake_case("Node"), "node");
        assert_eq!(snake_case("HashEntry"), "hash_entry");
        assert_eq!(snake_case("node"), "node");
    }
}
