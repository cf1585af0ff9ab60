// A library of kernels that this program is not for: of another version of the interface, or of the
// same and compiled from another header.
static const unsigned table[256] = {OTHER_VERSION};

__attribute__((visibility("default"))) const void* moriep_get_api(unsigned version) {
    return version == OTHER_VERSION ? table : 0;
}
