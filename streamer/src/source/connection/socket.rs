//! Unix and TCP sockets, the latter perhaps inside TLS, as two halves that
//! different tasks may own.

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use bytes::BytesMut;
use rustix::net::sockopt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream, lookup_host, tcp, unix};
use tokio_rustls::client::TlsStream;

use crate::error::{Failure, Result};
use crate::source::conninfo::{Address, Host, Keepalives};

pub enum ReadHalf {
    Tcp(tcp::OwnedReadHalf),
    Tls(tokio::io::ReadHalf<TlsStream<TcpStream>>),
    Unix(unix::OwnedReadHalf),
}

pub enum WriteHalf {
    Tcp(tcp::OwnedWriteHalf),
    Tls(tokio::io::WriteHalf<TlsStream<TcpStream>>),
    Unix(unix::OwnedWriteHalf),
}

/// A connected socket, still in one piece.
pub enum Stream {
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    Unix(UnixStream),
}

impl Stream {
    pub fn split(self) -> (ReadHalf, WriteHalf) {
        match self {
            Stream::Tcp(stream) => {
                let (read, write) = stream.into_split();
                (ReadHalf::Tcp(read), WriteHalf::Tcp(write))
            }
            Stream::Tls(stream) => {
                let (read, write) = tokio::io::split(*stream);
                (ReadHalf::Tls(read), WriteHalf::Tls(write))
            }
            Stream::Unix(stream) => {
                let (read, write) = stream.into_split();
                (ReadHalf::Unix(read), WriteHalf::Unix(write))
            }
        }
    }
}

/// Where a connection really leads, to send a cancel request to the same place.
#[derive(Clone, Debug)]
pub enum Peer {
    Tcp(std::net::SocketAddr),
    Unix(PathBuf),
}

impl ReadHalf {
    /// Reads what is there into the buffer's free space; 0 is the end.
    pub async fn read(&mut self, buffer: &mut BytesMut) -> io::Result<usize> {
        match self {
            ReadHalf::Tcp(half) => half.read_buf(buffer).await,
            ReadHalf::Tls(half) => match half.read_buf(buffer).await {
                // An end without TLS's own goodbye, as of a server that
                // crashed: messages have lengths, so it hides nothing.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
                result => result,
            },
            ReadHalf::Unix(half) => half.read_buf(buffer).await,
        }
    }
}

impl WriteHalf {
    pub async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            WriteHalf::Tcp(half) => half.write_all(bytes).await,
            WriteHalf::Tls(half) => {
                half.write_all(bytes).await?;
                half.flush().await
            }
            WriteHalf::Unix(half) => half.write_all(bytes).await,
        }
    }
}

/// The socket of a server in this folder. A leading `@` is Linux's abstract
/// namespace, as in libpq.
fn socket_file(folder: &Path, port: u16) -> PathBuf {
    let file = folder.join(format!(".s.PGSQL.{port}"));
    match file.to_str().and_then(|text| text.strip_prefix('@')) {
        Some(name) => PathBuf::from(format!("\0{name}")),
        None => file,
    }
}

/// Connects to the first address of `host` that answers.
pub async fn open(host: &Host, keepalives: &Keepalives) -> Result<(Stream, Peer)> {
    match &host.address {
        Address::Unix(folder) => {
            let file = socket_file(folder, host.port);
            let stream = UnixStream::connect(&file)
                .await
                .map_err(|error| unreachable_socket(&file, &error))?;
            Ok((Stream::Unix(stream), Peer::Unix(file)))
        }
        Address::Tcp { name, hostaddr } => {
            let addresses: Vec<_> = match hostaddr {
                Some(address) => vec![(*address, host.port).into()],
                None => lookup_host((name.as_str(), host.port))
                    .await
                    .map_err(|error| unknown_host(name, &error))?
                    .collect(),
            };
            let mut last = None;
            for address in addresses {
                match TcpStream::connect(address).await {
                    Ok(stream) => {
                        tune(&stream, keepalives)
                            .map_err(|error| unreachable_host(host, &error))?;
                        return Ok((Stream::Tcp(stream), Peer::Tcp(address)));
                    }
                    Err(error) => last = Some(error),
                }
            }
            let error = last.unwrap_or_else(|| io::Error::other("the name has no address"));
            Err(unreachable_host(host, &error))
        }
    }
}

fn tune(stream: &TcpStream, keepalives: &Keepalives) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = stream.as_fd();
    sockopt::set_socket_keepalive(socket, keepalives.on)?;
    if keepalives.on {
        if let Some(idle) = keepalives.idle {
            sockopt::set_tcp_keepidle(socket, idle)?;
        }
        if let Some(interval) = keepalives.interval {
            sockopt::set_tcp_keepintvl(socket, interval)?;
        }
        if let Some(count) = keepalives.count {
            sockopt::set_tcp_keepcnt(socket, count)?;
        }
    }
    if let Some(timeout) = keepalives.user_timeout {
        sockopt::set_tcp_user_timeout(socket, timeout.as_millis() as u32)?;
    }
    Ok(())
}

/// What the system said, in lower case and without its number.
pub fn io_text(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut characters = text.chars();
    match characters.next() {
        Some(first) => first.to_lowercase().chain(characters).collect(),
        None => String::new(),
    }
}

fn unreachable_socket(file: &Path, error: &io::Error) -> Failure {
    let failure = Failure::transient(format!(
        "cannot connect to the socket {}: {}",
        file.to_string_lossy().replace('\0', "@"),
        io_text(error)
    ));
    match error.kind() {
        io::ErrorKind::PermissionDenied => failure.hint(
            "this user may not open the socket: see unix_socket_permissions and unix_socket_group of the server",
        ),
        _ => failure.hint(
            "is the server running, and is this the folder (unix_socket_directories) and the port it uses?",
        ),
    }
}

fn unreachable_host(host: &Host, error: &io::Error) -> Failure {
    Failure::transient(format!("cannot connect to {host}: {}", io_text(error))).hint(
        "is the server running and listening there (listen_addresses, port), and does no firewall stand in between?",
    )
}

fn unknown_host(name: &str, error: &io::Error) -> Failure {
    Failure::transient(format!("cannot find host {name:?}: {}", io_text(error)))
        .hint("check the spelling of the host and the name servers of this machine")
}
