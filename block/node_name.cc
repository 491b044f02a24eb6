#include "block/node_name.h"

#include <map>
#include <string>
#include <string_view>
#include <utility>

#include "block/driver.h"
#include "block/driver_table.h"
#include "block/filename.h"
#include "block/node.h"
#include "schema/json_stream.h"
#include "schema/visit_block_options.h"

namespace cairn::block {

namespace {

// Options that change what an image contains, or what comes of requests to it, beside the filename
// and the children.
constexpr std::string_view kContentOptions[] = {
    "offset",         "size",
    "read-zeroes",    "align",
    "max-transfer",   "opt-write-zero",
    "max-write-zero", "opt-discard",
    "max-discard",    "inject-error",
    "set-state",      "vote-threshold",
    "blkverify",      "rewrite-corrupted",
    "read-pattern",   "throttle-group",
    "log-append",     "log-sector-size",
    "mode",           "top-id",
    "key-secret",
};

// The node's backing image is not the one that its header names.
bool backing_overridden(const Node& node) {
  const std::string named = node.driver().backing_filename();
  const Edge* backing = node.child("backing");
  if (backing == nullptr) {
    return !named.empty();
  }
  const Edge* file = node.child("file");
  const std::string base = file != nullptr ? file->node().filename() : std::string();
  return backing->node().filename() != resolve_relative(base, named);
}

using Members = std::map<std::string, std::string, std::less<>>;

// Adds an option. Lists and what is in them are spelled as on a command line: "set-state.0.event".
void add_option(Members& members, const std::string& name, const schema::JsonValue& value) {
  if (const auto* list = value.as_array()) {
    for (std::size_t i = 0; i < list->size(); ++i) {
      add_option(members, fmt::format("{}.{}", name, i), (*list)[i]);
    }
  } else if (const auto* object = value.as_object()) {
    for (const auto& [inner, inner_value] : *object) {
      add_option(members, fmt::format("{}.{}", name, inner), inner_value);
    }
  } else {
    members.emplace(name, schema::to_text(value));
  }
}

// The members of a description, as JSON text by name.
std::string to_object(const Members& members) {
  std::string text = "{";
  for (const auto& [name, value] : members) {
    text += text.size() > 1 ? ", " : "";
    text += schema::to_text(schema::JsonValue(name)) + ": " + value;
  }
  return text + "}";
}

}  // namespace

void name_node(Node& node, const schema::BlockdevOptions& options, bool chain_wanted) {
  const schema::JsonValue all = schema::to_json(options);
  Members members;
  const auto take = [&](std::string_view name) {
    const schema::JsonValue* value = all.as_object()->find(name);
    if (value != nullptr) {
      add_option(members, std::string(name), *value);
    }
    return value != nullptr;
  };
  members.emplace("driver", schema::to_text(schema::JsonValue(std::string(node.info().name))));
  take("filename");
  take("config");
  bool plain = true;
  for (const std::string_view name : kContentOptions) {
    plain = !take(name) && plain;
  }
  const schema::JsonValue* encryption = all.as_object()->find("encrypt");
  if (encryption != nullptr) {
    if (const auto* secret = encryption->as_object()->find("key-secret")) {
      add_option(members, "encrypt.key-secret", *secret);
      plain = false;
    }
  }
  const bool overridden = chain_wanted && backing_overridden(node);
  std::string list;  // of the children that have numbers
  for (const auto& edge : node.children()) {
    if (edge->name().starts_with("children.")) {
      list += (list.empty() ? "" : ", ") + edge->node().description();
    } else if (edge->role() != ChildRole::kBacking || overridden) {
      members.emplace(edge->name(), edge->node().description());
    }
  }
  if (!list.empty()) {
    members.emplace("children", "[" + list + "]");
  }
  if (overridden) {
    members.emplace("backing", "null");  // unless there is one
  }
  node.set_description(to_object(members));
  if (node.info().plain_name != nullptr) {
    node.set_filename(node.info().plain_name(node, options));
    if (is_json_filename(node.filename())) {
      return;  // that of a node below, as which it goes
    }
    plain = true;  // it says what there is to say, or nothing
  }
  const Edge* file = node.child("file");
  if (node.filename().empty() && file != nullptr && node.info().kind == DriverInfo::Kind::kFormat &&
      file->node().info().kind == DriverInfo::Kind::kProtocol) {
    node.set_filename(file->node().filename());
  }
  if (const Edge* below = node.child("backing");
      below != nullptr && below->role() == ChildRole::kFiltered) {
    node.set_filename(below->node().filename());  // a filter that hides itself
    return;
  }
  if (!plain || overridden || node.filename().empty() || is_json_filename(node.filename())) {
    node.set_filename("json:" + node.description());
  }
}

}  // namespace cairn::block
