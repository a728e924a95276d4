//! From an upgraded stream to an admitted client: greeting, proof of the key, verification.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::task::{Poll, ready};
use std::time::Duration;

use derp_proto::{Claim, ClientHello, Greeted, ServerInfo};
use derp_verify::{Candidate, ConnMeta, Verdict};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

use crate::error::AcceptError;
use crate::hub::Hub;
use crate::limiter::Terms;
use crate::pending::Pending;
use crate::tunables::Tunables;

/// How much of what a client sends is read while a verifier is asked about it.
const MAX_READ_AHEAD: usize = 16 << 10;
/// How much is read at a time.
const READ_CHUNK: usize = 2048;

/// A client that may use the relay.
#[derive(Debug)]
pub(crate) struct LoggedIn {
    pub(crate) hello: ClientHello,
    pub(crate) is_mesh_peer: bool,
    pub(crate) terms: Option<Box<Terms>>,
    /// The frame that tells it so.
    pub(crate) server_info: Vec<u8>,
}

/// Greets the client and lets it prove its key. `head` goes out in front of the greeting, and
/// `received` holds what has come already; what comes behind the login stays there.
///
/// Of what a client announces nothing is reserved before it has come.
pub(crate) async fn log_in<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    head: &[u8],
    received: &mut Vec<u8>,
    conn: &ConnMeta,
    hub: &Hub,
    pending: &Pending<'_>,
) -> Result<LoggedIn, AcceptError> {
    let tunables = hub.tunables();
    let mut greeting = head.to_vec();
    let greeted = Greeted::greet(
        &hub.public_key(),
        tunables.max_client_info_len,
        &mut greeting,
    );
    let answered = async {
        stream.write_all(&greeting).await?;
        stream.flush().await?;
        read_hello(stream, greeted, received, hub, pending).await
    };
    let hello = within("login", tunables.client_info_timeout, pin!(answered)).await?;
    pending.has_proven();
    let is_mesh_peer = hello
        .info()
        .mesh_key
        .as_ref()
        .is_some_and(|key| hub.is_mesh_key(key));
    // Who holds the mesh key is another relay of the region, and no verifier knows it.
    let terms = if is_mesh_peer {
        None
    } else {
        hub.admit_key(&hello.key())?;
        // An answer that nobody waits for any more is not waited for either.
        tokio::select! {
            biased;
            terms = verify(&hello, conn, hub, &tunables) => terms?,
            gone = hang_up(stream, received, pending) => return Err(gone),
        }
    };
    // All that took a while, in which the server may have begun to end, or others have come.
    if hub.is_stopping() {
        return Err(AcceptError::Stopping);
    }
    hub.has_room()?;
    let mut nonce = [0; derp_proto::NONCE_LEN];
    fill_random(&mut nonce);
    let mut server_info = Vec::new();
    hello.answer(nonce, &ServerInfo::plain(), &mut server_info);
    Ok(LoggedIn {
        hello,
        is_mesh_peer,
        terms,
        server_info,
    })
}

async fn read_hello<S: AsyncRead + Unpin>(
    stream: &mut S,
    greeted: Greeted,
    received: &mut Vec<u8>,
    hub: &Hub,
    pending: &Pending<'_>,
) -> Result<ClientHello, AcceptError> {
    loop {
        if let Some((claim, len)) = greeted.read(received)? {
            let hello = prove(claim, hub)?;
            received.drain(..len);
            return Ok(hello);
        }
        read_more(stream, received, pending).await?;
    }
}

fn prove(claim: Claim<'_>, hub: &Hub) -> Result<ClientHello, AcceptError> {
    let secret = hub
        .shared_secret(&claim.key())
        .map_err(derp_proto::HandshakeError::Key)?;
    Ok(claim.open(secret)?)
}

/// Ends when the client hangs up. What it sends meanwhile is kept, up to a bound: clients need not
/// wait for the verifier.
async fn hang_up<S: AsyncRead + Unpin>(
    stream: &mut S,
    received: &mut Vec<u8>,
    pending: &Pending<'_>,
) -> AcceptError {
    while received.len() < MAX_READ_AHEAD {
        if let Err(error) = read_more(stream, received, pending).await {
            return error;
        }
    }
    std::future::pending().await
}

async fn verify(
    hello: &ClientHello,
    conn: &ConnMeta,
    hub: &Hub,
    tunables: &Tunables,
) -> Result<Option<Box<Terms>>, AcceptError> {
    let app_name = hello.info().printable_app_name();
    let mut candidate = Candidate::new(hello.key(), conn);
    candidate.app_name = &app_name;
    candidate.is_prober = hello.info().is_prober;
    let limit = tunables.verify_timeout;
    let answer = tokio::time::timeout(limit, hub.verifier.verify(&candidate)).await;
    let answer = answer.unwrap_or(Err(derp_verify::VerifyError::TimedOut(limit)));
    let gauges = hub.metrics.gauges();
    match answer {
        Ok(verdict) if verdict.allow => Ok(terms(&verdict, hub)),
        Ok(verdict) => {
            gauges.verify_denied.add(1);
            if let Some(untold) = hub.tell_of(&hello.key()) {
                let (client, addr) = (hello.key(), conn.client_addr());
                let reason = &*verdict.reason;
                tracing::info!(?client, ?addr, reason, untold, "client refused");
            }
            Err(AcceptError::Denied(verdict.reason.into_owned()))
        }
        Err(error) => {
            gauges.verify_errors.add(1);
            if tunables.verify_fail_open {
                if let Some(untold) = hub.tell_of(&hello.key()) {
                    let client = hello.key();
                    tracing::warn!(?client, %error, untold, "admitted without an answer");
                }
                return Ok(None);
            }
            if let Some(untold) = hub.tell_of(&hello.key()) {
                let (client, addr) = (hello.key(), conn.client_addr());
                let error = &error as &dyn std::error::Error;
                tracing::warn!(?client, ?addr, error, untold, "client refused, unverified");
            }
            Err(AcceptError::Unverified(error))
        }
    }
}

/// The limits of its own that a client is admitted with.
fn terms(verdict: &Verdict, hub: &Hub) -> Option<Box<Terms>> {
    let group = verdict.group.as_deref();
    let group = group.map(|name| hub.rates.group(name, crate::clock::now()));
    let rate = verdict.rate;
    (group.is_some() || rate.is_some()).then(|| Box::new(Terms { rate, group }))
}

/// Reads what is there, which counts among what all logins hold and is an error where the stream ends.
pub(crate) async fn read_more<S: AsyncRead + Unpin>(
    stream: &mut S,
    received: &mut Vec<u8>,
    pending: &Pending<'_>,
) -> Result<(), AcceptError> {
    // The buffer is on the stack and not in the future, which others would have to carry along.
    let read = poll_fn(|cx| {
        let mut buf = [MaybeUninit::uninit(); READ_CHUNK];
        let mut buf = ReadBuf::uninit(&mut buf);
        ready!(Pin::new(&mut *stream).poll_read(cx, &mut buf))?;
        received.extend_from_slice(buf.filled());
        Poll::Ready(Ok::<_, io::Error>(buf.filled().len()))
    });
    match read.await? {
        0 => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
        len => Ok(pending.hold(len)?),
    }
}

/// Puts a limit on the time that a step may take.
///
/// The step is pinned elsewhere: a future that is handed on has its place in each that it was
/// handed to, and these are large.
pub(crate) fn within<T>(
    stage: &'static str,
    limit: Duration,
    step: impl Future<Output = Result<T, AcceptError>> + Unpin,
) -> impl Future<Output = Result<T, AcceptError>> {
    within_rest(stage, limit, Duration::ZERO, step)
}

/// The same for a step that somebody has `waited` for already.
pub(crate) async fn within_rest<T>(
    stage: &'static str,
    limit: Duration,
    waited: Duration,
    step: impl Future<Output = Result<T, AcceptError>> + Unpin,
) -> Result<T, AcceptError> {
    match tokio::time::timeout(limit.saturating_sub(waited), step).await {
        Ok(result) => result,
        Err(_) => Err(AcceptError::TooSlow { stage, limit }),
    }
}

pub(crate) fn fill_random(bytes: &mut [u8]) {
    getrandom::fill(bytes).expect("the operating system has random bytes");
}
