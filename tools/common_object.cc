#include "tools/common_object.h"

#include <algorithm>
#include <array>
#include <cerrno>

#include "schema/json.h"
#include "schema/json_stream.h"
#include "schema/keyval.h"

namespace cairn::tools {
namespace {

constexpr std::array<std::string_view, 6> kSecretProperties = {"data",  "file", "format",
                                                               "keyid", "iv",   "loaded"};

Result<std::map<std::string, std::string>> properties_of(std::string_view definition) {
  const Result<schema::JsonValue> value = definition.starts_with('{')
                                              ? schema::parse_json(definition)
                                              : schema::parse_keyval(definition, "qom-type");
  if (!value) {
    return std::unexpected(value.error());
  }
  const schema::JsonObject* object = value->as_object();
  if (object == nullptr) {
    return fail(EINVAL, "Invalid JSON object given");
  }
  std::map<std::string, std::string> properties;
  for (const auto& [name, member] : *object) {
    const std::string* text = member.as_string();
    if (text == nullptr) {
      return fail(EINVAL, "Invalid parameter type for '{}', expected: string", name);
    }
    properties.emplace(name, *text);
  }
  return properties;
}

}  // namespace

Result<void> ObjectStore::add(std::string_view definition) {
  auto properties = properties_of(definition);
  if (!properties) {
    return pass(properties);
  }
  const auto type = properties->extract("qom-type");
  if (type.empty()) {
    return fail(EINVAL, "Parameter 'qom-type' is missing");
  }
  const auto id = properties->extract("id");
  if (type.mapped() != "secret") {
    return fail(EINVAL, "Parameter 'qom-type' does not accept value '{}'", type.mapped());
  }
  if (id.empty()) {
    return fail(EINVAL, "Parameter 'id' is missing");
  }
  for (const auto& [name, value] : *properties) {
    if (std::ranges::find(kSecretProperties, name) == kSecretProperties.end()) {
      return fail(EINVAL, "Parameter '{}' is unexpected", name);
    }
  }
  if (!properties->contains("data") && !properties->contains("file")) {
    return fail(EINVAL, "Either 'file' or 'data' must be provided");
  }
  if (properties->contains("data") && properties->contains("file")) {
    return fail(EINVAL, "'file' and 'data' are mutually exclusive");
  }
  if (!objects_.emplace(id.mapped(), std::move(*properties)).second) {
    return fail(EEXIST, "attempt to add duplicate property '{}' to object (type 'container')",
                id.mapped());
  }
  return {};
}

}  // namespace cairn::tools
