import Glibc
import MoriDevice
import Testing

@testable import MoriShmem

struct VerbsErrorsTests {
    @Test func tooLowALimitOnPinnedMemoryIsSaidWithWhatIsNeeded() {
        let error = VerbsErrors.refusedRegistration(
            "ibv_reg_mr", ENOMEM, byteCount: 1 << 30, on: "mlx5_0:1", isHostMemory: true,
            pinned: .init(limit: 8 << 20, used: 4096))
        #expect(error.code == .outOfMemory)
        #expect(error.cause == .errno(call: "ibv_reg_mr", code: ENOMEM))
        #expect(
            error.message
                == "mlx5_0:1 cannot register 1073741824 bytes of host memory: ibv_reg_mr: Cannot"
                + " allocate memory (errno 12). The limit on pinned memory (RLIMIT_MEMLOCK) is"
                + " 8388608 bytes; 4096 bytes are pinned already, and this needs 1073745920 in all."
                + " Raise it to 1073745920 bytes or more (ulimit -l unlimited;"
                + " LimitMEMLOCK=infinity under systemd; --ulimit memlock=-1 for a container), or"
                + " make the operator's memory smaller")
    }

    @Test func aHighLimitIsNotBlamed() {
        let error = VerbsErrors.refusedRegistration(
            "ibv_reg_mr", ENOMEM, byteCount: 4096, on: "mlx5_0:1", isHostMemory: true,
            pinned: .init(limit: nil, used: 0))
        #expect(error.code == .outOfMemory)
        #expect(error.message.contains("(RLIMIT_MEMLOCK) is unlimited"))
        #expect(!error.message.contains("ulimit -l"))
    }

    @Test(arguments: [(EINVAL, false, "peer-memory module"), (EPERM, true, "CAP_IPC_LOCK")])
    func aRefusalSaysWhatToDo(_ code: Int32, _ isHostMemory: Bool, _ advice: String) {
        let error = VerbsErrors.refusedRegistration(
            "ibv_reg_dmabuf_mr (errno 95), then ibv_reg_mr", code, byteCount: 4096, on: "mlx5_0:1",
            isHostMemory: isHostMemory, pinned: .init(limit: nil, used: 0))
        #expect(error.code == .networkFailure)
        #expect(error.message.contains("(errno \(code))"))
        #expect(error.message.contains("ibv_reg_dmabuf_mr (errno 95), then ibv_reg_mr"))
        #expect(error.message.contains(advice))
    }

    @Test func theSystemTellsWhatMayBePinned() throws {
        var limits = rlimit()
        #expect(
            unsafe getrlimit(__rlimit_resource_t(__RLIMIT_MEMLOCK.rawValue), &limits) == 0)
        let found = VerbsErrors.PinnedMemory.current()
        #expect(found.limit == (limits.rlim_cur == .max ? nil : Int(limits.rlim_cur)))
        #expect(found.used >= 0)
    }

    @Test func anErrorTravelsWithItsKindAndCause() {
        let error = MoriError(
            .outOfMemory, "no room", cause: .errno(call: "ibv_create_cq", code: ENOMEM))
        let arrived = VerbsProblem(error).error(of: 3, "an operator")
        #expect(arrived.code == .outOfMemory)
        #expect(arrived.ranks == [3])
        #expect(arrived.message == "an operator: rank 3: no room [ibv_create_cq: errno 12]")
    }

    @Test func everyQueuesRequestsFitTheCompletionQueue() {
        #expect(
            VerbsLimits.depth(maxRequests: 32768, maxCompletions: 4_194_303, queueCount: 120)
                == 1024)
        #expect(VerbsLimits.depth(maxRequests: 512, maxCompletions: 32767, queueCount: 2) == 512)
        #expect(
            VerbsLimits.depth(maxRequests: 16384, maxCompletions: 32767, queueCount: 120) == 273)
        #expect(VerbsLimits.depth(maxRequests: 16384, maxCompletions: 1024, queueCount: 120) == nil)
    }
}
