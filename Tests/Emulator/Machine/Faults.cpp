#include "Machine/Faults.h"

#include <csignal>

namespace emulator {
namespace {

thread_local sigjmp_buf jump;
thread_local volatile bool isInside = false;
struct sigaction earlier[2];

constexpr int kSignals[] = {SIGSEGV, SIGBUS};

void caught(int signal, siginfo_t* information, void* context) {
    if (isInside) {
        isInside = false;
        siglongjmp(jump, 1);
    }
    const struct sigaction& before = earlier[signal == SIGSEGV ? 0 : 1];
    if ((before.sa_flags & SA_SIGINFO) != 0) {
        before.sa_sigaction(signal, information, context);
    } else if (before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN) {
        before.sa_handler(signal);
    } else {
        // Comes again at once, and ends the process.
        sigaction(signal, &before, nullptr);
    }
}

bool install() {
    struct sigaction action{};
    action.sa_sigaction = caught;
    // Not blocked while the handler runs, which leaves by a jump.
    action.sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK;
    for (int i = 0; i < 2; ++i) sigaction(kSignals[i], &action, &earlier[i]);
    return true;
}

}  // namespace

FaultScope::FaultScope() {
    static const bool isInstalled = install();
    isInside = isInstalled;
}

FaultScope::~FaultScope() { isInside = false; }

sigjmp_buf& FaultScope::place() const { return jump; }

}  // namespace emulator
