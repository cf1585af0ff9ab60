// Dispatch and combine over MPI: pack, MPI_Alltoallv, reduce.
#pragma once

#include <mpi.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#include "Workload.h"

namespace peers {

inline void check(int status, const char* call) {
    if (status != MPI_SUCCESS) {
        throw std::runtime_error(std::string(call) + " failed");
    }
}

/// Bytes that nothing wrote yet.
using Bytes = std::unique_ptr<std::byte[]>;
inline Bytes allocate(std::size_t count) {
    return Bytes(new std::byte[std::max<std::size_t>(count, 64)]);
}

/// A datatype of so many bytes, because counts are ints.
class Row {
public:
    explicit Row(int bytes) {
        check(MPI_Type_contiguous(bytes, MPI_BYTE, &type), "MPI_Type_contiguous");
        check(MPI_Type_commit(&type), "MPI_Type_commit");
    }
    ~Row() { MPI_Type_free(&type); }
    Row(const Row&) = delete;
    Row& operator=(const Row&) = delete;
    MPI_Datatype type = MPI_DATATYPE_NULL;
};

/// One rank's part of the exchange of a case. All memory is allocated and known before the first
/// round, as a serving engine would have it.
///
/// A token goes once to each rank that hosts one of its experts. A packet is the row, then the
/// token's weights and its experts' ids, so that one MPI_Alltoallv moves everything.
class Exchange {
public:
    explicit Exchange(const Case& c)
        : c_(c),
          rowBytes_(c.hidden * (c.isFP8 ? 1 : 2)),
          packetBytes_(rowBytes_ + c.topK * 8),
          packet_(packetBytes_),
          outputRow_(c.hidden * 2) {
        const int n = c.ranks;
        sendCounts_.resize(n);
        receiveCounts_.resize(n);
        sendStarts_.resize(n + 1);
        receiveStarts_.resize(n + 1);
        destinations_.resize(static_cast<std::size_t>(c.tokens) * std::min(n, c.topK));
        places_.resize(destinations_.size());
        destinationCounts_.resize(c.tokens);
        const std::size_t sent = destinations_.size();
        const std::size_t received = static_cast<std::size_t>(n) * c.tokens;
        const std::size_t outputBytes = static_cast<std::size_t>(c.hidden) * 2;
        // What comes back lies where the packets lay: they have been sent by then.
        send_ = allocate(sent * std::max<std::size_t>(packetBytes_, outputBytes));
        received_ = allocate(received * packetBytes_);
        combined_.resize(static_cast<std::size_t>(c.tokens) * c.hidden);
    }

    /// Dispatch: [tokens, hidden] of the element type, f32 [tokens, topK], i32 [tokens, topK].
    void dispatch(const std::byte* tokens, const float* weights, const std::int32_t* experts) {
        route(experts);
        check(
            MPI_Alltoall(
                sendCounts_.data(), 1, MPI_INT, receiveCounts_.data(), 1, MPI_INT, MPI_COMM_WORLD),
            "MPI_Alltoall");
        starts(sendCounts_, sendStarts_);
        starts(receiveCounts_, receiveStarts_);
        pack(tokens, weights, experts);
        check(MPI_Alltoallv(send_.get(),
                            sendCounts_.data(),
                            sendStarts_.data(),
                            packet_.type,
                            received_.get(),
                            receiveCounts_.data(),
                            receiveStarts_.data(),
                            packet_.type,
                            MPI_COMM_WORLD),
              "MPI_Alltoallv");
    }

    /// Combine: bf16 [received, hidden], in the order of the received packets.
    void combine(const std::uint16_t* output) {
        auto* back = reinterpret_cast<std::uint16_t*>(send_.get());
        check(MPI_Alltoallv(output,
                            receiveCounts_.data(),
                            receiveStarts_.data(),
                            outputRow_.type,
                            back,
                            sendCounts_.data(),
                            sendStarts_.data(),
                            outputRow_.type,
                            MPI_COMM_WORLD),
              "MPI_Alltoallv");
        reduce(back);
    }

    int received() const { return receiveStarts_[c_.ranks]; }
    int receivedFrom(int rank) const { return receiveCounts_[rank]; }
    const std::byte* packet(int row) const {
        return received_.get() + static_cast<std::size_t>(row) * packetBytes_;
    }
    const std::uint16_t* combined() const { return combined_.data(); }
    int rowBytes() const { return rowBytes_; }

    /// Makes what the last round wrote unusable, so that nothing is right by having been there.
    void poison() {
        const std::size_t sent = sendStarts_[c_.ranks];
        std::memset(send_.get(), 0xFF, sent * packetBytes_);
        std::memset(received_.get(), 0xFF, static_cast<std::size_t>(received()) * packetBytes_);
        std::fill(combined_.begin(), combined_.end(), std::uint16_t{0xFFFF});
    }

private:
    /// The distinct ranks of each token, ascending, and the place of its packet in each one's part.
    void route(const std::int32_t* experts) {
        std::fill(sendCounts_.begin(), sendCounts_.end(), 0);
        std::size_t next = 0;
        std::vector<std::uint8_t> goes(c_.ranks);
        for (int token = 0; token < c_.tokens; ++token) {
            std::fill(goes.begin(), goes.end(), std::uint8_t{0});
            for (int slot = 0; slot < c_.topK; ++slot) {
                goes[experts[token * c_.topK + slot] / c_.expertsPerRank] = 1;
            }
            int count = 0;
            for (int rank = 0; rank < c_.ranks; ++rank) {
                if (!goes[rank]) {
                    continue;
                }
                destinations_[next] = rank;
                places_[next++] = sendCounts_[rank]++;
                ++count;
            }
            destinationCounts_[token] = count;
        }
    }

    static void starts(const std::vector<int>& counts, std::vector<int>& starts) {
        for (std::size_t rank = 0; rank < counts.size(); ++rank) {
            starts[rank + 1] = starts[rank] + counts[rank];
        }
    }

    void pack(const std::byte* tokens, const float* weights, const std::int32_t* experts) {
        std::size_t next = 0;
        const int table = c_.topK * 4;
        for (int token = 0; token < c_.tokens; ++token) {
            const std::byte* row = tokens + static_cast<std::size_t>(token) * rowBytes_;
            for (int count = destinationCounts_[token]; count > 0; --count, ++next) {
                places_[next] += sendStarts_[destinations_[next]];
                std::byte* packet =
                    send_.get() + static_cast<std::size_t>(places_[next]) * packetBytes_;
                std::memcpy(packet, row, rowBytes_);
                std::memcpy(packet + rowBytes_, weights + token * c_.topK, table);
                std::memcpy(packet + rowBytes_ + table, experts + token * c_.topK, table);
            }
        }
    }

    /// Sums each token's rows in fp32, ranks ascending, and rounds once.
    void reduce(const std::uint16_t* back) {
        constexpr int block = 512;
        float sums[block];
        std::size_t next = 0;
        for (int token = 0; token < c_.tokens; ++token) {
            std::uint16_t* out = combined_.data() + static_cast<std::size_t>(token) * c_.hidden;
            const int count = destinationCounts_[token];
            for (int first = 0; first < c_.hidden; first += block) {
                const int width = std::min(block, c_.hidden - first);
                std::fill(sums, sums + width, 0.0F);
                for (int part = 0; part < count; ++part) {
                    const std::uint16_t* row =
                        back + static_cast<std::size_t>(places_[next + part]) * c_.hidden + first;
                    for (int column = 0; column < width; ++column) {
                        sums[column] += widen(row[column]);
                    }
                }
                for (int column = 0; column < width; ++column) {
                    out[first + column] = toBF16(sums[column]);
                }
            }
            next += count;
        }
    }

    const Case& c_;
    int rowBytes_;
    int packetBytes_;
    Row packet_;
    Row outputRow_;
    std::vector<int> sendCounts_, receiveCounts_, sendStarts_, receiveStarts_;
    /// The destinations of all tokens, one after the other.
    std::vector<int> destinations_;
    std::vector<int> places_;
    std::vector<int> destinationCounts_;
    Bytes send_, received_;
    std::vector<std::uint16_t> combined_;
};

}  // namespace peers
