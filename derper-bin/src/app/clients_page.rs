//! `/debug/clients`: who is connected, for a browser. Made here as a whole; there is no script in
//! it, and nothing can be changed by it.

use std::fmt::Write;

use derp_ops::html::Escaped;

use crate::look::{Age, Bytes, Client, Look, RoundTrip};

/// How many clients are shown; nobody reads more, and a browser has to lay them all out.
const MAX_ROWS: usize = 500;

const HEAD: &str = "<!DOCTYPE html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\">\
<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
<title>Clients of this relay</title>\n<style>\n\
:root { color-scheme: light dark }\n\
body { font: 15px/1.45 system-ui, sans-serif; margin: 1.5rem; max-width: 80rem }\n\
.wide { overflow-x: auto }\n\
table { border-collapse: collapse; width: 100%; margin-bottom: 1.5rem }\n\
th, td { text-align: left; padding: .25rem .75rem .25rem 0; white-space: nowrap;\
 border-bottom: 1px solid color-mix(in srgb, currentColor 20%, transparent) }\n\
.n { text-align: right; font-variant-numeric: tabular-nums }\n\
code { font-size: .9em }\n\
.bad { font-weight: bold }\n\
</style></head>\n<body>\n";

/// The page.
pub(super) fn html(look: &Look) -> String {
    let mut page = HEAD.to_owned();
    let count = look.clients.len();
    let homes = look.clients.iter().filter(|client| client.home).count();
    push(
        &mut page,
        format_args!(
            "<h1>Clients</h1>\n<p>{count} connected, {homes} of them at home here; up for {}; \
             derper {}; <code>{}</code></p>\n\
             <p>Those with the most traffic come first. The same <a href=\"?format=json\">as \
             JSON</a>; <a href=\"/debug/\">other pages</a>.</p>\n",
            Age(look.uptime_seconds),
            Escaped(&look.version),
            Escaped(&look.key),
        ),
    );
    if count > MAX_ROWS {
        push(
            &mut page,
            format_args!("<p>The first {MAX_ROWS} of {count} are shown; the JSON has all.</p>\n"),
        );
    }
    push_clients(&mut page, &look.clients);
    push_links(&mut page, look);
    push_verifiers(&mut page, look);
    page.push_str("</body>\n</html>\n");
    page
}

fn push_clients(page: &mut String, clients: &[Client]) {
    page.push_str(
        "<div class=\"wide\"><table>\n<tr><th>Key<th>From<th>Kind<th>Home\
         <th class=\"n\">Here for<th class=\"n\">RTT<th class=\"n\">From it<th class=\"n\">To it\
         <th class=\"n\">Packets from it<th class=\"n\">Packets to it<th class=\"n\">Waiting\
         <th class=\"n\">Connection</tr>\n",
    );
    for client in clients.iter().take(MAX_ROWS) {
        push(
            page,
            format_args!(
                "<tr><td><code title=\"{key}\">{short}…</code><td>{from}<td>{kind}<td>{home}\
                 <td class=\"n\">{age}<td class=\"n\">{rtt}<td class=\"n\">{received}<td class=\"n\">{sent}\
                 <td class=\"n\">{packets_received}<td class=\"n\">{packets_sent}\
                 <td class=\"n\">{waiting}<td class=\"n\">{id}</tr>\n",
                key = Escaped(&client.key),
                short = Escaped(client.key.get(..16).unwrap_or(&client.key)),
                from = Escaped(client.address.as_deref().unwrap_or("unknown")),
                kind = Escaped(&client.kind),
                home = if client.home { "yes" } else { "" },
                age = Age(client.connected_seconds),
                rtt = RoundTrip(client.rtt_micros),
                received = Bytes(client.bytes_received),
                sent = Bytes(client.bytes_sent),
                packets_received = client.packets_received,
                packets_sent = client.packets_sent,
                waiting = Bytes(client.bytes_waiting),
                id = client.id,
            ),
        );
    }
    page.push_str("</table></div>\n");
}

fn push_links(page: &mut String, look: &Look) {
    if look.mesh.is_empty() {
        return;
    }
    page.push_str(
        "<h2>Mesh</h2>\n<div class=\"wide\"><table>\n<tr><th>Relay<th>State<th class=\"n\">Clients\
         <th class=\"n\">Packets queued<th class=\"n\">Packets dropped\
         <th class=\"n\">Failures</tr>\n",
    );
    for link in &look.mesh {
        let problem = link.problem.as_deref().unwrap_or("not connected");
        push(
            page,
            format_args!(
                "<tr><td>{}<td class=\"{}\">{}<td class=\"n\">{}<td class=\"n\">{}\
                 <td class=\"n\">{}<td class=\"n\">{}</tr>\n",
                Escaped(&link.peer),
                if link.up { "good" } else { "bad" },
                Escaped(if link.up { "connected" } else { problem }),
                link.clients,
                link.forwarded,
                link.dropped,
                link.failures,
            ),
        );
    }
    page.push_str("</table></div>\n");
}

fn push_verifiers(page: &mut String, look: &Look) {
    if look.verifiers.is_empty() {
        return;
    }
    page.push_str(
        "<h2>Verifiers</h2>\n<div class=\"wide\"><table>\n\
         <tr><th>Verifier<th>Answer<th class=\"n\">Times</tr>\n",
    );
    for verifier in &look.verifiers {
        for (result, count) in &verifier.results {
            push(
                page,
                format_args!(
                    "<tr><td>{}<td>{}<td class=\"n\">{count}</tr>\n",
                    Escaped(&verifier.verifier),
                    Escaped(result),
                ),
            );
        }
    }
    page.push_str("</table></div>\n");
}

fn push(page: &mut String, text: std::fmt::Arguments<'_>) {
    page.write_fmt(text)
        .expect("writing to a string cannot fail");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::look::{Answers, Link};

    fn client(id: u64) -> Client {
        Client {
            id,
            key: format!("nodekey:{id:064x}"),
            address: Some("192.0.2.1:41641".to_owned()),
            kind: "client".to_owned(),
            home: true,
            connected_seconds: 61,
            packets_received: 1,
            bytes_received: 2048,
            packets_sent: 3,
            bytes_sent: 4,
            rtt_micros: Some(12_345),
            bytes_waiting: 5,
        }
    }

    fn look(clients: Vec<Client>) -> Look {
        Look {
            version: "1".to_owned(),
            key: "nodekey:00".to_owned(),
            uptime_seconds: 1,
            clients,
            mesh: Vec::new(),
            verifiers: Vec::new(),
        }
    }

    #[test]
    fn nothing_that_others_wrote_becomes_markup() {
        const EVIL: &str = "<script>\"'&</script>";
        let mut look = look(vec![Client {
            key: EVIL.to_owned(),
            address: Some(EVIL.to_owned()),
            kind: EVIL.to_owned(),
            ..client(1)
        }]);
        look.version = EVIL.to_owned();
        look.key = EVIL.to_owned();
        look.mesh.push(Link {
            peer: EVIL.to_owned(),
            up: false,
            problem: Some(EVIL.to_owned()),
            clients: 0,
            forwarded: 0,
            dropped: 0,
            failures: 0,
        });
        look.verifiers.push(Answers {
            verifier: EVIL.to_owned(),
            results: [(EVIL.to_owned(), 1)].into(),
        });
        let page = html(&look);
        assert!(!page.contains("<script"), "{page}");
        let escaped = "&lt;script&gt;&quot;&#39;&amp;&lt;/script&gt;";
        assert_eq!(page.matches(escaped).count(), 9, "{page}");
    }

    #[test]
    fn a_crowd_is_cut_with_a_note() {
        let few = html(&look((0..3).map(client).collect()));
        assert_eq!(few.matches("<tr><td>").count(), 3);
        assert!(!few.contains("are shown"), "{few}");
        assert!(few.contains(
            "<td class=\"n\">1m01s<td class=\"n\">12 ms<td class=\"n\">2.0 KiB<td class=\"n\">4 B"
        ));
        let many = html(&look((0..501).map(client).collect()));
        assert_eq!(many.matches("<tr><td>").count(), 500);
        assert!(many.contains("The first 500 of 501 are shown"));
    }
}
