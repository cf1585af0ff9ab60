extension MoriEnvironment {
    /// Every variable that means something to this library, to a launcher or to the original.
    ///
    /// In the order in which tables show them.
    package static let knownVariables = settings + launchers + ignored

    private static let settings = [
        KnownVariable(Settings.device),
        KnownVariable(Settings.library),
        KnownVariable(Settings.launchMode),
        KnownVariable(Settings.tuning),
        KnownVariable(Settings.fabric),
        KnownVariable(Settings.roundTimeout),
        KnownVariable(Settings.heapByteLimit),
        KnownVariable(Settings.nodeID),
        KnownVariable(Settings.bootstrapTimeout),
        KnownVariable(Settings.secret, isSecret: true),
        KnownVariable(Settings.socketInterface),
        KnownVariable(Settings.glooInterface),
        KnownVariable(Settings.rdmaDevices),
        KnownVariable(Settings.ignoresTopology),
        KnownVariable(Settings.gidIndex),
        KnownVariable(Settings.serviceLevel),
        KnownVariable(Settings.trafficClass),
        KnownVariable(Settings.pathMTU),
        KnownVariable(Settings.connectionManager),
        KnownVariable(Settings.logLevel),
        KnownVariable(Settings.lifeline),
    ]

    private static let launchers = [
        KnownVariable(launcher: "RANK", "torchrun: this process's rank"),
        KnownVariable(launcher: "WORLD_SIZE", "torchrun: ranks of the world"),
        KnownVariable(launcher: "LOCAL_RANK", "torchrun: the rank among those of this host"),
        KnownVariable(launcher: "LOCAL_WORLD_SIZE", "torchrun: ranks of this host"),
        KnownVariable(launcher: "TORCHELASTIC_RUN_ID", "torchrun: the job's name"),
        KnownVariable(
            launcher: "MASTER_ADDR", "the name or address of rank 0's host",
            default: "loopback on one host, the first host under Slurm"),
        KnownVariable(
            launcher: "MASTER_PORT", "the port near which rank 0 listens, 1 to 65535",
            default: "29400, one made of the job's number under Slurm"),
        KnownVariable(launcher: "OMPI_COMM_WORLD_RANK", "Open MPI: this process's rank"),
        KnownVariable(launcher: "OMPI_COMM_WORLD_SIZE", "Open MPI: ranks of the world"),
        KnownVariable(
            launcher: "OMPI_COMM_WORLD_LOCAL_RANK", "Open MPI: the rank among those of this host"),
        KnownVariable(launcher: "OMPI_COMM_WORLD_LOCAL_SIZE", "Open MPI: ranks of this host"),
        KnownVariable(launcher: "PMIX_NAMESPACE", "Open MPI: the job's name"),
        KnownVariable(launcher: "SLURM_PROCID", "Slurm: this process's rank"),
        KnownVariable(launcher: "SLURM_STEP_NUM_TASKS", "Slurm: ranks of the step"),
        KnownVariable(launcher: "SLURM_NTASKS", "Slurm: ranks of the job"),
        KnownVariable(launcher: "SLURM_LOCALID", "Slurm: the rank among those of this host"),
        KnownVariable(launcher: "SLURM_NODEID", "Slurm: this host's number"),
        KnownVariable(launcher: "SLURM_STEP_TASKS_PER_NODE", "Slurm: ranks of each host"),
        KnownVariable(launcher: "SLURM_TASKS_PER_NODE", "Slurm: the same of the job"),
        KnownVariable(launcher: "SLURM_NTASKS_PER_NODE", "Slurm: ranks of each host, at most"),
        KnownVariable(launcher: "SLURM_STEP_NODELIST", "Slurm: the step's hosts"),
        KnownVariable(launcher: "SLURM_JOB_NODELIST", "Slurm: the job's hosts"),
        KnownVariable(launcher: "SLURM_JOB_ID", "Slurm: the job's number"),
        KnownVariable(launcher: "SLURM_STEP_ID", "Slurm: the step's number"),
        KnownVariable(launcher: "SLURM_STEPID", "Slurm: the step's number in older versions"),
    ]

    private static let segments = "every allocation is a segment of its own, made when it is needed"
    private static let verbs =
        "requests are posted by the host through libibverbs, not by GPUs through a vendor's queues"
    private static let copyEngines = "kernels move the bytes; no copy engine is used"
    private static let oneLogger =
        "there is one logger, a world's; MORI_GLOBAL_LOG_LEVEL sets its level"
    private static let backend = "logs go where the application's logging system sends them"
    private static let compiledAhead =
        "kernels are compiled ahead of time by `make kernels`; MORI_EP_LIBRARY names the result"

    private static let ignored = [
        KnownVariable(ignored: "MORI_SHMEM_MODE", because: segments),
        KnownVariable(ignored: "MORI_SHMEM_VMM_CHUNK_SIZE", because: segments),
        KnownVariable(
            ignored: "MORI_SHMEM_HEAP_TYPE",
            because: "symmetric memory is always uncached on GPUs: signal words depend on it"),
        KnownVariable(
            ignored: "MORI_IGNORE_CPU_AFFINITY",
            because: "threads are not pinned, so there is nothing to turn off"),
        KnownVariable(
            ignored: "MORI_NUM_QP_PER_PE",
            because: "the configuration says it, the same on all ranks: queuePairsPerPeer"),
        KnownVariable(
            ignored: "MORI_IB_ENABLE_RELAXED_ORDERING",
            because: "words must come behind their payload, which it does not promise"),
        KnownVariable(
            ignored: "MORI_ENABLE_DMABUF_REG",
            because: "GPU memory is registered by DMA-BUF first and plainly where that fails"),
        KnownVariable(
            ignored: "MORI_DISABLE_P2P",
            because:
                "the configuration says which ranks map each other: devicesPerNode 1 puts every"
                + " exchange on the network"),
        KnownVariable(
            ignored: "MORI_EP_OVER_RDMA",
            because: "host threads always post what goes over the network"),
        KnownVariable(ignored: "MORI_ENABLE_SDMA", because: copyEngines),
        KnownVariable(ignored: "MORI_SDMA_NUM_CHANNELS", because: copyEngines),
        KnownVariable(ignored: "MORI_GOR_PORT*", because: verbs),
        KnownVariable(ignored: "MORI_MLX5_ENABLE_UDP_SPORT", because: verbs),
        KnownVariable(ignored: "MORI_BNXT_ENABLE_UDP_SPORT", because: verbs),
        KnownVariable(ignored: "MORI_DISABLE_IONIC_CCQE", because: verbs),
        KnownVariable(ignored: "MORI_DEVICE_NIC", because: verbs),
        KnownVariable(
            ignored: "MORI_TUNING_SCOPE",
            because: "it belongs to the original's tuner; docs/tuning.md says how to write rules"),
        KnownVariable(
            ignored: "MORI_FP8_COMBINE_SCALE_DIM",
            because: "the configuration says how combine quantizes, the same on all ranks"),
        KnownVariable(
            ignored: "MORI_EP_COMM", because: "buffers have one back end, symmetric memory"),
        KnownVariable(
            ignored: "MORI_V2_KERNEL_BACKEND", because: "the kernels are HIP C++, on every device"),
        KnownVariable(ignored: "MORI_APP_LOG_LEVEL", because: oneLogger),
        KnownVariable(ignored: "MORI_SHMEM_LOG_LEVEL", because: oneLogger),
        KnownVariable(ignored: "MORI_OPS_LOG_LEVEL", because: oneLogger),
        KnownVariable(ignored: "MORI_CORE_LOG_LEVEL", because: oneLogger),
        KnownVariable(ignored: "MORI_IO_LOG_LEVEL", because: oneLogger),
        KnownVariable(ignored: "MORI_LOG_PATTERN", because: backend),
        KnownVariable(ignored: "MORI_LOG_FILE", because: backend),
        KnownVariable(ignored: "MORI_DISABLE_LOGGING", because: oneLogger),
        KnownVariable(ignored: "MORI_KERNEL_DIR", because: compiledAhead),
        KnownVariable(ignored: "MORI_JIT_*", because: compiledAhead),
        KnownVariable(ignored: "MORI_DISABLE_JIT", because: compiledAhead),
        KnownVariable(ignored: "MORI_PRECOMPILE", because: compiledAhead),
        KnownVariable(ignored: "MORI_SKIP_PRECOMPILE", because: compiledAhead),
        KnownVariable(ignored: "MORI_SOURCE_ROOT", because: compiledAhead),
        KnownVariable(ignored: "MORI_DEBUG_INFO", because: compiledAhead),
        KnownVariable(
            ignored: "MORI_GPU_ARCHS",
            because: "kernels are compiled ahead of time; MORI_EP_ARCHITECTURES of `make kernels`"
                + " names the architectures"),
        KnownVariable(
            ignored: "MORI_EP_ARCHITECTURES",
            because: "`make kernels` reads it: the GPU architectures to compile for"),
        KnownVariable(
            ignored: "MORI_EP_TRACES",
            because: "`make kernels` reads it: 0 leaves out the kernels that leave traces"),
        KnownVariable(
            ignored: "MORI_WAVE_SIZE", because: "each device's kernels know how wide its warps are"),
        KnownVariable(
            ignored: "MORI_ROCM_SMI_PATH", because: "the kernel's own files tell where devices are"),
        KnownVariable(
            ignored: "MORI_MULTITHREAD_SUPPORT", because: "every call may come from any thread"),
        KnownVariable(
            ignored: "MORI_WITH_MPI",
            because: "ranks started by mpirun are known by their variables; MPI is not linked"),
    ]
}
