// Corruption: what a driver has found wrong with its image while the image is in use.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace cairn::block {

struct Corruption {
  std::string node_name;
  std::string message;
  // The access that would have done harm: bytes in the image file.
  std::optional<uint64_t> offset;
  std::optional<uint64_t> size;
  // The image was marked corrupt and takes no more writes; else only the request fails.
  bool fatal = false;
};

}  // namespace cairn::block
