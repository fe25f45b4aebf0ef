//! Why a command was refused, in memcached's words.

use std::fmt;

/// What is wrong with a command. `Display` is the line that the client sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Complaint {
    /// No such command, or not with so many words.
    Unknown,
    /// A word that should be a number is none, or a key is too long.
    Format,
    /// `delete` with words it does not have.
    DeleteUsage,
    /// A time of expiry that is no number.
    Exptime,
    /// What `incr` should add is no number.
    Delta,
    /// The block of data does not end where its length says.
    DataChunk,
    /// `incr` of something that is no number.
    NotNumeric,
    /// `stats` with a malformed argument.
    StatsFormat,
    /// A flag of a meta command stands twice.
    DuplicateFlag,
    /// A meta command has no such flag.
    InvalidFlag,
    /// One or the other, from commands that do not tell them apart.
    InvalidOrDuplicateFlag,
    /// A flag's number is none.
    FlagToken,
    /// A flag `M` without its one letter.
    ModeLength,
    /// `ms` has no such mode.
    SetMode,
    /// `ma` has no such mode.
    ArithmeticMode,
    /// `J` without a number.
    InitialValue,
    /// `D` without a number.
    DeltaValue,
    /// A key that is not base64.
    KeyEncoding,
    /// An `O` token that is too long.
    Opaque,
    /// Too many flags, as `mg` says it.
    TooManyGetFlags,
    /// Too many flags, as the others say it.
    TooManyFlags,
    /// An item that no memory limit would admit.
    TooLarge,
    /// No memory for this item, now.
    NoMemory,
    /// No memory for the sum of an `incr`.
    NoMemoryForSum,
    /// No memory for an item that `ma` was to create.
    NoMemoryForNew,
    /// A request longer than is ever buffered.
    NoMemoryForRequest,
    /// An answer longer than is ever collected.
    NoMemoryForAnswer,
    /// `shutdown` from the network.
    Shutdown,
    /// A memory limit that cannot be.
    MemoryLimit,
    /// One that is less than memcached takes.
    MemoryLimitTooSmall,
    /// One that must be meant in bytes.
    MemoryLimitInBytes,
}

impl Complaint {
    /// The line without its end.
    pub fn text(self) -> &'static str {
        match self {
            Self::Unknown => "ERROR",
            Self::Format => "CLIENT_ERROR bad command line format",
            Self::DeleteUsage => "CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]",
            Self::Exptime => "CLIENT_ERROR invalid exptime argument",
            Self::Delta => "CLIENT_ERROR invalid numeric delta argument",
            Self::DataChunk => "CLIENT_ERROR bad data chunk",
            Self::NotNumeric => "CLIENT_ERROR cannot increment or decrement non-numeric value",
            Self::StatsFormat => "CLIENT_ERROR bad command line",
            Self::DuplicateFlag => "CLIENT_ERROR duplicate flag",
            Self::InvalidFlag => "CLIENT_ERROR invalid flag",
            Self::InvalidOrDuplicateFlag => "CLIENT_ERROR invalid or duplicate flag",
            Self::FlagToken => "CLIENT_ERROR bad token in command line format",
            Self::ModeLength => "CLIENT_ERROR incorrect length for M token",
            Self::SetMode => "CLIENT_ERROR invalid mode for ms M token",
            Self::ArithmeticMode => "CLIENT_ERROR invalid mode for ma M token",
            Self::InitialValue => "CLIENT_ERROR invalid numeric initial value",
            Self::DeltaValue => "CLIENT_ERROR invalid numeric delta value",
            Self::KeyEncoding => "CLIENT_ERROR error decoding key",
            Self::Opaque => "CLIENT_ERROR opaque token too long",
            Self::TooManyGetFlags => "CLIENT_ERROR options flags are too long",
            Self::TooManyFlags => "CLIENT_ERROR options flags too long",
            Self::TooLarge => "SERVER_ERROR object too large for cache",
            Self::NoMemory => "SERVER_ERROR out of memory storing object",
            Self::NoMemoryForSum => "SERVER_ERROR out of memory",
            Self::NoMemoryForNew => "SERVER_ERROR Out of memory allocating new item",
            Self::NoMemoryForRequest => "SERVER_ERROR out of memory reading request",
            Self::NoMemoryForAnswer => "SERVER_ERROR out of memory writing get response",
            Self::Shutdown => "ERROR: shutdown not enabled",
            Self::MemoryLimitTooSmall => "MEMLIMIT_TOO_SMALL cannot set maxbytes to less than 8m",
            Self::MemoryLimitInBytes => "MEMLIMIT_ADJUST_FAILED input value is megabytes not bytes",
            Self::MemoryLimit => "MEMLIMIT_ADJUST_FAILED out of bounds or unable to adjust",
        }
    }
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

/// A command that is refused without having been looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// What to tell the client.
    pub complaint: Complaint,
    /// The client asked for no answer, and errors are no exception to that.
    pub silent: bool,
    /// How much data follows the line and is to be thrown away, its line end included.
    pub swallow: usize,
}

impl From<Complaint> for Refusal {
    fn from(complaint: Complaint) -> Self {
        Self { complaint, silent: false, swallow: 0 }
    }
}
