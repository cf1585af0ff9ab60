#include "Runtime/Host/Memory/Copy.h"
#include "moriep_host.h"

uint64_t moriep_host_last_level_cache_bytes(void) { return mori::host::lastLevelCacheBytes(); }
