#include "jobs/commit.h"

#include <algorithm>
#include <cerrno>

#include "base/bytes.h"
#include "block/engine.h"
#include "jobs/copy.h"

namespace cairn::jobs {
namespace {

// Where the base ends, the image reads as zeroes, whatever lies further below, or in the rest of
// the base's last cluster. A base that has grown shows that for a moment: so the image gets zeroes
// of its own there first.
io::Task<Result<void>> keep_zeroes_beyond(block::Edge& overlay, block::Edge& base) {
  const block::Edge* below = base.node().backing();
  const uint64_t cluster = std::max<uint64_t>(base.node().driver().cluster_size(), 1);
  const uint64_t hidden =
      std::max(below != nullptr ? below->length() : 0, align_up(base.length(), cluster));
  const uint64_t end = std::min(overlay.length(), hidden);
  for (uint64_t offset = base.length(); offset < end;) {
    const Result<block::ChainStatus> own =
        co_await overlay.chain_status(offset, end - offset, &base.node());
    if (!own) {
      co_return std::unexpected(own.error());
    }
    const uint64_t length = own->status.length;
    if (!own->status.allocated) {
      // Others may write there meanwhile: only what is still a hole gets what it reads as.
      Result<void> zeroed = co_await block::Engine::copy_up(overlay, offset, length);
      if (!zeroed) {
        co_return zeroed;
      }
    }
    offset += length;
  }
  // What hides it must be durable before the base is longer, whoever has written it.
  co_return co_await overlay.flush();
}

}  // namespace

io::Task<Result<void>> grow_base(block::Edge& overlay, block::Edge& base) {
  const uint64_t length = overlay.length();
  if (base.length() >= length) {
    co_return Result<void>();
  }
  Result<void> result = co_await keep_zeroes_beyond(overlay, base);
  if (result) {
    const block::ResizeOptions options{.zero_new_space = true};
    result = co_await base.resize(length, options);
  }
  if (!result) {
    co_return pass(result, "Could not resize the backing file: ");
  }
  co_return result;
}

io::Task<Result<void>> commit_image(const CommitOptions& options) {
  block::Edge& overlay = *options.overlay;
  block::Edge& base = *options.base;
  Result<void> result = co_await grow_base(overlay, base);
  if (!result) {
    co_return result;
  }
  const CopyOptions copy{.sources = {&overlay},
                         .target = &base,
                         .look_for_zeroes = false,
                         .base = &base.node(),
                         .rate_limit = options.rate_limit,
                         .fua = options.fua,
                         .progress = options.progress};
  result = co_await copy_images(copy);
  if (result) {
    result = co_await base.flush();
  }
  if (result && options.empty) {
    result = co_await overlay.make_empty();
    if (!result && result.error().code() == ENOTSUP) {
      result = {};  // what is left there hides the same
    }
  }
  co_return result;
}

}  // namespace cairn::jobs
