// Comparing the content of two images, by block status where that tells enough.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>

#include "base/result.h"
#include "block/node.h"
#include "io/task.h"

namespace cairn::jobs {

// Where a node stores something as it is, in bytes.
struct StoredAt {
  const block::Node* node = nullptr;  // null: not known, or not as it is
  uint64_t offset = 0;
};

// Compares what is stored beside the thread that asks.
class StoredCompare {
 public:
  StoredCompare() = default;
  StoredCompare(const StoredCompare&) = delete;
  StoredCompare& operator=(const StoredCompare&) = delete;
  virtual ~StoredCompare() = default;
  // How many bytes are equal before the first that is not, at most `length`. Nothing: it could not
  // tell; then they are read from the images, and what is wrong will show.
  [[nodiscard]] virtual io::Task<std::optional<uint64_t>> equal_bytes(StoredAt first,
                                                                      StoredAt second,
                                                                      uint64_t length) = 0;
};

struct CompareOptions {
  block::Edge* first = nullptr;
  block::Edge* second = nullptr;
  bool strict = false;  // what is allocated has to be the same, too
  // Where in the second image the first one's content begins, and whether what lies behind that
  // content is left alone: for an image into which several were joined. Not with `strict`.
  uint64_t second_begin = 0;
  bool first_alone = false;
  StoredCompare* stored = nullptr;  // is asked first; outlives the comparison; may be null
  std::function<void(uint64_t done, uint64_t total)> progress;  // may be empty
};

struct Difference {
  enum class Kind : uint8_t { kContent, kAllocation };
  Kind kind = Kind::kContent;
  uint64_t offset = 0;  // in bytes, in the first image; of content: the sector that differs
};

struct CompareFailure {
  enum class Step : uint8_t { kStatus, kRead };
  Step step = Step::kStatus;
  bool second_image = false;
  uint64_t offset = 0;
};

struct CompareOutcome {
  std::optional<Difference> difference;
  std::optional<CompareFailure> failure;
  int error = 0;  // an errno, with failure
};

// Compares what both images have, then the rest of the longer one, which has to be zeroes. The
// edges outlive the task.
[[nodiscard]] io::Task<CompareOutcome> compare_images(CompareOptions options);

}  // namespace cairn::jobs
