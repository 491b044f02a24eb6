// Commands that change an image as a whole: the name of its backing file.
#include <cerrno>
#include <memory>
#include <string>
#include <utility>

#include "block/reopen.h"
#include "monitor/find_node.h"
#include "monitor/handlers.h"

namespace cairn::monitor {

namespace {

// The caller holds the drain.
io::Task<Result<void>> change_backing(Services& services, std::shared_ptr<block::Node> image,
                                      std::string filename) {
  // Others go on with theirs: nothing they see changes.
  auto edge = services.graph.attach(image, "", {.used = block::PermissionSet::kWrite});
  if (!edge) {
    co_return pass(edge);
  }
  services.graph.let_through(**edge);
  // What is behind the image stays what it is, and so does its format.
  std::string format(image->backing()->node().info().name);
  Result<void> changed = co_await (*edge)->change_backing(filename, std::move(format));
  if (!changed) {
    changed = pass(changed, "Could not change backing file to '" + filename + "': ");
  }
  Result<void> detached = co_await services.graph.detach(std::move(*edge));
  co_return changed ? std::move(detached) : std::move(changed);
}

}  // namespace

HandlerResult<commands::ChangeBackingFile> handle(Services& services, commands::ChangeBackingFile,
                                                  schema::ChangeBackingFileArguments arguments) {
  auto device = find_root_node(services.graph, arguments.device);
  if (!device) {
    co_return pass(device);
  }
  std::shared_ptr<block::Node> image = services.graph.find(arguments.image_node_name);
  if (!image) {
    co_return fail(ENODEV, "Cannot find device='' nor node-name='{}'", arguments.image_node_name);
  }
  if (image->backing() == nullptr) {
    co_return fail(EINVAL, "not allowing backing file change on an image without a backing file");
  }
  const block::Node* at = device->get();
  while (at != nullptr && at != image.get()) {
    at = at->backing() == nullptr ? nullptr : &at->backing()->node();
  }
  if (at == nullptr) {
    co_return fail(EINVAL, "'{}' and image file are not in the same chain", arguments.device);
  }
  const auto alone = co_await services.graph.alone();
  const bool read_only = image->read_only();
  if (read_only) {
    Result<void> opened = co_await block::set_read_only(image, false);
    if (!opened) {
      co_return opened;
    }
  }
  Result<void> changed = co_await change_backing(services, image, arguments.backing_file);
  if (read_only) {
    Result<void> closed = co_await block::set_read_only(image, true);
    if (changed) {
      changed = std::move(closed);
    }
  }
  co_return changed;
}

}  // namespace cairn::monitor
