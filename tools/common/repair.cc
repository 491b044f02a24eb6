#include "tools/common/repair.h"

#include <cerrno>
#include <memory>
#include <utility>

#include "block/check.h"
#include "block/node.h"

namespace cairn::tools {

io::Task<Result<void>> repair_leaks(block::Graph& graph, ImageName name, block::OpenFlags flags) {
  flags.check_only = true;
  Result<std::unique_ptr<block::Edge>> root = co_await open_root(graph, name, flags);
  if (!root) {
    co_return pass(root);
  }
  block::CheckOptions options{
      .fix_leaks = true, .report = [](const std::string&) {}, .complain = [](const Error&) {}};
  const Result<block::CheckResult> found =
      co_await (*root)->node().driver().check(std::move(options));
  Result<void> closed = co_await graph.detach(std::move(*root));
  if (!found && found.error().code() == ENOTSUP) {
    co_return closed;
  }
  if (!found || found->corruptions != 0 || found->check_errors != 0) {
    co_return fail(EIO, "it is damaged, see what a check tells");
  }
  co_return closed;
}

}  // namespace cairn::tools
