// Swift as it is typed from the guide. Not part of any target: RenamedTests compiles it and expects,
// on each line with an arrow, an error that tells what stands behind the arrow, and no other error.

import MoriEP

func configuration(_ old: EPDispatchCombineConfig) {
    _ = EpDispatchCombineConfig.self  // -> EPDispatchCombineConfig
    _ = EpDispatchCombineOp.self  // -> EPDispatchCombineOp
    _ = EpDispatchCombineKernelType.self  // -> KernelType
    _ = mori.ops.EpDispatchCombineConfig.self  // -> EPDispatchCombineConfig
    _ = mori.ops.EpDispatchCombineOp.self  // -> EPDispatchCombineOp
    _ = mori.ops.EpDispatchCombineKernelType.self  // -> KernelType
    _ = KernelType.IntraNode  // -> 'intraNode'
    _ = KernelType.InterNode  // -> 'interNode'
    _ = KernelType.InterNodeV1  // -> 'interNodeV1'
    _ = KernelType.InterNodeV1LL  // -> 'interNodeV1LL'
    _ = KernelType.AsyncLL  // -> 'asyncLL'
    _ = EPDispatchCombineConfig(  // -> init(elementType:hiddenDim:maxInputTokensPerRank:
        data_type: .bfloat16, rank: 0, world_size: 8, hidden_dim: 7168, scale_dim: 0,
        scale_type_size: 1, max_token_type_size: 4, max_num_inp_token_per_rank: 4096,
        num_experts_per_rank: 32, num_experts_per_token: 8, warp_num_per_block: 8, block_num: 96,
        use_external_inp_buf: false, kernel_type: .interNodeV1, gpu_per_node: 8,
        rdma_block_num: 64, num_qp_per_pe: 1, quant_type: "none", max_total_recv_tokens: 0)
    _ = EPDispatchCombineConfig(  // -> init(elementType:hiddenDim:maxInputTokensPerRank:
        data_type: .bfloat16, rank: 0, world_size: 8, hidden_dim: 7168,
        max_num_inp_token_per_rank: 4096, num_experts_per_rank: 32, num_experts_per_token: 8)
    var config = old
    config.data_type = .bfloat16  // -> elementType
    _ = config.rank  // -> SymmetricMemory.rank
    _ = config.world_size  // -> SymmetricMemory.worldSize
    config.hidden_dim = 7168  // -> hiddenDim
    config.scale_dim = 0  // -> scaleDim
    config.scale_type_size = 1  // -> scaleByteSize
    config.max_token_type_size = 4  // -> maxTokenElementByteSize
    config.max_num_inp_token_per_rank = 4096  // -> maxInputTokensPerRank
    config.max_total_recv_tokens = 0  // -> maxTotalReceivedTokens
    config.num_experts_per_rank = 32  // -> expertsPerRank
    config.num_experts_per_token = 8  // -> expertsPerToken
    config.warp_num_per_block = 8  // -> launch.warpsPerBlock
    config.block_num = 96  // -> launch.blocks
    config.rdma_block_num = 64  // -> launch.rdmaBlocks
    config.use_external_inp_buf = false  // -> combineInput to .external (True)
    config.kernel_type = .interNodeV1  // -> kernelType
    config.gpu_per_node = 8  // -> devicesPerNode
    config.num_qp_per_pe = 1  // -> queuePairsPerPeer
    config.quant_type = "none"  // -> quantization
    _ = config.max_num_tokens_to_recv()  // -> maxReceivedTokens(worldSize:)
    var launch = LaunchConfiguration(  // -> init(blocks:warpsPerBlock:)
        block_num: 80, warp_per_block: 16)
    launch = LaunchConfiguration(  // -> init(blocks:rdmaBlocks:warpsPerBlock:)
        block_num: 96, rdma_block_num: 64, warp_per_block: 8)
    launch.block_num = 96  // -> blocks
    launch.rdma_block_num = 64  // -> rdmaBlocks
    launch.warp_per_block = 8  // -> warpsPerBlock
    launch.warp_num_per_block = 8  // -> warpsPerBlock
}

func rounds(
    _ op: EPDispatchCombineOp, _ input: DeviceTensor, _ weights: DeviceTensor,
    _ scales: DeviceTensor, _ indices: DeviceTensor
) {
    let (output, _, _, _, _) =
        op.dispatch(input, weights, scales, indices)  // -> dispatch(_:weights:scales:
    _ = op.dispatch(  // -> dispatch(_:weights:scales:indices:launch:on:)
        input, weights, scales, indices, block_num: 80, rdma_block_num: -1, warp_per_block: 16)
    _ = op.dispatch(  // -> dispatch(_:weights:scales:indices:launch:on:)
        input: input, weights: weights, scales: scales, indices: indices, block_num: 80)
    _ = op.dispatch(  // -> dispatch(_:weights:scales:indices:launch:on:)
        input, weights: weights, scales: scales, indices: indices, warp_per_block: 16)
    let (_, _) = op.combine(output, weights, indices)  // -> combine(_:of:weights:input:launch:on:)
    _ = op.combine(  // -> combine(_:of:weights:input:launch:on:)
        output, weights, indices, block_num: 80, rdma_block_num: -1, warp_per_block: 8,
        use_external_inp_buf: 0, call_reset: true)
    _ = op.combine(  // -> combine(_:of:weights:input:launch:on:)
        input: output, weights: weights, indices: indices, call_reset: true)
    _ = op.combine(  // -> combine(_:of:weights:input:launch:on:)
        output, weights: weights, indices: indices, use_external_inp_buf: 1)

    _ = op.dispatch_send(  // -> dispatchSend(_:weights:scales:indices:launch:on:)
        input, weights, scales, indices)
    _ = op.dispatch_send(  // -> dispatchSend(_:weights:scales:indices:launch:on:)
        input: input, weights: weights, scales: scales, indices: indices)
    _ = op.dispatch_send(  // -> dispatchSend(_:weights:scales:indices:launch:on:)
        input, weights: weights, scales: scales, indices: indices, block_num: 80)
    op.dispatch_recv()  // -> dispatchReceive(_:launch:on:)
    op.dispatch_recv(block_num: 80, warp_per_block: 16)  // -> dispatchReceive(_:launch:on:)
    _ = op.combine_send(output, weights, indices)  // -> combineSend(_:of:weights:launch:on:)
    _ = op.combine_send(  // -> combineSend(_:of:weights:launch:on:)
        input: output, weights: weights, indices: indices)
    _ = op.combine_send(  // -> combineSend(_:of:weights:launch:on:)
        output, weights: weights, indices: indices)
    op.combine_recv()  // -> combineReceive(_:launch:on:)

    _ = op.get_dispatch_src_token_pos()  // -> sourceTokenPositions(of:on:)
    _ = op.get_registered_combine_input_buffer(.bfloat16)  // -> registeredCombineInput(of:
    _ = op.max_num_tokens_to_recv()  // -> maxReceivedTokens
    _ = op.get_launch_config(is_dispatch: true)  // -> launchParameters(forCombine:override:)
    // reset() is there, and has no effect.
    op.reset()
}

func outputs(_ received: borrowing DispatchOutput, _ combined: CombineOutput) {
    _ = received.dispatch_output  // -> tokens
    _ = received.dispatch_weights  // -> weights
    _ = received.dispatch_scales  // -> scales
    _ = received.dispatch_indices  // -> indices
    _ = received.recv_num_token  // -> receivedTokenCount
    _ = received.total_recv  // -> receivedTokenCount
    _ = combined.combine_output  // -> tokens
    _ = combined.combine_weights  // -> weights
}

func standardMoE(
    _ op: EPDispatchCombineOp, _ x: DeviceTensor, _ weights: DeviceTensor, _ scales: DeviceTensor,
    _ indices: DeviceTensor
) {
    _ = op.dispatch_standard_moe(  // -> dispatchStandardMoE(_:weights:scales:indices:
        x, weights, scales, indices)
    _ = op.combine_standard_moe(x, weights, indices, call_reset: false)  // -> combineStandardMoE(
    _ = op.convert_dispatch_output(x, indices)  // -> convertToStandardMoE(
    _ = op.convert_combine_input(x, indices, scales)  // -> convertFromStandardMoE(
    _ = op.local_expert_count  // -> localExpertCount(
}

func symmetricMemory(_ world: SymmetricMemory, _ stream: DeviceStream, _ id: UniqueID) {
    _ = world.shmem_mype  // -> rank
    _ = world.shmem_npes  // -> worldSize
    world.shmem_finalize()  // -> close()
    world.shmem_barrier_all()  // -> barrier()
    mori.shmem.shmem_torch_process_group_init("default")  // -> SymmetricMemory.join(.environment)
    mori.shmem.shmem_mpi_init()  // -> SymmetricMemory.join(.environment)
    _ = mori.shmem.shmem_get_unique_id()  // -> UniqueID.init()
    let unique = mori.shmem.MORI_SHMEM_INIT_WITH_UNIQUEID  // -> SymmetricMemory.join(rank:
    mori.shmem.shmem_init_attr(unique, 0, 8, id)  // -> SymmetricMemory.join(rank:
    mori.shmem.shmem_finalize()  // -> close()
    _ = mori.shmem.shmem_mype()  // -> SymmetricMemory.rank
    _ = mori.shmem.shmem_npes()  // -> SymmetricMemory.worldSize
    mori.shmem.shmem_barrier_all()  // -> barrier()

    shmem_torch_process_group_init("default")  // -> SymmetricMemory.join(.environment)
    shmem_mpi_init()  // -> SymmetricMemory.join(.environment)
    _ = shmem_get_unique_id()  // -> UniqueID.init()
    let same = MORI_SHMEM_INIT_WITH_UNIQUEID  // -> SymmetricMemory.join(rank:worldSize:uniqueID:)
    shmem_init_attr(same, 0, 8, id)  // -> SymmetricMemory.join(rank:worldSize:uniqueID:)
    shmem_finalize()  // -> close()
    _ = shmem_mype()  // -> SymmetricMemory.rank
    _ = shmem_npes()  // -> SymmetricMemory.worldSize
    shmem_barrier_all()  // -> barrier()
    shmem_barrier_on_stream(stream)  // -> SymmetricMemory.barrier()
    _ = shmem_num_qp_per_pe()  // -> EPDispatchCombineConfig.queuePairsPerPeer
    shmem_module_init(0)  // -> not needed
    _ = shmem_malloc(256)  // -> EPDispatchCombineOp.memoryPlan
    _ = shmem_malloc_align(256, 256)  // -> EPDispatchCombineOp.memoryPlan
    _ = shmem_ext_malloc_with_flags(256, 0)  // -> EPDispatchCombineOp.memoryPlan
    shmem_free(0)  // -> EPDispatchCombineOp.close()
    shmem_buffer_register(0, 256)  // -> registeredCombineInput(of:hiddenDim:)
    shmem_buffer_deregister(0, 256)  // -> registeredCombineInput(of:hiddenDim:)
    _ = shmem_ptr_p2p(0, 0, 1)  // -> registeredCombineInput(of:hiddenDim:)
}

func otherModules(_ op: EPDispatchCombineOp) {
    let tensor: torch.Tensor? = nil  // -> DeviceTensor
    _ = torch.bfloat16  // -> ElementType.bfloat16
    _ = torch.float32  // -> ElementType.float32
    _ = torch.int32  // -> ElementType.int32
    _ = torch.uint8  // -> ElementType.uint8
    _ = torch.float16  // -> ElementType.float16
    _ = torch.float8_e4m3fn  // -> ElementType.float8E4M3
    _ = torch.float8_e4m3fnuz  // -> ElementType.float8E4M3FNUZ
    _ = torch.float8_e5m2  // -> ElementType.float8E5M2
    _ = torch.float4_e2m1fn_x2  // -> ElementType.float4E2M1
    torch.cuda.synchronize()  // -> DeviceStream.completion()
    torch.cuda.set_device(0)  // -> SymmetricMemory.device
    let trace = mori.cpp.get_debug_time_buf(op)  // -> startTrace(on:)
    mori.kernel_profiler.export_to_perfetto(trace, "ep_trace.json")  // -> exportTrace(to: path)
    _ = tensor
}
