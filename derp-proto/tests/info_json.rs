//! The JSON of the login against Go's `encoding/json`: each expectation was recorded by giving the
//! document to Go 1.26 and the `ClientInfo` and `ServerInfo` of `derp/derp.go`.

use derp_proto::{ClientInfo, InfoError, MeshKey, ServerInfo};

const KEY: &str = "6d529e9d4ef632d22d4a4214cb49da8f1ba1b72697061fb24e312984c35ec8d8";

/// All that can be compared of a [`ClientInfo`].
#[derive(Debug, PartialEq, Default)]
struct Read {
    mesh_key: Option<String>,
    version: i64,
    can_ack_pings: bool,
    is_prober: bool,
    app_name: String,
}

#[test]
fn what_go_reads_is_read_alike() {
    let version = |version| Read {
        version,
        ..Read::default()
    };
    let nested = format!(
        r#"{{"x":{}{},"version":5}}"#,
        "[".repeat(5000),
        "]".repeat(5000)
    );
    let escaped = format!(r#"{{"meshKey":"\u0036{}"}}"#, &KEY[1..]);
    let zeros = format!(r#"{{"meshKey":"{}"}}"#, "0".repeat(64));
    let keyed = Read {
        mesh_key: Some(KEY.to_owned()),
        ..Read::default()
    };
    let table: Vec<(&str, Read)> = vec![
        // The last of several spellings wins, unless it is null.
        (r#"{"version":1,"VERSION":5}"#, version(5)),
        (r#"{"VERSION":5,"version":null}"#, version(5)),
        (
            r#"{"IsProber":true,"isprober":null}"#,
            Read {
                is_prober: true,
                ..Read::default()
            },
        ),
        (
            r#"{"canackpings":true}"#,
            Read {
                can_ack_pings: true,
                ..Read::default()
            },
        ),
        (r#"{"\u0076ersion":5}"#, version(5)),
        (r#"{"version":-3}"#, version(-3)),
        (r#"{"version":9223372036854775807}"#, version(i64::MAX)),
        // What is not asked for may be anything that JSON can say.
        (r#"{"x":1e999,"version":5}"#, version(5)),
        (r#"{"x":"\ud800","version":5}"#, version(5)),
        (r#"{"":1,"version":5}"#, version(5)),
        (r#"{"a":{"version":9},"version":5}"#, version(5)),
        (&nested, version(5)),
        (" \t\r\n{\"version\":5}\n", version(5)),
        ("null ", Read::default()),
        (&escaped, keyed),
        // The zero key is Go's "no key".
        (&zeros, Read::default()),
        (
            r#"{"AppName":"a\ud83d\ude00"}"#,
            Read {
                app_name: "a😀".to_owned(),
                ..Read::default()
            },
        ),
    ];
    for (json, expected) in table {
        assert_eq!(read(json.as_bytes()), Ok(expected), "{json:.80}");
    }
    assert_eq!(read(b"{\"x\":\"\xff\",\"version\":5}"), Ok(version(5)));
}

#[test]
fn what_go_refuses_is_refused_for_the_same_part() {
    let not_hex = format!(r#"{{"meshKey":"{}g"}}"#, &KEY[1..]);
    let spaced_zeros = format!(r#"{{"meshKey":" {}"}}"#, "0".repeat(64));
    let second_is_bad = format!(r#"{{"meshKey":"{KEY}","meshKey":"bad"}}"#);
    let table: [(&str, InfoError); 24] = [
        (r#"{"version":1e0}"#, InfoError::Json),
        (r#"{"version":05}"#, InfoError::Json),
        (r#"{"version":+5}"#, InfoError::Json),
        (r#"{"version":5,}"#, InfoError::Json),
        (r#"{"version":5//c"#, InfoError::Json),
        (r#"{'version':5}"#, InfoError::Json),
        (r#"{"version":"x","version":5}"#, InfoError::Json),
        (r#"{"version":null}x"#, InfoError::Json),
        ("{\"version\":5}\0", InfoError::Json),
        ("\u{feff}{\"version\":5}", InfoError::Json),
        ("{\"x\":\"a\nb\"}", InfoError::Json),
        (r#"{"CanAckPings":"true"}"#, InfoError::Json),
        (r#"{"AppName":7}"#, InfoError::Json),
        (r#"{"meshKey":{}}"#, InfoError::Json),
        (r#"{"x":tru}"#, InfoError::Json),
        (r#""x""#, InfoError::Json),
        ("7", InfoError::Json),
        ("true", InfoError::Json),
        ("nul", InfoError::Json),
        ("{", InfoError::Json),
        ("{\"x\":[", InfoError::Json),
        (&not_hex, InfoError::MeshKey),
        (&spaced_zeros, InfoError::MeshKey),
        (&second_is_bad, InfoError::MeshKey),
    ];
    for (json, error) in table {
        assert_eq!(read(json.as_bytes()), Err(error), "{json:?}");
    }
}

/// Go reads these and its encoder never writes them, so that no client can.
#[test]
fn what_go_never_writes_may_be_refused() {
    let table: [&[u8]; 3] = [
        br#"{"version":-0}"#,
        br#"{"AppName":"\ud83d"}"#,
        b"{\"AppName\":\"\xff\"}",
    ];
    for json in table {
        assert_eq!(read(json), Err(InfoError::Json), "{}", json.escape_ascii());
    }
    // Go takes the long s for an s; here it makes another, unknown field.
    assert_eq!(
        read("{\"ver\u{17f}ion\":5}".as_bytes()),
        Ok(Read::default())
    );
}

#[test]
fn a_servers_information_is_read_alike() {
    let info = |version, rate, burst| ServerInfo {
        version,
        token_bucket_bytes_per_second: rate,
        token_bucket_bytes_burst: burst,
    };
    let table = [
        (r#"{"version":2}"#, Ok(info(2, 0, 0))),
        (
            r#"{"Version":2,"tokenbucketbytespersecond":5,"TOKENBUCKETBYTESBURST":7,"x":[]}"#,
            Ok(info(2, 5, 7)),
        ),
        ("null", Ok(info(0, 0, 0))),
        (
            r#"{"TokenBucketBytesBurst":null,"version":2}"#,
            Ok(info(2, 0, 0)),
        ),
        (r#"{"TokenBucketBytesPerSecond":-1}"#, Ok(info(0, -1, 0))),
        (r#"{"TokenBucketBytesPerSecond":1.5}"#, Err(InfoError::Json)),
        ("[]", Err(InfoError::Json)),
        ("", Err(InfoError::Json)),
    ];
    for (json, expected) in table {
        assert_eq!(ServerInfo::from_json(json.as_bytes()), expected, "{json}");
    }
}

#[test]
fn what_is_written_is_read_back() {
    let info = ClientInfo {
        mesh_key: MeshKey::from_secret_text(KEY).ok(),
        version: -7,
        can_ack_pings: true,
        is_prober: true,
        app_name: "\u{1}\"\\\u{2028}<&>😀".to_owned(),
    };
    let expected = Read {
        mesh_key: Some(KEY.to_owned()),
        version: -7,
        can_ack_pings: true,
        is_prober: true,
        app_name: info.app_name.clone(),
    };
    assert_eq!(read(&info.to_json()), Ok(expected));
}

fn read(json: &[u8]) -> Result<Read, InfoError> {
    let ClientInfo {
        mesh_key,
        version,
        can_ack_pings,
        is_prober,
        app_name,
    } = ClientInfo::from_json(json)?;
    let mesh_key = mesh_key.map(|key| key.to_secret_text().to_string());
    Ok(Read {
        mesh_key,
        version,
        can_ack_pings,
        is_prober,
        app_name,
    })
}
