// Commands about the monitor itself, and about jobs, of which there are none yet.
#include "monitor/handlers.h"
#include "monitor/version.h"
#include "schema/introspection.h"
#include "schema/json_stream.h"

namespace cairn::monitor {

// The session answers the first one itself.
HandlerResult<commands::QmpCapabilities> handle(Services&, commands::QmpCapabilities,
                                                schema::QmpCapabilitiesArguments) {
  Error refused(EINVAL, "Capabilities negotiation is already complete, command ignored",
                ErrorClass::kCommandNotFound);
  co_return std::unexpected(std::move(refused));
}

HandlerResult<commands::QueryVersion> handle(Services&, commands::QueryVersion,
                                             schema::NoArguments) {
  co_return version_info();
}

HandlerResult<commands::QueryCommands> handle(Services&, commands::QueryCommands,
                                              schema::NoArguments) {
  std::vector<schema::CommandInfo> result;
  commands::All::for_each(
      [&]<typename Command>() { result.push_back({.name = std::string(Command::kName)}); });
  co_return result;
}

HandlerResult<commands::QueryQmpSchema> handle(Services&, commands::QueryQmpSchema,
                                               schema::NoArguments) {
  Result<schema::JsonValue> value = schema::parse_json(schema::introspection_json());
  co_return value;
}

HandlerResult<commands::Quit> handle(Services& services, commands::Quit, schema::NoArguments) {
  services.stop.set();
  co_return Result<void>();
}

}  // namespace cairn::monitor
