// Registry: the objects that people made, by id.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "io/reactor.h"
#include "objects/object.h"
#include "schema/types_qom.h"

namespace cairn::objects {

class Registry {
 public:
  // `io`: how the reactors of I/O threads talk to the kernel.
  explicit Registry(io::BackendKind io = io::BackendKind::kAuto) : io_(io) {}
  Registry(const Registry&) = delete;
  Registry& operator=(const Registry&) = delete;

  // Makes an object. One that can not be made leaves nothing behind.
  [[nodiscard]] Result<void> add(const schema::ObjectOptions& options);
  [[nodiscard]] Result<void> remove(std::string_view id);
  // Makes one that is not kept here, and whose id nobody checks.
  [[nodiscard]] Result<std::shared_ptr<Object>> make(const schema::ObjectOptions& options) const;

  // Null when there is none. Who keeps what is returned may go on using the object when it has been
  // removed here.
  [[nodiscard]] std::shared_ptr<Object> find(std::string_view id) const;

  // One of type T; `what` names what is looked for in the message: "No WHAT with id 'x'".
  template <typename T>
  [[nodiscard]] Result<std::shared_ptr<T>> find_as(std::string_view id,
                                                   std::string_view what) const {
    auto object = std::dynamic_pointer_cast<T>(find(id));
    if (!object) {
      return find(id) ? fail(EINVAL, "Object with id '{}' is not a {}", id, what)
                      : fail(ENOENT, "No {} with id '{}'", what, id);
    }
    return object;
  }

  // In the order they were made.
  [[nodiscard]] const std::vector<std::shared_ptr<Object>>& all() const { return objects_; }

 private:
  io::BackendKind io_;
  std::vector<std::shared_ptr<Object>> objects_;
};

}  // namespace cairn::objects
