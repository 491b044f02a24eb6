#include "tools/common/info.h"

#include <algorithm>
#include <array>
#include <vector>

#include <fmt/format.h>

#include "base/size_text.h"
#include "schema/visit_block_info.h"
#include "tools/common/snapshots.h"

namespace cairn::tools {
namespace {

using schema::JsonArray;
using schema::JsonObject;
using schema::JsonValue;

// Names that never stand in one object may stand anywhere relative to each other.
constexpr std::string_view kUsualOrder[] = {
    // of an image
    "children", "backing-filename-format", "snapshots", "compressed", "virtual-size",
    "image-end-offset", "total-clusters", "check-errors", "corruptions", "leaks",
    "corruptions-fixed", "leaks-fixed", "fragmented-clusters", "allocated-clusters",
    "compressed-clusters",
    // of a snapshot, a bitmap and a child
    "icount", "vm-clock-nsec", "flags", "name", "date-sec", "date-nsec", "vm-clock-sec", "id",
    "vm-state-size", "granularity", "info",
    // of a LUKS volume and its slots
    "ivgen-alg", "detached-header", "hash-alg", "cipher-alg", "uuid", "active", "iters",
    "key-offset", "stripes",
    // of an image again
    "filename", "cluster-size", "encrypted", "format", "actual-size", "format-specific", "type",
    "data", "full-backing-filename", "backing-filename", "dirty-flag",
    // of a LUKS volume again
    "ivgen-hash-alg", "cipher-mode", "slots", "payload-offset", "master-key-iters",
    // of a qcow2 image
    "compat", "compression-type", "lazy-refcounts", "bitmaps", "refcount-bits", "encrypt",
    "data-file", "data-file-raw", "corrupt", "extended-l2",
    // of a VMDK image
    "cid", "parent-cid", "create-type", "extents",
    // of limits
    "limits", "backing-image"};

size_t rank(std::string_view name) {
  return static_cast<size_t>(std::ranges::find(kUsualOrder, name) - std::begin(kUsualOrder));
}

std::string scalar_text(const JsonValue& value) {
  const std::string* text = value.as_string();
  return text != nullptr ? *text : to_text(value);
}

bool is_composite(const JsonValue& value) { return value.is_object() || value.is_array(); }

void append_tree(std::string& out, const JsonValue& value, int indent);

void append_entry(std::string& out, std::string_view label, const JsonValue& value, int indent) {
  const std::string_view separator = is_composite(value) ? "\n" : " ";
  out += fmt::format("{:{}}{}:{}", "", indent, label, separator);
  if (is_composite(value)) {
    append_tree(out, value, indent + 4);
  } else {
    out += scalar_text(value) + "\n";
  }
}

// One line a scalar, four columns a level; names lose their hyphens.
void append_tree(std::string& out, const JsonValue& value, int indent) {
  if (const JsonArray* array = value.as_array()) {
    for (size_t i = 0; i < array->size(); ++i) {
      append_entry(out, fmt::format("[{}]", i), (*array)[i], indent);
    }
    return;
  }
  for (const auto& [name, member] : *value.as_object()) {
    std::string label = name;
    std::ranges::replace(label, '-', ' ');
    append_entry(out, label, member, indent);
  }
}

void append_specific(std::string& out, const schema::ImageInfoSpecific& specific, int indent) {
  const JsonValue value = in_usual_order(to_json(specific));
  const JsonValue* data = value.as_object()->find("data");
  if (data == nullptr || data->as_object() == nullptr || data->as_object()->empty()) {
    return;
  }
  out += fmt::format("{:{}}Format specific information:\n", "", indent);
  append_tree(out, *data, indent + 4);
}

std::string sizes_text(int64_t bytes) {
  return fmt::format("{} ({} bytes)", format_size(static_cast<uint64_t>(bytes)), bytes);
}

void append_image(std::string& out, const schema::BlockGraphInfo& info, const std::string& path,
                  int indent) {
  const auto line = [&out, indent](std::string_view label, std::string_view value) {
    out += fmt::format("{:{}}{}: {}\n", "", indent, label, value);
  };
  // Protocols are shown as the files that they are.
  const bool leaf = !path.empty() && info.children.empty();
  line(path.empty() ? "image" : "filename", info.filename);
  line(leaf ? "protocol type" : "file format", info.format);
  line(leaf ? "file length" : "virtual size", sizes_text(info.virtual_size));
  if (info.actual_size) {
    line("disk size", format_size(static_cast<uint64_t>(*info.actual_size)));
  } else {
    line("disk size", "unavailable");
  }
  if (info.encrypted.value_or(false)) {
    line("encrypted", "yes");
  }
  if (info.cluster_size) {
    line("cluster_size", std::to_string(*info.cluster_size));
  }
  if (info.dirty_flag.value_or(false)) {
    line("cleanly shut down", "no");
  }
  if (info.backing_filename) {
    const std::string full = info.full_backing_filename.value_or(*info.backing_filename);
    line("backing file", full == *info.backing_filename
                             ? full
                             : fmt::format("{} (actual path: {})", *info.backing_filename, full));
  }
  if (info.backing_filename_format) {
    line("backing file format", *info.backing_filename_format);
  }
  if (info.snapshots) {
    out += snapshot_list_text(*info.snapshots, indent);
  }
  if (info.format_specific) {
    append_specific(out, *info.format_specific, indent);
  }
  for (const schema::BlockChildInfo& child : info.children) {
    const std::string below = path + "/" + child.name;
    out += fmt::format("{:{}}Child node '{}':\n", "", indent, below);
    append_image(out, child.info, below, indent + 4);
  }
}

}  // namespace

JsonValue in_usual_order(JsonValue value) {
  if (JsonArray* array = value.as_array()) {
    for (JsonValue& element : *array) {
      element = in_usual_order(std::move(element));
    }
    return value;
  }
  const JsonObject* object = value.as_object();
  if (object == nullptr) {
    return value;
  }
  // Members of one rank stay in the order they came in.
  std::vector<JsonObject::Member> members;
  for (const JsonObject::Member& member : *object) {
    const auto place = std::ranges::upper_bound(
        members, rank(member.first), {}, [](const auto& other) { return rank(other.first); });
    members.insert(place, member);
  }
  JsonObject ordered;
  for (auto& [name, member] : members) {
    ordered.add(name, in_usual_order(std::move(member)));
  }
  return ordered;
}

std::string info_text(const schema::BlockGraphInfo& info) {
  std::string text;
  append_image(text, info, "", 0);
  return text;
}

std::string specific_info_text(const schema::ImageInfoSpecific& specific) {
  std::string text;
  append_specific(text, specific, 0);
  return text;
}

}  // namespace cairn::tools
