//! Signing on the arbiter through ssh, for those who have it.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::error::Error;

/// Between the two certificates in what the script prints.
const MARK: &str = "== cluster ==";

/// What runs on the arbiter; `$1` is the cluster's name, standard input the request in base64.
const SCRIPT: &str = "set -e; d=/etc/corosync/qnetd/nssdb; \
    [ -e $d/cert9.db ] || [ -e $d/cert8.db ] || corosync-qnetd-certutil -i >&2; \
    f=$(mktemp); trap 'rm -f $f' EXIT; base64 -d > $f; corosync-qnetd-certutil -s -c $f -n NAME >&2; \
    base64 -w 0 $d/qnetd-cacert.crt; echo; echo '== cluster =='; base64 -w 0 $d/cluster-NAME.crt; echo";

/// Has a request signed; returns the CA's certificate and the cluster's.
pub(super) fn sign(address: &str, cluster: &str, request: &[u8]) -> Result<(Vec<u8>, Vec<u8>), Error> {
    let failed = |why: String| {
        Error::Parameters(vec![format!("use_ssh: {why}; without ssh: 'pvecm qdevice request'")])
    };
    if address.starts_with('-') {
        return Err(failed(format!("'{address}' is no address")));
    }
    // A cluster's name is one word of letters, digits and hyphens in clusters that pvecm made; no other is put into a script.
    if !cluster.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        return Err(failed(format!("the cluster's name '{cluster}' is not one word of letters and digits")));
    }
    let mut child = Command::new("ssh")
        .args(["-o", "BatchMode=yes", "-l", "root", address, &SCRIPT.replace("NAME", cluster)])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| failed(format!("ssh cannot be started: {error}")))?;
    if let Some(mut stdin) = child.stdin.take() {
        // ssh says itself why it does not read.
        let _ = stdin.write_all(STANDARD.encode(request).as_bytes());
    }
    let output = child.wait_with_output().map_err(|error| failed(error.to_string()))?;
    if !output.status.success() {
        return Err(failed(format!("signing as root@{address} ended with {}", output.status)));
    }
    parse(&String::from_utf8_lossy(&output.stdout))
        .ok_or_else(|| failed(format!("{address} answered something else")))
}

fn parse(answer: &str) -> Option<(Vec<u8>, Vec<u8>)> {
    let (ca, certificate) = answer.split_once(MARK)?;
    Some((STANDARD.decode(ca.trim()).ok()?, STANDARD.decode(certificate.trim()).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_is_two_certificates() {
        assert_eq!(parse("Y2E=\n== cluster ==\nY2VydA==\n"), Some((b"ca".to_vec(), b"cert".to_vec())));
        assert_eq!(parse("Y2E=\n"), None);
        assert_eq!(parse("!\n== cluster ==\nY2VydA==\n"), None);
    }

    #[test]
    fn nothing_that_a_shell_would_read_reaches_it() {
        for (address, cluster) in [("-oProxyCommand=x", "lab"), ("10.0.0.9", "a;b"), ("10.0.0.9", "$(x)")] {
            assert!(matches!(sign(address, cluster, b""), Err(Error::Parameters(_))), "{address} {cluster}");
        }
    }
}
