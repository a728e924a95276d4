//! The login, from both sides.

use std::fmt::Debug;
use std::sync::LazyLock;

use crypto_box::SalsaBox;
use crypto_box::aead::Aead;
use derp_proto::{
    AwaitServerInfo, ClientFrame, ClientInfo, Greeted, HandshakeError, InfoError,
    MAX_CLIENT_INFO_LEN, NodePrivate, NodePublic, Nonce, ServerIdentity, ServerInfo, SharedSecret,
};

/// A client that has its key proved, and says of itself what it likes.
///
/// The data is the JSON in its box.
pub fn client_info(data: &[u8]) {
    let sealed = sealed(data);
    if sealed.len() > MAX_CLIENT_INFO_LEN - 32 {
        return;
    }
    let mut wire = Vec::new();
    let key = SCENE.client_public;
    ClientFrame::ClientInfo {
        key,
        sealed: &sealed,
    }
    .encode(&mut wire);
    let (claim, end) = SCENE
        .greeted
        .read(&wire)
        .expect("a legal frame")
        .expect("a whole frame");
    assert_eq!((claim.key(), end), (key, wire.len()));

    let info = match claim.open(SCENE.secret.clone()) {
        Ok(hello) => {
            assert_eq!(hello.key(), key);
            hello.info().clone()
        }
        Err(HandshakeError::Info(error)) => {
            assert_eq!(ClientInfo::from_json(data).err(), Some(error));
            return;
        }
        Err(error) => panic!("the box is genuine: {error}"),
    };
    let name = info.printable_app_name();
    assert!(name.chars().count() <= 64 && !name.contains(char::is_control));
    let again = ClientInfo::from_json(&info.to_json()).expect("what is written can be read");
    assert_eq!(again.to_json(), info.to_json());
}

/// What a server reads from a stranger, up to the proof that it holds its key.
///
/// The first byte says how much of the rest arrives at first.
pub fn handshake_server(data: &[u8]) {
    let Some((&first_read, wire)) = data.split_first() else {
        return;
    };
    let claim = reads_alike(first_read, wire, |bytes| {
        Ok(SCENE
            .greeted
            .read(bytes)?
            .map(|(claim, end)| (claim.key(), end)))
    });
    let Ok(Some((key, end))) = claim else { return };
    assert_eq!(key.as_bytes()[..], wire[5..37]);

    let (claim, _) = SCENE
        .greeted
        .read(&wire[..end])
        .expect("a legal frame")
        .expect("a whole frame");
    let Ok(secret) = SCENE.server.shared_secret(&key) else {
        return;
    };
    let Ok(hello) = claim.open(secret) else {
        return;
    };
    let mut answer = Vec::new();
    hello.answer(NONCE, &ServerInfo::plain(), &mut answer);
    if key == SCENE.client_public {
        assert_eq!(SCENE.waits.open(&answer[5..]), Ok(ServerInfo::plain()));
    }
}

/// What a client reads from a server, until it is admitted.
///
/// The first byte says what the rest is: a greeting (of which the second byte says how much
/// arrives at first), the body of a ServerInfo frame, or the JSON in a genuine one.
pub fn handshake_client(data: &[u8]) {
    let Some((kind, rest)) = data.split_first() else {
        return;
    };
    match kind % 3 {
        0 => greeting(rest),
        1 => drop(SCENE.waits.open(rest)),
        _ => server_info(rest),
    }
}

fn greeting(data: &[u8]) {
    let Some((&first_read, wire)) = data.split_first() else {
        return;
    };
    let Ok(Some((server, end))) = reads_alike(first_read, wire, ServerIdentity::read) else {
        return;
    };
    assert!((45..=5 + 1024).contains(&end));
    assert_eq!(server.key().as_bytes()[..], wire[13..45]);
    let mut hello = Vec::new();
    let waits = server.hello(&SCENE.client, &ClientInfo::plain(), NONCE, &mut hello);
    match server.key().check() {
        Ok(()) => assert!(waits.is_ok() && matches!(SCENE.greeted.read(&hello), Ok(Some(_)))),
        Err(error) => assert_eq!(waits.err(), Some(HandshakeError::Key(error))),
    }
}

fn server_info(json: &[u8]) {
    let info = match SCENE.waits.open(&sealed(json)) {
        Ok(info) => info,
        Err(HandshakeError::Info(InfoError::Json)) => return,
        Err(error) => panic!("the box is genuine: {error}"),
    };
    assert_eq!(ServerInfo::from_json(&info.to_json()), Ok(info));
}

/// Reads the whole of `wire`, and a part of it first: where the part is judged at all, it is
/// judged like the whole.
fn reads_alike<T: Debug + PartialEq>(
    first_read: u8,
    wire: &[u8],
    read: impl Fn(&[u8]) -> Result<Option<T>, HandshakeError>,
) -> Result<Option<T>, HandshakeError> {
    let whole = read(wire);
    let first = read(&wire[..wire.len().min(first_read.into())]);
    assert!(
        first == Ok(None) || first == whole,
        "{first:?} became {whole:?}"
    );
    whole
}

/// A box between the two, made by another implementation than the one under test.
fn sealed(plain: &[u8]) -> Vec<u8> {
    let boxed = SCENE
        .cipher
        .encrypt(&NONCE.into(), plain)
        .expect("a box takes any message");
    [&NONCE[..], &boxed].concat()
}

/// A client and a server that are about to log in; all that needs a key exchange is done.
struct Scene {
    server: NodePrivate,
    client: NodePrivate,
    client_public: NodePublic,
    secret: SharedSecret,
    cipher: SalsaBox,
    greeted: Greeted,
    waits: AwaitServerInfo,
}

static SCENE: LazyLock<Scene> = LazyLock::new(|| {
    let server = NodePrivate::from_random([0x11; 32]);
    let client = NodePrivate::from_random([0x22; 32]);
    let (server_public, client_public) = (server.public(), client.public());
    Scene {
        secret: server
            .shared_secret(&client_public)
            .expect("the client's key is usable"),
        cipher: SalsaBox::new(
            &crypto_box::PublicKey::from(*server_public.as_bytes()),
            &crypto_box::SecretKey::from(*client.expose_secret_bytes()),
        ),
        greeted: Greeted::greet(&server_public, MAX_CLIENT_INFO_LEN, &mut Vec::new()),
        waits: ServerIdentity::known(server_public)
            .hello(&client, &ClientInfo::plain(), NONCE, &mut Vec::new())
            .expect("the server's key is usable"),
        server,
        client,
        client_public,
    }
});

const NONCE: Nonce = [
    0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23,
];
