//! The addresses that clients come to: one for all cameras and, if wanted, one for each. A camera that refuses connections
//! closes its own; the common one is closed when all refuse.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;

use rustix::event::epoll;

use crate::faults::plan::Plan;

/// A listening socket that can be closed and opened again.
#[derive(Debug)]
pub(crate) struct Door {
    pub(crate) address: SocketAddr,
    /// `None`: all of them.
    pub(crate) camera: Option<usize>,
    pub(crate) listener: Option<TcpListener>,
}

impl Door {
    /// Listens.
    pub(crate) fn open(address: SocketAddr, camera: Option<usize>) -> io::Result<Self> {
        let listener = listen(address)?;
        Ok(Self { address: listener.local_addr()?, camera, listener: Some(listener) })
    }

    /// Opens or closes it, as its cameras want it; whether it is open now, if that has changed. Clients that were not let
    /// in yet are reset.
    pub(crate) fn mind(&mut self, plan: &Plan, epoll: impl AsFd, token: u64) -> io::Result<Option<bool>> {
        let refuses = match self.camera {
            Some(camera) => plan.of(Some(camera)).refuses(),
            None => plan.all(crate::faults::plan::Active::refuses),
        };
        match (&self.listener, refuses) {
            (Some(_), true) => self.listener = None,
            (None, false) => {
                let listener = listen(self.address)?;
                watch(&listener, epoll, token)?;
                self.listener = Some(listener);
            }
            (Some(_), false) | (None, true) => return Ok(None),
        }
        Ok(Some(!refuses))
    }
}

/// Adds a listener to an epoll.
pub(crate) fn watch(listener: &TcpListener, epoll: impl AsFd, token: u64) -> io::Result<()> {
    Ok(epoll::add(epoll, listener, epoll::EventData::new_u64(token), epoll::EventFlags::IN)?)
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    rustix::net::listen(&listener, LISTEN_BACKLOG)?;
    Ok(listener)
}

const LISTEN_BACKLOG: i32 = 1024;
