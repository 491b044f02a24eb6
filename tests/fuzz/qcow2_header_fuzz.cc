// Any bytes as the first cluster of a qcow2 image: parsing ends, stays inside them, and what it
// accepts can be written and parsed again with the same meaning.
#include <cstdint>
#include <cstdlib>
#include <span>
#include <vector>

#include "formats/qcow2/header.h"

namespace {

void require(bool condition) {
  if (!condition) {
    std::abort();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace cairn::qcow2;  // NOLINT(google-build-using-namespace): one function
  const std::span<const std::byte> input = std::as_bytes(std::span(data, size));
  const auto length = header_area_length(input);
  if (!length || *length > (uint64_t{1} << 21)) {
    require(!length);
    return 0;
  }
  std::vector<std::byte> cluster(input.begin(), input.end());
  cluster.resize(*length);
  const auto header = parse_header(cluster);
  if (!header) {
    require(header.error().code() > 0 && !header.error().message().empty());
    return 0;
  }
  static_cast<void>(header->feature_names());
  static_cast<void>(header->backing_format());
  const auto written = serialize_header(*header);
  if (!written) {
    return 0;  // the strings need not fit in another order
  }
  std::vector<std::byte> again = *written;
  again.resize(*length);
  const auto reparsed = parse_header(again);
  require(reparsed.has_value());
  require(reparsed->size == header->size && reparsed->l1_size == header->l1_size &&
          reparsed->backing_file == header->backing_file &&
          reparsed->extensions.size() == header->extensions.size());
  return 0;
}
