//! What the program has to know of the interface it answers at.

use std::net::{IpAddr, Ipv6Addr};
use std::path::Path;

use nix::ifaddrs::getifaddrs;
use nix::net::if_::if_nametoindex;

use super::AttachTo;
use crate::layout::{ADDRESSES, Address};

/// Headers in front of a datagram that the network's limit of packets counts: of IPv6, the longer ones, and of UDP.
const HEADERS: u32 = 48;

/// Why the program cannot answer at an interface.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetworkError {
    /// There is no such interface.
    #[error("the interface `{name}`: {errno}")]
    NoInterface {
        /// Its name.
        name: String,
        /// What the system says.
        errno: nix::errno::Errno,
    },
    /// It has no address to answer for.
    #[error("the interface `{name}` has no address")]
    NoAddress {
        /// Its name.
        name: String,
    },
    /// It has more addresses than the program compares.
    #[error("the interface `{name}` has {count} addresses, more than {ADDRESSES}: name the one to listen on")]
    ManyAddresses {
        /// Its name.
        name: String,
        /// How many.
        count: usize,
    },
}

/// An interface.
#[derive(Debug)]
pub(super) struct Network {
    pub(super) index: u32,
    pub(super) addresses: Vec<Address>,
    pub(super) datagram_max: u32,
    /// Whether there is a device behind it, not only software.
    pub(super) is_device: bool,
}

/// Looks up the interface, in the network namespace of the calling thread.
pub(super) fn look_up(to: &AttachTo) -> Result<Network, NetworkError> {
    let name = &to.interface;
    let refused = |errno| NetworkError::NoInterface { name: name.clone(), errno };
    let index = if_nametoindex(name.as_str()).map_err(refused)?;
    let addresses = if to.address.is_unspecified() {
        addresses_of(name, to.address).map_err(refused)?
    } else {
        vec![mapped(to.address)]
    };
    match addresses.len() {
        0 => return Err(NetworkError::NoAddress { name: name.clone() }),
        1..=ADDRESSES => {}
        count => return Err(NetworkError::ManyAddresses { name: name.clone(), count }),
    }
    let mtu = std::fs::read_to_string(format!("/sys/class/net/{name}/mtu")).unwrap_or_default();
    let mtu: u32 = mtu.trim().parse().unwrap_or(1500);
    let is_device = Path::new("/sys/class/net").join(name).join("device").exists();
    Ok(Network { index, addresses, datagram_max: mtu.saturating_sub(HEADERS), is_device })
}

/// The interface's addresses: those that a socket bound to this unspecified address hears.
fn addresses_of(name: &str, bound: IpAddr) -> Result<Vec<Address>, nix::errno::Errno> {
    let found = getifaddrs()?.filter(|of| of.interface_name == name).filter_map(|of| of.address);
    let addresses = found.filter_map(|address| {
        let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
        let v6 = || address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip()));
        v4.or_else(v6).filter(|address| address.is_ipv4() || bound.is_ipv6()).map(mapped)
    });
    Ok(addresses.collect())
}

fn mapped(address: IpAddr) -> Address {
    let bytes = match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    Address { bytes: Ipv6Addr::octets(&bytes) }
}
