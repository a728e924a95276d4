//! `/debug/vars`: the same numbers as `/debug/varz`, as JSON in the places where the reference's
//! runtime has them (`expvar`): those of the relay in `derp`, STUN's in `stun`, and with the kind
//! before the name where the reference has it so.
//!
//! Made from the text of the metrics, so that the two cannot disagree. What is about Go's runtime is
//! not here, nor are the words of the command line, among which secrets may be.

use serde_json::{Map, Value};

/// Counters of the relay that have their kind before their name (`derp/derpserver/derpserver.go`).
const PREFIXED: [&str; 3] = ["total_dup_client_conns", "packets_received_kind", "tcp_rtt"];
/// Numbers that are called so and are not in `derp`.
const APART: [&str; 3] = [
    "derp_packets_dropped",
    "derp_bytes_dropped",
    "derp_websocket_accepts",
];

/// The document, from metrics for Prometheus.
pub(super) fn json(metrics: &str) -> Value {
    let mut vars = Map::new();
    let (mut typed, mut kind) = ("", "");
    for line in metrics.lines() {
        if let Some(words) = line.strip_prefix("# TYPE ") {
            (typed, kind) = words.split_once(' ').unwrap_or((words, ""));
        }
        let Some((series, value)) = line.rsplit_once(' ').filter(|_| !line.starts_with('#')) else {
            continue;
        };
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        // Every second piece is a label's value; they come from closed sets, without quotes.
        let labels: Vec<&str> = labels.split('"').skip(1).step_by(2).collect();
        let kind = if name == typed { kind } else { "" };
        let value = match (name, labels.first()) {
            ("version", Some(version)) => {
                // The reference tells it there too.
                object(&mut vars, "derp").insert(name.to_owned(), Value::from(*version));
                Value::from(*version)
            }
            _ => serde_json::from_str(value).unwrap_or(Value::Null),
        };
        put(&mut vars, name, kind, &labels, value);
    }
    Value::Object(vars)
}

fn put(vars: &mut Map<String, Value>, name: &str, kind: &str, labels: &[&str], value: Value) {
    let (group, key) = place(name, kind);
    let place = match group {
        Some(group) => object(vars, group),
        None => vars,
    };
    if labels.is_empty() || name == "version" {
        place.insert(key, value);
    } else {
        object(place, &key).insert(labels.join(","), value);
    }
}

/// The object that a number is in, and what it is called there.
fn place(name: &str, kind: &str) -> (Option<&'static str>, String) {
    if let Some(rest) = name
        .strip_prefix("derp_")
        .filter(|_| !APART.contains(&name))
    {
        let has_prefix = kind == "gauge" || PREFIXED.contains(&rest);
        let key = if has_prefix {
            format!("{kind}_{rest}")
        } else {
            rest.to_owned()
        };
        return (Some("derp"), key);
    }
    for (prefix, group) in [("stun_", "stun"), ("tls_listener_", "tls_listener")] {
        if let Some(rest) = name.strip_prefix(prefix) {
            return (Some(group), format!("{kind}_{rest}"));
        }
    }
    let is_prefixed = ["uptime_sec", "derper_tls_active_version"].contains(&name);
    if is_prefixed || name.starts_with("bootstrap_dns_") {
        return (None, format!("{kind}_{name}"));
    }
    (None, name.to_owned())
}

fn object<'m>(vars: &'m mut Map<String, Value>, key: &str) -> &'m mut Map<String, Value> {
    let value = vars.entry(key).or_insert_with(|| Value::Object(Map::new()));
    value
        .as_object_mut()
        .expect("a name has labels at each of its samples, or at none")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_are_where_the_reference_has_them() {
        let metrics = "\
# TYPE bootstrap_dns_requests counter
bootstrap_dns_requests 1
# TYPE derp_accepts counter
derp_accepts 2
derp_average_queue_duration_ms 0.5
# TYPE derp_current_connections gauge
derp_current_connections 3
# HELP derp_packets_dropped Packets that were dropped.
# TYPE derp_packets_dropped counter
derp_packets_dropped{reason=\"queue_head\",kind=\"disco\"} 4
# TYPE derp_packets_received_kind counter
derp_packets_received_kind{kind=\"disco\"} 5
derp_packets_received_kind{kind=\"other\"} 6
# TYPE stun_requests counter
stun_requests{disposition=\"success\"} 7
# TYPE uptime_sec counter
uptime_sec 8
process_start_unix_time 9
derper_cert_not_after_seconds +Inf
# TYPE derper_tls_active_version gauge
derper_tls_active_version{version=\"1.2\"} 10
derper_tls_request_version{version=\"1.3\"} 11
version{version=\"0.1.0\",binary=\"derper\"} 1
";
        assert_eq!(
            json(metrics),
            json!({
                "counter_bootstrap_dns_requests": 1,
                "counter_uptime_sec": 8,
                "derp": {
                    "accepts": 2,
                    "average_queue_duration_ms": 0.5,
                    "gauge_current_connections": 3,
                    "counter_packets_received_kind": {"disco": 5, "other": 6},
                    "version": "0.1.0",
                },
                "derp_packets_dropped": {"queue_head,disco": 4},
                "derper_cert_not_after_seconds": null,
                "gauge_derper_tls_active_version": {"1.2": 10},
                "derper_tls_request_version": {"1.3": 11},
                "process_start_unix_time": 9,
                "stun": {"counter_requests": {"success": 7}},
                "version": "0.1.0",
            })
        );
    }
}
