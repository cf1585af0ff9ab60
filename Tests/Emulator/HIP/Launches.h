// How launches went, for the tests.
#pragma once

#include "standin.h"

namespace standin {

void forgetLaunches();
void launched(const char* kernel, standin_launch_counts* out);
const char* lastLaunchError();

/// The functions of standin_control with these names.
const char* obstacle();
void setRegisters(const char* prefix, uint32_t registers);
int32_t useKernels(const char* codeObject);
int32_t run(const char* codeObject,
            const char* kernel,
            uint32_t blocks,
            uint32_t threads,
            uint32_t ldsBytes,
            const void* arguments,
            standin_launch_counts* out);

}  // namespace standin
