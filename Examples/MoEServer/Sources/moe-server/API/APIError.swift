import Foundation
import Hummingbird

/// A refused request, as OpenAI's interface words it: a status, and an object that says why.
struct APIError: Error, HTTPResponseError {
    let status: HTTPResponse.Status
    let message: String
    /// The field that is wrong.
    var field: String?
    var headers: HTTPFields = [:]

    static func invalid(_ message: String, field: String? = nil) -> APIError {
        APIError(status: .badRequest, message: message, field: field)
    }

    /// What stands in the body.
    var body: Body {
        let kind =
            switch status.code {
            case 429: "rate_limit_exceeded"
            case 500...: "server_error"
            default: "invalid_request_error"
            }
        return Body(error: Body.Content(message: message, type: kind, param: field))
    }

    struct Body: Encodable {
        struct Content: Encodable {
            let message: String
            let type: String
            let param: String?
        }
        let error: Content
    }

    func response(from request: Request, context: some RequestContext) throws -> Response {
        var response = try JSONResponse(body).response(from: request, context: context)
        response.status = status
        response.headers.append(contentsOf: headers)
        return response
    }
}

/// A value as a JSON body.
struct JSONResponse<Value: Encodable & Sendable>: ResponseGenerator {
    let value: Value

    init(_ value: Value) { self.value = value }

    func response(from request: Request, context: some RequestContext) throws -> Response {
        Response(
            status: .ok, headers: [.contentType: "application/json"],
            body: ResponseBody(byteBuffer: ByteBuffer(bytes: try value.json)))
    }
}

extension Encodable {
    /// Sorted, so that the same value is the same text.
    var json: [UInt8] {
        get throws {
            let encoder = JSONEncoder()
            encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
            return Array(try encoder.encode(self))
        }
    }
}
