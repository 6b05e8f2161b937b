//! `.rrd`: the newest figures, one line for each key. Source: pmxcfs specification, section 4.5.

use bytes::Bytes;

/// The text, for keys in order.
pub(crate) fn rrd<'a>(figures: impl Iterator<Item = (&'a str, &'a Bytes)>) -> Vec<u8> {
    let mut text = Vec::new();
    for (key, values) in figures {
        text.extend_from_slice(key.as_bytes());
        text.push(b':');
        text.extend_from_slice(values);
        text.push(b'\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_has_a_line() {
        let figures =
            [("pve2-node/node1", Bytes::from_static(b"86400:c:1")), ("pve2.3-vm/100", "9:web".into())];
        let text = rrd(figures.iter().map(|(key, values)| (*key, values)));
        assert_eq!(
            String::from_utf8(text).expect("text"),
            "pve2-node/node1:86400:c:1\npve2.3-vm/100:9:web\n"
        );
    }
}
