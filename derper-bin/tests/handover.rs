//! An upgrade by socket activation: whoever keeps the socket while one relay ends and the next
//! begins has nobody refused. And reloads under traffic, which lose nothing.

mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use derp_client::{Client, ClientWriter};
use derp_proto::NodePublic;
use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use self::support::{
    Running, client_key, config, configured, connect, get, now, once_it_says, packet_from, soon,
};

/// How often the configuration is read again under traffic.
const RELOADS: usize = 50;
/// How many packets of a flow are under way at a time: fewer than wait for a client at most.
const WINDOW: usize = 8;
/// How many clients come while no relay runs.
const WAITING: usize = 50;
/// How many times one relay follows another.
const UPGRADES: usize = 10;
/// How many clients come at a time, and how often each: 200 a second together.
const COMERS: usize = 4;
const PACE: Duration = Duration::from_millis(20);
/// A connection that the kernel has no room for is tried again after a second; nobody is to wait
/// for that.
const AT_ONCE: Duration = Duration::from_millis(900);
const PATIENCE: Duration = Duration::from_secs(30);

/// A relay that was handed its socket, as systemd does it.
struct Activated(Child);

impl Activated {
    fn start(home: &Path, socket: &TcpListener) -> Self {
        // The shell moves the socket to where the protocol wants it, and tells its own number,
        // which the relay then has.
        let script = "exec 3<&0 </dev/null; export LISTEN_PID=$$; exec \"$0\" \"$@\"";
        let mut command = Command::new("sh");
        command
            .args(["-c", script, env!("CARGO_BIN_EXE_derper")])
            .args(["-a", "127.0.0.1:1", "-stun=false", "-c", "derper.key"])
            .current_dir(home)
            .env_clear()
            .env("HOME", home)
            .env("LISTEN_FDS", "1")
            .env("LISTEN_FDNAMES", "derp")
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let socket = socket.try_clone().expect("a second handle");
        command.stdin(Stdio::from(OwnedFd::from(socket)));
        Self(command.spawn().expect("a shell"))
    }

    fn stop(mut self) {
        let pid = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.expect("it runs"), Signal::TERM).expect("a signal");
        assert_eq!(self.0.wait().expect("it ends").code(), Some(0));
    }
}

impl Drop for Activated {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _status = self.0.wait();
    }
}

fn ask(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect_timeout(&address, AT_ONCE).expect("nobody is refused");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let request = b"GET /derp/probe HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    stream.write_all(request).expect("sent");
    stream
}

fn answer(mut stream: TcpStream) -> std::io::Result<String> {
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map(|_| answer)
}

/// Ends what goes on until then.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Clients that come one after another at a steady pace until it is over, and how many of them
/// came and were answered. A relay that stops may close what it has accepted, but there is never
/// nobody to connect to.
#[expect(
    clippy::disallowed_methods,
    reason = "a steady pace is kept by the clock"
)]
fn come(address: SocketAddr, is_over: &AtomicBool) -> (usize, usize) {
    let (mut came, mut answered) = (0, 0);
    let mut due = Instant::now();
    while !is_over.load(Ordering::Relaxed) {
        let stream = ask(address);
        came += 1;
        if answer(stream).is_ok_and(|text| text.starts_with("HTTP/1.1 200 OK")) {
            answered += 1;
        }
        due += PACE;
        thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    (came, answered)
}

#[test]
fn from_one_relay_to_the_next_nobody_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = socket.local_addr().unwrap();
    let is_over = AtomicBool::new(false);
    let (came, answered) = thread::scope(|scope| {
        let coming = [(); COMERS].map(|()| scope.spawn(|| come(address, &is_over)));
        // However this ends, nobody comes any more.
        let _end = End(&is_over);
        let mut relay = Activated::start(home.path(), &socket);
        for _ in 0..UPGRADES {
            assert!(answer(ask(address)).unwrap().starts_with("HTTP/1.1 200 OK"));
            relay.stop();
            let waiting: Vec<TcpStream> = (0..WAITING).map(|_| ask(address)).collect();
            relay = Activated::start(home.path(), &socket);
            for stream in waiting {
                let text = answer(stream).unwrap();
                assert!(text.starts_with("HTTP/1.1 200 OK"), "{text}");
            }
        }
        is_over.store(true, Ordering::Relaxed);
        let all = coming.map(|thread| thread.join().unwrap());
        relay.stop();
        all.iter()
            .fold((0, 0), |sum, it| (sum.0 + it.0, sum.1 + it.1))
    });
    // All but those whom a relay had accepted when it was told to stop.
    assert!(came - answered <= UPGRADES * COMERS, "{answered} of {came}");
    assert!(came >= UPGRADES * COMERS, "{came}");
}

/// Packets from one client to another, for ever: as many as are under way come, in their order.
async fn flow(from: ClientWriter, mut to: Client, key: NodePublic, count: watch::Sender<usize>) {
    let mut next = 0_usize;
    loop {
        for number in next..next + WINDOW {
            from.send(key, &number.to_be_bytes())
                .await
                .expect("connected");
        }
        for number in next..next + WINDOW {
            let (_, packet) = packet_from(&mut to).await;
            assert_eq!(packet, number.to_be_bytes(), "a packet was lost");
        }
        next += WINDOW;
        count.send_replace(next);
    }
}

/// A flow from one client to another, and how far it is.
async fn start_flow(relay: &Running, keys: [u8; 2]) -> (JoinHandle<()>, watch::Receiver<usize>) {
    let [from, to] = keys.map(client_key);
    let sender = connect(relay, &from).await;
    let receiver = connect(relay, &to).await;
    let (mut reader, writer) = sender.split();
    let (count, counted) = watch::channel(0);
    let flow = flow(writer, receiver, to.public(), count);
    let task = tokio::spawn(async move {
        tokio::select! {
            () = flow => {}
            // Pings are answered by whoever reads.
            ended = async { while reader.recv().await.is_ok() {} } => {
                panic!("the sender was closed: {ended:?}")
            }
        }
    });
    (task, counted)
}

#[tokio::test(flavor = "multi_thread")]
async fn reloads_under_traffic_lose_no_packet() {
    let dir = tempfile::tempdir().unwrap();
    let list = |keys: std::ops::RangeInclusive<u8>| {
        let keys = keys.map(|byte| client_key(byte).public().to_string() + "\n");
        // Put in place whole: the relay follows the file, and half a list would close the others.
        let new = dir.path().join("nodes.new");
        fs::write(&new, keys.collect::<String>()).unwrap();
        fs::rename(new, dir.path().join("nodes")).unwrap();
    };
    list(1..=4);
    let flags = "quickstart 127.0.0.1 -a 127.0.0.1:0 -stun-port 0 -http-port -1 -state-dir {} \
                 -allowlist {}/nodes --metrics-addr 127.0.0.1:0";
    let relay = Running::start(config(dir.path(), flags, &[]));
    let mut flows = Vec::new();
    for keys in [[1, 2], [3, 4]] {
        flows.push(start_flow(&relay, keys).await);
    }
    for round in 0..RELOADS {
        // Other limits, other pages, another list, another log.
        list(1..=4 + u8::try_from(round % 3).unwrap());
        let home = if round % 2 == 0 { "blank" } else { "" };
        let flags = format!("{flags} -home={home} -tcp-write-timeout {}s", 2 + round % 5);
        let news = Ok((configured(dir.path(), &flags, &[]), now()));
        soon(relay.reload.send(news)).await.unwrap();
        drop(soon(relay.reload.reserve()).await.unwrap());
        // Each flow goes on behind it.
        for (task, count) in &mut flows {
            assert!(!task.is_finished());
            count.mark_unchanged();
            soon(count.changed()).await.unwrap();
        }
    }
    let reloads = format!("derper_config_reloads{{result=\"ok\"}} {RELOADS}");
    // The last was taken, and is counted in a moment.
    let metrics = relay.metrics.unwrap();
    let text = once_it_says(&reloads, async || {
        get(metrics, "GET /metrics HTTP/1.1\r\n").await
    })
    .await;
    let dropped = text
        .lines()
        .filter(|line| line.starts_with("derp_packets_dropped{"));
    for line in dropped {
        assert!(line.ends_with(" 0"), "{line}");
    }
    for (task, _) in flows {
        task.abort();
    }
    relay.stop().await;
}
