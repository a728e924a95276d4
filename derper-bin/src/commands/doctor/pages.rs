//! What clients ask of a relay over HTTP: how far away it is, and whether a captive portal is in
//! the way. And what strangers must not be shown.

use std::net::SocketAddr;

use derp_proto::http::{CHALLENGE_HEADER, GENERATE_204_PATH, PROBE_PATH, RESPONSE_HEADER};
use http::StatusCode;
use http::header::DATE;

use super::clock;
use super::exchange::{self, Answer};
use super::finding::Findings;
use super::name::is_own;
use super::outside::Outside;

const PROBE: &str = "probe";
const PORTAL: &str = "generate_204";
const DEBUG: &str = "debug";

pub(super) async fn look(outside: &Outside, addresses: &[SocketAddr], findings: &mut Findings) {
    if addresses.is_empty() {
        return;
    }
    match exchange::ask(outside, addresses, PROBE_PATH, None).await {
        Ok(answer) => {
            judge_probe(answer.status, findings);
            let date = answer.headers.get(DATE).and_then(|date| date.to_str().ok());
            clock::judge(date, crate::clock::wall(), findings);
        }
        Err(err) => {
            findings.problem(
                PROBE,
                format!("{PROBE_PATH} is not answered: {err:#}"),
                "clients measure by it how far away the relay is; see the findings above",
            );
            return;
        }
    }
    portal(outside, addresses, findings).await;
    debug(outside, addresses, findings).await;
}

fn judge_probe(status: StatusCode, findings: &mut Findings) {
    if status == StatusCode::OK {
        findings.ok(PROBE, format!("{PROBE_PATH} answers {}", status.as_u16()));
        return;
    }
    findings.problem(
        PROBE,
        format!("{PROBE_PATH} answers {} in place of 200", status.as_u16()),
        "this is not a relay's answer: the name or the proxy leads to another server",
    );
}

/// Clients ask on port 80, for portals answer there in place of others.
async fn portal(outside: &Outside, addresses: &[SocketAddr], findings: &mut Findings) {
    // What a client of this host would send.
    let challenge: String = format!("ts_{}", outside.host)
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || ".-_".contains(*c))
        .collect();
    let header = Some((CHALLENGE_HEADER, challenge.as_str()));
    let answer = exchange::ask(outside, addresses, GENERATE_204_PATH, header).await;
    judge_portal("the relay's own port", &challenge, answer, true, findings);
    let on_80: Vec<SocketAddr> = addresses
        .iter()
        .map(|address| SocketAddr::new(address.ip(), 80))
        .collect();
    let host = outside.host.to_string();
    let answer = match exchange::tcp(&on_80).await {
        Ok(stream) => exchange::get(stream, &host, GENERATE_204_PATH, header).await,
        Err(err) => Err(err.into()),
    };
    judge_portal(
        "port 80",
        &challenge,
        answer,
        outside.wants_port_80,
        findings,
    );
}

fn judge_portal(
    place: &str,
    challenge: &str,
    answer: anyhow::Result<Answer>,
    is_wanted: bool,
    findings: &mut Findings,
) {
    let wanted = format!("response {challenge}");
    let what = match answer {
        Ok(answer) => {
            let response = answer.headers.get(RESPONSE_HEADER);
            if answer.status == StatusCode::NO_CONTENT
                && response.is_some_and(|response| response.as_bytes() == wanted.as_bytes())
            {
                findings.ok(PORTAL, format!("{place} answers 204, and the challenge"));
                return;
            }
            format!(
                "{place} answers {} without repeating the challenge",
                answer.status.as_u16()
            )
        }
        Err(err) => format!("{place} does not answer: {err:#}"),
    };
    let remedy = "clients ask there whether a captive portal is in the way; let the relay have \
                  port 80, or have the proxy pass /generate_204 on with its headers";
    if is_wanted {
        findings.problem(PORTAL, what, remedy);
    } else {
        let optional = format!("{remedy}; without it, leave CanPort80 out of the DERP map");
        findings.warn(PORTAL, what, optional);
    }
}

/// From this machine the pages may be open. From another one they must not, unless it is in the
/// tailnet: then the relay takes everybody for its own machine.
async fn debug(outside: &Outside, addresses: &[SocketAddr], findings: &mut Findings) {
    let Ok(answer) = exchange::ask(outside, addresses, "/debug/", None).await else {
        return;
    };
    let is_near = addresses.iter().any(|address| is_own(address.ip()));
    judge_debug(answer.status, is_near, findings);
}

fn judge_debug(status: StatusCode, is_near: bool, findings: &mut Findings) {
    match (status == StatusCode::OK, is_near) {
        (true, false) => findings.problem(
            DEBUG,
            "/debug/ is open to this machine, which is not the relay's",
            "fine if this machine is in the tailnet, or named by TS_ALLOW_DEBUG_IP or \
             TS_DEBUG_TRUSTED_CIDRS; else a proxy hides where connections come from: have it send \
             a PROXY header, and set --proxy-protocol required and --proxy-protocol-from",
        ),
        (true, true) => findings.ok(DEBUG, "/debug/ is open to the relay's own machine"),
        (false, _) => findings.ok(DEBUG, "/debug/ is closed to this machine"),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::HeaderMap;

    use super::super::finding::Level;
    use super::*;

    #[test]
    fn a_portal_cannot_repeat_the_challenge() {
        let answer = |status, response: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            if let Some(response) = response {
                headers.insert(RESPONSE_HEADER, response.parse().unwrap());
            }
            let body = Bytes::new();
            Ok(Answer {
                status,
                headers,
                body,
            })
        };
        let judged = |answer, is_wanted| {
            let mut findings = Findings::default();
            judge_portal("port 80", "ts_x", answer, is_wanted, &mut findings);
            findings.only().0
        };
        let status = StatusCode::NO_CONTENT;
        assert_eq!(
            judged(answer(status, Some("response ts_x")), true),
            Level::Ok
        );
        for (status, response) in [
            (status, None),
            (status, Some("response ts_y")),
            (StatusCode::OK, Some("response ts_x")),
        ] {
            assert_eq!(judged(answer(status, response), true), Level::Problem);
            assert_eq!(judged(answer(status, response), false), Level::Warning);
        }
        assert_eq!(judged(Err(anyhow::anyhow!("no")), true), Level::Problem);
    }

    #[test]
    fn debug_pages_are_for_the_relays_own_machine() {
        for (status, is_near, level) in [
            (StatusCode::OK, true, Level::Ok),
            (StatusCode::OK, false, Level::Problem),
            (StatusCode::FORBIDDEN, false, Level::Ok),
            (StatusCode::NOT_FOUND, true, Level::Ok),
        ] {
            let mut findings = Findings::default();
            judge_debug(status, is_near, &mut findings);
            assert_eq!(findings.only().0, level, "{status} {is_near}");
        }
    }
}
