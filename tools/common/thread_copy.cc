#include "tools/common/thread_copy.h"

#include <algorithm>
#include <cassert>
#include <cstddef>
#include <optional>
#include <span>
#include <vector>

#include "io/worker_pool.h"
#include "jobs/zero_runs.h"

namespace cairn::tools {
namespace {

constexpr uint64_t kCopiedPart = 128u << 10;  // bytes that are read and written together

struct Move {
  int from = -1;
  uint64_t from_offset = 0;
  int to = -1;
  uint64_t to_offset = 0;
  uint64_t position = 0;  // in the image that is written
  uint64_t length = 0;
};

bool move_data(const Move& move, uint64_t sparse_size) {
  thread_local std::vector<std::byte> buffer(kCopiedPart);
  thread_local std::vector<jobs::DataRun> runs;
  const jobs::ZeroRunRules rules{.shortest = sparse_size};
  for (uint64_t done = 0; done < move.length;) {
    const std::span<std::byte> part = std::span(buffer).first(
        std::min(kCopiedPart - (move.position + done) % kCopiedPart, move.length - done));
    if (!read_whole(move.from, move.from_offset + done, part)) {
      return false;
    }
    jobs::find_zero_runs(part, move.position + done, rules, runs);
    for (const jobs::DataRun& run : runs) {
      if (!run.zero && !write_whole(move.to, move.to_offset + done + run.offset,
                                    part.subspan(run.offset, run.length))) {
        return false;
      }
    }
    done += part.size();
  }
  return true;
}

}  // namespace

io::Task<std::unique_ptr<ThreadCopy>> ThreadCopy::create(block::Edge& target,
                                                         uint64_t sparse_size) {
  assert(sparse_size <= kMostSparse);
  std::optional<RawFile> file = co_await open_raw_file(target);
  co_return file ? std::unique_ptr<ThreadCopy>(new ThreadCopy(std::move(*file), sparse_size))
                 : nullptr;
}

io::Task<bool> ThreadCopy::copy(const block::Node& from, uint64_t from_offset, uint64_t to,
                                uint64_t length) {
  const Move move{.from = sources_.find(from),
                  .from_offset = from_offset,
                  .to = target_.fd.get(),
                  .to_offset = target_.begin + to,
                  .position = to,
                  .length = length};
  if (move.from < 0) {
    co_return false;
  }
  used_ = true;
  auto work = io::WorkerPool::shared().run(
      [move, sparse_size = sparse_size_] { return move_data(move, sparse_size); });
  co_return co_await work;
}

}  // namespace cairn::tools
