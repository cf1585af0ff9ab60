// One rank of pack + MPI_Alltoallv + reduce, which runs the cases and rounds that it is asked for.
//
//   peer-mpi PREFIX
//
// reads requests from the FIFO PREFIX.requests.RANK, a line each, and answers through
// PREFIX.answers.RANK (Benchmarks/Peers/systems.py):
//   case ROUTING RANKS TOKENS HIDDEN TOPK EXPERTS_PER_RANK bf16|fp8_e4m3 SEED
//   <number of rounds>
#include <mpi.h>
#include <sched.h>
#include <time.h>
#include <unistd.h>

#include <cstdio>
#include <memory>
#include <sstream>
#include <string>

#include "Exchange.h"
#include "Workload.h"

namespace peers {
namespace {

struct Interval {
    long long began = 0;
    long long ended = 0;
};

long long now() {
    timespec time{};
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1'000'000'000LL + time.tv_nsec;
}

/// Waits for all ranks and lets them go on at the same moment.
void meet() {
    long long own = now(), last = 0;
    check(MPI_Allreduce(&own, &last, 1, MPI_LONG_LONG, MPI_MAX, MPI_COMM_WORLD), "MPI_Allreduce");
    // The last millisecond is yielded away: how late a machine wakes sleepers is not what is timed.
    const long long start = last + 3'000'000, sleeps = start - 1'000'000;
    const timespec until{sleeps / 1'000'000'000, sleeps % 1'000'000'000};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, nullptr) != 0) {
    }
    while (now() < start) {
        sched_yield();
    }
}

/// Leaves the cores to the ranks that are still timed.
void part() { usleep(1000); }

class Run {
public:
    Run(Case c, int rank)
        : c_(std::move(c)),
          rank_(rank),
          exchange_(c_),
          tokens_(allocate(static_cast<std::size_t>(c_.tokens) * exchange_.rowBytes())),
          weights_(static_cast<std::size_t>(c_.tokens) * c_.topK) {
        for (int token = 0; token < c_.tokens; ++token) {
            write(rank,
                  token,
                  tokens_.get() + static_cast<std::size_t>(token) * exchange_.rowBytes());
            for (int slot = 0; slot < c_.topK; ++slot) {
                weights_[token * c_.topK + slot] = tokenWeight(c_, rank, token, slot);
            }
        }
    }

    /// Runs a round and compares all of it; the experts' output stays for the timed rounds.
    void verify() {
        exchange_.dispatch(tokens_.get(), weights_.data(), c_.expertRow(rank_, 0));
        exchange_.poison();
        exchange_.dispatch(tokens_.get(), weights_.data(), c_.expertRow(rank_, 0));
        output_.resize(static_cast<std::size_t>(exchange_.received()) * c_.hidden);
        int row = 0;
        for (int source = 0; source < c_.ranks; ++source) {
            int count = 0;
            for (int token = 0; token < c_.tokens; ++token) {
                if (!goesTo(source, token, rank_)) {
                    continue;
                }
                checkPacket(source, token, row++);
                ++count;
            }
            expect(count == exchange_.receivedFrom(source), "received rows", source, count);
        }
        exchange_.combine(output_.data());
        std::vector<std::uint16_t> expected(c_.hidden);
        for (int token = 0; token < c_.tokens; ++token) {
            combinedRow(token, expected);
            expect(std::memcmp(expected.data(),
                               exchange_.combined() + static_cast<std::size_t>(token) * c_.hidden,
                               static_cast<std::size_t>(c_.hidden) * 2) == 0,
                   "combined row",
                   rank_,
                   token);
        }
    }

    /// See RowChecksum of bench-dispatch-combine.
    std::uint64_t checksum() const {
        std::uint64_t sum = 0;
        const std::size_t count = static_cast<std::size_t>(c_.tokens) * c_.hidden;
        for (std::size_t place = 0; place < count; ++place) {
            sum += exchange_.combined()[place] * (2 * place + 1);
        }
        return sum;
    }

    std::pair<Interval, Interval> round() {
        Interval dispatch, combine;
        meet();
        dispatch.began = now();
        exchange_.dispatch(tokens_.get(), weights_.data(), c_.expertRow(rank_, 0));
        dispatch.ended = now();
        part();
        meet();
        combine.began = now();
        exchange_.combine(output_.data());
        combine.ended = now();
        part();
        return {dispatch, combine};
    }

private:
    void expect(bool holds, const char* what, int a, int b) const {
        if (holds) {
            return;
        }
        throw std::runtime_error(std::string("verification: ") + what + " " + std::to_string(a) +
                                 " " + std::to_string(b) + " at rank " + std::to_string(rank_));
    }

    bool goesTo(int source, int token, int rank) const {
        const std::int32_t* experts = c_.expertRow(source, token);
        return std::any_of(experts, experts + c_.topK, [&](int expert) {
            return expert / c_.expertsPerRank == rank;
        });
    }

    /// A token as a tensor of the element type holds it.
    void write(int rank, int token, std::byte* row) const {
        const std::uint64_t base = placeBits(c_.seed, 1, rank, token);
        if (c_.isFP8) {
            auto* to = reinterpret_cast<std::uint8_t*>(row);
            for (int i = 0; i < c_.hidden; ++i) {
                to[i] = e4m3_.nearest(tokenElement(base, i));
            }
        } else {
            auto* to = reinterpret_cast<std::uint16_t*>(row);
            for (int i = 0; i < c_.hidden; ++i) {
                to[i] = toBF16(tokenElement(base, i));
            }
        }
    }

    float element(const std::byte* row, int column) const {
        return c_.isFP8 ? e4m3_.value(reinterpret_cast<const std::uint8_t*>(row)[column])
                        : widen(reinterpret_cast<const std::uint16_t*>(row)[column]);
    }

    /// Compares a packet with what its source sent, and does the experts' work on it.
    void checkPacket(int source, int token, int row) {
        const std::byte* packet = exchange_.packet(row);
        std::vector<std::byte> expected(exchange_.rowBytes());
        write(source, token, expected.data());
        expect(std::memcmp(packet, expected.data(), expected.size()) == 0,
               "row of token",
               source,
               token);
        std::vector<float> weights(c_.topK);
        std::vector<std::int32_t> experts(c_.topK);
        std::memcpy(weights.data(), packet + expected.size(), c_.topK * 4);
        std::memcpy(experts.data(), packet + expected.size() + c_.topK * 4, c_.topK * 4);
        for (int slot = 0; slot < c_.topK; ++slot) {
            expect(weights[slot] == tokenWeight(c_, source, token, slot) &&
                       experts[slot] == c_.expertRow(source, token)[slot],
                   "weights and experts of token",
                   source,
                   token);
        }
        const float factor = rankFactor(c_, rank_, experts.data(), weights.data());
        for (int i = 0; i < c_.hidden; ++i) {
            output_[static_cast<std::size_t>(row) * c_.hidden + i] =
                toBF16(element(packet, i) * factor);
        }
    }

    void combinedRow(int token, std::vector<std::uint16_t>& out) const {
        const std::byte* row =
            tokens_.get() + static_cast<std::size_t>(token) * exchange_.rowBytes();
        std::vector<float> factors;
        for (int rank = 0; rank < c_.ranks; ++rank) {
            if (!goesTo(rank_, token, rank)) {
                continue;
            }
            factors.push_back(
                rankFactor(c_,
                           rank,
                           c_.expertRow(rank_, token),
                           weights_.data() + static_cast<std::size_t>(token) * c_.topK));
        }
        for (int i = 0; i < c_.hidden; ++i) {
            const float value = element(row, i);
            float sum = 0;
            for (const float factor : factors) {
                sum += widen(toBF16(value * factor));
            }
            out[i] = toBF16(sum);
        }
    }

    Case c_;
    int rank_;
    E4M3 e4m3_;
    Exchange exchange_;
    Bytes tokens_;
    std::vector<float> weights_;
    std::vector<std::uint16_t> output_;
};

Case readCase(std::istringstream& words) {
    Case c;
    std::string routing, type;
    words >> routing >> c.ranks >> c.tokens >> c.hidden >> c.topK >> c.expertsPerRank >> type >>
        c.seed;
    c.isFP8 = type == "fp8_e4m3";
    c.experts = readIntegers(routing);
    const std::size_t expected = static_cast<std::size_t>(c.ranks) * c.tokens * c.topK;
    if (!words || c.experts.size() != expected) {
        throw std::runtime_error("no case: " + words.str());
    }
    return c;
}

std::string roundsAsJSON(Run& run, int count) {
    std::string line = "[";
    for (int turn = 0; turn < count; ++turn) {
        const auto [dispatch, combine] = run.round();
        char text[160];
        std::snprintf(text,
                      sizeof text,
                      "%s{\"dispatch\":[%lld,%lld],\"combine\":[%lld,%lld]}",
                      turn > 0 ? "," : "",
                      dispatch.began,
                      dispatch.ended,
                      combine.began,
                      combine.ended);
        line += text;
    }
    return line + "]\n";
}

void serve(const std::string& prefix, int rank) {
    // Blocking reads: a rank that waits for a request takes nothing from the other systems.
    std::FILE* requests = std::fopen((prefix + ".requests." + std::to_string(rank)).c_str(), "r");
    std::FILE* answers = std::fopen((prefix + ".answers." + std::to_string(rank)).c_str(), "w");
    if (requests == nullptr || answers == nullptr) {
        throw std::runtime_error("no FIFOs");
    }
    std::unique_ptr<Run> run;
    char line[4096];
    while (std::fgets(line, sizeof line, requests) != nullptr) {
        std::istringstream words(line);
        std::string verb;
        words >> verb;
        std::string answer;
        if (verb == "case") {
            run.reset();
            run = std::make_unique<Run>(readCase(words), rank);
            run->verify();
            answer =
                "{\"verified\":true,\"checksums\":{\"combine\":" + std::to_string(run->checksum()) +
                "}}\n";
        } else {
            if (!run) {
                throw std::runtime_error("a round was asked for before a case");
            }
            answer = roundsAsJSON(*run, std::stoi(verb));
        }
        std::fputs(answer.c_str(), answers);
        std::fflush(answers);
    }
}

}  // namespace
}  // namespace peers

int main(int argc, char** argv) {
    MPI_Init(&argc, &argv);
    int rank = 0;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    try {
        if (argc != 2) {
            throw std::runtime_error("usage: peer-mpi PREFIX");
        }
        peers::serve(argv[1], rank);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "peer-mpi: rank %d: %s\n", rank, error.what());
        MPI_Abort(MPI_COMM_WORLD, 1);
    }
    MPI_Finalize();
    return 0;
}
