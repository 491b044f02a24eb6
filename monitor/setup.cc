// Checks that belong to the way in rather than to what is set up.
#include "monitor/setup.h"

#include <cerrno>
#include <cstdio>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "chardev/address.h"
#include "objects/authz.h"
#include "objects/event_loop.h"
#include "objects/tls_creds.h"

namespace cairn::monitor {

namespace {

Result<void> set_up_tls(const Services& services, const schema::NbdServerOptionsBase& options,
                        nbd::ServerOptions& server) {
  if (!options.tls_creds) {
    return {};
  }
  auto credentials = objects::find_credentials(services.objects, *options.tls_creds, true);
  if (!credentials) {
    return pass(credentials);
  }
  server.tls = std::move(*credentials);
  if (options.tls_authz) {
    server.authorize = [&registry = services.objects,
                        id = *options.tls_authz](const std::string& identity) {
      return authorize(registry, id, identity);
    };
  }
  server.on_refused = [](std::string_view reason) {
    fmt::print(stderr, "{}: option negotiation failed: {}\n", program_invocation_short_name,
               reason);
  };
  return {};
}

template <typename Options>
io::Task<Result<void>> start_server(Services& services, const Options& options) {
  if (services.nbd_server.running()) {
    co_return fail(EEXIST, "NBD server already running");
  }
  auto address = chardev::to_io(options.addr, chardev::Use::kListen);
  if (!address) {
    co_return pass(address);
  }
  nbd::ServerOptions server;
  if (auto secured = set_up_tls(services, options, server); !secured) {
    co_return secured;
  }
  server.address = std::move(*address);
  server.max_connections = options.max_connections.value_or(server.max_connections);
  server.handshake_max_seconds =
      options.handshake_max_seconds.value_or(server.handshake_max_seconds);
  auto starting = services.nbd_server.start(std::move(server));
  Result<void> started = co_await std::move(starting);
  co_return started;
}

}  // namespace

Result<void> authorize(const objects::Registry& registry, const std::string& id,
                       const std::string& identity) {
  const auto authorizer = std::dynamic_pointer_cast<objects::Authorizer>(registry.find(id));
  if (!authorizer) {
    return fail(ENOENT, "Cannot find QAuthZ object ID {}", id);
  }
  if (!authorizer->check(identity)) {
    return fail(EACCES, "TLS x509 authz check for {} is denied", identity);
  }
  return {};
}

io::Task<Result<void>> add_node(Services& services, const schema::BlockdevOptions& options) {
  if (!options.node_name) {
    co_return fail(EINVAL, "'node-name' must be specified for the root node");
  }
  Result<void> added = co_await services.graph.add_monitor_node(options);
  co_return added;
}

Result<exports::Thread> find_thread(const objects::Registry& registry, const std::string& id) {
  const auto found = std::dynamic_pointer_cast<objects::Iothread>(registry.find(id));
  if (found == nullptr) {
    return fail(ENOENT, "iothread \"{}\" not found", id);
  }
  return found->share();
}

io::Task<Result<void>> add_nbd_export(Services& services,
                                      const schema::NbdServerAddOptions& options) {
  const auto node = services.graph.find(options.device);
  if (!node) {
    co_return fail(ENOENT, "Cannot find device='{0}' nor node-name='{0}'", options.device);
  }
  schema::BlockExportOptionsNbd nbd;
  nbd.name = options.name.value_or(options.device);
  nbd.description = options.description;
  if (options.bitmap) {
    schema::BlockDirtyBitmapOrStr bitmap;
    bitmap.value = *options.bitmap;
    nbd.bitmaps.emplace().push_back(std::move(bitmap));
  }
  schema::BlockExportOptions full;
  full.type = schema::BlockExportType::kNbd;
  full.id = *nbd.name;
  full.node_name = options.device;
  full.writable = options.writable.value_or(false) && !node->read_only();
  full.branch = std::move(nbd);
  Result<void> added = co_await services.exports.add(full);
  co_return added;
}

io::Task<Result<void>> start_nbd_server(Services& services,
                                        const schema::NbdServerOptions& options) {
  return start_server(services, options);
}

io::Task<Result<void>> start_nbd_server(Services& services,
                                        const schema::NbdServerOptionsLegacy& options) {
  auto checked = chardev::check_from_monitor(options.addr);
  if (!checked && !services.may_name_descriptors && !services.nbd_server.running()) {
    co_return checked;
  }
  Result<void> started = co_await start_server(services, options);
  co_return started;
}

}  // namespace cairn::monitor
