#include "CMoriSystem.h"
