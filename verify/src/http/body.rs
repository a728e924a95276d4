//! The body of an answer, of bounded length however it is framed or packed.

use std::io::Read;

use tokio::io::AsyncRead;

use super::answer::{Framing, Head};
use super::exchange::Received;

/// Reads the body that belongs to `head`; an error says what is wrong with it.
pub(super) async fn read<S: AsyncRead + Unpin>(
    received: &mut Received<'_, S>,
    head: &Head,
    max: usize,
) -> Result<Vec<u8>, String> {
    let body = match head.framing {
        Framing::Length(len) => of_length(received, len, max).await?,
        Framing::Chunked => chunked(received, max).await?,
        Framing::UntilClosed => until_closed(received, max).await?,
    };
    if !received.bytes.is_empty() {
        return Err("more bytes than the answer's own length says".to_owned());
    }
    if !head.is_gzip {
        return Ok(body);
    }
    unpack(&body, max)
}

async fn of_length<S: AsyncRead + Unpin>(
    received: &mut Received<'_, S>,
    len: u64,
    max: usize,
) -> Result<Vec<u8>, String> {
    let len = usize::try_from(len).ok().filter(|len| *len <= max);
    let len = len.ok_or_else(|| too_long(max))?;
    while received.bytes.len() < len {
        received.more().await.map_err(|err| err.to_string())?;
    }
    Ok(received.bytes.drain(..len).collect())
}

async fn until_closed<S: AsyncRead + Unpin>(
    received: &mut Received<'_, S>,
    max: usize,
) -> Result<Vec<u8>, String> {
    loop {
        if received.bytes.len() > max {
            return Err(too_long(max));
        }
        if !received
            .more_or_end()
            .await
            .map_err(|err| err.to_string())?
        {
            return Ok(std::mem::take(&mut received.bytes));
        }
    }
}

/// Chunks (RFC 9112, 7.1). Their extensions and the trailer are of bounded length, and ignored.
async fn chunked<S: AsyncRead + Unpin>(
    received: &mut Received<'_, S>,
    max: usize,
) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    loop {
        let size = chunk_size(received).await?;
        if size == 0 {
            trailer(received).await?;
            return Ok(body);
        }
        let size = usize::try_from(size).ok();
        let size = size.filter(|size| *size <= max - body.len());
        let size = size.ok_or_else(|| too_long(max))?;
        while received.bytes.len() < size + CRLF.len() {
            received.more().await.map_err(|err| err.to_string())?;
        }
        body.extend(received.bytes.drain(..size));
        if !received.bytes.starts_with(CRLF) {
            return Err("a chunk does not end where it should".to_owned());
        }
        received.bytes.drain(..CRLF.len());
    }
}

async fn chunk_size<S: AsyncRead + Unpin>(received: &mut Received<'_, S>) -> Result<u64, String> {
    loop {
        match httparse::parse_chunk_size(&received.bytes) {
            Ok(httparse::Status::Complete((len, size))) => {
                received.bytes.drain(..len);
                return Ok(size);
            }
            Ok(httparse::Status::Partial) if received.bytes.len() < MAX_LINE_LEN => {
                received.more().await.map_err(|err| err.to_string())?;
            }
            Ok(httparse::Status::Partial) | Err(_) => {
                return Err("a chunk without a length".to_owned());
            }
        }
    }
}

async fn trailer<S: AsyncRead + Unpin>(received: &mut Received<'_, S>) -> Result<(), String> {
    let mut read = 0;
    loop {
        let end = received.bytes.windows(2).position(|two| two == CRLF);
        let Some(end) = end else {
            if received.bytes.len() > MAX_LINE_LEN {
                return Err("the answer's trailer is too long".to_owned());
            }
            received.more().await.map_err(|err| err.to_string())?;
            continue;
        };
        received.bytes.drain(..end + CRLF.len());
        read += end;
        if end == 0 {
            return Ok(());
        }
        if read > MAX_LINE_LEN {
            return Err("the answer's trailer is too long".to_owned());
        }
    }
}

fn unpack(packed: &[u8], max: usize) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    let limit = max as u64 + 1;
    flate2::read::MultiGzDecoder::new(packed)
        .take(limit)
        .read_to_end(&mut body)
        .map_err(|err| format!("not gzip: {err}"))?;
    if body.len() > max {
        return Err(too_long(max));
    }
    Ok(body)
}

fn too_long(max: usize) -> String {
    format!("longer than {max} bytes")
}

const CRLF: &[u8] = b"\r\n";
/// The longest line between chunks, and the longest trailer, in bytes.
const MAX_LINE_LEN: usize = 4 << 10;
