#include "monitor/new_image.h"

#include <cerrno>
#include <string_view>
#include <utility>

#include "block/create_options.h"
#include "block/driver_table.h"
#include "block/filename.h"

namespace cairn::monitor {
namespace {

io::Task<Result<void>> create_image(block::Graph& graph, const block::Node& model,
                                    const NewImage& wanted, std::string format) {
  const block::DriverInfo* info = graph.drivers().find(format);
  if (info == nullptr) {
    co_return fail(ENOENT, "Unknown file format '{}'", format);
  }
  if (block::is_json_filename(wanted.filename)) {
    co_return fail(ENOENT, "Unknown protocol 'json'");  // nodes are described so, not new files
  }
  if (info->create == nullptr || info->kind != block::DriverInfo::Kind::kFormat) {
    co_return fail(ENOTSUP, "Format driver '{}' does not support image creation", format);
  }
  if (wanted.backing != nullptr && !info->supports_backing) {
    co_return fail(EINVAL, "Backing file not supported for file format '{}'", format);
  }
  block::CreateOptions options(info->create_options);
  Result<void> set = options.set("size", std::to_string(model.length()));
  if (set && wanted.backing != nullptr) {
    set = options.set("backing_file", wanted.backing->filename());
    if (set) {
      set = options.set("backing_fmt", wanted.backing->info().name);
    }
  }
  if (!set) {
    co_return set;
  }
  co_return co_await info->create(graph, wanted.filename, options);
}

}  // namespace

io::Task<Result<std::shared_ptr<block::Node>>> open_new_image(block::Graph& graph,
                                                              std::shared_ptr<block::Node> model,
                                                              NewImage wanted) {
  const bool exists = wanted.mode == schema::NewImageMode::kExisting;
  std::string format = wanted.format.value_or(exists ? "" : std::string(model->info().name));
  if (!exists) {
    Result<void> created = co_await create_image(graph, *model, wanted, format);
    if (!created) {
      co_return pass(created);
    }
  } else if (!format.empty() && graph.drivers().find(format) == nullptr) {
    co_return fail(ENOENT, "Unknown driver '{}'", format);
  }
  if (wanted.node_name && wanted.node_name->empty()) {
    co_return fail(EINVAL, "Invalid node-name: ''");
  }
  const block::NodeOptions& like = model->options();
  const block::OpenFlags flags{.no_backing = !(exists && wanted.keeps_backing),
                               .discard_unmap = true,
                               .cache_direct = like.cache_direct,
                               .no_flush = like.no_flush};
  co_return co_await graph.open_filename(std::move(wanted.filename), std::move(format), flags,
                                         wanted.node_name.value_or(""));
}

}  // namespace cairn::monitor
