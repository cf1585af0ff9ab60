// The Python names of symmetric memory, unavailable, with the Swift ones: see Renamed.swift.

extension SymmetricMemory {
    /// Renamed to `rank`.
    @available(*, unavailable, renamed: "rank")
    public var shmem_mype: Int { onlyRenamed() }
    /// Renamed to `worldSize`.
    @available(*, unavailable, renamed: "worldSize")
    public var shmem_npes: Int { onlyRenamed() }
    /// Renamed to `close()`.
    @available(*, unavailable, renamed: "close()")
    public func shmem_finalize() { onlyRenamed() }
    /// Renamed to `barrier()`.
    @available(*, unavailable, renamed: "barrier()")
    public func shmem_barrier_all() { onlyRenamed() }
}

// As functions of a module: `from mori.shmem import ...`.

/// Call try await SymmetricMemory.join(rank:worldSize:uniqueID:).
@available(*, unavailable, message: "call try await SymmetricMemory.join(rank:worldSize:uniqueID:)")
public var MORI_SHMEM_INIT_WITH_UNIQUEID: Int { onlyRenamed() }

/// Call try await SymmetricMemory.join(.environment).
@available(*, unavailable, message: "call try await SymmetricMemory.join(.environment)")
public func shmem_torch_process_group_init(_ group_name: String) { onlyRenamed() }

/// Call try await SymmetricMemory.join(.environment).
@available(*, unavailable, message: "call try await SymmetricMemory.join(.environment)")
public func shmem_mpi_init() { onlyRenamed() }

/// Renamed to `UniqueID.init()`.
@available(*, unavailable, renamed: "UniqueID.init()")
public func shmem_get_unique_id() -> UniqueID { onlyRenamed() }

/// Call try await SymmetricMemory.join(rank:worldSize:uniqueID:).
@available(*, unavailable, message: "call try await SymmetricMemory.join(rank:worldSize:uniqueID:)")
public func shmem_init_attr(
    _ flags: Int, _ rank: Int, _ nranks: Int, _ unique_id: UniqueID
) { onlyRenamed() }

/// Call try await close() on the world that SymmetricMemory.join gave.
@available(
    *, unavailable,
    message: "call try await close() on the world that SymmetricMemory.join gave"
)
public func shmem_finalize() { onlyRenamed() }

/// The world has it: SymmetricMemory.rank.
@available(*, unavailable, message: "the world has it: SymmetricMemory.rank")
public func shmem_mype() -> Int { onlyRenamed() }

/// The world has it: SymmetricMemory.worldSize.
@available(*, unavailable, message: "the world has it: SymmetricMemory.worldSize")
public func shmem_npes() -> Int { onlyRenamed() }

/// Call try await barrier() on the world that SymmetricMemory.join gave.
@available(
    *, unavailable,
    message: "call try await barrier() on the world that SymmetricMemory.join gave"
)
public func shmem_barrier_all() { onlyRenamed() }

/// Operators order their rounds themselves; the host has SymmetricMemory.barrier().
@available(
    *, unavailable,
    message: "operators order their rounds themselves; the host has SymmetricMemory.barrier()"
)
public func shmem_barrier_on_stream(_ stream: DeviceStream) { onlyRenamed() }

/// Set EPDispatchCombineConfig.queuePairsPerPeer.
@available(*, unavailable, message: "set EPDispatchCombineConfig.queuePairsPerPeer")
public func shmem_num_qp_per_pe() -> Int { onlyRenamed() }

/// Not needed: kernel libraries are loaded with their device.
@available(*, unavailable, message: "not needed: kernel libraries are loaded with their device")
public func shmem_module_init(_ module: UInt) { onlyRenamed() }

/// Operators allocate their own symmetric memory: EPDispatchCombineOp.memoryPlan.
@available(
    *, unavailable,
    message: "operators allocate their own symmetric memory: EPDispatchCombineOp.memoryPlan"
)
public func shmem_malloc(_ size: Int) -> UInt { onlyRenamed() }

/// Operators allocate their own symmetric memory: EPDispatchCombineOp.memoryPlan.
@available(
    *, unavailable,
    message: "operators allocate their own symmetric memory: EPDispatchCombineOp.memoryPlan"
)
public func shmem_malloc_align(_ alignment: Int, _ size: Int) -> UInt { onlyRenamed() }

/// Operators allocate their own symmetric memory: EPDispatchCombineOp.memoryPlan.
@available(
    *, unavailable,
    message: "operators allocate their own symmetric memory: EPDispatchCombineOp.memoryPlan"
)
public func shmem_ext_malloc_with_flags(_ size: Int, _ flags: Int) -> UInt { onlyRenamed() }

/// Operators free their own symmetric memory: EPDispatchCombineOp.close().
@available(
    *, unavailable,
    message: "operators free their own symmetric memory: EPDispatchCombineOp.close()"
)
public func shmem_free(_ address: UInt) { onlyRenamed() }

/// Operators reach peers themselves; see registeredCombineInput(of:hiddenDim:).
@available(
    *, unavailable,
    message: "operators reach peers themselves; see registeredCombineInput(of:hiddenDim:)"
)
public func shmem_buffer_register(_ address: UInt, _ size: Int) { onlyRenamed() }

/// Operators reach peers themselves; see registeredCombineInput(of:hiddenDim:).
@available(
    *, unavailable,
    message: "operators reach peers themselves; see registeredCombineInput(of:hiddenDim:)"
)
public func shmem_buffer_deregister(_ address: UInt, _ size: Int) { onlyRenamed() }

/// Operators reach peers themselves; see registeredCombineInput(of:hiddenDim:).
@available(
    *, unavailable,
    message: "operators reach peers themselves; see registeredCombineInput(of:hiddenDim:)"
)
public func shmem_ptr_p2p(_ address: UInt, _ my_pe: Int, _ dest_pe: Int) -> UInt { onlyRenamed() }
