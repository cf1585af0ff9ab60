import Foundation
import Hummingbird
import MoEServing
import NIOCore

/// `POST /v1/completions`: whole, or as server-sent events.
struct CompletionRoute: Sendable {
    let engine: Engine
    let model: String
    let metrics: ServerMetrics
    let clients: Clients

    /// Bytes of a request, at most; a prompt that fits the context is far shorter.
    static let longestBody = 64 << 10

    func respond(to request: Request, from channel: any Channel) async throws -> Response {
        let begin = ContinuousClock.now
        let body = try await collect(request)
        let asked = try CompletionRequest(body, model: model, engine.configuration)
        let stream = try CompletionStream(asked, on: engine.board)
        clients.whenGone(channel) { [board = engine.board, id = stream.id] in board.cancel(id) }
        let created = Int(Date().timeIntervalSince1970)
        if asked.streams { return events(stream, to: channel, created, begin) }
        defer { clients.stopWaiting(for: channel) }
        return try await whole(stream, asked, created, begin)
    }

    /// The body, unless it is too long or too slow.
    private func collect(_ request: Request) async throws -> [UInt8] {
        let tooLong = APIError(
            status: .contentTooLarge,
            message: "the body is longer than \(Self.longestBody) bytes, the most that is read")
        if let length = request.headers[.contentLength].flatMap({ Int($0) }),
            length > Self.longestBody
        {
            throw tooLong
        }
        var body: [UInt8] = []
        do {
            for try await part in request.body {
                guard body.count + part.readableBytes <= Self.longestBody else { throw tooLong }
                body += part.readableBytesView
            }
        } catch let error as APIError {
            throw error
        } catch let late as ClientDeadlines.RequestIsLate {
            throw APIError(
                status: .requestTimeout,
                message:
                    "the body did not end within the \(late.limit.nanoseconds / 1_000_000_000) s"
                    + " that a request has; send it at once",
                headers: [.connection: "close"])
        } catch {
            throw APIError.invalid("the body cannot be read: \(error)")
        }
        return body
    }

    private func piece(
        _ stream: CompletionStream, _ created: Int, _ text: String, finish: String? = nil
    ) -> CompletionResponse {
        CompletionResponse(
            id: "cmpl-\(stream.id)", created: created, model: model,
            choices: [CompletionResponse.Choice(text: text, finishReason: finish)])
    }

    private func whole(
        _ stream: CompletionStream, _ asked: CompletionRequest, _ created: Int,
        _ begin: ContinuousClock.Instant
    ) async throws -> Response {
        var text = ""
        let (finish, tokens) = try await stream.forEach { part in
            if text.isEmpty { metrics.beginText(after: .now - begin) }
            text += part
        }
        metrics.endText(after: .now - begin)
        var answer = piece(stream, created, text, finish: finish)
        answer.usage = CompletionResponse.Usage(
            promptTokens: asked.parameters.prompt.count, completionTokens: tokens)
        return Response(
            status: .ok, headers: [.contentType: "application/json"],
            body: ResponseBody(byteBuffer: ByteBuffer(bytes: try answer.json)))
    }

    private func events(
        _ stream: CompletionStream, to channel: any Channel, _ created: Int,
        _ begin: ContinuousClock.Instant
    ) -> Response {
        let body = ResponseBody { writer in
            defer { clients.stopWaiting(for: channel) }
            func send(_ bytes: [UInt8]) async throws {
                try await writer.write(
                    ByteBuffer(bytes: Array("data: ".utf8) + bytes + Array("\n\n".utf8)))
            }
            do {
                var hasBegun = false
                let (finish, _) = try await stream.forEach { text in
                    if !hasBegun { metrics.beginText(after: .now - begin) }
                    hasBegun = true
                    try await send(piece(stream, created, text).json)
                }
                try await send(piece(stream, created, "", finish: finish).json)
                metrics.endText(after: .now - begin)
            } catch let error as APIError {
                // The status is out already; the reason still reaches the client.
                try await send(error.body.json)
            }
            try await send(Array("[DONE]".utf8))
            try await writer.finish(nil)
        }
        return Response(
            status: .ok,
            headers: [.contentType: "text/event-stream", .cacheControl: "no-cache"], body: body)
    }
}
