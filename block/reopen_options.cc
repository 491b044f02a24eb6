#include "block/reopen_options.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <map>
#include <variant>

#include "block/driver_table.h"
#include "block/graph.h"
#include "block/node.h"
#include "schema/json.h"
#include "schema/visit_block_options.h"

namespace cairn::block {

namespace {

// Members that are not the driver's to judge: what every node can change, and children.
constexpr std::array<std::string_view, 9> kCommon = {"node-name", "discard",       "cache",
                                                     "active",    "read-only",     "auto-read-only",
                                                     "file",      "detect-zeroes", "backing"};
constexpr std::string_view kDataFile = "data-file";

using Flat = std::map<std::string, std::string, std::less<>>;

// The text of every value, by the path of its name. What is in lists goes by its number.
void flatten(const schema::JsonValue& value, const std::string& path, Flat& flat) {
  if (const schema::JsonArray* list = value.as_array(); list != nullptr && !list->empty()) {
    for (std::size_t i = 0; i < list->size(); ++i) {
      flatten((*list)[i], fmt::format("{}.{}", path, i), flat);
    }
    return;
  }
  const schema::JsonObject* object = value.as_object();
  if (object == nullptr) {
    flat.emplace(path, schema::to_text(value));
    return;
  }
  for (const auto& [name, member] : *object) {
    flatten(member, path.empty() ? name : fmt::format("{}.{}", path, name), flat);
  }
}

Flat driver_options(const schema::BlockdevOptions& options) {
  const schema::JsonValue all = schema::to_json(options);
  Flat flat;
  for (const auto& [name, value] : *all.as_object()) {
    if (std::ranges::find(kCommon, name) == kCommon.end() && name != kDataFile) {
      flatten(value, name, flat);
    }
  }
  return flat;
}

bool may_change(const DriverInfo& driver, std::string_view name) {
  const std::string_view option = name.substr(0, name.find('.'));
  return std::ranges::find(driver.reopen_options, option) != driver.reopen_options.end();
}

ChildWish wish_of(const schema::BlockdevRef& ref) {
  if (const auto* name = std::get_if<std::string>(&ref.value)) {
    return {.kind = ChildWish::Kind::kName, .name = name};
  }
  return {.kind = ChildWish::Kind::kInline,
          .options = &*std::get<schema::Box<schema::BlockdevOptions>>(ref.value)};
}

ChildWish wish_of(const schema::BlockdevRefOrNull& ref) {
  if (const auto* name = std::get_if<std::string>(&ref.value); name != nullptr && !name->empty()) {
    return {.kind = ChildWish::Kind::kName, .name = name};
  }
  if (const auto* inner = std::get_if<schema::Box<schema::BlockdevOptions>>(&ref.value)) {
    return {.kind = ChildWish::Kind::kInline, .options = &**inner};
  }
  return {.kind = ChildWish::Kind::kNull};
}

template <typename Ref>
ChildWish wish_of(const std::optional<Ref>& ref) {
  return ref ? wish_of(*ref) : ChildWish{};
}

}  // namespace

Inherited Inherited::from(const schema::BlockdevOptions& options, const Inherited& mine,
                          ChildRole role) {
  Inherited result = mine;
  const auto take = [](std::optional<bool>& to, const std::optional<bool>& said) {
    to = said ? said : to;
  };
  take(result.read_only, options.read_only);
  take(result.auto_read_only, options.auto_read_only);
  if (options.cache) {
    take(result.cache_direct, options.cache->direct);
    take(result.no_flush, options.cache->no_flush);
  }
  if (role == ChildRole::kBacking) {
    result.read_only.reset();
    result.auto_read_only.reset();
  }
  return result;
}

OpenFlags Inherited::flags(const NodeOptions& now) const {
  return {.read_only = read_only.value_or(now.read_only),
          .auto_read_only = auto_read_only.value_or(now.auto_read_only),
          .force_share = now.force_share,
          .discard_unmap = now.discard_unmap,
          .cache_direct = cache_direct.value_or(now.cache_direct),
          .no_flush = no_flush.value_or(now.no_flush)};
}

ChildWish child_wish(const schema::BlockdevOptions& options, std::string_view child) {
  return std::visit(
      [child](const auto& branch) {
        if constexpr (requires { branch.file; }) {
          if (child == "file") {
            return wish_of(branch.file);
          }
        }
        if constexpr (requires { branch.backing; }) {
          if (child == "backing") {
            return wish_of(branch.backing);
          }
        }
        if constexpr (requires { branch.data_file; }) {
          if (child == kDataFile) {
            return wish_of(branch.data_file);
          }
        }
        return ChildWish{};
      },
      options.branch);
}

bool driver_options_differ(const schema::BlockdevOptions& before,
                           const schema::BlockdevOptions& wanted) {
  return driver_options(before) != driver_options(wanted);
}

Result<void> check_changes(const DriverInfo& driver, const schema::BlockdevOptions& before,
                           const schema::BlockdevOptions& wanted) {
  const Flat old = driver_options(before);
  const Flat now = driver_options(wanted);
  const auto has_members = [&now](const std::string& name) {
    const auto next = now.upper_bound(name + ".");
    return next != now.end() && next->first.starts_with(name + ".");
  };
  for (const auto& [name, value] : old) {
    if (!now.contains(name) && !has_members(name) && !may_change(driver, name)) {
      return fail(EINVAL, "Option '{}' cannot be reset to its default value", name);
    }
  }
  for (const auto& [name, value] : now) {
    const auto was = old.find(name);
    const bool same = was != old.end() && was->second == value;
    // The field takes no word about sharing, not even the one that holds.
    if ((!same || name == "force-share") && !may_change(driver, name)) {
      return fail(EINVAL, "Cannot change the option '{}'", name);
    }
  }
  return {};
}

schema::BlockdevOptions merge_options(const schema::BlockdevOptions& first,
                                      const schema::BlockdevOptions& then) {
  if (first.driver != then.driver) {
    return first;
  }
  schema::JsonValue merged = schema::to_json(first);
  const schema::JsonValue rest = schema::to_json(then);
  for (const auto& [name, value] : *rest.as_object()) {
    if (merged.as_object()->find(name) == nullptr) {
      merged.as_object()->add(name, value);
    }
  }
  schema::BlockdevOptions result;
  schema::Reading reading{.form = schema::InputForm::kJson, .error = {}};
  return schema::read(schema::Input(reading, merged), result) ? result : first;
}

}  // namespace cairn::block
