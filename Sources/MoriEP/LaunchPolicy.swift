import MoriDevice
import MoriShmem

/// Which launch an operator wants for a call: MORI_EP_LAUNCH_CONFIG_MODE and the tuning rules of its
/// kernel type and number of ranks, read once.
struct LaunchPolicy: Sendable {
    private let mode: LaunchMode
    /// What the rules were read from; nil without rules.
    private let file: TuningFile?
    private let dispatch: Rules
    private let combine: Rules
    private let guide: LaunchConfiguration

    /// Rules of the device itself, and of others of its architecture.
    private typealias Rules = (own: [TuningRule], others: [TuningRule])

    /// Reads the rules that the environment names, in AUTO mode only.
    ///
    /// - Throws: `invalidConfiguration` with the line and the key of what is wrong in the file, or
    ///   with the devices that it is for, when this one is none of them.
    init(
        _ environment: MoriEnvironment, kernelType: KernelType, worldSize: Int,
        device: Device.Properties
    ) throws(MoriError) {
        var file: TuningFile?
        if environment.launchMode == .automatic {
            switch environment.tuning {
            case .none: break
            case .published: file = try TuningFile.published.get()
            case .file(let path):
                let named = try TuningFile(contentsOf: path)
                try named.check(for: device)
                file = named
            }
        }
        func rules(_ phase: TuningFile.Phase) -> Rules {
            file?.rules(
                for: device, kernelType: kernelType, worldSize: worldSize, phase: phase) ?? ([], [])
        }
        mode = environment.launchMode
        dispatch = rules(.dispatch)
        combine = rules(.combine)
        guide = Self.guide(kernelType)
        self.file = file
    }

    /// Whether calls and the configuration have no say.
    var isAutomatic: Bool { mode == .automatic }

    /// What AUTO wants for a workload: a rule of this device, else one of its architecture, else the
    /// guide's table.
    func automatic(
        _ phase: TuningFile.Phase, _ workload: LaunchWorkload
    ) -> (launch: LaunchConfiguration, source: LaunchParameters.Source) {
        let rules = phase == .dispatch ? dispatch : combine
        guard let file,
            let rule = rules.own.best(for: workload) ?? rules.others.best(for: workload)
        else { return (guide, .guide) }
        return (rule.launch, .rule(file: file.name, line: rule.line, origin: file.origin))
    }

    /// The guide's table, but for InterNodeV1LL what the original really launches.
    static func guide(_ kernelType: KernelType) -> LaunchConfiguration {
        switch kernelType {
        case .interNodeV1: LaunchConfiguration(blocks: 96, rdmaBlocks: 64, warpsPerBlock: 8)
        case .interNodeV1LL: LaunchConfiguration(blocks: 256, rdmaBlocks: 128, warpsPerBlock: 8)
        case .intraNode, .interNode, .asyncLL:
            LaunchConfiguration(blocks: 128, rdmaBlocks: 0, warpsPerBlock: 16)
        }
    }
}
