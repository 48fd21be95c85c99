//! Reading `hufu.toml` for the verbs that need it.

use std::path::{Path, PathBuf};

use clap::Args;
use clap::builder::FalseyValueParser;
use gateway::config::Config;

use crate::exit::Failure;

/// `--json`.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct JsonFlag {
    /// Print results as JSON, one object a line.
    #[arg(long, env = "HUFU_JSON", value_parser = FalseyValueParser::new())]
    pub(crate) json: bool,
}

/// `--config`.
#[derive(Clone, Debug, Args)]
pub(crate) struct ConfigFlag {
    /// The settings; HUFU_* variables go over them.
    #[arg(long, env = "HUFU_CONFIG", value_name = "FILE", default_value = "hufu.toml")]
    pub(crate) config: PathBuf,
}

/// Reads the settings; a failure lists every problem.
pub(crate) fn load(path: &Path) -> Result<Config, Failure> {
    Config::load(path, std::env::vars()).map_err(|errors| {
        let mut text = format!("{}: the configuration cannot be used; nothing was done:", path.display());
        for problem in &errors.0 {
            text.push_str(&format!("\n  {problem}"));
        }
        Failure::usage(text)
    })
}
