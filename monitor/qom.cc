#include "monitor/qom.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "chardev/device.h"
#include "objects/registry.h"
#include "objects/types.h"
#include "schema/visit_char.h"

namespace cairn::monitor {

namespace {

std::unexpected<Error> fail_not_found(std::string_view what, std::string_view name) {
  return std::unexpected(
      Error(ENOENT, fmt::format("{} '{}' not found", what, name), ErrorClass::kDeviceNotFound));
}

schema::ObjectPropertyInfo describe(const objects::Property& property) {
  schema::ObjectPropertyInfo info;
  info.name = property.name;
  info.type = property.type;
  return info;
}

// Those of the types above first.
void append_properties(const objects::Type& type, std::vector<schema::ObjectPropertyInfo>& out) {
  if (type.parent) {
    append_properties(*type.parent, out);
  }
  std::ranges::transform(type.properties, std::back_inserter(out), describe);
}

// Character devices have no tables of their own. Whatever is a pair of descriptors has a common
// type above it, and so has a memory that is a ring buffer.
struct DeviceType {
  std::string_view name;
  std::string_view parent;
  bool abstract;
};
constexpr DeviceType kDeviceTypes[] = {
    {"chardev", "object", true},
    {"chardev-fd", "chardev", true},
    {"chardev-file", "chardev-fd", false},
    {"chardev-pipe", "chardev-fd", false},
    {"chardev-stdio", "chardev-fd", false},
    {"chardev-socket", "chardev", false},
    {"chardev-pty", "chardev", false},
    {"chardev-null", "chardev", false},
    {"chardev-ringbuf", "chardev", false},
    {"chardev-memory", "chardev-ringbuf", false},
};

const DeviceType* find_device_type(std::string_view name) {
  const auto* at = std::ranges::find(kDeviceTypes, name, &DeviceType::name);
  return at == std::end(kDeviceTypes) ? nullptr : at;
}

bool device_is_a(std::string_view type, std::string_view wanted) {
  for (const DeviceType* at = find_device_type(type); at; at = find_device_type(at->parent)) {
    if (at->name == wanted || at->parent == wanted) {
      return true;
    }
  }
  return false;
}

constexpr std::string_view kSocketType = "chardev-socket";

std::vector<schema::ObjectPropertyInfo> device_properties(std::string_view type) {
  std::vector<schema::ObjectPropertyInfo> result;
  append_properties(objects::kObjectType, result);
  if (type == kSocketType) {
    result.push_back({.name = "connected", .type = "bool"});
  }
  return result;
}

std::vector<std::string> split(std::string_view path) {
  std::vector<std::string> names;
  while (!path.empty()) {
    const size_t end = std::min(path.find('/'), path.size());
    if (end > 0) {
      names.emplace_back(path.substr(0, end));
    }
    path.remove_prefix(std::min(end + 1, path.size()));
  }
  return names;
}

}  // namespace

struct QomNode::Child {
  std::string name;
  QomNode node;
};

QomNode QomNode::root(Services& services) {
  QomNode node;
  node.services_ = &services;
  return node;
}

std::vector<QomNode::Child> QomNode::children() const {
  std::vector<Child> result;
  const auto add = [&](std::string name, Place place) -> QomNode& {
    QomNode node = *this;
    node.place_ = place;
    node.path_ = path_ + "/" + name;
    result.push_back({std::move(name), std::move(node)});
    return result.back().node;
  };
  if (place_ == Place::kRoot) {
    add("objects", Place::kObjects);
    add("chardevs", Place::kChardevs);
  } else if (place_ == Place::kObjects) {
    for (const auto& object : services_->objects.all()) {
      add(object->id(), Place::kObject).object_ = object.get();
    }
  } else if (place_ == Place::kChardevs) {
    services_->chardevs.for_each([&](const std::string& id, chardev::Device& device) {
      QomNode& node = add(id, Place::kChardev);
      node.device_ = &device;
      node.device_type_ = fmt::format("chardev-{}", to_string(device.kind()));
    });
  }
  return result;
}

std::string_view QomNode::type_name() const {
  switch (place_) {
    case Place::kObject:
      return object_->type().name;
    case Place::kChardev:
      return device_type_;
    case Place::kRoot:
    case Place::kObjects:
    case Place::kChardevs:
      break;
  }
  return objects::kContainerType.name;
}

// The place below this one that `names` lead to; none or one.
std::vector<QomNode> QomNode::follow(const std::vector<std::string>& names) const {
  QomNode at = *this;
  for (const std::string& name : names) {
    std::vector<Child> below = at.children();
    const auto next = std::ranges::find(below, name, &Child::name);
    if (next == below.end()) {
      return {};
    }
    at = next->node;
  }
  return {at};
}

// All places whose path ends with `names`.
void QomNode::find_below(const std::vector<std::string>& names, std::vector<QomNode>& found) const {
  std::ranges::copy(follow(names), std::back_inserter(found));
  for (const Child& child : children()) {
    child.node.find_below(names, found);
  }
}

Result<QomNode> QomNode::find(Services& services, const std::string& path) {
  const QomNode top = root(services);
  const std::vector<std::string> names = split(path);
  std::vector<QomNode> found;
  if (path.starts_with('/')) {
    found = top.follow(names);
  } else {
    top.find_below(names, found);
  }
  if (found.empty()) {
    return fail_not_found("Device", path);
  }
  if (found.size() > 1) {
    return fail(EINVAL, "Path '{}' is ambiguous", path);
  }
  return found[0];
}

Result<QomNode> QomNode::find_owner(Services& services, const std::string& path) {
  auto found = find(services, path);
  return found ? found : fail_not_found("Device", path);
}

std::vector<schema::ObjectPropertyInfo> QomNode::properties() const {
  std::vector<schema::ObjectPropertyInfo> result;
  if (place_ == Place::kChardev) {
    result = device_properties(device_type_);
  } else {
    append_properties(place_ == Place::kObject ? object_->type() : objects::kContainerType, result);
  }
  for (const Child& child : children()) {
    schema::ObjectPropertyInfo info;
    info.name = child.name;
    info.type = fmt::format("child<{}>", child.node.type_name());
    result.push_back(std::move(info));
  }
  return result;
}

Result<schema::JsonValue> QomNode::get(const std::string& name) const {
  if (place_ == Place::kObject) {
    const objects::Property* property = object_->type().find_property(name);
    if (property && property->get) {
      return property->get(*object_);
    }
    return property ? fail(EPERM, "Property '{}.{}' is not readable", type_name(), name)
                    : fail(ENOENT, "Property '{}.{}' not found", type_name(), name);
  }
  if (name == "type") {
    return schema::JsonValue(type_name());
  }
  if (device_type_ == kSocketType && name == "connected") {
    return schema::JsonValue(device_->connected());
  }
  for (const Child& child : children()) {
    if (child.name == name) {
      return schema::JsonValue(child.node.path_);
    }
  }
  return fail(ENOENT, "Property '{}.{}' not found", type_name(), name);
}

Result<void> QomNode::set(const std::string& name, const schema::JsonValue& value) const {
  const objects::Property* property =
      place_ == Place::kObject ? object_->type().find_property(name) : nullptr;
  if (property && property->set) {
    return property->set(*object_, name, value);
  }
  const bool known =
      std::ranges::any_of(properties(), [&](const auto& info) { return info.name == name; });
  return known ? fail(EPERM, "Property '{}.{}' is not writable", type_name(), name)
               : fail(ENOENT, "Property '{}.{}' not found", type_name(), name);
}

std::vector<schema::ObjectTypeInfo> list_qom_types(const std::optional<std::string>& implements,
                                                   bool with_abstract) {
  std::vector<schema::ObjectTypeInfo> result;
  const auto add = [&](std::string_view name, std::string_view parent, bool abstract) {
    schema::ObjectTypeInfo info;
    info.name = name;
    if (abstract) {
      info.abstract = true;
    }
    if (!parent.empty()) {
      info.parent = std::string(parent);
    }
    result.push_back(std::move(info));
  };
  for (const objects::Type* type : objects::all_types()) {
    const bool wanted = !implements || type->is_a(*implements);
    if (wanted && (with_abstract || !type->abstract)) {
      add(type->name, type->parent ? type->parent->name : "", type->abstract);
    }
  }
  for (const auto& [name, parent, abstract] : kDeviceTypes) {
    if ((!implements || device_is_a(name, *implements)) && (with_abstract || !abstract)) {
      add(name, parent, abstract);
    }
  }
  return result;
}

Result<std::vector<schema::ObjectPropertyInfo>> list_qom_properties(const std::string& type) {
  if (find_device_type(type)) {
    return device_properties(type);
  }
  const objects::Type* found = objects::find_type(type);
  if (!found) {
    return fail_not_found("Class", type);
  }
  if (found->interface) {
    return fail(EINVAL, "Parameter 'typename' expects a QOM type");
  }
  std::vector<schema::ObjectPropertyInfo> result;
  append_properties(*found, result);
  return result;
}

}  // namespace cairn::monitor
