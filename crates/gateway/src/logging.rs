//! Logs: one event, one line, to standard error.
//!
//! What must never be logged is masked by its own type (`AuthCode`, `Key`, `Fields`, `SealKey`); what comes
//! from outside is logged with `?`, which escapes line breaks, terminal escapes and quotes (MI-17, INV-26).

use std::io;

use thiserror::Error;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::config::{Log, LogFormat};

/// Why logs cannot be written.
#[derive(Debug, Error)]
pub enum LoggingError {
    /// The filter is malformed.
    #[error("log filter: {0}")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// Another subscriber is installed in this process.
    #[error("logs go elsewhere already: {0}")]
    Taken(#[from] tracing::subscriber::SetGlobalDefaultError),
}

/// Sends the logs of this process to standard error.
///
/// # Errors
///
/// [`LoggingError`] for a malformed filter, or if logs go elsewhere already.
pub fn install(log: &Log) -> Result<(), LoggingError> {
    let subscriber = subscriber(log, io::stderr)?;
    Ok(tracing::subscriber::set_global_default(subscriber)?)
}

/// Puts together what writes logs to `writer`.
fn subscriber<W>(log: &Log, writer: W) -> Result<Box<dyn tracing::Subscriber + Send + Sync>, LoggingError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let filter = EnvFilter::try_new(&log.filter)?;
    // A line that cannot be written, since its disk is full, is lost. Said on standard error, as is usual, it would be a
    // panic: that is where the log goes.
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer)
        .with_ansi(false)
        .log_internal_errors(false);
    Ok(match log.format {
        LogFormat::Json => Box::new(builder.json().flatten_event(true).finish()),
        LogFormat::Plain => Box::new(builder.finish()),
    })
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    use protocol::{AuthCode, Fields};

    use super::subscriber;
    use crate::config::{Log, LogFormat};

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What `log` writes in a format.
    fn written(format: LogFormat, log: impl FnOnce()) -> String {
        let sink = Sink::default();
        let settings = Log { format, filter: "info".to_owned() };
        let make = {
            let sink = sink.clone();
            move || sink.clone()
        };
        tracing::subscriber::with_default(subscriber(&settings, make).unwrap(), log);
        String::from_utf8(sink.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn one_event_is_one_line_whatever_it_quotes() {
        let _covers = covers::covers(&["MI-17"]);
        let hostile = "a\nINFO forged=\"yes\"\r\u{1b}[31mred\u{0}";
        for format in [LogFormat::Json, LogFormat::Plain] {
            let text = written(format, || tracing::info!(body = ?hostile, "refused"));
            assert_eq!(text.lines().count(), 1, "{text:?}");
            assert!(!text.contains('\u{1b}') && !text.contains('\r') && !text.contains('\0'), "{text:?}");
            assert!(text.contains("refused"));
        }
    }

    #[test]
    fn secrets_are_masked_by_their_types() {
        let _covers = covers::covers(&["INV-26"]);
        let code: AuthCode = "134567890123456789".parse().unwrap();
        let key = signer::Key::new("192006250b4c09247ec02edce69f6a2d").unwrap();
        let fields = Fields::new([("openid", "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o")]);
        let seal = store::SealKey::from_bytes([0xab; 32]);
        // The time of the line is not of the secrets, and can hold any digits.
        let secrets = ["134567890123456789", "192006250b4c", "oUpF8u", "abab", "171, 171"];
        for format in [LogFormat::Json, LogFormat::Plain] {
            let text = written(format, || tracing::error!(?code, ?key, ?fields, ?seal, "all of them"));
            for secret in secrets {
                assert!(!text.contains(secret), "{secret} in {text}");
            }
            assert!(text.contains("13************6789"), "{text}");
        }
    }
}
