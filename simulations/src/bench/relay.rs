//! A bad link in user space: a UDP relay between one participant and the server.
//!
//! It has a rate, a queue, a delay and losses, can go dark, and can change the address from which the server sees the
//! participant, as a router does that forgets its translation. Which datagrams are lost is drawn from a seed; when they come
//! is up to the machine. It knows nothing of QUIC.

mod lane;

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use self::lane::Lane;

/// How often a thread that hears nothing looks whether its relay is still wanted.
const LOOK_UP: Duration = Duration::from_millis(20);
/// Larger than any datagram.
const DATAGRAM_BYTES_MAX: usize = 1 << 16;

/// What one direction of a link is like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Weather {
    /// Bytes a second; none is as fast as the machine.
    pub bytes_per_second: Option<u64>,
    /// How long each datagram is under way.
    pub delay: Duration,
    /// How much may wait for its turn, in time at the rate; what comes then is dropped.
    pub queue: Duration,
    /// Share of the datagrams that are lost.
    pub loss: f64,
}

impl Weather {
    /// Loses and delays nothing.
    pub const FAIR: Self = Self {
        bytes_per_second: None,
        delay: Duration::ZERO,
        queue: Duration::ZERO,
        loss: 0.0,
    };
}

/// Bytes of datagrams, without IP and UDP headers, that the two ends gave to the link: lost ones count too.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, serde::Serialize)]
pub struct Traffic {
    /// From the participant.
    pub up: u64,
    /// From the server.
    pub down: u64,
}

impl Traffic {
    /// Both ways together.
    pub fn total(self) -> u64 {
        self.up + self.down
    }
}

/// A link between one participant and the server; it is gone when it is dropped.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    ends: Arc<Ends>,
    up: Arc<Lane>,
    down: Arc<Lane>,
    threads: Vec<JoinHandle<()>>,
}

/// The sockets, and who is behind them.
#[derive(Debug)]
struct Ends {
    server: SocketAddr,
    front: UdpSocket,
    participant: Mutex<Option<SocketAddr>>,
    back: Mutex<Arc<UdpSocket>>,
    is_over: AtomicBool,
}

impl Relay {
    /// Opens a link to the server, with equal weather both ways.
    ///
    /// # Errors
    /// If the system has no sockets or threads left.
    pub fn open(server: SocketAddr, weather: Weather, seed: u64) -> io::Result<Self> {
        let front = socket()?;
        let address = front.local_addr()?;
        let ends = Arc::new(Ends {
            server,
            front,
            participant: Mutex::new(None),
            back: Mutex::new(Arc::new(socket()?)),
            is_over: AtomicBool::new(false),
        });
        let (up, to_server) = Lane::new(weather, seed);
        let (down, to_participant) = Lane::new(weather, !seed);
        let (up, down) = (Arc::new(up), Arc::new(down));
        let mut relay = Self {
            address,
            ends: Arc::clone(&ends),
            up: Arc::clone(&up),
            down: Arc::clone(&down),
            threads: Vec::new(),
        };
        let (listening, sending) = (Arc::clone(&ends), Arc::clone(&ends));
        relay.spawn("up", move || listening.listen_to_participant(&up))?;
        relay.spawn("to server", move || {
            to_server.run(|datagram| sending.send_to_server(datagram));
        })?;
        let (listening, sending) = (Arc::clone(&ends), ends);
        relay.spawn("down", move || listening.listen_to_server(&down))?;
        relay.spawn("to participant", move || {
            to_participant.run(|datagram| sending.send_to_participant(datagram));
        })?;
        Ok(relay)
    }

    /// Where the participant finds the server now.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lets everything through, or nothing.
    pub fn set_dark(&self, is_dark: bool) {
        self.up.set_dark(is_dark);
        self.down.set_dark(is_dark);
    }

    /// Changes the address from which the server sees the participant. What the server sends to the old one is lost.
    ///
    /// # Errors
    /// If the system has no socket left.
    pub fn change_address(&self) -> io::Result<()> {
        *self
            .ends
            .back
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Arc::new(socket()?);
        Ok(())
    }

    /// What was given to the link so far.
    pub fn traffic(&self) -> Traffic {
        Traffic {
            up: self.up.bytes(),
            down: self.down.bytes(),
        }
    }

    fn spawn(&mut self, name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let thread = thread::Builder::new().name(format!("link {name}"));
        self.threads.push(thread.spawn(run)?);
        Ok(())
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.ends.is_over.store(true, Ordering::Relaxed);
        self.up.end();
        self.down.end();
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
    }
}

impl Ends {
    fn listen_to_participant(&self, lane: &Lane) {
        let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
        while !self.is_over.load(Ordering::Relaxed) {
            if let Ok((length, from)) = self.front.recv_from(&mut buffer) {
                *self
                    .participant
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner) = Some(from);
                lane.enter(&buffer[..length]);
            }
        }
    }

    fn listen_to_server(&self, lane: &Lane) {
        let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
        while !self.is_over.load(Ordering::Relaxed) {
            let back = self.back();
            if let Ok((length, from)) = back.recv_from(&mut buffer)
                && from == self.server
            {
                lane.enter(&buffer[..length]);
            }
        }
    }

    fn send_to_server(&self, datagram: &[u8]) {
        // Lost, as on any link that is full.
        let _ = self.back().send_to(datagram, self.server);
    }

    fn send_to_participant(&self, datagram: &[u8]) {
        let participant = *self
            .participant
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(participant) = participant {
            let _ = self.front.send_to(datagram, participant);
        }
    }

    fn back(&self) -> Arc<UdpSocket> {
        Arc::clone(&self.back.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn socket() -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.set_read_timeout(Some(LOOK_UP))?;
    Ok(socket)
}

#[cfg(test)]
mod tests;
