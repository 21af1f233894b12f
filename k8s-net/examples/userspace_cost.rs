//! What the userspace service proxy costs: processor time of a connection, a mebibyte and a datagram through it, beside the
//! same without it.
//!
//! Client, server and proxy run in this process, on the loopback, and need no privileges:
//! `cargo run --release -p k8s-net --example userspace_cost`.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    thread,
    time::Duration,
};

use k8s_net::proxy::{
    Backends, Destination, Frontend, Masquerade, Protocol, Rules, ServiceBackend, Target, Userspace, UserspaceConfig,
};
use k8s_wire::env::System;
use nix::sys::{
    resource::{UsageWho, getrusage},
    time::TimeValLike,
};

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

const CONNECTIONS: u32 = 3_000;
const MEBIBYTES: u32 = 512;
const DATAGRAMS: u32 = 20_000;
const IDLE: Duration = Duration::from_secs(5);

fn main() -> Outcome {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let (echo, sink, datagrams) = (serve_echo()?, serve_sink()?, serve_datagrams()?);
    let mut proxy = Userspace::new(System::on(runtime.handle().clone()), UserspaceConfig::default());
    let ways = [(Protocol::Tcp, echo), (Protocol::Tcp, sink), (Protocol::Udp, datagrams)];
    let ports = ways.map(|(protocol, target)| (free(protocol), protocol, target));
    runtime.block_on(proxy.apply(rules(&ports)))?;
    if !proxy.unserved().is_empty() {
        return Err(proxy.unserved().to_string().into());
    }
    let [by_echo, by_sink, by_datagrams] = ports.map(|(port, ..)| SocketAddr::from(([127, 0, 0, 1], port)));

    println!("processor time of client and server ({CONNECTIONS} connections, {MEBIBYTES} MiB, {DATAGRAMS} datagrams)");
    compare("connection", CONNECTIONS, echo, by_echo, connect_and_greet)?;
    compare("MiB", MEBIBYTES, sink, by_sink, send)?;
    compare("datagram there and back", DATAGRAMS, datagrams, by_datagrams, ask)?;

    let mut open: Vec<_> = (0..100).map(|_| TcpStream::connect(by_echo)).collect::<Result<_, _>>()?;
    // From here on nobody has anything to do.
    open.iter_mut().try_for_each(greet)?;
    let before = used()?;
    thread::sleep(IDLE);
    println!("idle for {IDLE:?} with {} connections: {:?}", open.len(), used()? - before);
    runtime.block_on(proxy.cleanup())?;
    Ok(())
}

fn compare(
    what: &str,
    count: u32,
    direct: SocketAddr,
    proxied: SocketAddr,
    run: fn(SocketAddr, u32) -> Outcome,
) -> Outcome {
    let cost = |address| -> Outcome<f64> {
        run(address, count / 10)?;
        let before = used()?;
        run(address, count)?;
        Ok((used()? - before).as_secs_f64() * 1e6 / f64::from(count))
    };
    let (direct, proxied) = (cost(direct)?, cost(proxied)?);
    println!(
        "a {what}: direct {direct:.1} us, through the proxy {proxied:.1} us: the proxy's part {:.1} us",
        proxied - direct
    );
    Ok(())
}

/// Processor time of this process so far.
fn used() -> Outcome<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let used = usage.user_time() + usage.system_time();
    Ok(Duration::from_micros(used.num_microseconds().try_into()?))
}

fn rules(ports: &[(u16, Protocol, SocketAddr)]) -> Rules {
    let destination = |target: SocketAddr| {
        let targets = [Target { address: target.ip(), port: target.port() }];
        Destination {
            service: "default/example:".into(),
            backends: Backends::Balance(targets.into()),
            outside: None,
            known: targets.into(),
            masquerade: Masquerade::Always,
            affinity: None,
            sources: None,
        }
    };
    let address = [127, 0, 0, 1].into();
    let frontends = ports
        .iter()
        .map(|(port, protocol, target)| (Frontend { address, protocol: *protocol, port: *port }, destination(*target)));
    Rules { frontends: frontends.collect(), node_ips: [address].into(), ..Rules::default() }
}

/// A port that nobody has at the moment.
fn free(protocol: Protocol) -> u16 {
    let address = match protocol {
        Protocol::Udp => UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()),
        _ => TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()),
    };
    address.map_or(30080, |address| address.port())
}

fn serve_echo() -> Outcome<SocketAddr> {
    serve_each(|mut stream| {
        let mut byte = [0];
        while stream.read_exact(&mut byte).and_then(|()| stream.write_all(&byte)).is_ok() {}
    })
}

fn serve_sink() -> Outcome<SocketAddr> {
    serve_each(|mut stream| {
        let mut buffer = vec![0; 65_536];
        while matches!(stream.read(&mut buffer), Ok(1..)) {}
        // The client waits until everything has arrived.
        let _ = stream.write_all(&[0]);
    })
}

fn serve_each(serve: fn(TcpStream)) -> Outcome<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || serve(stream));
        }
    });
    Ok(address)
}

fn serve_datagrams() -> Outcome<SocketAddr> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    let address = socket.local_addr()?;
    thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&buffer[..length], from);
        }
    });
    Ok(address)
}

fn connect_and_greet(server: SocketAddr, count: u32) -> Outcome {
    for _ in 0..count {
        greet(&mut TcpStream::connect(server)?)?;
    }
    Ok(())
}

fn greet(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(b"?")?;
    stream.read_exact(&mut [0])
}

fn send(server: SocketAddr, count: u32) -> Outcome {
    let mut stream = TcpStream::connect(server)?;
    let mebibyte = vec![7; 1 << 20];
    for _ in 0..count {
        stream.write_all(&mebibyte)?;
    }
    stream.shutdown(std::net::Shutdown::Write)?;
    Ok(stream.read_exact(&mut [0])?)
}

fn ask(server: SocketAddr, count: u32) -> Outcome {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect(server)?;
    socket.set_read_timeout(Some(Duration::from_secs(2)))?;
    for _ in 0..count {
        socket.send(&[7; 100])?;
        socket.recv(&mut [0; 2048])?;
    }
    Ok(())
}
