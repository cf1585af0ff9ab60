package import MoriDevice

/// The device that the tests' worlds run on.
package enum TestDevice {
    /// The one that MORI_EP_DEVICE names; the host where it names none, because tests do not depend
    /// on which GPU happens to be there.
    package static func selected() throws(MoriError) -> Device {
        switch ProcessVariables.all["MORI_EP_DEVICE"] {
        case nil, "", "auto": try Device(.host)
        default: try Device.selected()
        }
    }
}
