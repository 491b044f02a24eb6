// Checks that belong to the way in rather than to what is set up.
#include "monitor/setup.h"

#include <cerrno>
#include <string>
#include <utility>
#include <variant>

#include "block/dirty_bitmap.h"
#include "block/dirty_bitmap_ops.h"
#include "chardev/address.h"
#include "objects/event_loop.h"

namespace cairn::monitor {

namespace {

template <typename Options>
io::Task<Result<void>> start_server(Services& services, const Options& options) {
  auto address = chardev::to_io(options.addr);
  if (!address) {
    co_return pass(address);
  }
  nbd::ServerOptions server;
  server.address = std::move(*address);
  server.max_connections = options.max_connections.value_or(server.max_connections);
  server.handshake_max_seconds =
      options.handshake_max_seconds.value_or(server.handshake_max_seconds);
  auto starting = services.nbd_server.start(std::move(server));
  Result<void> started = co_await std::move(starting);
  co_return started;
}

}  // namespace

io::Task<Result<void>> add_node(Services& services, const schema::BlockdevOptions& options) {
  if (!options.node_name) {
    co_return fail(EINVAL, "'node-name' must be specified for the root node");
  }
  Result<void> added = co_await services.graph.add_monitor_node(options);
  co_return added;
}

io::Task<Result<void>> add_export(Services& services, const schema::BlockExportOptions& options) {
  if (options.iothread) {
    auto thread = services.objects.find_as<objects::Iothread>(*options.iothread, "iothread");
    if (!thread) {
      co_return fail(ENOENT, "iothread \"{}\" not found", *options.iothread);
    }
    co_return fail(ENOTSUP, "This version can not run exports on iothread '{}'", *options.iothread);
  }
  const auto* nbd = std::get_if<schema::BlockExportOptionsNbd>(&options.branch);
  if (nbd && nbd->bitmaps && !nbd->bitmaps->empty()) {
    const auto& first = nbd->bitmaps->front().value;
    const auto* local = std::get_if<std::string>(&first);
    const std::string name = local ? *local : std::get<schema::BlockDirtyBitmap>(first).name;
    const auto node = services.graph.find(local ? options.node_name
                                                : std::get<schema::BlockDirtyBitmap>(first).node);
    Result<block::DirtyBitmap*> bitmap = nullptr;
    if (node) {
      bitmap = block::get_bitmap(*node, name);
    }
    if (!bitmap || *bitmap == nullptr) {
      co_return fail(ENOENT, "Bitmap '{}' is not found", name);
    }
    if (auto usable = (*bitmap)->check({.read_only = true}); !usable) {
      co_return usable;
    }
    co_return fail(ENOTSUP, "This version can not export bitmap '{}'", name);
  }
  Result<void> added = co_await services.exports.add(options);
  co_return added;
}

io::Task<Result<void>> start_nbd_server(Services& services,
                                        const schema::NbdServerOptions& options) {
  return start_server(services, options);
}

io::Task<Result<void>> start_nbd_server(Services& services,
                                        const schema::NbdServerOptionsLegacy& options) {
  auto checked = chardev::check_from_monitor(options.addr);
  if (!checked) {
    co_return checked;
  }
  Result<void> started = co_await start_server(services, options);
  co_return started;
}

}  // namespace cairn::monitor
