//! Access paths: from a type to one of its fields, through members and array elements.

use super::Budget;
use super::matching::fields_compatible;
use crate::btf::{Array, Btf, Kind, Member, TypeId};
use crate::error::CoreError;
use crate::limits::MAX_CORE_PATH;

/// One step of a path.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step<'b> {
    /// Element `index` of an array (or of the root, as C indexes a pointer) of type `ty`.
    Element { ty: TypeId, index: u32 },
    /// A named member.
    Member { name: &'b str, member: &'b Member, last: bool },
}

/// A field: where a path leads.
#[derive(Clone, Debug)]
pub(super) struct Path<'b> {
    pub(super) btf: &'b Btf,
    /// Never empty: the first step is into the root.
    pub(super) steps: Vec<Step<'b>>,
    pub(super) bit_offset: u64,
}

/// Reads `0:1:2`.
pub(super) fn indices(text: &str) -> Option<Vec<u32>> {
    let indices: Option<Vec<u32>> = text
        .split(':')
        .take(MAX_CORE_PATH + 1)
        .map(|n| n.parse().ok().filter(|&n| n <= i32::MAX as u32))
        .collect();
    indices.filter(|i| !i.is_empty() && i.len() <= MAX_CORE_PATH)
}

impl<'b> Path<'b> {
    /// Follows indices that the compiler wrote, from `root` of its own BTF. Steps through anonymous members are not
    /// kept: the target may nest them differently.
    pub(super) fn follow(btf: &'b Btf, root: TypeId, indices: &[u32]) -> Option<Self> {
        let (&first, rest) = indices.split_first()?;
        let mut path = Self { btf, steps: Vec::new(), bit_offset: 0 };
        let mut at = btf.resolve(root);
        path.element(at, first)?;
        for &index in rest {
            at = btf.resolve(at);
            match btf.kind(at)? {
                Kind::Struct(composite) | Kind::Union(composite) => {
                    let member = composite.members.get(index as usize)?;
                    path.bit_offset = path.bit_offset.checked_add(u64::from(member.bit_offset))?;
                    if member.name.0 != 0 {
                        let last = index as usize + 1 == composite.members.len();
                        path.steps.push(Step::Member { name: btf.str(member.name), member, last });
                    }
                    at = member.ty;
                }
                Kind::Array(array) => {
                    if index >= array.len && !path.ends_flexible(array) {
                        return None;
                    }
                    at = btf.resolve(array.element);
                    path.element(at, index)?;
                }
                _ => return None,
            }
        }
        Some(path)
    }

    /// Looks for the same field from `root` of another BTF: members by name and compatible type.
    pub(super) fn find_in<'t>(
        &self,
        btf: &'t Btf,
        root: TypeId,
        budget: &mut Budget,
    ) -> Result<Option<Path<'t>>, CoreError> {
        let mut path = Path { btf, steps: Vec::new(), bit_offset: 0 };
        let mut at = root;
        for (index, step) in self.steps.iter().enumerate() {
            at = btf.resolve(at);
            match *step {
                Step::Member { name, member, .. } => {
                    let Some((found, last, offset)) = find_member(btf, at, name, MAX_CORE_PATH, budget)?
                    else {
                        return Ok(None);
                    };
                    if !fields_compatible(self.btf, member.ty, btf, found.ty, budget)? {
                        return Ok(None);
                    }
                    path.bit_offset = path.bit_offset.saturating_add(offset);
                    path.steps.push(Step::Member { name: btf.str(found.name), member: found, last });
                    at = found.ty;
                }
                Step::Element { index: element, .. } => {
                    if index > 0 {
                        let Some(Kind::Array(array)) = btf.kind(at) else { return Ok(None) };
                        if element >= array.len && !path.ends_flexible(array) {
                            return Ok(None);
                        }
                        at = btf.resolve(array.element);
                    }
                    if path.element(at, element).is_none() {
                        return Ok(None);
                    }
                }
            }
        }
        Ok(Some(path))
    }

    fn element(&mut self, ty: TypeId, index: u32) -> Option<()> {
        // An element of unknown size can only be the first.
        let size = if index == 0 { 0 } else { self.btf.size_of(ty)? };
        let bits = u64::from(index).checked_mul(size)?.checked_mul(8)?;
        self.bit_offset = self.bit_offset.checked_add(bits)?;
        self.steps.push(Step::Element { ty, index });
        Some(())
    }

    /// Whether an array at the end of the path so far is a flexible one: without length and the last member.
    fn ends_flexible(&self, array: &Array) -> bool {
        array.len == 0 && matches!(self.steps.last(), Some(Step::Member { last: true, .. }))
    }

    /// `.a.b[3]`.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for (index, step) in self.steps.iter().enumerate() {
            match step {
                Step::Element { index: 0, .. } if index == 0 => {}
                Step::Element { index, .. } => text.push_str(&format!("[{index}]")),
                Step::Member { name, .. } => text.push_str(&format!(".{name}")),
            }
        }
        text
    }
}

/// The member of this name in a struct or union, or in its anonymous members; whether it is the last of its struct;
/// its offset in bits.
fn find_member<'t>(
    btf: &'t Btf,
    id: TypeId,
    name: &str,
    depth: usize,
    budget: &mut Budget,
) -> Result<Option<(&'t Member, bool, u64)>, CoreError> {
    let depth = depth.checked_sub(1).ok_or(CoreError::TooDeep { limit: MAX_CORE_PATH })?;
    let Some(composite) = btf.composite(id) else { return Ok(None) };
    for (index, member) in composite.members.iter().enumerate() {
        budget.spend()?;
        let offset = u64::from(member.bit_offset);
        if member.name.0 == 0 {
            if let Some((found, last, inner)) = find_member(btf, member.ty, name, depth, budget)? {
                return Ok(Some((found, last, offset + inner)));
            }
        } else if btf.str(member.name) == name {
            return Ok(Some((member, index + 1 == composite.members.len(), offset)));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn access_paths_are_numbers_between_colons() {
        assert_eq!(indices("0:1:20"), Some(vec![0, 1, 20]));
        assert_eq!(indices("0"), Some(vec![0]));
        for bad in ["", ":", "0:", ":1", "a", "0:-1", "0::1", "4294967295", "2147483648"] {
            assert_eq!(indices(bad), None, "{bad}");
        }
        assert_eq!(indices(&vec!["0"; MAX_CORE_PATH + 1].join(":")), None);
    }
}
