// MemoryImage: a graph whose only protocol keeps an image in memory, for fuzzing formats.
//
// The image is opened as "file" would be. It grows up to a limit (then ENOSPC) and never touches
// the disk, so a target can run thousands of images a second.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "block/graph.h"
#include "io/reactor.h"

namespace cairn::testing {

class MemoryImage {
 public:
  // `format` outlives the image.
  MemoryImage(std::span<const std::byte> content, const block::DriverInfo& format);
  MemoryImage(const MemoryImage&) = delete;
  MemoryImage& operator=(const MemoryImage&) = delete;
  ~MemoryImage();

  // Opens the image in its format and attaches to it; null when the format refuses it.
  [[nodiscard]] block::Edge* open(block::OpenFlags flags, block::Permissions permissions);

  template <typename T>
  T run(io::Task<T> task) {
    return reactor().block_on(std::move(task));
  }

 private:
  [[nodiscard]] static io::Reactor& reactor();

  const block::DriverInfo& format_;
  block::DriverTable drivers_;
  block::Graph graph_;
  std::unique_ptr<block::Edge> edge_;
};

}  // namespace cairn::testing
