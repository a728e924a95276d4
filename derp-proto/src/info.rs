//! The JSON inside the boxes, read by Go's rules for it; `null` is the same as `{}`.

use serde::Serialize;
use serde::de::MapAccess;

use crate::error::InfoError;
use crate::frame::PROTOCOL_VERSION;
use crate::go_json::Field;
use crate::go_struct;
use crate::key::MeshKey;

/// What a client says of itself when it logs in.
#[derive(Debug, Clone, Default)]
pub struct ClientInfo {
    /// Asks for the rights of a mesh peer.
    pub mesh_key: Option<MeshKey>,
    /// The client's protocol version; not checked by servers.
    pub version: i64,
    /// Whether the client answers pings; unused by servers.
    pub can_ack_pings: bool,
    /// The client says that it is a prober. It grants nothing.
    pub is_prober: bool,
    /// What program the client says it is; see [`Self::printable_app_name`].
    pub app_name: String,
}

/// What a server tells a client that it admits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ServerInfo {
    /// The server's protocol version.
    pub version: i64,
    /// The rate to which the client should limit what it sends, in bytes per second; zero for
    /// none.
    pub token_bucket_bytes_per_second: i64,
    /// How many bytes it may send at once.
    pub token_bucket_bytes_burst: i64,
}

impl ClientInfo {
    /// The information of a plain client of this version.
    #[must_use]
    pub fn plain() -> Self {
        Self {
            version: PROTOCOL_VERSION.into(),
            can_ack_pings: true,
            ..Self::default()
        }
    }

    /// The app name as it may stand in a log: at most 64 characters, none of them a control.
    #[must_use]
    pub fn printable_app_name(&self) -> String {
        self.app_name
            .chars()
            .filter(|c| !c.is_control())
            .take(64)
            .collect()
    }

    /// Reads the JSON of an opened box.
    ///
    /// # Errors
    /// [`InfoError::MeshKey`] for a mesh key that is not 64 digits (a well-formed key that is
    /// merely another server's is no error), [`InfoError::Json`] for anything else.
    pub fn from_json(json: &[u8]) -> Result<Self, InfoError> {
        let wire: Option<ClientInfoWire> = serde_json::from_slice(json).map_err(json_error)?;
        let wire = wire.unwrap_or_default();
        let mesh_key = match wire.mesh_key.0 {
            None => None,
            // Go's zero key stands for "no key", and is spelled out by nobody.
            Some(text) if text.bytes().all(|b| b == b'0') && text.len() == 64 => None,
            // Go trims the text of a key in a file, and not here.
            Some(text) if text.len() != 64 => return Err(InfoError::MeshKey),
            Some(text) => Some(MeshKey::from_secret_text(&text).map_err(|_| InfoError::MeshKey)?),
        };
        Ok(Self {
            mesh_key,
            version: wire.version,
            can_ack_pings: wire.can_ack_pings,
            is_prober: wire.is_prober,
            app_name: wire.app_name,
        })
    }

    /// The JSON to put into a box.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        #[derive(Serialize)]
        struct Wire<'a> {
            #[serde(rename = "meshKey", skip_serializing_if = "Option::is_none")]
            mesh_key: Option<&'a str>,
            #[serde(skip_serializing_if = "is_zero")]
            version: i64,
            #[serde(rename = "CanAckPings")]
            can_ack_pings: bool,
            #[serde(rename = "IsProber", skip_serializing_if = "std::ops::Not::not")]
            is_prober: bool,
            #[serde(rename = "AppName", skip_serializing_if = "str::is_empty")]
            app_name: &'a str,
        }
        let mesh_key = self.mesh_key.as_ref().map(MeshKey::to_secret_text);
        to_json(&Wire {
            mesh_key: mesh_key.as_ref().map(|text| text.as_str()),
            version: self.version,
            can_ack_pings: self.can_ack_pings,
            is_prober: self.is_prober,
            app_name: &self.app_name,
        })
    }
}

impl ServerInfo {
    /// The information that the reference server sends.
    #[must_use]
    pub fn plain() -> Self {
        Self {
            version: PROTOCOL_VERSION.into(),
            ..Self::default()
        }
    }

    /// Reads the JSON of an opened box.
    ///
    /// # Errors
    /// [`InfoError::Json`].
    pub fn from_json(json: &[u8]) -> Result<Self, InfoError> {
        let wire: Option<ServerInfoWire> = serde_json::from_slice(json).map_err(json_error)?;
        let wire = wire.unwrap_or_default();
        Ok(Self {
            version: wire.version,
            token_bucket_bytes_per_second: wire.rate,
            token_bucket_bytes_burst: wire.burst,
        })
    }

    /// The JSON to put into a box.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        #[derive(Serialize)]
        struct Wire {
            #[serde(skip_serializing_if = "is_zero")]
            version: i64,
            #[serde(rename = "TokenBucketBytesPerSecond", skip_serializing_if = "is_zero")]
            rate: i64,
            #[serde(rename = "TokenBucketBytesBurst", skip_serializing_if = "is_zero")]
            burst: i64,
        }
        to_json(&Wire {
            version: self.version,
            rate: self.token_bucket_bytes_per_second,
            burst: self.token_bucket_bytes_burst,
        })
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde calls it with a reference"
)]
fn is_zero(n: &i64) -> bool {
    *n == 0
}

fn to_json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("plain structs of numbers and strings serialise")
}

fn json_error(_: serde_json::Error) -> InfoError {
    // What serde says would quote the peer's bytes into a log.
    InfoError::Json
}

/// The text of a mesh key, which reads itself in Go: `null` is no text.
#[derive(Default)]
struct KeyText(Option<String>);

impl Field for KeyText {
    fn set<'de, A: MapAccess<'de>>(&mut self, map: &mut A) -> Result<(), A::Error> {
        self.0 = Some(map.next_value()?);
        Ok(())
    }
}

#[derive(Default)]
struct ClientInfoWire {
    mesh_key: KeyText,
    version: i64,
    can_ack_pings: bool,
    is_prober: bool,
    app_name: String,
}

go_struct!(ClientInfoWire {
    mesh_key = "meshKey",
    version = "version",
    can_ack_pings = "CanAckPings",
    is_prober = "IsProber",
    app_name = "AppName",
});

#[derive(Default)]
struct ServerInfoWire {
    version: i64,
    rate: i64,
    burst: i64,
}

go_struct!(ServerInfoWire {
    version = "version",
    rate = "TokenBucketBytesPerSecond",
    burst = "TokenBucketBytesBurst",
});

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "6d529e9d4ef632d22d4a4214cb49da8f1ba1b72697061fb24e312984c35ec8d8";

    #[test]
    fn what_go_admits_is_admitted() {
        let upper = KEY.to_uppercase();
        let with_key = [
            format!(r#"{{"Version":5,"MeshKey":"{KEY}"}}"#),
            format!(r#"{{"version":5,"meshKey":"{KEY}"}}"#),
            format!(r#"{{"VERSION":5,"MESHKEY":"{upper}"}}"#),
            format!(r#"{{"version":1,"version":5,"future":[{{"a":null}}],"meshKey":"{KEY}"}}"#),
        ];
        for json in with_key {
            let info = ClientInfo::from_json(json.as_bytes()).unwrap();
            assert_eq!(info.version, 5, "{json}");
            let key = info.mesh_key.expect("a mesh key was given");
            assert_eq!(*key.to_secret_text(), KEY, "{json}");
        }
        for json in ["{}", "null", " { } ", r#"{"version":null,"IsProber":null}"#] {
            let info = ClientInfo::from_json(json.as_bytes()).unwrap();
            assert_eq!((info.version, info.mesh_key.is_none()), (0, true), "{json}");
        }
        assert_eq!(
            ClientInfo::from_json(br#"{"version":99}"#).unwrap().version,
            99
        );
    }

    #[test]
    fn what_go_refuses_is_refused() {
        let table = [
            ("", InfoError::Json),
            ("[]", InfoError::Json),
            ("{}x", InfoError::Json),
            ("{} {}", InfoError::Json),
            (r#"{"version":"2"}"#, InfoError::Json),
            (r#"{"version":2.0}"#, InfoError::Json),
            (r#"{"version":true}"#, InfoError::Json),
            (r#"{"version":9223372036854775808}"#, InfoError::Json),
            (r#"{"IsProber":1}"#, InfoError::Json),
            (r#"{"meshKey":null}"#, InfoError::Json),
            (r#"{"meshKey":7}"#, InfoError::Json),
            (r#"{"meshKey":""}"#, InfoError::MeshKey),
            (r#"{"meshKey":"badf00d"}"#, InfoError::MeshKey),
            (&format!(r#"{{"meshKey":"{KEY}0000"}}"#), InfoError::MeshKey),
            (&format!(r#"{{"meshKey":" {KEY} "}}"#), InfoError::MeshKey),
        ];
        for (json, error) in table {
            assert_eq!(
                ClientInfo::from_json(json.as_bytes()).err(),
                Some(error),
                "{json}"
            );
        }
    }

    #[test]
    fn json_is_spelled_as_go_spells_it() {
        let table = [
            (
                ClientInfo::plain(),
                r#"{"version":2,"CanAckPings":true}"#.to_owned(),
            ),
            (
                ClientInfo {
                    is_prober: true,
                    can_ack_pings: false,
                    ..ClientInfo::plain()
                },
                r#"{"version":2,"CanAckPings":false,"IsProber":true}"#.to_owned(),
            ),
            (
                ClientInfo {
                    mesh_key: MeshKey::from_secret_text(KEY).ok(),
                    can_ack_pings: false,
                    ..ClientInfo::plain()
                },
                format!(r#"{{"meshKey":"{KEY}","version":2,"CanAckPings":false}}"#),
            ),
        ];
        for (info, json) in table {
            assert_eq!(String::from_utf8(info.to_json()).unwrap(), json);
        }
        assert_eq!(ServerInfo::plain().to_json(), br#"{"version":2}"#);
        let limited = ServerInfo {
            token_bucket_bytes_per_second: 7,
            token_bucket_bytes_burst: 9,
            ..ServerInfo::plain()
        };
        assert_eq!(ServerInfo::from_json(&limited.to_json()), Ok(limited));
    }

    #[test]
    fn an_app_name_is_cut_before_it_reaches_a_log() {
        let info = ClientInfo {
            app_name: format!("a\x1b[31m\r\n{}", "x".repeat(99)),
            ..ClientInfo::plain()
        };
        let name = info.printable_app_name();
        assert!(name.starts_with("a[31mxxx") && name.len() == 64, "{name}");
    }
}
