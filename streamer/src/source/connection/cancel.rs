//! Asking the server to stop what a connection of ours is doing.

use std::io::{self, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use bytes::BytesMut;
use postgres_protocol::message::frontend;

use super::socket::Peer;
use crate::source::tls::Secured;

/// How long a cancel request may hold up whoever sends it.
const TIMEOUT: Duration = Duration::from_secs(3);

/// What it takes to cancel a connection's command (CancelRequest).
#[derive(Clone, Debug)]
pub struct CancelToken {
    peer: Peer,
    /// The connection is inside TLS, so its key is to be sent in no other way.
    secured: Option<Secured>,
    process_id: i32,
    secret_key: i32,
}

impl CancelToken {
    pub(super) fn new(
        peer: Peer,
        secured: Option<Secured>,
        process_id: i32,
        secret_key: i32,
    ) -> Self {
        CancelToken {
            peer,
            secured,
            process_id,
            secret_key,
        }
    }

    /// The server process that serves the connection.
    pub fn process_id(&self) -> i32 {
        self.process_id
    }

    /// Sends the request; that the server got it, not that it obeyed.
    ///
    /// Blocks for a few seconds at most: it has to work where nothing can be
    /// awaited any more, in a destructor.
    pub fn cancel(&self) -> io::Result<()> {
        let mut request = BytesMut::new();
        frontend::cancel_request(self.process_id, self.secret_key, &mut request);
        match &self.peer {
            Peer::Tcp(address) => {
                let mut stream = TcpStream::connect_timeout(address, TIMEOUT)?;
                stream.set_write_timeout(Some(TIMEOUT))?;
                match &self.secured {
                    None => stream.write_all(&request),
                    Some(secured) => {
                        stream.set_read_timeout(Some(TIMEOUT))?;
                        secured.send_blocking(stream, &request)
                    }
                }
            }
            Peer::Unix(file) => {
                let mut stream = UnixStream::connect(file)?;
                stream.set_write_timeout(Some(TIMEOUT))?;
                stream.write_all(&request)
            }
        }
    }
}

/// Cancels the connection's command unless it is told that the command ended:
/// a command whose caller went away must not live on in the server.
pub struct CancelOnDrop(Option<CancelToken>);

impl CancelOnDrop {
    pub fn new(token: CancelToken) -> Self {
        CancelOnDrop(Some(token))
    }

    pub fn ended(mut self) {
        self.0 = None;
    }
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        if let Some(token) = &self.0
            && let Err(error) = token.cancel()
        {
            tracing::warn!(
                "could not cancel the command of server process {}: {error}",
                token.process_id
            );
        }
    }
}
