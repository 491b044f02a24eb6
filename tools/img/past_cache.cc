#include "tools/img/past_cache.h"

#include <cerrno>
#include <utility>

#include "tools/common/host_cache.h"

namespace cairn::tools {

bool avoids_cache(const ConvertRequest& request) {
  return !request.cache_limit && usual_cache_bound().has_value();
}

io::Task<Result<std::unique_ptr<block::Edge>>> open_past_cache(block::Graph& graph, ImageName name,
                                                               block::OpenFlags flags) {
  flags.cache_direct = true;
  Result<std::unique_ptr<block::Edge>> image = co_await open_root(graph, name, flags);
  if (!image && image.error().code() == EINVAL) {
    flags.cache_direct = false;
    image = co_await open_root(graph, std::move(name), flags);
  }
  co_return image;
}

}  // namespace cairn::tools
