//! Random texts for messages that are signed.

use std::cell::RefCell;

use protocol::Text;

/// Characters of a `nonce_str`: 160 bits.
const LEN: usize = 32;
/// Texts for which the kernel is asked at once.
const AT_ONCE: usize = 32;

thread_local! {
    /// Random bytes that were not used yet, at the end of the vector, and wiped where they were.
    static POOL: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// 32 random letters and digits: they make the input of a signature unpredictable. `None` if the system has no
/// randomness. Source: wechatpay-v2 §2.1, rules and traps.
pub(crate) fn nonce() -> Option<Text<LEN>> {
    // 32 characters, so that five bits choose one and none is likelier than another.
    const ALPHABET: &[u8; 32] = b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789";
    POOL.with_borrow_mut(|pool| {
        if pool.len() < LEN {
            pool.resize(AT_ONCE.saturating_mul(LEN), 0);
            if getrandom::fill(pool).is_err() {
                pool.clear();
                return None;
            }
        }
        let mut text = [0; LEN];
        for (to, byte) in text.iter_mut().zip(pool.iter_mut().rev()) {
            *to = *ALPHABET.get(usize::from(std::mem::take(byte) & 31))?;
        }
        pool.truncate(pool.len().saturating_sub(LEN));
        Text::new(std::str::from_utf8(&text).ok()?).ok()
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{AT_ONCE, nonce};

    #[test]
    fn no_text_comes_twice() {
        let many = AT_ONCE * 3 + 1;
        let mut seen = BTreeSet::new();
        for _ in 0..many {
            let text = nonce().expect("the system has randomness");
            assert_eq!(text.as_str().len(), 32);
            assert!(text.as_str().bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit()));
            assert!(seen.insert(text.as_str().to_owned()));
        }
        let others =
            std::thread::spawn(move || (0..many).map(|_| nonce().expect("it has")).collect::<Vec<_>>());
        for text in others.join().expect("no panic") {
            assert!(seen.insert(text.as_str().to_owned()), "threads share no bytes");
        }
        let letters: BTreeSet<u8> = seen.iter().flat_map(|text| text.bytes()).collect();
        assert_eq!(letters.len(), 32, "every character occurs");
    }
}
