import Hummingbird
import MoEModel
import MoEServing

/// All that the server answers.
enum Routes {
    static func make(
        _ engine: Engine, model: String, metrics: ServerMetrics, clients: Clients
    ) -> Router<ConnectionContext> {
        let router = Router(context: ConnectionContext.self)
        router.add(middleware: ErrorWords(metrics: metrics))
        router.get("/") { _, _ in
            Response(
                status: .ok, headers: [.contentType: "text/html; charset=utf-8"],
                body: ResponseBody(byteBuffer: ByteBuffer(bytes: PackageResources.index_html)))
        }
        router.get("/v1/models") { _, _ in JSONResponse(ModelList(data: [.init(id: model)])) }
        router.get("/health") { request, context in
            let report = health(engine)
            var response = try JSONResponse(report).response(from: request, context: context)
            if report.failure != nil { response.status = .serviceUnavailable }
            return response
        }
        router.get("/metrics") { _, _ in
            Response(
                status: .ok, headers: [.contentType: "text/plain; version=0.0.4; charset=utf-8"],
                body: ResponseBody(
                    byteBuffer: ByteBuffer(string: metrics.text(engine.board.status))))
        }
        let completions = CompletionRoute(
            engine: engine, model: model, metrics: metrics, clients: clients)
        router.post("/v1/completions") { request, context in
            try await completions.respond(to: request, from: context.channel)
        }
        return router
    }

    private static func health(_ engine: Engine) -> HealthReport {
        let status = engine.board.status
        let missing = (0..<engine.worldSize).filter { !status.activeRanks.contains($0) }
            .flatMap {
                RankMixture.experts(
                    of: $0, worldSize: engine.worldSize, engine.configuration)
            }
        let word =
            status.failure != nil ? "failed" : missing.isEmpty ? "ok" : "degraded"
        return HealthReport(
            status: word, ranks: engine.worldSize, activeRanks: status.activeRanks,
            missingExperts: missing, failure: status.failure)
    }
}

/// Words every error as OpenAI's interface does, and counts what is answered.
private struct ErrorWords: RouterMiddleware {
    let metrics: ServerMetrics

    func handle(
        _ request: Request, context: ConnectionContext,
        next: (Request, ConnectionContext) async throws -> Response
    ) async throws -> Response {
        do {
            let response = try await next(request, context)
            metrics.respond(response.status.code)
            return response
        } catch is CancellationError {
            throw CancellationError()
        } catch {
            let error = worded(error, request)
            metrics.respond(error.status.code)
            return try error.response(from: request, context: context)
        }
    }

    private func worded(_ error: any Error, _ request: Request) -> APIError {
        switch error {
        case let error as APIError: error
        case let error as HTTPError where error.status == .notFound:
            APIError(
                status: .notFound,
                message: "\(request.method) \(request.uri.path) is nothing here; legal are GET /,"
                    + " GET /v1/models, POST /v1/completions, GET /health and GET /metrics")
        case let error as any HTTPResponseError:
            APIError(status: error.status, message: error.status.reasonPhrase)
        default:
            APIError(status: .internalServerError, message: "\(error)")
        }
    }
}
