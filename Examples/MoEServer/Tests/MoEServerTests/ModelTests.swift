import Foundation
import MoriEP
import Testing

import MoEModel

/// The Swift model beside PyTorch, which trained it.
@Suite struct ModelTests {
    /// What train/train.py wrote: one prompt, and what PyTorch makes of it.
    struct Case: Decodable {
        var prompt: String
        /// Behind the prompt, [vocabulary].
        var logits: [Float]
        /// The likeliest token at each position.
        var likeliest: [UInt8]
        var continuation: [UInt8]
    }

    static let cases = Models.required {
        try JSONDecoder().decode(
            [Case].self, from: Data(contentsOf: Paths.fixtures.appending(path: "pytorch.json")))
    }

    @Test(arguments: cases.indices)
    func logitsAreThoseOfPyTorch(_ index: Int) throws {
        let reference = Self.cases[index]
        let model = try Models.reference()
        let cache = KeyValueCache(model.configuration)
        let rows = ([0] + Array(reference.prompt.utf8)).map {
            Transformer.Row($0, in: cache, wantsLogits: true)
        }
        let logits = try model.append(rows, phase: .prefill)
        #expect(logits.map(Models.likeliest) == reference.likeliest)
        let difference = zip(logits[logits.count - 1], reference.logits).map { abs($0 - $1) }
        // fp32 sums in another order; logits are some ten at most.
        #expect(difference.max() ?? .infinity < 2e-3)
    }

    @Test(arguments: cases.indices)
    func theLikeliestTextIsThatOfPyTorch(_ index: Int) throws {
        let reference = Self.cases[index]
        let model = try Models.reference()
        let text = try Models.complete(
            Array(reference.prompt.utf8), tokens: reference.continuation.count, model)
        #expect(text == reference.continuation)
    }

    @Test func aTokenHasTheSameLogitsReadAtOnceAndOneByOne() throws {
        let model = try Models.reference()
        let tokens = [0] + Array("Permission is hereby granted, free of charge,".utf8)
        let (whole, single) = (
            KeyValueCache(model.configuration), KeyValueCache(model.configuration)
        )
        let atOnce = try model.append(
            tokens.map { Transformer.Row($0, in: whole, wantsLogits: true) }, phase: .prefill)
        let oneByOne = try tokens.flatMap {
            try model.append([Transformer.Row($0, in: single, wantsLogits: true)], phase: .decode)
        }
        // Bit by bit: that is what lets batches be put together at will.
        #expect(atOnce == oneByOne)
    }

    @Test func routerTakesTheLikeliestExpertsAndTheirSharesAreOne() {
        let scores: [Float] = [0, 2, 1, 2, 9, 9, 9, 9]
        let (experts, weights) = ExpertRouter.choose(scores, rows: 2, experts: 4, topK: 2)
        // Of equals the lowest.
        #expect(experts == [1, 3, 0, 1])
        #expect(weights == [0.5, 0.5, 0.5, 0.5])
    }

    @Test(arguments: 1...9)
    func rowsOfAProductDoNotDependOnTheirNumber(_ count: Int) {
        let (inner, columns) = (37, 83)
        var generator = SeededGenerator(for: "rows of a product, \(count)")
        func random(_ count: Int) -> [Float] {
            (0..<count).map { _ in Float.random(in: -1...1, using: &generator) }
        }
        let matrix = Matrix(transposing: random(inner * columns), inner: inner, columns: columns)
        let x = random(count * inner)
        var together = [Float](repeating: .nan, count: count * columns)
        Arithmetic.multiply(x, matrix, rows: count, into: &together)
        for row in 0..<count {
            var alone = [Float](repeating: .nan, count: columns)
            Arithmetic.multiply(
                Array(x[row * inner..<(row + 1) * inner]), matrix, rows: 1, into: &alone)
            #expect(alone == Array(together[row * columns..<(row + 1) * columns]))
            for column in 0..<columns {
                let exact = (0..<inner).reduce(0.0) {
                    $0 + Double(x[row * inner + $1])
                        * Double(matrix.elements[$1 * columns + column])
                }
                #expect(abs(Double(alone[column]) - exact) < 1e-5)
            }
        }
    }
}
