#include "block/node_name.h"

#include <array>
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

// Options that change what an image contains, beside the filename and the children.
constexpr std::array<std::string_view, 4> kContentOptions = {"offset", "size", "read-zeroes",
                                                             "throttle-group"};

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

// The members of a description, as JSON text by name.
std::string to_object(const std::map<std::string, std::string, std::less<>>& members) {
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
  std::map<std::string, std::string, std::less<>> members;
  const auto take = [&](std::string_view name) {
    const schema::JsonValue* value = all.as_object()->find(name);
    if (value != nullptr) {
      members.emplace(name, schema::to_text(*value));
    }
    return value != nullptr;
  };
  members.emplace("driver", schema::to_text(schema::JsonValue(std::string(node.info().name))));
  take("filename");
  bool plain = true;
  for (const std::string_view name : kContentOptions) {
    plain = !take(name) && plain;
  }
  const bool overridden = chain_wanted && backing_overridden(node);
  for (const auto& edge : node.children()) {
    if (edge->role() != ChildRole::kBacking || overridden) {
      members.emplace(edge->name(), edge->node().description());
    }
  }
  if (overridden) {
    members.emplace("backing", "null");  // unless there is one
  }
  node.set_description(to_object(members));
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
