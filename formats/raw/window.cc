// Checks of the options `offset` and `size` of raw nodes.
#include "formats/raw/window.h"

#include <cerrno>

#include "base/sector.h"
#include "schema/types_block_options.h"

namespace cairn::raw {

Result<RawWindow> RawWindow::create(const schema::BlockdevOptionsRaw& options,
                                    uint64_t file_length) {
  if (options.offset.value_or(0) < 0 || options.size.value_or(0) < 0) {
    return fail(EINVAL, "Parameter '{}' expects a non-negative number below 2^64",
                options.offset.value_or(0) < 0 ? "offset" : "size");
  }
  RawWindow window;
  window.offset = static_cast<uint64_t>(options.offset.value_or(0));
  if (window.offset > file_length) {
    return fail(EINVAL, "Offset ({}) cannot be greater than size of the containing file ({})",
                window.offset, file_length);
  }
  if (!options.size) {
    return window;
  }
  window.size = static_cast<uint64_t>(*options.size);
  if (file_length - window.offset < *window.size) {
    // The two blanks are the field's.
    return fail(EINVAL,
                "The sum of offset ({}) and size ({}) has to be smaller or equal to the  actual "
                "size of the containing file ({})",
                window.offset, *window.size, file_length);
  }
  if (*window.size % kSector != 0) {
    return fail(EINVAL, "Specified size is not multiple of {}", kSector);
  }
  return window;
}

Result<uint64_t> RawWindow::file_length_for(uint64_t length) const {
  if (size) {
    return fail(ENOTSUP, "Cannot resize fixed-size raw disks");
  }
  if (length > static_cast<uint64_t>(INT64_MAX) - offset) {
    return fail(EINVAL, "Disk size too large");
  }
  return length + offset;
}

}  // namespace cairn::raw
