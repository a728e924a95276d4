//! The examples, run.

#[path = "../examples/my_address.rs"]
#[expect(dead_code, reason = "of an example everything runs but `main`")]
mod my_address;

use derp_stun::StunServer;

#[tokio::test]
async fn a_relay_tells_this_machines_address() {
    let server = StunServer::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let relay = server.local_addr();
    let serving = tokio::spawn(server.serve());
    let report = my_address::my_address(relay).await.unwrap();
    assert_eq!(report.mapped.ip(), relay.ip());
    serving.abort();
}
