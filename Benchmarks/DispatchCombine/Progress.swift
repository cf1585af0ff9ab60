import MoriLauncher

/// What is being done, on a terminal: one line, which the next one replaces.
///
/// Only rank 0 shows it.
struct Progress: Sendable {
    private let isShown: Bool

    init(rank: Int) { isShown = rank == 0 && Console.errorIsTerminal }

    /// Shows what is being done now.
    func show(_ text: String) {
        if isShown { Console.error("\r\u{1B}[K\(text)") }
    }

    /// Leaves an empty line for what comes next.
    func clear() { show("") }
}
