//! The part of a target behind the question mark.

use super::problem::Problem;
use super::request::decoded;

/// The parameters of a request, each at most once, all of them known.
pub(super) struct Query(Vec<(&'static str, String)>);

impl Query {
    /// Reads `text` as a form: `name=value` with `&` between, `+` for a blank.
    pub(super) fn read(text: Option<&str>, known: &[&'static str]) -> Result<Self, Problem> {
        let mut found: Vec<(&'static str, String)> = Vec::new();
        for one in text.unwrap_or_default().split('&').filter(|one| !one.is_empty()) {
            let (name, value) = one.split_once('=').unwrap_or((one, ""));
            let name = decoded(&name.replace('+', " "));
            let name = known.iter().find(|known| name.as_deref() == Some(**known));
            let name =
                *name.ok_or_else(|| Problem::field("query", "there is no such parameter".to_owned()))?;
            let value = decoded(&value.replace('+', " "))
                .ok_or_else(|| Problem::field(name, "is malformed".to_owned()))?;
            if found.iter().any(|(other, _)| *other == name) {
                return Err(Problem::field(name, "is there twice".to_owned()));
            }
            found.push((name, value));
        }
        Ok(Self(found))
    }

    /// Takes a parameter out.
    pub(super) fn take(&mut self, name: &str) -> Option<String> {
        let at = self.0.iter().position(|(known, _)| *known == name)?;
        Some(self.0.swap_remove(at).1)
    }
}
