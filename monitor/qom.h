// The tree that objects and character devices are found in, for the commands that walk it:
//
//     /            objects/ID     what object-add made
//                  chardevs/ID    character devices
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "monitor/services.h"
#include "objects/object.h"
#include "schema/json.h"
#include "schema/types_qom.h"

namespace cairn::monitor {

// A place in the tree. Valid until something is added or removed.
class QomNode {
 public:
  // The place that `path` names: from the root when it begins with '/', else the only one whose
  // path ends with it. DeviceNotFound when there is none.
  [[nodiscard]] static Result<QomNode> find(Services& services, const std::string& path);
  // The same for properties, whose commands know no other error.
  [[nodiscard]] static Result<QomNode> find_owner(Services& services, const std::string& path);

  // In the order of the type's tables, then what lies below.
  [[nodiscard]] std::vector<schema::ObjectPropertyInfo> properties() const;
  [[nodiscard]] Result<schema::JsonValue> get(const std::string& name) const;
  [[nodiscard]] Result<void> set(const std::string& name, const schema::JsonValue& value) const;

 private:
  struct Child;

  QomNode() = default;
  [[nodiscard]] static QomNode root(Services& services);
  [[nodiscard]] std::vector<Child> children() const;
  [[nodiscard]] std::string_view type_name() const;
  void find_below(const std::vector<std::string>& names, std::vector<QomNode>& found) const;
  [[nodiscard]] std::vector<QomNode> follow(const std::vector<std::string>& names) const;

  enum class Place { kRoot, kObjects, kChardevs, kObject, kChardev };

  Services* services_ = nullptr;
  Place place_ = Place::kRoot;
  std::string path_;
  objects::Object* object_ = nullptr;  // kObject
  chardev::Device* device_ = nullptr;  // kChardev
  std::string device_type_ = {};       // kChardev
};

// The types of the program: those of objects, and those of character devices.
[[nodiscard]] std::vector<schema::ObjectTypeInfo> list_qom_types(
    const std::optional<std::string>& implements, bool with_abstract);
[[nodiscard]] Result<std::vector<schema::ObjectPropertyInfo>> list_qom_properties(
    const std::string& type);

}  // namespace cairn::monitor
