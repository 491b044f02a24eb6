#include "block/open_policy.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "block/driver_table.h"

namespace cairn::block {
namespace {

using std::string_view_literals::operator""sv;

constexpr std::size_t kLongestShown = 200;
constexpr unsigned char kDelete = 0x7f;

struct Magic {
  std::string_view format;
  std::size_t offset;
  std::string_view bytes;
};

// From the published descriptions of the formats; all of them begin with it, but for VDI.
constexpr std::array kForeignMagic = {
    Magic{"qcow", 0, "QFI\xfb\0\0\0\1"sv},
    Magic{"vhdx", 0, "vhdxfile"sv},
    Magic{"vpc", 0, "conectix"sv},
    Magic{"vdi", 64, "\x7f\x10\xda\xbe"sv},
    Magic{"qed", 0, "QED\0"sv},
    Magic{"parallels", 0, "WithoutFreeSpace"sv},
    Magic{"parallels", 0, "WithouFreSpacExt"sv},
    Magic{"bochs", 0, "Bochs Virtual HD Image"sv},
};

}  // namespace

Result<void> OpenPolicy::check_name(std::string_view image, std::string_view what,
                                    std::string_view filename) const {
  if (follow_names) {
    return {};
  }
  return fail(EPERM, "Image '{}' names {} {} file ('{}'), and opening it is not allowed", image,
              what == "extent" ? "an" : "a", what, presentable(filename));
}

Result<void> OpenPolicy::check_length(std::string_view image, uint64_t length) const {
  if (length <= largest_disk) {
    return {};
  }
  return fail(EFBIG, "Image '{}' has a disk of {} bytes, and more than {} are not allowed", image,
              length, largest_disk);
}

Result<void> OpenPolicy::check_guessing(std::string_view image) const {
  if (!formats || !formats->empty()) {
    return {};
  }
  return fail(EPERM, "The format of image '{}' has to be named, guessing it is not allowed", image);
}

Result<const DriverInfo*> OpenPolicy::guess_format(const DriverTable& drivers,
                                                   std::span<const std::byte> head,
                                                   std::string_view image) const {
  const DriverInfo* found = drivers.probe(head, image);
  if (!formats) {
    return found != nullptr
               ? Result<const DriverInfo*>(found)
               : fail(ENOENT, "Could not determine image format: No compatible driver found");
  }
  std::string_view name = found != nullptr ? found->name : "raw";
  if (const std::string_view foreign = foreign_format(head); name == "raw" && !foreign.empty()) {
    name = foreign;
    found = nullptr;
  }
  if (found != nullptr && std::ranges::find(*formats, name) != formats->end()) {
    return found;
  }
  if (name == "raw") {
    return fail(EPERM, "Image '{}' is in none of the formats that are allowed ({})", image,
                fmt::join(*formats, ", "));
  }
  return fail(EPERM, "Image '{}' is in format '{}', and allowed are: {}", image, name,
              fmt::join(*formats, ", "));
}

std::string_view foreign_format(std::span<const std::byte> head) {
  for (const Magic& magic : kForeignMagic) {
    if (head.size() >= magic.offset + magic.bytes.size() &&
        std::memcmp(head.data() + magic.offset, magic.bytes.data(), magic.bytes.size()) == 0) {
      return magic.format;
    }
  }
  return {};
}

std::string presentable(std::string_view name) {
  std::string text;
  for (const char c : name.substr(0, kLongestShown)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < ' ' || byte == kDelete) {
      text += fmt::format("\\x{:02x}", byte);
    } else {
      text += c;
    }
  }
  return name.size() > kLongestShown ? text + "…" : text;
}

}  // namespace cairn::block
