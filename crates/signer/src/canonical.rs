//! The text that is hashed.

use std::fmt;

use zeroize::Zeroize;

/// Buffers for one signature after another; once they are warm, signing allocates nothing.
///
/// The text of the last message stays inside until the next call and is wiped when this is dropped.
#[derive(Default)]
pub struct Scratch {
    text: Vec<u8>,
    order: Vec<Entry<'static>>,
}

/// A pair and the first eight bytes of its name, which decide nearly every comparison.
#[derive(Clone, Copy)]
struct Entry<'a> {
    prefix: u64,
    name: &'a str,
    value: &'a str,
}

impl Scratch {
    /// Empty buffers.
    #[must_use]
    pub const fn new() -> Self {
        Self { text: Vec::new(), order: Vec::new() }
    }

    /// Joins `pairs` as `name=value` with `&`, names ascending byte by byte, without `sign` and without
    /// empty values, and nothing escaped or trimmed. The key is not part of it.
    ///
    /// Of two pairs with one name the order is not defined: refuse such a message before.
    ///
    /// Source: wechatpay-v2 §2.1, steps 1 to 4.
    pub fn canonical<'a>(&mut self, pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> &[u8] {
        let mut order: Vec<Entry<'a>> = std::mem::take(&mut self.order);
        order.extend(
            pairs
                .into_iter()
                .filter(|(name, value)| !value.is_empty() && *name != "sign")
                .map(|(name, value)| Entry { prefix: prefix(name), name, value }),
        );
        order.sort_unstable_by(|a, b| {
            a.prefix.cmp(&b.prefix).then_with(|| a.name.as_bytes().cmp(b.name.as_bytes()))
        });
        self.text.clear();
        for entry in &order {
            if !self.text.is_empty() {
                self.text.push(b'&');
            }
            self.text.extend_from_slice(entry.name.as_bytes());
            self.text.push(b'=');
            self.text.extend_from_slice(entry.value.as_bytes());
        }
        order.clear();
        // An empty vector of borrowed pairs becomes one of static pairs: `collect` keeps the allocation.
        self.order = order.into_iter().map(|_| Entry { prefix: 0, name: "", value: "" }).collect();
        &self.text
    }
}

/// The first eight bytes as a number that sorts as they do; missing ones count as 0, the least byte.
fn prefix(name: &str) -> u64 {
    let bytes = name.as_bytes();
    if let Some(head) = bytes.first_chunk::<8>() {
        return u64::from_be_bytes(*head);
    }
    let mut head = [0; 8];
    for (slot, byte) in head.iter_mut().zip(bytes) {
        *slot = *byte;
    }
    u64::from_be_bytes(head)
}

impl Drop for Scratch {
    fn drop(&mut self) {
        self.text.zeroize();
    }
}

impl fmt::Debug for Scratch {
    /// Shows no text: it holds codes and `openid`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scratch")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{ProptestConfig, prop, prop_assert_eq, proptest};

    use super::Scratch;

    #[test]
    fn order_is_that_of_bytes() {
        let mut scratch = Scratch::new();
        let names = ["b", "a", "Z", "coupon_id_2", "coupon_id_10", "coupon_id_", "coupon_i", "_x", "é", "a1"];
        let text = scratch.canonical(names.map(|name| (name, "1"))).to_vec();
        let text = String::from_utf8(text).expect("joined from text");
        assert_eq!(text, "Z=1&_x=1&a=1&a1=1&b=1&coupon_i=1&coupon_id_=1&coupon_id_10=1&coupon_id_2=1&é=1");
    }

    #[test]
    fn sign_and_empty_values_are_left_out_and_nothing_is_trimmed() {
        let mut scratch = Scratch::new();
        assert_eq!(
            scratch.canonical([("sign", "X"), ("b", " "), ("a", ""), ("sign_type", "MD5"), ("c", "0")]),
            b"b= &c=0&sign_type=MD5"
        );
        assert_eq!(scratch.canonical([("sign", "X"), ("a", "")]), b"");
    }

    #[test]
    fn buffers_are_kept() {
        let mut scratch = Scratch::new();
        scratch.canonical([("a", "1"), ("b", "2"), ("c", "3")]);
        let (text, order) = (scratch.text.capacity(), scratch.order.capacity());
        assert!(text > 0 && order >= 3);
        scratch.canonical([("c", "3"), ("a", "1"), ("b", "2")]);
        assert_eq!((scratch.text.capacity(), scratch.order.capacity()), (text, order));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]
        #[test]
        fn equals_a_sorted_map(pairs in prop::collection::btree_map("[a-c_\u{0}é]{0,11}", "[ -~]{0,4}", 0..24)) {
            let expected: Vec<String> = pairs
                .iter()
                .filter(|(_, value)| !value.is_empty())
                .map(|(name, value)| format!("{name}={value}"))
                .collect();
            let mut scratch = Scratch::new();
            let text = scratch.canonical(pairs.iter().rev().map(|(n, v)| (n.as_str(), v.as_str())));
            let expected = expected.join("&");
            prop_assert_eq!(text, expected.as_bytes());
        }
    }
}
