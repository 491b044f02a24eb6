// The NBD client's entry in the driver table.
#include <cerrno>
#include <chrono>
#include <memory>
#include <string>
#include <utility>
#include <variant>

#include "block/graph.h"
#include "block/nbd_filename.h"
#include "chardev/address.h"
#include "protocols/nbd/create.h"
#include "protocols/nbd/nbd.h"
#include "protocols/nbd/nbd_driver.h"
#include "schema/types_block_options.h"

namespace cairn::nbd::client {

namespace {

using Opened = Result<std::unique_ptr<block::Driver>>;

Result<void> check_options(const schema::BlockdevOptionsNbd& nbd) {
  if (nbd.export_ && nbd.export_->size() > kMaxString) {
    return fail(EINVAL, "export name too long to send to server");
  }
  if (nbd.x_dirty_bitmap && nbd.x_dirty_bitmap->size() > kMaxString) {
    return fail(EINVAL, "x-dirty-bitmap query too long to send to server");
  }
  return {};
}

// A server is to be who it was looked for as, unless it is told otherwise.
Result<TlsWish> tls_wish(const block::Graph& graph, const schema::BlockdevOptionsNbd& nbd) {
  TlsWish wish;
  if (!nbd.tls_creds) {
    return wish;
  }
  auto credentials = graph.find_credentials(*nbd.tls_creds);
  if (!credentials) {
    return pass(credentials);
  }
  wish.credentials = std::move(*credentials);
  wish.host = nbd.tls_hostname;
  const auto* inet = std::get_if<schema::InetSocketAddress>(&nbd.server.branch);
  if (!wish.host && inet != nullptr) {
    wish.host = inet->host;
  }
  return wish;
}

Result<SessionOptions> session_options(const block::Graph& graph,
                                       const schema::BlockdevOptionsNbd& nbd) {
  Result<io::SocketAddress> address = chardev::to_io(nbd.server);
  if (!address) {
    return pass(address);
  }
  Result<TlsWish> tls = tls_wish(graph, nbd);
  if (!tls) {
    return pass(tls);
  }
  return SessionOptions{
      .target = {.address = std::move(*address),
                 .export_name = nbd.export_.value_or(""),
                 .context = nbd.x_dirty_bitmap.value_or("base:allocation"),
                 .tls = std::move(*tls)},
      .reconnect_delay = std::chrono::seconds(nbd.reconnect_delay.value_or(0)),
      .open_timeout = std::chrono::seconds(nbd.open_timeout.value_or(0)),
  };
}

// Whether what the server offers is what was asked for.
Result<void> check_offer(block::OpenContext& context, const ExportInfo& info,
                         const schema::BlockdevOptionsNbd& nbd) {
  // The words are the field's.
  if (nbd.x_dirty_bitmap && !info.context) {
    return fail_errno(EINVAL, "Could not open image");
  }
  if ((info.flags & kReadOnly) != 0 && context.writable()) {
    if (!context.node().options().auto_read_only) {
      return fail_errno(EACCES, "Could not open image");
    }
    context.set_read_only();
  }
  return {};
}

// `options` lives until the graph has opened the node.
io::Task<Opened> open(block::OpenContext& context, const schema::BlockdevOptions& options) {
  const auto& nbd = std::get<schema::BlockdevOptionsNbd>(options.branch);
  context.node().set_filename(block::nbd_filename(nbd));
  Result<void> checked = check_options(nbd);
  if (!checked) {
    co_return pass(checked);
  }
  Result<SessionOptions> wanted = session_options(context.graph(), nbd);
  if (!wanted) {
    co_return pass(wanted);
  }
  auto session = std::make_unique<Session>(std::move(*wanted));
  auto connecting = session->open();
  Result<void> connected = co_await std::move(connecting);
  if (connected) {
    connected = check_offer(context, session->info(), nbd);
  }
  if (!connected) {
    auto closing = session->close();
    co_await std::move(closing);
    co_return pass(connected);
  }
  co_return std::make_unique<NbdDriver>(std::move(session));
}

constexpr block::CreateOptionInfo kCreateOptions[] = {
    {.name = "size", .type = block::CreateOptionInfo::Type::kSize, .help = "Virtual disk size"},
    {.name = "preallocation", .help = "Preallocation mode (allowed values: off)"},
};

}  // namespace

const block::DriverInfo kNbdDriver = {
    .name = "nbd",
    .kind = block::DriverInfo::Kind::kProtocol,
    .open = open,
    .create_options = kCreateOptions,
    .create = create_in_export,
};

}  // namespace cairn::nbd::client
