// Fuzzes opening, reading, checking and changing qcow2 images with damaged tables.
#include <cstddef>
#include <cstdint>

#include "tests/formats/qcow2/hostile.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, std::size_t size) {
  cairn::qcow2::play_hostile_image({data, size});
  return 0;
}
