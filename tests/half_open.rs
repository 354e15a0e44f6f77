//! Promise: a camera that vanishes without a word (its power or its cable is cut: no FIN, no RST, nothing acknowledged) is
//! told as stalled, given up, and found again when it is back.

mod support;

use support::network::Network;
use support::{Cameras, Lab, Process, SOON, Tap};

#[test]
fn a_camera_that_vanishes_is_told_and_found_again() {
    let lab = Lab::new("half-open");
    let network = Network::new();
    let cameras = Cameras::spawn(network.inside(&Lab::cameras_command("127.0.0.1:0", &["--truth"])));
    let daemon = Process::spawn("vms-media", network.inside(&lab.daemon_command(&[])));
    daemon.wait_for_log("ready");
    let mut watch = lab.watch();
    lab.setup("cam", &cameras.url("h264"));
    watch.next_state("cam", "streaming");
    let port = cameras.address.rsplit(':').next().and_then(|port| port.parse().ok());

    network.cut(port.unwrap_or_default());
    for (state, reason) in
        [("stalled", "no_video_data"), ("backoff", "no_video_data"), ("backoff", "connect_timeout")]
    {
        assert_eq!(watch.next_state("cam", state)["reason"], reason);
    }
    // The camera itself has noticed nothing, and still sends.
    assert_eq!(cameras.wait_for_fact("its first session", |fact| fact["truth"] == "video")["flowing"], true);

    network.mend();
    watch.next_state("cam", "streaming");
    let mut tap: Tap = lab.tap(&["cam", "--stamp", "--json", "--count", "25"]).into();
    assert!(tap.process.wait_for_end(SOON).success(), "{}", tap.process.log());
    // Only now it learns that nobody was there: from TEARDOWN, FIN or RST, whatever the kernel repeats first.
    let closed = cameras.wait_for_fact("the end of its first session", |fact| fact["truth"] == "closed");
    assert_eq!(closed["connection"], 1, "{closed}");
    assert!(["torn_down", "client", "client_reset"].iter().any(|by| closed["by"] == *by), "{closed}");
}
