//! Lists of revoked certificates, from a web server of the test's own.

use std::time::Duration;

use rcgen::CertificateParams;
use tokio::net::TcpListener;

use super::*;
use crate::authority::{Authority, Identity, listed, unix, valid};
use crate::report::in_words;
use crate::web::script;

/// 2027-01-15 08:00:00 UTC.
const NOW: u64 = 1_800_000_000;

/// What is wrong with `identity`, as whoever trusts `authority` sees it.
async fn words(authority: &Authority, identity: &Identity) -> Result<(), String> {
    let trust = Trust::of(authority.roots());
    let name = ServerName::try_from("derp.test").unwrap();
    let now = UnixTime::since_unix_epoch(Duration::from_secs(NOW));
    let (web, deadline) = (Web::new(&trust), Deadline::after(Duration::from_secs(10)));
    let chain = [identity.cert.clone()];
    let checked = check(&chain, &name, &trust, &web, now, deadline).await;
    checked.map_err(|fault| in_words(&fault))
}

/// What is wrong with certificate 7 where this list is at the place that it names, `URL`.
async fn with_list(authority: &Authority, list: Vec<u8>) -> Result<(), String> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/list.crl", listener.local_addr().unwrap());
    let identity = authority.sign("derp.test", listed(&url, 7));
    let server = tokio::spawn(script::serve(listener, vec![script::ok(&list)]));
    let checked = words(authority, &identity)
        .await
        .map_err(|words| words.replace(&url, "URL"));
    let requests = server.await.unwrap();
    assert!(
        requests[0].starts_with("GET /list.crl HTTP/1.1\r\n"),
        "{requests:?}"
    );
    checked
}

#[tokio::test]
async fn a_certificate_that_was_taken_back_is_bad() {
    let authority = Authority::new("Test");
    let list = |serials: &[u64]| authority.revoke(serials, unix(NOW - 86_400));
    assert_eq!(with_list(&authority, list(&[])).await, Ok(()));
    assert_eq!(with_list(&authority, list(&[6, 8])).await, Ok(()));
    let revoked = "the certificate of CN=derp.test has been revoked on 2027-01-14 08:00:00 UTC; \
                   get a new one";
    assert_eq!(
        with_list(&authority, list(&[6, 7])).await,
        Err(revoked.to_owned())
    );
}

#[tokio::test]
async fn a_list_that_says_nothing_is_bad_too() {
    let authority = Authority::new("Test");
    let strangers = Authority::new("Stranger").revoke(&[], unix(NOW));
    let not_covered = "the revocation list at URL says nothing of the certificate: it is not its \
                       issuer's";
    assert_eq!(
        with_list(&authority, strangers).await,
        Err(not_covered.to_owned())
    );
    // The same name, and another key.
    let forged = Authority::new("Test").revoke(&[], unix(NOW));
    let words = with_list(&authority, forged).await.unwrap_err();
    assert!(
        words.starts_with("the revocation list at URL is refused: "),
        "{words}"
    );
    let words = with_list(&authority, b"<html>".to_vec()).await.unwrap_err();
    assert!(
        words.starts_with("the revocation list at URL cannot be read: "),
        "{words}"
    );
}

#[tokio::test]
async fn a_list_that_does_not_come_is_bad() {
    let authority = Authority::new("Test");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let nowhere = authority.sign("derp.test", listed(&format!("http://{address}/"), 7));
    let fault = words(&authority, &nowhere).await.unwrap_err();
    let start =
        format!("cannot fetch the certificate's revocation list: cannot connect to {address}");
    assert!(fault.starts_with(&start), "{fault}");
    let directory = authority.sign("derp.test", listed("ldap://ca.test/list", 7));
    let fault = words(&authority, &directory).await.unwrap_err();
    assert!(
        fault.ends_with("is no http or https URL with a host"),
        "{fault}"
    );
}

#[tokio::test]
async fn a_certificate_need_not_name_a_list_unless_its_authority_always_does() {
    let since = 1_746_576_000;
    let table = [
        ("Test", since, Ok(())),
        ("Let's Encrypt", since - 1, Ok(())),
        // A week is short-lived, and there are no lists for such certificates.
        ("Let's Encrypt", NOW - 6 * 86_400, Ok(())),
        (
            "Let's Encrypt",
            since,
            Err(
                "the certificate of CN=derp.test names no revocation list, which its authority \
                 always does"
                    .to_owned(),
            ),
        ),
    ];
    for (organization, from, expected) in table {
        let authority = Authority::new(organization);
        let dates = |params: &mut CertificateParams| valid(from, NOW + 86_400)(params);
        let identity = authority.sign("derp.test", dates);
        assert_eq!(
            words(&authority, &identity).await,
            expected,
            "{organization} {from}"
        );
    }
}
