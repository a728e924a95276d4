//! How the traffic secrets get from rustls to here: by its key log, for one handshake at a time.
//!
//! rustls hands out keys and IVs when a connection is given up, but not the secrets that they
//! were derived from, without which a key update could not be followed.

use std::cell::RefCell;

use zeroize::Zeroizing;

/// The application traffic secrets of one connection.
#[derive(Default)]
pub(crate) struct CapturedSecrets {
    pub(crate) client: Option<Zeroizing<Vec<u8>>>,
    pub(crate) server: Option<Zeroizing<Vec<u8>>>,
}

tokio::task_local! {
    static SECRETS: RefCell<CapturedSecrets>;
}

/// A key log that remembers the secrets of the handshake that the current task is in, and writes
/// nothing anywhere.
#[derive(Debug, Default)]
pub(crate) struct SecretCapture;

impl SecretCapture {
    /// Runs a handshake and returns what it agreed on beside its own result.
    pub(crate) async fn run<F: Future>(handshake: F) -> (F::Output, CapturedSecrets) {
        let slot = RefCell::new(CapturedSecrets::default());
        SECRETS
            .scope(slot, async {
                let output = handshake.await;
                (output, SECRETS.with(RefCell::take))
            })
            .await
    }
}

impl rustls::KeyLog for SecretCapture {
    fn log(&self, label: &str, _client_random: &[u8], secret: &[u8]) {
        // Outside of `run` nobody wants the secret.
        let _outside = SECRETS.try_with(|slot| {
            let mut slot = slot.borrow_mut();
            let secret = Some(Zeroizing::new(secret.to_vec()));
            match label {
                "CLIENT_TRAFFIC_SECRET_0" => slot.client = secret,
                "SERVER_TRAFFIC_SECRET_0" => slot.server = secret,
                _ => {}
            }
        });
    }

    fn will_log(&self, label: &str) -> bool {
        matches!(label, "CLIENT_TRAFFIC_SECRET_0" | "SERVER_TRAFFIC_SECRET_0")
    }
}
