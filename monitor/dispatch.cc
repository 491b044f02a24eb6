// One instantiation of run_command() for each command of the schema.
#include "monitor/dispatch.h"

#include <algorithm>
#include <array>
#include <type_traits>
#include <utility>

#include "monitor/handlers.h"
#include "schema/commands.h"

namespace cairn::monitor {

namespace {

template <typename Command>
io::Task<Result<schema::JsonValue>> run_command(Services& services, schema::JsonValue arguments) {
  auto decoded = schema::decode<typename Command::Arguments>(arguments);
  if (!decoded) {
    co_return pass(decoded);
  }
  auto task = handle(services, Command(), std::move(*decoded));
  Result<typename Command::Result> result = co_await std::move(task);
  if (!result) {
    co_return pass(result);
  }
  if constexpr (std::is_void_v<typename Command::Result>) {
    co_return schema::JsonValue(schema::JsonObject());
  } else {
    // For results that are no types of the schema, such as strings.
    using schema::to_json;
    co_return to_json(*result);
  }
}

template <typename Command>
Result<void> check_arguments(const schema::JsonValue& arguments) {
  auto decoded = schema::decode<typename Command::Arguments>(arguments);
  return decoded ? Result<void>() : pass(decoded);
}

constexpr auto make_table() {
  std::array<CommandEntry, schema::commands::All::kSize> table{};
  size_t count = 0;
  schema::commands::All::for_each([&]<typename Command>() {
    table[count++] = {Command::kName, Command::kAllowOob, &run_command<Command>,
                      &check_arguments<Command>};
  });
  std::ranges::sort(table, {}, &CommandEntry::name);
  return table;
}

constexpr auto kTable = make_table();

}  // namespace

const CommandEntry* find_command(std::string_view name) {
  const auto* at = std::ranges::lower_bound(kTable, name, {}, &CommandEntry::name);
  return at != kTable.end() && at->name == name ? at : nullptr;
}

}  // namespace cairn::monitor
