import ArgumentParser
import MoriDevice

/// The files that a command writes, checked before the work and not after it.
package struct WrittenFiles {
    private var known: [(name: String, place: FilePlace)]

    /// Knows what must not be written to.
    ///
    /// - Parameters:
    ///   - inputs: What the command reads.
    ///   - name: What these are, for the error: "the trace itself".
    package init(besides inputs: [String] = [], called name: String = "") {
        known = inputs.map { (name, FilePlace($0)) }
    }

    /// Refuses an option's file that could not be written, or is one that the command reads or writes
    /// already, by this or any other name; nil: the option is not given.
    package mutating func add(_ path: String?, option: String) throws {
        guard let path else { return }
        let place = FilePlace(path)
        if let problem = place.problem {
            throw ValidationError("\(option) \(path.isEmpty ? "" : path + " ")\(problem)")
        }
        if let other = known.first(where: { $0.place.isSame(as: place) }) {
            throw ValidationError(
                "\(option) is \(path), \(other.name); legal is another file")
        }
        known.append(("the file of \(option)", place))
    }
}
