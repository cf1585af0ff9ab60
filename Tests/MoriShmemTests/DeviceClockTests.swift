import CHIP
import MoriDevice
import MoriTestSupport
import Testing

@testable import MoriShmem

@Suite struct DeviceClockTests {
    private func anchor(host: UInt64, ahead: Int64, roundTrip: UInt64) -> DeviceClock.Anchor? {
        let device = (host &+ roundTrip / 2) &+ UInt64(bitPattern: ahead)
        return DeviceClock.Anchor([
            ClockReading(before: host, device: device, after: host + roundTrip)
        ])
    }

    /// A launch that was held up before or after it looked at the clock would mislead.
    @Test func theReadingWithTheLeastDelayCounts() throws {
        let found = try #require(
            DeviceClock.Anchor([
                ClockReading(before: 100, device: 9_000_150, after: 900),
                ClockReading(before: 1000, device: 9_001_010, after: 1020),
                ClockReading(before: 2000, device: 9_002_900, after: 3000),
            ]))
        #expect(found.offset == 9_000_000 && found.roundTrip == 20 && found.time == 9_001_010)
        #expect(DeviceClock.Anchor([]) == nil)
    }

    /// Compared twice, a clock is right in between at whatever rate it goes, and before and after it is
    /// off by what it was at the nearer end.
    @Test(arguments: [Int64(0), 40, -40, 2_000_000, -700_000])
    func whatAClockDriftsIsTakenOut(_ gained: Int64) throws {
        let second = UInt64(1_000_000_000)
        let ahead = Int64(1_700_000_000) * 1_000_000_000
        let begin = try #require(anchor(host: 50 * second, ahead: ahead, roundTrip: 20))
        let end = try #require(anchor(host: 60 * second, ahead: ahead + gained, roundTrip: 30))
        let clock = try #require(DeviceClock(begin: begin, end: end))
        #expect(clock.comparisons == 2 && clock.roundTrip == 30)
        #expect(clock.offset == ahead + gained)
        #expect(abs(clock.drift - gained / 10) <= 1)
        for tenths in UInt64(0)...10 {
            let host = 50 * second + tenths * second
            let gained = (Double(gained) * Double(tenths) / 10).rounded()
            let device = host &+ UInt64(bitPattern: ahead + Int64(gained))
            let found = clock.hostTime(of: device)
            // A rate of two thousandths is off by as much of the time between host and device.
            #expect(abs(Int64(bitPattern: found &- host)) <= 16, "\(tenths): \(found)")
        }
        let before = begin.time - second
        #expect(clock.hostTime(of: before) == before &- UInt64(bitPattern: ahead))
        let after = end.time + second
        #expect(clock.hostTime(of: after) == after &- UInt64(bitPattern: ahead + gained))
    }

    @Test func aClockThatWasComparedOnceIsTakenToGoRight() throws {
        let only = try #require(anchor(host: 5000, ahead: -4000, roundTrip: 8))
        for clock in [DeviceClock(begin: only, end: nil), DeviceClock(begin: nil, end: only)] {
            let clock = try #require(clock)
            #expect(clock.comparisons == 1 && clock.drift == 0 && clock.offset == -4000)
            #expect(clock.hostTime(of: 1_000_000) == 1_004_000)
        }
        #expect(DeviceClock(begin: nil, end: nil) == nil)
    }

    /// Records of the host device need no alignment: their clock is the host's.
    @Test func theHostDevicesClockIsTheHosts() throws {
        let device = try Device(.host)
        let stream = try DeviceStream(on: device)
        let word = try DeviceBuffer(zeroedPinnedByteCount: 8, on: device)
        let before = TraceEvent.now()
        let readings = try stream.readClock(count: 3, into: word, timeout: .seconds(1))
        let after = TraceEvent.now()
        #expect(device.canTrace && readings.count == 3)
        for reading in readings {
            #expect(reading.before == reading.device && reading.after == reading.device)
            #expect((before...after).contains(reading.device))
        }
    }
}
