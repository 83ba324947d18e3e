//! A proxy between the streamer and the server that misbehaves on demand.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::server::Server;

/// Listens on a port of 127.0.0.1 and passes bytes to and from a server's unix
/// socket. Faults take effect at once, on open connections too.
pub struct FaultProxy {
    port: u16,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

struct Shared {
    target: PathBuf,
    faults: Faults,
    connections: Mutex<Vec<Connection>>,
    accepted: AtomicU64,
    /// Bytes passed on from the server to its clients.
    from_server: AtomicU64,
    closing: AtomicBool,
}

#[derive(Default)]
struct Faults {
    /// Nothing is passed on from server to client while set.
    stalled_from_server: AtomicBool,
    /// Nothing is passed on from client to server while set.
    stalled_to_server: AtomicBool,
    /// New connections are closed at once while set.
    refusing: AtomicBool,
    /// Microseconds that every piece waits before it is passed on.
    delay: AtomicU64,
    /// Bytes a second from server to client; 0 for no limit.
    rate: AtomicU64,
    /// All connections are cut once this many bytes have come from the server; u64::MAX for never.
    cut_at: AtomicU64,
}

struct Connection {
    client: TcpStream,
    server: UnixStream,
}

impl Connection {
    fn cut(&self) {
        let _ = self.client.shutdown(Shutdown::Both);
        let _ = self.server.shutdown(Shutdown::Both);
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Direction {
    FromServer,
    ToServer,
}

impl FaultProxy {
    /// A proxy before `server`, without faults yet.
    pub fn before(server: &Server) -> FaultProxy {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port on 127.0.0.1");
        let port = listener
            .local_addr()
            .expect("address of a bound socket")
            .port();
        let shared = Arc::new(Shared {
            target: server
                .socket_dir()
                .join(format!(".s.PGSQL.{}", server.port())),
            faults: Faults {
                cut_at: AtomicU64::new(u64::MAX),
                ..Faults::default()
            },
            connections: Mutex::default(),
            accepted: AtomicU64::new(0),
            from_server: AtomicU64::new(0),
            closing: AtomicBool::new(false),
        });
        let acceptor = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, &shared)
        });
        FaultProxy {
            port,
            shared,
            acceptor: Some(acceptor),
        }
    }

    /// URL of database `postgres` by way of this proxy.
    pub fn url(&self) -> String {
        self.url_of("postgres")
    }

    /// URL of `database` by way of this proxy.
    pub fn url_of(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// How many connections were taken so far, refused ones not counted.
    pub fn accepted(&self) -> u64 {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// How many bytes came from the server so far, over all connections.
    pub fn bytes_from_server(&self) -> u64 {
        self.shared.from_server.load(Ordering::SeqCst)
    }

    /// Cuts every open connection; new ones are taken as before.
    pub fn cut(&self) {
        self.shared.cut();
    }

    /// Cuts every connection once `bytes` more have come from the server, in the midst of a message like as not.
    pub fn cut_after(&self, bytes: u64) {
        self.shared
            .faults
            .cut_at
            .store(self.bytes_from_server() + bytes, Ordering::SeqCst);
    }

    /// Whether new connections are refused.
    pub fn refuse(&self, refuse: bool) {
        self.shared.faults.refusing.store(refuse, Ordering::SeqCst);
    }

    /// Whether everything stands still, in both directions, with connections left open.
    pub fn stall(&self, stall: bool) {
        self.stall_from_server(stall);
        self.stall_to_server(stall);
    }

    /// Whether what the server sends is held back.
    pub fn stall_from_server(&self, stall: bool) {
        self.shared
            .faults
            .stalled_from_server
            .store(stall, Ordering::SeqCst);
    }

    /// Whether what the client sends (its feedback, for one) is held back.
    pub fn stall_to_server(&self, stall: bool) {
        self.shared
            .faults
            .stalled_to_server
            .store(stall, Ordering::SeqCst);
    }

    /// Every piece waits this long before it is passed on.
    pub fn delay(&self, delay: Duration) {
        self.shared
            .faults
            .delay
            .store(delay.as_micros() as u64, Ordering::SeqCst);
    }

    /// At most so many bytes a second from server to client; 0 lifts the limit.
    pub fn throttle(&self, bytes_per_second: u64) {
        self.shared
            .faults
            .rate
            .store(bytes_per_second, Ordering::SeqCst);
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::SeqCst);
        // Wakes the acceptor, which then sees that it is to end.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
        self.shared.cut();
    }
}

impl Shared {
    fn cut(&self) {
        for connection in self.connections.lock().expect("open connections").drain(..) {
            connection.cut();
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for client in listener.incoming() {
        if shared.closing.load(Ordering::SeqCst) {
            return;
        }
        let Ok(client) = client else { continue };
        if shared.faults.refusing.load(Ordering::SeqCst) {
            continue;
        }
        let Ok(server) = UnixStream::connect(&shared.target) else {
            continue;
        };
        let _ = client.set_nodelay(true);
        shared.accepted.fetch_add(1, Ordering::SeqCst);
        let both = |connection: &Connection| -> std::io::Result<Connection> {
            Ok(Connection {
                client: connection.client.try_clone()?,
                server: connection.server.try_clone()?,
            })
        };
        let kept = Connection { client, server };
        let (Ok(one), Ok(other)) = (both(&kept), both(&kept)) else {
            continue;
        };
        shared
            .connections
            .lock()
            .expect("open connections")
            .push(kept);
        let (there, back) = (Arc::clone(shared), Arc::clone(shared));
        std::thread::spawn(move || {
            pass(
                &mut &one.client,
                &mut &one.server,
                Direction::ToServer,
                &there,
            );
            one.cut();
        });
        std::thread::spawn(move || {
            pass(
                &mut &other.server,
                &mut &other.client,
                Direction::FromServer,
                &back,
            );
            other.cut();
        });
    }
}

/// Passes bytes on until either side ends.
fn pass(from: &mut impl Read, to: &mut impl Write, direction: Direction, shared: &Shared) {
    let faults = &shared.faults;
    let stalled = match direction {
        Direction::FromServer => &faults.stalled_from_server,
        Direction::ToServer => &faults.stalled_to_server,
    };
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let length = match from.read(&mut buffer) {
            Ok(0) => return,
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(_) => return,
        };
        let began = Instant::now();
        let delay = Duration::from_micros(faults.delay.load(Ordering::SeqCst));
        if !delay.is_zero() {
            std::thread::sleep(delay);
        }
        while stalled.load(Ordering::SeqCst) && !shared.closing.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(5));
        }
        let mut passed = length;
        if direction == Direction::FromServer {
            let before = shared
                .from_server
                .fetch_add(length as u64, Ordering::SeqCst);
            let cut_at = faults.cut_at.load(Ordering::SeqCst);
            if before + length as u64 >= cut_at {
                faults.cut_at.store(u64::MAX, Ordering::SeqCst);
                passed = cut_at.saturating_sub(before).min(length as u64) as usize;
                let _ = to.write_all(&buffer[..passed]);
                shared.cut();
                return;
            }
            let rate = faults.rate.load(Ordering::SeqCst);
            if rate > 0 {
                let due = Duration::from_secs_f64(length as f64 / rate as f64);
                std::thread::sleep(due.saturating_sub(began.elapsed()));
            }
        }
        if to.write_all(&buffer[..passed]).is_err() {
            return;
        }
    }
}
