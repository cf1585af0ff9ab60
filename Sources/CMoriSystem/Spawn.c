#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "CMoriSystem.h"

// Where the child's descriptors end up, in order; everything above is closed.
enum { kLifeline = MORI_LIFELINE_DESCRIPTOR, kReport, kFirstClosed };

// Between fork and exec only calls that are safe after a fork of a process with threads.

static void closeFrom(int first) {
#ifdef SYS_close_range
    if (syscall(SYS_close_range, first, ~0U, 0) == 0) return;
#endif
    struct rlimit limit = {0};
    int end = 1 << 16;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < (rlim_t)end) {
        end = (int)limit.rlim_cur;
    }
    for (int descriptor = first; descriptor < end; ++descriptor) close(descriptor);
}

static bool arrangeDescriptors(const mori_spawn_request* request, int report) {
    const int wanted[] = {
        request->input, request->output, request->error, request->lifeline, report};
    // First out of the way of each other's places.
    int moved[5];
    for (int place = 0; place < 5; ++place) {
        moved[place] = -1;
        if (wanted[place] < 0) continue;
        moved[place] = fcntl(wanted[place], F_DUPFD_CLOEXEC, kFirstClosed);
        if (moved[place] < 0) return false;
    }
    for (int place = 0; place < 5; ++place) {
        if (moved[place] < 0) {
            close(place);
        } else if (dup3(moved[place], place, place == kReport ? O_CLOEXEC : 0) < 0) {
            return false;
        }
    }
    closeFrom(kFirstClosed);
    return true;
}

static void becomeProgram(const mori_spawn_request* request, pid_t parent, int report) {
    int reportPlace = report;
    // The signal comes when the spawning thread ends, which waits for all of its children.
    bool ready = prctl(PR_SET_PDEATHSIG, SIGKILL) == 0;
    if (ready && getppid() != parent) _exit(127);
    // A group of its own: what the program starts itself can be ended with it.
    if (ready) ready = setpgid(0, 0) == 0;
    if (ready) ready = arrangeDescriptors(request, report);
    if (ready) {
        reportPlace = kReport;
        signal(SIGPIPE, SIG_DFL);
        sigset_t none;
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        execve(request->path, (char* const*)request->arguments, (char* const*)request->environment);
    }
    const int32_t failure = errno;
    // The parent learns of it from this word, or from the end of the pipe.
    if (write(reportPlace, &failure, sizeof failure) < 0) _exit(126);
    _exit(127);
}

int32_t mori_spawn(const mori_spawn_request* request, int32_t* pid) {
    int report[2];
    if (pipe2(report, O_CLOEXEC) != 0) return errno;
    // No handler of the parent's may run in the child.
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const pid_t parent = getpid();
    const pid_t child = fork();
    if (child == 0) becomeProgram(request, parent, report[1]);
    int32_t failure = child < 0 ? errno : 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    close(report[1]);
    if (child > 0) {
        // Nothing is read when exec succeeded: the write end closed with it.
        ssize_t count;
        do {
            count = read(report[0], &failure, sizeof failure);
        } while (count < 0 && errno == EINTR);
        if (count != (ssize_t)sizeof failure) failure = 0;
        if (failure != 0) waitpid(child, NULL, 0);
        *pid = child;
    }
    close(report[0]);
    return failure;
}

int32_t mori_pipe(int32_t* ends) { return pipe2(ends, O_CLOEXEC) == 0 ? 0 : errno; }

int32_t mori_free_port(void) {
    const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener < 0) return -errno;
    struct sockaddr_in address;
    memset(&address, 0, sizeof address);
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    int32_t result;
    if (bind(listener, (struct sockaddr*)&address, sizeof address) != 0 ||
        getsockname(listener, (struct sockaddr*)&address, &size) != 0) {
        result = -errno;
    } else {
        result = ntohs(address.sin_port);
    }
    close(listener);
    return result;
}

// Signals

static uint64_t noted;

static void note(int number) { __atomic_fetch_or(&noted, UINT64_C(1) << number, __ATOMIC_RELAXED); }

void mori_catch_signals(void) {
    static const int numbers[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
    for (size_t place = 0; place < sizeof numbers / sizeof *numbers; ++place) {
        struct sigaction before;
        if (sigaction(numbers[place], NULL, &before) != 0) continue;
        if (before.sa_handler == SIG_IGN) continue;
        struct sigaction action;
        memset(&action, 0, sizeof action);
        action.sa_handler = note;
        sigemptyset(&action.sa_mask);
        action.sa_flags = SA_RESTART;
        sigaction(numbers[place], &action, NULL);
    }
}

uint64_t mori_take_signals(void) { return __atomic_exchange_n(&noted, 0, __ATOMIC_RELAXED); }

int32_t mori_has_ended(int32_t pid) {
    siginfo_t found;
    memset(&found, 0, sizeof found);
    if (waitid(P_PID, (id_t)pid, &found, WEXITED | WNOHANG | WNOWAIT) != 0) return 0;
    return found.si_pid == pid;
}

int32_t mori_adopt_orphans(void) { return prctl(PR_SET_CHILD_SUBREAPER, 1) == 0 ? 0 : errno; }
