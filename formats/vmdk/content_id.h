// ContentId: the number in the descriptor that overlays know an image by. It changes, durably,
// before the first change to the content after an opening, so that no overlay goes on reading
// through an image that is not the one it was made for.
#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"
#include "block/node.h"
#include "formats/vmdk/descriptor.h"
#include "io/mutex.h"
#include "io/task.h"

namespace cairn::vmdk {

// One that no image has had, as far as anybody can tell; never that of no parent.
[[nodiscard]] Result<uint32_t> random_content_id();

class ContentId {
 public:
  // The descriptor `text` lies at `offset` of `file`, which outlives this.
  ContentId(block::Edge& file, uint64_t offset, std::string text, ContentIds ids)
      : file_(file), offset_(offset), text_(std::move(text)), ids_(std::move(ids)) {}

  [[nodiscard]] uint32_t id() const { return ids_.id; }
  [[nodiscard]] uint32_t parent() const { return ids_.parent; }
  [[nodiscard]] const std::string& parent_name() const { return ids_.parent_name; }

  // The content may change: the id has.
  [[nodiscard]] bool changed() const { return changed_; }
  // Gives the image another id, unless that was done, and flushes. The digits are replaced where
  // they are, so that a descriptor that is cut short by a power cut has another id and nothing
  // else.
  [[nodiscard]] io::Task<Result<void>> change();

 private:
  block::Edge& file_;
  const uint64_t offset_;
  std::string text_;
  ContentIds ids_;
  bool changed_ = false;
  io::AsyncMutex changing_;
};

}  // namespace cairn::vmdk
