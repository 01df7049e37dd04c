//! Who sits at the other end of the Unix socket, as the kernel says.

use api::life::Peer;
use axum::extract::connect_info::Connected;
use axum::serve::IncomingStream;
use tokio::net::UnixListener;

/// Names of users.
const PASSWD: &str = "/etc/passwd";

/// The process that opened a connection; none where the kernel did not tell.
#[derive(Clone, Debug)]
pub struct SocketPeer(pub Option<Peer>);

impl Connected<IncomingStream<'_, UnixListener>> for SocketPeer {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        let credentials = stream.io().peer_cred();
        Self(credentials.ok().map(|credentials| Peer {
            uid: credentials.uid(),
            // Looked up only where it is kept.
            user: String::new(),
            pid: credentials.pid(),
        }))
    }
}

impl SocketPeer {
    /// With the name of its user.
    #[must_use]
    pub fn named(self) -> Option<Peer> {
        let peer = self.0?;
        let passwd = std::fs::read_to_string(PASSWD).unwrap_or_default();
        let user = user(&passwd, peer.uid).unwrap_or_default().to_owned();
        Some(Peer { user, ..peer })
    }
}

/// The name of a user in a table as passwd(5) has it.
fn user(passwd: &str, uid: u32) -> Option<&str> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let number: u32 = fields.nth(1)?.parse().ok()?;
        (number == uid).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_named_by_the_first_line_that_has_its_number() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\n# no user\nada:x:1000:1000::/srv/ada:\nbob:x:1000:1:::\n";
        assert_eq!(user(passwd, 0), Some("root"));
        assert_eq!(user(passwd, 1000), Some("ada"));
        assert_eq!(user(passwd, 7), None);
        assert_eq!(user("", 0), None);
    }
}
