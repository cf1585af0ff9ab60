/// What answers a completion: whole, or a piece of a stream.
struct CompletionResponse: Encodable {
    struct Choice: Encodable {
        var text: String
        var index = 0
        var finishReason: String?

        enum CodingKeys: String, CodingKey {
            case text, index
            case finishReason = "finish_reason"
        }

        // null says that more follows, which leaving it out would not.
        func encode(to encoder: any Encoder) throws {
            var container = encoder.container(keyedBy: CodingKeys.self)
            try container.encode(text, forKey: .text)
            try container.encode(index, forKey: .index)
            try container.encode(finishReason, forKey: .finishReason)
        }
    }

    struct Usage: Encodable {
        var promptTokens: Int
        var completionTokens: Int

        enum CodingKeys: String, CodingKey {
            case promptTokens = "prompt_tokens"
            case completionTokens = "completion_tokens"
            case totalTokens = "total_tokens"
        }

        func encode(to encoder: any Encoder) throws {
            var container = encoder.container(keyedBy: CodingKeys.self)
            try container.encode(promptTokens, forKey: .promptTokens)
            try container.encode(completionTokens, forKey: .completionTokens)
            try container.encode(promptTokens + completionTokens, forKey: .totalTokens)
        }
    }

    var id: String
    var object = "text_completion"
    var created: Int
    var model: String
    var choices: [Choice]
    /// Only in the whole answer.
    var usage: Usage?
}

/// `GET /v1/models`.
struct ModelList: Encodable {
    struct Model: Encodable {
        var id: String
        var object = "model"
        var created = 0
        var owner = "mori-ep"

        enum CodingKeys: String, CodingKey {
            case id, object, created
            case owner = "owned_by"
        }
    }

    var object = "list"
    var data: [Model]
}

/// `GET /health`.
struct HealthReport: Encodable {
    /// ok; degraded: goes on without some experts; failed: no steps are done.
    var status: String
    var ranks: Int
    var activeRanks: [Int]
    /// Experts of every layer that ranks took with them; tokens that want them get nothing there.
    var missingExperts: [Int]
    var failure: String?

    enum CodingKeys: String, CodingKey {
        case status, ranks, failure
        case activeRanks = "active_ranks"
        case missingExperts = "missing_experts"
    }
}
