// OpenPolicy: what an image may bring about by being opened, beyond what its user asked for.
//
// The graph asks it wherever the content of an image decides: what is opened because an image names
// it, which format an image is taken for, how large a disk it may claim. It says nothing about what
// users name themselves.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace cairn::block {

class DriverTable;
struct DriverInfo;

struct OpenPolicy {
  // Files that an image names (backing and data files, extents) are opened unless the user named
  // others in their place. False: an image that needs one is refused.
  bool follow_names = true;
  // The formats that are looked for when the user does not name one. Nothing: all of them, and what
  // looks like none of them is raw. With a list, an image of any other format is refused, raw has
  // to be in it, and then means: nothing that is known to be an image of some format.
  std::optional<std::vector<std::string>> formats;
  // Bytes that the disk in an image may have.
  uint64_t largest_disk = UINT64_MAX;

  // EPERM when the image may not have the file opened that it calls `filename`. `what` it is to it:
  // "backing", "data", "extent".
  [[nodiscard]] Result<void> check_name(std::string_view image, std::string_view what,
                                        std::string_view filename) const;
  // EFBIG for a disk that is too large.
  [[nodiscard]] Result<void> check_length(std::string_view image, uint64_t length) const;
  // Whether formats are looked for at all: EPERM when the user has to name one.
  [[nodiscard]] Result<void> check_guessing(std::string_view image) const;
  // The format of an image that begins with `head`.
  [[nodiscard]] Result<const DriverInfo*> guess_format(const DriverTable& drivers,
                                                       std::span<const std::byte> head,
                                                       std::string_view image) const;
};

// The name of a format that this build has no driver for, by its magic number; empty: none of
// those.
[[nodiscard]] std::string_view foreign_format(std::span<const std::byte> head);

// What a message may repeat of a name that an image holds: without control characters, and not at
// any length.
[[nodiscard]] std::string presentable(std::string_view name);

}  // namespace cairn::block
