// Python's modules, so that `mori.ops.EpDispatchCombineOp` gets its fix-it too: see Renamed.swift.

/// Python's module: `import MoriEP` has what it has, without a prefix.
public enum mori {
    /// Python's module of operators.
    public enum ops {
        /// Renamed to `EPDispatchCombineConfig`.
        @available(*, unavailable, renamed: "EPDispatchCombineConfig")
        public typealias EpDispatchCombineConfig = EPDispatchCombineConfig
        /// Renamed to `EPDispatchCombineOp`.
        @available(*, unavailable, renamed: "EPDispatchCombineOp")
        public typealias EpDispatchCombineOp = EPDispatchCombineOp
        /// Renamed to `KernelType`.
        @available(*, unavailable, renamed: "KernelType")
        public typealias EpDispatchCombineKernelType = KernelType
    }

    /// Python's module of symmetric memory.
    public enum shmem {
        /// Call try await SymmetricMemory.join(rank:worldSize:uniqueID:).
        @available(
            *, unavailable,
            message: "call try await SymmetricMemory.join(rank:worldSize:uniqueID:)"
        )
        public static var MORI_SHMEM_INIT_WITH_UNIQUEID: Int { onlyRenamed() }
        /// Call try await SymmetricMemory.join(.environment).
        @available(*, unavailable, message: "call try await SymmetricMemory.join(.environment)")
        public static func shmem_torch_process_group_init(_ group_name: String) { onlyRenamed() }
        /// Call try await SymmetricMemory.join(.environment).
        @available(*, unavailable, message: "call try await SymmetricMemory.join(.environment)")
        public static func shmem_mpi_init() { onlyRenamed() }
        /// Renamed to `UniqueID.init()`.
        @available(*, unavailable, renamed: "UniqueID.init()")
        public static func shmem_get_unique_id() -> UniqueID { onlyRenamed() }
        /// Call try await SymmetricMemory.join(rank:worldSize:uniqueID:).
        @available(
            *, unavailable,
            message: "call try await SymmetricMemory.join(rank:worldSize:uniqueID:)"
        )
        public static func shmem_init_attr(
            _ flags: Int, _ rank: Int, _ nranks: Int, _ unique_id: UniqueID
        ) { onlyRenamed() }
        /// Call try await close() on the world that SymmetricMemory.join gave.
        @available(
            *, unavailable,
            message: "call try await close() on the world that SymmetricMemory.join gave"
        )
        public static func shmem_finalize() { onlyRenamed() }
        /// The world has it: SymmetricMemory.rank.
        @available(*, unavailable, message: "the world has it: SymmetricMemory.rank")
        public static func shmem_mype() -> Int { onlyRenamed() }
        /// The world has it: SymmetricMemory.worldSize.
        @available(*, unavailable, message: "the world has it: SymmetricMemory.worldSize")
        public static func shmem_npes() -> Int { onlyRenamed() }
        /// Call try await barrier() on the world that SymmetricMemory.join gave.
        @available(
            *, unavailable,
            message: "call try await barrier() on the world that SymmetricMemory.join gave"
        )
        public static func shmem_barrier_all() { onlyRenamed() }
    }

    /// Python's module of bindings.
    public enum cpp {
        /// Call startTrace(on:) of the operator before the rounds that are to be seen.
        @available(
            *, unavailable,
            message: "call startTrace(on:) of the operator before the rounds that are to be seen"
        )
        public static func get_debug_time_buf(_ handle: EPDispatchCombineOp) -> DeviceTensor {
            onlyRenamed()
        }
    }

    /// Python's module of the profiler.
    public enum kernel_profiler {
        /// Call try await exportTrace(to:) on the world.
        @available(
            *, unavailable, message: "call try await exportTrace(to: path) on the world"
        )
        public static func export_to_perfetto(_ trace_buffer: DeviceTensor, _ path: String) {
            onlyRenamed()
        }
    }
}

/// Python's module: what the guide uses of it.
public enum torch {
    /// Renamed to `DeviceTensor`.
    @available(*, unavailable, renamed: "DeviceTensor")
    public typealias Tensor = DeviceTensor
    /// Renamed to `ElementType.bfloat16`.
    @available(*, unavailable, renamed: "ElementType.bfloat16")
    public static var bfloat16: ElementType { .bfloat16 }
    /// Renamed to `ElementType.float32`.
    @available(*, unavailable, renamed: "ElementType.float32")
    public static var float32: ElementType { .float32 }
    /// Renamed to `ElementType.int32`.
    @available(*, unavailable, renamed: "ElementType.int32")
    public static var int32: ElementType { .int32 }
    /// Renamed to `ElementType.uint8`.
    @available(*, unavailable, renamed: "ElementType.uint8")
    public static var uint8: ElementType { .uint8 }
    /// Renamed to `ElementType.float16`.
    @available(*, unavailable, renamed: "ElementType.float16")
    public static var float16: ElementType { .float16 }
    /// Renamed to `ElementType.float8E4M3`.
    @available(*, unavailable, renamed: "ElementType.float8E4M3")
    public static var float8_e4m3fn: ElementType { .float8E4M3 }
    /// Renamed to `ElementType.float8E4M3FNUZ`.
    @available(*, unavailable, renamed: "ElementType.float8E4M3FNUZ")
    public static var float8_e4m3fnuz: ElementType { .float8E4M3FNUZ }
    /// Renamed to `ElementType.float8E5M2`.
    @available(*, unavailable, renamed: "ElementType.float8E5M2")
    public static var float8_e5m2: ElementType { .float8E5M2 }
    /// Renamed to `ElementType.float4E2M1`.
    @available(*, unavailable, renamed: "ElementType.float4E2M1")
    public static var float4_e2m1fn_x2: ElementType { .float4E2M1 }

    /// Python's module of GPUs.
    public enum cuda {
        /// Await the stream: try await DeviceStream.completion().
        @available(*, unavailable, message: "await the stream: try await DeviceStream.completion()")
        public static func synchronize() { onlyRenamed() }
        /// The world has its device: SymmetricMemory.device.
        @available(*, unavailable, message: "the world has its device: SymmetricMemory.device")
        public static func set_device(_ device: Int) { onlyRenamed() }
    }
}
