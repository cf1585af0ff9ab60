import Foundation
import MoEServing

/// One request on its way through the ranks, as text.
struct CompletionStream: Sendable {
    let id: UInt64
    private let request: CompletionRequest
    private let updates: AsyncStream<RequestBoard.Update>
    private let board: RequestBoard

    /// Takes a place in the queue.
    init(_ request: CompletionRequest, on board: RequestBoard) throws(APIError) {
        self.request = request
        self.board = board
        do {
            (id, updates) = try board.submit(request.parameters)
        } catch {
            switch error {
            case .full:
                throw APIError(
                    status: .tooManyRequests, message: "\(error)", headers: [.retryAfter: "1"])
            case .doesNotFit:
                throw .invalid("\(error)")
            case .unavailable:
                throw APIError(status: .serviceUnavailable, message: "\(error)")
            }
        }
    }

    /// Hands out text as it comes.
    ///
    /// When this ends early, because `body` throws or the task is cancelled, the request leaves the
    /// batch.
    ///
    /// - Returns: Why the text ended, and how many tokens it took.
    func forEach(
        _ body: (String) async throws -> Void
    ) async throws -> (finish: String, tokens: Int) {
        defer { board.cancel(id) }
        var text = CompletionText(stops: request.stops)
        var tokens = 0
        for await update in updates {
            guard case .token(let event) = update else {
                guard case .failed(let reason) = update else { continue }
                throw APIError(status: .serviceUnavailable, message: reason)
            }
            tokens += 1
            if event.finish == .stop {
                let rest = text.rest()
                if !rest.isEmpty { try await body(rest) }
                return ("stop", tokens)
            }
            let (certain, isStopped) = text.add(event.token)
            if !certain.isEmpty { try await body(certain) }
            if isStopped { return ("stop", tokens) }
            if event.finish == .length {
                let rest = text.rest()
                if !rest.isEmpty { try await body(rest) }
                return ("length", tokens)
            }
        }
        throw CancellationError()
    }
}
