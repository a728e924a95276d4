//! `derper top`: who uses the relay now, in a terminal, until ctrl-c.
//!
//! Rates come from two readings; the relay itself keeps none.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::time::Duration;

use super::admin::Relay;
use crate::look::{Age, Bytes, Client, Look, RoundTrip};
use crate::start::Start;

const INTERVAL: Duration = Duration::from_secs(2);
/// What fits into a terminal of 24 lines.
const ROWS: usize = 18;
/// To the first line, and nothing below it.
const CLEAR: &str = "\x1b[H\x1b[2J";

/// Shows it, for ever.
///
/// # Errors
/// The relay cannot be asked, or nobody reads what is shown.
pub(super) fn run(start: &Start) -> anyhow::Result<()> {
    let relay = Relay::of(start)?;
    let mut before = relay.look()?;
    let clear = if io::stdout().is_terminal() {
        CLEAR
    } else {
        ""
    };
    loop {
        std::thread::sleep(INTERVAL);
        let now = relay.look()?;
        let text = screen(&before, &now, INTERVAL.as_secs());
        let mut stdout = io::stdout().lock();
        match stdout
            .write_all(format!("{clear}{text}").as_bytes())
            .and_then(|()| stdout.flush())
        {
            Err(err) if err.kind() == ErrorKind::BrokenPipe => return Ok(()),
            shown => shown?,
        }
        before = now;
    }
}

/// A client with bytes a second, from it and to it.
struct Row<'a> {
    client: &'a Client,
    from_it: u64,
    to_it: u64,
}

fn screen(before: &Look, now: &Look, seconds: u64) -> String {
    let old: HashMap<u64, &Client> = before.clients.iter().map(|it| (it.id, it)).collect();
    let mut rows: Vec<Row<'_>> = now
        .clients
        .iter()
        .map(|client| {
            // Whoever has come since has sent all of it since.
            let (received, sent) = old
                .get(&client.id)
                .map_or((0, 0), |old| (old.bytes_received, old.bytes_sent));
            Row {
                client,
                from_it: client.bytes_received.saturating_sub(received) / seconds,
                to_it: client.bytes_sent.saturating_sub(sent) / seconds,
            }
        })
        .collect();
    rows.sort_by_key(|row| (Reverse(row.from_it + row.to_it), row.client.id));
    let total = |rate: fn(&Row<'_>) -> u64| Bytes(rows.iter().map(rate).sum());
    let up = now.mesh.iter().filter(|link| link.up).count();
    let mut text = format!(
        "derper {}  up {}  {} clients  in {}/s  out {}/s  mesh {up}/{}\n\n",
        now.version,
        Age(now.uptime_seconds),
        now.clients.len(),
        total(|row| row.from_it),
        total(|row| row.to_it),
        now.mesh.len(),
    );
    text.push_str(&format!(
        "{:18}  {:<21}  {:4}  {:>7}  {:>7}  {:>12}  {:>12}  {:>10}\n",
        "KEY", "FROM", "HOME", "HERE", "RTT", "FROM IT", "TO IT", "WAITING"
    ));
    for Row {
        client,
        from_it,
        to_it,
    } in rows.iter().take(ROWS)
    {
        text.push_str(&format!(
            "{:18}  {:<21}  {:4}  {:>7}  {:>7}  {:>12}  {:>12}  {:>10}\n",
            client.key.get(..18).unwrap_or(&client.key),
            client.address.as_deref().unwrap_or("-"),
            if client.home { "yes" } else { "-" },
            Age(client.connected_seconds),
            RoundTrip(client.rtt_micros),
            format!("{}/s", Bytes(*from_it)),
            format!("{}/s", Bytes(*to_it)),
            Bytes(client.bytes_waiting),
        ));
    }
    if rows.len() > ROWS {
        text.push_str(&format!("and {} more\n", rows.len() - ROWS));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(clients: Vec<Client>) -> Look {
        Look {
            version: "1".to_owned(),
            key: String::new(),
            uptime_seconds: 61,
            clients,
            mesh: Vec::new(),
            verifiers: Vec::new(),
        }
    }

    fn client(id: u64, bytes_received: u64) -> Client {
        Client {
            id,
            key: format!("nodekey:{id:064x}"),
            address: None,
            kind: "client".to_owned(),
            home: false,
            connected_seconds: 1,
            packets_received: 0,
            bytes_received,
            packets_sent: 0,
            bytes_sent: 0,
            bytes_waiting: 0,
            rtt_micros: None,
        }
    }

    #[test]
    fn those_who_send_now_come_before_those_who_sent_much() {
        let before = look(vec![client(1, 1 << 30), client(2, 0)]);
        let now = look(vec![client(1, 1 << 30), client(2, 4096), client(3, 1024)]);
        let text = screen(&before, &now, 2);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[0],
            "derper 1  up 1m01s  3 clients  in 2.5 KiB/s  out 0 B/s  mesh 0/0"
        );
        let rates: Vec<_> = lines[3..]
            .iter()
            .map(|line| line.split_whitespace().rev().nth(5).unwrap())
            .collect();
        assert_eq!(rates, ["2.0", "512", "0"], "{text}");
        let many = look((0..20).map(|id| client(id, 0)).collect());
        assert!(screen(&many, &many, 2).ends_with("\nand 2 more\n"));
    }
}
