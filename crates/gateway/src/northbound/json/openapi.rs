//! The description of the JSON API, as it is served: OpenAPI 3.1. The published checks in `tests/openapi` hold it
//! against the running switch; the test here holds it against the problems that there are.

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::HeaderValue;

use crate::northbound::server::{Reply, typed};

const DOCUMENT: &str = include_str!("openapi.json");

/// Where the description is. Source: RFC 8631.
pub(in crate::northbound) const SERVICE_DESC: HeaderValue =
    HeaderValue::from_static("</openapi.json>; rel=\"service-desc\"; type=\"application/json\"");

/// `GET /openapi.json`.
pub(in crate::northbound) fn document() -> Reply {
    typed(StatusCode::OK, "application/json", Bytes::from_static(DOCUMENT.as_bytes()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;
    use state_machine::till::JsonState;

    use super::DOCUMENT;

    fn words(list: &Value) -> BTreeSet<String> {
        list.as_array()
            .expect("a list")
            .iter()
            .map(|word| word.as_str().expect("a word").to_owned())
            .collect()
    }

    #[test]
    fn every_problem_and_every_state_is_described() {
        let document: Value = serde_json::from_str(DOCUMENT).expect("JSON");
        let schemas = &document["components"]["schemas"];
        let described = words(&schemas["Problem"]["properties"]["type"]["enum"]);
        let source = include_str!("problem.rs");
        let made: BTreeSet<String> = source
            .split('"')
            .filter(|text| text.starts_with("urn:hufu:") && !text.contains(' '))
            .map(str::to_owned)
            .collect();
        assert_eq!(described, made);
        let states: BTreeSet<String> = JsonState::ALL.iter().map(|state| state.as_str().to_owned()).collect();
        assert_eq!(words(&schemas["State"]["enum"]), states);
        // Each problem is named where its status is.
        let responses = document["components"]["responses"].to_string();
        for slug in &made {
            assert!(responses.contains(slug.as_str()), "{slug} stands under no status");
        }
    }
}
