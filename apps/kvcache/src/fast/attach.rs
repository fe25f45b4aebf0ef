//! Where the kernel runs the program, and what stays of that for the next server.
//!
//! XDP is the first to see a packet and the fastest, but a packet can grow there only as far as its driver left room; traffic control
//! has no such limit. So where there is XDP, traffic control is behind it: XDP marks what it has no room for, and traffic control
//! looks at nothing else. An interface that is no device, such as one end of a veth pair, has traffic control alone: its driver would
//! copy every packet for XDP, and lose what XDP sends if the other end does not happen to be ready for that.
//!
//! Each attachment can have a name in a BPF file system, by which the next server finds it, and puts its own program in the place of
//! the earlier one without a gap.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use bpf_arena::kernel::{AttachError, AttachTarget, Attachment, Errno, XdpMode};
use tracing::warn;

use super::network::Network;
use super::program::{FastError, Loaded};
use crate::store::Store;

/// Where the kernel runs the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// In the driver (XDP).
    Native,
    /// In the network stack, before it looks at packets (XDP).
    Generic,
    /// In traffic control, where packets come in.
    Tc,
}

impl Hook {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::Native, Self::Generic, Self::Tc];

    /// Its name on the command line, in logs, and in those of links.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
            Self::Tc => "tc",
        }
    }

    fn target(self, interface: u32) -> AttachTarget<'static> {
        match self {
            Self::Native => AttachTarget::Xdp { interface, mode: XdpMode::Native },
            Self::Generic => AttachTarget::Xdp { interface, mode: XdpMode::Generic },
            Self::Tc => AttachTarget::TcIngress(interface),
        }
    }

    fn program(self, loaded: &Loaded) -> &bpf_arena::Program {
        if self == Self::Tc { loaded.tc() } else { loaded.xdp() }
    }
}

/// What is attached, the first to see a packet first.
pub(super) type Attached = Vec<(Hook, Attachment)>;

/// Attaches the program where it is asked for. With a folder, what an earlier server left there is taken over, and what is new gets
/// a name there.
pub(super) fn attach(
    store: &Store,
    loaded: &Loaded,
    network: &Network,
    wanted: Option<Hook>,
    folder: Option<&Path>,
) -> Result<Attached, FastError> {
    let mut site = Site { loaded, interface: network.index, folder, earlier: earlier(folder)? };
    let wanted = wanted.or((!network.is_device).then_some(Hook::Tc));
    // Before anything is taken away: it looks at everything from now on, and so answers while XDP moves from one place to another, and
    // afterwards if the server ends meanwhile.
    store.set_tc_behind(false);
    let is_new = !site.earlier.iter().any(|(hook, _)| *hook == Hook::Tc);
    let tc = site.attach(Hook::Tc);
    let xdp = match wanted {
        Some(Hook::Tc) => Ok(None),
        Some(hook) => site.attach(hook).map(|link| Some((hook, link))),
        None => site.attach_xdp().map(Some),
    };
    let mut attached: Attached = match xdp {
        Ok(xdp) => xdp.into_iter().collect(),
        Err(refused) => {
            // A server that does not start leaves nothing attached. Why it does not says more than an error of this would.
            if let (true, Ok(tc)) = (is_new, tc) {
                let _ = site.remove(Hook::Tc, tc);
            }
            return Err(refused);
        }
    };
    match tc {
        Ok(tc) => attached.push((Hook::Tc, tc)),
        Err(error) if attached.is_empty() => return Err(error),
        Err(error) => warn!("{error}: long answers are left to the server"),
    }
    store.set_tc_behind(attached.len() == 2);
    site.leave()?;
    Ok(attached)
}

/// The name of what is attached there.
pub(crate) fn link_name(hook: Hook) -> String {
    format!("link_{}", hook.name())
}

/// What an earlier server left attached.
fn earlier(folder: Option<&Path>) -> Result<Attached, FastError> {
    let mut found = Attached::new();
    for (hook, path) in folder.into_iter().flat_map(names) {
        if path.try_exists().map_err(|source| FastError::Name { path: path.clone(), source })? {
            let link = Attachment::open_pinned(&path).map_err(|source| FastError::Link { path, source })?;
            found.push((hook, link));
        }
    }
    Ok(found)
}

fn names(folder: &Path) -> impl Iterator<Item = (Hook, PathBuf)> {
    Hook::ALL.into_iter().map(|hook| (hook, folder.join(link_name(hook))))
}

/// An interface, the program for it, and what an earlier server left there that is not taken over yet.
struct Site<'a> {
    loaded: &'a Loaded,
    interface: u32,
    folder: Option<&'a Path>,
    earlier: Attached,
}

impl Site<'_> {
    /// At XDP: where an earlier server found that it can be, or in the best place that there is.
    fn attach_xdp(&mut self) -> Result<(Hook, Attachment), FastError> {
        if self.earlier.iter().any(|(hook, _)| *hook == Hook::Generic) {
            return Ok((Hook::Generic, self.attach(Hook::Generic)?));
        }
        // The reason why the best place is refused tells most.
        self.attach(Hook::Native).map(|link| (Hook::Native, link)).or_else(|refused| {
            self.attach(Hook::Generic).map(|link| (Hook::Generic, link)).map_err(|_| refused)
        })
    }

    fn attach(&mut self, hook: Hook) -> Result<Attachment, FastError> {
        if let Some(link) = self.take(hook) {
            if replace(hook, self.loaded, &link)? {
                return Ok(link);
            }
            self.remove(hook, link)?;
        }
        // One interface has XDP in one place alone.
        let other = match hook {
            Hook::Native => Some(Hook::Generic),
            Hook::Generic => Some(Hook::Native),
            Hook::Tc => None,
        };
        if let Some((other, link)) = other.and_then(|hook| Some((hook, self.take(hook)?))) {
            self.remove(other, link)?;
        }
        let program = hook.program(self.loaded).kernel().ok_or(AttachError::NotInKernel);
        let link = program.and_then(|program| program.attach(hook.target(self.interface)));
        let link = link.map_err(|source| FastError::Attach { hook, source })?;
        if let Some(folder) = self.folder {
            let path = folder.join(link_name(hook));
            link.pin(&path).map_err(|source| FastError::Link { path, source })?;
        }
        Ok(link)
    }

    fn take(&mut self, hook: Hook) -> Option<Attachment> {
        let at = self.earlier.iter().position(|(earlier, _)| *earlier == hook)?;
        Some(self.earlier.swap_remove(at).1)
    }

    /// Takes away what nobody took over.
    fn leave(mut self) -> Result<(), FastError> {
        while let Some((hook, link)) = self.earlier.pop() {
            self.remove(hook, link)?;
        }
        Ok(())
    }

    fn remove(&self, hook: Hook, link: Attachment) -> Result<(), FastError> {
        let Some(folder) = self.folder else { return Ok(()) };
        let path = folder.join(link_name(hook));
        fs::remove_file(&path).map_err(|source| FastError::Name { path: path.clone(), source })?;
        match link.detach() {
            // Its interface is gone, and it is not attached any more.
            Err(AttachError::Link(error)) if error.errno() == Some(Errno::NOLINK) => Ok(()),
            result => result.map_err(|source| FastError::Link { path, source }),
        }
    }
}

/// Puts the program in the place of an earlier server's; `false` if that is attached to nothing any more.
fn replace(hook: Hook, loaded: &Loaded, link: &Attachment) -> Result<bool, FastError> {
    let program = hook.program(loaded).kernel().ok_or(AttachError::NotInKernel);
    match program.and_then(|program| link.replace(program)) {
        Ok(()) => Ok(true),
        Err(AttachError::Link(error)) if error.errno() == Some(Errno::NOLINK) => Ok(false),
        Err(source) => Err(FastError::Attach { hook, source }),
    }
}

/// Removes the names of what is attached: what nobody holds is detached.
pub(crate) fn forget(folder: &Path) -> io::Result<()> {
    names(folder).try_for_each(|(_, path)| match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    })
}
