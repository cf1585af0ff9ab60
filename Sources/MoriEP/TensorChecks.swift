extension EPDispatchCombineOp {
    /// Checks a deadline: one that has always passed would end the world's rounds.
    func check(timeout: Duration?) throws(MoriError) {
        guard let timeout, timeout <= .zero else { return }
        throw MoriError(.invalidArgument, "a timeout of \(timeout); legal is more than zero")
    }

    /// Checks that an output came from this operator: slots of different ones look alike.
    func check(_ received: borrowing DispatchOutput) throws(MoriError) {
        try check(received.lease)
    }

    func check(_ lease: RoundLease) throws(MoriError) {
        guard lease.kernels === kernels else {
            try lease.kernels.checkNotRetired("this output is of a round")
            throw MoriError(
                .invalidArgument,
                "this output came from another operator; give it back to the one that made it")
        }
    }

    /// Checks that a tensor lies on this operator's device.
    func check(_ name: String, _ tensor: DeviceTensor) throws(MoriError) {
        guard tensor.device == world.device else {
            throw MoriError(
                .invalidArgument, "\(name) is \(tensor); this operator is on \(world.device)")
        }
    }

    /// Checks a matrix against its only legal shape and type; makes no array on every call's way.
    func check(
        _ name: String, _ tensor: DeviceTensor, rows: Int, columns: Int, elementType: ElementType
    ) throws(MoriError) {
        let shape = tensor.shape
        guard
            shape.count == 2 && shape[0] == rows && shape[1] == columns
                && tensor.elementType == elementType && tensor.device == world.device
        else { return try check(name, tensor, shape: [rows, columns], elementType: elementType) }
    }

    /// Checks a tensor against the only legal shape and type.
    func check(
        _ name: String, _ tensor: DeviceTensor, shape: [Int], elementType: ElementType
    ) throws(MoriError) {
        try check(name, tensor)
        guard tensor.shape == shape && tensor.elementType == elementType else {
            throw MoriError(
                .invalidArgument, "\(name) is \(tensor); legal is \(elementType)\(shape)")
        }
    }

    /// Checks that a row of so many elements has no half a byte: fp4 packs two.
    func checkWholeBytes(_ name: String, _ type: ElementType, hidden: Int) throws(MoriError) {
        guard hidden % type.elementsPerUnit == 0 else {
            throw MoriError(
                .invalidArgument,
                "\(name) have rows of \(hidden) \(type), which packs \(type.elementsPerUnit) in a"
                    + " byte; legal is a multiple, nearest \(hidden + 1)")
        }
    }

    /// Checks that a tensor has two dimensions and an address that its elements can have.
    func checkRows(_ name: String, _ tensor: DeviceTensor) throws(MoriError) {
        try check(name, tensor)
        guard tensor.shape.count == 2 else {
            throw MoriError(
                .invalidArgument, "\(name) is \(tensor); legal is two dimensions, [rows, hidden]")
        }
        guard tensor.address % UInt(tensor.elementType.byteCount) == 0 else {
            throw MoriError(
                .invalidArgument,
                "\(name) begins at an address that is no multiple of"
                    + " \(tensor.elementType.byteCount)")
        }
    }
}
