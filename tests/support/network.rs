//! A network of its own, in which packets can be lost without anybody being told: what a cut cable does.
//!
//! Needs `unshare`, `nsenter` (util-linux), `ip` (iproute2) and `nft` (nftables), and either root or a kernel that lets users
//! have networks of their own.

use std::process::{Command, Stdio};

use super::{Process, SOON};

/// A network namespace with a loopback interface. Unix sockets reach across its border.
pub(crate) struct Network {
    /// Keeps the namespace; it ends with its standard input, and so with the test.
    keeper: Process,
}

impl Network {
    pub(crate) fn new() -> Self {
        let mut command = Command::new("unshare");
        if !rustix::process::geteuid().is_root() {
            command.args(["--user", "--map-root-user"]);
        }
        command.args(["--net", "sh", "-c", "ip link set lo up && echo up && exec cat"]);
        let keeper = Process::spawn("unshare", command);
        keeper.wait_for_line("that the network is up", SOON, |line| line == "up");
        Self { keeper }
    }

    /// The same program with the same arguments and variables, in this network.
    pub(crate) fn inside(&self, command: &Command) -> Command {
        let mut inside = Command::new("nsenter");
        inside.arg("--target").arg(self.keeper.pid().as_raw_nonzero().to_string());
        if !rustix::process::geteuid().is_root() {
            inside.args(["--user", "--preserve-credentials"]);
        }
        inside.arg("--net").arg("--").arg(command.get_program()).args(command.get_args());
        inside.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        inside
    }

    /// From here on no packet from or to `port` arrives, and nobody is told.
    pub(crate) fn cut(&self, port: u16) {
        let drops = format!("tcp sport {port} drop\ntcp dport {port} drop\n");
        let chain = format!("chain input {{\ntype filter hook input priority 0;\n{drops}}}\n");
        self.nft(&format!("table inet cable {{\n{chain}}}\n"));
    }

    /// Packets arrive again.
    pub(crate) fn mend(&self) {
        self.nft("delete table inet cable");
    }

    fn nft(&self, rules: &str) {
        let mut command = Command::new("nft");
        command.arg(rules);
        let output = self.inside(&command).stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "nft: {}", String::from_utf8_lossy(&output.stderr));
    }
}
