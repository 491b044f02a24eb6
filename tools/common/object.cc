#include "tools/common/object.h"

#include <algorithm>
#include <cerrno>
#include <set>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "objects/types.h"
#include "schema/json_stream.h"
#include "schema/keyval.h"
#include "schema/visit_containers.h"
#include "schema/visit_qom.h"

namespace cairn::tools {

namespace {

bool has_type(ObjectTypes types, std::string_view option) {
  return !option.empty() && (types == ObjectTypes::kAll || option != "iothread");
}

std::string list_types(ObjectTypes types) {
  std::set<std::string_view> names;
  for (const objects::Type* type : objects::all_types()) {
    if (has_type(types, type->option)) {
      names.insert(type->option);
    }
  }
  return fmt::format("List of user creatable objects:\n  {}\n", fmt::join(names, "\n  "));
}

std::string list_properties(const objects::Type& type) {
  std::set<std::string> lines;
  for (const objects::Type* at = &type; at; at = at->parent) {
    for (const objects::Property& property : at->properties) {
      if (property.set) {
        lines.insert(fmt::format("  {}=<{}>\n", property.name, property.type));
      }
    }
  }
  return fmt::format("{} options:\n{}", type.option, fmt::join(lines, ""));
}

}  // namespace

objects::Registry& program_objects() {
  static objects::Registry registry;
  return registry;
}

Result<void> add_object(std::string_view definition, ObjectTypes types) {
  const bool json = definition.starts_with('{');
  auto value = json ? schema::parse_json(definition) : schema::parse_keyval(definition, "qom-type");
  if (!value) {
    return pass(value);
  }
  const auto form = json ? schema::InputForm::kJson : schema::InputForm::kKeyval;
  auto options = schema::decode<schema::ObjectOptions>(*value, form);
  if (!options) {
    return pass(options);
  }
  const std::string_view type = schema::to_string(options->qom_type);
  if (!has_type(types, type)) {
    return fail(EINVAL, "invalid object type: {}", type);
  }
  return program_objects().add(*options);
}

std::optional<std::string> object_help(std::string_view definition, ObjectTypes types) {
  std::string_view rest = definition;
  const std::string first = schema::take_keyval_part(rest);
  bool asked = first == "help" || first == "?";
  while (!rest.empty()) {
    const std::string part = schema::take_keyval_part(rest);
    asked = asked || part == "help" || part == "?";
  }
  if (!asked || definition.starts_with('{')) {
    return std::nullopt;
  }
  constexpr std::string_view kTypeKey = "qom-type=";
  const std::string_view name =
      first.starts_with(kTypeKey) ? std::string_view(first).substr(kTypeKey.size()) : first;
  const auto all = objects::all_types();
  const auto at =
      std::ranges::find(all, name, [](const objects::Type* type) { return type->option; });
  return at == all.end() || !has_type(types, name) ? list_types(types) : list_properties(**at);
}

}  // namespace cairn::tools
