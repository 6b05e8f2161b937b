//! The sockets of a network check: one for unicast, one for the group. It decides nothing.

use std::{
    io::{self, IoSliceMut, IsTerminal as _, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::{Duration, Instant, SystemTime},
};

use quinn_udp::{RecvMeta, Transmit, UdpSocketState};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{io::Interest, net::UdpSocket, time::sleep_until};

use super::{
    check::{Check, Input, Plan, State, To},
    datagram::PAYLOAD_MAX,
};

/// What is asked of the kernel for its buffers, in bytes; it may grant less (net.core.rmem_max).
const SOCKET_BUFFER: usize = 4 << 20;
/// "Message too long": the errno of Linux.
const EMSGSIZE: i32 = 90;
/// Time between two lines of progress on a terminal, and elsewhere.
const PROGRESS: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(30)];

/// Where the nodes are.
#[derive(Debug, Clone)]
pub(super) struct Places {
    /// The addresses of all nodes, sorted.
    pub(super) nodes: Vec<IpAddr>,
    /// The place of this node among them.
    pub(super) me: u8,
    /// The UDP port, on all nodes.
    pub(super) port: u16,
    /// The multicast group; `None`: multicast is not measured.
    pub(super) group: Option<Ipv4Addr>,
}

impl Places {
    fn address(&self, place: u8) -> SocketAddr {
        SocketAddr::new(self.nodes[usize::from(place)], self.port)
    }

    fn place(&self, from: SocketAddr) -> Option<u8> {
        let place = self.nodes.binary_search(&from.ip()).ok().filter(|_| from.port() == self.port)?;
        u8::try_from(place).ok()
    }
}

/// A socket that never fragments what it sends.
struct Port {
    socket: UdpSocket,
    state: UdpSocketState,
    buffer: Vec<u8>,
}

impl Port {
    fn open(address: SocketAddr, prepare: impl FnOnce(&Socket) -> io::Result<()>) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        let _ = socket.set_recv_buffer_size(SOCKET_BUFFER);
        let _ = socket.set_send_buffer_size(SOCKET_BUFFER);
        socket.set_nonblocking(true)?;
        prepare(&socket)?;
        socket.bind(&address.into())?;
        let socket = UdpSocket::from_std(socket.into())?;
        let state = UdpSocketState::new((&socket).into())?;
        Ok(Self { socket, state, buffer: vec![0; PAYLOAD_MAX + 1] })
    }

    fn send(&self, to: SocketAddr, contents: &[u8]) -> io::Result<()> {
        let transmit = Transmit { destination: to, ecn: None, contents, segment_size: None, src_ip: None };
        self.state.try_send((&self.socket).into(), &transmit)
    }

    /// Waits for something to read. What is read may be several datagrams of `stride` bytes each.
    async fn receive(&mut self) -> io::Result<RecvMeta> {
        let Self { socket, state, buffer } = self;
        loop {
            socket.readable().await?;
            let mut meta = [RecvMeta::default()];
            let read = || state.recv((&*socket).into(), &mut [IoSliceMut::new(buffer)], &mut meta);
            match socket.try_io(Interest::READABLE, read) {
                Ok(_) => return Ok(meta[0]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // A port unreachable for an earlier datagram: the peer has not begun.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// The clock of a check: the wall clock at its start, and monotonic from there.
struct Clock(Instant, Duration);

impl Clock {
    fn start() -> Self {
        Self(Instant::now(), SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default())
    }

    fn now(&self) -> Duration {
        self.1 + self.0.elapsed()
    }

    fn instant(&self, time: Duration) -> tokio::time::Instant {
        (self.0 + time.saturating_sub(self.1)).into()
    }
}

fn open_group(places: &Places, group: Ipv4Addr, local: Ipv4Addr) -> io::Result<Port> {
    Port::open((group, places.port).into(), |socket| {
        // Several nodes may be on one machine.
        socket.set_reuse_address(true)?;
        socket.join_multicast_v4(&group, &local)
    })
}

/// Runs a check to its end.
///
/// # Errors
/// When a socket cannot be opened or read.
pub(super) async fn run(places: &Places, plan: Plan) -> io::Result<Check> {
    let own = places.address(places.me);
    let mut port = Port::open(own, |socket| match (places.group, own.ip()) {
        (Some(_), IpAddr::V4(local)) => {
            socket.set_multicast_if_v4(&local)?;
            socket.set_multicast_ttl_v4(1)
        }
        _ => Ok(()),
    })?;
    let mut group = match (places.group, own.ip()) {
        (Some(group), IpAddr::V4(local)) => Some(open_group(places, group, local)?),
        _ => None,
    };
    let clock = Clock::start();
    let mut progress = Progress::new(plan.clone());
    let mut check = Check::new(clock.now(), plan);
    check.handle_input(clock.now(), Input::Deadline);
    loop {
        send_all(&mut check, &port, places, &clock);
        progress.show(&check, places, clock.now());
        if check.state() == State::Done {
            progress.clear();
            return Ok(check);
        }
        let (buffer, meta) = tokio::select! {
            meta = port.receive() => (&port.buffer, meta?),
            meta = receive_of(&mut group) => {
                let meta = meta?;
                (&group.as_ref().expect("it was read from").buffer, meta)
            }
            () = sleep_until(clock.instant(check.deadline())) => {
                check.handle_input(clock.now(), Input::Deadline);
                continue;
            }
            _ = tokio::signal::ctrl_c() => {
                check.handle_input(clock.now(), Input::Interrupt);
                continue;
            }
        };
        let now = clock.now();
        for datagram in buffer[..meta.len].chunks(meta.stride.max(1)) {
            check.handle_input(now, Input::Datagram(places.place(meta.addr), datagram));
        }
    }
}

async fn receive_of(group: &mut Option<Port>) -> io::Result<RecvMeta> {
    match group {
        Some(port) => port.receive().await,
        None => std::future::pending().await,
    }
}

/// Sends what the check wants to be sent. What cannot be sent is lost, as on the way.
fn send_all(check: &mut Check, port: &Port, places: &Places, clock: &Clock) {
    while let Some(output) = check.poll_output() {
        let to = match (output.to, places.group) {
            (To::Peer(place), _) => places.address(place),
            (To::Group, Some(group)) => (group, places.port).into(),
            (To::Group, None) => continue,
        };
        let sent = port.send(to, &output.bytes);
        let is_too_long = sent.is_err_and(|error| error.raw_os_error() == Some(EMSGSIZE));
        if let (true, To::Peer(place)) = (is_too_long, output.to) {
            check.handle_input(clock.now(), Input::TooLong(place, output.bytes.len()));
        }
    }
}

/// Lines on standard error that say how far the check is.
struct Progress {
    plan: Plan,
    is_terminal: bool,
    next: Duration,
    last: String,
}

impl Progress {
    fn new(plan: Plan) -> Self {
        Self { plan, is_terminal: io::stderr().is_terminal(), next: Duration::ZERO, last: String::new() }
    }

    fn show(&mut self, check: &Check, places: &Places, now: Duration) {
        if now < self.next {
            return;
        }
        self.next = now + PROGRESS[usize::from(!self.is_terminal)];
        let line = self.line(check, places);
        if line == self.last {
            return;
        }
        let mut stderr = io::stderr().lock();
        let _ = if self.is_terminal { write!(stderr, "\r\x1b[K{line}") } else { writeln!(stderr, "{line}") };
        let _ = stderr.flush();
        self.last = line;
    }

    fn line(&self, check: &Check, places: &Places) -> String {
        match check.state() {
            State::Waiting => {
                let heard = check.heard();
                let absent =
                    (0..self.plan.nodes).filter(|place| *place != self.plan.me && !heard.contains(place));
                let absent: Vec<String> =
                    absent.map(|place| places.address(place).ip().to_string()).collect();
                format!(
                    "waiting for {} (start the same command there)",
                    if absent.is_empty() { "all to see all".to_owned() } else { absent.join(", ") }
                )
            }
            State::Probing(sent, _) => format!("probing: {sent} of {}", self.plan.count),
            State::Draining(_) => "waiting for the last answers".into(),
            State::Mtu => "looking for the MTU".into(),
            State::Exchanging(_) | State::Done => "exchanging results".into(),
        }
    }

    fn clear(&self) {
        if self.is_terminal {
            let _ = write!(io::stderr().lock(), "\r\x1b[K");
        }
    }
}
