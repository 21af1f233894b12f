//! Clients that never stop asking, and count every request that is not answered.

use std::{
    collections::BTreeMap,
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// How long a client waits for anything before it calls the request failed.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long each client thinks between two requests: the machine is shared with what is asked.
const THINKING: Duration = Duration::from_millis(5);

/// How a client treats its connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// A new connection for every request.
    Anew,
    /// One connection for as long as the server keeps it.
    Kept,
}

/// Clients at work.
pub struct Load {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Tally>>,
}

/// What clients met with.
#[derive(Debug, Default)]
pub struct Tally {
    /// How many requests were answered by each version.
    pub answered: BTreeMap<String, usize>,
    /// What went wrong, and when.
    pub failures: Vec<String>,
    /// How often a kept connection had ended before anything of an answer came, so that the request was sent again.
    pub reopened: usize,
    /// The fewest answers that one client got.
    pub least: usize,
}

impl Load {
    /// Two clients with new connections and one that keeps its own, for each address.
    pub fn start(addresses: &[SocketAddr]) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let start = Instant::now();
        let manners = [Manner::Anew, Manner::Anew, Manner::Kept];
        let all = addresses.iter().flat_map(|address| manners.map(|manner| (*address, manner)));
        let clients = all.map(|(address, manner)| {
            let stop = stop.clone();
            thread::spawn(move || Client { address, manner, start, kept: None, tally: Tally::default() }.run(&stop))
        });
        Self { clients: clients.collect(), stop }
    }

    /// Stops the clients; answers what they met with together.
    pub fn stop(self) -> Tally {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Tally { least: usize::MAX, ..Tally::default() };
        for client in self.clients {
            let tally = client.join().expect("clients do not panic");
            all.least = all.least.min(tally.answered.values().sum());
            all.failures.extend(tally.failures);
            all.reopened += tally.reopened;
            for (version, count) in tally.answered {
                *all.answered.entry(version).or_default() += count;
            }
        }
        all
    }

    /// The clients work while `work` is done; not one of their requests may fail.
    pub fn during(what: &str, addresses: &[SocketAddr], work: impl FnOnce()) -> Tally {
        let (load, start) = (Self::start(addresses), Instant::now());
        work();
        let tally = load.stop();
        println!("{what}, in {:.1?}: {tally:?}", start.elapsed());
        assert!(tally.failures.is_empty(), "{what}: {} requests failed: {:#?}", tally.failures.len(), tally.failures);
        assert!(tally.least > 10, "{what}: every client was at work: {tally:?}");
        tally
    }
}

struct Client {
    address: SocketAddr,
    manner: Manner,
    start: Instant,
    kept: Option<BufReader<TcpStream>>,
    tally: Tally,
}

impl Client {
    fn run(mut self, stop: &AtomicBool) -> Tally {
        while !stop.load(Ordering::Relaxed) {
            match self.ask() {
                Ok(answer) => {
                    let version = answer.split_whitespace().next().unwrap_or_default().to_owned();
                    *self.tally.answered.entry(version).or_default() += 1;
                }
                Err(why) => {
                    let Self { address, manner, start, .. } = self;
                    let after = start.elapsed();
                    self.tally.failures.push(format!("{address} {manner:?} after {after:.3?}: {why}"));
                }
            }
            // Clients think; that is what makes a load of a rate.
            thread::sleep(THINKING);
        }
        self.tally
    }

    fn ask(&mut self) -> io::Result<String> {
        if let Some(mut stream) = self.kept.take() {
            match exchange(&mut stream, "GET", "/version", "", self.manner) {
                Ok((200, answer)) => {
                    self.kept = Some(stream);
                    return Ok(answer);
                }
                // A connection may end while nobody uses it. Nothing of an answer came, so every HTTP client asks again.
                Err(why) if why.kind() == io::ErrorKind::NotConnected => self.tally.reopened += 1,
                other => return other.and_then(|other| Err(io::Error::other(format!("{other:?}")))),
            }
        }
        let mut stream = connect(self.address)?;
        let (status, answer) = exchange(&mut stream, "GET", "/version", "", self.manner)?;
        if self.manner == Manner::Kept {
            self.kept = Some(stream);
        }
        if status == 200 { Ok(answer) } else { Err(io::Error::other(format!("{status}: {answer}"))) }
    }
}

/// One request on a connection of its own: status and body.
pub fn request(address: SocketAddr, method: &str, path: &str, body: &str) -> io::Result<(u16, String)> {
    exchange(&mut connect(address)?, method, path, body, Manner::Anew)
}

fn connect(address: SocketAddr) -> io::Result<BufReader<TcpStream>> {
    let stream = TcpStream::connect_timeout(&address, PATIENCE)
        .map_err(|why| io::Error::new(io::ErrorKind::ConnectionRefused, format!("connect: {why}")))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(BufReader::new(stream))
}

/// Asks and reads the whole answer. `NotConnected`: the connection ended before anything of it.
fn exchange(
    stream: &mut BufReader<TcpStream>,
    method: &str,
    path: &str,
    body: &str,
    manner: Manner,
) -> io::Result<(u16, String)> {
    let ending = if manner == Manner::Kept { "keep-alive" } else { "close" };
    let head = format!("{method} {path} HTTP/1.1\r\nHost: shop\r\nConnection: {ending}\r\n");
    let request = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
    let mut line = String::new();
    let begun = stream.get_mut().write_all(request.as_bytes()).and_then(|()| stream.read_line(&mut line));
    match begun {
        Ok(1..) => {}
        Ok(0) => return Err(io::Error::new(io::ErrorKind::NotConnected, "ended without an answer")),
        Err(why) if why.kind() == io::ErrorKind::WouldBlock => return Err(why),
        Err(why) => return Err(io::Error::new(io::ErrorKind::NotConnected, why)),
    }
    let broken = |what: &str| io::Error::new(io::ErrorKind::InvalidData, format!("{what} in {line:?}"));
    let status = line.split_whitespace().nth(1).and_then(|word| word.parse().ok());
    let status = status.ok_or_else(|| broken("no status"))?;
    let mut length = None;
    loop {
        let mut header = String::new();
        stream.read_line(&mut header)?;
        let header = header.trim_end().to_ascii_lowercase();
        match header.split_once(':') {
            Some(("content-length", value)) => length = value.trim().parse().ok(),
            Some(_) => {}
            None if header.is_empty() => break,
            None => return Err(broken("no header")),
        }
    }
    let mut body = vec![0; length.ok_or_else(|| broken("no length"))?];
    stream.read_exact(&mut body)?;
    Ok((status, String::from_utf8_lossy(&body).into_owned()))
}
