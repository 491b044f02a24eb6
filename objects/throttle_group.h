// ThrottleGroup: limits for requests that several nodes share.
#pragma once

#include <memory>
#include <string>

#include "objects/object.h"
#include "schema/types_qom.h"

namespace cairn::objects {

class ThrottleGroup final : public Object {
 public:
  static const Type kType;

  [[nodiscard]] static Result<std::shared_ptr<Object>> make(
      std::string id, const schema::ThrottleGroupProperties& options);
  explicit ThrottleGroup(std::string id);

  // Every member is there.
  [[nodiscard]] const schema::ThrottleLimits& limits() const { return limits_; }
  // Changes those that are given, if they and the others go together.
  [[nodiscard]] Result<void> change(const schema::ThrottleLimits& limits);

 private:
  static const Property kProperties[];

  schema::ThrottleLimits limits_;
};

}  // namespace cairn::objects
