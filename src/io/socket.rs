//! Opens the TCP sockets that cameras are reached by.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, socket_with, sockopt};

/// How long sent bytes may stay without an acknowledgement before the kernel ends the connection: a camera that
/// lost its power sends no FIN.
const USER_TIMEOUT: Duration = Duration::from_secs(10);

/// An unconnected TCP socket for `peer`'s address family: close-on-exec, no Nagle delay, bounded retransmission.
///
/// Blocking: io_uring does not wait on it in any case, and refuses to poll for a non-blocking one.
///
/// # Errors
/// The process or the machine is out of file descriptors or memory, or has no such address family.
pub(super) fn open_tcp(peer: &SocketAddr) -> Result<OwnedFd, Errno> {
    let family = if peer.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, Some(ipproto::TCP))?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    let timeout_ms = u32::try_from(USER_TIMEOUT.as_millis()).unwrap_or(u32::MAX);
    sockopt::set_tcp_user_timeout(&socket, timeout_ms)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_do_not_leak_into_children_or_wait_for_ever() {
        for peer in ["127.0.0.1:554", "[::1]:554"] {
            let socket = open_tcp(&peer.parse().unwrap()).unwrap();
            assert!(rustix::io::fcntl_getfd(&socket).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
            assert!(sockopt::tcp_nodelay(&socket).unwrap());
            assert_eq!(sockopt::tcp_user_timeout(&socket).unwrap(), 10_000);
        }
    }
}
