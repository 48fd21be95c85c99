//! Secrets: from a file or the environment, never in the settings file and never printed.

use std::fmt;
use std::path::Path;

use zeroize::{Zeroize, Zeroizing};

use super::reader::{Reader, Section, variable_of};

/// Longest secret file taken, in bytes.
const SECRET_MAX: u64 = 4 * 1024;

/// 32 random bytes: what records and merchant keys are sealed with. Wiped when dropped, never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct SealKey([u8; 32]);

impl SealKey {
    /// Takes the bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Reads 64 hexadecimal digits.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        if text.len() != 64 {
            return None;
        }
        let mut bytes = [0; 32];
        for (slot, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            *slot = pair.iter().try_fold(0_u8, |high, digit| {
                char::from(*digit).to_digit(16).and_then(|d| u8::try_from(d).ok()).map(|d| high << 4 | d)
            })?;
        }
        Some(Self(bytes))
    }

    /// The bytes, for the store's cipher and for [`SealKey::derive`].
    #[must_use]
    pub const fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// Another key for another purpose: HMAC-SHA256 of `purpose` under this one.
    #[must_use]
    pub fn derive(&self, purpose: &str) -> [u8; 32] {
        use hmac::{Hmac, KeyInit as _, Mac as _};
        let mut block = hmac::digest::common::Key::<Hmac<sha2::Sha256>>::default();
        for (slot, byte) in block.iter_mut().zip(&self.0) {
            *slot = *byte;
        }
        let mut mac = Hmac::<sha2::Sha256>::new(&block);
        block.as_mut_slice().zeroize();
        mac.update(purpose.as_bytes());
        mac.finalize().into_bytes().into()
    }
}

impl Drop for SealKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealKey(..)")
    }
}

/// Reads the secret `name`: the variable of that name, or the file that the setting `file` names.
///
/// One line feed at the end of a file is forgiven, nothing else is trimmed.
pub(super) fn read(
    section: &mut Section,
    name: &'static str,
    file: &'static str,
    required: bool,
    reader: &mut Reader,
) -> Option<Zeroizing<String>> {
    let setting = section.setting(name);
    let from_file = section.path(file, reader);
    if section.in_table(name) {
        let variable = variable_of(&setting);
        reader.problem(
            setting.clone(),
            format!("secrets do not belong into this file: use {file} or {variable}"),
        );
    }
    let given = section.secret_variable(name, reader);
    match (given, from_file) {
        (Some(_), Some(_)) => {
            reader.problem(setting, format!("is given both in the environment and by {file}"));
            None
        }
        (Some(secret), None) => Some(secret),
        (None, Some(path)) => read_file(&path).map_err(|why| reader.problem(section.setting(file), why)).ok(),
        (None, None) => {
            if required {
                let variable = variable_of(&setting);
                reader.problem(section.setting(file), format!("is missing (this, or {variable})"));
            }
            None
        }
    }
}

fn read_file(path: &Path) -> Result<Zeroizing<String>, String> {
    use std::os::unix::fs::PermissionsExt as _;
    let shown = path.display();
    let meta = std::fs::metadata(path).map_err(|err| format!("{shown}: {err}"))?;
    if meta.permissions().mode() & 0o007 != 0 {
        return Err(format!("{shown}: everybody may read it: chmod o-rwx"));
    }
    if meta.len() > SECRET_MAX {
        return Err(format!("{shown}: is over {SECRET_MAX} bytes"));
    }
    let mut text = Zeroizing::new(std::fs::read_to_string(path).map_err(|err| format!("{shown}: {err}"))?);
    if text.ends_with('\n') {
        text.pop();
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::SealKey;

    #[test]
    fn seal_key_is_sixty_four_digits_and_masked() {
        let key = SealKey::from_hex(&"0f".repeat(32)).expect("digits");
        assert_eq!(key.expose(), &[15; 32]);
        assert_eq!(format!("{key:?}"), "SealKey(..)");
        for bad in ["", &"0f".repeat(31), &"0f".repeat(33), &"0g".repeat(32), &"é".repeat(32)] {
            assert!(SealKey::from_hex(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn derived_keys_differ_by_purpose() {
        let key = SealKey::new([7; 32]);
        assert_eq!(key.derive("content digest"), key.derive("content digest"));
        assert_ne!(key.derive("content digest"), key.derive("records"));
        assert_ne!(key.derive("content digest"), SealKey::new([8; 32]).derive("content digest"));
    }
}
