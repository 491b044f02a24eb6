#include "tools/ctl/schema.h"

#include <algorithm>
#include <cerrno>
#include <numeric>

#include "tools/ctl/json.h"

namespace cairn::ctl {

namespace {

using schema::JsonArray;
using schema::JsonObject;
using schema::JsonValue;

std::unexpected<Error> contradiction(std::string_view what) {
  return fail(EPROTO, "The daemon's schema contradicts itself: {}", what);
}

// Each value with its name, whether they are plain or objects.
std::vector<std::string> names_in(const JsonArray& array) {
  std::vector<std::string> names;
  for (const JsonValue& value : array) {
    if (value.is_string()) {
      names.push_back(*value.as_string());
    } else if (value.is_object()) {
      names.push_back(text_in(*value.as_object(), "name"));
    }
  }
  return names;
}

// Whether a type is made of itself, by elements, branches and variants, so that no value could ever
// be one. Members do not count: they may be left out.
bool closes_circle(const SchemaType& type, std::map<const SchemaType*, bool>& open) {
  if (const auto known = open.find(&type); known != open.end()) {
    return known->second;
  }
  open[&type] = true;
  bool circle = type.element && closes_circle(*type.element, open);
  for (const SchemaType* branch : type.branches) {
    circle = circle || closes_circle(*branch, open);
  }
  for (const auto& [value, variant] : type.variants) {
    circle = circle || closes_circle(*variant, open);
  }
  open[&type] = false;
  return circle;
}

// How many letters must be changed, added, left out or swapped with a neighbour.
size_t distance(std::string_view a, std::string_view b) {
  std::vector<size_t> before(b.size() + 1);
  std::vector<size_t> last(b.size() + 1);
  std::vector<size_t> row(b.size() + 1);
  std::iota(last.begin(), last.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t change = a[i - 1] == b[j - 1] ? 0 : 1;
      row[j] = std::min({last[j] + 1, row[j - 1] + 1, last[j - 1] + change});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        row[j] = std::min(row[j], before[j - 2] + 1);
      }
    }
    before = std::move(last);
    last = row;
  }
  return last[b.size()];
}

}  // namespace

const SchemaMember* SchemaType::find_member(std::string_view name) const {
  const auto at = std::ranges::find(members, name, &SchemaMember::name);
  return at == members.end() ? nullptr : &*at;
}

const SchemaType* SchemaType::find_variant(std::string_view value) const {
  for (const auto& [name, held] : variants) {
    if (name == value) {
      return held;
    }
  }
  return nullptr;
}

std::vector<std::string> SchemaType::member_names() const {
  std::vector<std::string> names;
  for (const SchemaMember& member : members) {
    names.push_back(member.name);
  }
  for (const auto& [value, variant] : variants) {
    for (std::string& name : variant->member_names()) {
      names.push_back(std::move(name));
    }
  }
  return names;
}

Result<DaemonSchema> DaemonSchema::parse(const JsonValue& answer) {
  const JsonArray* entities = answer.as_array();
  if (!entities || !std::ranges::all_of(*entities, &JsonValue::is_object)) {
    return contradiction("it is no list of entities");
  }
  DaemonSchema schema;
  for (const JsonValue& entity : *entities) {
    const std::string kind = text_in(*entity.as_object(), "meta-type");
    if (kind != "command" && kind != "event") {
      schema.types_[text_in(*entity.as_object(), "name")] = std::make_unique<SchemaType>();
    }
  }
  for (const JsonValue& value : *entities) {
    const JsonObject& entity = *value.as_object();
    const std::string kind = text_in(entity, "meta-type");
    std::string name = text_in(entity, "name");
    if (kind == "event") {
      const SchemaType* data = schema.type(entity.find("arg-type"));
      if (!data) {
        return contradiction("event '" + name + "'");
      }
      schema.events_.push_back({.name = std::move(name), .data = data});
    } else if (kind == "command") {
      SchemaCommand command{.name = std::move(name),
                            .arguments = schema.type(entity.find("arg-type")),
                            .result = schema.type(entity.find("ret-type")),
                            .features = names_in(array_in(entity, "features"))};
      if (!command.arguments || !command.result) {
        return contradiction("command '" + command.name + "'");
      }
      schema.commands_.push_back(std::move(command));
    } else if (auto filled = schema.fill_type(entity); !filled) {
      return pass(filled);
    }
  }
  std::map<const SchemaType*, bool> open;
  for (const auto& [name, type] : schema.types_) {
    if (closes_circle(*type, open)) {
      return contradiction("type '" + name + "' is made of itself");
    }
  }
  std::ranges::sort(schema.commands_, {}, &SchemaCommand::name);
  std::ranges::sort(schema.events_, {}, &SchemaEvent::name);
  return schema;
}

const SchemaCommand* DaemonSchema::find_command(std::string_view name) const {
  const auto at = std::ranges::lower_bound(commands_, name, {}, &SchemaCommand::name);
  return at != commands_.end() && at->name == name ? &*at : nullptr;
}

const SchemaType* DaemonSchema::type(const JsonValue* name) const {
  const std::string* text = name ? name->as_string() : nullptr;
  const auto at = text ? types_.find(*text) : types_.end();
  return at == types_.end() ? nullptr : at->second.get();
}

Result<void> DaemonSchema::fill_type(const JsonObject& entity) {
  const std::string kind = text_in(entity, "meta-type");
  const std::string name = text_in(entity, "name");
  SchemaType& type = *types_[name];
  if (kind == "builtin") {
    type.json = text_in(entity, "json-type");
  } else if (kind == "enum") {
    type.kind = SchemaType::Kind::kEnum;
    // 'values' is the older form, and may go one day.
    const JsonArray& members = array_in(entity, "members");
    type.values = names_in(members.empty() ? array_in(entity, "values") : members);
  } else if (kind == "array") {
    type.kind = SchemaType::Kind::kArray;
    type.element = this->type(entity.find("element-type"));
    if (!type.element) {
      return contradiction("array '" + name + "'");
    }
  } else if (kind == "alternate") {
    type.kind = SchemaType::Kind::kAlternate;
    for (const JsonValue& member : array_in(entity, "members")) {
      const SchemaType* branch =
          member.is_object() ? this->type(member.as_object()->find("type")) : nullptr;
      if (!branch) {
        return contradiction("alternate '" + name + "'");
      }
      type.branches.push_back(branch);
    }
  } else if (kind == "object") {
    return fill_object(type, entity);
  } else {
    return contradiction("'" + name + "' is of kind '" + kind + "'");
  }
  return {};
}

Result<void> DaemonSchema::fill_object(SchemaType& type, const JsonObject& entity) {
  type.kind = SchemaType::Kind::kObject;
  type.tag = text_in(entity, "tag");
  for (const JsonValue& value : array_in(entity, "members")) {
    const JsonObject* member = value.as_object();
    const SchemaType* held = member ? this->type(member->find("type")) : nullptr;
    if (!held) {
      return contradiction("a member of object '" + text_in(entity, "name") + "'");
    }
    type.members.push_back({.name = text_in(*member, "name"),
                            .type = held,
                            .optional = member->find("default") != nullptr});
  }
  for (const JsonValue& value : array_in(entity, "variants")) {
    const JsonObject* variant = value.as_object();
    const SchemaType* held = variant ? this->type(variant->find("type")) : nullptr;
    if (!held) {
      return contradiction("a variant of object '" + text_in(entity, "name") + "'");
    }
    type.variants.emplace_back(text_in(*variant, "case"), held);
  }
  return {};
}

std::string nearest(std::string_view name, const std::vector<std::string>& known) {
  std::string best;
  // A third of the letters may be wrong.
  size_t least = std::max<size_t>(name.size() / 3, 1) + 1;
  for (const std::string& candidate : known) {
    const size_t apart = distance(name, candidate);
    if (apart < least) {
      least = apart;
      best = candidate;
    }
  }
  return best;
}

}  // namespace cairn::ctl
