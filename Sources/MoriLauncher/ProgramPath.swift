import Glibc
import MoriDevice

/// Finds programs as a shell does.
enum ProgramPath {
    /// The file that a name stands for.
    ///
    /// - Throws: `invalidArgument` with what was tried.
    static func find(_ program: String) throws(MoriError) -> String {
        if program.contains("/") {
            guard isProgram(program) else {
                throw MoriError(
                    .invalidArgument, "there is no program \(program), or it may not be run")
            }
            return program
        }
        let path = ProcessVariables.all["PATH"] ?? "/usr/local/bin:/usr/bin:/bin"
        let folders = path.split(separator: ":")
        for folder in folders where isProgram("\(folder)/\(program)") {
            return "\(folder)/\(program)"
        }
        let here = isProgram("./\(program)") ? "; the one in this folder is ./\(program)" : ""
        throw MoriError(
            .invalidArgument, "there is no program \"\(program)\" in PATH (\(path))\(here)")
    }

    private static func isProgram(_ path: String) -> Bool {
        var status = stat()
        return unsafe stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFREG
            && access(path, X_OK) == 0
    }
}
