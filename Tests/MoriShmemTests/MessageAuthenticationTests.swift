import Testing

@testable import MoriShmem

@Suite struct MessageAuthenticationTests {
    /// Expected value computed with another implementation: Python's hmac and hashlib.
    @Test func aCodeIsTheStandardsHMACOfTheSecretsHash() {
        let key = MessageAuthenticationKey(hashing: Array("a secret".utf8))
        let hex = key.code(for: Array("a message".utf8)).map { byte in
            (byte < 16 ? "0" : "") + String(byte, radix: 16)
        }
        #expect(hex.joined() == "00d730742e13f08e78091f9917ff716dd9c0a689a3e80218d53cd8d5fb7fcadd")
    }

    @Test func onlyTheRightCodeIsValid() {
        let key = MessageAuthenticationKey(hashing: [])
        let message = Array("transcript".utf8)
        var code = key.code(for: message)
        #expect(key.isValid(code, for: message))
        #expect(!key.isValid(code, for: message + [0]))
        #expect(!MessageAuthenticationKey(hashing: [0]).isValid(code, for: message))
        code[31] ^= 1
        #expect(!key.isValid(code, for: message))
        #expect(!key.isValid([], for: message))
    }
}
