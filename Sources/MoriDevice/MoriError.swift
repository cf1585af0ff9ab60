/// What went wrong, in a form that programs can act on and people can read.
///
/// The message says what was found, what is legal and what to do.
public struct MoriError: Error, Hashable, Sendable, CustomStringConvertible {
    /// The kind of the error.
    ///
    /// A struct, so that kinds can be added without breaking a `switch`.
    public struct Code: Hashable, Sendable, CustomStringConvertible {
        /// The name of the kind, as it is spelt in Swift.
        public let description: String

        private init(_ description: String) { self.description = description }

        /// A field of a configuration, or an environment variable, has no legal value.
        public static let invalidConfiguration = Code("invalidConfiguration")
        /// An argument of a call has no legal value.
        public static let invalidArgument = Code("invalidArgument")
        /// The device, the library or the kernel type cannot do it.
        public static let unsupported = Code("unsupported")
        /// The heap or the device has no room.
        public static let outOfMemory = Code("outOfMemory")
        /// No device of the kind asked for answers, or its library cannot be loaded.
        public static let noDevice = Code("noDevice")
        /// The device's runtime reported an error.
        public static let deviceFailure = Code("deviceFailure")
        /// The network reported an error.
        public static let networkFailure = Code("networkFailure")
        /// The ranks could not find each other.
        public static let bootstrapFailed = Code("bootstrapFailed")
        /// A wait reached its deadline.
        public static let timedOut = Code("timedOut")
        /// A rank died or left.
        public static let peerLost = Code("peerLost")
        /// Ranks that must agree called with different settings.
        public static let ranksDisagree = Code("ranksDisagree")
        /// More rounds in flight than the operator has slots, or more rows than there is room for.
        public static let capacityExceeded = Code("capacityExceeded")
        /// An earlier failure, or a call of `abort`, ended this world's rounds.
        public static let aborted = Code("aborted")
        /// An output was dropped without being combined or discarded.
        public static let abandoned = Code("abandoned")
        /// The world, operator or stream was closed before.
        public static let closed = Code("closed")
    }

    /// Why, one level below.
    public enum Cause: Hashable, Sendable {
        /// A system call: its name and errno.
        case errno(call: String, code: Int32)
        /// The device's runtime: its number and its own words.
        case runtime(code: Int32, message: String)
        /// Any other library, in its own words.
        case other(String)
    }

    /// A wait that failed: who waited for whom, in which phase and round.
    public struct Wait: Hashable, Sendable {
        /// The phase, in words ("dispatch receive").
        public var phase: String
        /// The rank that waited.
        public var rank: Int
        /// The rank that it waited for, or that caused the abort.
        public var peer: Int
        /// The word that it waited for.
        public var expected: UInt64
        /// The word that it found.
        public var found: UInt64
        /// The round.
        public var epoch: Int

        /// Creates the record of a failed wait.
        public init(
            phase: String, rank: Int, peer: Int, expected: UInt64, found: UInt64, epoch: Int
        ) {
            self.phase = phase
            self.rank = rank
            self.peer = peer
            self.expected = expected
            self.found = found
            self.epoch = epoch
        }
    }

    /// The kind of the error.
    public var code: Code
    /// What was found, what is legal, what to do.
    public var message: String
    /// Why, one level below.
    public var cause: Cause?
    /// For a failed wait, its record.
    public var wait: Wait?
    /// The ranks that the error is about, lowest first; empty when it is about none.
    public var ranks: [Int]
    /// Where the error was made: file and line.
    public var location: String

    /// Creates an error.
    public init(
        _ code: Code, _ message: String, cause: Cause? = nil, wait: Wait? = nil,
        ranks: [Int] = [], file: String = #fileID, line: Int = #line
    ) {
        self.code = code
        self.message = message
        self.cause = cause
        self.wait = wait
        self.ranks = ranks
        self.location = "\(file):\(line)"
    }

    /// One line: kind, message and cause.
    public var description: String {
        var text = "\(code): \(message)"
        switch cause {
        case .errno(let call, let code): text += " [\(call): errno \(code)]"
        case .runtime(let code, let message): text += " [\(message) (\(code))]"
        case .other(let words): text += " [\(words)]"
        case nil: break
        }
        return text
    }
}
