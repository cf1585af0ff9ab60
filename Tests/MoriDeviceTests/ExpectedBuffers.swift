import CHIP

/// The buffers that a shape needs, in the order in which they lie, each with the bytes it must have:
/// computed from the header's comments, sharing nothing with Kernels/Layout.
struct ExpectedBuffers {
    /// Name, offset, bytes.
    typealias Buffer = (String, UInt64, UInt64)

    private let isV1: Bool
    private let isOrdered: Bool
    private let hasMap: Bool
    private let experts: UInt64
    private let hasNetwork: Bool
    private let ranks, nodeRanks, nodes, tokens, received, topK, queues, sections: UInt64
    private let dispatchRow, combineRow, scales: UInt64

    init(_ shape: moriep_shape) {
        let kernelType = moriep_kernel_type(UInt32(shape.kernel_type))
        isV1 = kernelType == MORIEP_INTERNODE_V1 || kernelType == MORIEP_INTERNODE_V1LL
        isOrdered = shape.is_ordered != 0
        hasMap = shape.expert_map != 0
        experts = UInt64(shape.expert_count)
        hasNetwork = kernelType != MORIEP_INTRANODE
        ranks = UInt64(shape.world_size)
        nodeRanks = UInt64(shape.node_ranks)
        nodes = (ranks + nodeRanks - 1) / nodeRanks
        tokens = UInt64(shape.max_tokens)
        received = UInt64(shape.max_received)
        topK = UInt64(shape.top_k)
        queues = UInt64(shape.queue_pairs)
        sections = UInt64(shape.landing_sections)
        dispatchRow = UInt64(shape.dispatch_row_bytes)
        combineRow = UInt64(shape.combine_row_bytes)
        scales = UInt64(shape.scale_bytes)
    }

    private func rounded(_ bytes: UInt64, to multiple: UInt64) -> UInt64 {
        bytes % multiple == 0 ? bytes : bytes + multiple - bytes % multiple
    }

    private var chunks: UInt64 { rounded(tokens, to: 64) / 64 }
    private var sectionRows: UInt64 { isV1 ? 64 * chunks : tokens }
    /// Row, scales, weights, expert ids, source.
    private var dispatchPacket: UInt64 {
        let begin = scales > 0 ? rounded(dispatchRow, to: 4) : dispatchRow
        return rounded(rounded(begin + scales, to: 4) + 8 * topK + 4, to: 16)
    }
    /// Row, weights.
    private var combinePacket: UInt64 { rounded(rounded(combineRow, to: 4) + 4 * topK, to: 16) }
    /// Ranks that are not on the node at hand, where that node is the smallest.
    private var remoteRanks: UInt64 {
        let last = ranks % nodeRanks
        return ranks - (last == 0 ? nodeRanks : last)
    }

    func symmetric(_ layout: moriep_layout) -> [Buffer] {
        var inputRows = received
        if !hasNetwork { inputRows = max(inputRows, ranks * tokens) }
        let weightRows = hasNetwork && !isV1 ? 0 : inputRows
        var buffers: [Buffer] = [
            ("dispatch signals", layout.dispatch_signals, 16 * ranks),
            ("combine signals", layout.combine_signals, 16 * ranks),
            ("barrier signals", layout.barrier_signals, 16 * ranks),
        ]
        if isOrdered {
            buffers.append(("count words", layout.count_signals, 16 * ranks * ranks))
        }
        buffers += [
            ("slot counters", layout.slot_counters, 64 + 64),
            ("call records", layout.call_records, 4 * 40),
        ]
        if hasNetwork {
            buffers.append(("barrier ends", layout.barrier_end_signals, 16 * ranks))
        }
        if isV1 {
            buffers += [
                ("chunk words", layout.chunk_signals, 16 * sections * chunks),
                ("combine chunk words", layout.combine_chunk_signals, 16 * nodes * chunks),
            ]
        } else if hasNetwork {
            let bytes = 16 * ranks * queues
            buffers += [
                ("section words", layout.section_signals, bytes),
                ("combine section words", layout.combine_section_signals, bytes),
            ]
        }
        buffers += [
            ("end of words", layout.words_end, 0),
            ("tokens", layout.received_tokens, received * dispatchRow),
            ("weights", layout.received_weights, received * topK * 4),
            ("scales", layout.received_scales, received * scales),
            ("indices", layout.received_indices, received * topK * 4),
            ("sources", layout.received_sources, received * 4),
            ("combine input", layout.combine_input, inputRows * combineRow),
            ("combine weights", layout.combine_input_weights, weightRows * topK * 4),
        ]
        if hasNetwork {
            let dispatched = sectionRows * dispatchPacket
            let combined = sectionRows * combinePacket
            buffers += [
                ("landing", layout.landing, (isV1 ? sections : ranks) * dispatched),
                ("staging", layout.staging, (isV1 ? nodes - 1 : remoteRanks) * dispatched),
                (
                    "combine landing", layout.combine_landing,
                    (isV1 ? nodes - 1 : ranks) * combined
                ),
                (
                    "combine staging", layout.combine_staging,
                    (isV1 ? sections : remoteRanks) * combined
                ),
            ]
        }
        return buffers + [("end", layout.symmetric_slot_bytes, 0)]
    }

    func local(_ layout: moriep_layout) -> [Buffer] {
        let reachable = isV1 ? nodeRanks : ranks
        let rankWords = (reachable + 63) / 64
        var buffers: [Buffer] = [
            ("control", layout.control, UInt64(MemoryLayout<moriep_control>.size)),
            ("peer waits", layout.peer_waits, 8 * ranks),
            ("destination counts", layout.destination_counts, 4 * ranks),
        ]
        if isV1 {
            buffers.append(("arrivals", layout.chunk_arrivals, 4 * (sections + 1) * chunks))
        }
        buffers.append(("end of zeros", layout.local_zero_end, 0))
        buffers.append(("active ranks", layout.active_ranks, 4 * ranks))
        if isV1 {
            buffers += [
                ("proxies", layout.proxies, 4 * nodes),
                ("proxy sections", layout.proxy_sections, 4 * nodes),
                ("section sources", layout.section_sources, 4 * sections),
            ]
        }
        if hasMap {
            buffers += [
                ("expert ranks", layout.expert_ranks, 4 * experts),
                ("expert places", layout.expert_places, 4 * experts),
            ]
        }
        if isOrdered { buffers.append(("order bases", layout.order_bases, 4 * ranks)) }
        let destinations = min(topK, reachable)
        buffers += [
            ("standard slots", layout.standard_slots, received * topK * 4),
            ("begin of routes", layout.routes_begin, 0),
            ("destination ranks", layout.destination_ranks, tokens * rankWords * 8),
            ("destination slots", layout.destination_slots, tokens * destinations * 4),
        ]
        if isV1 {
            let rows = sections * sectionRows
            buffers += [
                ("destination nodes", layout.destination_nodes, tokens * 8),
                ("node rows", layout.node_rows, tokens * min(topK, nodes) * 4),
                ("chunk counts", layout.chunk_counts, nodes * chunks * 4),
                ("forward ranks", layout.forward_ranks, rows * 8),
                ("forward slots", layout.forward_slots, rows * destinations * 4),
                ("end of routes", layout.routes_end, 0),
                ("own partials", layout.own_partials, tokens * combinePacket),
            ]
        } else if hasNetwork {
            buffers += [
                ("section counts", layout.section_counts, 8 * ranks),
                ("section rows", layout.section_rows, received * 4),
            ]
        }
        return buffers + [
            ("output", layout.combine_output, tokens * combineRow),
            ("output weights", layout.combine_output_weights, tokens * topK * 4),
            ("end", layout.local_slot_bytes, 0),
        ]
    }
}
