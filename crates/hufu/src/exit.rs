//! How the program ends: a code for scripts, and words for people.

use std::fmt;
use std::process::ExitCode;

/// What `--help` says of the codes.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0    done
  1    a check failed, the books differ, or there is no such payment or merchant
  2    wrong usage, or a configuration with problems
  69   not available: no switch answers, the store is in use, an address is taken, the wallet is silent
  70   the program failed; what is open is taken up at the next start
  75   load: the generator, not the server, was the limit; its figures do not count
  130  interrupted";

/// Why a verb did not do what it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// A check failed, or what was asked for does not exist.
    Failed,
    /// Wrong usage or configuration.
    Usage,
    /// Something that is needed is not there.
    Unavailable,
    /// The program failed.
    Internal,
    /// What was measured is not what was meant.
    Unmeasured,
    /// Somebody pressed Ctrl-C.
    Interrupted,
}

impl Exit {
    /// The code that the shell sees.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Unavailable => 69,
            Self::Internal => 70,
            Self::Unmeasured => 75,
            Self::Interrupted => 130,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// A verb that failed: what happened, whether money may have moved, what to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// The code.
    pub(crate) exit: Exit,
    /// The words; empty where everything has been said already.
    pub(crate) text: String,
}

impl Failure {
    /// A failed check, or something that does not exist.
    pub(crate) fn failed(text: impl Into<String>) -> Self {
        Self { exit: Exit::Failed, text: text.into() }
    }

    /// Wrong usage or configuration.
    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, text: text.into() }
    }

    /// Something that is needed is not there.
    pub(crate) fn unavailable(text: impl Into<String>) -> Self {
        Self { exit: Exit::Unavailable, text: text.into() }
    }

    /// The program failed.
    pub(crate) fn internal(text: impl Into<String>) -> Self {
        Self { exit: Exit::Internal, text: text.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// What a verb comes to.
pub(crate) type Outcome = Result<(), Failure>;
