//! A real corosync-qnetd for one test. Needs the packages corosync-qnetd and libnss3-tools.

use std::{
    fs,
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

/// Whether there is a corosync-qnetd; root, for whom scripts/install-deps installs it, cannot do without.
pub(crate) fn is_there() -> bool {
    let is_there = Command::new("corosync-qnetd").arg("-v").output().is_ok();
    if !is_there && !is_root() {
        eprintln!("SKIPPED: corosync-qnetd is not installed");
        return false;
    }
    true
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output().expect("every system has id");
    id.stdout.trim_ascii() == b"0"
}

/// An arbiter on loopback, killed when it is dropped.
pub(crate) struct Arbiter {
    dir: tempfile::TempDir,
    port: u16,
    tls: &'static str,
    process: Option<Child>,
}

impl Arbiter {
    /// Starts one; `tls` is its option `-s`.
    pub(crate) fn start(tls: &'static str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        // The port is free now, and nobody else on this machine asks for it by number.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut arbiter = Self { dir, port, tls, process: None };
        if tls != "off" {
            arbiter.make_certificates();
        }
        arbiter.restart();
        arbiter
    }

    pub(crate) fn restart(&mut self) {
        self.kill();
        let at = |name: &str| self.dir.path().join(name).display().to_string();
        let settings = format!(
            "nss_db_dir={},lock_file={},local_socket_file={}",
            self.database().display(),
            at("pid"),
            at("sock")
        );
        let port = self.port.to_string();
        let arguments = ["-f", "-4", "-l", "127.0.0.1", "-p", &port, "-s", self.tls, "-S", &settings];
        let log = fs::File::create(self.dir.path().join("log")).unwrap();
        let process =
            Command::new("corosync-qnetd").args(arguments).stderr(log).stdout(Stdio::null()).spawn();
        self.process = Some(process.expect("corosync-qnetd is installed: scripts/install-deps test"));
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Lines of the quorum section for it.
    pub(crate) fn section(&self, tls: &str, algorithm: &str, votes: &str) -> String {
        format!(
            "  device {{\n    model: net\n    {votes}\n    net {{\n      host: 127.0.0.1\n      port: {}\n      \
             tls: {tls}\n      algorithm: {algorithm}\n    }}\n  }}\n",
            self.port
        )
    }

    fn database(&self) -> PathBuf {
        self.dir.path().join("nssdb")
    }

    /// What `corosync-qnetd-certutil -i` does, which knows one place only.
    fn make_certificates(&self) {
        let database = self.database();
        fs::create_dir(&database).unwrap();
        fs::write(self.dir.path().join("password"), "").unwrap();
        fs::write(self.dir.path().join("noise"), "the chance of a test needs not be good").unwrap();
        self.certutil(&["-N"], "");
        let ca =
            ["-S", "-n", "QNet CA", "-s", "CN=QNet CA", "-x", "-t", "CT,,", "-m", "101", "-v", "1200", "-2"];
        self.certutil(&ca, "y\n0\ny\n");
        let server = ["-S", "-n", "QNetd Cert", "-s", "CN=Qnetd Server", "-c", "QNet CA"];
        self.certutil(&[&server[..], &["-t", "u,u,u", "-m", "102", "-v", "1200"]].concat(), "");
    }

    fn certutil(&self, arguments: &[&str], answers: &str) -> Vec<u8> {
        use std::io::Write as _;
        let path = |name: &str| self.dir.path().join(name);
        let mut command = Command::new("certutil");
        command.args(arguments).arg("-d").arg(self.database()).arg("-f").arg(path("password"));
        if arguments[0] == "-S" {
            command.arg("-z").arg(path("noise"));
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("certutil is installed: scripts/install-deps test");
        // certutil may have ended without reading.
        let _ = child.stdin.take().unwrap().write_all(answers.as_bytes());
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    /// Its port.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Signs a request in DER as its administrator does; gives the CA's certificate in PEM, and the signed one in DER.
    pub(crate) fn sign(&self, request: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let path = self.dir.path().join("request");
        fs::write(&path, request).unwrap();
        let signed = self.dir.path().join("signed");
        let (request, signed_path) = (path.display().to_string(), signed.display().to_string());
        let sign = ["-C", "-v", "1200", "-m", "103", "-i", &request, "-o", &signed_path, "-c", "QNet CA"];
        self.certutil(&sign, "");
        (self.certutil(&["-L", "-n", "QNet CA", "-a"], ""), fs::read(&signed).unwrap())
    }
}

impl Drop for Arbiter {
    fn drop(&mut self) {
        self.kill();
    }
}
