// cairn-img convert --verify.
#include <cerrno>
#include <cstring>
#include <memory>
#include <utility>

#include "jobs/compare.h"
#include "tools/common/host_cache.h"
#include "tools/img/convert_steps.h"

namespace cairn::tools {
namespace {

using block::Edge;

Result<void> judge(const jobs::CompareOutcome& outcome, const ImageName& source,
                   const ConvertRequest& request) {
  if (outcome.difference) {
    return fail(EIO, "Verification failed: '{}' differs from '{}' at offset {}",
                request.target.text, source.text, outcome.difference->offset);
  }
  if (outcome.failure) {
    const std::string& name = outcome.failure->second_image ? request.target.text : source.text;
    return fail(outcome.error, "Verification failed: error while reading '{}' at offset {}: {}",
                name, outcome.failure->offset, std::strerror(outcome.error));
  }
  return {};
}

io::Task<Result<void>> compare_all(const ConvertRequest& request, const Conversion& conversion,
                                   Edge& target) {
  uint64_t position = 0;
  for (size_t i = 0; i < conversion.sources.size(); ++i) {
    Edge& source = *conversion.sources[i];
    const jobs::CompareOutcome outcome = co_await jobs::compare_images(
        {.first = &source, .second = &target, .second_begin = position, .first_alone = true});
    Result<void> judged = judge(outcome, request.sources[i], request);
    if (!judged) {
      co_return judged;
    }
    position += source.length();
  }
  co_return Result<void>();
}

}  // namespace

io::Task<Result<void>> verify_target(block::Graph& graph, const ConvertRequest& request,
                                     Conversion& conversion) {
  const block::OpenFlags flags{.read_only = true};
  auto opening = open_root(graph, conversion.name(request), flags, Sharing::kNoWriters);
  Result<std::unique_ptr<Edge>> target = co_await std::move(opening);
  if (!target) {
    co_return pass(target, "Verification failed: ");
  }
  Result<void> result = co_await drop_from_cache(host_files((*target)->node(), false));
  if (result) {
    result = co_await compare_all(request, conversion, **target);
  }
  Result<void> closed = co_await graph.detach(std::move(*target));
  co_return result ? std::move(closed) : std::move(result);
}

}  // namespace cairn::tools
