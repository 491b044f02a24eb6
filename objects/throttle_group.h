// ThrottleGroup: limits for requests that several nodes share.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "io/throttle.h"
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

  // What carries the limits out. As long as somebody else keeps it, the object is in use.
  [[nodiscard]] const std::shared_ptr<io::Throttle>& throttle() const { return throttle_; }
  [[nodiscard]] bool may_be_deleted() const override { return throttle_.use_count() == 1; }

 private:
  static const Property kProperties[];

  schema::ThrottleLimits limits_;
  const std::shared_ptr<io::Throttle> throttle_ = std::make_shared<io::Throttle>();
};

class Registry;

// The limits of a group; null when there is no such group.
[[nodiscard]] std::shared_ptr<io::Throttle> find_throttle(const Registry& registry,
                                                          std::string_view id);

}  // namespace cairn::objects
