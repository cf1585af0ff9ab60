// A program in C as a user's is: it knows moriep.h and what pkg-config says, and nothing else.
#include <inttypes.h>
#include <moriep.h>
#include <stdio.h>
#include <string.h>

static int failed;

static void expect(int holds, const char* what) {
    if (holds) return;
    fprintf(stderr, "not so: %s\n", what);
    failed = 1;
}

#define EXPECT(condition) expect((condition), #condition)

int main(void) {
    EXPECT(moriep_get_api(MORIEP_API_VERSION + 1) == NULL);
    const moriep_device_api* api = moriep_get_api(MORIEP_API_VERSION);
    if (api == NULL) {
        fprintf(stderr, "the library is not of version %u\n", MORIEP_API_VERSION);
        return 1;
    }
    EXPECT(api->byte_count == sizeof(moriep_device_api));
    EXPECT(api->size_of_dispatch == sizeof(moriep_dispatch_arguments));
    EXPECT(api->size_of_combine == sizeof(moriep_combine_arguments));
    EXPECT(api->kind == MORIEP_DEVICE_HOST);

    int32_t count = 0;
    EXPECT(api->device_count(&count) == MORIEP_SUCCESS && count == 1);
    moriep_device_properties properties;
    EXPECT(api->device_properties(0, &properties) == MORIEP_SUCCESS);
    EXPECT(properties.memory_is_host_memory == 1);
    EXPECT(api->device_properties(1, &properties) != MORIEP_SUCCESS);
    EXPECT(strlen(api->last_message()) > 0);

    // Work of a stream: a fill, and a copy behind it.
    enum { bytes = 1 << 20 };
    moriep_stream* stream = NULL;
    uint64_t source = 0, destination = 0;
    EXPECT(api->stream_create(0, &stream) == MORIEP_SUCCESS);
    EXPECT(api->memory_allocate(0, MORIEP_MEMORY_DEVICE, bytes, &source) == MORIEP_SUCCESS);
    EXPECT(api->memory_allocate(0, MORIEP_MEMORY_SYMMETRIC, bytes, &destination) == MORIEP_SUCCESS);
    if (failed) return 1;
    memset((void*)(uintptr_t)destination, 0xEE, bytes);
    EXPECT(api->memory_fill(stream, source, 0x5A, bytes) == MORIEP_SUCCESS);
    EXPECT(api->memory_copy(stream, destination, source, bytes) == MORIEP_SUCCESS);
    EXPECT(api->stream_synchronize(stream) == MORIEP_SUCCESS);
    const uint8_t* copied = (const uint8_t*)(uintptr_t)destination;
    size_t wrong = 0;
    for (size_t index = 0; index < bytes; ++index) wrong += copied[index] != 0x5A;
    EXPECT(wrong == 0);

    EXPECT(api->memory_free(0, MORIEP_MEMORY_DEVICE, source) == MORIEP_SUCCESS);
    EXPECT(api->memory_free(0, MORIEP_MEMORY_SYMMETRIC, destination) == MORIEP_SUCCESS);
    EXPECT(api->stream_destroy(stream) == MORIEP_SUCCESS);
    moriep_live_counts counts;
    EXPECT(api->live_counts(&counts) == MORIEP_SUCCESS && counts.allocations == 0);
    if (!failed) printf("%s, %s\n", properties.name, properties.architecture);
    return failed;
}
