//! The page of metrics of a node, as a monitoring would read it.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use playground::Node;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// Port of the metrics on the nodes of a playground.
const PORT: u16 = 9100;
/// How long a node may take to print the page.
const ANSWER: Duration = Duration::from_secs(10);

/// All samples of a page: the value by name with labels, as printed.
#[derive(Debug, Clone, Default)]
pub struct Page(BTreeMap<String, f64>);

impl Page {
    /// Reads the page of a node over plain HTTP.
    ///
    /// # Errors
    /// In words, what failed.
    pub async fn of(node: &Node) -> Result<Self, String> {
        let address = SocketAddr::new(node.address(), PORT);
        let read = tokio::time::timeout(ANSWER, get(address)).await;
        let answer =
            read.map_err(|_| format!("no page within {ANSWER:?}"))?.map_err(|error| error.to_string())?;
        let (head, body) = answer.split_once("\r\n\r\n").ok_or("an answer without a head")?;
        let status = head.lines().next().unwrap_or_default();
        if !status.contains(" 200 ") {
            return Err(format!("{address} answered: {status}"));
        }
        Ok(Self(body.lines().filter_map(sample).collect()))
    }

    /// The value of one sample, such as `quorum_quorate{daemon="quorumd"}`.
    #[must_use]
    pub fn value(&self, sample: &str) -> Option<f64> {
        self.0.get(sample).copied()
    }

    /// The sum over all samples whose name with labels contains all of these.
    #[must_use]
    pub fn sum(&self, parts: &[&str]) -> f64 {
        let samples = self.0.iter().filter(|(name, _)| parts.iter().all(|part| name.contains(part)));
        samples.map(|(_, value)| value).sum()
    }

    /// The names of all samples, without labels.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(|sample| sample.split('{').next().unwrap_or(sample))
    }
}

/// `name{labels} value`; comments are none.
fn sample(line: &str) -> Option<(String, f64)> {
    let (name, value) = line.rsplit_once(' ').filter(|_| !line.starts_with('#'))?;
    Some((name.to_owned(), value.parse().ok()?))
}

async fn get(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET /metrics HTTP/1.0\r\nHost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_read_with_their_labels_and_comments_are_not() {
        assert_eq!(sample("a_total{daemon=\"x y\"} 2"), Some(("a_total{daemon=\"x y\"}".into(), 2.0)));
        assert_eq!(sample("# TYPE a counter"), None);
        assert_eq!(sample("# EOF"), None);
    }
}
