#include "Runtime/Host/Memory/Descriptors.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstddef>
#include <cstdio>
#include <cstring>
#include <mutex>
#include <thread>

namespace mori::host {
namespace {

constexpr int kTimeoutMilliseconds = 1000;

/// An abstract address: it leaves no file behind and goes with its process.
socklen_t addressOf(const uint64_t process[2], sockaddr_un* address) {
    std::memset(address, 0, sizeof *address);
    address->sun_family = AF_UNIX;
    const int length = std::snprintf(address->sun_path + 1,
                                     sizeof address->sun_path - 1,
                                     "moriep-%016llx%016llx",
                                     static_cast<unsigned long long>(process[0]),
                                     static_cast<unsigned long long>(process[1]));
    return static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + length);
}

/// The same user may have it; the abstract name space itself knows no permissions.
bool isSameUser(int connection) {
    ucred credentials{};
    socklen_t length = sizeof credentials;
    return getsockopt(connection, SOL_SOCKET, SO_PEERCRED, &credentials, &length) == 0 &&
           credentials.uid == getuid();
}

/// Only memory of ours leaves the process, never another open file.
bool isMemory(int descriptor) {
    char path[64];
    char target[64] = {};
    std::snprintf(path, sizeof path, "/proc/self/fd/%d", descriptor);
    const ssize_t length = readlink(path, target, sizeof target - 1);
    return length > 0 && std::strncmp(target, "/memfd:moriep", 13) == 0;
}

void sendDescriptor(int connection, int descriptor) {
    char byte = 0;
    iovec data{&byte, 1};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
    msghdr message{};
    message.msg_iov = &data;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(header), &descriptor, sizeof descriptor);
    (void)sendmsg(connection, &message, MSG_NOSIGNAL);
}

void serve(int listener) {
    for (;;) {
        const int connection = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
        if (connection < 0) {
            if (errno == EINTR || errno == ECONNABORTED || errno == EMFILE) continue;
            return;
        }
        pollfd ready{connection, POLLIN, 0};
        int32_t descriptor = -1;
        if (isSameUser(connection) && poll(&ready, 1, kTimeoutMilliseconds) == 1 &&
            recv(connection, &descriptor, sizeof descriptor, 0) == sizeof descriptor &&
            isMemory(descriptor)) {
            sendDescriptor(connection, descriptor);
        }
        close(connection);
    }
}

struct Process {
    uint64_t number[2] = {};

    Process() {
        while (getrandom(number, sizeof number, 0) != sizeof number) {
        }
        const int listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
        sockaddr_un address;
        const socklen_t length = addressOf(number, &address);
        if (listener >= 0 && bind(listener, reinterpret_cast<sockaddr*>(&address), length) == 0 &&
            listen(listener, 64) == 0) {
            std::thread(serve, listener).detach();
        } else if (listener >= 0) {
            close(listener);  // procfs is the usual way; a peer that needs this one says so
        }
    }
};

}  // namespace

const uint64_t* processNumber() {
    static const Process* process = new Process;
    return process->number;
}

int receiveDescriptor(const uint64_t process[2], int32_t descriptor) {
    const int connection = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (connection < 0) return -1;
    // A process that is stopped accepts nothing, and its queue may be full.
    const timeval limit{kTimeoutMilliseconds / 1000, kTimeoutMilliseconds % 1000 * 1000};
    setsockopt(connection, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    sockaddr_un address;
    const socklen_t length = addressOf(process, &address);
    int received = -1;
    if (connect(connection, reinterpret_cast<sockaddr*>(&address), length) == 0 &&
        send(connection, &descriptor, sizeof descriptor, MSG_NOSIGNAL) == sizeof descriptor) {
        pollfd ready{connection, POLLIN, 0};
        char byte;
        iovec data{&byte, 1};
        alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
        msghdr message{};
        message.msg_iov = &data;
        message.msg_iovlen = 1;
        message.msg_control = control;
        message.msg_controllen = sizeof control;
        errno = ETIMEDOUT;
        if (poll(&ready, 1, kTimeoutMilliseconds) == 1 &&
            recvmsg(connection, &message, MSG_CMSG_CLOEXEC) == 1) {
            const cmsghdr* header = CMSG_FIRSTHDR(&message);
            if (header != nullptr && header->cmsg_type == SCM_RIGHTS) {
                std::memcpy(&received, CMSG_DATA(header), sizeof received);
            } else {
                errno = EACCES;
            }
        }
    }
    const int error = errno;
    close(connection);
    errno = error;
    return received;
}

}  // namespace mori::host
