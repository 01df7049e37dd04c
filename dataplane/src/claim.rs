//! A claim on a network interface, so that no two appliances forward its packets twice.
//!
//! A claim is an abstract unix socket named after the interface. The kernel keeps such names apart
//! per network namespace, as it does interfaces, gives one out once, and takes it back when the
//! process ends, however it ends: nothing is left behind that would have to be cleared away.

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with,
    sockopt::socket_peercred,
};
use std::os::fd::OwnedFd;

/// Who is refused connects once, to learn the holder's process id, and nobody takes the connection.
/// After this many refusals (Linux' own limit) the id is no longer told; the refusal stands.
const WAITING_MAX: i32 = 4096;

/// Why an interface cannot be had. The message is shown to the operator as is.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// Another process has it, or another lane of this one.
    #[error(
        "interface `{interface}` is held by {holder}: two would take every packet of it twice; {remedy}",
        holder = told(*.process_id),
        remedy = remedy(*.process_id)
    )]
    Held {
        /// Name of the interface.
        interface: String,
        /// The process, if the system told; one in another process namespace has no id here.
        process_id: Option<u32>,
    },
    /// The system does not give the socket.
    #[error("interface `{interface}`: no socket to claim it with: {source}")]
    Socket {
        /// Name of the interface.
        interface: String,
        /// What the system said.
        source: Errno,
    },
}

fn told(process_id: Option<u32>) -> String {
    match process_id {
        Some(own) if own == std::process::id() => "another lane of this process".to_owned(),
        Some(other) => format!("another ringfence-dataplane, process {other}"),
        None => "another ringfence-dataplane".to_owned(),
    }
}

fn remedy(process_id: Option<u32>) -> &'static str {
    if process_id == Some(std::process::id()) {
        "give each lane ports of its own"
    } else {
        "stop that one, or give this lane another interface"
    }
}

/// An interface of this network namespace that no other appliance may open, until this is dropped.
#[derive(Debug)]
pub struct InterfaceClaim {
    _socket: OwnedFd,
}

impl InterfaceClaim {
    /// Claims `interface`, which need not exist.
    ///
    /// # Errors
    /// [`ClaimError`].
    pub fn take(interface: &str) -> Result<Self, ClaimError> {
        let failed = |source| ClaimError::Socket {
            interface: interface.to_owned(),
            source,
        };
        let address = SocketAddrUnix::new_abstract_name(name(interface).as_bytes());
        let address = address.map_err(failed)?;
        let socket = stream().map_err(failed)?;
        match bind(&socket, &address) {
            Ok(()) => {}
            Err(Errno::ADDRINUSE) => {
                return Err(ClaimError::Held {
                    interface: interface.to_owned(),
                    process_id: holder(&address),
                });
            }
            Err(source) => return Err(failed(source)),
        }
        listen(&socket, WAITING_MAX).map_err(failed)?;
        Ok(Self { _socket: socket })
    }
}

fn name(interface: &str) -> String {
    format!("ringfence/port/{interface}")
}

fn stream() -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
}

/// Who listens there. It need not answer: the kernel knows.
fn holder(address: &SocketAddrUnix) -> Option<u32> {
    let socket = stream().ok()?;
    connect(&socket, address).ok()?;
    let process_id = socket_peercred(&socket).ok()?.pid;
    u32::try_from(process_id.as_raw_pid()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names of this process, so that tests run side by side do not meet.
    fn own(name: &str) -> String {
        format!("{name}-{}", std::process::id())
    }

    #[test]
    fn a_claimed_interface_is_refused_to_the_next_and_told_with_its_holder() {
        let name = own("a");
        let held = InterfaceClaim::take(&name).unwrap();
        let error = InterfaceClaim::take(&name).unwrap_err();
        assert!(
            matches!(&error, ClaimError::Held { interface, process_id: Some(id) }
                if *interface == name && *id == std::process::id()),
            "{error}"
        );
        drop(held);
        InterfaceClaim::take(&name).unwrap();
    }

    #[test]
    fn a_claim_is_told_with_its_holder_however_often_it_is_asked() {
        let name = own("b");
        let _held = InterfaceClaim::take(&name).unwrap();
        for _ in 0..500 {
            let error = InterfaceClaim::take(&name).unwrap_err();
            assert!(
                matches!(
                    error,
                    ClaimError::Held {
                        process_id: Some(_),
                        ..
                    }
                ),
                "{error}"
            );
        }
    }

    #[test]
    fn another_process_is_told_by_its_id_and_with_what_to_do() {
        let error = ClaimError::Held {
            interface: "eth1".into(),
            process_id: Some(0),
        };
        assert_eq!(
            error.to_string(),
            "interface `eth1` is held by another ringfence-dataplane, process 0: two would take every packet of it twice; stop that one, or give this lane another interface"
        );
    }

    #[test]
    fn interfaces_do_not_stand_in_each_others_way() {
        let _one = InterfaceClaim::take(&own("c")).unwrap();
        InterfaceClaim::take(&own("d")).unwrap();
    }
}
