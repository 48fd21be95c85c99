//! Secrets: from a file or the environment, never in the settings file and never printed.

use std::path::Path;

use zeroize::Zeroizing;

use super::reader::{Reader, Section, variable_of};

/// Longest secret file taken, in bytes.
const SECRET_MAX: u64 = 4 * 1024;

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
