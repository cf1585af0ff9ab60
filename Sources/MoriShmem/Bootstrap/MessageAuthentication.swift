import CSodium

/// HMAC-SHA256 (RFC 2104, FIPS 180-4) by libsodium: the only cryptography that the bootstrap uses.
struct MessageAuthenticationKey: Sendable {
    private let bytes: [UInt8]

    /// Bytes of a code.
    static let codeSize = 32

    /// Makes a key from a secret of any length; an empty one is as good a key as any other.
    init(hashing secret: [UInt8]) {
        var digest = [UInt8](repeating: 0, count: Self.codeSize)
        _ = unsafe crypto_hash_sha256(&digest, secret, UInt64(secret.count))
        bytes = digest
    }

    /// The code of a message.
    func code(for message: [UInt8]) -> [UInt8] {
        var code = [UInt8](repeating: 0, count: Self.codeSize)
        _ = unsafe crypto_auth_hmacsha256(&code, message, UInt64(message.count), bytes)
        return code
    }

    /// Whether a code is right; takes the same time for all wrong ones.
    func isValid(_ code: [UInt8], for message: [UInt8]) -> Bool {
        guard code.count == Self.codeSize else { return false }
        return unsafe crypto_auth_hmacsha256_verify(code, message, UInt64(message.count), bytes)
            == 0
    }
}
