import Foundation
import MoriEP
import Synchronization

/// How ranks learn what to do next, and tell what they did.
protocol StepExchange: Sendable {
    /// Whether this rank must do steps although there is nothing to do, because others wait for it with a
    /// deadline.
    var needsHeartbeat: Bool { get }

    /// Tells this rank's new tokens and waits for the next plan, which rank 0 makes.
    ///
    /// - Throws: what ended the ranks' steps.
    func next(_ events: [TokenEvent]) async throws -> StepPlan
}

/// Between processes: a message of each rank to all, over the world's own connections.
///
/// The others wait here while there is nothing to do; rank 0 comes twice a second at least, and the
/// world's deadline is far longer.
struct WorldExchange: StepExchange {
    let world: SymmetricMemory
    let board: RequestBoard

    var needsHeartbeat: Bool { world.rank == 0 }

    func next(_ events: [TokenEvent]) async throws -> StepPlan {
        // Rank 0's own tokens are nobody else's business.
        var message = StepMessage(events: world.rank == 0 ? [] : events)
        if world.rank == 0 {
            board.deliver(events)
            message.plan = await board.nextPlan()
        }
        let all = try await world.allGather(message.bytes)
        if world.rank == 0 {
            // Of a rank that was left behind there is nothing.
            for other in world.activeRanks where other != 0 {
                board.deliver(try StepMessage(all[other]).events)
            }
        }
        guard let plan = try message.plan ?? StepMessage(all[0]).plan else {
            throw StepMessage.Malformed()
        }
        return plan
    }
}

/// Between threads: tokens go straight to the board, plans into a mailbox of each rank.
struct ThreadExchange: StepExchange {
    let rank: Int
    let board: RequestBoard
    /// Of all ranks.
    let mailboxes: [Mailbox]

    /// Nobody waits at a mailbox with a deadline.
    var needsHeartbeat: Bool { false }

    func next(_ events: [TokenEvent]) async throws -> StepPlan {
        board.deliver(events)
        guard rank == 0 else { return try mailboxes[rank].take() }
        let plan = await board.nextPlan()
        for mailbox in mailboxes.dropFirst() { mailbox.put(plan) }
        return plan
    }

    /// Lets nobody wait for plans that will not come.
    func end(_ error: any Error) { for mailbox in mailboxes { mailbox.end(error) } }

    /// Plans for one rank, in their order.
    final class Mailbox: Sendable {
        private struct Content {
            var plans: [StepPlan] = []
            var error: (any Error)?
        }

        private let changed = NSCondition()
        private let content = Mutex(Content())

        func put(_ plan: StepPlan) { change { $0.plans.append(plan) } }

        func end(_ error: any Error) { change { $0.error = error } }

        private func change(_ body: (inout Content) -> Void) {
            changed.lock()
            content.withLock { body(&$0) }
            changed.signal()
            changed.unlock()
        }

        /// Blocks the rank's own thread until there is a plan.
        func take() throws -> StepPlan {
            changed.lock()
            defer { changed.unlock() }
            while true {
                let plan = try content.withLock { content throws -> StepPlan? in
                    if let error = content.error { throw error }
                    return content.plans.isEmpty ? nil : content.plans.removeFirst()
                }
                if let plan { return plan }
                changed.wait()
            }
        }
    }
}
