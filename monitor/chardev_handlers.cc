// Commands about character devices.
#include <cerrno>

#include "base/base64.h"
#include "chardev/address.h"
#include "chardev/registry.h"
#include "chardev/ringbuf.h"
#include "monitor/handlers.h"

namespace cairn::monitor {

namespace {

// Descriptors are for the command line and the configuration alone.
Result<void> check_backend(const Services& services, const schema::ChardevBackend& backend) {
  if (services.may_name_descriptors) {
    return {};
  }
  const auto* socket = std::get_if<schema::ChardevSocketWrapper>(&backend.branch);
  return socket ? chardev::check_from_monitor(socket->data.addr) : Result<void>();
}

schema::ChardevReturn describe(const chardev::Device& device) {
  schema::ChardevReturn result;
  if (!device.terminal().empty()) {
    result.pty = std::string(device.terminal());
  }
  return result;
}

Result<chardev::RingBuffer*> find_ring(Services& services, const std::string& id) {
  chardev::Device* device = services.chardevs.find(id);
  if (!device) {
    return fail(ENOENT, "Device '{}' not found", id);
  }
  auto* ring = dynamic_cast<chardev::RingBuffer*>(device);
  if (!ring) {
    return fail(EINVAL, "{} is not a ringbuf device", id);
  }
  return ring;
}

}  // namespace

HandlerResult<commands::QueryChardev> handle(Services& services, commands::QueryChardev,
                                             schema::NoArguments) {
  std::vector<schema::ChardevInfo> result;
  services.chardevs.for_each([&](const std::string& id, const chardev::Device& device) {
    schema::ChardevInfo entry;
    entry.label = id;
    entry.filename = device.filename();
    entry.frontend_open = device.in_use();
    result.push_back(std::move(entry));
  });
  co_return result;
}

HandlerResult<commands::QueryChardevBackends> handle(Services&, commands::QueryChardevBackends,
                                                     schema::NoArguments) {
  std::vector<schema::ChardevBackendInfo> result;
  for (const std::string_view name : enum_names(schema::ChardevBackendKind{})) {
    result.push_back({.name = std::string(name)});
  }
  co_return result;
}

HandlerResult<commands::ChardevAdd> handle(Services& services, commands::ChardevAdd,
                                           schema::ChardevAddArguments arguments) {
  const std::string context = "Failed to add chardev '" + arguments.id + "': ";
  auto checked = check_backend(services, arguments.backend);
  if (!checked) {
    co_return pass(checked, context);
  }
  auto adding = services.chardevs.add(arguments.id, arguments.backend);
  auto device = co_await std::move(adding);
  if (!device && device.error().code() == EEXIST && device.error().message().empty()) {
    co_return fail(EEXIST, "Chardev with id '{}' already exists", arguments.id);
  }
  if (!device) {
    co_return pass(device, context);
  }
  co_return describe(**device);
}

HandlerResult<commands::ChardevChange> handle(Services& services, commands::ChardevChange,
                                              schema::ChardevChangeArguments arguments) {
  if (services.chardevs.find(arguments.id) != nullptr) {
    auto checked = check_backend(services, arguments.backend);
    if (!checked) {
      co_return pass(checked, "Failed to add chardev '" + arguments.id + "': ");
    }
  }
  auto changing = services.chardevs.change(arguments.id, arguments.backend);
  auto device = co_await std::move(changing);
  if (!device) {
    co_return pass(device);
  }
  co_return describe(**device);
}

HandlerResult<commands::ChardevRemove> handle(Services& services, commands::ChardevRemove,
                                              schema::ChardevRemoveArguments arguments) {
  auto removing = services.chardevs.remove(arguments.id);
  Result<void> removed = co_await std::move(removing);
  co_return removed;
}

HandlerResult<commands::ChardevSendBreak> handle(Services& services, commands::ChardevSendBreak,
                                                 schema::ChardevSendBreakArguments arguments) {
  if (!services.chardevs.find(arguments.id)) {
    co_return fail(ENOENT, "Chardev '{}' not found", arguments.id);
  }
  co_return Result<void>();
}

HandlerResult<commands::RingbufWrite> handle(Services& services, commands::RingbufWrite,
                                             schema::RingbufWriteArguments arguments) {
  auto ring = find_ring(services, arguments.device);
  if (!ring) {
    co_return pass(ring);
  }
  if (arguments.format != schema::DataFormat::kBase64) {
    (*ring)->write(arguments.data);
    co_return Result<void>();
  }
  auto bytes = decode_base64(arguments.data);
  if (!bytes) {
    co_return pass(bytes);
  }
  (*ring)->write(*bytes);
  co_return Result<void>();
}

HandlerResult<commands::RingbufRead> handle(Services& services, commands::RingbufRead,
                                            schema::RingbufReadArguments arguments) {
  auto ring = find_ring(services, arguments.device);
  if (!ring) {
    co_return pass(ring);
  }
  if (arguments.size <= 0) {
    co_return fail(EINVAL, "size must be greater than zero");
  }
  std::string bytes = (*ring)->read(static_cast<size_t>(arguments.size));
  if (arguments.format == schema::DataFormat::kBase64) {
    co_return encode_base64(bytes);
  }
  co_return bytes;
}

}  // namespace cairn::monitor
