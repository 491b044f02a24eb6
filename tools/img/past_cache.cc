#include "tools/img/past_cache.h"

#include <cerrno>
#include <utility>

#include "tools/common/host_cache.h"

namespace cairn::tools {

bool avoids_cache(const ConvertRequest& request) {
  return !request.cache_limit && usual_cache_bound().has_value();
}

io::Task<Result<std::unique_ptr<block::Edge>>> open_for_copy(block::Graph& graph, ImageName name,
                                                             block::OpenFlags flags,
                                                             bool past_cache) {
  if (past_cache) {
    block::OpenFlags direct = flags;
    direct.cache_direct = true;
    auto opening = open_root(graph, name, direct, Sharing::kNoWriters);
    Result<std::unique_ptr<block::Edge>> image = co_await std::move(opening);
    if (image || image.error().code() != EINVAL) {
      co_return image;
    }
  }
  co_return co_await open_root(graph, std::move(name), flags, Sharing::kNoWriters);
}

}  // namespace cairn::tools
