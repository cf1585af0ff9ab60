// How DLPack names element types and devices, and ours.
import CDLPack

/// What an element is, in DLPack's words.
struct DLPackElement: Hashable, CustomStringConvertible {
    var code: UInt8
    var bits: UInt8
    /// Elements that are one element of DLPack's shape: two fp4 are one, as in PyTorch.
    var lanes: UInt16

    init(code: UInt32, bits: UInt8, lanes: UInt16 = 1) {
        self.code = UInt8(truncatingIfNeeded: code)
        self.bits = bits
        self.lanes = lanes
    }

    init(_ type: DLDataType) {
        code = type.code
        bits = type.bits
        lanes = type.lanes
    }

    var dlType: DLDataType { DLDataType(code: code, bits: bits, lanes: lanes) }

    /// Whether it is the same type: packed elements may be counted one by one too.
    func isLike(_ known: DLPackElement) -> Bool {
        code == known.code && bits == known.bits
            && (lanes == known.lanes || lanes == 1 && isPacked)
    }

    /// Whether an element is less than a byte.
    var isPacked: Bool { bits < 8 }

    /// Bytes of one element of DLPack's shape, of which packed ones share one.
    var byteCount: Int { (Int(bits) * Int(lanes) + 7) / 8 }

    /// "code 2 with 32 bits and 1 lane".
    var description: String {
        "code \(code) with \(bits) bits and \(lanes) \(lanes == 1 ? "lane" : "lanes")"
    }

    /// By the raw value of the element type; one line makes another type known.
    ///
    /// A name that no element type has yet does no harm.
    static let byName: [(name: String, element: DLPackElement)] = [
        ("bf16", DLPackElement(code: kDLBfloat.rawValue, bits: 16)),
        ("f16", DLPackElement(code: kDLFloat.rawValue, bits: 16)),
        ("f32", DLPackElement(code: kDLFloat.rawValue, bits: 32)),
        ("i32", DLPackElement(code: kDLInt.rawValue, bits: 32)),
        ("u8", DLPackElement(code: kDLUInt.rawValue, bits: 8)),
        ("fp8_e4m3", DLPackElement(code: UInt32(MORI_DL_FLOAT8_E4M3FN), bits: 8)),
        ("fp8_e4m3fnuz", DLPackElement(code: UInt32(MORI_DL_FLOAT8_E4M3FNUZ), bits: 8)),
        ("fp8_e5m2", DLPackElement(code: UInt32(MORI_DL_FLOAT8_E5M2), bits: 8)),
        ("fp4", DLPackElement(code: UInt32(MORI_DL_FLOAT4_E2M1FN), bits: 4, lanes: 2)),
    ]
}

extension ElementType {
    /// The type that DLPack describes like this.
    ///
    /// - Throws: `unsupported` with the types that there are.
    init(_ element: DLPackElement) throws(MoriError) {
        for (name, known) in DLPackElement.byName where element.isLike(known) {
            if let type = ElementType(rawValue: name) {
                self = type
                return
            }
        }
        let legal = DLPackElement.byName.compactMap { name, element in
            ElementType(rawValue: name).map { "\($0) (\(element))" }
        }
        throw MoriError(
            .unsupported,
            "a DLPack tensor of type \(element); legal are \(legal.joined(separator: ", "))."
                + " Convert it in the framework first")
    }

    /// What DLPack calls this type.
    ///
    /// - Throws: `unsupported` for one that it has no words for.
    func dlpackElement() throws(MoriError) -> DLPackElement {
        guard let known = DLPackElement.byName.first(where: { $0.name == rawValue }) else {
            throw MoriError(
                .unsupported,
                "DLPack has no type for \(self); legal are "
                    + DLPackElement.byName.map(\.name).joined(separator: ", "))
        }
        return known.element
    }
}

/// Where DLPack says that memory is.
struct DLPackDevice: Hashable, CustomStringConvertible {
    var type: UInt32
    var ordinal: Int

    init(_ device: DLDevice) {
        type = UInt32(device.device_type.rawValue)
        ordinal = Int(device.device_id)
    }

    /// Where a device of ours is; the host is always number 0.
    init(_ kind: Device.Kind, ordinal: Int) {
        switch kind {
        case .host, .emulated: (type, self.ordinal) = (kDLCPU.rawValue, 0)
        case .amd: (type, self.ordinal) = (kDLROCM.rawValue, ordinal)
        case .nvidia: (type, self.ordinal) = (kDLCUDA.rawValue, ordinal)
        }
    }

    var dlDevice: DLDevice {
        DLDevice(device_type: DLDeviceType(rawValue: type), device_id: Int32(ordinal))
    }

    /// The kinds of devices that reach this memory, the one that it belongs to first.
    ///
    /// Pinned memory is the host's, and its GPUs reach it at the same address.
    var kinds: [Device.Kind] {
        switch type {
        case kDLCPU.rawValue: [.host]
        case kDLCUDA.rawValue: [.nvidia]
        case kDLROCM.rawValue: [.amd]
        case kDLCUDAHost.rawValue: [.host, .nvidia]
        case kDLROCMHost.rawValue: [.host, .amd]
        case kDLCUDAManaged.rawValue: [.nvidia, .host]
        default: []
        }
    }

    /// Whether only the device of this number reaches it.
    private var isOfOneDevice: Bool { type == kDLCUDA.rawValue || type == kDLROCM.rawValue }

    /// Whether a device of ours reaches this memory.
    func isReached(by kind: Device.Kind, ordinal: Int) -> Bool {
        kinds.contains(kind) && (!isOfOneDevice || self.ordinal == ordinal)
    }

    /// The device whose tensor it becomes.
    ///
    /// - Parameter wish: The only one that will do; nil: the one that the memory belongs to.
    /// - Returns: The wish, or the first device that reaches it.
    /// - Throws: `invalidArgument` when another one was wished for, `unsupported` for memory that
    ///   no device of ours reaches, `noDevice` when it does not answer.
    func device(wish: Device?) throws(MoriError) -> Device {
        guard let owner = kinds.first else {
            throw MoriError(
                .unsupported,
                "a DLPack tensor on \(self); legal are memory of the CPU, CUDA and ROCm GPUs, and"
                    + " their pinned memory. Copy it to one of these in the framework first")
        }
        guard let wish else { return try Device(owner, ordinal: owner == .host ? 0 : ordinal) }
        guard isReached(by: wish.kind, ordinal: wish.ordinal) else {
            let legal = DLPackDevice(wish.kind, ordinal: wish.ordinal)
            throw MoriError(
                .invalidArgument,
                "a DLPack tensor on \(self) for \(wish); legal is \(legal). Copy it there in the"
                    + " framework first")
        }
        return wish
    }

    /// "CPU 0", "ROCm 3", "device type 14 number 0".
    var description: String {
        let names: [UInt32: String] = [
            kDLCPU.rawValue: "CPU", kDLCUDA.rawValue: "CUDA", kDLROCM.rawValue: "ROCm",
            kDLCUDAHost.rawValue: "pinned memory of CUDA",
            kDLROCMHost.rawValue: "pinned memory of ROCm",
            kDLCUDAManaged.rawValue: "managed memory of CUDA",
        ]
        return names[type].map { "\($0) \(ordinal)" } ?? "device type \(type) number \(ordinal)"
    }
}
