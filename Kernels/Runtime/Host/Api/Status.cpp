#include "Runtime/Host/Api/Status.h"

#include <cstdarg>
#include <cstdio>

namespace mori::host {
namespace {

thread_local char message[512] = "";
thread_local int32_t code = 0;

}  // namespace

moriep_status fail(moriep_status status, int32_t number, const char* format, ...) {
    va_list arguments;
    va_start(arguments, format);
    std::vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    code = number;
    return status;
}

const char* lastMessage() { return message; }
int32_t lastCode() { return code; }

}  // namespace mori::host
